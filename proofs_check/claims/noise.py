"""C19: Gaussian noise on the features, by Stein's lemma."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check.claim import Claim, Control
from proofs_check.proof import Proof
from proofs_check.setting import MU
from proofs_check.simulation import Curve, Simulation, diagonal_run
from proofs_check.witness import Draw, Number, Pairs, derivative

STEIN = "Stein's lemma"


def _noise(p: Proof) -> None:
    u = sp.symbols("u_e u_h", positive=True)
    sigma = sp.symbols("sigma_e sigma_h", positive=True)
    signs = sp.symbols("s_e s_h", real=True)
    xi = sp.Symbol("xi", real=True)
    pi, lam, curvature = sp.symbols("pi E_lambda E_curvature", positive=True)
    z = sp.symbols("z_e z_h", real=True)
    mean = sum(s * m * x for s, m, x in zip(signs, MU, u, strict=True))
    noisy = sum((s * m + g * t) * x for s, m, g, t, x in zip(signs, MU, sigma, z, u, strict=True))
    variance = sum(sp.diff(noisy, t) ** 2 for t in z)  # independent N(0, 1) noises z_k
    deviation = p.f.noisy_margin_deviation(u, sigma)
    p.equal(
        "The margin under feature noise is one Gaussian: its mean and variance",
        (noisy.subs({t: 0 for t in z}), variance),
        (mean, deviation**2),
        "noisy_margin_deviation",
        latex=r"m \sim N(m_n, \tau^2),\quad \tau^2 = \sum_k \sigma_k^2 u_k^2",
    )
    density = sp.exp(-(xi**2) / 2) / sp.sqrt(2 * sp.pi)
    margin = mean + deviation * xi
    weight = on.example_weight(margin)
    p.equal(
        "Stein: lambda xi phi and lambda' phi differ by an exact derivative, which integrates to 0 as lambda is "
        "bounded",
        weight * xi * density - sp.diff(weight, xi) * density,
        -sp.diff(weight * density, xi),
        latex=r"\lambda\,\xi\,\varphi - \frac{d\lambda}{d\xi}\varphi = "
        r"-\frac{d}{d\xi}(\lambda\varphi)\quad\Rightarrow\quad E[\xi\lambda] = E[d\lambda/d\xi]",
        method=STEIN,
    )
    x = sp.Symbol("m", real=True)
    p.equal(
        "d lambda/dm = -lambda (1 - lambda)",
        sp.diff(on.example_weight(x), x),
        -on.example_weight(x) * (1 - on.example_weight(x)),
        latex=r"\lambda' = -\lambda(1-\lambda)",
    )
    for k in range(2):
        # -d/du_k of loss(margin), before taking the expectation over xi
        inside = -sp.diff(on.logistic(margin), u[k])
        p.equal(
            "The drive before averaging",
            inside,
            weight * (signs[k] * MU[k] + xi * sp.diff(deviation, u[k])),
            "noisy_margin_deviation",
            latex=r"-\frac{\partial}{\partial u_k}\ell(m_n + \tau\xi) = \lambda\,(s_{nk}\mu_k + \xi\,\sigma_k^2 "
            r"u_k/\tau)",
        )
        # E[lambda] -> lam, E[xi lambda] -> deviation E[lambda'(m)] = -deviation * curvature
        averaged = lam * signs[k] * MU[k] + sp.diff(deviation, u[k]) * (-deviation * curvature)
        p.equal(
            "Averaged with Stein's lemma",
            pi * averaged,
            p.f.noisy_drive(MU[k], sigma[k], u[k], (signs[k],), (pi,), (lam,), (curvature,)),
            "noisy_drive",
            latex=r"D_k = \sum_n \pi_n\left(s_{nk}\mu_k E_n[\lambda] - \sigma_k^2 u_k E_n[\lambda(1-\lambda)]\right)",
            method=STEIN,
        )
    two = [sp.symbols(f"{name}_1 {name}_2", positive=True) for name in ("s", "pi", "l", "c")]
    p.equal(
        "and summed over atoms",
        sum(p.f.noisy_drive(MU[0], sigma[0], u[0], *([column[n]] for column in two)) for n in range(2)),
        p.f.noisy_drive(MU[0], sigma[0], u[0], *two),
        "noisy_drive",
    )
    _quadrature(p)


def _quadrature(p: Proof) -> None:
    """The Gauss-Hermite rule against adaptive integration at fifty digits."""
    worst = mpmath.mpf(0)
    for mean, deviation in ((0.0, 0.5), (1.0, 1.0), (-0.7, 2.0), (3.0, 2.0)):
        for exact, ruled in zip(_expectations(mean, deviation), p.f.noisy_expectations(mean, deviation), strict=True):
            worst = max(worst, abs(exact - float(ruled)))
    p.is_true(
        "The 32-point Gauss-Hermite rule gives both expectations within 1e-6 for deviations up to 2",
        bool(worst < 1e-6),
        "noisy_expectations",
        method="quadrature",
    )


def _expectations(mean: Any, deviation: Any) -> tuple[Number, Number]:
    """E[lambda], E[lambda (1 - lambda)] by adaptive quadrature."""

    def average(g: Any) -> Number:
        return mpmath.quad(
            lambda t: g(on.example_weight(mean + deviation * t, mpmath)) * mpmath.npdf(t), [-16, -8, -3, 0, 3, 8, 16]
        )

    return average(lambda x: x), average(lambda x: x * (1 - x))


def _noise_witness(draw: Draw) -> Pairs:
    mu, u, sigma, atoms = draw.strengths(), draw.some(2, 0.2, 0.8), draw.some(2, 0.3, 0.9), draw.atoms(1)
    row = atoms.signs[0]

    def mean(x: Any) -> Number:
        return sum(s * m * t for s, m, t in zip(row, mu, x, strict=True))

    def population_loss(x: Any) -> Number:
        deviation = mpmath.sqrt(sum((g * t) ** 2 for g, t in zip(sigma, x, strict=True)))
        return _trapezoid(lambda t: on.logistic(mean(x) + deviation * t, mpmath))

    deviation = theory.noisy_margin_deviation(u, sigma)
    lam = _trapezoid(lambda t: on.example_weight(mean(u) + deviation * t, mpmath))
    curvature = _trapezoid(lambda t: (lambda x: x * (1 - x))(on.example_weight(mean(u) + deviation * t, mpmath)))
    outright = -derivative(lambda x: population_loss((x, u[1])), u[0])
    yield outright, theory.noisy_drive(mu[0], sigma[0], u[0], (row[0],), (1,), (lam,), (curvature,))


def _trapezoid(g: Any) -> Number:
    """E g(xi): for these analytic integrands the error of the trapezoidal rule falls like e^(-2 pi^2 / h^2 ...)."""
    h = mpmath.mpf(1) / 16
    return h * sum(g(k * h) * mpmath.npdf(k * h) for k in range(-256, 257))


def _noise_simulation() -> Simulation:
    """One GD step on growing samples: the measured drive approaches the population's like S^(-1/2)."""
    mu, sigma, a = np.array([2.0, 1.0]), np.array([0.8, 0.5]), np.array([0.6, 0.5])
    u = a**2
    deviation = theory.noisy_margin_deviation(u, sigma)
    lam, curvature = theory.noisy_expectations(float(u @ mu), float(deviation))
    claimed = np.array([theory.noisy_drive(mu[k], sigma[k], u[k], (1,), (1,), (lam,), (curvature,)) for k in range(2)])
    sizes = np.array([400, 4000, 40000])
    rng = np.random.default_rng(0)
    measured_drive, spread = [], []
    for size in sizes:
        x = mu + sigma * rng.normal(size=(size, 2))
        result = diagonal_run(
            (1.0, 1.0), (a, a), eta=0.1, steps=1, signs=x.tolist(), pi=np.full(size, 1 / size).tolist()
        )
        measured_drive.append((result.layers[0][0] - a) / (0.1 * a))
        spread.append((x / (1 + np.exp(x @ u))[:, None]).std(axis=0) / np.sqrt(size))
    deviations = (np.array(measured_drive) - claimed) / np.array(spread)
    curves = [
        Curve(f"drive of the {n} feature", np.log10(sizes), np.full(3, claimed[k]), np.array(measured_drive)[:, k])
        for k, n in enumerate(("easy", "hard"))
    ]
    return Simulation(
        float(np.abs(deviations).max()),
        4.0,
        "in standard errors of a sample of size S: 4 (six draws)",
        tuple(curves),
        "log10 of the sample size",
        "drive",
    )


CLAIMS = (
    Claim(
        id="C19",
        title="Noise",
        statement="Gaussian noise sigma_k on the features: D_k = sum_n pi_n (s_nk mu_k E_n[lambda] - sigma_k^2 u_k "
        "E_n[lambda (1-lambda)]), expectations over m ~ N(m_n, sum_k sigma_k^2 u_k^2). A sample of size S deviates by "
        "O(S^(-1/2)).",
        latex=(
            r"D_k = \sum_n \pi_n\left(s_{nk}\mu_k E_n[\lambda] - \sigma_k^2 u_k E_n[\lambda(1-\lambda)]\right),\quad m "
            r"\sim N\left(m_n, \sum_k\sigma_k^2u_k^2\right)",
        ),
        assumptions=(
            "independent Gaussian noise on each feature, independent of the label",
            "population loss (S -> infinity); diagonal or any linear-in-x network with coefficients u",
            "u not 0 for the division by the deviation (the formula is continuous there)",
        ),
        proof=_noise,
        controls=(
            Control(
                "sign of the noise term",
                {"noisy_drive": lambda m, g, u, s, p, e, c: theory.noisy_drive(m, g, -u, s, p, e, c)},
            ),
            Control(
                "sigma for sigma^2",
                {"noisy_drive": lambda m, g, u, s, p, e, c: theory.noisy_drive(m, sp.sqrt(g), u, s, p, e, c)},
            ),
            Control(
                "variance for deviation",
                {"noisy_margin_deviation": lambda u, g: theory.noisy_margin_deviation(u, g) ** 2},
            ),
            Control(
                "quadrature at half the deviation",
                {"noisy_expectations": lambda m, d: theory.noisy_expectations(m, d / 2)},
            ),
        ),
        witness=_noise_witness,
        simulation=_noise_simulation,
    ),
)
