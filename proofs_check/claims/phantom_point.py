"""C1-C3: the gradient, the phantom point and the order of suppression."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import PAPER, Claim, Control
from proofs_check.proof import INDUCTION, Proof
from proofs_check.setting import MU, A, Atoms, Training, V, W, mu_easy, mu_hard, rho
from proofs_check.simulation import Curve, Simulation, diagonal_run, exact, recorded_layers
from proofs_check.witness import Draw, Pairs


def drives(p: Proof, atoms: Atoms, lam: tuple[sp.Symbol, ...]) -> tuple[sp.Expr, ...]:
    """D_k by the function under proof."""
    return tuple(p.f.drive(m, atoms.column(k), atoms.weights, lam) for k, m in enumerate(MU))


def _gradient(p: Proof) -> None:
    margin = sp.Symbol("m", real=True)
    p.equal(
        "The example weight is minus the derivative of the loss by the margin",
        -sp.diff(on.logistic(margin), margin),
        on.example_weight(margin),
        latex=r"\lambda_n = -\ell'(m_n) = 1/(1+e^{m_n})",
    )
    atoms = on.generic_atoms(3)
    derived = on.margins((V, W), atoms, MU)
    u = [v * w for v, w in zip(V, W, strict=True)]
    p.equal(
        "The margin is a sum over features",
        derived,
        [p.f.margin(u, row, MU) for row in atoms.signs],
        "margin",
        latex=r"m_n = \sum_k s_{nk}\,\mu_k\,v_k w_k",
    )
    training = Training.diagonal((V, W), atoms, MU)
    lam = tuple(on.example_weight(m) for m in derived)
    outright = on.gradient(on.training_loss((V, W), atoms, MU), (*V, *W))
    D = drives(p, atoms, lam)
    rows = [p.f.layer_gradients(d, v, w) for d, v, w in zip(D, V, W, strict=True)]
    p.equal(
        "Differentiating the loss of three general atoms gives D_k w_k and D_k v_k",
        [-g for g in outright],
        [rows[0][0], rows[1][0], rows[0][1], rows[1][1]],
        "layer_gradients / drive",
        latex=r"-\partial L/\partial v_k = D_k w_k,\quad -\partial L/\partial w_k = D_k v_k,\quad D_k = \sum_n \pi_n "
        r"\lambda_n s_{nk} \mu_k",
    )
    p.equal("The chain rule with symbolic example weights says the same", outright, training.gradient(lam))
    _any_number_of_atoms_and_features(p)
    symbols = sp.symbols("D_e D_h", real=True)
    p.equal(
        "R is the length of the gradient",
        sum(x**2 for d, v, w in zip(symbols, V, W, strict=True) for x in (d * v, d * w)),
        p.f.gradient_norm(symbols, V, W) ** 2,
        "gradient_norm",
        latex=r"R^2 = \sum_k D_k^2\,(v_k^2 + w_k^2)",
    )
    one = Training.diagonal((V, W), on.REDUNDANT, MU)
    p.equal(
        "On one atom kind R = lambda N",
        on.length(one.gradient()),
        one.lam[0] * p.f.gradient_scale(MU, V, W),
        "gradient_scale",
        latex=r"R = \lambda N,\quad N = \sqrt{\sum_k \mu_k^2 (v_k^2 + w_k^2)}",
    )
    p.equal(
        "For balanced weights N = sqrt(2) ||(mu_k a_k)||",
        on.balanced(on.length(one.gradient())),
        one.lam[0] * p.f.balanced_gradient_scale(MU, A),
        "balanced_gradient_scale",
        latex=r"v = w = a:\quad N = \sqrt{2}\,\|(\mu_k a_k)\|",
    )


def _any_number_of_atoms_and_features(p: Proof) -> None:
    """The loss as a sum over a symbolic number N of atoms and K of features, differentiated by one weight."""
    K, N, j = sp.symbols("K N j", integer=True, positive=True)
    n, k = sp.symbols("n k", integer=True, positive=True)
    v, w, mu, s, pi = (sp.IndexedBase(name) for name in ("v", "w", "mu", "s", "pi"))
    margin = sp.Sum(s[n, k] * mu[k] * v[k] * w[k], (k, 1, K))
    loss = sp.Sum(pi[n] * on.logistic(margin), (n, 1, N))
    lam = on.example_weight(margin)
    for index, weight in enumerate((v, w)):
        summand = sp.diff(loss, weight[j]).doit().function
        inside = -(summand.args[0][0] if isinstance(summand, sp.Piecewise) else summand)  # the case j <= K
        drive = p.f.drive(mu[j], (s[n, j],), (pi[n],), (lam,))
        claimed = p.f.layer_gradients(drive, v[j], w[j])[index]
        p.equal(
            f"The same for any number of atoms and features: the n-th term of the derivative by {weight}_j",
            inside,
            claimed,
            "layer_gradients / drive",
            latex=r"-\frac{\partial L}{\partial v_j} = \sum_{n=1}^{N} \pi_n \lambda_n s_{nj} \mu_j\, w_j",
        )
    atoms, lams = on.generic_atoms(3), on.symbols_like("lambda", 3)
    whole = p.f.drive(mu_easy, atoms.column(0), atoms.weights, lams)
    parts = (
        p.f.drive(mu_easy, atoms.column(0)[i : i + 1], atoms.weights[i : i + 1], lams[i : i + 1]) for i in range(3)
    )
    p.equal("The drive is additive over atoms, so term by term is enough", whole, sum(parts), "drive", method=INDUCTION)


def _gradient_witness(draw: Draw) -> Pairs:
    atoms, mu, theta = draw.atoms(3), draw.strengths(), draw.some(4, 0.2, 1.2)
    g = at.gradient(at.loss(atoms, mu), theta)
    lam = at.weights(atoms, mu, theta)
    D = [theory.drive(m, atoms.column(k), atoms.weights, lam) for k, m in enumerate(mu)]
    v, w = theta[:2], theta[2:]
    for k in range(2):
        dv, dw = theory.layer_gradients(D[k], v[k], w[k])
        yield -g[k], dv
        yield -g[2 + k], dw
    yield at.norm(g), theory.gradient_norm(D, v, w)


def _gradient_simulation() -> Simulation:
    mu, layers = (2.0, 1.0), ([0.4, 0.3], [0.5, 0.2])
    result = diagonal_run(mu, layers, eta=0.05, steps=200, rho=0.2)
    v, w = (x[0] for x in recorded_layers(result))
    lam = 1 / (1 + np.exp((mu * v * w).sum(axis=1)))
    claimed = lam * theory.gradient_scale(mu, v.T, w.T)
    return exact(
        [Curve("R", np.arange(201) * 0.05, claimed, result.records.gradient_norm[0])], "time", "gradient norm", 1e-12
    )


def _phantom(p: Proof) -> None:
    atoms = on.generic_atoms(2)
    training = Training.diagonal((V, W), atoms, MU)
    phantom = training.phantom_point()
    D = drives(p, atoms, training.lam)
    norm = p.f.gradient_norm(D, V, W)
    ratios = [p.f.perturbation_ratio(rho, d, norm) for d in D]
    for k, name in enumerate(("easy", "hard")):
        derived = (phantom[V[k]], phantom[W[k]])
        p.equal(
            f"Phantom weights of the {name} feature, from theta + rho grad L / ||grad L||",
            derived,
            p.f.phantom_layers(V[k], W[k], ratios[k]),
            "phantom_layers / perturbation_ratio",
            latex=r"\tilde v_k = v_k - r_k w_k,\quad \tilde w_k = w_k - r_k v_k,\quad r_k = \rho D_k/R",
        )
    r = sp.Symbol("r", real=True)
    layers = p.f.phantom_layers(V[0], W[0], r)
    p.equal(
        "Their product",
        sp.expand((V[0] - r * W[0]) * (W[0] - r * V[0])),
        p.f.phantom_coefficient(V[0], W[0], r),
        "phantom_coefficient",
        latex=r"\tilde u_k = u_k (1 + r_k^2) - r_k (v_k^2 + w_k^2)",
    )
    p.equal(
        "Balanced weights are multiplied by chi_k = 1 - r_k",
        [x.subs(W[0], V[0]) for x in layers],
        [p.f.suppression_factor(r) * V[0]] * 2,
        "suppression_factor",
        latex=r"v = w = a:\quad \tilde a_k = \chi_k a_k,\quad \chi_k = 1 - r_k,\quad \tilde u_k = \chi_k^2 u_k",
    )
    one = Training.diagonal((V, W), on.REDUNDANT, MU)
    for k, a in enumerate(A):
        p.equal(
            "On one atom kind the example weight cancels",
            on.balanced(one.phantom_point()[V[k]]) / a,
            p.f.one_atom_suppression_factor(rho, MU[k], p.f.balanced_gradient_scale(MU, A)),
            "one_atom_suppression_factor",
            latex=r"\chi_k = 1 - \rho\mu_k/N",
        )


def _phantom_witness(draw: Draw) -> Pairs:
    atoms, mu, theta, radius = draw.atoms(3), draw.strengths(), draw.some(4, 0.2, 1.2), draw.between(0.05, 0.6)
    phantom = at.sam_point(at.loss(atoms, mu), theta, radius)
    v, w = theta[:2], theta[2:]
    lam = at.weights(atoms, mu, theta)
    D = [theory.drive(m, atoms.column(k), atoms.weights, lam) for k, m in enumerate(mu)]
    norm = theory.gradient_norm(D, v, w)
    for k in range(2):
        r = theory.perturbation_ratio(radius, D[k], norm)
        yield from zip((phantom[k], phantom[2 + k]), theory.phantom_layers(v[k], w[k], r), strict=True)
        yield phantom[k] * phantom[2 + k], theory.phantom_coefficient(v[k], w[k], r)


def _phantom_simulation() -> Simulation:
    """The engine's step reveals the phantom point: theta' - theta = eta lambda~ mu (w~, v~)."""
    mu, radius, eta = np.array([2.0, 1.0]), 0.3, 0.05
    v, w = (x[0] for x in recorded_layers(diagonal_run(mu, ([0.4, 0.3], [0.5, 0.2]), eta=eta, steps=200, rho=radius)))
    scale = theory.gradient_scale(mu, v.T, w.T)
    ratios = [theory.perturbation_ratio(radius, m, scale) for m in mu]
    phantom = [theory.phantom_layers(v[:, k], w[:, k], ratios[k]) for k in range(2)]
    lam = 1 / (1 + np.exp(sum(mu[k] * phantom[k][0] * phantom[k][1] for k in range(2))))
    time = np.arange(200) * eta
    curves = [
        Curve(f"w~ of the {name} feature", time, phantom[k][1][:-1], np.diff(v[:, k]) / (eta * lam[:-1] * mu[k]))
        for k, name in enumerate(("easy", "hard"))
    ]
    return exact(curves, "time", "phantom weight")


def _order(p: Proof) -> None:
    strong, weak, norm, surplus = sp.symbols("D_e D_h R epsilon", positive=True)
    weak_any = sp.Symbol("D_h", real=True)
    factors = [p.f.suppression_factor(p.f.perturbation_ratio(rho, d, norm)) for d in (weak_any + surplus, weak_any)]
    p.equal(
        "By C2 the factors are chi_k = 1 - rho D_k/R",
        [1 - rho * d / norm for d in (weak_any + surplus, weak_any)],
        factors,
        "suppression_factor / perturbation_ratio",
        latex=r"\chi_k = 1 - \rho D_k/R",
    )
    p.sign(
        "With D_e = D_h + epsilon the factors differ by rho epsilon / R > 0",
        sp.expand(factors[1] - factors[0]),
        "suppression_factor",
        latex=r"\chi_h - \chi_e = \rho (D_e - D_h)/R > 0",
    )
    r_e, r_h = (p.f.perturbation_ratio(rho, d, norm) for d in (strong, weak))
    chi_e, chi_h = p.f.suppression_factor(r_e), p.f.suppression_factor(r_h)
    p.implies(
        "In absolute value, chi_e^2 < chi_h^2 exactly when r_e + r_h < 2",
        [strong > weak, rho > 0],
        sp.Equivalent(chi_e**2 < chi_h**2, rho * (strong + weak) < 2 * norm),
        "suppression_factor",
        latex=r"\chi_e^2 < \chi_h^2 \iff r_e + r_h < 2",
    )
    scale = sp.Symbol("N", positive=True)
    chis = [p.f.one_atom_suppression_factor(rho, m, scale) for m in MU]
    p.implies(
        "On one atom kind that is N > rho (mu_e + mu_h)/2",
        [mu_easy > mu_hard],
        sp.Equivalent(chis[0] ** 2 < chis[1] ** 2, 2 * scale > rho * (mu_easy + mu_hard)),
        "one_atom_suppression_factor",
        latex=r"\chi_e^2 < \chi_h^2 \iff N > \rho(\mu_e + \mu_h)/2",
    )


def _order_witness(draw: Draw) -> Pairs:
    mu, theta, radius = draw.strengths(), draw.some(2, 0.4, 1.2), draw.between(0.05, 0.3)
    atoms = draw.atoms(3)
    phantom = at.sam_point(at.loss(atoms, mu), (*theta, *theta), radius)
    lam = at.weights(atoms, mu, (*theta, *theta))
    D = [theory.drive(m, atoms.column(k), atoms.weights, lam) for k, m in enumerate(mu)]
    norm = theory.gradient_norm(D, theta, theta)
    factors = [phantom[k] / theta[k] for k in range(2)]
    yield factors[1] - factors[0], radius * (D[0] - D[1]) / norm
    for k in range(2):
        yield factors[k], theory.suppression_factor(theory.perturbation_ratio(radius, D[k], norm))
    yield mpmath.sign(factors[1] - factors[0]), mpmath.sign(D[0] - D[1])


def _order_simulation() -> Simulation:
    mu, radius, eta = np.array([2.0, 1.0]), 0.3, 0.02
    a = recorded_layers(diagonal_run(mu, ([0.4, 0.4],) * 2, eta=eta, steps=300, rho=radius))[0][0]
    scale = theory.balanced_gradient_scale(mu, a.T)
    chi = [theory.one_atom_suppression_factor(radius, m, scale) for m in mu]
    lam = 1 / (1 + np.exp(sum(mu[k] * (chi[k] * a[:, k]) ** 2 for k in range(2))))
    time = np.arange(300) * eta
    curves = [
        Curve(f"chi of the {name} feature", time, chi[k][:-1], np.diff(a[:, k]) / (eta * lam * mu[k] * a[:, k])[:-1])
        for k, name in enumerate(("easy", "hard"))
    ]
    return exact(curves, "time", "suppression factor")


CLAIMS = (
    Claim(
        id="C1",
        title="Gradient",
        statement="-dL/dv_k = D_k w_k and -dL/dw_k = D_k v_k with the drive D_k = sum_n pi_n lambda_n s_nk mu_k; R = "
        "||grad L|| has R^2 = sum_k D_k^2 (v_k^2 + w_k^2). On one atom kind R = lambda N.",
        latex=(
            r"-\partial L/\partial v_k = D_k w_k, \quad -\partial L/\partial w_k = D_k v_k, \quad D_k = \sum_n \pi_n "
            r"\lambda_n s_{nk} \mu_k",
            r"R = \|\nabla L\| = \sqrt{\sum_k D_k^2 (v_k^2 + w_k^2)}, \qquad \mathrm{one\ atom\ kind:}\ R = \lambda N",
        ),
        assumptions=(
            "diagonal network of depth 2; any number of atoms and features; any signs s_nk",
            "R = lambda N: one atom kind with s_k = 1 (another size of s_k is absorbed into mu_k)",
        ),
        source=f"{PAPER}, section 4, for the split into example weights and Jacobian; formulas derived here",
        proof=_gradient,
        controls=(
            Control("layers exchanged", {"layer_gradients": lambda d, v, w: (d * v, d * w)}),
            Control(
                "drive without example weights", {"drive": lambda m, s, p, lam: theory.drive(m, s, p, [1] * len(p))}
            ),
            Control("norm of one layer only", {"gradient_norm": lambda d, v, w: theory.last_layer_gradient_norm(d, w)}),
            Control(
                "balanced scale without sqrt(2)",
                {"balanced_gradient_scale": lambda m, a: theory.balanced_gradient_scale(m, a) / sp.sqrt(2)},
            ),
        ),
        witness=_gradient_witness,
        simulation=_gradient_simulation,
    ),
    Claim(
        id="C2",
        title="Phantom point",
        statement="With r_k = rho D_k / R: v~_k = v_k - r_k w_k, w~_k = w_k - r_k v_k, u~_k = u_k (1 + r_k^2) - r_k "
        "(v_k^2 + w_k^2). Balanced: a~_k = chi_k a_k with chi_k = 1 - r_k. On one atom kind chi_k = 1 - rho mu_k / N: "
        "the loss level cancels.",
        latex=(
            r"\tilde v_k = v_k - r_k w_k, \quad \tilde w_k = w_k - r_k v_k, \quad r_k = \rho D_k / R",
            r"\tilde u_k = u_k (1 + r_k^2) - r_k (v_k^2 + w_k^2)",
            r"v=w=a:\quad \tilde a_k = \chi_k a_k, \quad \chi_k = 1 - r_k, \qquad \mathrm{one\ atom\ kind:}\ \chi_k = "
            r"1 - \rho \mu_k / N",
        ),
        assumptions=(
            "R > 0: at a point of zero gradient the phantom point is not defined (the engines perturb nothing)",
        ),
        source=f"{PAPER}, section 4 (phantom parameters); formulas derived here",
        proof=_phantom,
        controls=(
            Control(
                "perturbation with the wrong sign", {"phantom_layers": lambda v, w, r: theory.phantom_layers(v, w, -r)}
            ),
            Control("each layer perturbed along itself", {"phantom_layers": lambda v, w, r: (v - r * v, w - r * w)}),
            Control(
                "factor 2 in the ratio",
                {"perturbation_ratio": lambda rho, d, n: 2 * theory.perturbation_ratio(rho, d, n)},
            ),
            Control("r^2 dropped", {"phantom_coefficient": lambda v, w, r: v * w - r * (v**2 + w**2)}),
            Control("mu_h for mu_e", {"one_atom_suppression_factor": lambda rho, m, n: 1 - rho * mu_hard / n}),
        ),
        witness=_phantom_witness,
        simulation=_phantom_simulation,
    ),
    Claim(
        id="C3",
        title="Suppression order",
        statement="D_e > D_h implies chi_e < chi_h: the stronger drive is suppressed more. The magnitudes follow the "
        "same order, |chi_e| < |chi_h|, exactly when r_e + r_h < 2 (one atom kind: N > rho (mu_e + mu_h) / 2).",
        latex=(
            r"\chi_h - \chi_e = \rho (D_e - D_h)/R",
            r"|\chi_e| < |\chi_h| \iff r_e + r_h < 2 \quad (\mathrm{one\ atom\ kind:}\ N > \rho(\mu_e+\mu_h)/2)",
        ),
        assumptions=(
            "rho > 0, R > 0; D_h > 0 is not needed (a negative drive is amplified)",
            "the order of magnitudes needs D_e > D_h > 0",
        ),
        proof=_order,
        remark="The suppressed coefficient u~ = chi^2 u follows the order of the drives only while r_e + r_h < 2: a "
        "phantom weight pushed far through zero is large again.",
        controls=(
            Control("chi = 1 + r", {"suppression_factor": lambda r: 1 + r}),
            Control("ratio inverted", {"perturbation_ratio": lambda rho, d, n: rho * n / d}),
            Control("factor 2 in chi", {"one_atom_suppression_factor": lambda rho, m, n: 1 - 2 * rho * m / n}),
        ),
        witness=_order_witness,
        simulation=_order_simulation,
    ),
)
