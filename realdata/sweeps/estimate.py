"""Estimate of a sweep's time, from finished jobs or from timing a short training on few images."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.configuration import RunConfiguration
from realdata.sweeps.jobs import Job, read_rows

if TYPE_CHECKING:
    from realdata.datasets.base import ImageData
    from realdata.sweeps.executors import Executor

PASSES = {"sgd": 1.0, "sam": 2.0, "asam": 2.0, "usam": 2.0, "linf_sam": 2.0, "lsam": 1.6}
"""Cost of a step in forward and backward passes; LSAM's first backward pass ends at the last layer."""

EFFECT_PASSES = {"full": 0.0, "weights": 0.4, "jacobian": 0.0}
"""Additional cost of isolating an effect: the example weights need one more forward pass."""

BATCHES = (2, 18)
"""Number of steps of the shorter and of the longer timed training."""


@dataclass(frozen=True)
class TimeEstimate:
    """Estimated seconds for all remaining jobs on all workers, and the source of the estimate.

    Attributes:
        seconds: None if nothing could be measured. unknown: number of jobs that are not included.
        from_jobs, from_timing: number of jobs whose time is estimated from finished jobs, and from the timing.
    """

    seconds: float | None
    from_jobs: int
    from_timing: int
    unknown: int

    @property
    def sentence(self) -> str:
        """The estimate as a sentence for the user."""
        if self.seconds is None:
            return "time: unknown until the first job has finished"
        if self.from_timing:
            source = "training only, measured on a few batches; evaluation comes on top"
        else:
            source = "measured on finished jobs"
        missing = f"; {self.unknown} jobs not counted" if self.unknown else ""
        return f"time: about {duration(self.seconds)} ({source}{missing})"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def passes(configuration: RunConfiguration) -> float:
    """Epochs times the cost of a step of the method. The training time of similar jobs is proportional to it."""
    until = (
        configuration.epochs if configuration.sam_until is None else min(configuration.sam_until, configuration.epochs)
    )
    more = PASSES[configuration.method] + EFFECT_PASSES[configuration.effect] - PASSES["sgd"]
    return configuration.epochs * PASSES["sgd"] + max(until - configuration.sam_from, 0.0) * more


def kind_of_job(configuration: RunConfiguration) -> tuple[Any, ...]:
    """Kind of a job: the time of jobs of the same kind is proportional to :func:`passes`."""
    options = {name: value for name, value in configuration.data_options.items() if name not in ("target", "seed")}
    return (
        configuration.data, tuple(options.items()), configuration.size, configuration.model,
        tuple(configuration.model_options.items()), configuration.precision, configuration.batch_size,
    )  # fmt: skip


def estimate(jobs: Sequence[Job], todo: Sequence[Job], executor: Executor, *, measure: bool) -> TimeEstimate:
    """Estimate the executor's time for the jobs ``todo`` from the finished ones among ``jobs``.

    Args:
        measure: whether to time kinds of jobs without a finished one (takes a few seconds and reads the data).
    """
    known = _measured(jobs)
    seconds, counts = 0.0, {"jobs": 0, "timing": 0, "unknown": 0}
    timed: dict[tuple[Any, ...], float | None] = {}
    for job in todo:
        configuration = RunConfiguration.from_dict(job.configuration)
        kind = kind_of_job(configuration)
        if kind in known:
            training, evaluation = known[kind]
            seconds += training * passes(configuration) + evaluation
            counts["jobs"] += 1
            continue
        if measure and kind not in timed:
            timed[kind] = executor.seconds_per_pass(job)
        found = timed.get(kind)
        counts["unknown" if found is None else "timing"] += 1
        seconds += (found or 0.0) * passes(configuration)
    measured = counts["jobs"] + counts["timing"]
    # With fewer jobs than workers the longest decides; with many, they fill all workers.
    parallel = max(1, min(executor.at_once, len(todo)))
    return TimeEstimate(seconds / parallel if measured else None, counts["jobs"], counts["timing"], counts["unknown"])


def _measured(jobs: Sequence[Job]) -> dict[tuple[Any, ...], tuple[float, float]]:
    """For each kind of job, mean training seconds per pass and mean seconds of the evaluation."""
    found: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for job in jobs:
        stored = read_rows(Path(job.directory))
        if stored is None or stored["status"] != "done" or stored["seconds"]["training"] is None:
            continue
        configuration = RunConfiguration.from_dict(job.configuration)
        seconds: Mapping[str, float] = stored["seconds"]
        found.setdefault(kind_of_job(configuration), []).append(
            (seconds["training"] / passes(configuration), seconds["evaluation"])
        )
    return {
        kind: (sum(each[0] for each in values) / len(values), sum(each[1] for each in values) / len(values))
        for kind, values in found.items()
    }


def seconds_per_pass(job: Job) -> float | None:
    """Training seconds per pass over the training set of a job; None if it cannot run, as the job itself will say."""
    from realdata.datasets.loading import load_for

    try:
        configuration = RunConfiguration.from_dict(job.configuration)
        return time_training(load_for(job.root, configuration), configuration, job.device)
    except Exception:
        return None  # an estimate is no reason to stop


def time_training(
    data: ImageData, configuration: RunConfiguration, device: str, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one pass over the training set, by the difference of a longer and a shorter training.

    The difference excludes work that is done once. A first training, which is not timed, serves as a warm-up.
    """
    total = len(data.rows(0))
    plain = configuration.replace(
        method="sgd", rho=0.0, effect="full", epochs=1, evaluations_per_epoch=1, stop_level=None, levels=(),
        warmup_epochs=0.0,
    )  # fmt: skip

    from realdata.training import train

    def seconds(size: int) -> float:
        small = first_rows(data, size)
        with tempfile.TemporaryDirectory() as folder:
            started = clock()
            train.train(plain, small, Path(folder), device=device, progress=False)
            return clock() - started

    sizes = [min(total, batches * configuration.batch_size) for batches in BATCHES]
    seconds(sizes[0])
    short, long = seconds(sizes[0]), seconds(sizes[1])
    if sizes[0] == sizes[1]:
        return long
    per_image = (long - short) / (sizes[1] - sizes[0])
    # On a busy machine the shorter one can take longer; the longer one alone is an upper bound then.
    return total * (per_image if per_image > 0 else long / sizes[1])


def first_rows(data: ImageData, size: int) -> ImageData:
    """A data set with ``size`` training images, spread over the whole set, and at most as many other images."""
    import numpy as np

    chosen = []
    for part in (data.rows(0), np.flatnonzero(data.split != 0)):
        count = min(size, len(part))
        chosen.append(part[np.arange(count) * len(part) // max(count, 1)])
    rows = np.sort(np.concatenate(chosen))
    columns = {
        name: getattr(data, name)[rows] for name in ("label", "hard", "group", "split", "probe_split", "environment")
    }
    easy = None if data.easy is None else data.easy[rows]
    return dataclasses.replace(
        data, images=data.images[rows], easy=easy, fingerprint=f"{data.fingerprint}-first-{size}", **columns
    )


if __name__ == "__main__":
    print(json.dumps(seconds_per_pass(Job.from_dict(json.load(sys.stdin)))))
