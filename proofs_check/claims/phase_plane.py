"""C10: the phase plane; C25: one crossing of the turning point."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import PAPER, Claim, Control
from proofs_check.claims.turning_point import N_OF_A, SCALE, balanced_path
from proofs_check.proof import Proof
from proofs_check.setting import MU, A, a_easy, a_hard, gap, mu_easy, mu_hard, rho
from proofs_check.simulation import (
    Curve,
    Simulation,
    measured,
    rescaled_time,
)
from proofs_check.witness import Draw, Pairs

STRONGER = {mu_easy: mu_hard + gap}


def _plane(p: Proof) -> None:
    rates = on.balanced_flow()
    p.equal(
        "Rates from the loss",
        rates,
        p.f.balanced_rates(MU, A, rho),
        "balanced_rates",
        latex=r"da_k/d\tau = \mu_k a_k (1 - \rho\mu_k/N)",
    )
    z = sp.log(mu_hard * a_hard / (mu_easy * a_easy))
    derived = [sum(sp.diff(x, a) * r for a, r in zip(A, rates, strict=True)) for x in (z, N_OF_A)]
    p.equal(
        "The same in z = ln(mu_h a_h / mu_e a_e) and N, by the chain rule",
        derived,
        p.f.phase_plane_rates(z, N_OF_A, mu_easy, mu_hard, rho),
        "phase_plane_rates",
        latex=r"\dot z = (\mu_e-\mu_h)\left(\frac{\rho(\mu_e+\mu_h)}{N}-1\right),\quad \dot N = N(\mu_e c^2+\mu_h s^2) "
        r"- \rho(\mu_e^2 c^2+\mu_h^2 s^2)",
    )
    source, saddle = p.f.phase_plane_fixed_points(rho)
    for point, name in ((source, "first"), (saddle, "second")):
        p.equal(
            f"The {name} fixed point is at rest",
            [0, 0],
            [sp.simplify(r.subs(dict(zip(A, point, strict=True)))) for r in p.f.balanced_rates(MU, A, rho)],
            "phase_plane_fixed_points",
            latex=r"(\rho/\sqrt{2},\,0)\ \mathrm{and}\ (0,\,\rho/\sqrt{2})",
        )
    jacobian = sp.Matrix(rates).jacobian(sp.Matrix(A))
    for point, wanted, name in (
        (source, (mu_easy, mu_hard * (mu_easy - mu_hard) / mu_easy), "source: both eigenvalues positive"),
        (saddle, (mu_hard, -mu_easy * (mu_easy - mu_hard) / mu_hard), "saddle: one positive, one negative"),
    ):
        values = list(jacobian.subs(dict(zip(A, point, strict=True))).applyfunc(sp.simplify).eigenvals(multiple=True))
        matches = all(any(sp.simplify(v - x) == 0 for v in values) for x in wanted)
        p.is_true(
            f"Eigenvalues of the {name}",
            matches,
            "phase_plane_fixed_points",
            latex=rf"\{{{sp.latex(wanted[0])},\ {sp.latex(wanted[1])}\}}",
        )
        for value in wanted:
            sign = 1 if name.startswith("source") or value is wanted[0] else -1
            p.sign("with the stated sign for mu_e > mu_h", sign * value.subs(STRONGER))
    p.implies(
        "There is no other fixed point with N > 0: inside the quadrant both rates vanish for no N",
        [mu_easy > mu_hard],
        sp.Not(
            sp.And(
                sp.Eq(p.f.log_weight_rate(mu_easy, rho, SCALE), 0), sp.Eq(p.f.log_weight_rate(mu_hard, rho, SCALE), 0)
            )
        ),
        "log_weight_rate",
    )
    p.note(
        "The saddle's stable manifold runs to the source: along it N < N* (C25: N crosses N* only upward, and the "
        "saddle has N = rho mu_h < N*), so z falls monotonically backward in time, inside the bounded ring of C26, and "
        "the only point that it can come from is the source."
    )


def _plane_witness(draw: Draw) -> Pairs:
    mu, a, radius = draw.strengths(), draw.some(2, 0.2, 1.2), draw.between(0.05, 0.6)
    rates = at.tau_rates(mu, a, radius)
    yield from zip(rates, theory.balanced_rates(mu, a, radius), strict=True)

    def along(t: object) -> tuple[object, object]:
        moved = tuple(x + t * r for x, r in zip(a, rates, strict=True))
        return mpmath.log(mu[1] * moved[1] / (mu[0] * moved[0])), theory.balanced_gradient_scale(mu, moved)

    claimed = theory.phase_plane_rates(*along(mpmath.mpf(0)), mu[0], mu[1], radius)
    for i in range(2):
        yield at.derivative(lambda t, i=i: along(t)[i], mpmath.mpf(0)), claimed[i]


def _plane_simulation() -> Simulation:
    """Near the saddle the weights leave and approach with the eigenvalues' rates."""
    mu, radius, eta, small = np.array([2.0, 1.0]), 0.5, 0.002, 1e-4
    rest = theory.sam_shift(radius)
    a = balanced_path(mu, radius, [[small, rest], [0.0, rest + small]], eta, 600)
    tau = rescaled_time(a[0], mu, radius, eta)
    approach = Curve("ln a_e near the saddle", tau, -mu[0] * (mu[0] - mu[1]) / mu[1] * tau, np.log(a[0, :, 0] / small))
    tau = rescaled_time(a[1], mu, radius, eta)
    leave = Curve("ln (a_h - rho/sqrt2)", tau, mu[1] * tau, np.log((a[1, :, 1] - rest) / small))
    return measured([approach, leave], eta + 10 * small, "first order in eta and in the start", "tau", "log distance")


def _one_crossing(p: Proof) -> None:
    z = sp.Symbol("z", real=True)
    threshold = p.f.balance_threshold(rho, mu_easy, mu_hard)
    rates = on.balanced_flow()
    derived = sum(sp.diff(N_OF_A, a) * r for a, r in zip(A, rates, strict=True))
    p.equal(
        "dN/dtau from the loss is the phase-plane rate",
        derived,
        p.f.phase_plane_rates(sp.log(mu_hard * a_hard / (mu_easy * a_easy)), N_OF_A, mu_easy, mu_hard, rho)[1],
        "phase_plane_rates",
    )
    p.equal(
        "At N = N* it does not depend on the angle",
        p.f.crossing_speed(rho, mu_easy, mu_hard),
        p.f.phase_plane_rates(z, threshold, mu_easy, mu_hard, rho)[1],
        "crossing_speed / balance_threshold",
        latex=r"\dot N\,|_{N = N^*} = \rho\,\mu_e\mu_h",
    )
    p.sign(
        "and is positive: N crosses N* once at most, upward",
        p.f.crossing_speed(rho, mu_easy, mu_hard),
        "crossing_speed",
    )


def _one_crossing_witness(draw: Draw) -> Pairs:
    mu, a, radius = draw.strengths(), draw.some(2, 0.2, 1.2), draw.between(0.05, 0.6)
    factor = theory.balance_threshold(radius, *mu) / theory.balanced_gradient_scale(mu, a)
    a = tuple(factor * x for x in a)  # on the line N = N*
    rates = at.tau_rates(mu, a, radius)
    speed = at.derivative(
        lambda t: theory.balanced_gradient_scale(mu, [x + t * r for x, r in zip(a, rates, strict=True)]), mpmath.mpf(0)
    )
    yield speed, theory.crossing_speed(radius, *mu)


def _one_crossing_simulation() -> Simulation:
    """Thirty starts on N = N*: the measured dN/dtau is the same for all."""
    mu, radius, eta = np.array([2.0, 1.0]), 0.5, 1e-4
    angle = np.linspace(0.05, np.pi / 2 - 0.05, 30)
    b = theory.balance_threshold(radius, *mu) / np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    a = balanced_path(mu, radius, (b / mu).tolist(), eta, 1)
    N = theory.balanced_gradient_scale(mu, np.moveaxis(a, -1, 0))
    tau = np.array([rescaled_time(x, mu, radius, eta)[1] for x in a])
    claimed = np.full(30, theory.crossing_speed(radius, *mu))
    curve = Curve("dN/dtau at N*", angle, claimed, (N[:, 1] - N[:, 0]) / tau)
    return measured([curve], eta, "first order in eta (C20)", "angle of (mu_e a_e, mu_h a_h)", "dN/dtau")


CLAIMS = (
    Claim(
        id="C10",
        title="Phase plane",
        statement="In z = ln(mu_h a_h / mu_e a_e) and N the flow is dz/dtau = (mu_e - mu_h)(rho (mu_e + mu_h)/N - 1), "
        "dN/dtau = N (mu_e c^2 + mu_h s^2) - rho (mu_e^2 c^2 + mu_h^2 s^2). Fixed points: (rho/sqrt2, 0), a source, "
        "and (0, rho/sqrt2), a saddle whose stable manifold is the collapse boundary.",
        latex=(
            r"\dot z = (\mu_e-\mu_h)\left(\rho(\mu_e+\mu_h)/N - 1\right), \quad \dot N = N(\mu_e c^2 + \mu_h s^2) - "
            r"\rho(\mu_e^2 c^2 + \mu_h^2 s^2)",
            r"\mathrm{source}\ (\rho/\sqrt{2}, 0): \mu_e,\ \mu_h(\mu_e-\mu_h)/\mu_e; \quad \mathrm{saddle}\ (0, "
            r"\rho/\sqrt{2}): \mu_h,\ -\mu_e(\mu_e-\mu_h)/\mu_h",
        ),
        assumptions=(
            "flow; balanced weights, one atom kind",
            "mu_e > mu_h: for equal strengths the whole circle is at rest",
        ),
        source=f"derived here; {PAPER} has the toy setting",
        proof=_plane,
        controls=(
            Control(
                "sine and cosine exchanged",
                {"phase_plane_rates": lambda z, n, e, h, r: theory.phase_plane_rates(-z, n, e, h, r)},
            ),
            Control("fixed points at rho", {"phase_plane_fixed_points": lambda r: ((r, 0), (0, r))}),
            Control(
                "source and saddle exchanged",
                {"phase_plane_fixed_points": lambda r: theory.phase_plane_fixed_points(r)[::-1]},
            ),
        ),
        witness=_plane_witness,
        simulation=_plane_simulation,
    ),
    Claim(
        id="C25",
        title="One crossing of the turning point",
        statement="Wherever N = N*, dN/dtau = rho mu_e mu_h > 0. So N crosses N* at most once and upward, the ratio "
        "a_h/a_e has at most one maximum, a run with N(0) >= N* never gains on the easy feature and never collapses.",
        latex=(r"\dot N\,|_{N=N^*} = \rho\,\mu_e\,\mu_h > 0",),
        assumptions=("flow; balanced weights, two features, one atom kind",),
        proof=_one_crossing,
        controls=(
            Control("factor 2", {"crossing_speed": lambda r, e, h: 2 * r * e * h}),
            Control("mu_e for mu_h", {"crossing_speed": lambda r, e, h: r * e * e}),
        ),
        witness=_one_crossing_witness,
        simulation=_one_crossing_simulation,
    ),
)
