"""Fifty-digit numerical witnesses: the loss differentiated by mpmath at random parameters, no SymPy involved."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mpmath

from proofs_check import setting

DIGITS = 50
DRAWS = 5
LIMIT = mpmath.mpf(10) ** -30
Number = Any
"""An mpmath number."""
Numbers = Any
"""A tuple of them (its length is known where it is used)."""
Pairs = Iterable[tuple[Number, Number]]


class Draw:
    """Random fifty-digit parameters."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)

    def between(self, low: float, high: float) -> Number:
        """A number in (low, high) with random digits all the way down."""
        return low + (high - low) * mpmath.mpf(self._source.getrandbits(200)) / mpmath.mpf(2) ** 200

    def some(self, count: int, low: float, high: float) -> Numbers:
        """``count`` numbers."""
        return tuple(self.between(low, high) for _ in range(count))

    def strengths(self, count: int = 2) -> Numbers:
        """mu, the easiest feature first."""
        return tuple(sorted(self.some(count, 0.5, 3.0), reverse=True))

    def atoms(self, count: int, features: int = 2) -> setting.Atoms:
        """Atoms with random weights and signs."""
        raw = self.some(count, 0.2, 1.0)
        return setting.Atoms(
            tuple(x / sum(raw) for x in raw), tuple(self.some(features, -1.5, 1.5) for _ in range(count))
        )


def max_error(witness: Callable[[Draw], Pairs]) -> Number:
    """The largest |left - right| over a few draws, at fifty digits."""
    with mpmath.workdps(DIGITS):
        errors = [mpmath.fabs(left - right) for seed in range(DRAWS) for left, right in witness(Draw(seed))]
        return max(errors)


def gradient(function: Callable[[Sequence[Number]], Number], at: Sequence[Number]) -> tuple[Number, ...]:
    """Central differences at 160 digits: truncation and rounding both stay below 1e-60."""
    with mpmath.workdps(160):
        h = mpmath.mpf(10) ** -40

        def shifted(i: int, by: Number) -> list[Number]:
            return [x + by if j == i else x for j, x in enumerate(at)]

        return tuple((function(shifted(i, h)) - function(shifted(i, -h))) / (2 * h) for i in range(len(at)))


def derivative(function: Callable[..., Number], at: Number) -> Number:
    """df/dx by the same differences."""
    return gradient(lambda x: function(x[0]), (at,))[0]


def loss(atoms: setting.Atoms, mu: Sequence[Number], depth: int = 2) -> Callable[[Sequence[Number]], Number]:
    """The training loss of the diagonal network as a function of its flat parameters, layer by layer."""

    def value(theta: Sequence[Number]) -> Number:
        return setting.training_loss(layers_of(theta, depth), atoms, mu, mpmath)

    return value


def layers_of(theta: Sequence[Number], depth: int = 2) -> list[tuple[Number, ...]]:
    """Flat parameters as ``depth`` layers."""
    width = len(theta) // depth
    return [tuple(theta[i * width : (i + 1) * width]) for i in range(depth)]


def norm(vector: Sequence[Number]) -> Number:
    """l2 norm."""
    return mpmath.sqrt(sum(x**2 for x in vector))


def sam_point(
    function: Callable[[Sequence[Number]], Number],
    theta: Sequence[Number],
    rho: Number,
    moved: Sequence[int] | None = None,
) -> tuple[Number, ...]:
    """theta + rho g/||g||, on the ``moved`` indices only where given."""
    g = gradient(function, theta)
    chosen = range(len(theta)) if moved is None else moved
    size = norm([g[i] for i in chosen])
    return tuple(x + rho * g[i] / size if i in chosen else x for i, x in enumerate(theta))


def weights(atoms: setting.Atoms, mu: Sequence[Number], theta: Sequence[Number], depth: int = 2) -> tuple[Number, ...]:
    """Example weights lambda_n."""
    return tuple(setting.example_weight(m, mpmath) for m in setting.margins(layers_of(theta, depth), atoms, mu))


def tau_rates(mu: Sequence[Number], a: Sequence[Number], rho: Number, depth: int = 2) -> tuple[Number, ...]:
    """da_k/dtau of SAM on one atom kind with equal layers, from the loss by differences."""
    atoms = setting.Atoms((1,), ((1,) * len(mu),))
    function, theta = loss(atoms, mu, depth), tuple(a) * depth
    phantom = sam_point(function, theta, rho)
    lam = weights(atoms, mu, phantom, depth)[0]
    return tuple(-g / lam for g in gradient(function, phantom)[: len(mu)])
