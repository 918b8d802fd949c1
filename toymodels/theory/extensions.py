"""Beyond the balanced two-layer diagonal network: noise C19, the last-layer law C21, depth C23."""

from __future__ import annotations

import numpy as np

from toymodels.theory.elementary import Features, Scalar, sigmoid, sqrt


def gaussian_nodes(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss-Hermite rule for E g(xi), xi ~ N(0, 1), exact for degree < 2 points."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    return nodes, weights / weights.sum()


def noisy_margin_deviation(coefficients: Features, sigma: Features) -> Scalar:
    """C19: standard deviation of the margin under feature noise, sqrt(sum_k sigma_k^2 u_k^2)."""
    return sqrt(sum((s * u) ** 2 for s, u in zip(sigma, coefficients, strict=True)))


def noisy_drive(
    mu: Scalar,
    sigma: Scalar,
    coefficient: Scalar,
    signs: Features,
    weights: Features,
    mean_weights: Features,
    mean_curvatures: Features,
) -> Scalar:
    """C19: D_k = sum_n pi_n (s_nk mu_k E_n[lambda] - sigma_k^2 u_k E_n[lambda (1 - lambda)]) (Stein's lemma).

    ``mean_weights`` are E_n[lambda] and ``mean_curvatures`` E_n[lambda (1 - lambda)] over the margin's Gaussian
    N(m_n, sum_k sigma_k^2 u_k^2); see :func:`noisy_expectations`.
    """
    return sum(
        p * (s * mu * lam - sigma**2 * coefficient * curvature)
        for p, s, lam, curvature in zip(weights, signs, mean_weights, mean_curvatures, strict=True)
    )


def noisy_expectations(mean: Scalar, deviation: Scalar, points: int = 32) -> tuple[Scalar, Scalar]:
    """C19: (E[lambda], E[lambda (1 - lambda)]) for a margin m ~ N(mean, deviation^2), by Gauss-Hermite quadrature.

    Args:
        mean, deviation: floats or arrays of one shape.
        points: nodes of the rule; 32 gives 1e-8 for deviations up to 1.5, 1e-6 up to 2.
    """
    nodes, weights = gaussian_nodes(points)
    lam = sigmoid(-(np.asarray(mean)[..., None] + np.asarray(deviation)[..., None] * nodes))
    return lam @ weights, (lam * (1 - lam)) @ weights


def last_layer_phantom_margins(
    margins: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    sample_weights: np.ndarray,
    example_weights: np.ndarray,
    rho: float,
) -> np.ndarray:
    """C21: margins at LSAM's phantom point for any network with frozen last-layer features phi.

    m~_n = m_n - rho y_n ghat . phi_n with ghat = sum_j pi_j lambda_j y_j phi_j / ||.||; no gradient, no change.

    Args:
        margins: ``[S]`` y_n f(x_n).
        features: ``[S, D]`` phi_n.
        labels: ``[S]`` in -1/+1.
        sample_weights: ``[S]`` pi_n.
        example_weights: ``[S]`` lambda_n.
        rho: radius.

    Returns:
        ``[S]`` phantom margins.

    Raises:
        ValueError: names an argument that has another shape.
    """
    if np.ndim(features) != 2:
        raise ValueError(f"features has shape {np.shape(features)}; allowed: [S, D]")
    wanted = np.shape(features)[:1]
    for name, array in (
        ("margins", margins),
        ("labels", labels),
        ("sample_weights", sample_weights),
        ("example_weights", example_weights),
    ):
        if np.shape(array) != wanted:
            raise ValueError(f"{name} has shape {np.shape(array)}; allowed: [{wanted[0]}], one number per sample")
    direction = features.T @ (sample_weights * example_weights * labels)
    length = sqrt(direction @ direction)
    if length == 0:
        return np.array(margins, copy=True)
    return margins - rho * labels * (features @ (direction / length))


def effective_strength(mu: Scalar, a: Scalar, depth: Scalar) -> Scalar:
    """C23: m_k = mu_k a_k^(L - 2): at depth L >= 3 a feature that is ahead counts as stronger."""
    return mu * a ** (depth - 2)


def depth_gradient_scale(mu: Features, a: Features, depth: Scalar) -> Scalar:
    """C23: N_L = sqrt(L sum_k mu_k^2 a_k^(2 (L - 1))); on one atom kind R = lambda N_L."""
    return sqrt(depth * sum(m**2 * x ** (2 * (depth - 1)) for m, x in zip(mu, a, strict=True)))


def depth_log_weight_rate(mu: Scalar, a: Scalar, rho: Scalar, scale: Scalar, depth: Scalar) -> Scalar:
    """C23: d ln a_k / d tau = m_k (1 - rho m_k / N_L)^(L - 1) for balanced depth L."""
    strength = effective_strength(mu, a, depth)
    return strength * (1 - rho * strength / scale) ** (depth - 1)
