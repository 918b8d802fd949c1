"""Which effect does the balancing, and where SAM hurts: maps of the advantage over GD at matched training loss."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.progress import Progress
from sambalance_tools.tables import text_table
from toymodels import metrics
from toymodels.prediction import flow_advantage, no_flow_reason
from toymodels.rules import UpdateRule, rule
from toymodels.simulation import simulate
from toymodels.step_size import thinned
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    import xarray as xr

COMPARED: dict[str, UpdateRule] = {
    "sam": rule("sam"),
    "sam_weights": rule("sam", "weights"),
    "sam_jacobian": rule("sam", "jacobian"),
    "lsam": rule("lsam"),
}
"""SAM, its importance-weighting effect alone, its learning-rate-scaling effect alone, and last-layer SAM."""

FLOW_CELLS = 48
"""Largest side of the grid on which the flows' sign change is located."""


@dataclass(frozen=True)
class EffectsMap:
    """Advantage in hard share over GD at one training loss, for each of :data:`COMPARED`."""

    sweep: Sweep
    level: float
    advantage: dict[str, FloatArray]
    """``[ny, nx, seeds]`` per rule; NaN where the rule or GD misses the level."""
    flow_advantage: dict[str, FloatArray]
    """Coarser ``[my, mx]`` per rule, by the flows from the nominal start; its zero line is the analytic sign change."""
    flow_axes: tuple[FloatArray, FloatArray]
    engine: str
    simulation_seconds: float

    @classmethod
    def simulate(
        cls,
        sweep: Sweep,
        level: float,
        engine: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> EffectsMap:
        """Train the sweep under every compared rule and under GD."""
        bare = replace(sweep, record_steps=(), group_accuracy=False)

        def run(part: Sweep) -> xr.Dataset:
            return simulate(part, engine=engine, precision=precision, threads=threads, progress=progress)

        gd = run(bare.gd_baseline())
        seconds = float(gd.attrs["simulation_seconds"])
        found = {}
        for name, compared in COMPARED.items():
            part = replace(bare, rule=compared)
            dataset = run(part)
            seconds += float(dataset.attrs["simulation_seconds"])
            found[name] = metrics.advantage(dataset, gd, part, level)
        thin = thinned(bare.nominal(), FLOW_CELLS)
        y, x = (np.asarray(axis) for axis in thin.axes.values())
        flows = {name: flow_advantage(replace(thin, rule=compared), level) for name, compared in COMPARED.items()}
        return cls(sweep, level, found, flows, (x, y), str(gd.attrs["engine"]), seconds)

    def summary(self, wall_seconds: float) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        rules = {}
        for name, values in self.advantage.items():
            valid = values[np.isfinite(values)]
            mean = seed_mean(values)
            rules[name] = {
                "label": COMPARED[name].label,
                "largest": float(valid.max()) if valid.size else None,
                "smallest": float(valid.min()) if valid.size else None,
                "share_of_cells_helped": float((mean > metrics.NEGLIGIBLE_ADVANTAGE).mean()),
                "share_of_cells_hurt": float((mean < -metrics.NEGLIGIBLE_ADVANTAGE).mean()),
                "largest_seed_deviation": _largest_seed_deviation(values),
            }
        difference = np.abs(seed_mean(self.advantage["sam"]) - seed_mean(self.advantage["sam_jacobian"]))
        return {
            "config": self.sweep.config(),
            "relative_radius": metrics.value_range(self.sweep.column("relative_radius")),
            "level": self.level,
            "engine": self.engine,
            "rules": rules,
            "largest_weights_only": float(np.nanmax(np.abs(seed_mean(self.advantage["sam_weights"])))),
            "largest_sam_minus_jacobian_only": float(np.nanmax(difference)),
            "negligible_below": metrics.NEGLIGIBLE_ADVANTAGE,
            "theory_note": no_flow_reason(self.sweep),
            "simulation_seconds": self.simulation_seconds,
            "wall_seconds": wall_seconds,
        }

    def table(self) -> str:
        """The short table that the command line prints."""
        summary = self.summary(0.0)
        header = ("rule", "smallest", "largest", "cells helped", "cells hurt")
        rows = [
            [
                row["label"],
                *("none" if row[name] is None else f"{row[name]:+.3f}" for name in ("smallest", "largest")),
                *(f"{row[name]:.0%}" for name in ("share_of_cells_helped", "share_of_cells_hurt")),
            ]
            for row in summary["rules"].values()
        ]
        title = f"advantage over GD in hard share at training loss {self.level:g} ({self.sweep.data.kind} data)"
        return text_table(rows, header, title, right=range(1, 5)) + (
            f"\nlargest |weights only| {summary['largest_weights_only']:.4f}, "
            f"largest |SAM - Jacobian only| {summary['largest_sam_minus_jacobian_only']:.4f}"
        )

    def dataset(self) -> xr.Dataset:
        """Everything, labelled."""
        import xarray as xr

        stacked = np.stack(list(self.advantage.values()))
        flows = np.stack(list(self.flow_advantage.values()))
        y_name, x_name = self.sweep.axes
        return xr.Dataset(
            {
                "advantage": (("rule", *self.sweep.dims), stacked),
                "flow_advantage": (("rule", f"flow_{y_name}", f"flow_{x_name}"), flows),
            },
            coords={
                "rule": list(self.advantage),
                "seed": list(self.sweep.seed_list),
                **{name: np.asarray(axis) for name, axis in self.sweep.axes.items()},
                f"flow_{x_name}": self.flow_axes[0],
                f"flow_{y_name}": self.flow_axes[1],
            },
            attrs={"config": json.dumps(self.sweep.config()), "level": self.level, "engine": self.engine},
        )


def seed_mean(values: FloatArray) -> FloatArray:
    """Mean over seeds; NaN unless every seed has a value, so that a map never averages over the survivors."""
    return values.mean(axis=-1)


def _largest_seed_deviation(values: FloatArray) -> float | None:
    if values.shape[-1] < 2 or not np.isfinite(values).all(axis=-1).any():
        return None
    return float(np.nanmax(values.std(axis=-1, ddof=1)))
