"""A phase diagram compared with the theory at one loss level: phases for each run, boundaries in cells."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.problem import Status
from sambalance_tools.arrays import FloatArray
from sambalance_tools.tables import text_table
from toymodels import metrics
from toymodels.flows.filter_law import FilterSystem
from toymodels.flows.problem import FlowProblem
from toymodels.metrics import Phase
from toymodels.phase_diagram.agreement import PhaseAgreement, boundary_error_cells, phase_agreement
from toymodels.phase_diagram.figures import MAP_STYLES, map_figure, phase_figure
from toymodels.phase_diagram.own_metrics import OWN_METRICS
from toymodels.phase_diagram.study import Diagram, check_metric
from toymodels.plots import caption, network_label
from toymodels.prediction import Boundary, FlowPrediction, boundaries, flow_of, no_flow_reason, predict
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOW_AGREEMENT = 0.9
"""Share of runs with the phase of their flow, below which the report asks why."""

LOW_OFF_BOUNDARY = 0.97
"""The same away from boundaries, where it is known."""

AGREEMENT_SAMPLE = 4096
"""Runs whose flow is integrated where the fast scalar law does not apply."""


@dataclass(frozen=True)
class Report:
    """A diagram compared with the theory at one loss level."""

    diagram: Diagram
    metric: str
    level: float
    phases: np.ndarray
    boundaries: list[Boundary]
    boundary_errors: list[float | None]
    agreement: PhaseAgreement
    prediction: FlowPrediction
    theory_seconds: float

    @classmethod
    def of(cls, diagram: Diagram, metric: str, level: float) -> Report:
        """Compare a diagram with the theory at a loss level.

        Raises:
            ValueError: for an unknown metric, one that was not measured, or a level that was not kept.
        """
        check_metric(metric, diagram.sweep)
        metrics.level_index(diagram.sweep, level)
        started = time.perf_counter()
        simulated = metrics.phases(diagram.dataset, diagram.sweep, level)
        nominal = diagram.sweep.nominal()
        lines = boundaries(nominal, predict(nominal, level), level)
        fields = [_simulated_field(diagram, line, nominal, level) for line in lines]
        prediction = predict(diagram.sweep, level, _agreement_rows(diagram.sweep))
        return cls(
            diagram=diagram,
            metric=metric,
            level=level,
            phases=simulated,
            boundaries=lines,
            boundary_errors=[
                None if field is None else boundary_error_cells(field, line)
                for field, line in zip(fields, lines, strict=True)
            ],
            agreement=phase_agreement(simulated, prediction),
            prediction=prediction,
            theory_seconds=time.perf_counter() - started,
        )

    @property
    def is_low(self) -> bool:
        """Whether simulation and theory agree less than they should where the flow is exact."""
        off = self.agreement.off_boundary_share
        return self.agreement.share < LOW_AGREEMENT if off is None else off < LOW_OFF_BOUNDARY

    @property
    def note(self) -> str | None:
        """What is wrong with the theory's lines, and what to change; None where they hold."""
        reason = no_flow_reason(self.diagram.sweep)
        found = self.diagram.step_size
        if not self.is_low or reason is not None:
            return reason
        differ = f"{1 - self.agreement.share:.0%} of the runs differ from their flow ({self._commonest_difference()})"
        if found is None:
            return f"{differ}; a smaller eta tells whether the step size is the reason (C20)"
        if found.is_fine:
            return f"{differ}; not because of the step size, since half of eta = {found.eta:g} gives the same phases"
        return f"{differ}: eta = {found.eta:g} is too large; {found.advice(self.diagram.sweep)}"

    def _commonest_difference(self) -> str:
        simulated = self.phases.reshape(-1)[self.prediction.rows]
        pairs = np.stack([simulated, self.prediction.phase], axis=1)[simulated != self.prediction.phase]
        kinds, counts = np.unique(pairs, axis=0, return_counts=True)
        mine, flows = kinds[np.argmax(counts)]
        return f"mostly {Phase(mine).label} for {Phase(flows).label}"

    def figure(self, ax: Axes | None = None) -> Figure:
        """The Matplotlib figure; with ``ax``, the map is drawn into these axes of a figure of one's own."""
        sweep = self.diagram.sweep
        (y_name, y), (x_name, x) = ((name, np.asarray(axis)) for name, axis in sweep.axes.items())
        title = f"{network_label(sweep)}, {sweep.data.kind} data, {sweep.rule.label}"
        if self.metric == "phase":
            return phase_figure((x_name, x), (y_name, y), self.phases, self.boundaries, title, self._caption(), ax)
        values = self.diagram.values(self.metric, self.level)
        own = OWN_METRICS.get(self.metric)
        style = MAP_STYLES[self.metric] if own is None else own.style
        return map_figure((x_name, x), (y_name, y), values, style, self.boundaries, title, self._caption(), ax)

    def _caption(self) -> str:
        return caption(self.diagram.sweep, self.level, self.note)

    def summary(self, wall_seconds: float) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        attrs = self.diagram.dataset.attrs
        parts = (self.diagram.dataset, self.diagram.gd, self.diagram.nominal)
        distinct = list({id(part): part for part in parts}.values())
        seconds = sum(float(part.attrs["simulation_seconds"]) for part in distinct)
        run_steps = sum(float(part.attrs["run_steps"]) for part in distinct)
        errors = [error for error in self.boundary_errors if error is not None]
        return {
            "config": self.diagram.sweep.config(),
            "metric": self.metric,
            "level": self.level,
            "engine": attrs["engine"],
            "precision": attrs["precision"],
            "runs": sum(int(part["status"].size) for part in distinct),
            "steps": int(self.diagram.sweep.column("steps").max()),
            "wall_seconds": wall_seconds,
            "simulation_seconds": seconds,
            "theory_seconds": self.theory_seconds,
            "run_steps_per_second": run_steps / max(seconds, 1e-9),
            "phase_agreement": self.agreement.share,
            "agreement_runs": self.agreement.runs,
            "phase_agreement_off_boundary": self.agreement.off_boundary_share,
            "agreement_runs_off_boundary": self.agreement.off_boundary_runs,
            "boundary_error_cells": max(errors) if errors else None,
            "boundaries": [
                {"key": line.key, "name": line.name, "claim": line.claim, "error_cells": error}
                for line, error in zip(self.boundaries, self.boundary_errors, strict=True)
            ],
            "relative_radius": metrics.value_range(self.diagram.sweep.column("relative_radius")),
            "theory_note": self.note,
            "step_size": None if self.diagram.step_size is None else self.diagram.step_size.summary(),
            "phases": {phase.label: float((self.phases == phase).mean()) for phase in Phase},
        }

    def table(self) -> str:
        """The short table that the command line prints."""
        summary = self.summary(0.0)
        counts = ", ".join(f"{name} {share:.1%}" for name, share in summary["phases"].items() if share)
        off = summary["phase_agreement_off_boundary"]
        rows = [
            ("runs", f"{summary['runs']:,} x {summary['steps']:,} steps, {summary['engine']} {summary['precision']}"),
            (
                "simulation",
                f"{summary['simulation_seconds']:.2f} s, {summary['run_steps_per_second'] / 1e6:,.0f} M run-steps/s",
            ),
            ("theory", f"{summary['theory_seconds']:.2f} s"),
            ("phases", counts),
            (
                "agreement",
                f"{summary['phase_agreement']:.2%} of {summary['agreement_runs']:,} runs have the phase of their flow"
                + ("" if off is None else f" ({off:.2%} away from boundaries)"),
            ),
        ]
        if self.diagram.step_size is not None:
            rows.append(("step size", self.diagram.step_size.line()))
        for line, error in zip(self.boundaries, self.boundary_errors, strict=True):
            if error == float("inf"):
                rows.append((f"{line.claim}", f"{line.name}: only one of theory and simulation has this line"))
            elif error is not None:
                rows.append((f"{line.claim}", f"{line.name}: within {error:.2f} cells of the simulation"))
        if summary["theory_note"]:
            rows.append(("note", str(summary["theory_note"])))
        return text_table(rows)


def _simulated_field(diagram: Diagram, line: Boundary, nominal: Sweep, level: float) -> FloatArray | None:
    """The simulated counterpart of a boundary's field, from the nominal start."""
    collapsed = diagram.nominal["status"].values == Status.COLLAPSED
    if line.key == "collapse":
        # A run that ended on its way says nothing about the boundary, which is a statement about t -> infinity.
        undecided = metrics.phases(diagram.nominal, nominal, level) == Phase.UNFINISHED
        return np.where(undecided, np.nan, np.where(collapsed, 0.5, -0.5))
    if line.key == "n_star":
        if "record_coefficient" not in diagram.nominal:
            return None
        u = diagram.nominal["record_coefficient"].values
        with np.errstate(divide="ignore", invalid="ignore"):  # a random start may have coefficients of either sign
            gain = np.log(u[..., 1, 1] / u[..., 0, 1]) - np.log(u[..., 1, 0] / u[..., 0, 0])
        return np.where(np.isnan(line.field), np.nan, gain)
    share = metrics.share_at_level(diagram.nominal, nominal, level)
    return np.where(collapsed, np.nan, share - float(line.key.removeprefix("share_")))


def _agreement_rows(sweep: Sweep) -> np.ndarray:
    """All runs where a flow is one scalar ODE, else a fixed random sample."""
    one = flow_of(sweep, np.arange(min(sweep.runs, 1)), (0.1,))
    if sweep.runs <= AGREEMENT_SAMPLE or (isinstance(one, FlowProblem) and FilterSystem.applies(one)):
        return np.arange(sweep.runs)
    return np.sort(np.random.default_rng(0).choice(sweep.runs, AGREEMENT_SAMPLE, replace=False))
