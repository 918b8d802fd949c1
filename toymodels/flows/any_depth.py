"""C23: the flow of the balanced diagonal network of any depth on one atom kind, integrated in batches.

d ln a_k/dtau = m_k chi_k^(L-1) with m_k = mu_k a_k^(L-2) and chi_k = 1 - rho m_k / N_L. For odd L the power is even: no
feature ever shrinks, and nothing collapses. A feature can only stand still, at chi_k = 0 (C35's plateau), and in the
flow it cannot cross that plateau; a finite step can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels import theory
from toymodels.flows.integrate import integrate
from toymodels.metrics import hard_share
from toymodels.theory.elementary import sigmoid

MAX_STEPS = 4000


@dataclass(frozen=True)
class DepthSystem:
    """y = (ln a_k), x = time t with d tau = lambda~ dt."""

    mu: FloatArray
    rho: FloatArray
    depth: int
    margin: float

    def take(self, rows: np.ndarray) -> DepthSystem:
        """The system restricted to some runs."""
        return DepthSystem(self.mu[:, rows], self.rho[rows], self.depth, self.margin)

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """d ln a_k/dt."""
        # Trial steps may overshoot far beyond the loss level; nothing may overflow there.
        a = np.exp(np.minimum(y, 20.0))
        scale = theory.depth_gradient_scale(self.mu, a, self.depth)
        strength = theory.effective_strength(self.mu, a, self.depth)
        chi = theory.one_atom_suppression_factor(self.rho, strength, scale)
        phantom_margin = (self.mu * (chi * a) ** self.depth).sum(0)
        return sigmoid(-phantom_margin) * theory.depth_log_weight_rate(self.mu, a, self.rho, scale, self.depth)

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """The margin is reached; every weight has fallen to 1e-3."""
        a = np.exp(np.minimum(y, 20.0))
        return np.stack([self.margin - (self.mu * a**self.depth).sum(0), a.max(0) - 1e-3])

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        """Whether the margin was reached or all weights have vanished."""
        return np.asarray(happened.any(axis=0))


def depth_shares(
    mu: FloatArray, start: FloatArray, rho: FloatArray, depth: int, time: FloatArray, margin: float
) -> tuple[FloatArray, np.ndarray]:
    """(hard share at the margin, collapsed), each ``[B]``; the share is NaN where the margin was not reached in time.

    Args:
        mu: ``[2, B]`` strengths.
        start: ``[2, B]`` balanced weights a_k(0).
        rho: ``[B]`` radius.
        depth: number of layers L.
        time: ``[B]`` end, eta * steps.
        margin: margin at which the share is read.
    """
    system = DepthSystem(mu, rho, depth, margin)
    found = integrate(system, np.log(start), time, rtol=1e-6, atol=1e-9, max_steps=MAX_STEPS)
    coefficients = np.exp(depth * found.event_y[0])
    # A flow that runs into the singularity at the origin stops with a vanishing step.
    collapsed = ~np.isnan(found.event_x[1]) | (found.stalled & (found.y.max(0) < np.log(0.05)))
    return hard_share(coefficients.T, mu[0], mu[1]), collapsed
