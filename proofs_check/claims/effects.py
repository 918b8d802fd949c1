"""C11 and C12, the paper's two effects: importance weighting and learning-rate scaling."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import PAPER, Claim, Control
from proofs_check.claims.phantom_point import drives
from proofs_check.proof import Proof
from proofs_check.setting import MU, Training, V, W, rho
from proofs_check.simulation import Array, Curve, Simulation, diagonal_run, exact, measured, recorded_layers
from proofs_check.witness import Draw, Number, Pairs

P = sp.Symbol("p", positive=True)
U = sp.symbols("u_e u_h", positive=True)


def _weighting(p: Proof) -> None:
    u_tilde = sp.Symbol("u_te", real=True)
    one = (sp.Integer(1),) * 2
    hard = sp.Symbol("u_h", real=True)
    logits = []
    for easy in (U[0], u_tilde):
        majority, minority = on.margins(((easy, hard), one), on.spurious_atoms(P), MU)
        logits.append(-minority - (-majority))  # logit sigmoid(-m) = -m
    x = sp.Symbol("m", real=True)
    p.equal(
        "The logit of an example weight is minus its margin",
        (1 - on.example_weight(x)) / on.example_weight(x),
        sp.exp(x),
        latex=r"\mathrm{logit}\,\lambda_n = -m_n",
    )
    p.equal(
        "So the difference between the groups is 2 mu_e u_e, and 2 mu_e u~_e at the phantom point",
        logits[1],
        p.f.phantom_logit_contraction(u_tilde, U[0]) * logits[0],
        "phantom_logit_contraction",
        latex=r"\mathrm{logit}\,\tilde\lambda_{min} - \mathrm{logit}\,\tilde\lambda_{maj} = \frac{\tilde "
        r"u_e}{u_e}\,(\mathrm{logit}\,\lambda_{min} - \mathrm{logit}\,\lambda_{maj})",
    )
    majority, minority = on.margins((U, one), on.spurious_atoms(P), MU)
    p.equal(
        "The ratio of the weights",
        on.example_weight(minority) / on.example_weight(majority),
        p.f.minority_weight_ratio(*MU, *U),
        "minority_weight_ratio",
        latex=r"r = \frac{\lambda_{min}}{\lambda_{maj}} = \frac{1 + e^{c+d}}{1 + e^{c-d}},\quad c = \mu_h u_h,\ d = "
        r"\mu_e u_e",
    )
    surplus, r = sp.symbols("epsilon r", positive=True)
    c, d = sp.symbols("c d", positive=True)
    ratio = p.f.minority_weight_ratio(1, 1, d, c)
    by_easy = sp.diff(ratio, d) * (1 + sp.exp(c - d)) ** 2
    p.equal(
        "Its derivative by d has this sign",
        sp.exp(c + d) + sp.exp(c - d) + 2 * sp.exp(2 * c),
        by_easy,
        "minority_weight_ratio",
        latex=r"\partial r/\partial d \propto e^{c+d} + e^{c-d} + 2e^{2c} > 0",
    )
    p.sign("which is positive", sp.exp(c + d) + sp.exp(c - d) + 2 * sp.exp(2 * c))
    by_hard = sp.diff(ratio, c) * (1 + sp.exp(c - d)) ** 2
    p.equal(
        "Its derivative by c has this sign",
        sp.exp(c - d) * (sp.exp(2 * d) - 1),
        by_hard,
        "minority_weight_ratio",
        latex=r"\partial r/\partial c \propto e^{c-d}(e^{2d} - 1) > 0\ \mathrm{for}\ d > 0",
    )
    growth = sp.Symbol("e2d", positive=True)
    p.implies("which is positive where d > 0, that is e^(2d) > 1", [growth > 1, r > 0], r * (growth - 1) > 0)
    for name, function, sign in (
        ("Gini coefficient", "two_kind_gini", 1),
        ("Lorenz curve", "two_kind_lorenz_knee", -1),
    ):
        f = getattr(p.f, function)
        p.implies(
            f"The {name} {'rises' if sign > 0 else 'falls'} with r",
            [P < 1, r >= 1, surplus > 0],
            sign * (f(r + surplus, P) - f(r, P)) > 0,
            function,
            latex=r"G = \frac{p(1-p)(r-1)}{p+(1-p)r}" if sign > 0 else r"\mathcal{L}(p) = \frac{p}{p+(1-p)r}",
        )
    low, high = sp.symbols("lambda_maj lambda_min", positive=True)
    mean = P * low + (1 - P) * high
    knee = P * low / mean
    p.equal(
        "The knee of the Lorenz curve, the majority's share of all weight",
        knee,
        p.f.two_kind_lorenz_knee(high / low, P),
        "two_kind_lorenz_knee",
    )
    area = P * knee / 2 + (1 - P) * (knee + 1) / 2
    p.equal("Gini = 1 - twice the area under it", 1 - 2 * area, p.f.two_kind_gini(high / low, P), "two_kind_gini")


def _groups(mu: tuple[Number, ...], theta: tuple[Number, ...], p: Number) -> tuple[Number, Number]:
    """(lambda_maj, lambda_min)."""
    majority, minority = at.weights(on.spurious_atoms(p), mu, theta)
    return majority, minority


def _weighting_witness(draw: Draw) -> Pairs:
    mu, theta, p, radius = draw.strengths(), draw.some(4, 0.4, 1.1), draw.between(0.6, 0.95), draw.between(0.05, 0.3)
    phantom = at.sam_point(at.loss(on.spurious_atoms(p), mu), theta, radius)

    def spread(point: tuple[Number, ...]) -> Number:
        majority, minority = _groups(mu, point, p)
        return mpmath.log(minority / (1 - minority)) - mpmath.log(majority / (1 - majority))

    u, ut = theta[0] * theta[2], phantom[0] * phantom[2]
    yield spread(phantom) / spread(theta), theory.phantom_logit_contraction(ut, u)
    majority, minority = _groups(mu, theta, p)
    yield minority / majority, theory.minority_weight_ratio(mu[0], mu[1], u, theta[1] * theta[3])
    share = p * majority / (p * majority + (1 - p) * minority)
    yield share, theory.two_kind_lorenz_knee(minority / majority, p)
    yield p - share, theory.two_kind_gini(minority / majority, p)


def spurious_run(p: float, eta: float, steps: int, every: int = 1, **options: float | str) -> Array:
    """Balanced weights [R, K] on spurious data."""
    result = diagonal_run(
        (2.0, 1.0),
        ([0.4, 0.4],) * 2,
        eta=eta,
        steps=steps,
        every=every,
        signs=((1, 1), (-1, 1)),
        pi=(p, 1 - p),
        **options,
    )
    return recorded_layers(result)[0][0]


def _weighting_simulation() -> Simulation:
    """The phantom weights that the engine's weights-only step reveals, against the contraction by chi_e^2."""
    p, radius, eta = 0.9, 0.2, 0.02
    mu = np.array([2.0, 1.0])
    a = spurious_run(p, eta, 300, rho=radius, effect="weights")
    change = np.diff(a, axis=0) / (eta * a[:-1] * mu)  # = (p l~_maj -+ (1-p) l~_min)
    majority, minority = (change[:, 1] + change[:, 0]) / (2 * p), (change[:, 1] - change[:, 0]) / (2 * (1 - p))
    seen = np.log(minority / (1 - minority)) - np.log(majority / (1 - majority))
    u = a[:-1] ** 2
    lam = 1 / (1 + np.exp(np.stack([u @ mu, u @ (mu * [-1, 1])])))
    D = [theory.drive(mu[k], s, (p, 1 - p), lam) for k, s in enumerate(((1, -1), (1, 1)))]
    norm = theory.gradient_norm(D, a[:-1].T, a[:-1].T)
    chi = theory.suppression_factor(theory.perturbation_ratio(radius, D[0], norm))
    factor = theory.phantom_logit_contraction(chi**2 * u[:, 0], u[:, 0])
    real = 2 * mu[0] * u[:, 0]
    time = np.arange(300) * eta
    return exact(
        [Curve("logit difference at the phantom point", time, factor * real, seen)], "time", "logit difference"
    )


def _scaling(p: Proof) -> None:
    training = Training.diagonal((V, W), on.generic_atoms(2), MU)
    phantom = training.phantom_point()
    D = drives(p, on.generic_atoms(2), training.lam)
    norm = p.f.gradient_norm(D, V, W)
    derived = phantom[V[1]] * V[0] - phantom[V[0]] * V[1]
    p.equal(
        "v~_h v_e - v~_e v_h, from the loss",
        derived,
        rho / norm * V[0] * V[1] * p.f.hard_gains_last_layer_share(D[0], D[1], V[0], V[1], W[0], W[1]),
        "hard_gains_last_layer_share",
        latex=r"\tilde v_h v_e - \tilde v_e v_h = \frac{\rho\,v_e v_h}{R}\left(\frac{D_e w_e}{v_e} - \frac{D_h "
        r"w_h}{v_h}\right)",
    )
    v_e, v_h, w_e, w_h, R = sp.symbols("v_e v_h w_e w_h R", positive=True)
    d_e, d_h = sp.symbols("D_e D_h", real=True)
    tilde_e, tilde_h = v_e - rho * d_e / R * w_e, v_h - rho * d_h / R * w_h
    p.implies(
        "With positive weights and v~_e > 0 the ratio rises exactly where that difference is positive",
        [tilde_e > 0],
        sp.Equivalent(tilde_h / tilde_e > v_h / v_e, p.f.hard_gains_last_layer_share(d_e, d_h, v_e, v_h, w_e, w_h) > 0),
        "hard_gains_last_layer_share",
        latex=r"\tilde v_h/\tilde v_e > v_h/v_e \iff D_h w_h/v_h < D_e w_e/v_e",
    )
    p.equal(
        "Balanced, it is D_e - D_h",
        d_e - d_h,
        p.f.hard_gains_last_layer_share(d_e, d_h, v_e, v_h, v_e, v_h),
        "hard_gains_last_layer_share",
        latex=r"v = w:\quad D_h < D_e",
    )


def _scaling_witness(draw: Draw) -> Pairs:
    atoms, mu, theta, radius = draw.atoms(3), draw.strengths(), draw.some(4, 0.3, 1.2), draw.between(0.01, 0.2)
    phantom = at.sam_point(at.loss(atoms, mu), theta, radius)
    lam = at.weights(atoms, mu, theta)
    D = [theory.drive(mu[k], atoms.column(k), atoms.weights, lam) for k in range(2)]
    v, w = theta[:2], theta[2:]
    sign = theory.hard_gains_last_layer_share(*D, *v, *w)
    yield phantom[1] * v[0] - phantom[0] * v[1], radius / theory.gradient_norm(D, v, w) * v[0] * v[1] * sign


def _scaling_simulation() -> Simulation:
    """The sign over a grid of unbalanced starts: the engine's first step of w is eta D~ v~."""
    mu, radius, eta = np.array([2.0, 1.0]), 0.2, 0.1
    grid = np.linspace(0.3, 1.2, 6)
    v_h, w_h, w_e = (x.ravel() for x in np.meshgrid(grid, grid, grid))
    v, w = np.stack([np.full_like(v_h, 0.7), v_h], 1), np.stack([w_e, w_h], 1)
    w_next = recorded_layers(diagonal_run(mu, (w, v), eta=eta, steps=1, rho=radius))[0][:, 1]
    seen = np.sign((w_next - w)[:, 1] / mu[1] / ((w_next - w)[:, 0] / mu[0]) - v[:, 1] / v[:, 0])
    claimed = np.sign(theory.hard_gains_last_layer_share(mu[0], mu[1], v[:, 0], v[:, 1], w[:, 0], w[:, 1]))
    clear = np.abs(mu[0] * w[:, 0] / v[:, 0] - mu[1] * w[:, 1] / v[:, 1]) > 1e-9
    curve = Curve("share rises (+1) or falls (-1)", np.arange(clear.sum(), dtype=float), claimed[clear], seen[clear])
    return measured([curve], 0.0, "the sign at every start, no tolerance", "start number", "sign")


CLAIMS = (
    Claim(
        id="C11",
        title="Importance weighting",
        statement="Two atom kinds: logit lambda~_min - logit lambda~_maj = (u~_e/u_e)(logit lambda_min - logit "
        "lambda_maj), balanced with the factor chi_e^2. The ratio r = lambda_min/lambda_maj = (1 + e^(c+d))/(1 + "
        "e^(c-d)) rises in d, and in c where d > 0; the Gini coefficient and the distance of the Lorenz curve from the "
        "diagonal rise with r. So for 0 < u~_k < u_k the phantom weights are more uniform.",
        latex=(
            r"\mathrm{logit}\,\tilde\lambda_{min} - \mathrm{logit}\,\tilde\lambda_{maj} = \frac{\tilde "
            r"u_e}{u_e}\,(\mathrm{logit}\,\lambda_{min} - \mathrm{logit}\,\lambda_{maj})",
            r"r = \frac{\lambda_{min}}{\lambda_{maj}} = \frac{1+e^{c+d}}{1+e^{c-d}}, \quad c = \mu_h u_h,\ d = \mu_e "
            r"u_e",
            r"G = \frac{p(1-p)(r-1)}{p+(1-p)r}",
        ),
        assumptions=(
            "spurious data: s = (1, 1) with probability p, (-1, 1) with 1 - p; u_e not 0 for the factor",
            "uniformity: 0 < u~_k < u_k for both features; balanced, that is 0 < r_k < 2 and r_k not 1, so D_e > 0",
        ),
        remark="The ratio rises in c only where d = mu_e u_e > 0. When D_e < 0 (minority already dominating the "
        "gradient) the easy coefficient is amplified at the phantom point and the contraction is an expansion.",
        source=f"{PAPER}, section 4 (importance weighting); formulas derived here",
        proof=_weighting,
        controls=(
            Control("inverse factor", {"phantom_logit_contraction": lambda t, u: u / t}),
            Control(
                "minority and majority exchanged",
                {"minority_weight_ratio": lambda e, h, u, v: 1 / theory.minority_weight_ratio(e, h, u, v)},
            ),
            Control(
                "easy and hard exchanged",
                {"minority_weight_ratio": lambda e, h, u, v: theory.minority_weight_ratio(h, e, v, u)},
            ),
            Control(
                "Gini without the majority's share",
                {"two_kind_gini": lambda r, p: (1 - p) * (r - 1) / (p + (1 - p) * r)},
            ),
        ),
        witness=_weighting_witness,
        simulation=_weighting_simulation,
    ),
    Claim(
        id="C12",
        title="Learning-rate scaling",
        statement="With positive weights and v~_e > 0: v~_h/v~_e > v_h/v_e exactly when D_h w_h/v_h < D_e w_e/v_e; "
        "balanced, exactly when D_h < D_e.",
        latex=(r"\tilde v_h/\tilde v_e > v_h/v_e \iff D_h w_h/v_h < D_e w_e/v_e",),
        assumptions=("v_k, w_k > 0 and v~_e > 0; v~_h and the drives may have any sign", "R > 0, rho > 0"),
        source=f"{PAPER}, section 4 (learning-rate scaling); condition derived here",
        proof=_scaling,
        controls=(
            Control(
                "features exchanged",
                {
                    "hard_gains_last_layer_share": lambda e, h, ve, vh, we, wh: theory.hard_gains_last_layer_share(
                        h, e, vh, ve, wh, we
                    )
                },
            ),
            Control(
                "v/w for w/v", {"hard_gains_last_layer_share": lambda e, h, ve, vh, we, wh: e * ve / we - h * vh / wh}
            ),
        ),
        witness=_scaling_witness,
        simulation=_scaling_simulation,
    ),
)
