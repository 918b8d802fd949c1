"""Gradient and phantom point of the two-layer diagonal network f(x) = sum_k v_k w_k x_k: C1-C3, C6, C8, C11-C13, C15.

Sequences run over features k; a *drive* is D_k = -dL/du_k with u_k = v_k w_k. Every function takes floats, arrays,
mpmath numbers or SymPy symbols. Source: Springer et al., arXiv 2405.20439, sections 4-5 for the two effects;
derivations in ``docs/theory.md``.
"""

from __future__ import annotations

from toymodels.theory.elementary import Features, Scalar, exp, root_sum_of_squares, root_two, sqrt


def margin(coefficients: Features, signs: Features, mu: Features) -> Scalar:
    """C1: margin m_n = sum_k s_nk mu_k u_k of an atom."""
    return sum(u * s * m for u, s, m in zip(coefficients, signs, mu, strict=True))


def drive(mu: Scalar, signs: Features, weights: Features, example_weights: Features) -> Scalar:
    """C1: D_k = sum_n pi_n lambda_n s_nk mu_k, with ``signs`` s_nk, ``weights`` pi_n over atoms n."""
    return sum(p * lam * s * mu for p, lam, s in zip(weights, example_weights, signs, strict=True))


def layer_gradients(drive_k: Scalar, v: Scalar, w: Scalar) -> tuple[Scalar, Scalar]:
    """C1: (-dL/dv_k, -dL/dw_k) = (D_k w_k, D_k v_k)."""
    return drive_k * w, drive_k * v


def gradient_norm(drives: Features, v: Features, w: Features) -> Scalar:
    """C1: R = ||grad L|| = sqrt(sum_k D_k^2 (v_k^2 + w_k^2))."""
    return sqrt(sum(d**2 * (a**2 + b**2) for d, a, b in zip(drives, v, w, strict=True)))


def gradient_scale(mu: Features, v: Features, w: Features) -> Scalar:
    """C1: N = sqrt(sum_k mu_k^2 (v_k^2 + w_k^2)); on one atom kind R = lambda N."""
    return gradient_norm(mu, v, w)


def balanced_gradient_scale(mu: Features, a: Features) -> Scalar:
    """C1 for balanced weights v = w = a: N = sqrt(2) ||(mu_k a_k)||."""
    return root_two(*mu, *a) * root_sum_of_squares(m * x for m, x in zip(mu, a, strict=True))


def perturbation_ratio(rho: Scalar, drive_k: Scalar, norm: Scalar) -> Scalar:
    """C2: r_k = rho D_k / R, the share of a weight that the perturbation exchanges between the layers."""
    return rho * drive_k / norm


def phantom_layers(v: Scalar, w: Scalar, ratio: Scalar) -> tuple[Scalar, Scalar]:
    """C2: (v~_k, w~_k) = (v_k - r_k w_k, w_k - r_k v_k)."""
    return v - ratio * w, w - ratio * v


def phantom_coefficient(v: Scalar, w: Scalar, ratio: Scalar) -> Scalar:
    """C2: u~_k = u_k (1 + r_k^2) - r_k (v_k^2 + w_k^2)."""
    return v * w * (1 + ratio**2) - ratio * (v**2 + w**2)


def suppression_factor(ratio: Scalar) -> Scalar:
    """C2, C3: chi_k = 1 - r_k; balanced weights have a~_k = chi_k a_k and u~_k = chi_k^2 u_k."""
    return 1 - ratio


def one_atom_suppression_factor(rho: Scalar, mu: Scalar, scale: Scalar) -> Scalar:
    """C2 on one atom kind: chi_k = 1 - rho mu_k / N. The loss level cancels."""
    return 1 - rho * mu / scale


def layer_imbalance_rate(v: Scalar, w: Scalar, ratio: Scalar, phantom_drive: Scalar) -> Scalar:
    """C6: d(v_k^2 - w_k^2)/dt = -2 r_k D~_k (v_k^2 - w_k^2) under the SAM flow."""
    return -2 * ratio * phantom_drive * (v**2 - w**2)


def suppression_window(rho: Scalar, mu_easy: Scalar, mu_hard: Scalar) -> tuple[Scalar, Scalar]:
    """C8: for N between (rho mu_hard, rho mu_easy) the easy feature shrinks while the hard one grows."""
    return rho * mu_hard, rho * mu_easy


def phantom_logit_contraction(phantom_coefficient_easy: Scalar, coefficient_easy: Scalar) -> Scalar:
    """C11: factor u~_e / u_e by which SAM contracts logit lambda_min - logit lambda_maj (balanced: chi_e^2)."""
    return phantom_coefficient_easy / coefficient_easy


def minority_weight_ratio(
    mu_easy: Scalar, mu_hard: Scalar, coefficient_easy: Scalar, coefficient_hard: Scalar
) -> Scalar:
    """C11: lambda_min / lambda_maj = (1 + e^(c + d)) / (1 + e^(c - d)) with c = mu_h u_h and d = mu_e u_e."""
    c, d = mu_hard * coefficient_hard, mu_easy * coefficient_easy
    return (1 + exp(c + d)) / (1 + exp(c - d))


def hard_gains_last_layer_share(
    drive_easy: Scalar, drive_hard: Scalar, v_easy: Scalar, v_hard: Scalar, w_easy: Scalar, w_hard: Scalar
) -> Scalar:
    """C12: D_e w_e / v_e - D_h w_h / v_h; where positive, v~_h / v~_e > v_h / v_e (all weights and v~_e positive)."""
    return drive_easy * w_easy / v_easy - drive_hard * w_hard / v_hard


def last_layer_gradient_norm(drives: Features, w: Features) -> Scalar:
    """C13: R_v = sqrt(sum_k D_k^2 w_k^2), the norm that LSAM uses."""
    return root_sum_of_squares(d * x for d, x in zip(drives, w, strict=True))


def lsam_phantom_last_layer(v: Scalar, w: Scalar, ratio: Scalar) -> Scalar:
    """C13: v~_k = v_k - r_k w_k with r_k = rho D_k / R_v; w is not perturbed."""
    return v - ratio * w


def lsam_imbalance_rate(w: Scalar, rho: Scalar, drive_k: Scalar, phantom_drive: Scalar, norm: Scalar) -> Scalar:
    """C13: d(v_k^2 - w_k^2)/dt = 2 rho D~_k D_k w_k^2 / R_v: LSAM pushes weight into the last layer."""
    return 2 * rho * phantom_drive * drive_k * w**2 / norm


def usam_suppression_factor(rho: Scalar, drive_k: Scalar) -> Scalar:
    """C15: without normalisation chi_k = 1 - rho D_k, which dies with the loss."""
    return 1 - rho * drive_k


def usam_reversal_margin(rho: Scalar, example_weight: Scalar, mu_easy: Scalar, mu_hard: Scalar) -> Scalar:
    """C15: rho lambda (mu_e + mu_h) - 1; where positive, the hard feature gains on the easy one (one atom kind)."""
    return rho * example_weight * (mu_easy + mu_hard) - 1
