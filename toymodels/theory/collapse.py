"""Who collapses, what a finite step changes, and how far down a collapse goes: C25-C27, C31, C32, C35.

Balanced diagonal networks on one atom kind unless said otherwise. Every function takes floats, arrays, mpmath numbers
or SymPy symbols.
"""

from __future__ import annotations

from toymodels.theory.curves import log_weight_rate, sam_shift
from toymodels.theory.elementary import Scalar, log, sqrt


def crossing_speed(rho: Scalar, mu_easy: Scalar, mu_hard: Scalar) -> Scalar:
    """C25: dN/dtau = rho mu_e mu_h wherever N = N*: N crosses the turning point once, upward."""
    return rho * mu_easy * mu_hard


def squared_norm_rate(margin: Scalar, rho: Scalar, scale: Scalar) -> Scalar:
    """C26: d||theta||^2/dtau = 2 (2 m - rho N) for any two-layer linear network on one atom kind, N = ||grad m||."""
    return 2 * (2 * margin - rho * scale)


def collapse_radii(rho: Scalar, mu_easy: Scalar, mu_hard: Scalar) -> tuple[Scalar, Scalar]:
    """C26: (inner, outer): a start with ||theta|| < inner collapses, one with ||theta|| > outer does not.

    inner = rho, outer = rho (mu_e + mu_h) / (2 sqrt(mu_e mu_h)), with the largest and the smallest strength for more
    than two features; ||theta||^2 = sum_k v_k^2 + w_k^2. The outer radius needs balanced weights.
    """
    return rho, rho * (mu_easy + mu_hard) / (2 * sqrt(mu_easy * mu_hard))


def collapse_time_bound(norm: Scalar, rho: Scalar, mu_hard: Scalar) -> Scalar:
    """C26: from ||theta|| < rho the collapse is over by tau = ln(rho / (rho - ||theta||)) / mu_h."""
    return log(rho / (rho - norm)) / mu_hard


def collapse_boundary_near_saddle(a_easy: Scalar, mu_easy: Scalar, mu_hard: Scalar, rho: Scalar) -> Scalar:
    """C27: a_h on the collapse boundary for small a_e, rho/sqrt(2) - kappa a_e^2 / (sqrt(2) rho) + O(a_e^4).

    kappa = mu_e^2 / (mu_e^2 + (mu_e - mu_h)^2) < 1, where the circle ||theta|| = rho has kappa = 1.
    """
    kappa = mu_easy**2 / (mu_easy**2 + (mu_easy - mu_hard) ** 2)
    return sam_shift(rho) - kappa * a_easy**2 / (2 * sam_shift(rho))


def step_growth(eta: Scalar, phantom_weight: Scalar, mu: Scalar, rho: Scalar, scale: Scalar) -> Scalar:
    """C31: factor a_k' / a_k = 1 + eta lambda~ mu_k (1 - rho mu_k / N) of one SAM step, for any eta."""
    return 1 + eta * phantom_weight * log_weight_rate(mu, rho, scale)


def sign_keeping_scale(eta: Scalar, mu: Scalar, rho: Scalar) -> Scalar:
    """C31: a step keeps the sign of a_k (balanced) if N > rho eta mu_k^2 / (2 + eta mu_k)."""
    return rho * eta * mu**2 / (2 + eta * mu)


def collapse_floor(eta: Scalar, mu: Scalar, rho: Scalar) -> Scalar:
    """C32: a collapsed feature keeps hopping around 0 within u <= (eta mu rho)^2 / 8 (one feature, eta mu <= 2)."""
    return (eta * mu * rho) ** 2 / 8


def depth_plateau(rho: Scalar, depth: Scalar) -> Scalar:
    """C35: the weight a = rho / sqrt(L) at which one feature of a balanced depth-L network has phantom weight 0."""
    return sqrt(rho**2 / depth)
