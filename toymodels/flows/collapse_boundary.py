"""C10's collapse boundary: the radius above which balanced weights collapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels import theory
from toymodels.flows.integrate import integrate
from toymodels.theory.elementary import sigmoid


def collapse_boundary_scale(mu_easy: FloatArray, mu_hard: FloatArray, z: FloatArray) -> FloatArray:
    """C10: N / rho on the collapse boundary at z = ln(mu_h a_h / (mu_e a_e)); starts with a smaller N / rho collapse.

    Integrates dN/dz down from the saddle (z = +infinity, N = rho mu_h), where the first-order expansion
    N = mu_h + B e^(-2z), B = mu_e (mu_e - mu_h) / (mu_h + 2 mu_e (mu_e - mu_h) / mu_h) is exact to O(e^(-4z)); the
    boundary attracts nearby curves in this direction, so errors shrink on the way. Nearly equal strengths make it
    stiff; there it is the slow curve dN/dtau = 0 with its first correction.

    Args:
        mu_easy, mu_hard, z: arrays of one shape ``[B]``, mu_easy >= mu_hard > 0.
    """
    near = mu_easy - mu_hard < _NEARLY_EQUAL * mu_easy
    scale = np.empty_like(z)
    scale[near] = _nearly_equal_boundary_scale(mu_easy[near], mu_hard[near], z[near])
    mu_easy, mu_hard, z = mu_easy[~near], mu_hard[~near], z[~near]
    gap = mu_easy - mu_hard
    coefficient = mu_easy * gap / (mu_hard + 2 * mu_easy * gap / mu_hard)
    z_start = np.maximum(z, 0.0) + np.log(mu_easy / mu_hard) + 9.0
    start = (mu_hard + coefficient * np.exp(-2 * z_start))[None]
    system = _BoundarySystem(mu_easy, mu_hard, z_start)
    scale[~near] = integrate(system, start, z_start - z, rtol=1e-8, atol=1e-12).y[0]
    return scale


_NEARLY_EQUAL = 3e-3


def _nearly_equal_boundary_scale(mu_easy: FloatArray, mu_hard: FloatArray, z: FloatArray) -> FloatArray:
    """C10 for strengths that differ by a small share e: N = B/A - 2 (c s gap mu_e mu_h)^2 / (A^3 B) + O(e^3).

    Here dN/dtau = N A - B, A = mu_e c^2 + mu_h s^2, B = mu_e^2 c^2 + mu_h^2 s^2.
    """
    cos2 = sigmoid(-2 * z)
    sin2 = 1 - cos2
    a, b = mu_easy * cos2 + mu_hard * sin2, mu_easy**2 * cos2 + mu_hard**2 * sin2
    return b / a - 2 * cos2 * sin2 * ((mu_easy - mu_hard) * mu_easy * mu_hard) ** 2 / (a**3 * b)


def collapse_boundary_rho(mu_easy: FloatArray, mu_hard: FloatArray, easy: FloatArray, hard: FloatArray) -> FloatArray:
    """C10: the rho above which balanced weights (easy, hard) > 0 collapse, for arrays of one shape ``[B]``."""
    scale = theory.balanced_gradient_scale((mu_easy, mu_hard), (easy, hard))
    return scale / collapse_boundary_scale(mu_easy, mu_hard, np.log(mu_hard * hard / (mu_easy * easy)))


@dataclass(frozen=True)
class _BoundarySystem:
    """dN/d(-z) along the boundary for rho = 1 (C10)."""

    mu_easy: FloatArray
    mu_hard: FloatArray
    z_start: FloatArray

    def take(self, rows: np.ndarray) -> _BoundarySystem:
        return _BoundarySystem(self.mu_easy[rows], self.mu_hard[rows], self.z_start[rows])

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        z_rate, scale_rate = theory.phase_plane_rates(self.z_start - x, y[0], self.mu_easy, self.mu_hard, 1.0)
        return (-scale_rate / z_rate)[None]

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return np.ones((0, y.shape[1]))

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        return np.zeros(y.shape[1], dtype=bool)
