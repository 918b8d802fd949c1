"""Whose gradients are these: those that SAM left behind, or somebody's who expects SAM to use them?

SAM needs every gradient at two points, so it cannot use one that a ``backward`` of the user's has left in ``grad``. It
must not drop it in silence either. After a step, though, ``grad`` still holds SAM's own gradient, which is of no use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils.weak import TensorWeakRef

from kernels.sam.parameters import norm_of, values, with_gradient

REMEDY = (
    "SAM evaluates every batch at two points, so it cannot use gradients of a backward() outside its closure. "
    "Allowed: no gradients before step() and accumulate(). "
    "Several micro-batches: step([closure, closure, ...]), or accumulate(closure) for each and then step(). "
    "Lightning: accumulate_grad_batches=1, or manual optimization with one closure for all micro-batches. "
    "A loop written for another SAM (backward() first, then step(closure)): remove the backward() before step(). "
    "Gradients that are not needed: optimizer.zero_grad() before step()"
)


class Leftovers:
    """Remembers the gradients that SAM left, without keeping them alive."""

    def __init__(self) -> None:
        self._left: dict[Tensor, tuple[TensorWeakRef, int]] = {}

    def remember(self, parameters: Iterable[Tensor]) -> None:
        """What ``grad`` holds now is SAM's."""
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                self._left.pop(parameter, None)
            else:
                self._left[parameter] = TensorWeakRef(gradient), gradient._version

    def require_no_others(self, parameters: dict[Tensor, str]) -> None:
        """Raise a ValueError if a parameter (with its name) has a gradient that is not SAM's and not zero."""
        others = [p for p in with_gradient(parameters) if not self._is_own(p)]
        # A zeroed gradient, as zero_grad(set_to_none=False) leaves it, was not meant to be used. NaN counts as meant.
        if others and norm_of([values(p.grad) for p in others if p.grad is not None]) != 0.0:
            raise ValueError(
                f"{len(others)} parameters ({parameters[others[0]]}, ...) already have a gradient. {REMEDY}"
            )

    def _is_own(self, parameter: Tensor) -> bool:
        reference, version = self._left.get(parameter, (None, -1))
        return (
            reference is not None
            and parameter.grad is not None
            and reference() is parameter.grad
            and parameter.grad._version == version  # another backward adds in place
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"_left": {}}  # copies of parameters have no gradients
