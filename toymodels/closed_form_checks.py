"""Closed forms held against simulations that are extrapolated to eta = 0: claims C4, C5, C7, C9 and C22."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kernels.problem import FloatArray
from toymodels import theory
from toymodels.flow import FilterSystem, FlowProblem, solve
from toymodels.rules import rule

FINE_ETA = 2e-3
"""Largest learning rate of the extrapolated simulations; their third-order error is about its cube."""

MOMENTS = 41


def closed_form_deviations(problem: FlowProblem, time: float, engine: str) -> dict[str, float]:
    """Largest deviation of extrapolated simulations from each closed form that applies to a SAM problem.

    Args:
        problem: B starts under SAM. time: end of the comparison. engine: as in :func:`kernels.train`.

    Returns:
        Claim -> deviation: C4 in u_h along GD's curve, C5 and C9 in the weight of the easy feature alone, C22 in the
        log-gain of each feature. Empty for data with several atom kinds or unbalanced starts.
    """
    if not FilterSystem.applies(problem):
        return {}
    steps = max(1, int(np.ceil(time / FINE_ETA)))
    eta = time / steps
    marks = np.unique(np.rint(np.linspace(0, steps, MOMENTS)).astype(int))[1:]
    gd = replace(problem, rule=rule("gd"), rho=np.zeros_like(problem.rho))
    found = {"C4": _gd_curve(gd, marks, eta, engine), "C5": _single_feature(gd, marks, eta, engine)}
    if (problem.v[0] > theory.sam_shift(problem.rho)).all():
        found["C9"] = _single_feature(problem, marks, eta, engine)
    found["C22"] = _filter_law(problem, marks, eta, engine)
    return found


def extrapolated(quantity: Callable[[int], FloatArray]) -> FloatArray:
    """Richardson extrapolation to eta = 0 from ``quantity(split)`` at eta/split, split = 1, 2, 4; error O(eta^3)."""
    return (8 * quantity(4) - 6 * quantity(2) + quantity(1)) / 3


def turning_point_ratio(problem: FlowProblem, eta: float, steps: int, engine: str) -> float | None:
    """C7: N where the simulated a_h / a_e of one SAM run is largest, over N*; None where it has no inner maximum."""
    from toymodels.trajectory_study import simulate_layers

    if not FilterSystem.applies(problem) or not problem.rho[0] > 0 or problem.mu[0, 0] == problem.mu[1, 0]:
        return None
    _, v, w = simulate_layers(problem, np.arange(steps + 1), eta, engine)
    gain = np.diff(np.log(np.abs(v[:, 1, 0] / v[:, 0, 0])))
    turns = np.flatnonzero((gain[:-1] > 0) & (gain[1:] <= 0))
    if len(turns) == 0:
        return None
    i = turns[0]
    # The gain of step i is centred at i + 1/2; it vanishes a fraction of the way to the next step.
    fraction = gain[i] / (gain[i] - gain[i + 1]) + 0.5
    scale = theory.gradient_scale(problem.mu[:, :1], v[i : i + 3, :, 0].T, w[i : i + 3, :, 0].T)
    at_turn = np.interp(fraction, [0.0, 1.0, 2.0], scale)
    return float(at_turn / theory.balance_threshold(problem.rho[0], problem.mu[0, 0], problem.mu[1, 0]))


def _weights(problem: FlowProblem, marks: np.ndarray, eta: float, engine: str) -> FloatArray:
    """``[T, K, B]`` balanced weights a_k of the simulation, extrapolated to eta = 0."""
    from toymodels.trajectory_study import simulate_layers

    def at(split: int) -> FloatArray:
        _, v, _ = simulate_layers(problem, marks * split, eta / split, engine)
        return v

    return extrapolated(at)


def _gd_curve(gd: FlowProblem, marks: np.ndarray, eta: float, engine: str) -> float:
    u = _weights(gd, marks, eta, engine) ** 2
    start = gd.v**2
    curve = theory.gd_hard_coefficient(u[:, 0], start[0], start[1], gd.mu[0], gd.mu[1])
    return float(np.abs(u[:, 1] - curve).max())


def _single_feature(problem: FlowProblem, marks: np.ndarray, eta: float, engine: str) -> float:
    """The easy feature alone: the closed form's time for the simulated weight, turned into an error of the weight."""
    alone = replace(problem, mu=problem.mu[:1], signs=problem.signs[:, :1], v=problem.v[:1], w=problem.w[:1])
    a = _weights(alone, marks, eta, engine)[:, 0]
    mu, rho, start = alone.mu[0], alone.rho, alone.v[0]
    late = theory.sam_time(a, start, mu, rho) - (marks * eta)[:, None]
    shifted = a - theory.sam_shift(rho)
    speed = mu * shifted / (1 + np.exp(mu * shifted**2))
    return float(np.abs(late * speed).max())


def _filter_law(problem: FlowProblem, marks: np.ndarray, eta: float, engine: str) -> float:
    a = _weights(problem, marks, eta, engine)
    worst = 0.0
    for t, mark in enumerate(marks):
        found = solve(replace(problem, time=np.full_like(problem.rho, mark * eta), levels=()), rtol=1e-11)
        assert found.tau is not None
        assert found.suppression_time is not None
        alive = ~found.collapsed
        gain = theory.filter_log_gain(problem.mu, found.tau, found.suppression_time, problem.rho)
        deviation = np.abs(np.log(np.abs(a[t]) / problem.v) - gain)[:, alive]
        worst = max(worst, float(deviation.max(initial=0.0)))
    return worst
