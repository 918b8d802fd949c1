"""The jobs of a plan: who does them, what is printed while they run, and how they went."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from realdata.configuration import RunConfiguration
from realdata.settings.plan import Plan
from realdata.sweeps.executors import Executor, LocalExecutor
from realdata.sweeps.jobs import DIVERGED, DONE, ELSEWHERE, FAILURE, Job, JobOutcome, job_status
from sambalance_tools.files import write_text


def add_executor_flags(made: argparse.ArgumentParser) -> None:
    """How jobs are done: what ``sweep`` and ``predict`` share."""
    made.add_argument("--workers", type=int, metavar="N", help="jobs at once (default: one per GPU, or per CPU core)")
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads of each (default: cores / workers)")
    made.add_argument("--dry-run", action="store_true", help="only say how many jobs and about how long")
    made.add_argument("--no-estimate", action="store_true", help="do not measure a training step for the estimate")


def exit_if_failed(outcomes: Sequence[JobOutcome]) -> None:
    """Exit status 1 where a job has failed."""
    if any(outcome.status == FAILURE for outcome in outcomes):
        raise SystemExit(1)


def jobs_of(plan: Plan, out: Path, device: str) -> list[Job]:
    """The jobs of a plan, in its order."""
    return [
        dataclasses.replace(job, root=plan.root_of(configuration.data))
        for configuration, job in zip(plan.configurations, rootless_jobs(plan, out, device), strict=True)
    ]


def rootless_jobs(plan: Plan, out: Path, device: str) -> list[Job]:
    """The jobs of a plan without the folder of their data, of which those that are done have no need."""
    from realdata.measures.protocols import probe_options

    options = probe_options(plan.protocol, plan.probe_options)
    return [
        Job(
            configuration.as_dict(), "", str((out / "runs" / configuration.hash).resolve()), device, plan.protocol,
            options, plan.evaluation_seed,
        )
        for configuration in plan.configurations
    ]  # fmt: skip


def record_plan(out: Path, configurations: Sequence[RunConfiguration]) -> None:
    """Remember what was planned, so that a table can tell what is missing from what was never asked for."""
    path = out / "plan.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known |= {configuration.hash: configuration.as_dict() for configuration in configurations}
    write_text(path, json.dumps(known, indent=1, sort_keys=True))


def local_executor(workers: int | None, threads: int | None, out: Path, device: str) -> LocalExecutor:
    """Processes of this machine: one per GPU, or without a GPU one per core with one thread.

    Jobs that do not wait for each other use all cores; the threads of one training wait for each other at every
    operation (docs/how-to/real-data.md has numbers).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = gpu_count(device)
    workers = (gpus or cores) if workers is None else workers
    threads = max(1, cores // max(1, workers)) if threads is None else threads
    logs = out / "logs"
    logs.mkdir(exist_ok=True)
    return LocalExecutor(workers, threads, logs, gpus)


def gpu_count(device: str) -> int:
    """GPUs to spread jobs over: all that are visible for ``"auto"`` and ``"cuda"``, one for a single one by name."""
    if device == "cpu":
        return 0
    import torch

    return min(torch.cuda.device_count(), 1 if ":" in device else 1 << 30)


def print_plan(jobs: Sequence[Job], executor: Executor, *, measure: bool) -> list[Job]:
    """Print how many jobs there are, how many are done, and about how long the rest takes; return the rest."""
    states = [job_status(Path(job.directory), job.evaluation) for job in jobs]
    todo = [job for job, known in zip(jobs, states, strict=True) if known not in (DONE, DIVERGED)]
    count = Counter(states)
    parts = [f"{len(jobs)} jobs", f"{count[DONE]} done already"]
    parts += [f"{count[DIVERGED]} of them diverged"] * (count[DIVERGED] > 0)
    parts += [f"{count[FAILURE]} failed before and are tried again"] * (count[FAILURE] > 0)
    print(", ".join(parts), flush=True)
    if todo:
        from realdata.sweeps.estimate import estimate

        print(estimate(jobs, todo, executor, measure=measure).sentence, flush=True)
    return todo


def run_jobs(jobs: Sequence[Job], executor: Executor) -> list[JobOutcome]:
    """Do the jobs and say after each how far the sweep is.

    A job that another sweep is at is asked for again at the end, by when that sweep may have been stopped.
    """
    outcomes = _round(jobs, executor, [], len(jobs))
    later = {outcome.hash for outcome in outcomes if outcome.status == ELSEWHERE}
    if later:
        again = [job for job in jobs if RunConfiguration.from_dict(job.configuration).hash in later]
        kept = [outcome for outcome in outcomes if outcome.hash not in later]
        outcomes = _round(again, executor, kept, len(jobs))
    return outcomes


def _round(jobs: Sequence[Job], executor: Executor, before: Sequence[JobOutcome], total: int) -> list[JobOutcome]:
    """Outcomes of the jobs, after those of ``before``."""
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
    """A job in a few words: what distinguishes most of them, and the name of its directory."""
    values = job.configuration
    target = values["data_options"].get("target")
    words = [values["data"], *([f"target {target}"] if target else []), values["method"]]
    words += [f"rho {values['rho']:g}"] if values["rho"] else []
    words += [values["effect"]] if values["effect"] != "full" else []
    return f"{' '.join(words)} seed {values['seed']} {Path(job.directory).name}"


def print_outcomes(outcomes: Sequence[JobOutcome]) -> None:
    """Counts, and one line per job that has no result, with the reason."""
    count = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{number} {status}" for status, number in sorted(count.items())) or "nothing left to do")
    for outcome in outcomes:
        if outcome.status in (FAILURE, ELSEWHERE, DIVERGED):
            print(f"  {outcome.hash} {outcome.status}: {outcome.reason}")
