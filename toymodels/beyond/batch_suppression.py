"""Why small batches weaken SAM under feature noise: the suppression that a random batch deals out, by sampling.

Balanced weights a_k, aligned examples z = y x ~ N(mu, sigma^2). The gradient of a batch has the drives
d_k = mean of lambda_i z_ik over the batch, and its phantom point a_k (1 - rho d_k / R), R^2 = 2 sum_k d_k^2 a_k^2 (C2).
To first order in rho, its step changes ln a_k by eta (d_k - rho d_k^2 / R), so on average SAM gains for the hard
feature, relative to GD,

    d ln(a_h/a_e) = eta rho E[(d_e^2 - d_h^2) / R].

For the full batch d_k is its mean D_k; noise adds a variance to both d_k^2 and raises R. It hurts most when the easy
feature is fitted: the examples that still have weight lambda are those whose z_e is small by chance, and on them the
hard feature is the larger one.
"""

from __future__ import annotations

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels.theory.elementary import sigmoid

DRAWS = 200_000
"""Examples drawn in all; the gap's standard error is then about 0.005."""


def suppression_gap(batch: int, mu: FloatArray, sigma: float, coefficients: FloatArray) -> float:
    """E[(d_e^2 - d_h^2)/R] / E[d_e] for batches of ``batch`` examples: the hard feature's gain per unit of rho.

    Args:
        batch: examples per batch.
        mu: ``[2]`` strengths of the easy and the hard feature.
        sigma: standard deviation of the noise on both.
        coefficients: ``[2]`` u_k = a_k^2 > 0.

    Returns:
        In units of the weights' inverse; positive where SAM favours the hard feature.
    """
    normal = np.random.default_rng(20414).standard_normal((max(DRAWS // batch, 1), batch, 2))
    aligned = mu + sigma * normal
    drives = (sigmoid(-(aligned @ coefficients))[..., None] * aligned).mean(axis=1)
    norm = np.sqrt(2 * drives**2 @ coefficients)
    return float(((drives[:, 0] ** 2 - drives[:, 1] ** 2) / norm).mean() / drives[:, 0].mean())
