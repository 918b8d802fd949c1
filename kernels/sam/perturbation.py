"""The way to the phantom point and back, on lists of tensors.

With the gradient ``g`` of the loss over the selected parameters ``w`` (all their groups together), and ``rho`` of each
parameter's group, the phantom point is ``w + e`` with

    l2        e = rho g / ||g||_2
    linf      e = rho sign(g)
    adaptive  e = rho T^2 g / ||T g||_2,  T = |w| + eta        (Kwon et al. 2021, ASAM, elementwise)
    none      e = rho g

A gradient of norm zero perturbs nothing. Norms neither over- nor underflow: where a square might, entries are first
divided by the largest of them. The way back copies the weights that were kept, so they return bit for bit. The copy
costs as much memory as the selected parameters (of a sparse gradient, its rows) and is kept between steps.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kernels.sam.parameters import norm_of, own_part, values

NORMS = ("l2", "linf", "adaptive", "none")
BACKENDS = ("auto", "foreach", "triton")


@dataclass
class Ascent:
    """The selected parameters of one group, all with a gradient."""

    parameters: list[Tensor]
    rho: float
    decay: float = 0.0
    """Weight decay that enters the ascent gradient, ``g + decay w``; 0 where it does not."""
    weights: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)


class Perturbation:
    """Moves weights to their phantom point and restores them.

    Args:
        norm: one of :data:`NORMS`.
        eta: of ``norm="adaptive"``.
        backend: ``"foreach"``, ``"triton"``, or ``"auto"``: Triton where all weights lie on one CUDA device, their
            gradients are dense, and the package is installed.
        over_shards: where every process has a part of the weights, the norm over all of them from that of its own.
    """

    def __init__(
        self, norm: str, eta: float, backend: str = "auto", over_shards: Callable[[float], float] | None = None
    ) -> None:
        self.norm = norm
        self.eta = eta
        self.backend = backend
        self._over_shards = over_shards
        self._copies: dict[Tensor, Tensor] = {}
        self._moved: list[tuple[Tensor, Tensor]] = []
        self._rows: list[tuple[Tensor, tuple[Tensor, ...], Tensor]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_copies": {}}  # only their memory is kept between steps

    @torch.no_grad()
    def move(self, groups: Sequence[Ascent]) -> float:
        """Go to the phantom point; the gradients of the parameters may be overwritten.

        Returns:
            The norm of ``g`` (of ``T g`` if adaptive). If it is not finite, nothing was moved.
        """
        for group in groups:
            self._take(group)
        norm = self._move_by_triton(groups) if self._by_triton(groups) else self._move_by_foreach(groups)
        torch.clear_autocast_cache()
        return norm

    @torch.no_grad()
    def restore(self) -> None:
        """Go back, bit for bit; does nothing at the real weights."""
        if not self._moved and not self._rows:
            return
        if self._moved:
            weights, copies = (list(tensors) for tensors in zip(*self._moved, strict=True))
            torch._foreach_copy_(weights, copies)
        for parameter, rows, kept in self._rows:
            parameter[rows] = kept
        self._moved, self._rows = [], []
        torch.clear_autocast_cache()

    def _take(self, group: Ascent) -> None:
        """The tensors to work on: a parameter and its gradient, or, if that is sparse, the rows it touches."""
        for parameter in group.parameters:
            gradient = parameter.grad
            assert gradient is not None
            if gradient.is_sparse:
                group.weights.append(parameter[tuple(gradient.indices())])
            else:
                group.weights.append(own_part(parameter))
            group.gradients.append(values(gradient))

    def _keep(self, groups: Sequence[Ascent]) -> list[Tensor]:
        """Remember how to restore; the buffers for the copies of dense parameters, in order."""
        copies = []
        for group in groups:
            for parameter, weight in zip(group.parameters, group.weights, strict=True):
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._rows.append((parameter, tuple(parameter.grad.indices()), weight.clone()))
                    continue
                copy = self._copies.get(parameter)
                if copy is None or copy.shape != weight.shape or copy.device != weight.device:
                    copy = self._copies[parameter] = torch.empty_like(weight, requires_grad=False)
                self._moved.append((weight, copy))
                copies.append(copy)
        return copies

    def _move_by_foreach(self, groups: Sequence[Ascent]) -> float:
        for group in groups:
            if group.decay:
                torch._foreach_add_(group.gradients, group.weights, alpha=group.decay)
        gradients = [g for group in groups for g in group.gradients]
        if not gradients and self._over_shards is None:
            return 0.0
        if self.norm == "adaptive":
            scales = torch._foreach_abs([w for group in groups for w in group.weights])
            torch._foreach_add_(scales, self.eta)
            torch._foreach_mul_(gradients, scales)
        unit, norm = _unit_and_norm(gradients)
        if self._over_shards is not None:
            norm = self._over_shards(unit * norm) / unit
        if not math.isfinite(norm) or norm == 0.0:
            return norm
        if self.norm == "adaptive":
            torch._foreach_mul_(gradients, scales)
        if self.norm == "linf":
            torch._foreach_sign_(gradients)
        if copies := self._keep(groups):
            torch._foreach_copy_(copies, [weight for weight, _ in self._moved])
        length = {"linf": 1.0, "none": unit}.get(self.norm, 1.0 / norm)
        if any(group.rho * length > torch.finfo(w.dtype).max for group in groups for w in group.weights):
            return math.inf  # nor could the weights hold it
        for group in groups:
            if group.weights and group.rho:
                torch._foreach_add_(group.weights, group.gradients, alpha=group.rho * length)
        self._write_rows(groups)
        return unit * norm

    def _write_rows(self, groups: Sequence[Ascent]) -> None:
        for group in groups:
            for parameter, weight in zip(group.parameters, group.weights, strict=True):
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter[tuple(parameter.grad.indices())] = weight

    def _by_triton(self, groups: Sequence[Ascent]) -> bool:
        if self.backend == "foreach":
            return False
        missing = lacks_triton([p for group in groups for p in group.parameters])
        if self._over_shards is not None:
            missing = "the parameters are sharded"
        if missing is not None and self.backend == "triton":
            raise ValueError(f"backend='triton' cannot be used: {missing}")
        return missing is None

    def _move_by_triton(self, groups: Sequence[Ascent]) -> float:
        from kernels.sam.triton_move import perturb

        copies = self._keep(groups)
        norm = perturb(
            [w for group in groups for w in group.weights],
            [g for group in groups for g in group.gradients],
            copies,
            [group.rho for group in groups for _ in group.weights],
            [group.decay for group in groups for _ in group.weights],
            norm=self.norm,
            eta=self.eta,
        )
        return float(norm)


def _unit_and_norm(gradients: list[Tensor]) -> tuple[float, float]:
    """``unit`` and ||g / unit||; the gradients are divided by it in place. It is 1 in the range where squares are safe.

    Safe for float32 with 1e8 entries: the square of the norm lies between 1e-30 and 1e30, far from the limits 1e-45 of
    a square and 3e38 of a sum.
    """
    norm = norm_of(gradients)
    # rho / norm must be a number of the gradients' precision: float16 ends at 65504.
    least, most = (1e-2, 1e2) if any(g.dtype == torch.float16 for g in gradients) else (1e-15, 1e15)
    if least < norm < most:
        return 1.0, norm
    entries = (float(g.abs().max()) for g in gradients if g.numel())
    largest = max(entries, key=lambda x: x if x == x else math.inf, default=0.0)
    if largest == 0.0 or not math.isfinite(largest):
        return 1.0, largest
    torch._foreach_div_(gradients, largest)
    return largest, norm_of(gradients)


def lacks_triton(parameters: Sequence[Tensor]) -> str | None:
    """Why the fused kernels cannot move these parameters along their gradients; None if they can."""
    if not parameters:
        return "no parameter has a gradient"
    devices = {p.device for p in parameters}
    if len(devices) > 1:
        return f"the parameters lie on {len(devices)} devices"
    device = devices.pop()
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the parameters lie on {device}, not on a CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None or gradient.is_sparse:
            return "a gradient is sparse"
        if not _same_dense_layout(parameter, gradient):
            return f"a parameter of shape {tuple(parameter.shape)} and its gradient are laid out differently in memory"
    return None


def _same_dense_layout(weight: Tensor, gradient: Tensor) -> bool:
    if weight.is_contiguous() and gradient.is_contiguous():
        return True
    last = torch.channels_last
    return weight.ndim == 4 and weight.is_contiguous(memory_format=last) and gradient.is_contiguous(memory_format=last)
