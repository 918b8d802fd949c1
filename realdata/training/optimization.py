"""One training step of every method, and the learning rate over time."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kernels import SAM
from realdata.configuration import SAM_OPTIONS, RunConfiguration

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def learning_rate(configuration: RunConfiguration, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step (counted from 0): linear warm-up, then constant, half a cosine to 0, or two divisions by
    ten, at a half and at three quarters of all epochs."""
    total = configuration.epochs * steps_per_epoch
    warmup = min(round(configuration.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return configuration.lr * (step + 1) / (warmup + 1)
    if configuration.schedule == "cosine":
        return configuration.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
    if configuration.schedule == "step":
        return configuration.lr * 0.1 ** ((4 * step >= 2 * total) + (4 * step >= 3 * total))
    return configuration.lr


def radius(configuration: RunConfiguration, step: int, steps_per_epoch: int) -> float:
    """Radius of the perturbation in a step (counted from 0): rho between ``sam_from`` and ``sam_until``, else 0."""
    until = configuration.epochs if configuration.sam_until is None else configuration.sam_until
    first, end = (round(epoch * steps_per_epoch) for epoch in (configuration.sam_from, until))
    return configuration.rho if first <= step < end else 0.0


def autocast(configuration: RunConfiguration, device: torch.device) -> AbstractContextManager[Any]:
    """Context of mixed precision, if the configuration uses it."""
    dtype = PRECISIONS[configuration.precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


class TrainingStep:
    """Training steps of one run.

    Args:
        model: the module to call, ``DistributedDataParallel`` or plain.

    Attributes:
        optimizer: SAM, or the base optimizer if the method is plain training.

    Raises:
        ValueError: if the precision is ``"float16"`` on a CPU.
    """

    def __init__(self, configuration: RunConfiguration, model: nn.Module, device: torch.device) -> None:
        if configuration.precision == "float16" and device.type == "cpu":
            raise ValueError("precision='float16' on a CPU; allowed: 'float32' or 'bfloat16', or a GPU")
        self._configuration = configuration
        self._model = model
        self._device = device
        self._scaler: torch.amp.GradScaler | None = None
        if configuration.precision == "float16":
            self._scaler = torch.amp.GradScaler(device.type)
        base, options = _base(configuration, fused=device.type in ("cpu", "cuda") and self._scaler is None)
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer: torch.optim.Optimizer
        self._sam: SAM | None = None
        if configuration.method == "sgd":
            self.optimizer = base(parameters, **options)
        else:
            self._sam = SAM(
                parameters,
                base,
                configuration.rho,
                model=model,
                effect=configuration.effect,
                scaler=self._scaler,
                autocast=PRECISIONS[configuration.precision],
                **SAM_OPTIONS[configuration.method],
                **options,
            )
            self.optimizer = self._sam

    def step(self, inputs: Tensor, labels: Tensor, lr: float, rho: float | None = None) -> Tensor:
        """One step at this learning rate and radius (None: the run's); returns the batch's loss at the real weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
            if self._sam is not None:
                group["rho"] = self._configuration.rho if rho is None else rho
        if self._sam is not None:
            loss = self._sam.step(forward=lambda: self._model(inputs), loss=lambda z: cross_entropy(z.float(), labels))
            assert isinstance(loss, Tensor)
            return loss.detach()
        self.optimizer.zero_grad()
        with autocast(self._configuration, self._device):
            loss = cross_entropy(self._model(inputs).float(), labels)
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        else:
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self.optimizer)
            self._scaler.update()
        return loss.detach()

    @property
    def skipped_steps(self) -> int:
        """Number of steps that SAM skipped because of NaN or infinite values."""
        return 0 if self._sam is None else self._sam.skipped_steps

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer and the loss scale."""
        scale = self._scaler.state_dict() if self._scaler is not None and self._sam is None else None
        return {"optimizer": self.optimizer.state_dict(), "scale": scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scale"] is not None and self._scaler is not None:
            self._scaler.load_state_dict(state["scale"])


def _base(configuration: RunConfiguration, fused: bool) -> tuple[Any, dict[str, Any]]:
    options: dict[str, Any] = {"lr": configuration.lr, "weight_decay": configuration.weight_decay, "fused": fused}
    if configuration.base == "sgd":
        return torch.optim.SGD, {**options, "momentum": configuration.momentum}
    options["betas"] = (configuration.momentum, 0.999)
    return (torch.optim.Adam if configuration.base == "adam" else torch.optim.AdamW), options
