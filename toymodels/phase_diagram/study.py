"""A phase diagram as data: the simulated sweep, the same from its nominal start, and its GD baseline."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice
from sambalance_tools.progress import Progress
from toymodels import metrics
from toymodels.data import FeatureData
from toymodels.networks import Network, Patches
from toymodels.parameters import PROBE_NOISE
from toymodels.phase_diagram import METRICS, PROBED, SUPPRESSED
from toymodels.phase_diagram.own_metrics import OWN_METRICS
from toymodels.probe import ATTRIBUTES
from toymodels.rules import UpdateRule
from toymodels.simulation import load_datasets, save_dataset, simulate
from toymodels.step_size import StepSize
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    import xarray as xr

EXTRA_LEVELS = (0.4, 0.2, 0.1, 0.05)

Axis = tuple[str, Sequence[float]]


def check_metric(metric: str, sweep: Sweep) -> None:
    """Raise a ValueError for an unknown metric, or one that needs what the sweep does not measure."""
    require_choice("metric", metric, (*METRICS, *OWN_METRICS))
    if metric in ("probing_error_pooled", "probing_error_placed") and not isinstance(sweep.network, Patches):
        raise ValueError(
            f"metric={metric!r} needs patches; allowed: probing_error, or a patches network (--network patches)"
        )
    if (metric in PROBED and not sweep.probe_noise) or (metric in SUPPRESSED and not sweep.suppression):
        raise ValueError(
            f"metric={metric!r} was not measured in this diagram; allowed: simulate it with --metric {metric}"
        )
    if metric == "worst_group_accuracy" and not sweep.group_accuracy:
        raise ValueError(
            "metric='worst_group_accuracy' needs groups; allowed with every --data but redundant, without an axis over "
            "slabs, and with toymodels.groups(...)"
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
    metric: str = "phase",
    probe_noise: float = PROBE_NOISE,
) -> Sweep:
    """The sweep of a diagram: axes (y, x), the wanted loss level beside the usual ones, steps 0 and 1 recorded.

    The first step shows whether the hard feature gains on the easy one at the start, which C7 predicts. ``metric`` is
    what the map will show: probing errors (under ``probe_noise``) and suppression are measured only where it asks for
    them.

    Raises:
        ValueError: for an unknown metric, one that needs what there is not, or an axis with fewer than two values.
    """
    for option, (name, axis) in (("--x", x), ("--y", y)):
        if len(axis) < 2:
            raise ValueError(f"{option} {name} has {len(axis)} value; allowed: at least 2")
    sweep = Sweep(
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
        # A group of one's own samples would be a single sample.
        group_accuracy=data.kind not in ("redundant", "samples") and "slabs" not in (x[0], y[0]),
        probe_noise=probe_noise if metric in PROBED else 0.0,
        suppression=metric in SUPPRESSED,
    )
    check_metric(metric, sweep)
    return sweep


@dataclass(frozen=True)
class Diagram:
    """Simulated runs of a two-axis sweep.

    ``nominal`` is the same sweep from the nominal start (jitter 0, one seed): its boundaries are sharp, and are the
    ones that the analytic boundaries are compared with. Both come with a GD baseline for the advantage.
    """

    sweep: Sweep
    dataset: xr.Dataset
    gd: xr.Dataset
    nominal: xr.Dataset
    step_size: StepSize | None = None
    """Whether eta is small enough for the theory's lines; None where it is not known."""

    @classmethod
    def simulate(
        cls,
        sweep: Sweep,
        engine: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
        step_size: StepSize | None = None,
    ) -> Diagram:
        """Train the sweep, its nominal start and its GD baseline.

        ``step_size`` is what :func:`toymodels.step_size.choose_eta` or :func:`toymodels.step_size.measure` found.
        """

        def run(part: Sweep) -> xr.Dataset:
            return simulate(part, engine=engine, precision=precision, threads=threads, progress=progress)

        dataset = run(sweep)
        gd = dataset if sweep.rule.name == "gd" else run(sweep.gd_baseline())
        return cls(sweep, dataset, gd, run(sweep.nominal()), step_size)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Diagram:
        """Read a diagram written by :meth:`save`; a ValueError says why a file cannot be one."""
        parts = load_datasets(path, ("gd", "nominal"), "a phase diagram")
        if "config" not in parts[0].attrs or "status" not in parts[0]:
            raise ValueError(f"--from={path} holds no phase diagram; allowed: a file written by this command")
        try:
            sweep = Sweep.from_config(parts[0].attrs["config"])
            stored = parts[0].attrs.get("step_size")
            step_size = None if stored is None else StepSize(**json.loads(stored))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"--from={path} has a configuration that cannot be read ({error!r})") from None
        dataset, gd, nominal = parts
        return cls(sweep, dataset, gd, nominal, step_size)

    def save(self, path: Path) -> None:
        """Write NetCDF: the runs at the root, the GD baseline and the nominal start as groups."""
        dataset = self.dataset
        if self.step_size is not None:
            dataset = dataset.assign_attrs(step_size=json.dumps(self.step_size.summary()))
        save_dataset(dataset, path, {"gd": self.gd, "nominal": self.nominal})

    @property
    def default_level(self) -> float:
        """The usual level if it was recorded, else the highest that was."""
        return 0.1 if 0.1 in self.sweep.loss_levels else self.sweep.loss_levels[0]

    def values(self, metric: str, level: float) -> FloatArray:
        """``[ny, nx]`` of a continuous metric, NaN where no seed has a value.

        The mean over seeds; of suppression the median, because the ratio of two small numbers, which it is where a
        feature has hardly been learned, has no mean.
        """
        if metric in OWN_METRICS:
            cells = OWN_METRICS[metric].cells(self, level)
        elif metric == "hard_share":
            cells = metrics.share_at_level(self.dataset, self.sweep, level)
        elif metric == "advantage":
            cells = metrics.advantage(self.dataset, self.gd, self.sweep, level)
        elif metric == "steps":
            crossing = self.dataset["crossing_step"].values[..., metrics.level_index(self.sweep, level)]
            cells = np.where(crossing < 0, np.nan, crossing)
        elif metric in PROBED:
            features = metric.removeprefix("probing_error").removeprefix("_") or "head"
            cells = metrics.probing_error(self.dataset, self.sweep, level, features)
        elif metric in SUPPRESSED:
            easy, hard = (metrics.suppression(self.dataset, self.sweep, level, name) for name in ATTRIBUTES)
            cells = {"suppression": easy, "suppression_hard": hard, "suppression_gap": hard - easy}[metric]
        else:
            cells = metrics.worst_group(self.dataset, self.sweep, level)
        valid = np.isfinite(cells)
        if metric in SUPPRESSED:
            median = np.ma.median(np.ma.masked_array(cells, ~valid), axis=-1)  # type: ignore[no-untyped-call]
            return np.ma.filled(median, np.nan)
        return np.divide(
            np.where(valid, cells, 0.0).sum(-1), valid.sum(-1), out=np.full(cells.shape[:-1], np.nan),
            where=valid.any(-1),
        )  # fmt: skip
