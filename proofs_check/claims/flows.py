"""C4-C6: what the flows conserve, GD in closed form, layer balancing; C33: the filter law from any start."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import DERIVED, Claim, Control
from proofs_check.claims.phantom_point import drives
from proofs_check.proof import Proof
from proofs_check.setting import MU, Training, V, W, mu_easy, mu_hard, rho
from proofs_check.simulation import Curve, Simulation, diagonal_run, measured, recorded_layers
from proofs_check.witness import Draw, Pairs


def _simplicity(p: Proof) -> None:
    training = Training.diagonal((V, W), on.generic_atoms(2), MU)
    rate = dict(zip((*V, *W), training.update({}, effect="weights"), strict=True))  # lambda at the point: GD's flow
    for v, w in zip(V, W, strict=True):
        p.equal(
            "GD conserves v_k^2 - w_k^2",
            2 * v * rate[v] - 2 * w * rate[w],
            0,
            latex=r"\frac{d}{dt}(v_k^2 - w_k^2) = 2 D_k (v_k w_k - w_k v_k) = 0",
        )
    D = drives(p, on.generic_atoms(2), training.lam_phantom)
    logs = [on.balanced((rate[v] * w + v * rate[w]) / (v * w)) for v, w in zip(V, W, strict=True)]
    p.equal(
        "Balanced weights grow by d ln u_k/dt = 2 D_k, so their ratio is D_h / D_e",
        logs,
        [2 * d for d in D],
        "drive",
        latex=r"d\ln u_h / d\ln u_e = D_h / D_e",
    )
    u, start_e, start_h = sp.symbols("u_e u_e0 u_h0", positive=True)
    curve = p.f.gd_hard_coefficient(u, start_e, start_h, mu_easy, mu_hard)
    p.equal(
        "On one atom kind D_h/D_e = mu_h/mu_e: the curve solves the equation",
        mu_hard / mu_easy,
        sp.diff(curve, u) * u / curve,
        "gd_hard_coefficient",
        latex=r"u_h/u_h(0) = (u_e/u_e(0))^{\mu_h/\mu_e}",
    )
    p.equal("and passes through the start", start_h, sp.powsimp(curve.subs(u, start_e)), "gd_hard_coefficient")


def _simplicity_witness(draw: Draw) -> Pairs:
    mu, start = draw.strengths(), draw.some(2, 0.2, 0.9)
    u = draw.between(1.0, 2.0)
    hard = theory.gd_hard_coefficient(u, start[0], start[1], *mu)
    slope = at.derivative(lambda x: mpmath.log(theory.gd_hard_coefficient(mpmath.exp(x), *start, *mu)), mpmath.log(u))
    a = (mpmath.sqrt(u), mpmath.sqrt(hard))
    g = at.gradient(at.loss(on.REDUNDANT, mu), (*a, *a))
    yield slope, (g[1] / a[1]) / (g[0] / a[0])


def _simplicity_simulation() -> Simulation:
    mu, eta = (2.0, 1.0), 0.002
    a = recorded_layers(diagonal_run(mu, ([0.4, 0.3],) * 2, eta=eta, steps=4000, every=50))[0][0]
    u = a**2
    claimed = theory.gd_hard_coefficient(u[:, 0], 0.16, 0.09, *mu)
    return measured(
        [Curve("GD", u[:, 0], claimed, u[:, 1])], eta, "first order in eta (C20), constant below 1", "u_e", "u_h"
    )


def _gd_time(p: Proof) -> None:
    a, start = sp.symbols("a a_0", positive=True)
    training = Training.diagonal(((V[0],), (W[0],)), on.Atoms((1,), ((1,),)), (mu_easy,))
    rate = training.update({}, effect="jacobian")[0].subs({V[0]: a, W[0]: a})
    rate = rate.subs(training.lam[0], on.example_weight(training.margins[0].subs({V[0]: a, W[0]: a})))
    time = p.f.gd_time(a, start, mu_easy)
    p.equal(
        "Differentiated by a, the time is one over da/dt",
        1 / rate,
        sp.diff(time, a),
        "gd_time",
        latex=r"\frac{dt}{da} = \frac{1 + e^{\mu a^2}}{\mu a}",
    )
    p.equal("and it is 0 at the start", 0, sp.simplify(time.subs(a, start)), "gd_time", latex=r"t(a_0) = 0")


def _gd_time_witness(draw: Draw) -> Pairs:
    mu, start, a = draw.between(0.5, 3), draw.between(0.1, 0.5), draw.between(0.5, 1.5)
    g = at.gradient(at.loss(on.Atoms((1,), ((1,),)), (mu,)), (a, a))[0]
    yield at.derivative(lambda x: theory.gd_time(x, start, mu), a), -1 / g
    yield theory.gd_time(a, start, mu), mpmath.quad(lambda x: (1 + mpmath.exp(mu * x**2)) / (mu * x), [start, a])


def _gd_time_simulation() -> Simulation:
    mu, eta = 2.0, 0.002
    a = recorded_layers(diagonal_run((mu,), ([0.2],) * 2, eta=eta, steps=4000, every=50))[0][0, :, 0]
    time = np.arange(0, 4001, 50) * eta
    return measured(
        [Curve("GD", a, theory.gd_time(a, 0.2, mu), time)], 2 * eta, "first order in eta (C20)", "a", "time"
    )


def _imbalance(p: Proof) -> None:
    training = Training.diagonal((V, W), on.generic_atoms(2), MU)
    D = drives(p, on.generic_atoms(2), training.lam)
    phantom_drives = drives(p, on.generic_atoms(2), training.lam_phantom)
    norm = p.f.gradient_norm(D, V, W)
    rate = dict(zip((*V, *W), training.update(training.phantom_point()), strict=True))
    for k, (v, w) in enumerate(zip(V, W, strict=True)):
        ratio = p.f.perturbation_ratio(rho, D[k], norm)
        p.equal(
            "Rate of the imbalance under the SAM flow",
            2 * v * rate[v] - 2 * w * rate[w],
            p.f.layer_imbalance_rate(v, w, ratio, phantom_drives[k]),
            "layer_imbalance_rate",
            latex=r"\frac{d}{dt}(v_k^2 - w_k^2) = 2\tilde D_k (v_k \tilde w_k - w_k \tilde v_k) = -2 r_k \tilde D_k "
            r"(v_k^2 - w_k^2)",
        )
    square, r, drive = sp.symbols("Delta r D", positive=True)
    v = sp.sqrt(square)
    p.sign(
        "It decays where r_k and D~_k have the same sign",
        -p.f.layer_imbalance_rate(v, 0, r, drive),
        "layer_imbalance_rate",
        latex=r"r_k \tilde D_k > 0 \Rightarrow |v_k^2 - w_k^2|\ \mathrm{falls}",
    )


def _imbalance_witness(draw: Draw) -> Pairs:
    atoms, mu, theta, radius = draw.atoms(3), draw.strengths(), draw.some(4, 0.2, 1.2), draw.between(0.05, 0.5)
    loss = at.loss(atoms, mu)
    phantom = at.sam_point(loss, theta, radius)
    rate = [-g for g in at.gradient(loss, phantom)]
    lam, lam_phantom = at.weights(atoms, mu, theta), at.weights(atoms, mu, phantom)
    v, w = theta[:2], theta[2:]
    D, Dt = ([theory.drive(mu[k], atoms.column(k), atoms.weights, x) for k in range(2)] for x in (lam, lam_phantom))
    norm = theory.gradient_norm(D, v, w)
    for k in range(2):
        r = theory.perturbation_ratio(radius, D[k], norm)
        yield 2 * v[k] * rate[k] - 2 * w[k] * rate[2 + k], theory.layer_imbalance_rate(v[k], w[k], r, Dt[k])


def _imbalance_simulation() -> Simulation:
    """A step changes the imbalance by eta times the rate plus eta^2 D~^2 (w~^2 - v~^2) exactly."""
    mu, radius, eta = np.array([2.0, 1.0]), 0.2, 0.01
    v, w = (x[0] for x in recorded_layers(diagonal_run(mu, ([0.3, 0.3], [0.7, 0.6]), eta=eta, steps=600, rho=radius)))
    scale = theory.gradient_scale(mu, v.T, w.T)
    ratio = np.stack([theory.perturbation_ratio(radius, m, scale) for m in mu], axis=1)
    vt, wt = theory.phantom_layers(v, w, ratio)
    drive = (1 / (1 + np.exp((mu * vt * wt).sum(axis=1))))[:, None] * mu
    claimed = theory.layer_imbalance_rate(v, w, ratio, drive)
    observed = np.diff(v**2 - w**2, axis=0) / eta
    bound = float(eta * (drive**2 * np.abs(wt**2 - vt**2)).max()) * 1.000001
    time = np.arange(600) * eta
    curves = [
        Curve(name, time, claimed[:-1, k], observed[:, k]) for k, name in enumerate(("easy feature", "hard feature"))
    ]
    return measured(curves, bound, "eta max |D~^2 (w~^2 - v~^2)|, the exact remainder", "time", "d(v^2 - w^2)/dt")


def _any_start(p: Proof) -> None:
    tau = on.tau
    S, N = (sp.Function(name, positive=True)(tau) for name in ("S", "N"))
    starts = sp.symbols("v_0 w_0", positive=True)
    pair = p.f.filter_layers(*starts, mu_easy, tau, S, rho)
    training = Training.diagonal((V, W), on.REDUNDANT, MU)
    scale = p.f.gradient_scale(MU, V, W)
    rates = [x / training.lam_phantom[0] for x in training.update(training.phantom_point())]
    for sign, name in ((1, "sum"), (-1, "difference")):
        p.equal(
            f"The {name} of the layers is an eigenmode of the SAM flow",
            rates[0] + sign * rates[2],
            sign * mu_easy * (1 - sign * rho * mu_easy / scale) * (V[0] + sign * W[0]),
            "gradient_scale",
            latex=r"\frac{d}{d\tau}(v_k \pm w_k) = \pm\mu_k \left(1 \mp \rho\mu_k/N\right)(v_k \pm w_k)",
        )
        mode = pair[0] + sign * pair[1]
        p.equal(
            f"The closed form of the {name} solves it, with dS/dtau = sqrt(2)/N",
            sign * mu_easy * (1 - sign * rho * mu_easy / N) * mode,
            sp.diff(mode, tau).subs(sp.Derivative(S, tau), sp.sqrt(2) / N),
            "filter_layers",
            latex=r"\ln(v_k \pm w_k) = \ln(v_k \pm w_k)(0) \pm \mu_k\tau - \frac{\rho}{\sqrt{2}}\mu_k^2 S(\tau)",
        )
    p.equal(
        "and starts where it should",
        starts,
        [sp.simplify(x.subs(S, 0).subs(tau, 0)) for x in pair],
        "filter_layers",
        latex=r"v_k(0) = v_{k0},\quad w_k(0) = w_{k0}",
    )


def _any_start_witness(draw: Draw) -> Pairs:
    mu, theta, radius = draw.strengths(), draw.some(4, 0.3, 1.2), draw.between(0.05, 0.3)
    loss = at.loss(on.REDUNDANT, mu)
    phantom = at.sam_point(loss, theta, radius)
    lam = at.weights(on.REDUNDANT, mu, phantom)[0]
    rate = [-g / lam for g in at.gradient(loss, phantom)]
    speed = mpmath.sqrt(2) / theory.gradient_scale(mu, theta[:2], theta[2:])

    def path(k: int, layer: int) -> Any:
        return at.derivative(
            lambda t: theory.filter_layers(theta[k], theta[2 + k], mu[k], t, speed * t, radius)[layer], mpmath.mpf(0)
        )

    for k in range(2):
        yield path(k, 0), rate[k]
        yield path(k, 1), rate[2 + k]


def _any_start_simulation() -> Simulation:
    mu, radius, eta = np.array([2.0, 1.0]), 0.2, 0.0005
    v, w = (x[0] for x in recorded_layers(diagonal_run(mu, ([0.2, 0.5], [0.6, 0.1]), eta=eta, steps=5000, rho=radius)))
    scale = theory.gradient_scale(mu, v.T, w.T)
    ratio = radius * mu / scale[:, None]
    vt, wt = theory.phantom_layers(v, w, ratio)
    d_tau = eta / (1 + np.exp((mu * vt * wt).sum(axis=1)))
    tau = np.concatenate([[0], np.cumsum(d_tau[:-1])])
    S = np.concatenate([[0], np.cumsum((np.sqrt(2) / scale * d_tau)[:-1])])
    curves = []
    for k, name in enumerate(("easy", "hard")):
        claimed = theory.filter_layers(v[0, k], w[0, k], mu[k], tau, S, radius)
        curves += [
            Curve(f"v, {name}", tau[::100], claimed[0][::100], v[::100, k]),
            Curve(f"w, {name}", tau[::100], claimed[1][::100], w[::100, k]),
        ]
    return measured(curves, eta, "first order in eta (C20)", "tau", "weight")


CLAIMS = (
    Claim(
        id="C4",
        title="Simplicity bias of GD",
        statement="GD conserves v_k^2 - w_k^2. Balanced: d ln u_h / d ln u_e = D_h / D_e, and on one atom kind u_h / "
        "u_h(0) = (u_e / u_e(0))^(mu_h / mu_e).",
        latex=(
            r"\frac{d}{dt}(v_k^2 - w_k^2) = 0, \qquad \frac{d\ln u_h}{d\ln u_e} = \frac{D_h}{D_e}",
            r"\mathrm{one\ atom\ kind:}\quad u_h/u_h(0) = (u_e/u_e(0))^{\mu_h/\mu_e}",
        ),
        assumptions=("flow (eta -> 0)", "balanced weights for the relation between u_e and u_h; C33 has the others"),
        remark="d ln u_h / d ln u_e = D_h / D_e needs balanced weights: in general each side carries the factor (v_k^2 "
        "+ w_k^2) / (2 v_k w_k).",
        proof=_simplicity,
        controls=(
            Control("exponent inverted", {"gd_hard_coefficient": lambda u, e, h, m, n: h * (u / e) ** (m / n)}),
            Control(
                "start of the other feature", {"gd_hard_coefficient": lambda u, e, h, m, n: e * (u / h) ** (n / m)}
            ),
            Control("mu_h for mu_e in the drive", {"drive": lambda m, s, p, lam: theory.drive(mu_hard, s, p, lam)}),
        ),
        witness=_simplicity_witness,
        simulation=_simplicity_simulation,
    ),
    Claim(
        id="C5",
        title="GD in closed form",
        statement="One feature, balanced: GD takes the weight from a0 to a in the time t = (1/mu) [ln(a/a0) + (Ei(mu "
        "a^2) - Ei(mu a0^2)) / 2].",
        latex=(
            r"t = \frac{1}{\mu}\left[\ln\frac{a}{a_0} + \frac{1}{2}(\mathrm{Ei}(\mu a^2) - \mathrm{Ei}(\mu "
            r"a_0^2))\right]",
        ),
        assumptions=("flow; one feature, one atom kind, logistic loss", "a, a0 > 0"),
        proof=_gd_time,
        controls=(
            Control(
                "Ei without the factor 1/2",
                {"gd_time": lambda a, s, mu: 2 * theory.gd_time(a, s, mu) - sp.log(a / s) / mu},
            ),
            Control(
                "logarithm subtracted", {"gd_time": lambda a, s, mu: theory.gd_time(a, s, mu) - 2 * sp.log(a / s) / mu}
            ),
        ),
        witness=_gd_time_witness,
        simulation=_gd_time_simulation,
    ),
    Claim(
        id="C6",
        title="Layer balancing",
        statement="Under the SAM flow d(v_k^2 - w_k^2)/dt = -2 r_k D~_k (v_k^2 - w_k^2): the imbalance decays where "
        "D_k and D~_k have the same sign, on one atom kind faster for the stronger feature (rate 2 rho lambda~ mu_k^2 "
        "/ N).",
        latex=(r"\frac{d}{dt}(v_k^2 - w_k^2) = -2 r_k \tilde D_k (v_k^2 - w_k^2)",),
        assumptions=(
            "flow",
            "decay: D_k D~_k > 0 (always so on one atom kind)",
            "faster for the stronger drive: D_k D~_k larger",
        ),
        remark="With several atom kinds a stronger real drive alone does not make the decay faster: the rate is 2 rho "
        "D_k D~_k / R and may even be negative.",
        proof=_imbalance,
        controls=(
            Control("sign", {"layer_imbalance_rate": lambda v, w, r, d: -theory.layer_imbalance_rate(v, w, r, d)}),
            Control(
                "factor 2", {"layer_imbalance_rate": lambda v, w, r, d: theory.layer_imbalance_rate(v, w, r, d) / 2}
            ),
        ),
        witness=_imbalance_witness,
        simulation=_imbalance_simulation,
    ),
    Claim(
        id="C33",
        title="Filter law from any start",
        statement="On one atom kind v_k + w_k and v_k - w_k are the eigenmodes of GD and of SAM for every k: ln(v_k + "
        "w_k) gains mu_k tau - (rho/sqrt2) mu_k^2 S and ln|v_k - w_k| gains -mu_k tau - (rho/sqrt2) mu_k^2 S, dS/dtau "
        "= sqrt(2)/N. With rho = 0 this is GD in closed form from any start.",
        latex=(
            r"(v_k \pm w_k)(\tau) = (v_k \pm w_k)(0)\, \exp\left(\pm\mu_k\tau - \frac{\rho}{\sqrt{2}}\mu_k^2 "
            r"S(\tau)\right)",
            r"dS/d\tau = \sqrt{2}/N, \quad N = \sqrt{\sum_k \mu_k^2 (v_k^2 + w_k^2)}",
        ),
        assumptions=("flow; one atom kind; any number of features", "N > 0; no balance, no signs of v_k, w_k"),
        source=f"{DERIVED}; extends C22",
        proof=_any_start,
        controls=(
            Control(
                "no decay of the difference",
                {"filter_layers": lambda v, w, m, t, S, r: theory.filter_layers(v, w, m, 0 * t, S, r)},
            ),
            Control(
                "rho halved", {"filter_layers": lambda v, w, m, t, S, r: theory.filter_layers(v, w, m, t, S, r / 2)}
            ),
        ),
        witness=_any_start_witness,
        simulation=_any_start_simulation,
    ),
)
