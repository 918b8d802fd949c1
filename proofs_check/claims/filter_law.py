"""C22: the filter law for any number of features; C29: the same for constant drives on any data."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import DERIVED, Claim, Control
from proofs_check.claims.turning_point import log_rates
from proofs_check.proof import Proof
from proofs_check.setting import MU, A, mu_easy, mu_hard, rho, tau
from proofs_check.simulation import Array, Curve, Simulation, diagonal_run, measured, recorded_layers, rescaled_time
from proofs_check.witness import Draw, Number, Numbers, Pairs

S = sp.Function("S", positive=True)(tau)


def _filter(p: Proof) -> None:
    log_rates(p)
    K, j, k = sp.symbols("K j k", integer=True, positive=True)
    mu, a, v, w = (sp.IndexedBase(name) for name in ("mu", "a", "v", "w"))
    squares = sp.Sum(mu[j] ** 2 * a[j] ** 2, (j, 1, K))
    scale = sp.sqrt(2) * sp.sqrt(squares)  # of grad m with v = w = a: sum_j mu_j^2 (a_j^2 + a_j^2)
    slope = sp.diff(sp.Sum(mu[j] * v[j] * w[j], (j, 1, K)), v[k]).doit()
    slope = slope.args[0][0] if isinstance(slope, sp.Piecewise) else slope  # the case k <= K
    phantom = a[k] - rho * slope.subs(w[k], a[k]) / scale
    rate = p.f.log_weight_rate(mu[k], rho, scale)
    p.equal(
        "K features: the margin's sum differentiated by one weight gives the phantom weight and the rate",
        slope.subs(w[k], phantom) / a[k],
        rate,
        "log_weight_rate",
        latex=r"\frac{d\ln a_k}{d\tau} = \mu_k - \frac{\rho\mu_k^2}{\sqrt{2}\,\|(\mu_j a_j)\|}",
    )
    one_value = p.f.suppression_time_rate((sp.Integer(1),), (sp.sqrt(squares),))
    listed = p.f.suppression_time_rate(MU, A)
    p.equal(
        "dS/dtau is one over the root of the sum of squares, for two features as for one",
        1 / listed**2,
        sum(1 / p.f.suppression_time_rate((m,), (x,)) ** 2 for m, x in zip(MU, A, strict=True)),
        "suppression_time_rate",
        latex=r"dS/d\tau = 1/\|(\mu_j a_j)\|",
    )
    gain = p.f.filter_log_gain(mu[k], tau, S, rho)
    p.equal(
        "The log-gain differentiated is that rate, whatever K is",
        rate,
        sp.diff(gain, tau).subs(sp.Derivative(S, tau), one_value),
        "filter_log_gain / suppression_time_rate",
        latex=r"\ln\frac{a_k(\tau)}{a_k(0)} = \mu_k\tau - \frac{\rho}{\sqrt{2}}\mu_k^2 S(\tau)",
    )
    p.equal("and it starts at 0", 0, gain.subs(S, 0).subs(tau, 0), "filter_log_gain")
    value, strength = sp.symbols("S mu", positive=True)
    parabola = p.f.filter_log_gain(strength, tau, value, rho)
    top = p.f.most_amplified_strength(tau, value, rho)
    p.equal(
        "The top of the parabola",
        0,
        sp.diff(parabola, strength).subs(strength, top),
        "most_amplified_strength",
        latex=r"\mu^* = \frac{\tau}{\sqrt{2}\,\rho\,S}",
    )
    p.sign("is a maximum", -sp.diff(parabola, strength, 2), "filter_log_gain")
    moving = sp.diff(p.f.most_amplified_strength(tau, S, rho), tau)
    slope = sp.Symbol("sigma", positive=True)
    p.equal(
        "It moves up where S > tau S', that is where S' has been larger than it is now (N has grown)",
        moving.subs(sp.Derivative(S, tau), slope).subs(S, value),
        (value - tau * slope) / (sp.sqrt(2) * rho * value**2),
        "most_amplified_strength",
        latex=r"\dot\mu^* > 0 \iff S > \tau\dot S",
    )
    easy, hard = (p.f.filter_log_gain(m, tau, value, rho) for m in MU)
    p.equal(
        "Eliminating S between two features leaves a relation without rho",
        p.f.filter_invariant(easy, hard, mu_easy, mu_hard),
        p.f.filter_invariant_value(mu_easy, mu_hard, tau),
        "filter_invariant / filter_invariant_value",
        latex=r"\mu_h^2\ln\frac{a_e}{a_e(0)} - \mu_e^2\ln\frac{a_h}{a_h(0)} = -\mu_e\mu_h(\mu_e-\mu_h)\tau",
    )
    p.note(
        "Collapse: while S is finite every a_k is positive, so N > 0; if S diverges at a finite tau, every log-gain "
        "goes to minus infinity there. Hence a run collapses exactly if S diverges at a finite tau, and all features "
        "collapse together."
    )


def _filter_witness(draw: Draw) -> Pairs:
    mu, a, radius = draw.strengths(4), draw.some(4, 0.2, 1.0), draw.between(0.05, 0.4)
    rates = at.tau_rates(mu, a, radius)
    speed = theory.suppression_time_rate(mu, a)
    for k in range(4):
        yield (
            rates[k] / a[k],
            at.derivative(lambda t, k=k: theory.filter_log_gain(mu[k], t, speed * t, radius), mpmath.mpf(0)),
        )
    time, value = draw.between(0.2, 2), draw.between(0.2, 2)
    gains = [theory.filter_log_gain(m, time, value, radius) for m in mu[:2]]
    yield (
        theory.filter_invariant(gains[0], gains[1], mu[0], mu[1]),
        theory.filter_invariant_value(mu[0], mu[1], time),
    )
    top = theory.most_amplified_strength(time, value, radius)
    yield at.derivative(lambda m: theory.filter_log_gain(m, time, value, radius), top), 0


def filter_path(mu: Array, start: Array, radius: float, eta: float, steps: int) -> tuple[Array, Array, Array]:
    """Balanced weights, tau and S at every step of a SAM run on one atom kind."""
    a = recorded_layers(diagonal_run(mu, (start, start), eta=eta, steps=steps, rho=radius, signs=[[1.0] * len(mu)]))[0][
        0
    ]
    clock = rescaled_time(a, mu.tolist(), radius, eta)
    speed = theory.suppression_time_rate(mu, a.T)
    return a, clock, np.concatenate([[0], np.cumsum(speed[:-1] * np.diff(clock))])


def _filter_simulation() -> Simulation:
    mu, eta = np.array([2.5, 2.0, 1.5, 1.0, 0.5]), 0.001
    curves = []
    for radius, name in ((0.0, "GD"), (0.3, "SAM, rho = 0.3"), (0.5, "SAM, rho = 0.5")):
        a, clock, S_path = filter_path(mu, np.full(5, 0.3), radius, eta, 1500)
        claimed = theory.filter_log_gain(mu, clock[-1], S_path[-1], radius)
        curves.append(Curve(name, mu, claimed, np.log(a[-1] / 0.3)))
    return measured(curves, eta, "first order in eta (C20)", "feature strength mu", "log-gain of a")


def _early(p: Proof) -> None:
    atoms = on.generic_atoms(2)
    training = on.Training.diagonal((on.V, on.W), atoms, MU)
    half = {x: sp.Rational(1, 2) for x in (*training.lam, *training.lam_phantom)}
    phantom = {t: x.subs(half) for t, x in training.phantom_point().items()}
    drives = [p.f.drive(m, atoms.column(k), atoms.weights, (sp.Rational(1, 2),) * 2) for k, m in enumerate(MU)]
    d = sp.symbols("d_e d_h", positive=True)
    # The drives may have any sign; positive symbols stand for them after the identity with the loss is shown.
    rates = [on.balanced(x.subs(half)) for x in training.update(phantom)[:2]]
    scale = sp.sqrt(2) * sp.sqrt(sum(x**2 * a**2 for x, a in zip(drives, A, strict=True)))
    p.equal(
        "With all example weights 1/2 the flow in t is that of one atom kind with strengths D_k = E[y x_k]/2",
        [r / a for r, a in zip(rates, A, strict=True)],
        [p.f.log_weight_rate(x, rho, scale) for x in drives],
        "drive / log_weight_rate",
        latex=r"\frac{d\ln a_k}{dt} = D_k\left(1 - \frac{\rho D_k}{\sqrt{2}\,\|(D_j a_j)\|}\right),\quad D_k = "
        r"\frac{1}{2}E[y x_k]",
    )
    gain = p.f.filter_log_gain(d[0], tau, S, rho)
    listed = p.f.suppression_time_rate(d, A)
    p.equal(
        "so the filter law holds with D_k for mu_k and t for tau",
        p.f.log_weight_rate(d[0], rho, p.f.balanced_gradient_scale(d, A)),
        sp.diff(gain, tau).subs(sp.Derivative(S, tau), listed),
        "filter_log_gain",
        latex=r"\ln\frac{a_k(t)}{a_k(0)} = D_k t - \frac{\rho}{\sqrt{2}}D_k^2 S(t)",
    )
    m = sp.Symbol("m", positive=True)
    surplus = p.f.constant_drive_error(m) - (sp.Rational(1, 2) - on.example_weight(m))
    p.equal("The error vanishes at m = 0", 0, surplus.subs(m, 0), "constant_drive_error")
    lam = on.example_weight(m)
    p.equal(
        "and |m|/4 - (1/2 - lambda) grows by (1/2 - lambda)^2",
        (lam - sp.Rational(1, 2)) ** 2,
        sp.diff(surplus, m),
        "constant_drive_error",
        latex=r"|\lambda - \frac{1}{2}| \leq |m|/4",
    )
    p.sign("which is not negative (the case m < 0 is the mirror image)", (lam - sp.Rational(1, 2)) ** 2, at_least=True)


def _early_witness(draw: Draw) -> Pairs:
    atoms, mu, a, radius = draw.atoms(3), draw.strengths(), draw.some(2, 0.2, 1), draw.between(0.02, 0.2)

    def linear_loss(theta: Numbers) -> Number:  # the loss with constant example weights 1/2
        return -sum(w * m / 2 for w, m in zip(atoms.weights, on.margins(at.layers_of(theta), atoms, mu), strict=True))

    phantom = at.sam_point(linear_loss, (*a, *a), radius)
    rates = [-g for g in at.gradient(linear_loss, phantom)]
    half = (mpmath.mpf(1) / 2,) * 3
    drives = [theory.drive(mu[k], atoms.column(k), atoms.weights, half) for k in range(2)]
    scale = theory.balanced_gradient_scale(drives, a)
    for k in range(2):
        yield rates[k] / a[k], theory.log_weight_rate(drives[k], radius, scale)
    m = draw.between(0.1, 2)
    excess = theory.constant_drive_error(m) - (mpmath.mpf(1) / 2 - on.example_weight(m, mpmath))
    yield min(excess, mpmath.mpf(0)), mpmath.mpf(0)


def _early_simulation() -> Simulation:
    """Twelve features, forty general samples, small weights: the law with the measured strengths E[y x_k]."""
    rng = np.random.default_rng(3)
    width, samples, eta, steps = 12, 40, 0.01, 300
    x = rng.normal(size=(samples, width)) * 0.5 + np.linspace(0.2, 2.0, width)
    drive = x.mean(axis=0) / 2
    start, pi = 0.005, np.full(samples, 1 / samples).tolist()
    curves, largest = [], 0.0
    for radius in (0.0, 0.0025):
        result = diagonal_run(
            [1.0] * width, ([start] * width,) * 2, eta=eta, steps=steps, rho=radius, signs=x.tolist(), pi=pi
        )
        a = recorded_layers(result)[0][0]
        largest = max(largest, float(np.abs(a[-1] ** 2 @ x.T).max()))
        value = float((theory.suppression_time_rate(drive, a.T)[:-1] * eta).sum())
        claimed = theory.filter_log_gain(drive, steps * eta, value, radius)
        curves.append(Curve("GD" if radius == 0 else f"SAM, rho = {radius}", drive, claimed, np.log(a[-1] / start)))
    # every drive is off by at most max|m|/4 times E|x_k|, all along; the time is 3
    strength = float(np.abs(x).mean(axis=0).max())
    bound = steps * eta * strength * theory.constant_drive_error(largest) + eta
    return measured(
        curves,
        bound,
        "t max_k E|x_k| max|m|/4 (the constant-drive error) + first order in eta",
        "strength D_k",
        "log-gain of a",
    )


CLAIMS = (
    Claim(
        id="C22",
        title="Filter law",
        statement="Balanced, one atom kind, any number of features: ln a_k(tau) = ln a_k(0) + mu_k tau - (rho/sqrt2) "
        "mu_k^2 S(tau), dS/dtau = 1/||(mu_k a_k)||, S(0) = 0. GD's log-gain is a line in mu, SAM's a parabola with its "
        "top at mu* = tau/(sqrt2 rho S). Between two features mu_h^2 ln(a_e/a_e(0)) - mu_e^2 ln(a_h/a_h(0)) = -mu_e "
        "mu_h (mu_e - mu_h) tau.",
        latex=(
            r"\ln\frac{a_k(\tau)}{a_k(0)} = \mu_k\tau - \frac{\rho}{\sqrt{2}}\mu_k^2 S(\tau), \quad \frac{dS}{d\tau} = "
            r"\frac{1}{\|(\mu_ja_j)\|}",
            r"\mu^* = \frac{\tau}{\sqrt{2}\,\rho\,S}, \qquad \mu_h^2\ln\frac{a_e}{a_e(0)} - "
            r"\mu_e^2\ln\frac{a_h}{a_h(0)} = -\mu_e\mu_h(\mu_e-\mu_h)\tau",
        ),
        assumptions=(
            "flow; balanced weights (C33 has any start), one atom kind",
            "a_k > 0; mu_k of any sign for the law itself",
            "mu* moves up only where N has grown since the start; it starts at N(0)/(2 rho)",
        ),
        remark="mu* does not always move up: while N falls (suppression window) it moves down.",
        source=DERIVED,
        proof=_filter,
        controls=(
            Control("mu for mu^2", {"filter_log_gain": lambda m, t, s, r: m * t - r / sp.sqrt(2) * m * s}),
            Control(
                "rho for rho/sqrt(2)",
                {"filter_log_gain": lambda m, t, s, r: theory.filter_log_gain(m, t, s, sp.sqrt(2) * r)},
            ),
            Control("factor 2 in S", {"suppression_time_rate": lambda m, a: 2 * theory.suppression_time_rate(m, a)}),
            Control("top without sqrt(2)", {"most_amplified_strength": lambda t, s, r: t / (r * s)}),
            Control(
                "mu_e and mu_h exchanged", {"filter_invariant": lambda e, h, m, n: theory.filter_invariant(e, h, n, m)}
            ),
        ),
        witness=_filter_witness,
        simulation=_filter_simulation,
    ),
    Claim(
        id="C29",
        title="Filter law of constant drives",
        statement="Any data, early in training: with all example weights 1/2 the SAM flow of a balanced diagonal "
        "network obeys the filter law with D_k = E[y x_k]/2 for mu_k and t for tau. The example weights are off by at "
        "most |m|/4.",
        latex=(
            r"\ln\frac{a_k(t)}{a_k(0)} = D_kt - \frac{\rho}{\sqrt{2}}D_k^2S(t),\quad D_k = \frac{1}{2}E[yx_k]",
            r"|\lambda_n - \frac{1}{2}| \leq |m_n|/4",
        ),
        assumptions=(
            "flow; balanced weights a_k > 0; any data, any number of features",
            "margins small at the real and the phantom point; exact for a linear loss",
            "then C7-C10 and C26 hold with D_k for mu_k where D_k > 0: spurious data start with the strengths (2p - 1) "
            "mu_e and mu_h",
        ),
        proof=_early,
        controls=(
            Control(
                "drive without the labels' signs",
                {"drive": lambda m, s, p, lam: theory.drive(m, [x**2 for x in s], p, lam)},
            ),
            Control("mu for mu^2", {"filter_log_gain": lambda m, t, s, r: m * t - r / sp.sqrt(2) * m * s}),
            Control("bound |m|/8", {"constant_drive_error": lambda m: theory.constant_drive_error(m) / 2}),
        ),
        witness=_early_witness,
        simulation=_early_simulation,
    ),
)
