"""The fast CPU engine: C++ vectors whose lanes are runs, on every CPU that the process may use.

It computes what :mod:`kernels.reference` computes, in float32 (or float64), up to rounding. Bit-exact: the mini-batches
(:mod:`kernels.sampling`), and all results on any number of threads and whichever other runs share a problem, as long
as the instruction set stays the same. Not bit-exact: results of different instruction sets (sums are grouped alike,
but plain SSE has no fused multiply-add, and AVX2 uses it where AVX-512 has masked additions) and of different engines.

The machine's best instruction set is chosen at run time; ``SAMBALANCE_ISA=v2``, ``v3`` or ``v4`` (the levels of the
x86-64 psABI: SSE4.2, AVX2, AVX-512; ``native`` elsewhere) forces one. The number of threads is the argument, else the
first number in ``OMP_NUM_THREADS``, else the CPUs that the process may run on.
"""

from __future__ import annotations

import importlib
import os
import time
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.names import EFFECTS, LOSSES, NORM_GROUPS, NORMS
from kernels.problem import Crossings, Layers, Records, TrainingProblem, TrainingResult, final_status
from kernels.sampling import sampling_thresholds
from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import Unavailable, require_whole
from sambalance_tools.progress import Progress

NAME = "cpu"
INTERFACE_VERSION = 2
MAX_DEPTH = 64
MAX_THREADS = 4096
_NETWORKS = (
    ("diagonal", "linear"),
    ("two_layer", "linear"),
    ("two_layer", "relu"),
    ("patches", "linear"),
    ("patches", "relu"),
)

_module: ModuleType | None = None
_unavailable: str | None = None


def unavailable() -> str | None:
    """Why this engine cannot run here (a sentence), or None when it can."""
    global _module, _unavailable
    if _module is None and _unavailable is None:
        try:
            module = importlib.import_module("_sambalance_cpu")
        except ImportError as error:
            _unavailable = (
                "the native module _sambalance_cpu is missing. It is built during installation, which needs a C++17 "
                f"compiler and Python's headers; install them and run pip install again ({error})"
            )
        else:
            version = getattr(module, "interface_version", None)
            if version != INTERFACE_VERSION:
                _unavailable = (
                    f"the native module _sambalance_cpu has interface {version}, this source needs "
                    f"{INTERFACE_VERSION}; run pip install again"
                )
            else:
                _module = module
    return _unavailable


def native() -> ModuleType:
    """The native module, or an :class:`Unavailable` that says what is missing."""
    reason = unavailable()
    if _module is None:
        raise Unavailable(f"engine='cpu' is not available: {reason}")
    return _module


def instruction_set() -> str:
    """The instruction set in use: ``SAMBALANCE_ISA``, else the machine's best.

    Raises:
        ValueError: the machine does not support the instruction set in ``SAMBALANCE_ISA``.
    """
    available: list[str] = native().instruction_sets()
    asked = os.environ.get("SAMBALANCE_ISA", "").strip()
    if not asked:
        return available[0] if available else ""
    if asked not in available:
        raise ValueError(f"SAMBALANCE_ISA={asked!r} is not available; this machine has {', '.join(available)}")
    return asked


def thread_count(threads: int | None = None) -> int:
    """``threads``, else the first number in ``OMP_NUM_THREADS``, else the CPUs that the process may run on.

    Raises:
        ValueError: the number is larger than ``MAX_THREADS``.
    """
    if threads is not None:
        require_whole("threads", threads, least=1, most=MAX_THREADS)
        return threads
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and first.strip("0"):
        # Long texts of digits are refused without making numbers of them.
        if len(first.lstrip("0")) > 9 or int(first) > MAX_THREADS:
            raise ValueError(f"OMP_NUM_THREADS={first[:40]!r}; allowed: 1 to {MAX_THREADS} threads")
        return int(first)
    return int(native().available_cpus())


def lacks(problem: TrainingProblem) -> str | None:
    """What this engine lacks for ``problem``, or None."""
    if problem.depth > MAX_DEPTH:
        return f"diagonal networks of more than {MAX_DEPTH} layers (this one has {problem.depth})"
    return None


def train(
    problem: TrainingProblem,
    precision: str = "float32",
    threads: int | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Run ``problem``.

    Args:
        problem: the batch of trainings.
        precision: ``"float32"`` or ``"float64"``, of parameters and arithmetic. Results are returned as float64.
        threads: worker threads; see :func:`thread_count`.
        progress: called in this thread with (steps done, steps in all) about 20 times a second; an exception that it
            raises stops the training and is passed on, as is Ctrl-C.

    Returns:
        A :class:`~kernels.problem.TrainingResult` with ``engine="cpu"``.
    """
    started = time.perf_counter()
    module = native()
    runs, shape = problem.runs, problem.sample_shape
    steps, levels = problem.record_steps, problem.loss_levels
    shapes = [layer.shape[1:] for layer in problem.layers]

    def blank(*shape: int) -> FloatArray:
        return np.full(shape, np.nan)

    def blank_layers(*leading: int) -> list[FloatArray]:
        return [blank(*leading, *shape) for shape in shapes] if problem.record_layers else []

    layers: Layers = tuple(np.empty((runs, *shape)) for shape in shapes)
    coefficients, loss, gradient_norm = np.empty((runs, *shape)), np.empty(runs), np.empty(runs)
    stopped = np.full(runs, problem.steps, dtype=np.int64)
    record_layers, crossing_layers = blank_layers(runs, len(steps)), blank_layers(runs, len(levels))
    records = Records(
        steps,
        coefficients=blank(runs, len(steps), *shape),
        loss=blank(runs, len(steps)),
        gradient_norm=blank(runs, len(steps)),
        layers=tuple(record_layers) if problem.record_layers else None,
    )
    crossings = Crossings(
        levels,
        step=np.full((runs, len(levels)), -1, dtype=np.int64),
        coefficients=blank(runs, len(levels), *shape),
        loss=blank(runs, len(levels)),
        layers=tuple(crossing_layers) if problem.record_layers else None,
    )
    batched = problem.batch_size is not None
    module.train(
        spec=_spec(module, problem),
        double_precision=precision == "float64",
        threads=thread_count(threads),
        isa=instruction_set(),
        **{name: _rows(getattr(problem, name)) for name in ("features", "labels", "sample_weights", "feature_scale")},
        layers=[_rows(layer) for layer in problem.layers],
        **{name: _rows(getattr(problem, name)) for name in ("eta", "rho", "weight_decay", "momentum")},
        **{name: _rows(getattr(problem, name)) for name in ("sam_from", "sam_until")},
        seeds=_rows(problem.batch_seed),
        thresholds=sampling_thresholds(problem.sample_weights)
        if batched
        else np.zeros((1, problem.samples - 1), dtype=np.uint64),
        record_steps=np.ascontiguousarray(steps, dtype=np.int64),
        loss_levels=levels,
        out_layers=list(layers),
        coefficients=coefficients,
        loss=loss,
        gradient_norm=gradient_norm,
        stopped_step=stopped,
        record_coefficients=records.coefficients,
        record_loss=records.loss,
        record_norm=records.gradient_norm,
        record_layers=record_layers,
        crossing_step=crossings.step,
        crossing_coefficients=crossings.coefficients,
        crossing_loss=crossings.loss,
        crossing_layers=crossing_layers,
        progress=progress,
    )
    if progress is not None:
        progress(problem.steps, problem.steps)
    return TrainingResult(
        engine=NAME,
        precision=precision,
        layers=layers,
        coefficients=coefficients,
        loss=loss,
        gradient_norm=gradient_norm,
        status=final_status(problem, coefficients, loss, stopped),
        stopped_step=stopped,
        records=records,
        crossings=crossings,
        seconds=time.perf_counter() - started,
    )


def _spec(module: ModuleType, problem: TrainingProblem) -> Any:
    spec = module.Spec()
    spec.network = _NETWORKS.index((problem.network, problem.activation))
    spec.loss, spec.norm = LOSSES.index(problem.loss), NORMS.index(problem.norm)
    spec.norm_over, spec.adaptive_eta = NORM_GROUPS.index(problem.norm_over), problem.adaptive_eta
    spec.effect = EFFECTS.index(problem.effect)
    spec.runs, spec.samples = problem.runs, problem.samples
    spec.dimension, spec.width = problem.dimension, problem.width
    spec.patches, spec.windows = problem.patches, problem.windows
    spec.first_perturbed = problem.perturbed_layers[0]
    spec.end_perturbed = problem.perturbed_layers[-1] + 1
    spec.steps, spec.batch_size = problem.steps, problem.batch_size or 0
    spec.record_layers = problem.record_layers
    return spec


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    """``array`` with a leading B, or a leading 1 where its rows are one row repeated."""
    repeated = array.shape[0] > 1 and array.strides[0] == 0
    return np.ascontiguousarray(array[:1] if repeated else array)
