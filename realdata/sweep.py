"""Train every combination of data sets, methods, radii and seeds; say first how many and how long; resume.

    python -m realdata sweep plan.yaml
    python -m realdata sweep --data cifar_mnist,pacs --method sgd,sam --rho 0,0.05,0.1 --seeds 5 --root data
    python -m realdata sweep plan.yaml --seeds 1 --dry-run

A file has the settings of a training, one `name: value` a line; a list is an axis. Flags stand for what the file says.
Each job has a directory, OUT/runs/HASH. Stop a sweep at any time and in any way: the same command goes on, and a
second sweep beside it shares the work. Writes results.parquet and results.json into OUT.
"""

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
from realdata.executors import Executor, LocalExecutor
from realdata.jobs import DIVERGED, DONE, ELSEWHERE, FAILURE, Job, Outcome, state
from realdata.options import HELP, add_configuration_flags, add_option_flags, pairs, single
from realdata.plan import Plan, make_plan, read_plan
from realdata.run import ROOT_VARIABLE, add_job_flags, probe_options
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory, write_text


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata sweep", __doc__)
    made.add_argument("file", nargs="?", metavar="FILE.yaml", help="settings; flags stand for what it says")
    made.add_argument("--data", metavar="NAME,..", help="data sets")
    made.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1")
    add_job_flags(made)
    made.add_argument("--out", metavar="DIR", help="folder of the results (default out/sweep)")
    add_executor_flags(made)
    add_configuration_flags(made, many=True)
    add_option_flags(made, many=True)
    return made


def add_executor_flags(made: argparse.ArgumentParser) -> None:
    """How jobs are done: what ``sweep`` and ``predict`` share."""
    made.add_argument("--workers", type=int, metavar="N", help="jobs at once (default: one per GPU, or per CPU core)")
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads of each (default: cores / workers)")
    made.add_argument("--dry-run", action="store_true", help="only say how many jobs and about how long")
    made.add_argument("--no-estimate", action="store_true", help="do not measure a training step for the estimate")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    plan = make_plan(settings_from(options))
    out = writable_directory(plan.out)
    jobs = jobs_of(plan, out, options.device or "auto")
    executor = local_executor(options.workers, options.threads, out, options.device or "auto")
    todo = say_what_is_to_do(jobs, executor, measure=not options.no_estimate)
    if options.dry_run:
        return
    record_plan(out, plan.configurations)
    outcomes = work(todo, executor)
    from realdata.results import write_results

    paths = write_results(out)
    say_how_it_went(outcomes)
    for path in paths:
        print(f"  {path}")
    exit_if_failed(outcomes)


def exit_if_failed(outcomes: Sequence[Outcome]) -> None:
    """Exit status 1 where a job has failed."""
    if any(outcome.status == FAILURE for outcome in outcomes):
        raise SystemExit(1)


def settings_from(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the file with those of the flags in their place."""
    settings = read_plan(options.file) if options.file else {}
    if options.data:
        settings["data"] = [name.strip() for name in options.data.split(",") if name.strip()]
    for name in HELP:
        value = getattr(options, name)
        if value is not None:
            settings[name] = list(value) if isinstance(value, tuple) else value
    if options.seeds is not None or options.seed is not None:
        settings = {name: value for name, value in settings.items() if name not in ("seed", "seeds")}
        settings |= {name: getattr(options, name) for name in ("seed", "seeds") if getattr(options, name) is not None}
    for name in ("data_options", "model_options"):
        given = pairs(getattr(options, name.removesuffix("s")), f"--{name.removesuffix('s').replace('_', '-')}")
        if given:
            chosen = {key: values[0] if len(values) == 1 else values for key, values in given.items()}
            settings[name] = {**(settings.get(name) or {}), **chosen}
    if options.probe_option:
        changed = single(options.probe_option, "--probe-option")
        settings["probe_options"] = {**(settings.get("probe_options") or {}), **changed}
    for name in ("root", "out", "protocol", "evaluation_seed"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    if not settings.get("root") and os.environ.get(ROOT_VARIABLE):
        settings["root"] = os.environ[ROOT_VARIABLE]
    return settings


def jobs_of(plan: Plan, out: Path, device: str) -> list[Job]:
    """The jobs of a plan, in its order."""
    return [
        dataclasses.replace(job, root=plan.root_of(configuration.data))
        for configuration, job in zip(plan.configurations, rootless_jobs(plan, out, device), strict=True)
    ]


def rootless_jobs(plan: Plan, out: Path, device: str) -> list[Job]:
    """The jobs of a plan without the folder of their data, of which those that are done have no need."""
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


def say_what_is_to_do(jobs: Sequence[Job], executor: Executor, *, measure: bool) -> list[Job]:
    """Print how many jobs there are, how many are done, and about how long the rest takes; return the rest."""
    states = [state(Path(job.directory), job.evaluation) for job in jobs]
    todo = [job for job, known in zip(jobs, states, strict=True) if known not in (DONE, DIVERGED)]
    count = Counter(states)
    parts = [f"{len(jobs)} jobs", f"{count[DONE]} done already"]
    parts += [f"{count[DIVERGED]} of them diverged"] * (count[DIVERGED] > 0)
    parts += [f"{count[FAILURE]} failed before and are tried again"] * (count[FAILURE] > 0)
    print(", ".join(parts), flush=True)
    if todo:
        from realdata.estimate import estimate

        print(estimate(jobs, todo, executor, measure=measure).sentence, flush=True)
    return todo


def work(jobs: Sequence[Job], executor: Executor) -> list[Outcome]:
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


def _round(jobs: Sequence[Job], executor: Executor, before: Sequence[Outcome], total: int) -> list[Outcome]:
    """Outcomes of the jobs, after those of ``before``."""
    from realdata.estimate import duration

    names = {RunConfiguration.from_dict(job.configuration).hash: describe(job) for job in jobs}
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


def describe(job: Job) -> str:
    """A job in a few words: what distinguishes most of them, and the name of its directory."""
    values = job.configuration
    target = values["data_options"].get("target")
    words = [values["data"], *([f"target {target}"] if target else []), values["method"]]
    words += [f"rho {values['rho']:g}"] if values["rho"] else []
    words += [values["effect"]] if values["effect"] != "full" else []
    return f"{' '.join(words)} seed {values['seed']} {Path(job.directory).name}"


def say_how_it_went(outcomes: Sequence[Outcome]) -> None:
    """Counts, and one line per job that has no result, with the reason."""
    count = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{number} {status}" for status, number in sorted(count.items())) or "nothing left to do")
    for outcome in outcomes:
        if outcome.status in (FAILURE, ELSEWHERE, DIVERGED):
            print(f"  {outcome.hash} {outcome.status}: {outcome.reason}")
