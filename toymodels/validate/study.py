"""Flows and closed forms against simulation over random configurations: deviation over predicted error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_whole
from sambalance_tools.memory import require_memory
from sambalance_tools.progress import Progress
from sambalance_tools.tables import text_table
from toymodels import theory
from toymodels.data import atom_tables, data_kind
from toymodels.flows.closed_form_checks import ROUNDING, closed_form_checks
from toymodels.flows.discrete import simulate_layers
from toymodels.flows.layers import LayerSystem, trajectories
from toymodels.flows.linear_network import linear_network_paths
from toymodels.flows.problem import FlowProblem
from toymodels.networks import Network, Patches, TwoLayer
from toymodels.prediction import is_linear_flow, linear_flow_problem
from toymodels.rules import UpdateRule, rule
from toymodels.simulation import simulate
from toymodels.sweep import Sweep

ETA = 0.01
TIME = 12.0
MOMENTS = 49

CONFIGURATION_BYTES = 16 * 4 * MOMENTS
"""Memory of a configuration: its coefficients at all moments, of the simulation, of half its step and of the flow."""

SMALLEST_COEFFICIENT = 2e-3
"""Runs are compared until a coefficient falls below this: near zero the perturbation's direction flips from step to
step and the discrete training no longer follows the flow (C20 holds away from collapse)."""

SMALLEST_GRADIENT = 2e-2
"""... or until the gradient norm falls below this: near a minimum with positive loss the direction flips likewise."""

DATA = ("redundant", "spurious", "missing", "uneven", "label_noise")

RULES: tuple[UpdateRule, ...] = (
    rule("gd"),
    rule("sam"),
    rule("lsam"),
    rule("fsam"),
    rule("usam"),
    rule("linf_sam"),
    rule("asam"),
    rule("sam_per_layer"),
    rule("sam_per_feature"),
    rule("sam", "weights"),
    rule("sam", "jacobian"),
)

NETWORKS: tuple[tuple[str, Network, dict[str, float]], ...] = (
    ("two-layer linear", TwoLayer("linear"), {"width": 5}),
    ("local head", Patches("local"), {"width": 8}),
    ("pooled head", Patches("pooled"), {"width": 2}),
    ("head of 3 windows", Patches(3), {"width": 6, "copies": 3}),
)
"""Linear networks of one hidden layer, from random starts; a pair of data kind and rule is studied on one of them.
Of three windows over three patches of each feature, the middle one sees both."""

RANGES = {
    "mu_easy": (0.5, 3.0),
    "ratio": (0.1, 1.0),
    "easy": (0.15, 1.0),
    "hard": (0.15, 1.0),
    "init": (0.2, 1.0),
    "imbalance": (-0.5, 0.5),
    "cosine": (0.0, 1.0),
    "rho": (0.0, 0.6),
    "p": (0.6, 0.99),
    "q": (0.05, 0.6),
    "spread": (0.0, 0.9),
    "flip": (0.02, 0.3),
}
"""What the hypercube spans; ``easy`` and ``hard`` are a diagonal network's initial weights of the two features,
``init`` and ``cosine`` are for the others."""


@dataclass(frozen=True)
class Result:
    """One check on B configurations."""

    name: str
    claim: str
    deviation: FloatArray
    predicted_error: FloatArray
    extrapolated: FloatArray
    """``[B]`` deviation after Richardson extrapolation to eta = 0 (closed forms are always compared there)."""
    configurations: list[dict[str, float]]

    @property
    def ratio(self) -> FloatArray:
        """``[B]`` deviation over predicted error."""
        return self.deviation / self.predicted_error

    @property
    def worst_ratio(self) -> float:
        """Largest ratio of deviation to predicted error."""
        return float(self.ratio.max())

    @property
    def worst_configuration(self) -> dict[str, float]:
        """Configuration with the largest ratio."""
        return self.configurations[int(self.ratio.argmax())]

    def summary(self) -> dict[str, Any]:
        """Numbers of this check for ``summary.json``."""
        worst = int(self.ratio.argmax())
        return {
            "check": self.name,
            "claim": self.claim,
            "configurations": len(self.ratio),
            "median_ratio": float(np.median(self.ratio)),
            "worst_ratio": self.worst_ratio,
            "worst_deviation": float(self.deviation[worst]),
            "worst_predicted_error": float(self.predicted_error[worst]),
            "worst_extrapolated_deviation": float(self.extrapolated.max()),
            "worst_configuration": self.worst_configuration,
        }


def run_validation(
    configurations: int = 480,
    seed: int = 0,
    engine: str = "auto",
    progress: Progress | None = None,
    rules: Sequence[UpdateRule] = RULES,
    data_kinds: Sequence[str] = DATA,
) -> list[Result]:
    """Run every check, by default for all :data:`RULES` on all :data:`DATA`.

    Args:
        configurations: how many points of the hypercube, spread over all pairs of data kind and rule. A pair trains the
            diagonal network at its points and, where its flow is known, one of :data:`NETWORKS`; the closed forms are
            checked on as many as one pair gets, times eight.
        seed: random seed of the hypercube.
        engine: as in :func:`kernels.train`.
        progress: called with (checks done, checks in all).

    Raises:
        ValueError: for fewer configurations than pairs of data kind and rule.
    """
    pairs = [(data, studied) for studied in rules for data in data_kinds]
    require_whole("configurations", configurations, least=len(pairs))
    require_whole("seed", seed, least=0)
    require_memory(f"configurations={configurations}", configurations, CONFIGURATION_BYTES, "configurations")
    each = -(-configurations // len(pairs))
    results = []
    for i, (data, studied) in enumerate(pairs):
        points = hypercube(each, [seed, i])
        results.append(_against_flow(data, studied, points, engine))
        # Along the data of a rule the networks change; the next rule starts with the next one.
        name, network, fixed = NETWORKS[(i + i // len(data_kinds)) % len(NETWORKS)]
        alike = {**points, "mu_easy": points["mu_easy"] / fixed.get("copies", 1)}  # as strong, however many copies
        sweep = _Scattered(
            network=network, data=data_kind(data), rule=studied, seeds=each, loss_levels=(), points=alike,
            values={"steps": round(TIME / ETA), "eta": ETA, **fixed},
        )  # fmt: skip
        if is_linear_flow(sweep):
            results.append(_against_linear_flow(name, data, sweep, engine))
        if progress is not None:
            progress(i + 1, len(pairs) + 1)
    points = hypercube(8 * each, [seed, len(pairs)])
    points["imbalance"][:] = 0.0
    problem = _problem("redundant", rule("sam"), points)
    for claim, check in closed_form_checks(problem, TIME, engine).items():
        # C9 and C16 keep only the starts above their threshold, so their configurations are fewer.
        kept = _rows(points) if len(check.deviation) == len(points["rho"]) else [{}] * len(check.deviation)
        results.append(Result("closed form", claim, check.deviation, check.predicted_error, check.deviation, kept))
    if progress is not None:
        progress(len(pairs) + 1, len(pairs) + 1)
    return results


def hypercube(count: int, seed: Sequence[int]) -> dict[str, FloatArray]:
    """A Latin hypercube over :data:`RANGES`: name -> ``[count]``."""
    from scipy.stats import qmc

    unit = qmc.LatinHypercube(len(RANGES), rng=np.random.default_rng(list(seed))).random(count)
    return {name: low + (high - low) * unit[:, i] for i, (name, (low, high)) in enumerate(RANGES.items())}


def _problem(data: str, studied: UpdateRule, points: dict[str, FloatArray]) -> FlowProblem:
    tables, run_row = atom_tables(data_kind(data), points.__getitem__, len(points["rho"]))
    mu = np.stack([points["mu_easy"], points["mu_easy"] * points["ratio"]])
    start, tilt = np.stack([points["easy"], points["hard"]]), np.exp(points["imbalance"])
    rho = points["rho"] if studied.name != "gd" else np.zeros_like(points["rho"])
    return FlowProblem(
        mu=mu,
        signs=np.stack([table.signs for table in tables], axis=2)[:, :, run_row],
        weights=np.stack([table.weights for table in tables], axis=1)[:, run_row],
        v=start * tilt,
        w=start / tilt,
        rho=rho,
        rule=studied,
        time=np.full(len(rho), TIME),
        levels=(),
    )


def _against_flow(data: str, studied: UpdateRule, points: dict[str, FloatArray], engine: str) -> Result:
    """Largest |u(simulation) - u(flow)|, its first-order prediction and what extrapolation leaves, where C20 holds."""
    problem = _problem(data, studied, points)
    marks = np.unique(np.rint(np.linspace(0, TIME / ETA, MOMENTS)).astype(int))
    _, v, w = simulate_layers(problem, marks, ETA, engine)
    _, half_v, half_w = simulate_layers(problem, marks * 2, ETA / 2, engine)
    flow_v, flow_w = trajectories(problem, marks * ETA, rtol=1e-9)
    u, half, flow = v * w, half_v * half_w, flow_v * flow_w
    moving = _gradient_norm(problem, flow_v, flow_w) > SMALLEST_GRADIENT
    regular = (np.abs(flow).min(axis=1) > SMALLEST_COEFFICIENT) & moving
    return _compared(f"flow, {studied.label}", data, u, half, flow, regular, points)


def _compared(
    name: str, claim: str, u: FloatArray, half: FloatArray, flow: FloatArray, regular: np.ndarray,
    points: Mapping[str, FloatArray],
) -> Result:  # fmt: skip
    """Coefficients ``[T, K, B]`` at eta, eta/2 and by the flow, at the moments ``[T, B]`` at which C20 holds."""
    # From the first irregular moment on nothing is compared, even if the run recovers later.
    until = np.logical_and.accumulate(regular, axis=0)[:, None, :]

    def largest(values: FloatArray) -> FloatArray:
        return np.where(until, np.abs(values), 0.0).max(axis=(0, 1))

    error = 2 * largest(u - half) + ROUNDING
    return Result(name, claim, largest(u - flow), error, largest(2 * half - u - flow), _rows(points))


@dataclass(frozen=True)
class _Scattered(Sweep):
    """A sweep over scattered points instead of a grid: run b has its parameters from ``points`` ``[B]`` and seed b."""

    points: Mapping[str, FloatArray] = field(default_factory=dict)

    def column(self, name: str) -> FloatArray:
        """``[B]`` value of a parameter."""
        if name == "mu_hard":
            return self.points["mu_easy"] * self.points["ratio"]
        if name == "rho" and self.rule.name == "gd":
            return np.zeros(self.runs)
        return self.points[name] if name in self.points else super().column(name)


def _against_linear_flow(name: str, data: str, sweep: _Scattered, engine: str) -> Result:
    """The same for a linear network with one hidden layer, as :func:`toymodels.simulate` trains it."""
    marks = np.unique(np.rint(np.linspace(0, TIME / ETA, MOMENTS)).astype(int))
    sweep = replace(sweep, record_steps=tuple(marks.tolist()))
    u, half = (
        simulate(part, engine=engine, precision="float64")["record_coefficient"].values.transpose(1, 2, 0)
        for part in (sweep, sweep.finer(2))
    )
    problem = linear_flow_problem(sweep, np.arange(sweep.runs), ())
    flow = linear_network_paths(problem, marks * ETA, SMALLEST_GRADIENT, rtol=1e-9)
    regular = np.asarray(np.isfinite(flow).all(axis=1))
    return _compared(f"flow, {name}, {sweep.rule.label}", data, u, half, flow, regular, sweep.points)


def _gradient_norm(problem: FlowProblem, v: FloatArray, w: FloatArray) -> FloatArray:
    """``[T, B]`` norm of the training gradient."""
    norms = []
    system = LayerSystem.of(problem)
    for v_t, w_t in zip(v, w, strict=True):
        drives = system.drives(system.margins(list(v_t * w_t)))
        norms.append(theory.gradient_norm(drives, list(v_t), list(w_t)))
    return np.stack(norms)


def _rows(points: Mapping[str, FloatArray]) -> list[dict[str, float]]:
    return [dict(zip(points, map(float, row), strict=True)) for row in zip(*points.values(), strict=True)]


def table(results: Sequence[Result], limit: float) -> str:
    """One line per check, the worst last."""
    header = ("check", "data or claim", "runs", "median", "worst", "eta -> 0", "")
    rows = [
        [
            result.name,
            result.claim,
            str(len(result.ratio)),
            f"{np.median(result.ratio):.2f}",
            f"{result.worst_ratio:.2f}",
            f"{result.extrapolated.max():.1e}",
            "<-- above the limit" if result.worst_ratio > limit else "",
        ]
        for result in sorted(results, key=lambda r: r.worst_ratio)
    ]
    title = "deviation between simulation and theory over the simulation's predicted error; last: after extrapolation"
    lines = [text_table(rows, header, title, right=range(2, 6))]
    worst = max(results, key=lambda r: r.worst_ratio)
    where = ", ".join(f"{name} {value:.3g}" for name, value in worst.worst_configuration.items())
    total = sum(len(result.ratio) for result in results)
    lines.append(f"{total} comparisons, worst {worst.worst_ratio:.2f} ({worst.name}, {worst.claim}: {where})")
    return "\n".join(lines)
