"""Thousands of heads on one table of real features: a sweep's runs as batches of trainings that share one data set.

The correlation p of label and easy attribute is made by weights of the examples, not by choosing some: of each label's
total weight of 1/2, the images whose easy attribute agrees with it hold p and those that contradict it 1 - p, equally
within either. So all runs see the same images, and a cell differs from the next by nothing but its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kernels.problem import TrainingProblem
from realdata.datasets.base import FIT
from realdata.features.measures import MEASURES, ProbeImages, measure_heads
from realdata.features.table import FeatureTable
from realdata.features.toy import signs
from sambalance_tools.arrays import FloatArray, batches_of_rows
from sambalance_tools.progress import Progress, part_of
from toymodels.networks import Diagonal, Patches
from toymodels.run_store import RunStore
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    import xarray as xr

AXES = ("rho", "p", "init", "eta", "jitter", "imbalance", "weight_decay", "momentum")
"""Parameters that can be swept: those that change neither the shape of an array nor the measures."""

FIXED = ("steps", "width", "depth", "batch")
"""Parameters that can be set, but not swept."""

MEMORY_BYTES = 1 << 28
"""Largest number of example weights and parameters in one engine call."""


def correlation_weights(table: FeatureTable, p: FloatArray) -> FloatArray:
    """Weights ``[B, S]`` of the images to fit on, each row with sum 1, for correlations ``p`` ``[B]``.

    Raises:
        ValueError: if images are missing: of a label, or ones that agree with it or contradict it.

    Example: four images, of which the second contradicts its label, at p = 0.9: 0.225, 0.05, 0.225, ...
    """
    rows = table.rows(FIT)
    label, easy = table.label[rows], signs(table, rows)[:, 0]
    agrees = easy == label
    weights = np.zeros((len(p), len(rows)))
    for sign in (-1.0, 1.0):
        for agreeing, share in ((True, p), (False, 1.0 - p)):
            members = (label == sign) & (agrees == agreeing)
            if not members.any():
                if (share > 0).any():
                    word = "agrees with" if agreeing else "contradicts"
                    raise ValueError(
                        f"{table.title} has no image to fit on whose easy attribute {word} label {sign:+g}; "
                        f"allowed: p = {0 if agreeing else 1}, or data of all groups"
                    )
                continue
            weights[:, members] = 0.5 * share[:, None] / members.sum()
    return weights


def train_heads(
    table: FeatureTable,
    sweep: Sweep,
    noise: float,
    *,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Train a sweep's heads on a table and measure them where they first reach each loss level.

    Args:
        sweep: a sweep of spurious data; its strengths and noise are not used, because the table has its own.
        noise: noise of the probes, see :func:`realdata.features.measures.measure_heads`.
        engine, precision, threads: as in :func:`kernels.train`.
        progress: called with (run-steps done, run-steps in all).

    Returns:
        A dataset with the sweep's axes and ``seed`` as dimensions: ``loss``, ``status`` (:class:`kernels.Status`) and
        ``stopped_step`` at the end; ``crossing_step`` (-1: not reached), ``crossing_loss`` and each of ``MEASURES``
        (..., level) at the first crossing of each level, NaN where it was not reached. For diagonal heads in the probe
        basis also ``first_gain``, the increase of ln(u_h / u_e) in the first step, which is what C7 predicts.

    Raises:
        ValueError: for an axis or a kind of data that heads on images do not support.
    """
    from kernels.engine import train

    _check(sweep)
    images = ProbeImages.of(table)
    rows = table.rows(FIT)
    features, labels = table.features[rows][None], table.label[rows][None]
    columns = {name: sweep.column(name) for name in (*AXES, *FIXED, "seed")}
    whole = {name: int(columns[name][0]) for name in FIXED}
    store = RunStore(sweep, sweep.runs * whole["steps"])
    for chosen in _batches(sweep, features.shape):
        work = len(chosen) * whole["steps"]
        column = {name: values[chosen] for name, values in columns.items()}
        distinct = np.unique(column["p"])
        weights = correlation_weights(table, distinct if len(distinct) == 1 else column["p"])
        problem = TrainingProblem(
            features=features,
            labels=labels,
            sample_weights=weights,
            initial_layers=sweep.initial_layers(chosen, features.shape[2]),
            network="diagonal" if isinstance(sweep.network, Diagonal) else "two_layer",
            activation="linear" if isinstance(sweep.network, Diagonal) else sweep.network.activation,
            loss=sweep.loss,
            eta=column["eta"],
            rho=column["rho"],
            perturb=sweep.rule.perturb,
            norm=sweep.rule.norm,
            norm_over=sweep.rule.norm_over,
            adaptive_eta=0.0,
            effect=sweep.rule.effect,
            weight_decay=column["weight_decay"],
            momentum=column["momentum"],
            steps=whole["steps"],
            batch_size=whole["batch"] or None,
            batch_seed=column["seed"].astype(np.uint64),
            record_layers=True,
            record_steps=(0, 1),
            loss_levels=sweep.loss_levels,
            collapse_threshold=sweep.collapse_threshold,
        )
        report = part_of(progress, store.done, work, store.run_steps)
        result = train(problem, engine=engine, precision=precision, threads=threads, progress=report)
        store.trained(result, work)
        found = {
            "loss": result.loss,
            "status": result.status,
            "stopped_step": result.stopped_step,
            "crossing_step": result.crossings.step,
            "crossing_loss": result.crossings.loss,
        }
        if isinstance(sweep.network, Diagonal) and table.names[:2] == ("easy", "hard"):
            log = np.log(np.abs(result.records.coefficients[..., :2]))
            found["first_gain"] = (log[:, 1, 1] - log[:, 1, 0]) - (log[:, 0, 1] - log[:, 0, 0])
        assert result.crossings.layers is not None
        at_levels = [
            measure_heads(sweep.network, tuple(layer[:, k] for layer in result.crossings.layers), images, noise)
            for k in range(len(sweep.loss_levels))
        ]
        for name in MEASURES:
            found[name] = np.stack([at[name] for at in at_levels], axis=1)
        for name, values in found.items():
            store.put(name, values, chosen)
    levels = {name: ("level",) for name in ("crossing_step", "crossing_loss", *MEASURES)}
    return store.dataset(levels, _MEANING, {"level": list(sweep.loss_levels)})


def _check(sweep: Sweep) -> None:
    for name in sweep.axes:
        if name not in AXES:
            raise ValueError(f"axis {name}; allowed: {', '.join(AXES)} (the others are measured, or change shapes)")
    if sweep.data.kind != "spurious":
        raise ValueError(f"data={sweep.data.kind!r}; allowed: 'spurious', whose correlation p the weights make")
    if isinstance(sweep.network, Patches):
        raise ValueError("network='patches'; allowed: diagonal, linear, relu (a table's features have no places)")
    if sweep.network.bias:
        raise ValueError("bias=True; allowed: False, features are centred")


def _batches(sweep: Sweep, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Slices of runs for single engine calls, within the memory bound."""
    _, samples, dimension = shape
    per_layer = dimension if isinstance(sweep.network, Diagonal) else int(sweep.column("width")[0]) * (dimension + 1)
    per_run = 8 * (samples + (4 + 2 * len(sweep.loss_levels)) * per_layer)
    return batches_of_rows(np.arange(sweep.runs), per_run, MEMORY_BYTES)


_MEANING = {
    "loss": "final training loss",
    "status": "0 ok, 1 diverged, 2 collapsed",
    "stopped_step": "updates done",
    "first_gain": "growth of ln(u_hard / u_easy) in the first step",
    "crossing_step": "first step with training loss at or below the level; -1 if never",
    "crossing_loss": "training loss at the crossing",
    "hard_share": "the hard attribute's share of the margin at the crossing",
    "hard_probing_error": "error of a linear probe for the hard attribute at the crossing",
    "easy_probing_error": "error of a linear probe for the easy attribute at the crossing",
    "worst_group_accuracy": "accuracy of the worst group at the crossing",
}
