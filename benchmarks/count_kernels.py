"""Count the kernels that tests of the Triton engine compile. It needs no GPU and compiles nothing.

    benchmarks/gpu_check.sh --count

Launches are noted instead of made, and the reference engine provides the results. Launches need one compilation if
they agree in the kernel, its constants, the types of its arguments, and the compiler's settings. A few tests fail,
because they look at what a launch leaves on the device. Arguments are those of pytest.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from typing import Any

import pytest
import torch

from kernels import reference
from kernels.gpu import engine, host
from kernels.problem import TrainingProblem, TrainingResult
from sambalance_tools.progress import Progress

MOST_STEPS = 20_000
"""Longer trainings, which a GPU ends early, are counted but not computed."""

kernels: set[tuple[Any, ...]] = set()
"""What was launched, each once."""


def note(training: host.DeviceTraining, kernel: Any, **numbers: int) -> None:
    """In the place of a launch."""
    given = {**training.arguments_of(kernel), **numbers}
    runtime = {parameter.name for parameter in kernel.params if not parameter.is_constexpr}
    described = {
        # Numbers are not specialised (do_not_specialize), and a device's tensors are all aligned.
        name: (str(value.dtype) if isinstance(value, torch.Tensor) else "number") if name in runtime else value
        for name, value in given.items()
    }
    kernels.add((kernel.fn.__name__, *sorted(described.items())))


def train_noted(
    problem: TrainingProblem, precision: str = "float32", progress: Progress | None = None
) -> TrainingResult:  # fmt: skip
    """As :func:`kernels.gpu.engine.train`, with launches noted and results of the reference engine."""
    _train(problem, precision, progress)
    if problem.steps > MOST_STEPS:
        raise RuntimeError(f"a training of {problem.steps} steps is only counted")
    return dataclasses.replace(reference.train(problem), engine=engine.NAME, precision=precision)


_train = engine.train


def main(arguments: list[str]) -> None:
    """Run the tests and print the count."""
    engine.unavailable = lambda: None
    engine.visible_devices = lambda: [torch.device("cpu")]
    engine.train = train_noted
    host.DeviceTraining._queue = note  # type: ignore[method-assign]
    pytest.main(["-o", "addopts=", "-q", "--tb=no", "-p", "no:cacheprovider", *arguments])
    counts = Counter(name for name, *_ in kernels)
    print(f"{len(kernels)} kernels: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))


if __name__ == "__main__":
    main(sys.argv[1:])
