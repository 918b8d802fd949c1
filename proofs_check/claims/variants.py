"""C13, C15, C16: LSAM, SAM without normalisation, linf-SAM; C30: the filter law of LSAM."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import DERIVED, PAPER, Claim, Control
from proofs_check.claims.phantom_point import drives
from proofs_check.proof import Proof
from proofs_check.setting import MU, A, Training, V, W, a_easy, mu_easy, mu_hard, rho
from proofs_check.simulation import Curve, Simulation, diagonal_run, measured, recorded_layers
from proofs_check.witness import Draw, Pairs


def _lsam(p: Proof) -> None:
    atoms = on.generic_atoms(2)
    # In the engines' notation W is the first layer and V the last; the perturbation moves V alone.
    training = Training.diagonal((W, V), atoms, MU)
    phantom = training.phantom_point(perturbed=V)
    D = drives(p, atoms, training.lam)
    phantom_drives = drives(p, atoms, training.lam_phantom)
    norm = p.f.last_layer_gradient_norm(D, W)
    p.equal(
        "The norm of the last layer's gradient",
        on.length(training.gradient()[2:]) ** 2,
        norm**2,
        "last_layer_gradient_norm",
        latex=r"R_v^2 = \sum_k D_k^2 w_k^2",
    )
    rate = dict(zip(training.parameters, training.update(phantom), strict=True))
    for k, (v, w) in enumerate(zip(V, W, strict=True)):
        ratio = p.f.perturbation_ratio(rho, D[k], norm)
        p.equal(
            "The phantom point of the last layer",
            phantom[v],
            p.f.lsam_phantom_last_layer(v, w, ratio),
            "lsam_phantom_last_layer",
            latex=r"\tilde v_k = v_k - \rho D_k w_k/R_v,\quad \tilde w_k = w_k",
        )
        p.equal(
            "Rate of the imbalance under the LSAM flow",
            2 * v * rate[v] - 2 * w * rate[w],
            p.f.lsam_imbalance_rate(w, rho, D[k], phantom_drives[k], norm),
            "lsam_imbalance_rate",
            latex=r"\frac{d}{dt}(v_k^2 - w_k^2) = 2\rho\,\tilde D_k D_k w_k^2/R_v",
        )
    w, d, dt, r = sp.symbols("w D Dt R_v", positive=True)
    p.sign(
        "It is positive where the drives agree in sign: weight moves into the last layer",
        p.f.lsam_imbalance_rate(w, rho, d, dt, r),
        "lsam_imbalance_rate",
    )


def _lsam_witness(draw: Draw) -> Pairs:
    atoms, mu, theta, radius = draw.atoms(3), draw.strengths(), draw.some(4, 0.2, 1.2), draw.between(0.05, 0.5)
    loss = at.loss(atoms, mu)
    phantom = at.sam_point(loss, theta, radius, moved=(2, 3))
    rate = [-g for g in at.gradient(loss, phantom)]
    w, v = theta[:2], theta[2:]
    lam, lam_phantom = at.weights(atoms, mu, theta), at.weights(atoms, mu, phantom)
    D, Dt = ([theory.drive(mu[k], atoms.column(k), atoms.weights, x) for k in range(2)] for x in (lam, lam_phantom))
    norm = theory.last_layer_gradient_norm(D, w)
    for k in range(2):
        yield phantom[2 + k], theory.lsam_phantom_last_layer(v[k], w[k], radius * D[k] / norm)
        yield 2 * v[k] * rate[2 + k] - 2 * w[k] * rate[k], theory.lsam_imbalance_rate(w[k], radius, D[k], Dt[k], norm)


def _lsam_simulation() -> Simulation:
    """A step changes the imbalance by eta times the rate plus eta^2 D~^2 (w^2 - v~^2) exactly."""
    mu, radius, eta = np.array([2.0, 1.0]), 0.2, 0.01
    w, v = (
        x[0]
        for x in recorded_layers(
            diagonal_run(mu, ([0.5, 0.5], [0.5, 0.5]), eta=eta, steps=600, rho=radius, perturb="last")
        )
    )
    norm = theory.last_layer_gradient_norm(mu, w.T)
    vt = np.stack([theory.lsam_phantom_last_layer(v[:, k], w[:, k], radius * mu[k] / norm) for k in range(2)], axis=1)
    lam = (1 / (1 + np.exp((v * w) @ mu)))[:, None]
    drive = (1 / (1 + np.exp((vt * w) @ mu)))[:, None] * mu
    claimed = theory.lsam_imbalance_rate(w, radius, lam * mu, drive, lam * norm[:, None])
    observed = np.diff(v**2 - w**2, axis=0) / eta
    bound = float(eta * (drive**2 * np.abs(w**2 - vt**2)).max()) * 1.000001
    curves = [
        Curve(f"{name} feature", np.arange(600) * eta, claimed[:-1, k], observed[:, k])
        for k, name in enumerate(("easy", "hard"))
    ]
    return measured(curves, bound, "eta max |D~^2 (w^2 - v~^2)|, the exact remainder", "time", "d(v^2 - w^2)/dt")


def _usam(p: Proof) -> None:
    atoms = on.generic_atoms(2)
    training = Training.diagonal((V, W), atoms, MU)
    phantom = training.phantom_point(norm="none")
    D = drives(p, atoms, training.lam)
    for k, a in enumerate(A):
        p.equal(
            "Without the norm the phantom point is theta + rho grad L; balanced",
            on.balanced(phantom[V[k]]),
            p.f.usam_suppression_factor(rho, D[k]) * a,
            "usam_suppression_factor",
            latex=r"\chi_k = 1 - \rho D_k",
        )
    one = Training.diagonal((V, W), on.REDUNDANT, MU)
    rates = [
        on.balanced(x) / a / one.lam_phantom[0]
        for x, a in zip(one.update(one.phantom_point(norm="none")), A, strict=False)
    ]
    lam = one.lam[0]
    p.equal(
        "One atom kind: the difference of the rates",
        rates[1] - rates[0],
        (mu_easy - mu_hard) * p.f.usam_reversal_margin(rho, lam, mu_easy, mu_hard),
        "usam_reversal_margin",
        latex=r"\frac{d}{d\tau}\ln\frac{a_h}{a_e} = (\mu_e - \mu_h)(\rho\lambda(\mu_e + \mu_h) - 1)",
    )
    p.implies(
        "With lambda <= 1/2 it is negative for rho < 2 / (mu_e + mu_h)",
        [lam <= sp.Rational(1, 2), rho * (mu_easy + mu_hard) < 2],
        p.f.usam_reversal_margin(rho, lam, mu_easy, mu_hard) < 0,
        "usam_reversal_margin",
        latex=r"\lambda \leq \frac{1}{2},\ \rho < \frac{2}{\mu_e + \mu_h}:\ \mathrm{never\ reversed}",
    )
    p.equal(
        "and chi_k -> 1 as lambda -> 0",
        1,
        p.f.usam_suppression_factor(rho, lam * mu_easy).subs(lam, 0),
        "usam_suppression_factor",
    )


def _usam_witness(draw: Draw) -> Pairs:
    mu, a, radius = draw.strengths(), draw.some(2, 0.2, 1.0), draw.between(0.1, 1.5)
    loss, theta = at.loss(on.REDUNDANT, mu), (*a, *a)
    phantom = tuple(x + radius * g for x, g in zip(theta, at.gradient(loss, theta), strict=True))
    lam, lam_phantom = (at.weights(on.REDUNDANT, mu, t)[0] for t in (theta, phantom))
    rate = [-g / lam_phantom for g in at.gradient(loss, phantom)]
    for k in range(2):
        yield phantom[k] / a[k], theory.usam_suppression_factor(radius, lam * mu[k])
    yield rate[1] / a[1] - rate[0] / a[0], (mu[0] - mu[1]) * theory.usam_reversal_margin(radius, lam, *mu)


def _usam_simulation() -> Simulation:
    """The sign of each step's change of a_h/a_e, exactly that of the reversal margin (C31: at any eta)."""
    mu, radius, eta = np.array([2.0, 1.0]), 1.0, 0.02
    a = recorded_layers(diagonal_run(mu, ([0.3, 0.3],) * 2, eta=eta, steps=500, rho=radius, norm="none"))[0][0]
    lam = 1 / (1 + np.exp(a**2 @ mu))
    claimed = np.sign(theory.usam_reversal_margin(radius, lam, *mu))[:-1]
    seen = np.sign(np.diff(a[:, 1] / a[:, 0]))
    curve = Curve("ratio a_h/a_e rises (+1) or falls (-1)", np.arange(500) * eta, claimed, seen)
    return measured([curve], 0.0, "the sign of every step, no tolerance", "time", "sign")


def _linf(p: Proof) -> None:
    start, tau = sp.Symbol("a_0", positive=True), on.tau
    v, w = sp.symbols("v w", positive=True)
    training = Training.diagonal(((v,), (w,)), on.Atoms((1,), ((1,),)), (mu_easy,))
    phantom = {t: sp.simplify(x) for t, x in training.phantom_point(norm="linf").items()}
    p.equal(
        "For positive weights sign(grad L) = -1",
        [v - rho, w - rho],
        [phantom[v], phantom[w]],
        latex=r"\tilde a_k = a_k - \rho",
    )
    rate = (training.update(phantom)[0] / training.lam_phantom[0]).subs({v: a_easy, w: a_easy})
    solution = p.f.linf_weight(tau, start, mu_easy, rho)
    p.equal(
        "da_k/dtau = mu_k (a_k - rho) is solved by the closed form, each feature by itself",
        rate.subs(a_easy, solution),
        sp.diff(solution, tau),
        "linf_weight",
        latex=r"a_k(\tau) = \rho + (a_k(0) - \rho)e^{\mu_k\tau}",
    )
    p.equal("which starts at a_k(0)", start, solution.subs(tau, 0), "linf_weight")
    p.equal("and stays at rho if it starts there", rho, p.f.linf_weight(tau, rho, mu_easy, rho), "linf_weight")


def _linf_witness(draw: Draw) -> Pairs:
    mu, start, radius = draw.strengths(), draw.some(2, 0.6, 1.2), draw.between(0.05, 0.5)
    tau = draw.between(0.1, 0.8)
    a = [theory.linf_weight(tau, start[k], mu[k], radius) for k in range(2)]
    loss = at.loss(on.REDUNDANT, mu)
    phantom = tuple(x + radius * mpmath.sign(g) for x, g in zip((*a, *a), at.gradient(loss, (*a, *a)), strict=True))
    lam = at.weights(on.REDUNDANT, mu, phantom)[0]
    rate = at.gradient(loss, phantom)
    for k in range(2):
        yield at.derivative(lambda x, k=k: theory.linf_weight(x, start[k], mu[k], radius), tau), -rate[k] / lam


def _linf_simulation() -> Simulation:
    mu, radius, eta = np.array([2.0, 1.0]), 0.3, 0.001
    starts = [[0.5, 0.4], [0.35, 0.25], [0.2, 0.35]]
    a = recorded_layers(diagonal_run(mu, (starts, starts), eta=eta, steps=1500, rho=radius, norm="linf"))[0]
    curves = []
    for i, path in enumerate(a):
        lam = 1 / (1 + np.exp((path - radius) ** 2 @ mu))
        tau = np.concatenate([[0], np.cumsum(eta * lam[:-1])])
        shown = np.flatnonzero((path > 0.02).all(axis=1))[::50]
        for k in range(2):
            claimed = theory.linf_weight(tau, path[0, k], mu[k], radius)
            curves.append(Curve(f"start {i + 1}, {'eh'[k]}", tau[shown], claimed[shown], path[shown, k]))
    return measured(curves, eta, "first order in eta (C20)", "tau", "a")


def _lsam_filter(p: Proof) -> None:
    v, w = sp.symbols("v_e v_h", positive=True), sp.symbols("w_e w_h", positive=True)
    training = Training.diagonal((w, v), on.REDUNDANT, MU)
    rate = dict(zip(training.parameters, training.update(training.phantom_point(perturbed=v)), strict=True))
    scale = sp.sqrt(sum(m**2 * x**2 for m, x in zip(MU, w, strict=True)))
    lam = training.lam_phantom[0]
    for k, m in enumerate(MU):
        ratio = v[k] / w[k]
        p.equal(
            "d ln u_k/dtau, from the loss",
            (rate[v[k]] / v[k] + rate[w[k]] / w[k]) / lam,
            p.f.lsam_log_coefficient_rate(m, ratio, rho, scale),
            "lsam_log_coefficient_rate",
            latex=r"\frac{d\ln u_k}{d\tau} = \mu_k\left(q_k + \frac{1}{q_k}\right) - \frac{\rho\mu_k^2}{N_w},\quad q_k "
            r"= v_k/w_k",
        )
        p.equal(
            "dq_k/dtau",
            (rate[v[k]] / w[k] - v[k] * rate[w[k]] / w[k] ** 2) / lam,
            p.f.lsam_layer_ratio_rate(m, ratio, rho, scale),
            "lsam_layer_ratio_rate",
            latex=r"\frac{dq_k}{d\tau} = \mu_k(1 - q_k^2) + \frac{\rho\mu_k^2}{N_w} q_k",
        )
    q, n = sp.symbols("q N_w", positive=True)
    excess = p.f.lsam_log_coefficient_rate(mu_easy, q, rho, n) - (2 * mu_easy - rho * mu_easy**2 / n)
    p.equal(
        "The gain over the parabola is a square",
        excess,
        mu_easy * (q - 1) ** 2 / q,
        "lsam_log_coefficient_rate",
        latex=r"q + 1/q - 2 = (q-1)^2/q \geq 0",
    )
    p.sign("so ln u_k gains at least 2 mu_k tau - rho mu_k^2 S_w", mu_easy * (q - 1) ** 2 / q, at_least=True)
    p.equal(
        "q_k = 1 is left upward at the rate rho mu_k^2 / N_w",
        rho * mu_easy**2 / n,
        p.f.lsam_layer_ratio_rate(mu_easy, 1, rho, n),
        "lsam_layer_ratio_rate",
    )


def _lsam_filter_witness(draw: Draw) -> Pairs:
    mu, theta, radius = draw.strengths(), draw.some(4, 0.3, 1.2), draw.between(0.05, 0.3)
    loss = at.loss(on.REDUNDANT, mu)
    phantom = at.sam_point(loss, theta, radius, moved=(2, 3))
    lam = at.weights(on.REDUNDANT, mu, phantom)[0]
    rate = [-g / lam for g in at.gradient(loss, phantom)]
    w, v = theta[:2], theta[2:]
    scale = theory.last_layer_gradient_norm(mu, w)
    for k in range(2):
        q = v[k] / w[k]
        yield rate[k] / w[k] + rate[2 + k] / v[k], theory.lsam_log_coefficient_rate(mu[k], q, radius, scale)
        yield (rate[2 + k] - q * rate[k]) / w[k], theory.lsam_layer_ratio_rate(mu[k], q, radius, scale)


def _lsam_filter_simulation() -> Simulation:
    """The integrated law against ln u of an LSAM run."""
    mu, radius, eta = np.array([2.0, 1.0]), 0.2, 0.001
    w, v = (
        x[0]
        for x in recorded_layers(
            diagonal_run(mu, ([0.4, 0.4], [0.4, 0.4]), eta=eta, steps=3000, rho=radius, perturb="last")
        )
    )
    scale = theory.last_layer_gradient_norm(mu, w.T)
    vt = v - radius * mu * w / scale[:, None]
    d_tau = eta / (1 + np.exp((vt * w) @ mu))
    tau = np.concatenate([[0], np.cumsum(d_tau[:-1])])
    curves = []
    for k, name in enumerate(("easy", "hard")):
        rate = theory.lsam_log_coefficient_rate(mu[k], v[:, k] / w[:, k], radius, scale)
        gain = np.concatenate([[0], np.cumsum((rate * d_tau)[:-1])])
        seen = np.log(v[:, k] * w[:, k] / 0.16)
        curves.append(Curve(f"ln u, {name}", tau[::100], gain[::100], seen[::100]))
    return measured(curves, eta, "first order in eta (C20)", "tau", "log gain of u")


CLAIMS = (
    Claim(
        id="C13",
        title="LSAM flow",
        statement="LSAM has R_v^2 = sum_k D_k^2 w_k^2, v~_k = v_k - rho D_k w_k/R_v, w~ = w, and d(v_k^2 - w_k^2)/dt = "
        "2 rho D~_k D_k w_k^2/R_v: it pushes weight into the last layer.",
        latex=(
            r"\tilde v_k = v_k - \rho D_k w_k/R_v, \quad R_v^2 = \sum_k D_k^2 w_k^2",
            r"\frac{d}{dt}(v_k^2 - w_k^2) = 2\rho\,\tilde D_k D_k w_k^2/R_v",
        ),
        assumptions=(
            "flow for the imbalance; R_v > 0",
            "into the last layer: D_k D~_k > 0 (always so on one atom kind)",
        ),
        source=f"{PAPER} for LSAM; flow derived here",
        proof=_lsam,
        controls=(
            Control(
                "norm of both layers",
                {"last_layer_gradient_norm": lambda d, w: sp.sqrt(2) * theory.last_layer_gradient_norm(d, w)},
            ),
            Control(
                "sign of the imbalance",
                {"lsam_imbalance_rate": lambda w, r, d, t, n: -theory.lsam_imbalance_rate(w, r, d, t, n)},
            ),
            Control("sign of the perturbation", {"lsam_phantom_last_layer": lambda v, w, r: v + r * w}),
        ),
        witness=_lsam_witness,
        simulation=_lsam_simulation,
    ),
    Claim(
        id="C15",
        title="No normalisation",
        statement="USAM has chi_k = 1 - rho D_k. On one atom kind the order reverses iff rho lambda (mu_e + mu_h) > 1; "
        "with lambda <= 1/2 (positive margin) never when rho < 2/(mu_e + mu_h); chi_k -> 1 as the loss goes to 0.",
        latex=(r"\chi_k = 1 - \rho D_k", r"\frac{d}{d\tau}\ln\frac{a_h}{a_e} > 0 \iff \rho\lambda(\mu_e+\mu_h) > 1"),
        assumptions=(
            "balanced weights; flow, one atom kind for the reversal",
            "mu_e > mu_h; lambda is taken at the real point",
            "lambda <= 1/2: a balanced network on one atom kind has m = sum mu_k a_k^2 >= 0, so always",
        ),
        proof=_usam,
        controls=(
            Control("factor 2 in chi", {"usam_suppression_factor": lambda r, d: 1 - 2 * r * d}),
            Control("difference for sum", {"usam_reversal_margin": lambda r, lam, e, h: r * lam * (e - h) - 1}),
        ),
        witness=_usam_witness,
        simulation=_usam_simulation,
    ),
    Claim(
        id="C16",
        title="linf-SAM",
        statement="Balanced: a~_k = a_k - rho and a_k(tau) = rho + (a_k(0) - rho) e^(mu_k tau): each feature has its "
        "own threshold rho, whatever the others do.",
        latex=(r"\tilde a_k = a_k - \rho, \quad a_k(\tau) = \rho + (a_k(0) - \rho)e^{\mu_k\tau}",),
        assumptions=(
            "flow; balanced weights, one atom kind",
            "a_k > 0 throughout; where a_k reaches 0 the sign of the gradient flips and it stays there",
        ),
        proof=_linf,
        controls=(
            Control("threshold rho/sqrt(2)", {"linf_weight": lambda t, s, m, r: theory.sam_weight(t, s, m, r)}),
            Control("exponent negative", {"linf_weight": lambda t, s, m, r: theory.linf_weight(-t, s, m, r)}),
        ),
        witness=_linf_witness,
        simulation=_linf_simulation,
    ),
    Claim(
        id="C30",
        title="Filter law of LSAM",
        statement="On one atom kind ln u_k gains 2 mu_k tau - rho mu_k^2 S_w + mu_k times the integral of (q_k - "
        "1)^2/q_k, with q_k = v_k/w_k, dS_w/dtau = 1/N_w and dq_k/dtau = mu_k (1 - q_k^2) + rho mu_k^2 q_k/N_w. The "
        "last term is >= 0 and of second order in the imbalance: from balanced weights LSAM starts as the filter of "
        "SAM with radius rho/sqrt2.",
        latex=(
            r"\ln\frac{u_k(\tau)}{u_k(0)} = 2\mu_k\tau - \rho\mu_k^2 S_w(\tau) + \mu_k\int_0^\tau "
            r"\frac{(q_k-1)^2}{q_k}\,d\tau',\quad \frac{dS_w}{d\tau} = \frac{1}{N_w}",
            r"\frac{dq_k}{d\tau} = \mu_k(1-q_k^2) + \rho\mu_k^2 q_k/N_w",
        ),
        assumptions=("flow; one atom kind; v_k, w_k > 0", "N_w = sqrt(sum_k mu_k^2 w_k^2)"),
        source=DERIVED,
        proof=_lsam_filter,
        controls=(
            Control(
                "factor 2",
                {"lsam_log_coefficient_rate": lambda m, q, r, n: theory.lsam_log_coefficient_rate(m, q, 2 * r, n)},
            ),
            Control(
                "sign in the layer ratio",
                {"lsam_layer_ratio_rate": lambda m, q, r, n: theory.lsam_layer_ratio_rate(m, q, -r, n)},
            ),
            Control(
                "mu_h for mu_e",
                {"lsam_layer_ratio_rate": lambda m, q, r, n: theory.lsam_layer_ratio_rate(mu_hard, q, r, n)},
            ),
        ),
        witness=_lsam_filter_witness,
        simulation=_lsam_filter_simulation,
    ),
)
