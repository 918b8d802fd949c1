"""The GPU engine: whole trainings in one kernel, their parameters in registers; written in Triton.

It computes what :mod:`kernels.reference` computes, in float32 (or float64), up to rounding. Bit-exact: the mini-batches
(:mod:`kernels.sampling`), and the results of a run whichever other runs share its problem, as long as the options that
select a kernel stay the same (any momentum, decay or radius at all in the batch). Not bit-exact: different GPUs, and
other engines.

``TRITON_INTERPRET=1`` runs the same kernels in Triton's interpreter, on the CPU and very slowly, for tests. Nothing of
torch or Triton is imported before the engine is used.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import time
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kernels.problem import (
    Crossings,
    FloatArray,
    Layers,
    Progress,
    Records,
    TrainingProblem,
    TrainingResult,
    final_status,
)

if TYPE_CHECKING:
    import torch

    from kernels.triton_host import DeviceResult, DeviceTraining

NAME = "triton"
PRECISIONS = ("float32", "float64")

WORTHWHILE_WORK = 1e11
"""Multiply-adds from which ``engine="auto"`` prefers the GPU. A start of the engine costs seconds (import of torch, a
kernel from the cache), in which the CPU engine does about this much on a few cores. Estimated, not yet measured."""


def interpreted() -> bool:
    """Whether Triton's interpreter was asked for."""
    return os.environ.get("TRITON_INTERPRET", "0").strip().lower() in ("1", "true", "on", "yes", "y")


@cache
def _driver_devices() -> int:
    """Number of NVIDIA GPUs by the driver, or of AMD GPUs by the kernel's interface; cheap, imports nothing."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0:
            return count.value
    except (OSError, AttributeError):
        pass
    return 1 if os.path.exists("/dev/kfd") else 0


def unavailable() -> str | None:
    """Why this engine cannot run here (a sentence), or None when it can."""
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is missing; pip install 'sambalance[gpu]'"
    if interpreted():
        return None
    if _driver_devices() == 0:
        return "no GPU was found (TRITON_INTERPRET=1 runs the kernels on the CPU, very slowly, for tests)"
    return _torch_without_gpu()


@cache
def _torch_without_gpu() -> str | None:
    import torch

    if not torch.cuda.is_available():
        return f"there is a GPU, but this build of torch ({torch.__version__}) cannot use it"
    return None


def lacks(problem: TrainingProblem) -> str | None:
    """What of ``problem`` this engine cannot do, or None."""
    from kernels import triton_table

    if not triton_table.fits(problem):
        return f"networks of width {problem.width} on {problem.dimension} features"
    return None


def pays(problem: TrainingProblem) -> bool:
    """Whether ``engine="auto"`` should take the GPU: there is one and the work is worth the start."""
    per_sample = 2 * problem.width * (problem.dimension if problem.network == "two_layer" else problem.depth)
    samples = problem.batch_size or problem.samples
    work = 2.0 * problem.runs * problem.steps * samples * per_sample
    return work >= WORTHWHILE_WORK and not interpreted() and unavailable() is None


def train(problem: TrainingProblem, precision: str = "float32", progress: Progress | None = None) -> TrainingResult:
    """Run ``problem``, its runs split evenly over all visible GPUs.

    Args:
        problem: the batch of trainings.
        precision: ``"float32"`` or ``"float64"``, of parameters and arithmetic. Results are returned as float64.
        progress: called with (steps done, steps in all) between launches, about ten times a second; an exception that
            it raises stops the training and is passed on, as is Ctrl-C.

    Returns:
        A :class:`~kernels.problem.TrainingResult` with ``engine="triton"``.
    """
    started = time.perf_counter()
    trainings = train_on_devices(problem, precision, progress)
    parts = [_to_numpy(training.result) for training in trainings]
    joined = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    return _result(problem, precision, joined, started)


def visible_devices() -> list[torch.device]:
    """The GPUs that the runs are split over; the CPU for the interpreter."""
    import torch

    if interpreted():
        return [torch.device("cpu")]
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def train_on_devices(
    problem: TrainingProblem, precision: str = "float32", progress: Progress | None = None
) -> list[DeviceTraining]:
    """As :func:`train`, but what was computed stays on the GPUs: one training per GPU, with its slice of the runs."""
    import torch

    from kernels import triton_host, triton_table

    simulated = interpreted()
    devices = visible_devices()[: problem.runs]
    edges = np.linspace(0, problem.runs, len(devices) + 1).astype(int)
    launch = triton_table.choose(problem, precision, simulated)

    def synchronize() -> None:
        for device in devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    trainings = [
        triton_host.DeviceTraining(problem.select(slice(int(a), int(b))), precision, device, launch)
        for device, a, b in zip(devices, edges[:-1], edges[1:], strict=True)
    ]
    with np.errstate(all="ignore"):  # the interpreter's NumPy would warn of diverging runs
        triton_host.finish(trainings, progress, synchronize)
    return trainings


def _to_numpy(result: DeviceResult) -> dict[str, Any]:
    arrays = {name: tensor.cpu().numpy() for name, tensor in vars(result).items()}
    return {name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in arrays.items()}


def _result(problem: TrainingProblem, precision: str, got: dict[str, Any], started: float) -> TrainingResult:
    shapes = [layer.shape[1:] for layer in problem.layers]
    edges = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    final = len(problem.array("record_steps"))

    def runs_first(array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(np.moveaxis(array, -1, 0))

    def layers(array: FloatArray) -> Layers:
        """``[..., P, B]`` to ``[B, ..., *shape]`` for each layer."""
        parts = (runs_first(array[..., a:b, :]) for a, b in pairwise(edges))
        return tuple(part.reshape(*part.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True))

    kept = problem.record_layers
    coefficients, loss = runs_first(got["record_coefficients"][final]), got["record_loss"][final]
    stopped = got["stopped"]
    return TrainingResult(
        engine=NAME,
        precision=precision,
        layers=layers(got["theta"]),
        coefficients=coefficients,
        loss=loss,
        gradient_norm=got["record_norm"][final],
        status=final_status(problem, coefficients, loss, stopped),
        stopped_step=stopped,
        records=Records(
            problem.array("record_steps"),
            coefficients=runs_first(got["record_coefficients"][:final]),
            loss=runs_first(got["record_loss"][:final]),
            gradient_norm=runs_first(got["record_norm"][:final]),
            layers=layers(got["record_layers"][:final]) if kept else None,
        ),
        crossings=Crossings(
            problem.array("loss_levels"),
            step=runs_first(got["crossing_step"]),
            coefficients=runs_first(got["crossing_coefficients"]),
            loss=runs_first(got["crossing_loss"]),
            layers=layers(got["crossing_layers"]) if kept else None,
        ),
        seconds=time.perf_counter() - started,
    )
