"""Simulate a sweep: flat batches to the engine, labelled arrays back."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.problem import Layers, TrainingProblem, TrainingResult
from sambalance_tools.arrays import FloatArray, batches_of_rows
from sambalance_tools.checks import require_whole
from sambalance_tools.files import atomic_path, require_disk
from sambalance_tools.progress import Progress, part_of
from toymodels.accuracy import group_accuracy
from toymodels.data import Atoms, Samples, atom_tables, exact_samples, noisy_samples
from toymodels.networks import Diagonal, Patches, PatchLayout, feature_coefficients, same_runs
from toymodels.probe import ATTRIBUTES, ProbeData, attribute_margins, probing_error
from toymodels.run_store import RunStore
from toymodels.suppression import suppression_factors
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    import xarray as xr


DEFAULT_MEMORY_BYTES = 1 << 30
"""Bound on the arrays that one engine call holds, in bytes."""

WINDOWS = ("pooled", "placed")
"""Hidden features that a probe of a patches network can read besides those that its head does."""

HEADER_BYTES = 1 << 17
"""More than what a dataset's names, attributes and tables take in a file."""


def simulate(
    sweep: Sweep,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> xr.Dataset:
    """Train every run of ``sweep`` and return what was learned, labelled.

    Args:
        sweep: what to train.
        engine, precision, threads: as in :func:`kernels.train`.
        progress: called with (run-steps done, run-steps in all).
        memory_bytes: bound on the arrays of one engine call, >= 1; larger sweeps are split.

    Raises:
        ValueError: names the argument, the value and what is allowed.

    Returns:
        A dataset with the sweep's axes and ``seed`` as dimensions, and variables
        ``coefficient (..., feature)`` in 1/[feature], ``loss``, ``gradient_norm``, ``status``
        (:class:`kernels.Status`), ``stopped_step``, ``crossing_step (..., level)`` (-1: level not reached),
        ``crossing_coefficient (..., level, feature)``, ``crossing_loss (..., level)``,
        with record steps ``record_coefficient (..., step, feature)`` and ``record_loss (..., step)``,
        with ``group_accuracy`` ``group_accuracy (..., group)`` and ``crossing_group_accuracy (..., level, group)``,
        with ``probe_noise`` ``probing_error (..., attribute)``, ``attribute_margin (..., attribute)`` and the same
        at the crossings, ``crossing_... (..., level, attribute)``; of patches networks also ``probing_error_pooled``
        and ``probing_error_placed``, from hidden features summed over all patches, and of each patch;
        and with ``suppression`` ``suppression (..., attribute)`` and ``crossing_suppression (..., level, attribute)``.
        ``attrs["config"]`` is the JSON of :meth:`Sweep.config`; ``attrs`` also name engine, precision and timings.
    """
    from kernels.engine import train

    if not isinstance(sweep, Sweep):
        raise ValueError(f"sweep={sweep!r}; allowed: a toymodels.Sweep")
    require_whole("memory_bytes", memory_bytes, least=1)
    columns = _Columns(sweep)
    store = RunStore(sweep, int(columns["steps"].sum()))
    for rows in _batches(sweep, columns, memory_bytes):
        problem, atom_rows, run_row = build_problem(sweep, columns, rows)
        work = len(rows) * problem.steps
        report = part_of(progress, store.done, work, store.run_steps)
        result = train(problem, engine=engine, precision=precision, threads=threads, progress=report)
        store.trained(result, work)
        for name, values in _variables(sweep, result, _arrangement(sweep, columns, rows)).items():
            store.put(name, values, rows)
        if sweep.group_accuracy:
            sigma, mu = _feature_noise(sweep, columns, rows), sweep.strengths()[rows]
            extra = columns["noise_extra"][rows] * (_noise_inputs(sweep, columns, rows) > 0)
            arrangement = _arrangement(sweep, columns, rows)
            for name, layers in (("", result.layers), ("crossing_", result.crossings.layers)):
                assert layers is not None
                values = group_accuracy(sweep.network, layers, atom_rows, run_row, mu, sigma, extra, arrangement)
                store.put(f"{name}group_accuracy", values, rows)
        if sweep.probe_noise:
            probed = _probe_data(sweep, columns, rows)
            for name, layers in (("", result.layers), ("crossing_", result.crossings.layers)):
                assert layers is not None
                for measure, values in _probed(sweep, layers, probed).items():
                    store.put(f"{name}{measure}", values, rows)
        if sweep.suppression:
            for measure, values in _suppressed(sweep, columns, rows, problem, result).items():
                store.put(measure, values, rows)
    return store.dataset(_TRAILING, _MEANING, _coordinates(sweep))


def save_dataset(
    dataset: xr.Dataset, path: str | os.PathLike[str], groups: Mapping[str, xr.Dataset] | None = None
) -> None:
    """Write NetCDF (h5netcdf) atomically; further datasets go into named groups of the same file."""
    parts = (dataset, *(groups or {}).values())
    with atomic_path(path) as partial:
        # HDF5 is not to meet a full disk: it crashes when it closes the file.
        require_disk(partial, sum(int(part.nbytes) for part in parts) + HEADER_BYTES * len(parts))
        dataset.to_netcdf(partial, engine="h5netcdf")
        for name, part in (groups or {}).items():
            part.to_netcdf(partial, engine="h5netcdf", group=name, mode="a")


def load_datasets(path: str | os.PathLike[str], groups: Sequence[str], what: str) -> list[xr.Dataset]:
    """What :func:`save_dataset` has written: the datasets at the root and of the named groups, in memory.

    Raises:
        ValueError: says why the file of ``--from`` cannot be read as ``what``.
    """
    import xarray as xr

    found = []
    # A damaged file raises nearly anything. h5netcdf then fails once more where nobody can catch it, when it closes
    # what it could not open: as soon as the error is forgotten.
    usual, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        for group in ("/", *groups):
            with xr.open_dataset(path, group=group, engine="h5netcdf") as stored:
                found.append(stored.load())
        return found
    except Exception as error:
        reason = " ".join(str(error).split())  # HDF5 puts line breaks into its messages
    finally:
        gc.collect()
        sys.unraisablehook = usual
    raise ValueError(f"--from={path} cannot be read as {what} ({reason})")


class _Columns:
    """Parameter columns of a sweep, computed once each."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._columns: dict[str, FloatArray] = {}

    def __getitem__(self, name: str) -> FloatArray:
        if name not in self._columns:
            self._columns[name] = self._sweep.column(name)
        return self._columns[name]


def _is_noisy(sweep: Sweep, columns: _Columns, rows: np.ndarray) -> bool:
    names = ["noise_easy", "noise_hard", "noise_features"]
    if isinstance(sweep.network, Patches):
        names.append("noise_patches")
    return any((columns[name][rows] > 0).any() for name in names)


def _batches(sweep: Sweep, columns: _Columns, memory_bytes: int) -> Iterator[np.ndarray]:
    """Row indices of runs that can share one engine call, within the memory bound."""
    _, structure = sweep.structure()
    for values in np.unique(structure, axis=0):
        rows = np.flatnonzero((structure == values).all(axis=1))
        named = dict(zip(sweep.structure()[0], values, strict=True))
        d = len(sweep.data.features) + int(named["noise_features"]) + int(sweep.network.bias)
        parameters = d * int(named["depth"]) if isinstance(sweep.network, Diagonal) else (d + 1) * int(named["width"])
        if isinstance(sweep.network, Patches):
            layout = PatchLayout(int(named["copies"]), int(named["noise_patches"]), int(named["noise_features"]))
            parameters = (layout.dimension + sweep.network.windows(layout.patches)) * int(named["width"])
            d = layout.patches * layout.dimension
        data = int(named["samples"]) * d if _is_noisy(sweep, columns, rows) else d
        kept = len(sweep.record_steps) * (d + 2) + len(sweep.loss_levels) * (d + 2)
        if sweep.measures_layers:
            kept += (len(sweep.record_steps) + len(sweep.loss_levels)) * parameters
        yield from batches_of_rows(rows, 8 * (3 * data + 6 * parameters + 2 * kept), memory_bytes)


def build_problem(sweep: Sweep, columns: Any, rows: np.ndarray) -> tuple[TrainingProblem, list[Atoms], np.ndarray]:
    """The engine's problem for the runs ``rows`` of a sweep, all of one structure; with their atoms and atom rows."""
    atom_rows, run_row = atom_tables(sweep.data, lambda name: columns[name][rows], len(rows))
    samples = _samples(sweep, columns, rows, atom_rows, run_row)
    structure = {name: int(columns[name][rows[0]]) for name in sweep.structure()[0]}
    seeds = columns["seed"][rows].astype(np.uint64)
    arrangement = _arrangement(sweep, columns, rows)
    features, scale = samples.features, samples.scale
    if arrangement is not None:
        features, scale = _placed(samples, arrangement)
    problem = TrainingProblem(
        features=features,
        labels=samples.labels,
        sample_weights=samples.weights,
        feature_scale=scale,
        initial_layers=sweep.initial_layers(rows),
        network={"diagonal": "diagonal", "patches": "patches"}.get(sweep.network.name, "two_layer"),
        activation="linear" if isinstance(sweep.network, Diagonal) else sweep.network.activation,
        loss=sweep.loss,
        eta=columns["eta"][rows],
        rho=columns["rho"][rows],
        perturb=sweep.rule.perturb,
        norm=sweep.rule.norm,
        norm_over=sweep.rule.norm_over,
        adaptive_eta=0.0,
        sam_from=columns["sam_from"][rows].astype(np.int64),
        sam_until=columns["sam_until"][rows].astype(np.int64),
        effect=sweep.rule.effect,
        weight_decay=columns["weight_decay"][rows],
        momentum=columns["momentum"][rows],
        steps=structure["steps"],
        batch_size=structure["batch"] or None,
        batch_seed=seeds,
        record_steps=sweep.record_steps,
        record_layers=sweep.measures_layers,
        loss_levels=sweep.loss_levels,
        collapse_threshold=sweep.collapse_threshold,
    )
    return problem, atom_rows, run_row


def _layout(sweep: Sweep, columns: Any, rows: np.ndarray) -> PatchLayout:
    return PatchLayout(*(int(columns[name][rows[0]]) for name in ("copies", "noise_patches", "noise_features")))


def _noise_inputs(sweep: Sweep, columns: Any, rows: np.ndarray) -> int:
    """How many independent noises there are beside those on the two features."""
    if isinstance(sweep.network, Patches):
        return _layout(sweep, columns, rows).inputs - 2
    return int(columns["noise_features"][rows[0]])


def _arrangement(sweep: Sweep, columns: Any, rows: np.ndarray) -> FloatArray | None:
    """``[B or 1, P, d, inputs]`` where the inputs are in the patches; None for networks without."""
    if not isinstance(sweep.network, Patches):
        return None
    cosine = columns["cosine"][rows]
    one_cosine = bool((cosine == cosine[0]).all())
    return _layout(sweep, columns, rows).arrangement(cosine[:1] if one_cosine else cosine)


def _placed(samples: Samples, arrangement: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Features ``[B or 1, S, P, d]`` and their scale, of samples ``[B or 1, S, inputs]`` and their scale.

    Where all patterns are alike and no noise is drawn, one copy of the data serves all runs: a patch holds one feature
    and takes its scale.
    """
    inputs = samples.features.shape[2]
    placed = arrangement[..., :inputs]  # without noise only the two features are given
    if len(arrangement) == 1 and inputs == 2:
        scale = np.ones((len(samples.scale), *placed.shape[1:3]))
        for k in (0, 1):
            holds = (placed[0, :, :, k] != 0).any(axis=1)
            scale[:, holds] = samples.scale[:, k, None, None]
        return np.einsum("bsn,pdn->bspd", samples.features, placed[0]), scale
    scaled = samples.features * samples.scale[:, None, :]
    return np.einsum("bsn,bpdn->bspd", *same_runs(scaled, placed)), np.ones((1, *placed.shape[1:3]))


def _feature_noise(sweep: Sweep, columns: Any, rows: np.ndarray) -> FloatArray:
    """``[B, K]`` noise on the features; features after the first two have none."""
    sigma = np.zeros((len(rows), len(sweep.data.features)))
    sigma[:, 0], sigma[:, 1] = columns["noise_easy"][rows], columns["noise_hard"][rows]
    return sigma


def _probe_data(sweep: Sweep, columns: Any, rows: np.ndarray) -> ProbeData:
    mu = np.stack([columns["mu_easy"][rows], columns["mu_hard"][rows]], axis=1)
    sigma = None
    if _is_noisy(sweep, columns, rows):
        extra = _noise_inputs(sweep, columns, rows)
        names = ("noise_easy", "noise_hard", *["noise_extra"] * extra)
        sigma = np.stack([columns[name][rows] for name in names], axis=1)
    half = int(columns["slabs"][rows[0]]) if sweep.data.kind == "slabs" else 0
    return ProbeData(mu, sigma, half, _arrangement(sweep, columns, rows))


def _probed(sweep: Sweep, layers: Layers, probed: ProbeData) -> dict[str, FloatArray]:
    """What probes say of layers ``[B, ..., *layer]``: ``[B, ..., attribute]`` each."""
    ways: dict[str, int | None] = {"": None}
    if isinstance(sweep.network, Patches):
        assert probed.arrangement is not None
        ways |= {"_pooled": 1, "_placed": probed.arrangement.shape[1]}
    found = {"attribute_margin": attribute_margins(sweep.network, layers, probed)}
    for way, windows in ways.items():
        errors = [
            probing_error(sweep.network, layers, probed, sweep.probe_noise, attribute, windows=windows)
            for attribute in ATTRIBUTES
        ]
        found[f"probing_error{way}"] = np.stack(errors, axis=-1)
    return found


def _suppressed(
    sweep: Sweep, columns: Any, rows: np.ndarray, problem: TrainingProblem, result: TrainingResult
) -> dict[str, FloatArray]:
    """Suppression at the end ``[B, attribute]`` and at the crossings ``[B, level, attribute]``."""
    probed = _probe_data(sweep, columns, rows)

    def factors(layers: Layers, step: np.ndarray) -> FloatArray:
        perturbs = (problem.sam_from[:, None] <= step) & (step < problem.sam_until[:, None])
        return suppression_factors(sweep.network, problem, layers, problem.rho[:, None] * perturbs, probed)

    assert result.crossings.layers is not None
    end = factors(tuple(layer[:, None] for layer in result.layers), result.stopped_step[:, None])
    return {
        "suppression": end[:, 0],
        "crossing_suppression": factors(result.crossings.layers, result.crossings.step),
    }


def _samples(sweep: Sweep, columns: Any, rows: np.ndarray, atom_rows: list[Atoms], run_row: np.ndarray) -> Samples:
    mu = sweep.strengths()[rows]
    if _is_noisy(sweep, columns, rows):
        extra = _noise_inputs(sweep, columns, rows)
        sigma = np.column_stack([_feature_noise(sweep, columns, rows), *[columns["noise_extra"][rows]] * extra])
        seeds, seed_row = np.unique(columns["seed"][rows].astype(int), return_inverse=True)
        size = int(columns["samples"][rows[0]])
        samples = noisy_samples(atom_rows, run_row, seed_row, seeds.tolist(), size, mu, sigma)
    else:
        tables = atom_rows if sweep.network.odd else [table.mirrored() for table in atom_rows]
        samples = exact_samples(tables, run_row, mu)
    if not sweep.network.bias:
        return samples
    ones = np.ones((*samples.features.shape[:2], 1))
    return Samples(
        np.concatenate([samples.features, ones], axis=2),
        samples.labels,
        samples.weights,
        np.concatenate([samples.scale, np.ones((len(samples.scale), 1))], axis=1),
        samples.group,
    )


def _variables(sweep: Sweep, result: TrainingResult, arrangement: FloatArray | None) -> dict[str, np.ndarray]:
    features = len(sweep.data.features)
    variables: dict[str, np.ndarray] = {
        "coefficient": feature_coefficients(result.coefficients, arrangement, features),
        "loss": result.loss,
        "gradient_norm": result.gradient_norm,
        "status": result.status,
        "stopped_step": result.stopped_step,
        "crossing_step": result.crossings.step,
        "crossing_coefficient": feature_coefficients(result.crossings.coefficients, arrangement, features),
        "crossing_loss": result.crossings.loss,
    }
    if sweep.record_steps:
        variables["record_coefficient"] = feature_coefficients(result.records.coefficients, arrangement, features)
        variables["record_loss"] = result.records.loss
    return variables


_TRAILING = {
    "coefficient": ("feature",),
    "crossing_step": ("level",),
    "crossing_coefficient": ("level", "feature"),
    "crossing_loss": ("level",),
    "record_coefficient": ("step", "feature"),
    "record_loss": ("step",),
    "group_accuracy": ("group",),
    "crossing_group_accuracy": ("level", "group"),
    "probing_error": ("attribute",),
    "attribute_margin": ("attribute",),
    "crossing_probing_error": ("level", "attribute"),
    "crossing_attribute_margin": ("level", "attribute"),
    **{f"probing_error_{way}": ("attribute",) for way in WINDOWS},
    **{f"crossing_probing_error_{way}": ("level", "attribute") for way in WINDOWS},
    "suppression": ("attribute",),
    "crossing_suppression": ("level", "attribute"),
}
_MEANING = {
    "coefficient": "final end-to-end coefficient u_k, in units of 1/feature",
    "loss": "final training loss",
    "gradient_norm": "final l2 norm of the training gradient",
    "status": "0 ok, 1 diverged, 2 collapsed",
    "stopped_step": "updates done",
    "crossing_step": "first step with training loss at or below the level; -1 if never",
    "crossing_coefficient": "end-to-end coefficient at the crossing",
    "crossing_loss": "training loss at the crossing",
    "record_coefficient": "end-to-end coefficient at the recorded step",
    "record_loss": "training loss at the recorded step",
    "group_accuracy": "accuracy of each group at the end",
    "crossing_group_accuracy": "accuracy of each group at the crossing",
    "probing_error": "error of a linear probe for each attribute on the noisy hidden features at the end",
    "attribute_margin": "E[a_k f(x)] on probe data at the end",
    "crossing_probing_error": "error of a linear probe for each attribute at the crossing",
    "crossing_attribute_margin": "E[a_k f(x)] on probe data at the crossing",
    "probing_error_pooled": "the same error on the hidden features summed over all patches, at the end",
    "probing_error_placed": "the same error on the hidden features of each patch, at the end",
    "crossing_probing_error_pooled": "the same error on the hidden features summed over all patches, at the crossing",
    "crossing_probing_error_placed": "the same error on the hidden features of each patch, at the crossing",
    "suppression": "chi_k, share of a feature's margin that SAM's phantom point leaves, at the end",
    "crossing_suppression": "chi_k, share of a feature's margin that SAM's phantom point leaves, at the crossing",
}


def _coordinates(sweep: Sweep) -> dict[str, Any]:
    """Coordinates of the dimensions that variables have after the sweep's own."""
    coords: dict[str, Any] = {"feature": list(sweep.data.features), "level": list(sweep.loss_levels)}
    if sweep.record_steps:
        coords["step"] = list(sweep.record_steps)
    if sweep.group_accuracy:
        coords["group"] = list(sweep.data.atoms(slabs=int(sweep.column("slabs")[0])).names)
    if sweep.probe_noise or sweep.suppression:
        coords["attribute"] = list(ATTRIBUTES)
    return coords
