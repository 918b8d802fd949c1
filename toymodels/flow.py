"""The flows eta -> 0 of the diagonal network, for every rule: integrated in batches, from the proved formulas.

Two systems. :class:`FilterSystem` is the scalar law C22: balanced weights on one atom kind under SAM or GD, any number
of features. :class:`LayerSystem` is the general one: both layers of every feature, any table of atoms, any rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels import theory
from toymodels.integrate import Integration, integrate
from toymodels.rules import UpdateRule
from toymodels.theory.elementary import exp, sigmoid

RTOL = 1e-7

MAX_STEPS = 500
"""Steps of a general flow; ordinary ones take 20 to 100."""

MAX_TRAJECTORY_STEPS = 3000
"""The same for trajectories, whose tolerance is tighter."""

_LARGEST_LOG_GAIN = 100.0
"""Trial steps may overshoot far beyond any loss level; weights are capped there so that nothing overflows."""


@dataclass(frozen=True)
class FlowProblem:
    """B flows of the depth-2 diagonal network with K features on N atoms.

    Args:
        mu: ``[K, B]`` strengths. signs: ``[N, K]`` s_nk, or ``[N, K, B]``. weights: ``[N, B]`` pi_n.
        v, w: ``[K, B]`` last and first layer at time 0.
        rho: ``[B]``. rule: the update rule.
        time: ``[B]`` end, in units of 1/(loss), equal to eta * steps.
        levels: training-loss levels to locate, decreasing.
        collapse_threshold: coefficients below it, while shrinking, count as collapsed.
    """

    mu: FloatArray
    signs: FloatArray
    weights: FloatArray
    v: FloatArray
    w: FloatArray
    rho: FloatArray
    rule: UpdateRule
    time: FloatArray
    levels: tuple[float, ...]
    collapse_threshold: float = 1e-2

    def __post_init__(self) -> None:
        if self.signs.ndim == 2:
            spread = np.broadcast_to(self.signs[:, :, None], (*self.signs.shape, self.mu.shape[1]))
            object.__setattr__(self, "signs", spread)

    def take(self, runs: np.ndarray) -> FlowProblem:
        """The problem restricted to some runs."""
        columns: dict[str, Any] = {name: getattr(self, name)[..., runs] for name in _PER_RUN}
        return replace(self, **columns)

    def joined(self, other: FlowProblem) -> FlowProblem:
        """The runs of both problems, which have the same rule and levels."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(other, name)], axis=-1) for name in _PER_RUN
        }
        return replace(self, **columns)

    def towards(self, other: FlowProblem, share: FloatArray) -> FlowProblem:
        """The problem a ``share`` ``[B]`` of the way to ``other``, which has the same rule and levels."""
        columns: dict[str, Any] = {
            name: (1 - share) * getattr(self, name) + share * getattr(other, name) for name in _PER_RUN
        }
        return replace(self, **columns)


_PER_RUN = ("mu", "signs", "weights", "v", "w", "rho", "time")


@dataclass(frozen=True)
class FlowResult:
    """Where the flows went."""

    coefficients: FloatArray
    """``[K, B]`` u_k at the end: the end time, the collapse, or the last loss level, whichever came first."""
    time: FloatArray
    """``[B]`` when that was."""
    collapsed: np.ndarray
    """``[B]`` both coefficients fell below the threshold, or the flow ran into its singularity at the origin."""
    level_time: FloatArray
    """``[levels, B]``; NaN where the level was not reached."""
    level_coefficients: FloatArray
    """``[levels, K, B]``."""
    tau: FloatArray | None = None
    """``[B]`` rescaled time at the end, where the filter law C22 was integrated."""
    suppression_time: FloatArray | None = None
    """``[B]`` S at the end, where the filter law C22 was integrated."""


def solve(problem: FlowProblem, rtol: float = RTOL) -> FlowResult:
    """Integrate the flows until every level is reached, the run has collapsed, or time is up.

    A flow can also come to rest where its gradient vanishes at a positive loss (spurious data without the hard
    feature): there the normalised direction flips for ever, and the run is stopped after :data:`MAX_STEPS` steps.
    """
    if FilterSystem.applies(problem):
        return _solve_filter(problem, rtol)
    return _solve_layers(problem, rtol)


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


def one_atom_loss_margin(level: float) -> float:
    """The margin at which one atom kind has logistic loss ``level``."""
    return float(-np.log(np.expm1(level)))


@dataclass(frozen=True)
class FilterSystem:
    """C22 with S itself as the independent variable: y = (tau, t), d tau/dS = ||(mu_k a_k)||, d t/d tau = 1/lambda~.

    In S the collapse, which tau reaches at a finite value, is a smooth decay to 0.
    """

    mu: FloatArray
    start: FloatArray
    rho: FloatArray
    time: FloatArray
    margins: FloatArray
    collapse_threshold: float

    @staticmethod
    def applies(problem: FlowProblem) -> bool:
        """Balanced weights, one atom kind with s = 1, SAM (all layers, l2, full effect) or GD."""
        rule = problem.rule
        plain = (rule.perturb, rule.norm, rule.effect) == ("all", "l2", "full")
        one_atom = problem.signs.shape[0] == 1 and bool((problem.signs == 1).all())
        return one_atom and plain and bool((problem.v == problem.w).all() and (problem.v > 0).all())

    def take(self, rows: np.ndarray) -> FilterSystem:
        """The system restricted to some runs."""
        mu, start, rho, time = self.mu[:, rows], self.start[:, rows], self.rho[rows], self.time[rows]
        return FilterSystem(mu, start, rho, time, self.margins, self.collapse_threshold)

    def balanced_weights(self, x: FloatArray, tau: FloatArray) -> FloatArray:
        """``[K, B]`` balanced weights a_k at S = x and tau."""
        return self.start * np.exp(np.minimum(theory.filter_log_gain(self.mu, tau, x, self.rho), _LARGEST_LOG_GAIN))

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """d(tau, t)/dS."""
        a = self.balanced_weights(x, y[0])
        tau_rate = 1 / theory.suppression_time_rate(self.mu, a)
        scale = theory.balanced_gradient_scale(self.mu, a)
        chi = theory.one_atom_suppression_factor(self.rho, self.mu, scale)
        phantom_margin = (self.mu * (chi * a) ** 2).sum(0)
        time_rate = tau_rate * (1 + np.exp(np.minimum(phantom_margin, 300.0)))
        return np.stack([tau_rate, time_rate])

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Loss levels (by the margin), the collapse, the end of time."""
        a = self.balanced_weights(x, y[0])
        margin = (self.mu * a**2).sum(0)
        scale = theory.balanced_gradient_scale(self.mu, a)
        # Below N = rho min mu every feature shrinks (C8), and goes on shrinking: only there can a run be called lost.
        lost = np.maximum(
            (a**2).max(0) / self.collapse_threshold, scale / np.maximum(self.rho * self.mu.min(0), 1e-300)
        )
        return np.concatenate([self.margins[:, None] - margin, (lost - 1)[None], (self.time - y[1])[None]])

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        """All levels reached, collapsed, or out of time."""
        levels = happened[:-2].all(0) if len(happened) > 2 else np.zeros(happened.shape[1], dtype=bool)
        return levels | happened[-2] | happened[-1]


def _solve_filter(problem: FlowProblem, rtol: float) -> FlowResult:
    margins = np.array([one_atom_loss_margin(level) for level in problem.levels])
    system = FilterSystem(problem.mu, problem.v, problem.rho, problem.time, margins, problem.collapse_threshold)
    runs = problem.mu.shape[1]
    found = integrate(system, np.zeros((2, runs)), np.full(runs, 1e6), rtol=rtol, atol=rtol * 1e-2)
    in_time = found.event_y[:-2, 1] <= problem.time
    level_coefficients = np.empty((len(margins), *problem.mu.shape))
    for k in range(len(margins)):
        level_coefficients[k] = system.balanced_weights(found.event_x[k], found.event_y[k, 0]) ** 2
    level_coefficients = np.where(in_time[:, None], level_coefficients, np.nan)
    collapsed = ~np.isnan(found.event_x[-2]) & ~(found.event_y[-2, 1] > problem.time)
    # The run stopped one step after its last event; the end that counts is the event itself.
    end_x, end_y = found.x, found.y
    out_of_time = ~np.isnan(found.event_x[-1])
    endings = [(out_of_time, -1), (collapsed, -2)]
    if len(margins):
        endings.insert(0, (~np.isnan(found.event_x[-3]) & in_time[-1], -3))
    for happened, event in endings:
        if happened.any():
            end_x = np.where(happened, found.event_x[event], end_x)
            end_y = np.where(happened, found.event_y[event], end_y)
    return FlowResult(
        coefficients=system.balanced_weights(end_x, end_y[0]) ** 2,
        time=np.minimum(end_y[1], problem.time),
        collapsed=collapsed,
        level_time=np.where(in_time, found.event_y[:-2, 1], np.nan),
        level_coefficients=level_coefficients,
        tau=end_y[0],
        suppression_time=end_x,
    )


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

    def margins(self, u: list[FloatArray]) -> list[FloatArray]:
        """Margin of every atom."""
        return [theory.margin(u, signs, self.mu) for signs in self.signs]

    def drives(self, margins: list[FloatArray]) -> list[FloatArray]:
        """Drive of every feature at given margins (C1)."""
        lam = [sigmoid(-m) for m in margins]
        return [theory.drive(mu, self.signs[:, k], self.weights, lam) for k, mu in enumerate(self.mu)]

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
        margins = np.stack(self.margins(list(u)))
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


def _solve_layers(problem: FlowProblem, rtol: float) -> FlowResult:
    system = LayerSystem.of(problem)
    found: Integration = integrate(
        system, np.concatenate([problem.v, problem.w]), problem.time, rtol=rtol, atol=rtol * 1e-3, max_steps=MAX_STEPS
    )
    features = len(problem.mu)
    event_u = found.event_y[:, :features] * found.event_y[:, features:]
    final = found.y[:features] * found.y[features:]
    collapsed = ~np.isnan(found.event_x[-1]) | (found.stalled & (np.abs(final).max(0) < problem.collapse_threshold))
    return FlowResult(final, found.x, collapsed, found.event_x[:-1], event_u[:-1])


def collapse_boundary_scale(mu_easy: FloatArray, mu_hard: FloatArray, z: FloatArray) -> FloatArray:
    """C10: N / rho on the collapse boundary at z = ln(mu_h a_h / (mu_e a_e)); starts with a smaller N / rho collapse.

    Integrates dN/dz down from the saddle (z = +infinity, N = rho mu_h), where the first-order expansion
    N = mu_h + B e^(-2z), B = mu_e (mu_e - mu_h) / (mu_h + 2 mu_e (mu_e - mu_h) / mu_h) is exact to O(e^(-4z)); the
    boundary attracts nearby curves in this direction, so errors shrink on the way. Nearly equal strengths make it
    stiff; there it is the slow curve dN/dtau = 0 with its first correction.

    Args:
        mu_easy, mu_hard, z: arrays of one shape ``[B]``, mu_easy >= mu_hard > 0.
    """
    near = mu_easy - mu_hard < _NEARLY_EQUAL * mu_easy
    scale = np.empty_like(z)
    scale[near] = _nearly_equal_boundary_scale(mu_easy[near], mu_hard[near], z[near])
    mu_easy, mu_hard, z = mu_easy[~near], mu_hard[~near], z[~near]
    gap = mu_easy - mu_hard
    coefficient = mu_easy * gap / (mu_hard + 2 * mu_easy * gap / mu_hard)
    z_start = np.maximum(z, 0.0) + np.log(mu_easy / mu_hard) + 9.0
    start = (mu_hard + coefficient * np.exp(-2 * z_start))[None]
    system = _BoundarySystem(mu_easy, mu_hard, z_start)
    scale[~near] = integrate(system, start, z_start - z, rtol=1e-8, atol=1e-12).y[0]
    return scale


_NEARLY_EQUAL = 3e-3


def _nearly_equal_boundary_scale(mu_easy: FloatArray, mu_hard: FloatArray, z: FloatArray) -> FloatArray:
    """C10 for strengths that differ by a small share e: N = B/A - 2 (c s gap mu_e mu_h)^2 / (A^3 B) + O(e^3).

    Here dN/dtau = N A - B, A = mu_e c^2 + mu_h s^2, B = mu_e^2 c^2 + mu_h^2 s^2.
    """
    cos2 = sigmoid(-2 * z)
    sin2 = 1 - cos2
    a, b = mu_easy * cos2 + mu_hard * sin2, mu_easy**2 * cos2 + mu_hard**2 * sin2
    return b / a - 2 * cos2 * sin2 * ((mu_easy - mu_hard) * mu_easy * mu_hard) ** 2 / (a**3 * b)


def collapse_boundary_rho(mu_easy: FloatArray, mu_hard: FloatArray, easy: FloatArray, hard: FloatArray) -> FloatArray:
    """C10: the rho above which balanced weights (easy, hard) > 0 collapse, for arrays of one shape ``[B]``."""
    scale = theory.balanced_gradient_scale((mu_easy, mu_hard), (easy, hard))
    return scale / collapse_boundary_scale(mu_easy, mu_hard, np.log(mu_hard * hard / (mu_easy * easy)))


@dataclass(frozen=True)
class _BoundarySystem:
    """dN/d(-z) along the boundary for rho = 1 (C10)."""

    mu_easy: FloatArray
    mu_hard: FloatArray
    z_start: FloatArray

    def take(self, rows: np.ndarray) -> _BoundarySystem:
        return _BoundarySystem(self.mu_easy[rows], self.mu_hard[rows], self.z_start[rows])

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        z_rate, scale_rate = theory.phase_plane_rates(self.z_start - x, y[0], self.mu_easy, self.mu_hard, 1.0)
        return (-scale_rate / z_rate)[None]

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return np.ones((0, y.shape[1]))

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        return np.zeros(y.shape[1], dtype=bool)
