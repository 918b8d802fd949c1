"""SAM in Hugging Face's Trainer, whose loop gives the optimizer no closure.

    trainer = SAMTrainer(model, arguments, train_dataset=data, sam={"rho": 0.05})
    trainer.train()

Every forward and backward pass of the Trainer becomes the two passes of SAM. With gradient accumulation each
micro-batch has a phantom point of its own (m-SAM). The Trainer then clips SAM's gradient, and the base optimizer
steps with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Trainer

from kernels.sam.optimizer import SAM


class SAMTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that trains with SAM; bfloat16 works, float16 (``fp16=True``) is refused.

    Args:
        sam: options of :class:`kernels.SAM` other than the base optimizer and its options, which stay the Trainer's
            (``optim``, ``learning_rate``, ...). None is SAM's defaults. A SAM in ``optimizers=`` has its own.

    Raises:
        ValueError: ``fp16=True``; gradient accumulation on several processes, which would average the last micro-batch
            only; options in ``sam`` that the Trainer's passes cannot follow; an optimizer in ``optimizers=`` that is
            not SAM.
    """

    def __init__(self, *arguments: Any, sam: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sam_options = dict(sam or {})
        if unsupported := {"effect", "scaler", "autocast"} & set(self.sam_options):
            raise ValueError(f"sam={self.sam_options!r}: the Trainer has its own {', '.join(sorted(unsupported))}")
        if self.args.fp16:
            raise ValueError("fp16=True; allowed: bf16=True or neither. SAM needs one loss scale for both passes")
        if self.args.world_size > 1 and self.args.gradient_accumulation_steps > 1:
            # accelerate averages with the last micro-batch; SAM has set the gradients of the others aside by then.
            raise ValueError(
                f"gradient_accumulation_steps={self.args.gradient_accumulation_steps} on {self.args.world_size} "
                "processes; allowed: 1. Use a larger per_device_train_batch_size"
            )
        if self.optimizer is not None and not isinstance(self.optimizer, SAM):
            found = type(self.optimizer).__name__
            raise ValueError(f"optimizers=({found}, ...); allowed: SAM, or sam= with its options")

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, with its groups, as the base optimizer of SAM."""
        made = super().create_optimizer() if model is None else super().create_optimizer(model)
        if isinstance(made, SAM):
            return made
        self.optimizer = SAM(
            made.param_groups, type(made), model=self.model if model is None else model, **self.sam_options
        )
        return self.optimizer

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        """SAM's gradient of one micro-batch; the Trainer clips what has gathered, and steps."""
        sam = getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate wraps it
        loss = sam.accumulate(lambda: super(SAMTrainer, self).training_step(*arguments, **options))
        assert isinstance(loss, torch.Tensor)
        return loss
