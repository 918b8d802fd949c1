"""A phase diagram as data: the simulated sweep, its GD twin, its theory, and the report that compares them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.problem import Status
from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice
from sambalance_tools.files import write_text
from sambalance_tools.progress import Progress
from toymodels import metrics
from toymodels.agreement import PhaseAgreement, boundary_error_cells, phase_agreement
from toymodels.data import FeatureData
from toymodels.flow import FilterSystem
from toymodels.metrics import Phase
from toymodels.networks import Network
from toymodels.parameters import parameter
from toymodels.plots import MapStyle, map_figure, phase_diagram_figure, save_figure
from toymodels.prediction import Boundary, Prediction, boundaries, flow_problem, no_flow_reason, predict
from toymodels.rules import UpdateRule
from toymodels.simulation import save_dataset, simulate
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

AGREEMENT_SAMPLE = 4096
"""Runs whose flow is integrated where the fast scalar law does not apply."""

EXTRA_LEVELS = (0.4, 0.2, 0.1, 0.05)

Axis = tuple[str, Sequence[float]]

MAP_STYLES = {
    "hard_share": MapStyle("Hard share at the loss level, $H$", "PuOr", centre=0.5, limits=(0.0, 1.0)),
    "advantage": MapStyle("Hard share minus GD's at matched loss", "RdBu", centre=0.0, linear_below=0.05),
    "steps": MapStyle("Steps to the loss level", "viridis"),
    "worst_group_accuracy": MapStyle("Worst-group accuracy at the loss level", "cividis", limits=(0.0, 1.0)),
}


def check_metric(metric: str, has_groups: bool) -> None:
    """Raise a ValueError for an unknown metric, or one that needs group accuracies where there are none."""
    require_choice("metric", metric, ("phase", *MAP_STYLES))
    if metric == "worst_group_accuracy" and not has_groups:
        raise ValueError(
            "metric='worst_group_accuracy' needs groups; allowed with every --data but redundant, without an axis over "
            "slabs"
        )


def diagram_sweep(
    x: Axis,
    y: Axis,
    values: dict[str, float],
    network: Network,
    data: FeatureData,
    rule: UpdateRule,
    loss: str = "logistic",
    seeds: int | Sequence[int] = 4,
    level: float = 0.1,
) -> Sweep:
    """The sweep of a diagram: axes (y, x), the wanted loss level beside the usual ones, steps 0 and 1 recorded.

    The first step shows whether the hard feature gains on the easy one at the start, which C7 predicts.
    """
    for option, (name, axis) in (("--x", x), ("--y", y)):
        if len(axis) < 2:
            raise ValueError(f"{option} {name} has {len(axis)} value; allowed: at least 2")
    return Sweep(
        network=network,
        data=data,
        rule=rule,
        loss=loss,
        values=values,
        axes={y[0]: y[1], x[0]: x[1]},
        seeds=seeds,
        loss_levels=tuple(dict.fromkeys((level, *EXTRA_LEVELS))),
        record_steps=() if "steps" in (x[0], y[0]) else (0, 1),
        # With an axis over slabs the groups differ from cell to cell.
        group_accuracy=data.kind != "redundant" and "slabs" not in (x[0], y[0]),
    )


@dataclass(frozen=True)
class Diagram:
    """Simulated runs of a two-axis sweep.

    ``nominal`` is the same sweep from the nominal start (jitter 0, one seed): its boundaries are sharp, and are the
    ones that the analytic boundaries are compared with. Both come with a GD twin for the advantage.
    """

    sweep: Sweep
    dataset: xr.Dataset
    gd: xr.Dataset
    nominal: xr.Dataset

    @classmethod
    def simulate(
        cls,
        sweep: Sweep,
        engine: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Diagram:
        """Train the sweep, its nominal start and its GD twin."""

        def run(part: Sweep) -> xr.Dataset:
            return simulate(part, engine=engine, precision=precision, threads=threads, progress=progress)

        dataset = run(sweep)
        gd = dataset if sweep.rule.name == "gd" else run(sweep.gd_twin())
        return cls(sweep, dataset, gd, run(nominal_sweep(sweep)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Diagram:
        """Read a diagram written by :meth:`save`; a ValueError says why a file cannot be one."""
        import xarray as xr

        parts = []
        for group in ("/", "gd", "nominal"):
            try:
                with xr.open_dataset(path, group=group, engine="h5netcdf") as stored:
                    parts.append(stored.load())
            except (OSError, ValueError, KeyError) as error:
                reason = " ".join(str(error).split())  # HDF5 puts line breaks into its messages
                raise ValueError(f"--from={path} cannot be read as a phase diagram ({reason})") from None
        if "config" not in parts[0].attrs or "status" not in parts[0]:
            raise ValueError(f"--from={path} holds no phase diagram; allowed: a file written by this command")
        try:
            sweep = Sweep.from_config(parts[0].attrs["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"--from={path} has a configuration that cannot be read ({error!r})") from None
        return cls(sweep, *parts)

    def save(self, path: Path) -> None:
        """Write NetCDF: the runs at the root, the GD twin and the nominal start as groups."""
        save_dataset(self.dataset, path, {"gd": self.gd, "nominal": self.nominal})

    @property
    def default_level(self) -> float:
        """The usual level if it was recorded, else the highest that was."""
        return 0.1 if 0.1 in self.sweep.loss_levels else self.sweep.loss_levels[0]

    def report(self, metric: str, level: float) -> Report:
        """Compare with the theory at a loss level."""
        check_metric(metric, "group_accuracy" in self.dataset)
        metrics.level_index(self.sweep, level)
        started = time.perf_counter()
        simulated = metrics.phases(self.dataset, self.sweep, level)
        nominal = nominal_sweep(self.sweep)
        nominal_prediction = predict(nominal, level)
        lines = boundaries(nominal, nominal_prediction, level)
        prediction = predict(self.sweep, level, _agreement_rows(self.sweep))
        return Report(
            diagram=self,
            metric=metric,
            level=level,
            phases=simulated,
            boundaries=lines,
            boundary_errors=[
                None if (field := self._simulated_field(line, nominal, level)) is None
                else boundary_error_cells(field, line)
                for line in lines
            ],
            agreement=phase_agreement(simulated, prediction),
            prediction=prediction,
            theory_seconds=time.perf_counter() - started,
        )  # fmt: skip

    def _simulated_field(self, line: Boundary, nominal: Sweep, level: float) -> FloatArray | None:
        """The simulated counterpart of a boundary's field, from the nominal start."""
        collapsed = self.nominal["status"].values == Status.COLLAPSED
        if line.key == "collapse":
            # A run that ended on its way says nothing about the boundary, which is a statement about t -> infinity.
            undecided = metrics.phases(self.nominal, nominal, level) == Phase.UNFINISHED
            return np.where(undecided, np.nan, np.where(collapsed, 0.5, -0.5))
        if line.key == "n_star":
            if "record_coefficient" not in self.nominal:
                return None
            u = self.nominal["record_coefficient"].values
            gain = np.log(u[..., 1, 1] / u[..., 0, 1]) - np.log(u[..., 1, 0] / u[..., 0, 0])
            return np.where(np.isnan(line.field), np.nan, gain)
        share = metrics.share_at_level(self.nominal, nominal, level)
        return np.where(collapsed, np.nan, share - float(line.key.removeprefix("share_")))

    def values(self, metric: str, level: float) -> FloatArray:
        """``[ny, nx]`` seed mean of a continuous metric; NaN where no seed has a value."""
        if metric == "hard_share":
            cells = metrics.share_at_level(self.dataset, self.sweep, level)
        elif metric == "advantage":
            cells = metrics.advantage(self.dataset, self.gd, self.sweep, level)
        elif metric == "steps":
            crossing = self.dataset["crossing_step"].values[..., metrics.level_index(self.sweep, level)]
            cells = np.where(crossing < 0, np.nan, crossing)
        else:
            cells = metrics.worst_group(self.dataset, self.sweep, level)
        valid = np.isfinite(cells)
        return np.divide(
            np.where(valid, cells, 0.0).sum(-1), valid.sum(-1), out=np.full(cells.shape[:-1], np.nan),
            where=valid.any(-1),
        )  # fmt: skip


def nominal_sweep(sweep: Sweep) -> Sweep:
    """The sweep from its nominal start: no jitter, the first seed."""
    axes = {name: axis for name, axis in sweep.axes.items()}
    values = dict(sweep.values) if "jitter" in axes else {**sweep.values, "jitter": 0.0}
    return replace(sweep, values=values, axes=axes, seeds=sweep.seed_list[:1], group_accuracy=False)


def _agreement_rows(sweep: Sweep) -> np.ndarray:
    """All runs where a flow is one scalar ODE, else a fixed random sample."""
    one = flow_problem(sweep, np.arange(min(sweep.runs, 1)), (0.1,))
    if sweep.runs <= AGREEMENT_SAMPLE or FilterSystem.applies(one):
        return np.arange(sweep.runs)
    return np.sort(np.random.default_rng(0).choice(sweep.runs, AGREEMENT_SAMPLE, replace=False))


@dataclass(frozen=True)
class Report:
    """A diagram held against the theory at one loss level."""

    diagram: Diagram
    metric: str
    level: float
    phases: np.ndarray
    boundaries: list[Boundary]
    boundary_errors: list[float | None]
    agreement: PhaseAgreement
    prediction: Prediction
    theory_seconds: float

    def write(self, directory: Path, redraw: bool, started: float) -> list[Path]:
        """Write figure, data and summary; a redraw leaves the data alone. Returns the paths."""
        paths = save_figure(self.figure(), directory / "phase_diagram")
        if not redraw:
            self.diagram.save(directory / "phase_diagram.nc")
            paths.append(directory / "phase_diagram.nc")
        summary = directory / "summary.json"
        write_text(summary, json.dumps(self.summary(time.perf_counter() - started), indent=2) + "\n")
        return [*paths, summary]

    def figure(self) -> Figure:
        """The Matplotlib figure."""
        sweep = self.diagram.sweep
        (y_name, y), (x_name, x) = ((name, np.asarray(axis)) for name, axis in sweep.axes.items())
        title = f"{network_label(sweep)}, {sweep.data.kind} data, {sweep.rule.label}"
        if self.metric == "phase":
            return phase_diagram_figure(
                (x_name, x), (y_name, y), self.phases, self.boundaries, title, caption(sweep, self.level)
            )
        values = self.diagram.values(self.metric, self.level)
        style = MAP_STYLES[self.metric]
        return map_figure((x_name, x), (y_name, y), values, style, self.boundaries, title, caption(sweep, self.level))

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
            "theory_note": no_flow_reason(self.diagram.sweep),
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
        for line, error in zip(self.boundaries, self.boundary_errors, strict=True):
            if error is not None:
                rows.append((f"{line.claim}", f"{line.name}: within {error:.2f} cells of the simulation"))
        if summary["theory_note"]:
            rows.append(("note", str(summary["theory_note"])))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def caption(sweep: Sweep, level: float) -> str:
    """The configuration that is not on an axis, in symbols, and what the theory's lines stand for."""
    shown = ("mu_easy", "mu_hard", "p", "q", "spread", "flip", "init", "eta", "steps", "rho", "width")
    noise = ("noise_easy", "noise_hard", "noise_features", "batch")
    parts = [f"loss level {level:g}", f"{len(sweep.seed_list)} seeds"]
    for name in (*shown, *noise):
        if name in sweep.axes or (name == "mu_hard" and "ratio" in {*sweep.axes, *sweep.values}):
            continue
        relevant = {
            **{
                data_parameter: data_parameter in sweep.data.parameters
                for data_parameter in ("p", "q", "spread", "flip")
            },
            "width": sweep.network.name != "diagonal",
            "rho": sweep.rule.name != "gd",
        }.get(name, True)
        value = sweep.column(name)[0]
        if relevant and (value or name not in noise):
            parts.append(f"{parameter(name).symbol} = {value:g}")
    note = no_flow_reason(sweep)
    return ", ".join(parts) + (f"\nlines: {note}" if note else "")


def network_label(sweep: Sweep) -> str:
    """Name of the network for titles."""
    if sweep.network.name == "diagonal":
        return "Diagonal network"
    width = "" if "width" in sweep.axes else f" width {sweep.column('width')[0]:g}"
    return f"Two-layer {'ReLU' if sweep.network.name == 'relu' else 'linear'} network{width}"
