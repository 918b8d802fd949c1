"""Closed-form curves and the phase plane of balanced diagonal networks on one atom kind: C4, C5, C7-C10, C16-C18, C22.

Balanced means v_k = w_k = a_k, u_k = a_k^2. Rescaled time tau runs with d tau = lambda~ dt. Every function takes
floats, arrays, mpmath numbers or SymPy symbols.
"""

from __future__ import annotations

from toymodels.theory.elementary import (
    Features,
    Scalar,
    exp,
    exponential_integral,
    log,
    root_sum_of_squares,
    root_two,
    sqrt,
)


def gd_hard_coefficient(
    coefficient_easy: Scalar, start_easy: Scalar, start_hard: Scalar, mu_easy: Scalar, mu_hard: Scalar
) -> Scalar:
    """C4: GD's curve u_h / u_h(0) = (u_e / u_e(0))^(mu_h / mu_e)."""
    return start_hard * (coefficient_easy / start_easy) ** (mu_hard / mu_easy)


def gd_time(a: Scalar, start: Scalar, mu: Scalar) -> Scalar:
    """C5: time at which GD on one feature takes the weight from ``start`` to ``a`` (both > 0).

    t = (1/mu) [ln(a/a0) + (Ei(mu a^2) - Ei(mu a0^2)) / 2]; logistic loss.
    """
    growth = exponential_integral(mu * a**2) - exponential_integral(mu * start**2)
    return (log(a / start) + growth / 2) / mu


def sam_shift(rho: Scalar) -> Scalar:
    """C9: on one feature SAM's phantom weight is a~ = a - rho / sqrt(2)."""
    return rho / root_two(rho)


def sam_time(a: Scalar, start: Scalar, mu: Scalar, rho: Scalar) -> Scalar:
    """C9: time at which SAM on one feature takes the weight from ``start`` to ``a``, both above rho / sqrt(2)."""
    return gd_time(a - sam_shift(rho), start - sam_shift(rho), mu)


def sam_weight(tau: Scalar, start: Scalar, mu: Scalar, rho: Scalar) -> Scalar:
    """C9: a(tau) = rho/sqrt(2) + (a(0) - rho/sqrt(2)) e^(mu tau) on one feature."""
    return sam_shift(rho) + (start - sam_shift(rho)) * exp(mu * tau)


def log_weight_rate(mu: Scalar, rho: Scalar, scale: Scalar) -> Scalar:
    """C2, C8: d ln a_k / d tau = mu_k (1 - rho mu_k / N); negative, the feature shrinks, iff N < rho mu_k."""
    return mu * (1 - rho * mu / scale)


def log_ratio_rate(mu_easy: Scalar, mu_hard: Scalar, rho: Scalar, scale: Scalar) -> Scalar:
    """C7: d ln(a_h/a_e) / d tau = (mu_e - mu_h) (rho (mu_e + mu_h) / N - 1)."""
    return (mu_easy - mu_hard) * (rho * (mu_easy + mu_hard) / scale - 1)


def balance_threshold(rho: Scalar, mu_easy: Scalar, mu_hard: Scalar) -> Scalar:
    """C7: N* = rho (mu_e + mu_h); the hard feature gains on the easy one exactly while N < N*."""
    return rho * (mu_easy + mu_hard)


def balance_threshold_rho(mu: Features, a: Features) -> Scalar:
    """C7: the rho at which N = N* for the balanced weights ``a`` of (easy, hard) features ``mu``."""
    return root_two(*mu, *a) * root_sum_of_squares(m * x for m, x in zip(mu, a, strict=True)) / (mu[0] + mu[1])


def phase_plane_rates(z: Scalar, scale: Scalar, mu_easy: Scalar, mu_hard: Scalar, rho: Scalar) -> tuple[Scalar, Scalar]:
    """C10: (dz/dtau, dN/dtau) with z = ln(mu_h a_h / (mu_e a_e)) and N = sqrt(2) ||(mu_e a_e, mu_h a_h)||."""
    cos2 = 1 / (1 + exp(2 * z))
    sin2 = 1 - cos2
    scale_rate = scale * (mu_easy * cos2 + mu_hard * sin2) - rho * (mu_easy**2 * cos2 + mu_hard**2 * sin2)
    return log_ratio_rate(mu_easy, mu_hard, rho, scale), scale_rate


def balanced_rates(mu: Features, a: Features, rho: Scalar) -> tuple[Scalar, ...]:
    """C2, C10: da_k/dtau = mu_k a_k (1 - rho mu_k / N) for any number of features."""
    scale = root_two(*mu, *a) * root_sum_of_squares(m * x for m, x in zip(mu, a, strict=True))
    return tuple(x * log_weight_rate(m, rho, scale) for m, x in zip(mu, a, strict=True))


def phase_plane_fixed_points(rho: Scalar) -> tuple[tuple[Scalar, Scalar], tuple[Scalar, Scalar]]:
    """C10: ((a_e, a_h) of the source, (a_e, a_h) of the saddle)."""
    return (sam_shift(rho), 0), (0, sam_shift(rho))


def linf_weight(tau: Scalar, start: Scalar, mu: Scalar, rho: Scalar) -> Scalar:
    """C16: a_k(tau) = rho + (a_k(0) - rho) e^(mu_k tau) under linf-SAM: each feature has its own threshold rho."""
    return rho + (start - rho) * exp(mu * tau)


def merged_copies_weight(weight: Scalar, copies: Scalar) -> Scalar:
    """C17: c identical copies with weights a are one copy with weights sqrt(c) a and the same rho."""
    return sqrt(copies) * weight


def relu_pair_equivalent(eta: Scalar, rho: Scalar) -> tuple[Scalar, Scalar]:
    """C18: (eta, rho) of the diagonal network that mirrored pairs of ReLU neurons step like: (eta/2, rho/sqrt(2))."""
    return eta / 2, rho / root_two(rho)


def filter_log_gain(mu: Scalar, tau: Scalar, suppression_time: Scalar, rho: Scalar) -> Scalar:
    """C22: ln a_k(tau)/a_k(0) = mu_k tau - (rho/sqrt(2)) mu_k^2 S(tau): a line for GD, a parabola for SAM."""
    return mu * tau - sam_shift(rho) * mu**2 * suppression_time


def suppression_time_rate(mu: Features, a: Features) -> Scalar:
    """C22: dS/dtau = 1 / ||(mu_k a_k)||, S(0) = 0."""
    return 1 / root_sum_of_squares(m * x for m, x in zip(mu, a, strict=True))


def most_amplified_strength(tau: Scalar, suppression_time: Scalar, rho: Scalar) -> Scalar:
    """C22: mu* = tau / (sqrt(2) rho S), the top of the parabola (rho > 0)."""
    return tau / (root_two(rho, tau) * rho * suppression_time)


def filter_invariant(log_gain_easy: Scalar, log_gain_hard: Scalar, mu_easy: Scalar, mu_hard: Scalar) -> Scalar:
    """C22: mu_h^2 ln(a_e/a_e(0)) - mu_e^2 ln(a_h/a_h(0)), which equals -mu_e mu_h (mu_e - mu_h) tau for every rho."""
    return mu_hard**2 * log_gain_easy - mu_easy**2 * log_gain_hard


def filter_invariant_value(mu_easy: Scalar, mu_hard: Scalar, tau: Scalar) -> Scalar:
    """C22: -mu_e mu_h (mu_e - mu_h) tau."""
    return -mu_easy * mu_hard * (mu_easy - mu_hard) * tau
