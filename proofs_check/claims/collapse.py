"""C26 and C27: bounds on who collapses, and the collapse boundary near the saddle."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import DERIVED, Claim, Control
from proofs_check.proof import TAYLOR, Proof
from proofs_check.setting import A, Training, a_easy, a_hard, gap, mu_easy, mu_hard, rho
from proofs_check.simulation import Curve, Simulation, diagonal_run, measured
from proofs_check.witness import Draw, Pairs


def _bounds(p: Proof) -> None:
    theta = sp.Matrix(sp.symbols("theta_1:4", real=True))
    form = sp.Matrix(3, 3, lambda i, j: sp.Symbol(f"A_{min(i, j) + 1}{max(i, j) + 1}", real=True))
    margin = (theta.T * form * theta)[0] / 2  # the margin of any two-layer linear network on one atom
    training = Training(tuple(theta), (margin,), (sp.Integer(1),))
    # theta . update / lambda~, with N = ||grad m|| kept as a symbol: the phantom point is theta - rho grad m / N
    N, length = sp.symbols("N n", positive=True)
    slope = [sp.diff(margin, t) for t in theta]
    phantom = {t: t - rho * s / N for t, s in zip(theta, slope, strict=True)}
    update = [x / training.lam_phantom[0] for x in training.update(phantom)]
    rate = 2 * sum(t * x for t, x in zip(theta, update, strict=True))
    squared = sum(s**2 for s in slope)
    p.equal(
        "Any margin that is a quadratic form: the rate of ||theta||^2",
        rate.subs(N, sp.sqrt(squared)),
        p.f.squared_norm_rate(margin, rho, sp.sqrt(squared)),
        "squared_norm_rate",
        latex=r"\frac{d}{d\tau}\|\theta\|^2 = 2\,\theta\cdot\nabla m(\theta - \rho\nabla m/N) = 2(2m - \rho N),\quad N "
        r"= \|\nabla m\|",
    )
    p.equal(
        "Euler's relation for a quadratic form",
        2 * margin,
        sum(t * s for t, s in zip(theta, slope, strict=True)),
        latex=r"2m = \theta\cdot\nabla m",
    )
    x, y = sp.symbols("x_1:4", real=True), sp.symbols("y_1:4", real=True)
    lagrange = sum((x[i] * y[j] - x[j] * y[i]) ** 2 for i in range(3) for j in range(i))
    p.equal(
        "Cauchy-Schwarz (Lagrange's identity): 2m <= ||theta|| N",
        sum(t**2 for t in x) * sum(t**2 for t in y) - sum(s * t for s, t in zip(x, y, strict=True)) ** 2,
        lagrange,
        latex=r"(\theta\cdot\nabla m)^2 \leq \|\theta\|^2 N^2",
    )
    m = sp.Symbol("m", real=True)
    inner, outer = p.f.collapse_radii(rho, mu_easy, mu_hard)
    p.implies(
        "so inside the inner radius the norm falls",
        [2 * m <= length * N, length < inner],
        p.f.squared_norm_rate(m, rho, N) < 0,
        "squared_norm_rate / collapse_radii",
        latex=r"\|\theta\| < \rho\ \Rightarrow\ \frac{d}{d\tau}\|\theta\|^2 \leq 2N(\|\theta\| - \rho) < 0",
    )
    easy_part, hard_part = sp.symbols("n_e n_h", positive=True)  # v_k^2 + w_k^2 of the two features
    p.implies(
        "In the diagonal network N >= mu_h ||theta||, so nothing but 0 stops the fall",
        [mu_easy >= mu_hard],
        mu_easy**2 * easy_part + mu_hard**2 * hard_part >= mu_hard**2 * (easy_part + hard_part),
        latex=r"N^2 = \sum_k\mu_k^2(v_k^2+w_k^2) \geq \mu_h^2\|\theta\|^2",
    )
    start = sp.Symbol("n_0", positive=True)
    bound = p.f.collapse_time_bound(start, rho, mu_hard)
    p.equal(
        "Then rho - ||theta|| grows at least like e^(mu_h tau), to rho at the latest at",
        rho,
        sp.simplify((rho - start) * sp.exp(mu_hard * bound)),
        "collapse_time_bound",
        latex=r"\tau_{collapse} \leq \frac{1}{\mu_h}\ln\frac{\rho}{\rho - \|\theta(0)\|}",
    )
    _outer(p, outer)


def _outer(p: Proof, outer: sp.Expr) -> None:
    """Balanced weights, any number of features with strengths in [mu_h, mu_e]: Kantorovich's inequality."""
    strength, mean = sp.symbols("mu X", positive=True)
    p.implies(
        "Every strength in [mu_h, mu_e] lies below the chord of its square",
        [strength >= mu_hard, strength <= mu_easy],
        strength**2 <= (mu_easy + mu_hard) * strength - mu_easy * mu_hard,
        latex=r"\mu^2 \leq (\mu_e+\mu_h)\mu - \mu_e\mu_h,\ \mathrm{so}\ E\mu^2 \leq (\mu_e+\mu_h)E\mu - \mu_e\mu_h",
    )
    # average over q_k = a_k^2/||a||^2, X = E mu: outer^2 X^2 - rho^2 E mu^2 >= rho^2 (...)^2 / (4 mu_e mu_h)
    chord = (mu_easy + mu_hard) * mean - mu_easy * mu_hard
    surplus = outer**2 * mean**2 - rho**2 * chord
    square = rho**2 * ((mu_easy + mu_hard) * mean - 2 * mu_easy * mu_hard) ** 2 / (4 * mu_easy * mu_hard)
    p.equal(
        "Kantorovich: what is left is a square",
        surplus,
        square,
        "collapse_radii",
        latex=r"r_{out}^2\,(E\mu)^2 - \rho^2 E\mu^2 \geq \frac{\rho^2((\mu_e+\mu_h)E\mu - 2\mu_e\mu_h)^2}{4\mu_e\mu_h} "
        r"\geq 0",
    )
    p.sign("and not negative", square.subs(mean, sp.Symbol("X", real=True)), at_least=True)
    rates = on.balanced_flow()
    norm = sp.sqrt(2) * on.length(A)
    first = (mu_easy * a_easy**2 + mu_hard * a_hard**2) / (a_easy**2 + a_hard**2)
    second = (mu_easy**2 * a_easy**2 + mu_hard**2 * a_hard**2) / (a_easy**2 + a_hard**2)
    p.equal(
        "Balanced, the rate of the norm is ||theta|| E mu - rho sqrt(E mu^2), which is positive beyond the outer "
        "radius",
        sum(sp.diff(norm, a) * r for a, r in zip(A, rates, strict=True)),
        norm * first - rho * sp.sqrt(second),
        latex=r"\frac{d\|\theta\|}{d\tau} = \|\theta\|\,E\mu - \rho\sqrt{E\mu^2}",
    )
    best = mu_hard / (mu_easy + mu_hard)  # the share at which Kantorovich is an equality
    mix = best * mu_easy + (1 - best) * mu_hard
    p.equal(
        "The outer radius cannot be smaller by this argument: one direction attains it",
        outer**2 * mix**2,
        rho**2 * (best * mu_easy**2 + (1 - best) * mu_hard**2),
        "collapse_radii",
    )


def _bounds_witness(draw: Draw) -> Pairs:
    mu, theta, radius = draw.strengths(), draw.some(4, 0.2, 1.0), draw.between(0.1, 0.6)
    loss = at.loss(on.REDUNDANT, mu)
    phantom = at.sam_point(loss, theta, radius)
    lam = at.weights(on.REDUNDANT, mu, phantom)[0]
    rate = 2 * sum(-t * g for t, g in zip(theta, at.gradient(loss, phantom), strict=True)) / lam
    margin = on.margins(at.layers_of(theta), on.REDUNDANT, mu)[0]
    yield rate, theory.squared_norm_rate(margin, radius, theory.gradient_scale(mu, theta[:2], theta[2:]))
    inner, outer = theory.collapse_radii(radius, *mu)
    yield inner, radius
    share = mu[1] / (mu[0] + mu[1])
    a = tuple(outer / mpmath.sqrt(2) * mpmath.sqrt(q) for q in (share, 1 - share))  # where the bound is attained
    rates = at.tau_rates(mu, a, radius)
    yield sum(x * r for x, r in zip(a, rates, strict=True)), mpmath.mpf(0)
    norm = radius * draw.between(0.2, 0.9)
    yield (radius - norm) * mpmath.exp(mu[1] * theory.collapse_time_bound(norm, radius, mu[1])), radius


def _bounds_simulation() -> Simulation:
    """Starts just inside the inner radius collapse, unbalanced ones too; starts just outside the outer one do not."""
    mu, radius, eta = np.array([3.0, 1.0]), 0.5, 0.01
    angle = np.linspace(0.1, np.pi / 2 - 0.1, 12)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1) / np.sqrt(2)
    inner, outer = theory.collapse_radii(radius, *mu)
    tilt = np.sqrt(1 + np.array([0.3, -0.3]) * np.cos(3 * angle)[:, None])  # v and w of one norm, not equal
    first = np.concatenate([0.97 * inner * direction * tilt[:, :1], 1.03 * outer * direction])
    last = np.concatenate([0.97 * inner * direction * tilt[:, 1:], 1.03 * outer * direction])
    result = diagonal_run(mu, (first, last), eta=eta, steps=4000, every=4000, rho=radius)
    survived = (result.coefficients.max(axis=1) > 0.02).astype(float)
    claimed = np.repeat([0.0, 1.0], 12)
    curve = Curve("survives (1) or collapses (0)", np.concatenate([angle, angle + np.pi / 2]), claimed, survived)
    return measured([curve], 0.0, "every one of 24 runs", "angle of the start (inside, then outside)", "survives")


def _near_saddle(p: Proof) -> None:
    rates = on.balanced_flow()
    boundary = p.f.collapse_boundary_near_saddle(a_easy, mu_easy, mu_hard, rho)
    defect = rates[1].subs(a_hard, boundary) - sp.diff(boundary, a_easy) * rates[0].subs(a_hard, boundary)
    for order in range(3):
        p.equal(
            f"The curve is carried along by the flow: term of order {order} in a_e",
            0,
            sp.simplify(sp.diff(defect, a_easy, order).subs(a_easy, 0)),
            "collapse_boundary_near_saddle",
            latex=r"\dot a_h - \frac{da_h}{da_e}\dot a_e = O(a_e^4)" if order == 2 else "",
            method=TAYLOR,
        )
    p.equal(
        "It starts at the saddle",
        p.f.phase_plane_fixed_points(rho)[1][1],
        boundary.subs(a_easy, 0),
        "collapse_boundary_near_saddle / phase_plane_fixed_points",
    )
    circle = rho / sp.sqrt(2) - a_easy**2 / (sp.sqrt(2) * rho)
    p.sign(
        "and lies outside the circle ||theta|| = rho, as C26 wants",
        sp.simplify((boundary - circle).subs(mu_easy, mu_hard + gap)),
        "collapse_boundary_near_saddle",
        latex=r"\kappa = \frac{\mu_e^2}{\mu_e^2 + (\mu_e-\mu_h)^2} < 1",
    )


def _near_saddle_witness(draw: Draw) -> Pairs:
    """The defect is even in a_e and its a_e^2 term vanishes: Richardson-free, by its size at a_e = 1e-10."""
    mu, radius = draw.strengths(), draw.between(0.1, 0.6)
    small = mpmath.mpf(10) ** -10
    boundary = theory.collapse_boundary_near_saddle(small, mu[0], mu[1], radius)
    rates = at.tau_rates(mu, (small, boundary), radius)
    slope = at.derivative(lambda x: theory.collapse_boundary_near_saddle(x, mu[0], mu[1], radius), small)
    yield rates[1], slope * rates[0]


def _near_saddle_simulation() -> Simulation:
    """Bisection for the a_h that separates collapse from growth, at three small a_e."""
    mu, radius, eta = np.array([2.0, 1.0]), 0.5, 0.02
    starts = np.array([0.03, 0.06, 0.09])
    claimed = theory.collapse_boundary_near_saddle(starts, mu[0], mu[1], radius)
    low, high = claimed - 0.02, claimed + 0.02
    for _ in range(3):
        candidates = np.linspace(low, high, 14)[1:-1]
        a0 = np.stack([np.broadcast_to(starts, candidates.shape), candidates], axis=-1).reshape(-1, 2)
        result = diagonal_run(mu, (a0, a0), eta=eta, steps=1200, every=1200, rho=radius)
        survived = (result.coefficients.max(axis=1) > (radius**2) / 2).reshape(candidates.shape)
        first = survived.argmax(axis=0)
        columns = np.arange(3)
        grid = np.concatenate([low[None], candidates, high[None]])
        low, high = grid[first, columns], grid[first + 1, columns]
    bound = 4 * float(starts.max()) ** 4 / radius**3
    curve = Curve("collapse boundary", starts, claimed, (low + high) / 2)
    return measured([curve], bound, "4 a_e^4/rho^3, the size of the next term", "a_e", "a_h")


CLAIMS = (
    Claim(
        id="C26",
        title="Bounds on collapse",
        statement="On one atom kind d||theta||^2/dtau = 2 (2m - rho N) <= 2 N (||theta|| - rho) for every two-layer "
        "linear network. So every start of the diagonal network with ||theta|| < rho collapses, by tau = ln(rho/(rho - "
        "||theta||))/mu_h at the latest. Balanced, every start with ||theta|| > rho (mu_e + mu_h)/(2 sqrt(mu_e mu_h)) "
        "survives. The collapse boundary lies in this ring.",
        latex=(
            r"\frac{d}{d\tau}\|\theta\|^2 = 2(2m - \rho N) \leq 2N(\|\theta\| - \rho)",
            r"\|\theta\| < \rho:\ \mathrm{collapse};\qquad \|\theta\| > "
            r"\rho\,\frac{\mu_e+\mu_h}{2\sqrt{\mu_e\mu_h}}:\ \mathrm{survival}",
        ),
        assumptions=(
            "flow; one atom kind; inner radius: any balance, diagonal network (then N >= mu_h ||theta||); the rate and "
            "the bound on it: any two-layer linear network",
            "outer radius: balanced diagonal; for K features mu_e and mu_h are the largest and the smallest strength",
        ),
        remark="For mu = (2, 1) the outer radius is 6.1 % above rho, for (3, 1) 15.5 %. With a full first layer only "
        "the part of W along x counts in ||theta||: the part across x never moves (C36).",
        source=DERIVED,
        proof=_bounds,
        controls=(
            Control(
                "factor 2 in the rate", {"squared_norm_rate": lambda m, r, n: theory.squared_norm_rate(m, r, n) / 2}
            ),
            Control("N with the wrong sign", {"squared_norm_rate": lambda m, r, n: theory.squared_norm_rate(m, -r, n)}),
            Control(
                "inner radius 2 rho", {"collapse_radii": lambda r, e, h: (2 * r, theory.collapse_radii(r, e, h)[1])}
            ),
            Control("outer radius rho", {"collapse_radii": lambda r, e, h: (r, r)}),
            Control(
                "mu_e for mu_h", {"collapse_time_bound": lambda n, r, h: theory.collapse_time_bound(n, r, mu_easy)}
            ),
        ),
        witness=_bounds_witness,
        simulation=_bounds_simulation,
    ),
    Claim(
        id="C27",
        title="Collapse boundary near the saddle",
        statement="For small a_e the collapse boundary is a_h = rho/sqrt2 - kappa a_e^2/(sqrt2 rho) + O(a_e^4) with "
        "kappa = mu_e^2/(mu_e^2 + (mu_e - mu_h)^2) < 1 (the circle ||theta|| = rho has kappa = 1).",
        latex=(
            r"a_h = \frac{\rho}{\sqrt{2}} - \frac{\kappa\,a_e^2}{\sqrt{2}\,\rho} + O(a_e^4),\quad \kappa = "
            r"\frac{\mu_e^2}{\mu_e^2+(\mu_e-\mu_h)^2}",
        ),
        assumptions=(
            "flow; balanced weights, one atom kind, mu_e > mu_h",
            "the stable manifold of a hyperbolic saddle is as smooth as the field and even in a_e by symmetry",
        ),
        source=DERIVED,
        proof=_near_saddle,
        controls=(
            Control(
                "kappa of the circle",
                {"collapse_boundary_near_saddle": lambda a, e, h, r: r / sp.sqrt(2) - a**2 / (sp.sqrt(2) * r)},
            ),
            Control(
                "mu_h for mu_e",
                {"collapse_boundary_near_saddle": lambda a, e, h, r: theory.collapse_boundary_near_saddle(a, h, e, r)},
            ),
        ),
        witness=_near_saddle_witness,
        simulation=_near_saddle_simulation,
    ),
)
