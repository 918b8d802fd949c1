"""The diagonal network: simulated and analytic trajectories of the same starts, and its closed forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.progress import Progress
from toymodels import theory
from toymodels.data import FeatureData
from toymodels.flows.closed_form_checks import closed_form_checks, turning_point_ratio
from toymodels.flows.discrete import simulate_layers
from toymodels.flows.layers import LayerSystem, trajectories
from toymodels.flows.problem import FlowProblem
from toymodels.prediction import flow_problem
from toymodels.sweep import Sweep
from toymodels.theory.elementary import sigmoid
from toymodels.trajectories.comparison import STUDIED, Observables, RuleComparison, Study, compare_rules

TURN_SPLIT = 8
"""The turning point is looked for with a finer step, since N is only known between two steps."""


@dataclass(frozen=True)
class DiagonalObservables(Observables):
    """The same of a diagonal network, whose features have layers of their own."""

    suppression: FloatArray
    """``[2, ..., T]`` v~_k / v_k; chi_k for balanced weights under SAM."""


def observe(problem: FlowProblem, v: FloatArray, w: FloatArray) -> DiagonalObservables:
    """Observables of layers ``v``, ``w`` ``[T, 2, B]`` under a problem of B runs; results are ``[..., B, T]``."""
    system = LayerSystem.of(problem)
    v, w = np.moveaxis(v, 0, -1), np.moveaxis(w, 0, -1)
    rho = np.broadcast_to(system.rho[:, None], v.shape[1:])
    mu, signs, weights = (array[..., None] for array in (system.mu, system.signs, system.weights))
    wide = replace(system, mu=mu, signs=signs, weights=weights, rho=rho)
    u = v * w
    margins = wide.margins(list(u))
    drives = wide.drives(margins)
    phantom_v, phantom_w = wide.phantom(list(v), list(w), drives)
    phantom_margins = wide.margins([a * b for a, b in zip(phantom_v, phantom_w, strict=True)])
    with np.errstate(divide="ignore", invalid="ignore"):
        contribution = wide.mu * u
        share = contribution[1] / contribution.sum(0)
        suppression = np.stack(phantom_v) / v
    return DiagonalObservables(
        coefficients=u,
        share=share,
        scale=theory.gradient_scale(wide.mu, v, w),
        suppression=suppression,
        weights=sigmoid(-margins),
        phantom_weights=sigmoid(-phantom_margins),
        loss=(wide.weights * np.logaddexp(0.0, -margins)).sum(0),
    )


@dataclass(frozen=True)
class RuleStudy(RuleComparison):
    """One rule: every start simulated at eta and eta/2, and its flow."""

    simulated: DiagonalObservables
    halved: DiagonalObservables
    flow: DiagonalObservables
    problem: FlowProblem
    """Run 0 is the nominal start, the others are the seeds."""


@dataclass(frozen=True)
class TrajectoryStudy(Study):
    """All rules from the same starts."""

    rules: Mapping[str, RuleStudy]
    closed_form_deviation: dict[str, float]
    """Per claim: largest deviation of the simulation, extrapolated to eta = 0, from the closed form."""
    turning_point_ratio: float | None
    """N where SAM's simulated a_h/a_e is largest, over N* (C7); None where there is no turning point."""

    @classmethod
    def run(
        cls,
        data: FeatureData,
        values: dict[str, float],
        seeds: int = 8,
        engine: str = "auto",
        progress: Progress | None = None,
    ) -> TrajectoryStudy:
        """Simulate and integrate every rule.

        Raises:
            ValueError: where the reduced flows do not describe the configuration (noise, decay, momentum, ...).
        """
        sweep = Sweep(data=data, values=values, seeds=seeds)
        stages = len(STUDIED) + 1
        marks, found = compare_rules(sweep, partial(_study, engine=engine), progress, stages)
        steps, eta = int(marks[-1]), float(sweep.column("eta")[0])
        sam = found["sam"].problem
        checks = closed_form_checks(sam, float(marks[-1] * eta), engine)
        deviations = {claim: float(check.deviation.max()) for claim, check in checks.items()}
        turning = turning_point_ratio(sam.take(np.array([0])), eta / TURN_SPLIT, steps * TURN_SPLIT, engine)
        if progress is not None:
            progress(stages, stages)
        return cls(sweep, marks * eta, found, found["sam"].engine, deviations, turning)

    def summary(self, wall_seconds: float) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        found = super().summary(wall_seconds)
        last = {name: found.pop(name) for name in ("order_of_convergence", "wall_seconds")}
        return {
            **found,
            "max_abs_deviation_closed_form": self.closed_form_deviation,
            "order_of_convergence": last["order_of_convergence"],
            "turning_point_ratio": self.turning_point_ratio,
            "wall_seconds": last["wall_seconds"],
        }

    def table(self) -> str:
        """The short table that the command line prints."""
        lines = [super().table()]
        for claim, value in self.closed_form_deviation.items():
            lines.append(f"closed form {claim}, extrapolated to eta = 0: within {value:.1e}")
        if self.turning_point_ratio is not None:
            lines.append(f"turning point: N at the maximum of a_h/a_e over N* = {self.turning_point_ratio:.5f} (C7)")
        return "\n".join(lines)


def _study(sweep: Sweep, marks: np.ndarray, eta: float, engine: str) -> RuleStudy:
    nominal = replace(sweep, values={**sweep.values, "jitter": 0.0}, seeds=1)
    starts = [flow_problem(part, np.arange(part.runs), ()) for part in (nominal, sweep)]
    problem = starts[0].join(starts[1])
    used, *layers = simulate_layers(problem, marks, eta, engine)
    _, *halved = simulate_layers(problem, marks * 2, eta / 2, engine)
    flow = trajectories(problem, marks * eta, rtol=1e-10)
    return RuleStudy(
        sweep.rule, used, observe(problem, *layers), observe(problem, *halved), observe(problem, *flow), problem
    )
