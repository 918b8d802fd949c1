"""Loss scaling for float16: SAM drives the ``GradScaler``, through its public methods only.

A step has two backward passes, and ``GradScaler`` allows one ``unscale_`` between updates. So the gradients are divided
by the scale here, and the scaler is told the outcome of the whole step once: it unscales a lone flag whose gradient is
0 or inf, and updates its scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class LossScaling:
    """Scaling by ``scaler``; without one (or with one that is not enabled) the scale is 1."""

    def __init__(self, scaler: torch.amp.GradScaler | None, device: torch.device) -> None:
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._flag = torch.nn.Parameter(torch.zeros((), device=device))
        self._of_flag = torch.optim.SGD([self._flag], lr=0.0)

    @property
    def enabled(self) -> bool:
        return self._scaler is not None

    def scale(self, loss: Tensor) -> Tensor:
        """The loss that ``backward`` is called on."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    @property
    def factor(self) -> float:
        """What gradients are multiplied by to undo the scale."""
        return 1.0 if self._scaler is None else 1.0 / self._scaler.get_scale()

    @contextmanager
    def required(self) -> Iterator[None]:
        """A closure runs inside; raises a ValueError if it did not scale its loss."""
        if self._scaler is None:
            yield
            return
        scaler, calls = self._scaler, 0
        original: Callable[[Tensor], Tensor] = scaler.scale

        def counted(outputs: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return original(outputs)

        scaler.scale = counted  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            del scaler.scale
        if not calls:
            raise ValueError("the closure did not scale its loss; with scaler=: scaler.scale(loss).backward()")

    def update(self, finite: bool) -> None:
        """Tell the scaler whether all gradients of the step were finite, and let it choose the next scale."""
        if self._scaler is not None:
            self._flag.grad = torch.full_like(self._flag, 0.0 if finite else torch.inf)
            self._scaler.unscale_(self._of_flag)
            self._scaler.update()

    def state_dict(self) -> dict[str, float | int] | None:
        return None if self._scaler is None else dict(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, float | int] | None) -> None:
        if self._scaler is not None and state is not None:
            self._scaler.load_state_dict(state)
