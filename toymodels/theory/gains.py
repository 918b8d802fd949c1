"""What SAM gains on GD, and the filter law beyond balanced weights, SAM and one atom kind: C24, C28-C30, C33-C37.

Every function takes floats, arrays, mpmath numbers or SymPy symbols.
"""

from __future__ import annotations

from toymodels.theory.curves import filter_log_gain, sam_shift
from toymodels.theory.elementary import Scalar, exp, log, sqrt
from toymodels.theory.phantom import one_atom_suppression_factor


def hard_gain_over_gd(suppression_time: Scalar, mu_easy: Scalar, mu_hard: Scalar, rho: Scalar) -> Scalar:
    """C24: factor by which SAM's u_h exceeds GD's at the same u_e, exp(sqrt(2) rho mu_h (mu_e - mu_h) S)."""
    return exp(2 * sam_shift(rho) * mu_hard * (mu_easy - mu_hard) * suppression_time)


def hard_share_logit_gain(
    tau: Scalar, suppression_time: Scalar, mu_easy: Scalar, mu_hard: Scalar, rho: Scalar
) -> Scalar:
    """C24: logit H(tau) - logit H(0) = -2 (mu_e - mu_h) tau + sqrt(2) rho (mu_e^2 - mu_h^2) S of the hard share H."""
    return 2 * filter_log_gain(mu_hard, tau, suppression_time, rho) - 2 * filter_log_gain(
        mu_easy, tau, suppression_time, rho
    )


def hard_gain_bounds(
    start_scale: Scalar, scale: Scalar, mu_easy: Scalar, mu_hard: Scalar, rho: Scalar
) -> tuple[Scalar, Scalar]:
    """C24: bounds (chi_k(N) / chi_k(N(0)))^(2 (1 - mu_h/mu_e)), k = h and e, of :func:`hard_gain_over_gd`.

    The lower one (k = h) needs N > rho mu_h up to now, the upper one (k = e) N(0) > rho mu_e.
    """
    power = 2 * (1 - mu_hard / mu_easy)

    def bound(mu: Scalar) -> Scalar:
        return one_atom_suppression_factor(rho, mu, scale) / one_atom_suppression_factor(rho, mu, start_scale)

    return bound(mu_hard) ** power, bound(mu_easy) ** power


def equal_strength_norm(tau: Scalar, start_norm: Scalar, mu: Scalar, rho: Scalar) -> Scalar:
    """C28: ||a||(tau) = rho/sqrt(2) + (||a(0)|| - rho/sqrt(2)) e^(mu tau) for features of one strength mu."""
    return sam_shift(rho) + (start_norm - sam_shift(rho)) * exp(mu * tau)


def equal_strength_suppression_time(tau: Scalar, start_norm: Scalar, mu: Scalar, rho: Scalar) -> Scalar:
    """C28: S = (mu tau - ln(||a||(tau) / ||a||(0))) sqrt(2) / (rho mu^2) for features of one strength mu, rho > 0."""
    gain = log(equal_strength_norm(tau, start_norm, mu, rho) / start_norm)
    return (mu * tau - gain) / (sam_shift(rho) * mu**2)


def double_strength_suppression_time(tau: Scalar, drive_easy: Scalar, drive_hard: Scalar, mu_hard: Scalar) -> Scalar:
    """C28: S at rho -> 0 for mu_e = 2 mu_h, with drive_k = mu_k a_k(0).

    S = (sqrt(b_e^2 + b_h^2) - sqrt(b_e^2 + b_h^2 e^(-2 mu_h tau))) / (mu_h b_h^2); SAM's S differs by O(rho).
    """
    late = sqrt(drive_easy**2 + drive_hard**2 * exp(-2 * mu_hard * tau))
    return (sqrt(drive_easy**2 + drive_hard**2) - late) / (mu_hard * drive_hard**2)


def constant_drive_error(margin: Scalar) -> Scalar:
    """C29: |lambda - 1/2| <= |m| / 4, the error of taking the example weights as constant early in training."""
    return abs(margin) / 4


def lsam_log_coefficient_rate(mu: Scalar, layer_ratio: Scalar, rho: Scalar, first_scale: Scalar) -> Scalar:
    """C30: d ln u_k/dtau = mu_k (q + 1/q) - rho mu_k^2 / N_w under LSAM, q = v_k/w_k, N_w = sqrt(sum mu_k^2 w_k^2)."""
    return mu * (layer_ratio + 1 / layer_ratio) - rho * mu**2 / first_scale


def lsam_layer_ratio_rate(mu: Scalar, layer_ratio: Scalar, rho: Scalar, first_scale: Scalar) -> Scalar:
    """C30: dq/dtau = mu_k (1 - q^2) + rho mu_k^2 q / N_w for q = v_k/w_k under LSAM."""
    return mu * (1 - layer_ratio**2) + rho * mu**2 * layer_ratio / first_scale


def filter_layers(
    v_start: Scalar, w_start: Scalar, mu: Scalar, tau: Scalar, suppression_time: Scalar, rho: Scalar
) -> tuple[Scalar, Scalar]:
    """C33: (v_k, w_k) at tau from any start: v + w follows the filter law, v - w the same law with -tau.

    Here dS/dtau = sqrt(2) / N with N = sqrt(sum_k mu_k^2 (v_k^2 + w_k^2)); rho = 0 is GD in closed form.
    """
    total = (v_start + w_start) * exp(filter_log_gain(mu, tau, suppression_time, rho))
    difference = (v_start - w_start) * exp(filter_log_gain(mu, -tau, suppression_time, rho))
    return (total + difference) / 2, (total - difference) / 2


def spurious_log_slope(mu_easy: Scalar, mu_hard: Scalar, p: Scalar, weight_ratio: Scalar) -> Scalar:
    """C34: D_h / D_e = (mu_h/mu_e) (p + (1 - p) r) / (p - (1 - p) r) on spurious data, r = lambda_min / lambda_maj."""
    return mu_hard / mu_easy * (p + (1 - p) * weight_ratio) / (p - (1 - p) * weight_ratio)


def spurious_trap(mu_easy: Scalar, p: Scalar) -> Scalar:
    """C37: u_e = ln(p / (1 - p)) / mu_e, where the easy feature alone minimises the loss of spurious data."""
    return log(p / (1 - p)) / mu_easy


def trapped_hard_rate(a_hard: Scalar, mu_hard: Scalar, rho: Scalar) -> Scalar:
    """C37: where D_e = 0, da_h/dt = E[lambda~] mu_h (a_h - rho/sqrt(2)), here without the factor E[lambda~]."""
    return mu_hard * (a_hard - sam_shift(rho))


def two_kind_gini(weight_ratio: Scalar, p: Scalar) -> Scalar:
    """C11: Gini coefficient of the example weights on spurious data, p (1 - p) (r - 1) / (p + (1 - p) r), r >= 1."""
    return p * (1 - p) * (weight_ratio - 1) / (p + (1 - p) * weight_ratio)


def two_kind_lorenz_knee(weight_ratio: Scalar, p: Scalar) -> Scalar:
    """C11: height at p of the Lorenz curve of the example weights on spurious data, p / (p + (1 - p) r), r >= 1."""
    return p / (p + (1 - p) * weight_ratio)


def shared_neuron_pair(
    first: Scalar, last: Scalar, strength: Scalar, rho: Scalar, scale: Scalar
) -> tuple[Scalar, Scalar]:
    """C36: d(w_i, v_i)/dtau of a neuron of a two-layer linear network on one atom x, w_i = W_i.x/||x||, strength ||x||.

    = strength (v~_i, w~_i) with the phantom pair of a diagonal network whose features all have this strength.
    """
    ratio = rho * strength / scale
    return strength * (last - ratio * first), strength * (first - ratio * last)
