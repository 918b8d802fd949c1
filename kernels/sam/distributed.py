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
from kernels.sam.parameters import is_sharded


class Distributed:
    """The processes of ``model`` if it is ``DistributedDataParallel`` or sharded (FSDP), else this one alone.

    Args:
        parameters: those that are optimized. Sharded ones are DTensors, as ``fully_shard`` makes them.
        perturbation: ``"global"``: the gradient at the real weights is averaged, so that all share a phantom point;
            ``"local"``: it is not.
    """

    def __init__(
        self, model: nn.Module | None, perturbation: str, device: torch.device, parameters: list[Tensor]
    ) -> None:
        wrapped = getattr(model, "_orig_mod", model)
        self._ddp = wrapped if isinstance(wrapped, DistributedDataParallel) else None
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        several = several and torch.distributed.get_world_size() > 1
        if perturbation == "local" and several and self._ddp is None:
            raise ValueError(
                "process_perturbation='local' needs the DistributedDataParallel module: SAM(ddp, ...) or model=ddp"
            )
        self._device = device
        self._group: Any = None if self._ddp is None else self._ddp.process_group
        self.sharded = any(map(is_sharded, parameters))
        if self.sharded:
            self._group = self._group_of_shards(parameters, perturbation)
        elif any(hasattr(p, "_fsdp_flattened") for p in parameters):
            raise ValueError(
                "the parameters are flattened (FullyShardedDataParallel), so that no process can tell their norm; "
                "allowed: torch.distributed.fsdp.fully_shard(model), and SAM built after it"
            )
        self.several = self._ddp is not None or self.sharded
        self.average_real_gradients = perturbation == "global"

    @property
    def shares_phantom(self) -> bool:
        """Whether all processes have one phantom point."""
        return self.average_real_gradients or not self.several

    @staticmethod
    def _group_of_shards(parameters: list[Tensor], perturbation: str) -> Any:
        if not all(map(is_sharded, parameters)):
            raise ValueError(
                "some parameters are sharded and some are not; allowed: all, by fully_shard(model), or none"
            )
        if perturbation == "local":
            raise ValueError("process_perturbation='local' with sharded parameters; allowed: 'global'")
        mesh = parameters[0].device_mesh  # type: ignore[attr-defined]
        if mesh.ndim != 1 or any(p.device_mesh != mesh for p in parameters):  # type: ignore[attr-defined]
            raise ValueError("the parameters are sharded over several meshes or dimensions; allowed: one of each")
        return mesh.get_group()

    def norm_over_shards(self, norm: float) -> float:
        """The norm of all parts from that of this process's part; all must ask."""
        square = torch.tensor(norm, dtype=torch.float64, device=self._device).square()
        torch.distributed.all_reduce(square, group=self._group)
        return float(square.sqrt())

    def no_sync(self) -> AbstractContextManager[Any]:
        """Passes inside keep their gradients to this process."""
        if self._ddp is None:
            return nullcontext()
        context: AbstractContextManager[Any] = self._ddp.no_sync()
        return context

    def all_agree(self, finite: bool) -> bool:
        """Whether ``finite`` holds in all processes; all must ask."""
        if self._group is None:
            return finite
        flag = torch.tensor(int(finite), device=self._device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN, group=self._group)
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
