"""C20: the step is Euler's method; C31: what holds at any step size; C32: how far down a collapse goes."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import DERIVED, Claim, Control
from proofs_check.claims.turning_point import SCALE
from proofs_check.proof import TAYLOR, Proof
from proofs_check.setting import MU, A, Training, V, W, eta, mu_easy, mu_hard, rho, tau
from proofs_check.simulation import Curve, Simulation, diagonal_run, measured, recorded_layers
from proofs_check.witness import Draw, Pairs


def _order(p: Proof) -> None:
    one = Training.diagonal((V, W), on.REDUNDANT, MU)
    step = [on.balanced(eta * x) for x in one.update(one.phantom_point())[:2]]
    p.equal(
        "A step from the loss is an Euler step of length eta lambda~ in tau",
        step,
        [eta * one.lam_phantom[0] * r for r in p.f.balanced_rates(MU, A, rho)],
        "balanced_rates",
        latex=r"a_k' = a_k + \eta\tilde\lambda\;\frac{da_k}{d\tau}",
    )
    rates = on.balanced_flow()
    second = [sum(sp.diff(r, a) * x for a, x in zip(A, rates, strict=True)) for r in rates]
    p.equal(
        "The flow's second derivative, by the chain rule",
        second,
        p.f.flow_acceleration(MU, A, rho),
        "flow_acceleration",
        latex=r"\frac{d^2a_k}{d\tau^2} = \mu_k^2 a_k\left(\chi_k^2 + \frac{\rho \dot N}{N^2}\right)",
        method=TAYLOR,
    )
    start = sp.Symbol("a_0", positive=True)
    exact_flow = p.f.sam_weight(tau, start, mu_easy, rho)
    euler = start + tau * p.f.balanced_rates((mu_easy,), (start,), rho)[0]
    error = sp.series(exact_flow - euler, tau, 0, 3).removeO()
    p.equal(
        "On one feature the exact flow (C9) leaves the Euler step at second order by half of it",
        error,
        tau**2 / 2 * p.f.flow_acceleration((mu_easy,), (start,), rho)[0],
        "sam_weight / balanced_rates / flow_acceleration",
        latex=r"a(\Delta\tau) - a' = \frac{\Delta\tau^2}{2}\,\frac{d^2a}{d\tau^2} + O(\Delta\tau^3)",
        method=TAYLOR,
    )
    p.note(
        "While N >= N_min > 0 the rates are smooth with bounded derivatives, so by the usual Gronwall argument the "
        "errors of the t/eta steps add up to O(eta). Near collapse N'/N^2 grows without bound and the order is lost "
        "(C32)."
    )


def _order_witness(draw: Draw) -> Pairs:
    mu, a, radius = draw.strengths(), draw.some(2, 0.3, 1.2), draw.between(0.05, 0.4)
    rates = at.tau_rates(mu, a, radius)
    claimed = theory.flow_acceleration(mu, a, radius)
    for k in range(2):
        along = at.derivative(
            lambda t, k=k: theory.balanced_rates(mu, [x + t * r for x, r in zip(a, rates, strict=True)], radius)[k],
            mpmath.mpf(0),
        )
        yield along, claimed[k]


def _order_simulation() -> Simulation:
    """Error at one time for eta = 0.04, 0.02, 0.01, 0.005 against C9's exact flow: the slope in log-log."""
    mu, radius, start, duration = 2.0, 0.3, 0.5, 4.0
    etas = np.array([0.04, 0.02, 0.01, 0.005])
    errors = []
    for step in etas:
        a = diagonal_run((mu,), ([start],) * 2, eta=step, steps=round(duration / step), every=1, rho=radius).layers[0][
            0, 0
        ]
        errors.append(abs(float(theory.sam_time(a, start, mu, radius)) - duration))
    slopes = np.diff(np.log(errors)) / np.diff(np.log(etas))
    curve = Curve(
        "error of the time at equal weight (marks), slope 1 (line)",
        np.log(etas),
        np.log(errors[-1]) + np.log(etas / etas[-1]),
        np.log(errors),
    )
    return Simulation(
        float(np.abs(slopes - 1).max()), 0.1, "measured order within 0.1 of 1", (curve,), "ln eta", "ln error"
    )


def _any_step(p: Proof) -> None:
    one = Training.diagonal((V, W), on.REDUNDANT, MU)
    update = one.update(one.phantom_point())
    lam = one.lam_phantom[0]
    n_of_a = p.f.balanced_gradient_scale(MU, A)
    p.equal(
        "Factor of one step, from the loss",
        [on.balanced((v + eta * x) / v) for v, x in zip(V, update[:2], strict=True)],
        [p.f.step_growth(eta, lam, m, rho, n_of_a) for m in MU],
        "step_growth",
        latex=r"a_k'/a_k = 1 + \eta\tilde\lambda\mu_k(1 - \rho\mu_k/N)",
    )
    easy, hard = (p.f.step_growth(eta, lam, m, rho, SCALE) for m in MU)
    p.implies(
        "C7 step by step: while both factors are positive the ratio a_h/a_e rises in a step exactly if N < N*",
        [mu_easy > mu_hard, easy > 0, hard > 0],
        sp.Equivalent(hard > easy, p.f.balance_threshold(rho, mu_easy, mu_hard) > SCALE),
        "step_growth / balance_threshold",
        latex=r"a_h'/a_e' > a_h/a_e \iff N < N^*",
    )
    p.implies(
        "C8 step by step: a weight grows in a step exactly if N > rho mu_k",
        [],
        sp.Equivalent(easy > 1, rho * mu_easy < SCALE),
        "step_growth",
    )
    half = lam <= sp.Rational(1, 2)  # the phantom margin sum mu_k a~_k^2 is not negative
    p.implies(
        "Signs are kept above this scale",
        [half, p.f.sign_keeping_scale(eta, mu_easy, rho) < SCALE],
        easy > 0,
        "sign_keeping_scale / step_growth",
        latex=r"N > \frac{\rho\eta\mu_k^2}{2+\eta\mu_k}\ \Rightarrow\ a_k' > 0",
    )
    p.implies(
        "and not always below it (lambda~ = 1/2)",
        [sp.Eq(lam, sp.Rational(1, 2)), p.f.sign_keeping_scale(eta, mu_easy, rho) > SCALE],
        easy < 0,
        "sign_keeping_scale / step_growth",
    )


def _any_step_witness(draw: Draw) -> Pairs:
    mu, a, radius, step = draw.strengths(), draw.some(2, 0.2, 1.2), draw.between(0.05, 0.6), draw.between(0.1, 2)
    loss, theta = at.loss(on.REDUNDANT, mu), (*a, *a)
    phantom = at.sam_point(loss, theta, radius)
    lam = at.weights(on.REDUNDANT, mu, phantom)[0]
    scale = theory.balanced_gradient_scale(mu, a)
    for k, g in enumerate(at.gradient(loss, phantom)[:2]):
        yield (a[k] - step * g) / a[k], theory.step_growth(step, lam, mu[k], radius, scale)
    edge = theory.sign_keeping_scale(step, mu[0], radius)
    yield theory.step_growth(step, mpmath.mpf(1) / 2, mu[0], radius, edge), mpmath.mpf(0)


def _any_step_simulation() -> Simulation:
    """At eta = 1 the ratio still turns at N*, step by step."""
    mu, radius, step = np.array([2.0, 1.0]), 0.4, 1.0
    starts = [[0.3, 0.3], [0.2, 0.6], [0.5, 0.2], [0.25, 0.5]]
    a = recorded_layers(diagonal_run(mu, (starts, starts), eta=step, steps=40, rho=radius))[0]
    N = theory.balanced_gradient_scale(mu, np.moveaxis(a, -1, 0))[:, :-1]
    kept = np.logical_and.accumulate((a[:, 1:] > 0).all(axis=-1), axis=1)
    claimed = (theory.balance_threshold(radius, *mu) > N).astype(float)
    ratio = a[..., 1] / a[..., 0]
    seen = (np.diff(ratio, axis=1) > 0).astype(float)
    curves = [
        Curve(f"start {i + 1}", np.flatnonzero(kept[i]).astype(float), claimed[i][kept[i]], seen[i][kept[i]])
        for i in range(4)
    ]
    return measured(curves, 0.0, "the sign of every step, no tolerance", "step", "ratio rises (1) or falls (0)")


def _floor(p: Proof) -> None:
    v, w = sp.symbols("v w", real=True)
    b = sp.Symbol("b", positive=True)
    training = Training.diagonal(((v,), (w,)), on.Atoms((1,), ((1,),)), (mu_easy,))
    update = training.update(training.phantom_point())
    lam = training.lam_phantom[0]
    for sign in (1, -1):
        p.equal(
            f"One step from a = {'+' if sign > 0 else '-'}b, from the loss",
            [sp.simplify((eta * x).subs({v: sign * b, w: sign * b})) for x in update],
            [sign * eta * lam * mu_easy * (b - p.f.sam_shift(rho))] * 2,
            "sam_shift",
            latex=r"a' = \pm\left[b + \eta\tilde\lambda\mu\,(b - \rho/\sqrt{2})\right]",
        )
    s, kappa, top = sp.symbols("s kappa kappa_max", positive=True)
    band = top * s  # s = rho/sqrt(2), kappa = eta lambda~ mu <= eta mu/2 = kappa_max
    p.implies(
        "The band |a| <= kappa_max rho/sqrt(2) is not left, as lambda~ <= 1/2",
        [b <= band, kappa <= top, top <= 1],
        sp.And(b + kappa * (b - s) <= band, b + kappa * (b - s) >= -band),
        latex=r"|a| \leq \frac{\eta\mu}{2}\frac{\rho}{\sqrt{2}}\ \Rightarrow\ |a'| \leq "
        r"\frac{\eta\mu}{2}\frac{\rho}{\sqrt{2}}",
    )
    p.implies(
        "and between it and rho/sqrt(2) the weight falls, without jumping over the band",
        [b > band, b < s, kappa <= top, top <= 1],
        sp.And(b + kappa * (b - s) < b, b + kappa * (b - s) >= -band),
    )
    p.equal(
        "In terms of u = a^2",
        (eta * mu_easy / 2 * p.f.sam_shift(rho)) ** 2,
        p.f.collapse_floor(eta, mu_easy, rho),
        "collapse_floor",
        latex=r"u \leq (\eta\mu\rho)^2/8",
    )
    p.note(
        "Inside, the map's slope is 1 + kappa > 1 in absolute value, so 0 attracts nothing: the weight keeps hopping."
    )


def _floor_witness(draw: Draw) -> Pairs:
    mu, radius, step = draw.between(0.5, 2), draw.between(0.1, 0.6), draw.between(0.05, 0.5)
    for a in (draw.between(0.05, 0.3), -draw.between(0.05, 0.3)):
        loss = at.loss(on.Atoms((1,), ((1,),)), (mu,))
        phantom = at.sam_point(loss, (a, a), radius)
        lam = at.weights(on.Atoms((1,), ((1,),)), (mu,), phantom)[0]
        moved = a - step * at.gradient(loss, phantom)[0]
        yield moved, a + step * lam * mu * (a - mpmath.sign(a) * theory.sam_shift(radius))
    yield theory.collapse_floor(step, mu, radius), (step * mu / 2 * theory.sam_shift(radius)) ** 2


def _floor_simulation() -> Simulation:
    mu, radius = 2.0, 0.4
    curves, worst = [], 0.0
    for step in (0.05, 0.2, 0.5):
        u = recorded_layers(diagonal_run((mu,), ([0.2],) * 2, eta=step, steps=600, rho=radius))[0][0, :, 0] ** 2
        tail = u[301:]
        floor = theory.collapse_floor(step, mu, radius)
        worst = max(worst, float(tail.max() / floor))
        curves.append(
            Curve(f"eta = {step}: floor (line), u (marks)", np.arange(300.0)[::10], np.full(30, floor), tail[::10])
        )
    return Simulation(
        worst, 1.0, "largest u over the floor after 300 steps, at most 1", tuple(curves), "step - 300", "u"
    )


CLAIMS = (
    Claim(
        id="C20",
        title="Step size",
        statement="A balanced one-atom step is Euler's method of length eta lambda~ for the flow in tau; it errs by "
        "(eta lambda~)^2/2 times d^2 a_k/dtau^2 = mu_k^2 a_k (chi_k^2 + rho N'/N^2). So the discrete run converges to "
        "the flow at first order in eta, away from collapse.",
        latex=(
            r"a_k' = a_k + \eta\tilde\lambda\,\frac{da_k}{d\tau},\quad \frac{d^2a_k}{d\tau^2} = \mu_k^2 "
            r"a_k\left(\chi_k^2 + \rho\dot N/N^2\right)",
        ),
        assumptions=(
            "balanced weights, one atom kind for the error term; first order for any data with R bounded away from 0",
            "fixed time horizon, N >= N_min > 0 along the flow",
        ),
        proof=_order,
        controls=(
            Control(
                "factor 2 in the acceleration",
                {"flow_acceleration": lambda m, a, r: [2 * x for x in theory.flow_acceleration(m, a, r)]},
            ),
            Control("rates of GD", {"balanced_rates": lambda m, a, r: theory.balanced_rates(m, a, 0)}),
        ),
        witness=_order_witness,
        simulation=_order_simulation,
    ),
    Claim(
        id="C31",
        title="What holds at any step size",
        statement="One step multiplies a_k by 1 + eta lambda~ mu_k (1 - rho mu_k/N). So at any eta the hard feature "
        "gains in a step exactly if N < N*, and a weight grows exactly if N > rho mu_k (in particular N(0) > rho mu_e: "
        "no collapse). All signs are kept while N > rho eta mu_e^2/(2 + eta mu_e): the stability bound on eta.",
        latex=(
            r"a_k'/a_k = 1 + \eta\tilde\lambda\mu_k(1-\rho\mu_k/N)",
            r"N > \frac{\rho\,\eta\,\mu_e^2}{2+\eta\mu_e}\ \Rightarrow\ \mathrm{no\ weight\ changes\ sign}",
        ),
        assumptions=(
            "balanced weights, one atom kind, full batch, no momentum or weight decay",
            "gain: both factors positive",
        ),
        source=DERIVED,
        proof=_any_step,
        controls=(
            Control(
                "sign of the suppression", {"step_growth": lambda e, lam, m, r, n: theory.step_growth(e, lam, m, -r, n)}
            ),
            Control("bound without the 2", {"sign_keeping_scale": lambda e, m, r: r * e * m**2 / (1 + e * m)}),
            Control("mu_h for mu_e in N*", {"balance_threshold": lambda r, e, h: r * 2 * h}),
        ),
        witness=_any_step_witness,
        simulation=_any_step_simulation,
    ),
    Claim(
        id="C32",
        title="Floor of a collapse",
        statement="A collapsed feature does not reach 0: with eta mu <= 2 it ends in the band |a| <= eta mu rho/(2 "
        "sqrt2), u <= (eta mu rho)^2/8, and keeps hopping around 0 inside it. A collapse threshold must lie above this "
        "floor.",
        latex=(r"u \leq (\eta\,\mu\,\rho)^2/8",),
        assumptions=("one feature, balanced, one atom kind, |a(0)| < rho/sqrt2", "eta mu <= 2"),
        source=DERIVED,
        proof=_floor,
        controls=(
            Control("floor over 16", {"collapse_floor": lambda e, m, r: theory.collapse_floor(e, m, r) / 2}),
            Control("shift rho for rho/sqrt(2)", {"sam_shift": lambda r: r}),
        ),
        witness=_floor_witness,
        simulation=_floor_simulation,
    ),
)
