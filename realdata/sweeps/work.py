"""The jobs of a plan: where they run, what is printed meanwhile, and their outcomes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realdata.configuration import RunConfiguration
from realdata.settings.plan import Plan
from realdata.sweeps.executors import Executor, LocalExecutor
from realdata.sweeps.jobs import (
    DIVERGED,
    DONE,
    ELSEWHERE,
    FAILURE,
    Job,
    JobOutcome,
    is_stored_configuration,
    job_status,
)
from sambalance_tools.files import read_json_object, write_text


def add_executor_flags(made: argparse.ArgumentParser) -> None:
    """Add the flags that ``sweep`` and ``predict`` share: workers, threads, dry run."""
    made.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of jobs that run at the same time (default: one per GPU, or per CPU core)",
    )
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads per job (default: cores / workers)")
    made.add_argument(
        "--dry-run", action="store_true", help="print the number of jobs and the estimated time, then stop"
    )
    made.add_argument(
        "--no-estimate", action="store_true", help="do not time training steps to estimate the total time"
    )


def exit_if_failed(outcomes: Sequence[JobOutcome]) -> None:
    """Exit with status 1 if a job has failed."""
    if any(outcome.status == FAILURE for outcome in outcomes):
        raise SystemExit(1)


def jobs_of(plan: Plan, out: Path, device: str) -> list[Job]:
    """The jobs of a plan, in its order."""
    return [
        dataclasses.replace(job, root=plan.root_of(configuration.data))
        for configuration, job in zip(plan.configurations, rootless_jobs(plan, out, device), strict=True)
    ]


def rootless_jobs(plan: Plan, out: Path, device: str) -> list[Job]:
    """The jobs of a plan without their data folder, which finished jobs do not need."""
    from realdata.measures.protocols import probe_options

    options = probe_options(plan.protocol, plan.probe_options)
    return [
        Job(
            configuration.as_dict(), "", str((out / "runs" / configuration.hash).resolve()), device, plan.protocol,
            options, plan.evaluation_seed,
        )
        for configuration in plan.configurations
    ]  # fmt: skip


def read_plan_file(path: Path) -> dict[str, Any]:
    """Configurations by hash of a ``plan.json``; a ValueError that names the file if it is damaged."""
    found = read_json_object(path, (), "the plan.json of a sweep; it can be removed")
    for name, configuration in found.items():
        if not is_stored_configuration(configuration):
            raise ValueError(f"{path}, {name}: {configuration!r} is no configuration; the file can be removed")
    return found


def record_plan(out: Path, configurations: Sequence[RunConfiguration]) -> None:
    """Write what was planned into ``plan.json``, so that tables can show which planned runs are missing."""
    path = out / "plan.json"
    known = read_plan_file(path) if path.exists() else {}
    known |= {configuration.hash: configuration.as_dict() for configuration in configurations}
    write_text(path, json.dumps(known, indent=1, sort_keys=True))


def local_executor(workers: int | None, threads: int | None, out: Path, device: str) -> LocalExecutor:
    """Worker processes on this machine: one per GPU, or without a GPU one per core with one thread each.

    Jobs do not wait for each other, whereas the threads of one training wait for each other at every operation
    (measurements are in docs/how-to/real-data.md).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = gpu_count(device)
    workers = (gpus or cores) if workers is None else workers
    threads = max(1, cores // max(1, workers)) if threads is None else threads
    logs = out / "logs"
    logs.mkdir(exist_ok=True)
    return LocalExecutor(workers, threads, logs, gpus)


def require_device(device: str) -> None:
    """Check, before any work is done, that a device can be used; a ValueError lists those that can."""
    if device not in ("auto", "cpu"):
        from realdata.models.device import choose_device

        choose_device(device)


def gpu_count(device: str) -> int:
    """Number of GPUs to use: all visible ones for ``"auto"`` and ``"cuda"``, one if the name has a number."""
    if device == "cpu":
        return 0
    import torch

    return min(torch.cuda.device_count(), 1 if ":" in device else 1 << 30)


def print_plan(jobs: Sequence[Job], executor: Executor, *, measure: bool) -> list[Job]:
    """Print the number of jobs, how many are done and the time for the rest; return the remaining jobs."""
    states = [job_status(Path(job.directory), job.evaluation) for job in jobs]
    todo = [job for job, known in zip(jobs, states, strict=True) if known not in (DONE, DIVERGED)]
    count = Counter(states)
    parts = [f"{len(jobs)} jobs", f"{count[DONE]} done already"]
    parts += [f"{count[DIVERGED]} of them diverged"] * (count[DIVERGED] > 0)
    parts += [f"{count[FAILURE]} failed before and will be tried again"] * (count[FAILURE] > 0)
    print(", ".join(parts), flush=True)
    if todo:
        from realdata.sweeps.estimate import estimate

        print(estimate(jobs, todo, executor, measure=measure).sentence, flush=True)
    return todo


def run_jobs(jobs: Sequence[Job], executor: Executor) -> list[JobOutcome]:
    """Run the jobs and print the progress after each.

    If another process is working on a job, the job is tried again at the end: the other process may have stopped.
    """
    outcomes = _round(jobs, executor, [], len(jobs))
    later = {outcome.hash for outcome in outcomes if outcome.status == ELSEWHERE}
    if later:
        again = [job for job in jobs if RunConfiguration.from_dict(job.configuration).hash in later]
        kept = [outcome for outcome in outcomes if outcome.hash not in later]
        outcomes = _round(again, executor, kept, len(jobs))
    return outcomes


def _round(jobs: Sequence[Job], executor: Executor, before: Sequence[JobOutcome], total: int) -> list[JobOutcome]:
    """Run the jobs once; returns ``before`` and the new outcomes."""
    from realdata.sweeps.estimate import duration

    names = {RunConfiguration.from_dict(job.configuration).hash: describe_job(job) for job in jobs}
    outcomes = list(before)
    for outcome in executor.outcomes(jobs):
        outcomes.append(outcome)
        finished = [each for each in outcomes if each.status != ELSEWHERE]
        text = f"[{len(finished)}/{total}] {outcome.status:9} {names[outcome.hash]} ({duration(outcome.seconds)})"
        text += f": {outcome.reason}" if outcome.reason else ""
        taken = [each.seconds for each in finished if each.status == DONE]
        left = total - len(finished)
        if taken and left:
            text += f"; about {duration(sum(taken) / len(taken) * left / min(left, executor.at_once))} left"
        print(text, flush=True)
    return outcomes


def describe_job(job: Job) -> str:
    """Short description of a job: its most important settings and the name of its folder."""
    values = job.configuration
    target = values["data_options"].get("target")
    words = [values["data"], *([f"target {target}"] if target else []), values["method"]]
    words += [f"rho {values['rho']:g}"] if values["rho"] else []
    words += [values["effect"]] if values["effect"] != "full" else []
    return f"{' '.join(words)} seed {values['seed']} {Path(job.directory).name}"


def print_outcomes(outcomes: Sequence[JobOutcome]) -> None:
    """Print the counts, and for each job without a result a line with the reason."""
    count = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{number} {status}" for status, number in sorted(count.items())) or "nothing left to do")
    for outcome in outcomes:
        if outcome.status in (FAILURE, ELSEWHERE, DIVERGED):
            print(f"  {outcome.hash} {outcome.status}: {outcome.reason}")
