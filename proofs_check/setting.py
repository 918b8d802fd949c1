"""The setting, from which all proofs start: data, network, loss and update rules, independent of ``toymodels.theory``.

    f(x) = sum_k x_k prod_l layer_l[k],   m_n = y_n f(x_n) = sum_k s_nk mu_k u_k,   L = sum_n pi_n log(1 + e^-m_n)

    phantom point: theta~ = theta + rho * direction(grad L(theta)),   step: theta <- theta - eta grad L(theta~)

The same few lines serve SymPy (here) and fifty-digit numbers (:mod:`proofs_check.witness`), through ``library``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sympy as sp

Expr = Any
"""A SymPy expression."""

mu_easy, mu_hard, rho, eta, tau = sp.symbols("mu_e mu_h rho eta tau", positive=True)
gap = sp.Symbol("delta", positive=True)
"""mu_e - mu_h where the easy feature is strictly stronger: substitute ``mu_e -> mu_h + delta``."""
MU = (mu_easy, mu_hard)
a_easy, a_hard = A = sp.symbols("a_e a_h", positive=True)
v_easy, v_hard = V = sp.symbols("v_e v_h", real=True)
w_easy, w_hard = W = sp.symbols("w_e w_h", real=True)


def logistic(margin: Any, library: Any = sp) -> Any:
    """log(1 + e^-m)."""
    return library.log(1 + library.exp(-margin))


def example_weight(margin: Any, library: Any = sp) -> Any:
    """lambda = -d logistic / d margin, written out; :func:`check_example_weight` derives it."""
    return 1 / (1 + library.exp(margin))


@dataclass(frozen=True)
class Atoms:
    """Weighted atoms: ``weights`` pi_n, ``signs`` s_nk (rows n, columns k)."""

    weights: tuple[Any, ...]
    signs: tuple[tuple[Any, ...], ...]

    def column(self, k: int) -> tuple[Any, ...]:
        """s_nk of one feature over the atoms."""
        return tuple(row[k] for row in self.signs)


REDUNDANT = Atoms((1,), ((1, 1),))
"""One atom kind, in which both features agree with the label."""


def generic_atoms(count: int, features: int = 2) -> Atoms:
    """``count`` atoms with symbolic weights and signs."""
    weights = tuple(sp.Symbol(f"pi_{n + 1}", positive=True) for n in range(count))
    signs = tuple(tuple(sp.Symbol(f"s_{n + 1}{k + 1}", real=True) for k in range(features)) for n in range(count))
    return Atoms(weights, signs)


def spurious_atoms(p: Any) -> Atoms:
    """The easy feature agrees with the label with probability p; the hard one always does."""
    return Atoms((p, 1 - p), ((1, 1), (-1, 1)))


def margins(layers: Sequence[Sequence[Any]], atoms: Atoms, mu: Sequence[Any]) -> tuple[Any, ...]:
    """m_n of the diagonal network with the given layers (each a sequence over features)."""
    coefficients = []
    for weights in zip(*layers, strict=True):
        product = 1
        for weight in weights:
            product = product * weight
        coefficients.append(product)
    return tuple(sum(s * m * u for s, m, u in zip(row, mu, coefficients, strict=True)) for row in atoms.signs)


def training_loss(layers: Sequence[Sequence[Any]], atoms: Atoms, mu: Sequence[Any], library: Any = sp) -> Any:
    """sum_n pi_n log(1 + e^-m_n)."""
    return sum(p * logistic(m, library) for p, m in zip(atoms.weights, margins(layers, atoms, mu), strict=True))


def gradient(loss: Expr, parameters: Sequence[Expr]) -> tuple[Expr, ...]:
    """dL/dtheta."""
    return tuple(sp.diff(loss, p) for p in parameters)


def length(vector: Sequence[Expr]) -> Expr:
    """l2 norm."""
    return sp.sqrt(sum(x**2 for x in vector))


def symbols_like(name: str, count: int) -> tuple[sp.Symbol, ...]:
    """``count`` positive symbols name_1, name_2, ..."""
    return tuple(sp.Symbol(f"{name}_{n + 1}", positive=True) for n in range(count))


@dataclass(frozen=True)
class Training:
    """One update of any network on any data, with the example weights kept as symbols.

    By the chain rule grad L = -sum_n pi_n lambda_n grad m_n with lambda_n = -loss'(m_n) > 0; C1 checks this against
    the loss differentiated outright. Only the network's margins m_n(theta) enter otherwise. Keeping lambda_n (at the
    real point) and lambda~_n (at the phantom point) as symbols is what makes the proofs hold at every loss level.
    """

    parameters: tuple[Expr, ...]
    margins: tuple[Expr, ...]
    weights: tuple[Expr, ...]

    @classmethod
    def diagonal(cls, layers: Sequence[Sequence[Expr]], atoms: Atoms, mu: Sequence[Expr]) -> Training:
        """The diagonal network; parameters are ordered layer by layer."""
        return cls(tuple(x for layer in layers for x in layer), margins(layers, atoms, mu), atoms.weights)

    @property
    def lam(self) -> tuple[sp.Symbol, ...]:
        """lambda_n, the example weights at the real point."""
        return symbols_like("lambda", len(self.margins))

    @property
    def lam_phantom(self) -> tuple[sp.Symbol, ...]:
        """lambda~_n, the example weights at the phantom point."""
        return symbols_like("lambdatilde", len(self.margins))

    def gradient(self, lam: Sequence[Expr] | None = None) -> tuple[Expr, ...]:
        """grad L = -sum_n pi_n lambda_n grad m_n with the Jacobian at the real point."""
        lam = self.lam if lam is None else lam
        return tuple(
            -sum(p * x * sp.diff(m, t) for p, x, m in zip(self.weights, lam, self.margins, strict=True))
            for t in self.parameters
        )

    def phantom_point(
        self, radius: Expr = rho, perturbed: Sequence[Expr] | None = None, norm: str = "l2"
    ) -> dict[Expr, Expr]:
        """theta~ = theta + rho * direction(grad L) on the ``perturbed`` parameters (all by default).

        ``norm``: "l2" g/||g||, "none" g, "linf" sign(g).
        """
        moved = [i for i, t in enumerate(self.parameters) if perturbed is None or t in perturbed]
        g = self.gradient()
        scale = length([g[i] for i in moved])
        by = {"l2": lambda x: x / scale, "none": lambda x: x, "linf": sp.sign}[norm]
        return {self.parameters[i]: self.parameters[i] + radius * by(g[i]) for i in moved}

    def update(self, phantom: dict[Expr, Expr], effect: str = "full") -> tuple[Expr, ...]:
        """What a step with eta = 1 adds to the parameters, the right-hand side of the flow.

        ``effect``: "full", "weights" (phantom example weights, real Jacobian) or "jacobian" (the reverse).
        """
        g = self.gradient(self.lam if effect == "jacobian" else self.lam_phantom)
        if effect == "weights":
            return tuple(-x for x in g)
        return tuple(-x.subs(phantom, simultaneous=True) for x in g)


def balanced(expression: Expr) -> Expr:
    """v_k = w_k = a_k > 0."""
    return sp.sympify(expression).subs({v_easy: a_easy, w_easy: a_easy, v_hard: a_hard, w_hard: a_hard})


def balanced_flow(mu: Sequence[Expr] = MU, a: Sequence[Expr] = A, radius: Expr = rho) -> tuple[Expr, ...]:
    """da_k/dtau of SAM on one atom kind with v = w = a, from the loss; d tau = lambda~ dt."""
    v, w = sp.symbols(f"v1:{len(a) + 1}", positive=True), sp.symbols(f"w1:{len(a) + 1}", positive=True)
    training = Training.diagonal((v, w), Atoms((1,), ((1,) * len(a),)), mu)
    direction = training.update(training.phantom_point(radius))[: len(a)]
    same = dict(zip((*v, *w), (*a, *a), strict=True))
    return tuple(sp.simplify(x.subs(same) / training.lam_phantom[0]) for x in direction)
