"""Whose gradients are these: those that SAM left behind, or somebody's who expects SAM to use them?

SAM needs every gradient at two points, so it cannot use one that a ``backward`` of the user's has left in ``grad``. It
must not drop it in silence either. After a step, though, ``grad`` still holds SAM's own gradient, which is of no use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from kernels.sam.parameters import norm_of, values

REMEDY = (
    "SAM evaluates every batch at two points, so it cannot use gradients of a backward() outside its closure. "
    "Allowed: no gradients before step() and accumulate(). "
    "Several micro-batches: step([closure, closure, ...]), or accumulate(closure) for each and then step(). "
    "Lightning: accumulate_grad_batches=1, or manual optimization with one closure for all micro-batches. "
    "A loop written for another SAM (backward() first, then step(closure)): remove the backward() before step(). "
    "Gradients that are not needed: optimizer.zero_grad() before step()"
)


def remember(parameters: Iterable[Tensor]) -> None:
    """What ``grad`` holds now is SAM's. The mark lies on the gradient, so that it goes when the gradient goes."""
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None:
            gradient._left_by_sam = _version(gradient)  # type: ignore[attr-defined]


def require_no_others(parameters: Mapping[Tensor, str]) -> None:
    """Raise a ValueError if a parameter (with its name) has a gradient that is not SAM's and not zero."""
    others = []
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and getattr(gradient, "_left_by_sam", None) != _version(gradient):
            others.append(parameter)
    # A zeroed gradient, as zero_grad(set_to_none=False) leaves it, was not meant to be used. NaN counts as meant.
    if others and norm_of([values(p.grad) for p in others if p.grad is not None]) != 0.0:
        raise ValueError(f"{len(others)} parameters ({parameters[others[0]]}, ...) already have a gradient. {REMEDY}")


def _version(gradient: Tensor) -> int:
    """Another backward pass adds to a gradient in place, which raises this number; to a sharded one in its part."""
    part: Tensor = getattr(gradient, "_local_tensor", gradient)
    return part._version
