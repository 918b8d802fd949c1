"""The ascent in every k-th step only, its effect reused in between: LookSAM (Liu et al. 2022), not layer-wise.

A step with an ascent follows SAM's gradient ``g_s``, and keeps what it has across the gradient ``g`` at the real
weights,

    g_v = g_s - (g_s . g) / ||g||^2 g.

The steps in between take one pass and follow ``g + strength ||g|| / ||g_v|| g_v``. Products and norms run over all
parameters together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.sam.parameters import norm_of, with_gradient
from sambalance_tools.checks import require_whole


class ReusedAscent:
    """Decides which steps ascend, and makes up for the ascent in the others.

    Args:
        every: 1 for an ascent in every step, which is SAM.
        strength: of what is reused, >= 0; alpha in the paper.
    """

    def __init__(self, every: int, strength: float) -> None:
        require_whole("ascent_every", every, 1)
        self.every = int(every)
        self.strength = float(strength)
        self._steps = 0
        self._at_real: dict[Tensor, Tensor] = {}
        self._found: dict[Tensor, Tensor] = {}
        self._across: dict[Tensor, Tensor] = {}

    @property
    def active(self) -> bool:
        return self.every > 1

    @property
    def due(self) -> bool:
        """Whether this step ascends. The first one does, and any as long as there is nothing to reuse."""
        return self._steps % self.every == 0 or not self._across

    def keep(self, parameters: list[Tensor]) -> None:
        """Gradients are now those at the real weights."""
        self._at_real = {p: p.grad.clone() for p in with_gradient(parameters) if p.grad is not None}
        if any(g.is_sparse for g in self._at_real.values()):
            raise ValueError("ascent_every > 1 with sparse gradients; allowed: ascent_every=1")

    def learn(self) -> None:
        """Gradients are now SAM's: find the part that will be reused. :meth:`finish` decides if it is."""
        real, self._at_real = self._at_real, {}
        pairs = [(p, p.grad, g) for p, g in real.items() if p.grad is not None]
        square = norm_of([g for _, _, g in pairs]) ** 2
        along = sum(float((sharp.double() * g.double()).sum()) for _, sharp, g in pairs)
        self._found = {p: sharp - (along / square if square else 0.0) * g for p, sharp, g in pairs}

    def apply(self, parameters: list[Tensor]) -> None:
        """Gradients are those at the real weights: add what was found in the last step with an ascent."""
        self._found = {}
        chosen = [p for p in with_gradient(parameters) if p in self._across]
        across = norm_of([self._across[p] for p in chosen])
        if across == 0.0:
            return
        length = norm_of([p.grad for p in with_gradient(parameters) if p.grad is not None])
        for parameter in chosen:
            assert parameter.grad is not None
            parameter.grad.add_(self._across[parameter], alpha=self.strength * length / across)

    def finish(self, finite: bool) -> None:
        """A step is over; one that was not finite does not count."""
        if finite:
            self._steps += 1
            self._across = self._found or self._across
        self._found = {}

    def state_dict(self, parameters: list[Tensor]) -> dict[str, Any]:
        return {"steps": self._steps, "across": [self._across.get(p) for p in parameters]}

    def load_state_dict(self, state: dict[str, Any] | None, parameters: list[Tensor]) -> None:
        self._steps, self._across = 0, {}
        if state is not None:
            self._steps = state["steps"]
            kept = zip(parameters, state["across"], strict=True)
            self._across = {p: torch.as_tensor(t).to(p.device, copy=True) for p, t in kept if t is not None}
