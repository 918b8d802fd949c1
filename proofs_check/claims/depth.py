"""C23: balanced networks of any depth; C35: what the parity of the depth decides."""

from __future__ import annotations

import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import DERIVED, Claim, Control
from proofs_check.claims.turning_point import SCALE
from proofs_check.proof import INDUCTION, Proof
from proofs_check.setting import MU, A, Training, mu_easy, mu_hard, rho, tau
from proofs_check.simulation import Curve, Simulation, diagonal_run, measured, recorded_layers
from proofs_check.witness import Draw, Pairs

DEPTH = sp.Symbol("L", integer=True, positive=True)


def _depth(p: Proof) -> None:
    # One layer x is written apart from the L - 1 others, which are all equal to a; by symmetry each layer is like it.
    x = sp.symbols("x_e x_h", positive=True)
    margin = sum(m * t * a ** (DEPTH - 1) for m, t, a in zip(MU, x, A, strict=True))
    training = Training(x, (margin,), (sp.Integer(1),))
    gradient = training.gradient()
    lam, lam_phantom = training.lam[0], training.lam_phantom[0]
    scale = p.f.depth_gradient_scale(MU, A, DEPTH)
    p.equal(
        "L equal layers: R^2 is L times one layer's",
        DEPTH * sum(g**2 for g in gradient),
        (lam * scale) ** 2,
        "depth_gradient_scale",
        latex=r"R = \lambda N_L,\quad N_L = \sqrt{L\sum_k\mu_k^2a_k^{2(L-1)}}",
        method=INDUCTION,
    )
    N = sp.Symbol("N_L", positive=True)
    phantom = [a + rho * g / (lam * N) for a, g in zip(A, gradient, strict=True)]
    for k, m in enumerate(MU):
        strength = p.f.effective_strength(m, A[k], DEPTH)
        p.equal(
            "Phantom weight: chi_k = 1 - rho m_k/N_L with the effective strength m_k",
            sp.powsimp(sp.expand(phantom[k] / A[k])),
            1 - rho * strength / N,
            "effective_strength",
            latex=r"\tilde a_k = (1 - \rho m_k/N_L)\,a_k,\quad m_k = \mu_k a_k^{L-2}",
        )
        chi = sp.Symbol("chi", positive=True)
        rate = -training.gradient((lam_phantom,))[k].subs(
            dict(zip(A, (chi * a for a in A), strict=True)), simultaneous=True
        )
        claimed = p.f.depth_log_weight_rate(m, A[k], rho, N, DEPTH).subs(rho, (1 - chi) * N / (m * A[k] ** (DEPTH - 2)))
        p.equal(
            "Rate at the phantom point, in terms of chi_k",
            sp.powsimp(sp.expand_power_base(rate / lam_phantom / A[k], force=True)),
            sp.powsimp(sp.simplify(claimed)),
            "depth_log_weight_rate",
            latex=r"\frac{d\ln a_k}{d\tau} = m_k\left(1 - \frac{\rho m_k}{N_L}\right)^{L-1}",
        )
    for depth in (2, 3, 4):
        _outright(p, depth)
    p.equal(
        "Depth 2 is C2",
        p.f.log_weight_rate(mu_easy, rho, SCALE),
        p.f.depth_log_weight_rate(mu_easy, A[0], rho, SCALE, 2),
        "depth_log_weight_rate / log_weight_rate",
    )


def _outright(p: Proof, depth: int) -> None:
    """The same with ``depth`` separate layers and every derivative taken."""
    layers = [sp.symbols(f"w{layer}_e w{layer}_h", positive=True) for layer in range(depth)]
    training = Training.diagonal(layers, on.REDUNDANT, MU)
    same = {t: A[i % 2] for i, t in enumerate(training.parameters)}
    update = training.update(training.phantom_point())[:2]
    scale = p.f.depth_gradient_scale(MU, A, depth)
    p.equal(
        f"Depth {depth} outright, all layers separate parameters",
        [x.subs(same) / a / training.lam_phantom[0] for x, a in zip(update, A, strict=True)],
        [p.f.depth_log_weight_rate(m, a, rho, scale, depth) for m, a in zip(MU, A, strict=True)],
        "depth_log_weight_rate / depth_gradient_scale",
    )


def _depth_witness(draw: Draw) -> Pairs:
    mu, a, radius = draw.strengths(3), draw.some(3, 0.4, 1.2), draw.between(0.05, 0.3)
    for depth in (2, 3, 5):
        rates = at.tau_rates(mu, a, radius, depth)
        scale = theory.depth_gradient_scale(mu, a, depth)
        for k in range(3):
            yield rates[k] / a[k], theory.depth_log_weight_rate(mu[k], a[k], radius, scale, depth)


def _depth_simulation() -> Simulation:
    mu, radius, eta = np.array([2.0, 1.0]), 0.2, 0.01
    curves = []
    for depth in (3, 4):
        a = recorded_layers(diagonal_run(mu, ([0.6, 0.7],) * depth, eta=eta, steps=300, rho=radius))[0][0]
        scale = theory.depth_gradient_scale(mu, a.T, depth)
        phantom = a * (1 - radius * theory.effective_strength(mu, a, depth) / scale[:, None])
        lam = 1 / (1 + np.exp((phantom**depth) @ mu))
        for k, name in enumerate(("easy", "hard")):
            claimed = theory.depth_log_weight_rate(mu[k], a[:, k], radius, scale, depth)[:-1]
            seen = np.diff(a[:, k]) / (eta * lam[:-1] * a[:-1, k])
            curves.append(Curve(f"L = {depth}, {name}", np.arange(300)[::10] * eta, claimed[::10], seen[::10]))
    return measured(curves, 1e-9, "rounding in float64", "time", "d ln a/dtau")


def _parity(p: Proof) -> None:
    n = sp.Symbol("n", integer=True, positive=True)
    strength, a = sp.symbols("mu a", positive=True)
    chi = 1 - rho * p.f.effective_strength(strength, a, 2 * n + 1) / SCALE
    odd = p.f.depth_log_weight_rate(strength, a, rho, SCALE, 2 * n + 1)
    p.equal(
        "Odd depth L = 2n + 1: the rate is m_k chi_k^(2n)",
        odd,
        p.f.effective_strength(strength, a, 2 * n + 1) * (chi**2) ** n,
        "depth_log_weight_rate",
        latex=r"\frac{d\ln a_k}{d\tau} = m_k\chi_k^{2n} \geq 0",
    )
    p.sign(
        "which is never negative: no balanced feature shrinks, there is no collapse",
        odd,
        "depth_log_weight_rate",
        at_least=True,
    )
    for depth in (2, 3, 4, 5):
        rate = a * p.f.depth_log_weight_rate(
            strength, a, rho, p.f.depth_gradient_scale((strength,), (a,), depth), depth
        )
        p.equal(
            f"One feature, L = {depth}: the phantom weight obeys GD's equation of that depth",
            rate,
            strength * (a - p.f.depth_shift(rho, depth)) ** (depth - 1),
            "depth_shift / depth_log_weight_rate",
            latex=r"\frac{d\tilde a}{d\tau} = \mu\tilde a^{L-1},\quad \tilde a = a - \rho/\sqrt{L}",
        )
    start = sp.Symbol("a_0", positive=True)
    for depth in (3, 4, 5):
        solution = p.f.depth_weight(tau, start, strength, rho, depth)
        shift = p.f.depth_shift(rho, depth)
        base = sp.Symbol("b", positive=True)
        # b = a~(0) > 0; the other sign is covered by the witness and by the same algebra with b -> -b
        moved = solution.subs(start, base + shift) - shift
        p.equal(
            f"solved for L = {depth} by the closed form",
            sp.simplify(sp.diff(moved, tau) / moved ** (depth - 1)),
            strength,
            "depth_weight",
            latex=r"\tilde a(\tau) = \tilde a_0\left(1 - (L-2)\mu\tau\,\tilde a_0^{L-2}\right)^{-1/(L-2)}",
        )
        p.equal("from a(0)", start, sp.simplify(solution.subs(tau, 0)), "depth_weight")
    p.note(
        "From below the threshold (a~(0) < 0), odd L: a~ rises to 0 like tau^(-1/(L-2)) and never passes it, so the "
        "weight stalls at rho/sqrt(L). Even L: a~ falls and a reaches 0 in a finite tau. Near a = 0 the speed is mu "
        "(rho/sqrt(L))^(L-1), upward for odd L: there SAM leaves the plateau at 0 on which GD would wait."
    )


def _parity_witness(draw: Draw) -> Pairs:
    mu, radius, time = draw.between(0.5, 2), draw.between(0.3, 0.6), draw.between(0.1, 0.5)
    for depth in (3, 4, 5):
        for start in (draw.between(0.5, 0.7), theory.depth_shift(radius, depth) * draw.between(0.6, 0.9)):
            a = theory.depth_weight(time, start, mu, radius, depth)
            speed = at.derivative(lambda t, s=start, d=depth: theory.depth_weight(t, s, mu, radius, d), time)
            yield speed, at.tau_rates((mu,), (a,), radius, depth)[0]


def _parity_simulation() -> Simulation:
    """From below the threshold: depth 3 stalls at rho/sqrt(3), depth 4 collapses; above, both grow."""
    mu, radius, eta, steps = 2.0, 0.6, 0.002, 1500
    curves = []
    for depth, starts in ((3, (0.1, 0.45)), (4, (0.2, 0.6))):
        for start in starts:
            a = recorded_layers(diagonal_run((mu,), ([start],) * depth, eta=eta, steps=steps, rho=radius))[0][0, :, 0]
            phantom = a - theory.depth_shift(radius, depth)
            clock = np.concatenate([[0], np.cumsum(eta / (1 + np.exp(mu * phantom**depth)))[:-1]])
            shown = np.flatnonzero(a > 0.05)[::60]
            curves.append(
                Curve(
                    f"L = {depth}, a(0) = {start}",
                    clock[shown],
                    theory.depth_weight(clock[shown], start, mu, radius, depth),
                    a[shown],
                )
            )
    return measured(curves, eta, "first order in eta (C20)", "tau", "a")


CLAIMS = (
    Claim(
        id="C23",
        title="Depth",
        statement="Balanced depth L, u_k = a_k^L: R = lambda N_L with N_L = sqrt(L sum_k mu_k^2 a_k^(2(L-1))) and d ln "
        "a_k/dtau = m_k (1 - rho m_k/N_L)^(L-1) with the effective strength m_k = mu_k a_k^(L-2).",
        latex=(
            r"N_L = \sqrt{L\sum_k\mu_k^2a_k^{2(L-1)}},\quad \frac{d\ln a_k}{d\tau} = m_k\left(1-\frac{\rho "
            r"m_k}{N_L}\right)^{L-1},\quad m_k = \mu_ka_k^{L-2}",
        ),
        assumptions=(
            "flow; all L layers equal, a_k > 0; one atom kind; L >= 2 whole",
            "where chi_k < 0 the parity of L decides the sign of the rate (C35)",
        ),
        proof=_depth,
        controls=(
            Control(
                "power L for L - 1",
                {
                    "depth_log_weight_rate": lambda m, a, r, n, d: (
                        theory.depth_log_weight_rate(m, a, r, n, d) * (1 - r * theory.effective_strength(m, a, d) / n)
                    )
                },
            ),
            Control(
                "norm of one layer",
                {"depth_gradient_scale": lambda m, a, d: theory.depth_gradient_scale(m, a, d) / sp.sqrt(d)},
            ),
            Control("strength without depth", {"effective_strength": lambda m, a, d: m}),
            Control("mu_h for mu_e", {"effective_strength": lambda m, a, d: mu_hard * a ** (d - 2)}),
        ),
        witness=_depth_witness,
        simulation=_depth_simulation,
    ),
    Claim(
        id="C35",
        title="Odd depth does not collapse",
        statement="At odd depth no balanced feature ever shrinks under SAM. One feature: a~ = a - rho/sqrt(L) obeys "
        "da~/dtau = mu a~^(L-1), the GD equation of depth L, so below rho/sqrt(L) the weight rises to rho/sqrt(L) and "
        "stalls there (L odd) or collapses (L even); for L >= 3 a(tau) = rho/sqrt(L) + b (1 - (L-2) mu tau "
        "b^(L-2))^(-1/(L-2)), b = a(0) - rho/sqrt(L).",
        latex=(
            r"L\ \mathrm{odd}:\ \frac{d\ln a_k}{d\tau} = m_k\chi_k^{L-1} \geq 0",
            r"\frac{d\tilde a}{d\tau} = \mu\tilde a^{L-1},\ \tilde a = a - \frac{\rho}{\sqrt{L}}:\quad \tilde a(\tau) "
            r"= \tilde a_0\left(1-(L-2)\mu\tau\,\tilde a_0^{L-2}\right)^{-1/(L-2)}",
        ),
        assumptions=(
            "flow; all layers equal and positive (not stable against imbalance in general); one atom kind",
            "closed form: one feature, shown for L = 3, 4, 5 (depth 2 is C9)",
        ),
        source=DERIVED,
        proof=_parity,
        controls=(
            Control(
                "power L for L - 1",
                {
                    "depth_log_weight_rate": lambda m, a, r, n, d: (
                        theory.depth_log_weight_rate(m, a, r, n, d) * (1 - r * theory.effective_strength(m, a, d) / n)
                    )
                },
            ),
            Control("shift rho/L", {"depth_shift": lambda r, d: r / d}),
            Control(
                "sign in the closed form", {"depth_weight": lambda t, s, m, r, d: theory.depth_weight(-t, s, m, r, d)}
            ),
        ),
        witness=_parity_witness,
        simulation=_parity_simulation,
    ),
)
