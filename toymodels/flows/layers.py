"""The general flow of the diagonal network: both layers of every feature, any table of atoms, any rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels import theory
from toymodels.flows.integrate import Integration, integrate
from toymodels.flows.problem import FlowProblem, FlowResult
from toymodels.rules import UpdateRule
from toymodels.theory.elementary import exp, sigmoid

MAX_STEPS = 500
"""Steps of a general flow; ordinary ones take 20 to 100."""

MAX_TRAJECTORY_STEPS = 3000
"""The same for trajectories, whose tolerance is tighter."""

RTOL = 1e-7


@dataclass(frozen=True)
class LayerSystem:
    """The flow of both layers under any rule: y = (v_1..v_K, w_1..w_K), x = time."""

    mu: FloatArray
    signs: FloatArray
    weights: FloatArray
    rho: FloatArray
    rule: UpdateRule
    levels: FloatArray
    collapse_threshold: float
    stop_at_levels: bool

    @classmethod
    def of(cls, problem: FlowProblem, stop_at_levels: bool = True) -> LayerSystem:
        """The system of a problem."""
        return cls(
            problem.mu,
            problem.signs,
            problem.weights,
            problem.rho,
            problem.rule,
            np.asarray(problem.levels, dtype=float),
            problem.collapse_threshold,
            stop_at_levels,
        )

    def take(self, rows: np.ndarray) -> LayerSystem:
        """The system restricted to some runs."""
        return LayerSystem(
            self.mu[:, rows],
            self.signs[:, :, rows],
            self.weights[:, rows],
            self.rho[rows],
            self.rule,
            self.levels,
            self.collapse_threshold,
            self.stop_at_levels,
        )

    def margins(self, u: list[FloatArray]) -> FloatArray:
        """``[N, ...]`` margin of every atom."""
        # One call with all atoms as one array: samples of one's own may be thousands.
        return np.asarray(theory.margin(u, self.signs.swapaxes(0, 1), self.mu))

    def drives(self, margins: FloatArray) -> list[FloatArray]:
        """Drive of every feature at given margins ``[N, ...]`` (C1)."""
        lam = sigmoid(-margins)
        summands = (theory.drive(mu, [self.signs[:, k]], [self.weights], [lam]) for k, mu in enumerate(self.mu))
        return [np.asarray(each).sum(axis=0) for each in summands]

    def phantom(
        self, v: list[FloatArray], w: list[FloatArray], drives: list[FloatArray]
    ) -> tuple[list[FloatArray], list[FloatArray]]:
        """Phantom layers (v~, w~) of the rule; C2, and C13 where one layer is perturbed."""
        lowered_v: list[FloatArray]
        lowered_w: list[FloatArray]
        move_v, move_w = self.rule.perturb in ("all", "last"), self.rule.perturb in ("all", "first")
        if self.rule.norm == "linf":
            lowered_v = [a - self.rho * np.sign(d * b) for a, b, d in zip(v, w, drives, strict=True)]
            lowered_w = [b - self.rho * np.sign(d * a) for a, b, d in zip(v, w, drives, strict=True)]
        elif self.rule.norm == "adaptive" or self.rule.norm_over != "all":
            return self._phantom_of_groups(v, w, drives, move_v, move_w)
        else:
            if self.rule.norm == "none":
                norm: FloatArray = np.ones_like(self.rho)
            elif self.rule.perturb == "all":
                norm = theory.gradient_norm(drives, v, w)
            else:
                norm = theory.last_layer_gradient_norm(drives, w if move_v else v)
            ratios = [theory.perturbation_ratio(self.rho, d, np.maximum(norm, 1e-300)) for d in drives]
            pairs = [theory.phantom_layers(a, b, r) for a, b, r in zip(v, w, ratios, strict=True)]
            lowered_v, lowered_w = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return (lowered_v if move_v else v), (lowered_w if move_w else w)

    def _phantom_of_groups(
        self, v: list[FloatArray], w: list[FloatArray], drives: list[FloatArray], move_v: bool, move_w: bool
    ) -> tuple[list[FloatArray], list[FloatArray]]:
        """The same for adaptive SAM, T = |theta| (C40), and for groups of weights with norms of their own (C39)."""
        adaptive = self.rule.norm == "adaptive"
        stretch_v = [np.abs(a) if adaptive else np.ones_like(a) for a in v]
        stretch_w = [np.abs(b) if adaptive else np.ones_like(b) for b in w]
        slope_v = [move_v * t * d * b for t, d, b in zip(stretch_v, drives, w, strict=True)]
        slope_w = [move_w * t * d * a for t, d, a in zip(stretch_w, drives, v, strict=True)]
        squares_v, squares_w = np.stack(slope_v) ** 2, np.stack(slope_w) ** 2
        if self.rule.norm_over == "feature":
            squares_v = squares_w = squares_v + squares_w
        else:
            squares_v, squares_w = (np.broadcast_to(s.sum(0), s.shape) for s in (squares_v, squares_w))
            if self.rule.norm_over == "all":
                squares_v = squares_w = squares_v + squares_w
        radii_v, radii_w = (self.rho / np.sqrt(np.maximum(s, 1e-300)) for s in (squares_v, squares_w))
        return (
            [a - r * t * g for a, r, t, g in zip(v, radii_v, stretch_v, slope_v, strict=True)],
            [b - r * t * g for b, r, t, g in zip(w, radii_w, stretch_w, slope_w, strict=True)],
        )

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """-update gradient of the rule (C1 at the point and with the example weights of its effect)."""
        features = len(self.mu)
        v, w = list(y[:features]), list(y[features:])
        drives = self.drives(self.margins([a * b for a, b in zip(v, w, strict=True)]))
        phantom_v, phantom_w = self.phantom(v, w, drives)
        if self.rule.effect in ("full", "weights"):
            drives = self.drives(self.margins([a * b for a, b in zip(phantom_v, phantom_w, strict=True)]))
        if self.rule.effect in ("full", "jacobian"):
            v, w = phantom_v, phantom_w
        slopes = [theory.layer_gradients(d, a, b) for d, a, b in zip(drives, v, w, strict=True)]
        return np.stack([pair[0] for pair in slopes] + [pair[1] for pair in slopes])

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Loss levels and the collapse."""
        features = len(self.mu)
        v, w = y[:features], y[features:]
        u = v * w
        margins = self.margins(list(u))
        loss = (self.weights * (np.maximum(-margins, 0) + np.log1p(exp(-np.abs(margins))))).sum(0)
        # A small start that grows is not lost: below the threshold every coefficient must also be shrinking.
        slope = self.rates(x, y)
        growth = (np.sign(u) * (slope[:features] * w + v * slope[features:])).max(0)
        collapse = np.maximum(np.abs(u).max(0) / self.collapse_threshold - 1, growth)
        return np.concatenate([loss - self.levels[:, None], collapse[None]])

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        """All levels reached or collapsed."""
        if not self.stop_at_levels:
            return np.zeros(y.shape[1], dtype=bool)
        levels = happened[:-1].all(0) if len(happened) > 1 else np.zeros(happened.shape[1], dtype=bool)
        return levels | happened[-1]


def solve_layers(problem: FlowProblem, rtol: float) -> FlowResult:
    """Integrate the flows of both layers until every level is reached, the run has collapsed, or time is up."""
    system = LayerSystem.of(problem)
    found: Integration = integrate(
        system, np.concatenate([problem.v, problem.w]), problem.time, rtol=rtol, atol=rtol * 1e-3, max_steps=MAX_STEPS
    )
    features = len(problem.mu)
    event_u = found.event_y[:, :features] * found.event_y[:, features:]
    final = found.y[:features] * found.y[features:]
    collapsed = ~np.isnan(found.event_x[-1]) | (found.stalled & (np.abs(final).max(0) < problem.collapse_threshold))
    return FlowResult(final, found.x, collapsed, found.event_x[:-1], event_u[:-1])


def trajectories(problem: FlowProblem, times: FloatArray, rtol: float = RTOL) -> tuple[FloatArray, FloatArray]:
    """(v, w), each ``[T, K, B]``, of the flows at increasing ``times``; NaN from a collapse or a standstill on."""
    system = LayerSystem.of(problem, stop_at_levels=False)
    start = np.concatenate([problem.v, problem.w])
    found = integrate(
        system,
        start,
        float(times[-1]),
        rtol=rtol,
        atol=rtol * 1e-3,
        sample_x=np.asarray(times, float),
        max_steps=MAX_TRAJECTORY_STEPS,
    )
    assert found.samples is not None
    features = len(problem.mu)
    return found.samples[:, :features], found.samples[:, features:]
