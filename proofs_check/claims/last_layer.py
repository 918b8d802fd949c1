"""C21: LSAM's phantom margins of any network, from its penultimate features."""

from __future__ import annotations

import mpmath
import numpy as np
import sympy as sp

import toymodels.theory as theory
from proofs_check import setting as on
from proofs_check import witness as at
from proofs_check.claim import PAPER, Claim, Control
from proofs_check.proof import Proof
from proofs_check.setting import Training, rho
from proofs_check.simulation import Curve, Simulation, diagonal_run, exact, recorded_layers
from proofs_check.witness import Draw, Number, Numbers, Pairs

SAMPLES, WIDTH = 3, 2


def _last_layer(p: Proof) -> None:
    head = sp.symbols("v_1:3", real=True)
    phi = [[sp.Symbol(f"phi_{n + 1}{i + 1}", real=True) for i in range(WIDTH)] for n in range(SAMPLES)]
    for labels in ((1, 1, 1), (1, -1, 1)):
        margins = tuple(
            y * sum(v * x for v, x in zip(head, row, strict=True)) for y, row in zip(labels, phi, strict=True)
        )
        training = Training(head, margins, on.symbols_like("pi", SAMPLES))
        phantom = training.phantom_point()
        claimed = p.f.last_layer_phantom_margins(
            np.array(margins, dtype=object),
            np.array(phi, dtype=object),
            np.array(labels, dtype=object),
            np.array(training.weights, dtype=object),
            np.array(training.lam, dtype=object),
            rho,
        )
        p.equal(
            f"Margins at v + rho grad_v L/||grad_v L||, labels {labels}",
            [m.subs(phantom, simultaneous=True) for m in margins],
            list(claimed),
            "last_layer_phantom_margins",
            latex=r"\tilde m_n = m_n - \rho\,y_n\,\hat g\cdot\phi_n,\quad \hat g = \sum_j \pi_j\lambda_j y_j\phi_j / "
            r"\|\cdot\|",
        )
    p.note(
        "Only the last layer is perturbed, so the features phi_n are the same at the phantom point, whatever the trunk "
        "is and whether or not it is being trained. More samples or a wider head add terms of the same form to the "
        "sums."
    )
    none = np.zeros(2)
    unchanged = p.f.last_layer_phantom_margins(np.ones(2), np.eye(2), np.ones(2), none, none, 0.1)
    p.is_true("A zero gradient changes nothing", bool((unchanged == 1).all()), "last_layer_phantom_margins")


def _last_layer_witness(draw: Draw) -> Pairs:
    phi = [draw.some(3, -1, 1) for _ in range(4)]
    labels, head, radius = (1, -1, 1, -1), draw.some(3, -1, 1), draw.between(0.05, 0.5)
    raw = draw.some(4, 0.2, 1)
    pi = [x / sum(raw) for x in raw]

    def margins(v: Numbers) -> list[Number]:
        return [y * sum(a * b for a, b in zip(v, row, strict=True)) for y, row in zip(labels, phi, strict=True)]

    def loss(v: Numbers) -> Number:
        return sum(w * on.logistic(m, mpmath) for w, m in zip(pi, margins(v), strict=True))

    phantom = at.sam_point(loss, head, radius)
    lam = [on.example_weight(m, mpmath) for m in margins(head)]
    arrays = [np.array(x, dtype=object) for x in (margins(head), phi, labels, pi, lam)]
    claimed = theory.last_layer_phantom_margins(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], radius)
    yield from zip(margins(phantom), claimed, strict=True)


def _last_layer_simulation() -> Simulation:
    """The phantom example weights that LSAM's step of the first layer reveals, on three samples and three features."""
    rng = np.random.default_rng(1)
    x, pi = rng.normal(size=(3, 3)) + 0.5, np.array([0.5, 0.3, 0.2])
    w, v, radius, eta = rng.uniform(0.5, 1, 3), rng.uniform(0.5, 1, 3), 0.3, 0.1
    result = diagonal_run(
        (1.0, 1.0, 1.0), (w, v), eta=eta, steps=1, rho=radius, perturb="last", signs=x.tolist(), pi=pi.tolist()
    )
    w_next = recorded_layers(result)[0][0, 1]
    phi = x * w  # the features that the last layer sees; all labels are +1 here
    margins = phi @ v
    lam = 1 / (1 + np.exp(margins))
    claimed = theory.last_layer_phantom_margins(margins, phi, np.ones(3), pi, lam, radius)
    g = (pi * lam) @ phi
    v_phantom = v - radius * g / np.linalg.norm(g)
    weights = np.linalg.solve(x.T * pi, (w_next - w) / (eta * v_phantom))  # the step is eta sum pi lambda~ x v~
    curve = Curve("phantom margin", np.arange(3.0), claimed, np.log(1 / weights - 1))
    return exact([curve], "sample", "phantom margin")


CLAIMS = (
    Claim(
        id="C21",
        title="Last-layer law for any network",
        statement="LSAM on a network with last-layer features phi: m~_n = m_n - rho y_n ghat.phi_n with ghat = sum_j "
        "pi_j lambda_j y_j phi_j / ||.||. Phantom margins, weights and v~ can be computed exactly from a network's "
        "penultimate features.",
        latex=(
            r"\tilde m_n = m_n - \rho\,y_n\,\hat g\cdot\phi_n,\quad \hat g = "
            r"\frac{\sum_j\pi_j\lambda_jy_j\phi_j}{\|\sum_j\pi_j\lambda_jy_j\phi_j\|}",
        ),
        assumptions=(
            "one logit, logistic loss, linear last layer; a bias of the last layer is a constant feature and is "
            "perturbed too",
            "only the last layer is perturbed and enters the norm: for SAM of all layers this is not the phantom point",
            "phi and lambda taken at the same parameters and in the same mode (dropout, batch norm)",
        ),
        remark="The features need not be frozen during training: they are the same at the phantom point of LSAM in any "
        "case.",
        source=f"{PAPER} for LSAM; law derived here",
        proof=_last_layer,
        controls=(
            Control(
                "sign",
                {
                    "last_layer_phantom_margins": lambda m, f, y, p, lam, r: theory.last_layer_phantom_margins(
                        m, f, y, p, lam, -r
                    )
                },
            ),
            Control(
                "labels forgotten",
                {
                    "last_layer_phantom_margins": lambda m, f, y, p, lam, r: theory.last_layer_phantom_margins(
                        m, f, y * y, p, lam, r
                    )
                },
            ),
            Control(
                "example weights forgotten",
                {
                    "last_layer_phantom_margins": lambda m, f, y, p, lam, r: theory.last_layer_phantom_margins(
                        m, f, y, p, lam * 0 + 1, r
                    )
                },
            ),
        ),
        witness=_last_layer_witness,
        simulation=_last_layer_simulation,
    ),
)
