"""C24: the hard share gained over GD; C28: S in closed form in special cases."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import Claim, Control
from proofs_check.claims.filter_law import S, filter_path
from proofs_check.claims.turning_point import SCALE, log_rates
from proofs_check.proof import Proof
from proofs_check.setting import MU, A, mu_easy, mu_hard, rho, tau
from proofs_check.simulation import Curve, Simulation, measured
from proofs_check.witness import Draw, Pairs


def _hard_gain(p: Proof) -> None:
    log_rates(p)
    value, start_e, start_h = sp.symbols("S a_e0 a_h0", positive=True)
    e, h = (
        start * sp.exp(p.f.filter_log_gain(m, tau, value, rho)) for m, start in zip(MU, (start_e, start_h), strict=True)
    )
    on_gd = p.f.gd_hard_coefficient(e**2, start_e**2, start_h**2, mu_easy, mu_hard)
    p.equal(
        "u_h of SAM over u_h of GD at the same u_e (logarithms)",
        sp.expand_log(sp.log(h**2 / on_gd), force=True),
        sp.expand_log(sp.log(p.f.hard_gain_over_gd(value, mu_easy, mu_hard, rho)), force=True),
        "hard_gain_over_gd",
        latex=r"u_h = u_h^{GD}(u_e)\; e^{\sqrt{2}\,\rho\,\mu_h(\mu_e-\mu_h)\,S}",
    )
    p.sign(
        "The exponent is positive for mu_e > mu_h",
        sp.log(p.f.hard_gain_over_gd(value, mu_hard + on.gap, mu_hard, rho)),
        "hard_gain_over_gd",
    )
    p.equal(
        "Logit of the hard share H",
        sp.expand_log(
            sp.log(mu_hard * h**2 / (mu_easy * e**2)) - sp.log(mu_hard * start_h**2 / (mu_easy * start_e**2)),
            force=True,
        ),
        p.f.hard_share_logit_gain(tau, value, mu_easy, mu_hard, rho),
        "hard_share_logit_gain",
        latex=r"\mathrm{logit}\,H - \mathrm{logit}\,H(0) = -2(\mu_e-\mu_h)\tau + \sqrt{2}\,\rho(\mu_e^2-\mu_h^2)S",
    )
    p.note(
        "Matched training loss is matched margin mu_e u_e + mu_h u_h on one atom kind. GD's curve rises and the "
        "matched line falls, so GD meets the line below SAM's point: its hard share there is smaller, at every loss "
        "level that SAM reaches."
    )
    _hard_gain_bounds(p)


def _hard_gain_bounds(p: Proof) -> None:
    share, start = sp.symbols("q N_0", positive=True)
    # dN/dtau = sum mu_k q_k (N - rho mu_k), q_k the shares of (mu_k a_k)^2; checked against C10's function
    z = sp.log(sp.sqrt((1 - share) / share))
    rate = mu_easy * share * (SCALE - rho * mu_easy) + mu_hard * (1 - share) * (SCALE - rho * mu_hard)
    p.equal(
        "dN/dtau in terms of the easy feature's share of N^2",
        rate,
        p.f.phase_plane_rates(z, SCALE, mu_easy, mu_hard, rho)[1],
        "phase_plane_rates",
        latex=r"\dot N = \sum_k \mu_k q_k (N - \rho\mu_k)",
    )
    p.implies(
        "Upper bound of the rate",
        [share < 1, mu_easy > mu_hard, rho * mu_hard < SCALE],
        rate <= mu_easy * (SCALE - rho * mu_hard),
        latex=r"\dot N \leq \mu_e (N - \rho\mu_h)",
    )
    p.implies(
        "Lower bound of the rate",
        [share < 1, mu_easy > mu_hard, rho * mu_easy < SCALE],
        rate >= mu_hard * (SCALE - rho * mu_easy),
        latex=r"\dot N \geq \mu_h (N - \rho\mu_e)",
    )
    exponent = sp.sqrt(2) * rho * mu_hard * (mu_easy - mu_hard) * sp.sqrt(2) / SCALE  # d ln gain/dtau
    gain = p.f.hard_gain_over_gd(S, mu_easy, mu_hard, rho)
    p.equal(
        "d ln gain/dtau, with dS/dtau = sqrt(2)/N",
        exponent,
        (sp.diff(gain, tau) / gain).subs(sp.Derivative(S, tau), sp.sqrt(2) / SCALE),
        "hard_gain_over_gd",
    )
    for index, (bound_rate, name) in enumerate(
        ((mu_easy * (SCALE - rho * mu_hard), "lower"), (mu_hard * (SCALE - rho * mu_easy), "upper"))
    ):
        bound = p.f.hard_gain_bounds(start, SCALE, mu_easy, mu_hard, rho)[index]
        p.equal(
            f"With the extreme rate the {name} bound grows exactly like the gain, so it stays on its side of it",
            exponent,
            sp.diff(bound, SCALE) / bound * bound_rate,
            "hard_gain_bounds",
            latex=r"\left(\frac{\chi_h(N)}{\chi_h(N_0)}\right)^{2(1-\mu_h/\mu_e)} \leq \frac{u_h}{u_h^{GD}} \leq "
            r"\left(\frac{\chi_e(N)}{\chi_e(N_0)}\right)^{2(1-\mu_h/\mu_e)}",
        )
        p.equal("and it starts at 1", 1, sp.simplify(bound.subs(SCALE, start)), "hard_gain_bounds")


def _hard_gain_witness(draw: Draw) -> Pairs:
    mu, start, radius = draw.strengths(), draw.some(2, 0.3, 1), draw.between(0.05, 0.3)
    time, value = draw.between(0.2, 1), draw.between(0.2, 1)
    a = [x * mpmath.exp(theory.filter_log_gain(m, time, value, radius)) for m, x in zip(mu, start, strict=True)]
    gd = theory.gd_hard_coefficient(a[0] ** 2, start[0] ** 2, start[1] ** 2, *mu)
    yield a[1] ** 2 / gd, theory.hard_gain_over_gd(value, mu[0], mu[1], radius)
    logit = mpmath.log(mu[1] * a[1] ** 2 / (mu[0] * a[0] ** 2)) - mpmath.log(
        mu[1] * start[1] ** 2 / (mu[0] * start[0] ** 2)
    )
    yield logit, theory.hard_share_logit_gain(time, value, mu[0], mu[1], radius)
    rates = at.tau_rates(mu, start, radius)
    slope = 2 * rates[1] / start[1] - 2 * mu[1] / mu[0] * rates[0] / start[0]
    speed = mpmath.sqrt(2) / theory.balanced_gradient_scale(mu, start)
    yield (
        slope,
        at.derivative(lambda t: mpmath.log(theory.hard_gain_over_gd(speed * t, mu[0], mu[1], radius)), mpmath.mpf(0)),
    )


def _hard_gain_simulation() -> Simulation:
    mu, eta, start = np.array([2.0, 1.0]), 0.001, np.array([0.6, 0.6])
    curves, outside = [], 0.0
    for radius in (0.1, 0.3, 0.5):
        a, _, S_path = filter_path(mu, start, radius, eta, 2500)
        u = a**2
        seen = u[:, 1] / theory.gd_hard_coefficient(u[:, 0], *start**2, *mu)
        shown = slice(None, None, 100)
        curves.append(
            Curve(
                f"rho = {radius}",
                u[shown, 0],
                theory.hard_gain_over_gd(S_path, mu[0], mu[1], radius)[shown],
                seen[shown],
            )
        )
        N = theory.balanced_gradient_scale(mu, a.T)
        low, high = theory.hard_gain_bounds(N[0], N, mu[0], mu[1], radius)
        outside = max(outside, float((low - seen).max()), float((seen - high).max()))
    result = measured(
        curves,
        eta,
        "first order in eta (C20), for the law and for both bounds",
        "u_e",
        "u_h over GD's at the same u_e",
    )
    return Simulation(
        max(result.error, outside), result.bound, result.reason, result.curves, result.x_label, result.y_label
    )


def _special(p: Proof) -> None:
    norm0 = sp.Symbol("n_0", positive=True)
    rates = on.balanced_flow((mu_easy, mu_easy))
    size = on.length(A)
    derived = sum(sp.diff(size, a) * r for a, r in zip(A, rates, strict=True))
    p.equal(
        "Features of one strength: ||a|| obeys C9's equation",
        derived,
        mu_easy * (size - p.f.sam_shift(rho)),
        "sam_shift",
        latex=r"\frac{d\|a\|}{d\tau} = \mu\left(\|a\| - \frac{\rho}{\sqrt{2}}\right)",
    )
    norm = p.f.equal_strength_norm(tau, norm0, mu_easy, rho)
    p.equal(
        "solved by",
        mu_easy * (norm - p.f.sam_shift(rho)),
        sp.diff(norm, tau),
        "equal_strength_norm",
        latex=r"\|a\| = \frac{\rho}{\sqrt{2}} + \left(\|a(0)\| - \frac{\rho}{\sqrt{2}}\right)e^{\mu\tau}",
    )
    p.equal("from ||a(0)||", norm0, norm.subs(tau, 0), "equal_strength_norm")
    value = p.f.equal_strength_suppression_time(tau, norm0, mu_easy, rho)
    p.equal(
        "S in closed form has dS/dtau = 1/(mu ||a||)",
        1 / (mu_easy * norm),
        sp.diff(value, tau),
        "equal_strength_suppression_time",
        latex=r"S = \frac{\sqrt{2}}{\rho\mu^2}\left(\mu\tau - \ln\frac{\|a\|}{\|a(0)\|}\right)",
    )
    p.equal("and S(0) = 0", 0, sp.simplify(value.subs(tau, 0)), "equal_strength_suppression_time")
    b_e, b_h = sp.symbols("b_e b_h", positive=True)
    first = p.f.double_strength_suppression_time(tau, b_e, b_h, mu_hard)
    p.equal(
        "mu_e = 2 mu_h, rho -> 0: dS/dtau = 1/||(b_e e^(2 mu_h tau), b_h e^(mu_h tau))||",
        1 / sp.sqrt(b_e**2 * sp.exp(4 * mu_hard * tau) + b_h**2 * sp.exp(2 * mu_hard * tau)),
        sp.powsimp(sp.diff(first, tau)),
        "double_strength_suppression_time",
        latex=r"S_0 = \frac{\sqrt{b_e^2+b_h^2} - \sqrt{b_e^2+b_h^2e^{-2\mu_h\tau}}}{\mu_h b_h^2}",
    )
    p.equal("and S(0) = 0", 0, sp.simplify(first.subs(tau, 0)), "double_strength_suppression_time")


def _special_witness(draw: Draw) -> Pairs:
    mu, norm, radius, time = draw.between(0.5, 2), draw.between(0.6, 1.5), draw.between(0.1, 0.6), draw.between(0.1, 1)
    speed = at.derivative(lambda t: theory.equal_strength_suppression_time(t, norm, mu, radius), time)
    now = theory.equal_strength_norm(time, norm, mu, radius)
    a = (now * mpmath.mpf(3) / 5, now * mpmath.mpf(4) / 5)
    yield speed, theory.suppression_time_rate((mu, mu), a)
    rate = at.derivative(lambda t: theory.equal_strength_norm(t, norm, mu, radius), time)
    yield rate, sum(x * r for x, r in zip(a, at.tau_rates((mu, mu), a, radius), strict=True)) / now
    b = draw.some(2, 0.3, 1)
    grown = (b[0] * mpmath.exp(2 * mu * time), b[1] * mpmath.exp(mu * time))
    speed = at.derivative(lambda t: theory.double_strength_suppression_time(t, b[0], b[1], mu), time)
    yield speed, theory.suppression_time_rate((1, 1), grown)


def _special_simulation() -> Simulation:
    eta, radius = 0.001, 0.4
    _, clock, S_path = filter_path(np.array([1.5, 1.5]), np.array([0.3, 0.4]), radius, eta, 1500)
    shown = slice(None, None, 100)
    equal = Curve(
        "S, mu = (1.5, 1.5), rho = 0.4",
        clock[shown],
        theory.equal_strength_suppression_time(clock, 0.5, 1.5, radius)[shown],
        S_path[shown],
    )
    mu, start = np.array([2.0, 1.0]), np.array([0.4, 0.4])
    _, clock, S_path = filter_path(mu, start, 1e-4, eta, 1500)
    double = Curve(
        "S, mu = (2, 1), rho = 0.0001",
        clock[shown],
        theory.double_strength_suppression_time(clock, mu[0] * start[0], mu[1] * start[1], 1.0)[shown],
        S_path[shown],
    )
    return measured([equal, double], eta, "first order in eta (C20); rho = 0.0001 adds less", "tau", "S")


CLAIMS = (
    Claim(
        id="C24",
        title="Hard share gained over GD",
        statement="At the same u_e, SAM's u_h is GD's times exp(sqrt2 rho mu_h (mu_e - mu_h) S) > 1, S the integral of "
        "dtau/||mu a||. So on one atom kind SAM has the larger hard share at every matched training loss that it "
        "reaches. The factor lies between (chi_h(N)/chi_h(N0))^(2(1 - mu_h/mu_e)) and (chi_e(N)/chi_e(N0))^(2(1 - "
        "mu_h/mu_e)); as N grows these tend to powers of the suppression factors at the start.",
        latex=(
            r"\frac{u_h}{u_h^{GD}(u_e)} = e^{\sqrt{2}\,\rho\,\mu_h(\mu_e-\mu_h)S}, \quad S = \int_0^\tau "
            r"\frac{d\tau'}{\|(\mu_ka_k)\|}",
            r"\left(\frac{\chi_h(N)}{\chi_h(N_0)}\right)^{2(1-\mu_h/\mu_e)} \leq \frac{u_h}{u_h^{GD}(u_e)} \leq "
            r"\left(\frac{\chi_e(N)}{\chi_e(N_0)}\right)^{2(1-\mu_h/\mu_e)}",
        ),
        assumptions=(
            "flow; balanced weights, two features, one atom kind, mu_e > mu_h, rho > 0; the same start",
            "matched loss below the loss at the start",
            "lower bound: N > rho mu_h so far; upper bound: N(0) > rho mu_e",
        ),
        proof=_hard_gain,
        controls=(
            Control(
                "factor 2 in the exponent",
                {"hard_gain_over_gd": lambda s, e, h, r: theory.hard_gain_over_gd(2 * s, e, h, r)},
            ),
            Control("mu_e for mu_h", {"hard_gain_over_gd": lambda s, e, h, r: theory.hard_gain_over_gd(s, h, e, r)}),
            Control(
                "bounds exchanged",
                {"hard_gain_bounds": lambda s, n, e, h, r: theory.hard_gain_bounds(s, n, e, h, r)[::-1]},
            ),
            Control(
                "logit gain at rho/2",
                {"hard_share_logit_gain": lambda t, s, e, h, r: theory.hard_share_logit_gain(t, s, e, h, r / 2)},
            ),
        ),
        witness=_hard_gain_witness,
        simulation=_hard_gain_simulation,
    ),
    Claim(
        id="C28",
        title="S in closed form where there is one",
        statement="Features of one strength mu: ||a|| = rho/sqrt2 + (||a(0)|| - rho/sqrt2) e^(mu tau) and S = sqrt2 "
        "(mu tau - ln(||a||/||a(0)||))/(rho mu^2). For mu_e = 2 mu_h and rho -> 0, with b_k = mu_k a_k(0): S = "
        "(sqrt(b_e^2 + b_h^2) - sqrt(b_e^2 + b_h^2 e^(-2 mu_h tau)))/(mu_h b_h^2).",
        latex=(
            r"\mu_k = \mu:\quad S = \frac{\sqrt{2}}{\rho\mu^2}\left(\mu\tau - \ln\frac{\|a\|}{\|a(0)\|}\right)",
            r"\mu_e = 2\mu_h,\ \rho \to 0:\quad S = \frac{\sqrt{b_e^2+b_h^2} - "
            r"\sqrt{b_e^2+b_h^2e^{-2\mu_h\tau}}}{\mu_hb_h^2}",
        ),
        assumptions=(
            "as C22; rho > 0 in the first formula",
            "the second is the leading order in rho: it gives C24's gain up to O(rho^2)",
        ),
        proof=_special,
        controls=(
            Control(
                "threshold rho",
                {"equal_strength_norm": lambda t, n, m, r: theory.equal_strength_norm(t, n, m, sp.sqrt(2) * r)},
            ),
            Control(
                "sign of the logarithm",
                {
                    "equal_strength_suppression_time": lambda t, n, m, r: theory.equal_strength_suppression_time(
                        -t, n, m, r
                    )
                },
            ),
            Control(
                "drives exchanged",
                {
                    "double_strength_suppression_time": lambda t, e, h, m: theory.double_strength_suppression_time(
                        t, h, e, m
                    )
                },
            ),
        ),
        witness=_special_witness,
        simulation=_special_simulation,
    ),
)
