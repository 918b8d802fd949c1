"""C7-C9: turning point, suppression window, SAM in closed form."""

from __future__ import annotations

import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import Claim, Control
from proofs_check.proof import Proof
from proofs_check.setting import MU, A, a_easy, a_hard, gap, mu_easy, mu_hard, rho
from proofs_check.simulation import (
    Array,
    Curve,
    Simulation,
    diagonal_run,
    measured,
    recorded_layers,
)
from proofs_check.witness import Draw, Pairs

SCALE = sp.Symbol("N", positive=True)
N_OF_A = sp.sqrt(2) * sp.sqrt(mu_easy**2 * a_easy**2 + mu_hard**2 * a_hard**2)
STRONGER = {mu_easy: mu_hard + gap}


def log_rates(p: Proof) -> tuple[sp.Expr, ...]:
    """d ln a_k/dtau from the loss, checked against the function that gives it."""
    scale = p.f.balanced_gradient_scale(MU, A)
    derived = tuple(x / a for x, a in zip(on.balanced_flow(), A, strict=True))
    p.equal(
        "The SAM flow of balanced weights on one atom kind, from the loss",
        derived,
        [p.f.log_weight_rate(m, rho, scale) for m in MU],
        "log_weight_rate / balanced_gradient_scale",
        latex=r"\frac{d\ln a_k}{d\tau} = \mu_k\left(1 - \frac{\rho\mu_k}{N}\right)",
    )
    return derived


def _turning(p: Proof) -> None:
    easy, hard = log_rates(p)
    scale = p.f.balanced_gradient_scale(MU, A)
    p.equal(
        "Subtracting the two rates",
        hard - easy,
        p.f.log_ratio_rate(mu_easy, mu_hard, rho, scale),
        "log_ratio_rate",
        latex=r"\frac{d}{d\tau}\ln\frac{a_h}{a_e} = (\mu_e-\mu_h)\left(\frac{\rho(\mu_e+\mu_h)}{N} - 1\right)",
    )
    threshold = p.f.balance_threshold(rho, mu_easy, mu_hard)
    p.equal(
        "The rate vanishes at N = N*",
        0,
        p.f.log_ratio_rate(mu_easy, mu_hard, rho, threshold),
        "balance_threshold",
        latex=r"N^* = \rho(\mu_e + \mu_h)",
    )
    p.implies(
        "and is positive exactly below it",
        [mu_easy > mu_hard],
        sp.Equivalent(p.f.log_ratio_rate(mu_easy, mu_hard, rho, SCALE) > 0, threshold > SCALE),
        "log_ratio_rate / balance_threshold",
        latex=r"\frac{d}{d\tau}\ln\frac{a_h}{a_e} > 0 \iff N < N^*",
    )
    critical = p.f.balance_threshold_rho(MU, A)
    p.equal(
        "The rho at which given weights are at the turning point",
        N_OF_A,
        p.f.balance_threshold(critical, mu_easy, mu_hard),
        "balance_threshold_rho",
        latex=r"\rho = N/(\mu_e + \mu_h)",
    )


def _turning_witness(draw: Draw) -> Pairs:
    mu, a, radius = draw.strengths(), draw.some(2, 0.2, 1.2), draw.between(0.05, 0.6)
    rates = at.tau_rates(mu, a, radius)
    scale = theory.balanced_gradient_scale(mu, a)
    yield rates[1] / a[1] - rates[0] / a[0], theory.log_ratio_rate(mu[0], mu[1], radius, scale)
    critical = theory.balance_threshold_rho(mu, a)
    rates = at.tau_rates(mu, a, critical)
    yield rates[1] / a[1] - rates[0] / a[0], 0


def balanced_path(mu: Array, radius: float, starts: list[list[float]], eta: float, steps: int) -> Array:
    """Balanced weights [B, R, K] at every step."""
    result = diagonal_run(mu, (starts, starts), eta=eta, steps=steps, rho=radius)
    return recorded_layers(result)[0]


def _turning_simulation() -> Simulation:
    mu, radius, eta = np.array([2.0, 1.0]), 0.5, 0.005
    starts = [[0.2, 0.35], [0.3, 0.3], [0.35, 0.2], [0.25, 0.5]]
    paths = balanced_path(mu, radius, starts, eta, 3000)
    scales, tops, step = [], [], 0.0
    for a in paths:
        N = theory.balanced_gradient_scale(mu, a.T)
        top = int(np.argmax(a[:, 1] / a[:, 0]))
        scales.append(N[top])
        tops.append(top)
        step = max(step, float(np.abs(np.diff(N)[max(top - 1, 0) : top + 1]).max()))
    threshold = np.full(len(starts), theory.balance_threshold(radius, *mu))
    curve = Curve("N where a_h/a_e is largest", np.arange(len(starts), dtype=float), threshold, np.array(scales))
    return measured([curve], 2 * step, "two steps of N around the maximum", "start number", "N at the maximum")


def _window(p: Proof) -> None:
    log_rates(p)
    for m, name in ((mu_easy, "easy"), (mu_hard, "hard")):
        p.implies(
            f"The {name} feature shrinks exactly while N < rho mu",
            [],
            sp.Equivalent(p.f.log_weight_rate(m, rho, SCALE) < 0, rho * m > SCALE),
            "log_weight_rate",
            latex=r"\dot a_k < 0 \iff N < \rho\mu_k",
        )
    low, high = p.f.suppression_window(rho, mu_easy, mu_hard)
    easy, hard = (p.f.log_weight_rate(m, rho, SCALE) for m in MU)
    p.implies(
        "The easy feature shrinks while the hard one grows exactly inside the window",
        [mu_easy > mu_hard],
        sp.Equivalent(sp.And(easy < 0, hard > 0), sp.And(low < SCALE, high > SCALE)),
        "suppression_window",
        latex=r"\rho\mu_h < N < \rho\mu_e",
    )


def _window_witness(draw: Draw) -> Pairs:
    mu, a = draw.strengths(), draw.some(2, 0.2, 1.2)
    scale = theory.balanced_gradient_scale(mu, a)
    for k in range(2):
        radius = scale / mu[k]  # exactly at the edge of the window
        yield at.tau_rates(mu, a, radius)[k], 0
        yield theory.suppression_window(radius, *mu)[1 - k], scale
    radius = draw.between(0.05, 0.5)
    for k in range(2):
        yield at.tau_rates(mu, a, radius)[k] / a[k], theory.log_weight_rate(mu[k], radius, scale)


def _window_simulation() -> Simulation:
    mu, radius, eta = np.array([2.0, 1.0]), 0.5, 0.01
    a = balanced_path(mu, radius, [[0.2, 0.4]], eta, 400)[0]
    N = theory.balanced_gradient_scale(mu, a.T)
    low, high = theory.suppression_window(radius, *mu)
    inside = ((low < N) & (high > N))[:-1].astype(float)
    change = np.diff(a, axis=0)
    seen = ((change[:, 0] < 0) & (change[:, 1] > 0)).astype(float)
    curve = Curve("easy shrinks, hard grows", np.arange(400) * eta, inside, seen)
    return measured([curve], 0.0, "the sign of every step, no tolerance", "time", "inside the window (1) or not (0)")


def _closed_form(p: Proof) -> None:
    tau, a, start = on.tau, sp.Symbol("a", positive=True), sp.Symbol("a_0", positive=True)
    training = on.Training.diagonal(((on.V[0],), (on.W[0],)), on.Atoms((1,), ((1,),)), (mu_easy,))
    phantom = training.phantom_point()
    same = {on.V[0]: a, on.W[0]: a}
    phantom_weight = sp.simplify(phantom[on.V[0]].subs(same))
    p.equal(
        "The phantom weight of one feature",
        phantom_weight,
        a - p.f.sam_shift(rho),
        "sam_shift",
        latex=r"\tilde a = a - \rho/\sqrt{2}",
    )
    rate = sp.simplify(training.update(phantom)[0].subs(same) / training.lam_phantom[0])
    p.equal(
        "so da/dtau = mu a~ and a~ obeys GD's equation",
        rate,
        mu_easy * (a - p.f.sam_shift(rho)),
        "sam_shift",
        latex=r"d\tilde a/d\tau = da/d\tau = \mu \tilde a",
    )
    solution = p.f.sam_weight(tau, start, mu_easy, rho)
    p.equal(
        "The closed form solves it",
        rate.subs(a, solution),
        sp.diff(solution, tau),
        "sam_weight",
        latex=r"a(\tau) = \frac{\rho}{\sqrt{2}} + \left(a(0) - \frac{\rho}{\sqrt{2}}\right)e^{\mu\tau}",
    )
    p.equal("and starts at a(0)", start, solution.subs(tau, 0), "sam_weight")
    shifted = sp.Symbol("b", positive=True)
    lam = on.example_weight(mu_easy * shifted**2)
    time = p.f.sam_time(shifted + p.f.sam_shift(rho), start, mu_easy, rho)
    p.equal(
        "In time t, with lambda~ at the phantom margin mu a~^2",
        1 / (lam * mu_easy * shifted),
        sp.diff(time, shifted),
        "sam_time",
        latex=r"\frac{dt}{d\tilde a} = \frac{1 + e^{\mu\tilde a^2}}{\mu\tilde a}",
    )
    p.equal("from 0 at the start", 0, sp.simplify(p.f.sam_time(start, start, mu_easy, rho)), "sam_time")


def _closed_form_witness(draw: Draw) -> Pairs:
    mu, radius = draw.between(0.5, 3), draw.between(0.05, 0.5)
    start, tau = draw.between(0.5, 1.0), draw.between(0.1, 1.0)
    a = theory.sam_weight(tau, start, mu, radius)
    rate = at.derivative(lambda x: theory.sam_weight(x, start, mu, radius), tau)
    yield rate, at.tau_rates((mu,), (a,), radius)[0]
    lam = setting_weight(mu, a, radius)
    yield at.derivative(lambda x: theory.sam_time(x, start, mu, radius), a), 1 / (lam * rate)


def setting_weight(mu: object, a: object, radius: object) -> object:
    """lambda~ of one balanced feature at fifty digits, from the phantom point."""
    phantom = at.sam_point(at.loss(on.Atoms((1,), ((1,),)), (mu,)), (a, a), radius)
    return at.weights(on.Atoms((1,), ((1,),)), (mu,), phantom)[0]


def _closed_form_simulation() -> Simulation:
    mu, radius, eta = 2.0, 0.3, 0.002
    a = balanced_path(np.array([mu]), radius, [[0.5], [0.2]], eta, 3000)[:, ::50, 0]
    time = np.arange(0, 3001, 50) * eta
    above = Curve("time from a(0) = 0.5", a[0], theory.sam_time(a[0], 0.5, mu, radius), time)
    falling = a[1] > 0.05  # a(0) = 0.2 < rho/sqrt(2) falls to 0
    below = Curve("time from a(0) = 0.2", a[1][falling], theory.sam_time(a[1][falling], 0.2, mu, radius), time[falling])
    return measured([above, below], 2 * eta, "first order in eta (C20)", "a", "time")


CLAIMS = (
    Claim(
        id="C7",
        title="Turning point",
        statement="d ln(a_h/a_e)/dtau = (mu_e - mu_h)(rho (mu_e + mu_h)/N - 1): the hard feature gains on the easy one "
        "exactly while N < N* = rho (mu_e + mu_h). With rho = 0 the ratio only falls.",
        latex=(
            r"\frac{d}{d\tau}\ln\frac{a_h}{a_e} = (\mu_e - \mu_h)\left(\frac{\rho(\mu_e+\mu_h)}{N} - 1\right)",
            r"N^* = \rho(\mu_e + \mu_h)",
        ),
        assumptions=(
            "flow; balanced weights, one atom kind",
            "mu_e > mu_h: for equal strengths the ratio never changes",
        ),
        proof=_turning,
        controls=(
            Control("difference for sum in N*", {"balance_threshold": lambda r, e, h: r * (e - h)}),
            Control("sign of the rate", {"log_ratio_rate": lambda e, h, r, n: -theory.log_ratio_rate(e, h, r, n)}),
            Control("mu_e for mu_h in a rate", {"log_weight_rate": lambda m, r, n: m * (1 - r * mu_easy / n)}),
            Control(
                "threshold rho without sqrt(2)",
                {"balance_threshold_rho": lambda m, a: theory.balance_threshold_rho(m, a) / sp.sqrt(2)},
            ),
        ),
        witness=_turning_witness,
        simulation=_turning_simulation,
    ),
    Claim(
        id="C8",
        title="Suppression window",
        statement="Feature k shrinks exactly while N < rho mu_k. For rho mu_h < N < rho mu_e the easy feature shrinks "
        "while the hard one grows.",
        latex=(r"\dot a_k < 0 \iff N < \rho\mu_k", r"\rho\mu_h < N < \rho\mu_e:\quad \dot a_e < 0 < \dot a_h"),
        assumptions=("balanced weights, one atom kind; a_k > 0", "the window is open only for mu_e > mu_h"),
        proof=_window,
        controls=(
            Control("factor 2 in the window", {"suppression_window": lambda r, e, h: (r * h, 2 * r * e)}),
            Control("edges exchanged", {"suppression_window": lambda r, e, h: (r * e, r * h)}),
            Control("sign of the suppression", {"log_weight_rate": lambda m, r, n: m * (1 + r * m / n)}),
        ),
        witness=_window_witness,
        simulation=_window_simulation,
    ),
    Claim(
        id="C9",
        title="SAM in closed form",
        statement="One feature, balanced: a~ = a - rho/sqrt2 obeys GD's equation, so a(tau) = rho/sqrt2 + (a(0) - "
        "rho/sqrt2) e^(mu tau) and t(a) is GD's time between the phantom weights. The weight grows iff a(0) > "
        "rho/sqrt2; below, it reaches 0.",
        latex=(
            r"\tilde a = a - \rho/\sqrt{2}, \quad a(\tau) = \frac{\rho}{\sqrt{2}} + \left(a(0) - "
            r"\frac{\rho}{\sqrt{2}}\right) e^{\mu\tau}",
            r"t = \frac{1}{\mu}\left[\ln\frac{\tilde a}{\tilde a_0} + \frac{1}{2}(\mathrm{Ei}(\mu\tilde a^2) - "
            r"\mathrm{Ei}(\mu\tilde a_0^2))\right]",
        ),
        assumptions=(
            "flow; one feature, one atom kind, logistic loss",
            "a > 0 throughout: below the threshold until tau* = -ln(1 - sqrt2 a(0)/rho)/mu",
        ),
        proof=_closed_form,
        controls=(
            Control("shift rho for rho/sqrt(2)", {"sam_shift": lambda r: r}),
            Control("shift added", {"sam_weight": lambda t, s, m, r: theory.sam_weight(t, s, m, -r)}),
            Control(
                "start not shifted", {"sam_time": lambda a, s, m, r: theory.gd_time(a - theory.sam_shift(r), s, m)}
            ),
        ),
        witness=_closed_form_witness,
        simulation=_closed_form_simulation,
    ),
)
