"""One simulation per claim with the reference engine, its error beside a bound that is stated beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.problem import TrainingProblem, TrainingResult
from kernels.reference import train

Array = NDArray[Any]


@dataclass(frozen=True)
class Curve:
    """What the report draws: the theory as a line, the simulation as marks."""

    label: str
    x: Array
    theory: Array
    simulated: Array

    def __post_init__(self) -> None:
        shapes = [np.shape(values) for values in (self.x, self.theory, self.simulated)]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1:
            raise ValueError(f"curve {self.label!r}: x, theory and simulated have shapes {shapes}; allowed: one [n]")


@dataclass(frozen=True)
class Simulation:
    """A simulation's largest error, the bound it must meet, why that bound, and what to draw."""

    error: float
    bound: float
    reason: str
    curves: tuple[Curve, ...] = ()
    x_label: str = "t"
    y_label: str = ""


def exact(curves: Sequence[Curve], x_label: str, y_label: str, bound: float = 1e-9) -> Simulation:
    """A simulation that must agree with the formula up to rounding in float64."""
    return measured(curves, bound, "rounding in float64", x_label, y_label)


def measured(curves: Sequence[Curve], bound: float, reason: str, x_label: str, y_label: str) -> Simulation:
    """The largest distance between theory and simulation over ``curves``."""
    error = max(float(np.abs(c.theory - c.simulated).max()) for c in curves)
    return Simulation(error, bound, reason, tuple(curves), x_label, y_label)


def diagonal_run(
    mu: ArrayLike,
    layers: Sequence[ArrayLike],
    *,
    eta: float,
    steps: int,
    signs: ArrayLike | None = None,
    pi: ArrayLike = (1.0,),
    every: int = 1,
    **options: Any,
) -> TrainingResult:
    """Train the diagonal network on atoms, keeping all parameters every ``every`` steps.

    Args:
        layers: initial layers, each ``[B, K]`` or ``[K]``.
        signs: s_nk (default: one atom kind in which both features agree with the label).
        pi: weights of the atoms.
        options: further fields of :class:`~kernels.problem.TrainingProblem`.
    """
    table = np.ones((1, np.size(mu))) if signs is None else np.asarray(signs, float)
    problem = TrainingProblem(
        features=(table * np.asarray(mu))[None],
        labels=np.ones((1, len(table))),
        initial_layers=tuple(np.atleast_2d(np.asarray(layer, float)) for layer in layers),
        sample_weights=np.asarray(pi, float)[None],
        eta=eta,
        steps=steps,
        record_steps=np.arange(0, steps + 1, every),
        record_layers=True,
        **options,
    )
    return train(problem)


def recorded_layers(result: TrainingResult) -> tuple[Array, ...]:
    """Parameters at the record steps, each ``[B, R, K]``."""
    layers = result.records.layers
    if layers is None:
        raise ValueError("the run kept no parameters")
    return tuple(np.asarray(layer, float) for layer in layers)


def rescaled_time(a: Array, mu: ArrayLike, rho: float, eta: float) -> Array:
    """tau at every step of a balanced one-atom SAM run, the sum of eta lambda~ so far; ``a`` is ``[R, K]``."""
    strengths = np.asarray(mu)
    scale = np.sqrt(2) * np.sqrt(((strengths * a) ** 2).sum(axis=1, keepdims=True))
    phantom = a - rho * strengths * a / scale
    lam = 1 / (1 + np.exp((strengths * phantom**2).sum(axis=1)))
    return np.concatenate([[0.0], np.cumsum(eta * lam[:-1])])
