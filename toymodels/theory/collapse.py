"""Who collapses, what a finite step changes, and how far down a collapse goes: C20, C25-C27, C31, C32, C35.

Balanced diagonal networks on one atom kind unless said otherwise. Every function takes floats, arrays, mpmath numbers
or SymPy symbols.
"""

from __future__ import annotations

from collections.abc import Sequence

from toymodels.theory.curves import balanced_rates, log_weight_rate, sam_shift
from toymodels.theory.elementary import Scalar, log, root, sqrt
from toymodels.theory.phantom import balanced_gradient_scale, one_atom_suppression_factor


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


def flow_acceleration(mu: Sequence[Scalar], a: Sequence[Scalar], rho: Scalar) -> tuple[Scalar, ...]:
    """C20: d^2 a_k/dtau^2 = mu_k^2 a_k (chi_k^2 + rho N'/N^2); half of it times (eta lambda~)^2 is a step's error."""
    scale = balanced_gradient_scale(mu, a)
    rates = balanced_rates(mu, a, rho)
    scale_rate = 2 * sum(m**2 * x * r for m, x, r in zip(mu, a, rates, strict=True)) / scale
    return tuple(
        m**2 * x * (one_atom_suppression_factor(rho, m, scale) ** 2 + rho * scale_rate / scale**2)
        for m, x in zip(mu, a, strict=True)
    )


def depth_shift(rho: Scalar, depth: Scalar) -> Scalar:
    """C35: on one feature of a balanced depth-L network SAM's phantom weight is a~ = a - rho / sqrt(L)."""
    return sqrt(rho**2 / depth)


def depth_weight(tau: Scalar, start: Scalar, mu: Scalar, rho: Scalar, depth: int) -> Scalar:
    """C35: a(tau) of one feature at depth L >= 3, rho/sqrt(L) + b (1 - (L - 2) mu tau b^(L-2))^(-1/(L-2)), b = a~(0).

    Odd L from below the threshold (b < 0): a rises to rho/sqrt(L) and never passes it; even L: a reaches 0.
    """
    phantom = start - depth_shift(rho, depth)
    shrinking = 1 - (depth - 2) * mu * tau * phantom ** (depth - 2)
    return depth_shift(rho, depth) + phantom / root(shrinking, depth - 2)
