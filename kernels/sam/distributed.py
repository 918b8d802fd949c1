"""Processes that train one model together, and how their passes and their micro-batches become one."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kernels.sam.micro_batches import Loss


class Distributed:
    """The processes of ``model`` if it is ``DistributedDataParallel``, else this one alone.

    Args:
        perturbation: ``"global"``: the gradient at the real weights is averaged, so that all share a phantom point;
            ``"local"``: it is not.
    """

    def __init__(self, model: nn.Module | None, perturbation: str, device: torch.device) -> None:
        wrapped = getattr(model, "_orig_mod", model)
        self._ddp = wrapped if isinstance(wrapped, DistributedDataParallel) else None
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        several = several and torch.distributed.get_world_size() > 1
        if perturbation == "local" and several and self._ddp is None:
            raise ValueError(
                "process_perturbation='local' needs the DistributedDataParallel module: SAM(ddp, ...) or model=ddp"
            )
        self._device = device
        self.several = self._ddp is not None
        self.average_real_gradients = perturbation == "global"

    @property
    def shares_phantom(self) -> bool:
        """Whether all processes have one phantom point."""
        return self.average_real_gradients or not self.several

    def no_sync(self) -> AbstractContextManager[Any]:
        """Passes inside keep their gradients to this process."""
        if self._ddp is None:
            return nullcontext()
        context: AbstractContextManager[Any] = self._ddp.no_sync()
        return context

    def all_agree(self, finite: bool) -> bool:
        """Whether ``finite`` holds in all processes; all must ask."""
        if self._ddp is None:
            return finite
        flag = torch.tensor(int(finite), device=self._device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN, group=self._ddp.process_group)
        return bool(flag)


def combine_losses(losses: list[Loss], mean: bool) -> Loss:
    """Mean or sum over micro-batches; what the closure returned if there is one."""
    if len(losses) == 1:
        return losses[0]
    total: Any = sum(loss.reshape(()) if isinstance(loss, Tensor) else loss for loss in losses)
    return total / len(losses) if mean else total


def warn_of_skipped_step() -> None:
    """Without a loss scale that shrinks, skipping may never end. Python's default filter shows the warning once."""
    warnings.warn(
        "SAM skipped a step: a loss or gradient was not finite, and weights, optimizer state and running statistics "
        "are what they were. See optimizer.skipped_steps; a smaller learning rate or rho may help.",
        stacklevel=6,
    )
