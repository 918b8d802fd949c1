"""Test the theory's predictions R1, R2, ... on real data: train the networks, evaluate them, and judge each prediction.

    python -m realdata predict --data cifar_mnist,pacs,celeba,waterbirds --root data --out out/predict
    python -m realdata predict --data waterbirds --predictions R1,R4 --seeds 3 --dry-run --root data
    python -m realdata predict --data fmnist_mnist --root data --quick
    python -m realdata predict plan.yaml --no-train
    python -m realdata predict --out out/predict                (with the settings of the last call)

A file contains the same training settings as the file of a sweep, without method, effect and seed. Each of its grids is
a base setting. Every data set has default settings; flags and files override them. Runs are stored in OUT/runs and
resumed as in a sweep. Writes predictions.parquet, predictions.json, verdict.md, figures/R1.png ... and results.parquet.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.settings.flags import add_configuration_flags, add_job_flags, add_option_flags, settings_from
from realdata.settings.plan import with_names_of_today
from realdata.sweeps.jobs import DIVERGED, DONE, Job, job_status
from realdata.sweeps.work import (
    add_executor_flags,
    exit_if_failed,
    local_executor,
    print_outcomes,
    print_plan,
    record_plan,
    require_device,
    rootless_jobs,
    run_jobs,
)
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import read_json_object, writable_directory, write_text

if TYPE_CHECKING:
    from realdata.predictions.request import Request

DEFAULT_OUT = "out/predict"
SETTINGS = "settings.json"
"""File in OUT with the settings of the last call, so that a later call needs --out alone."""


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata predict", __doc__)
    made.add_argument("file", nargs="?", metavar="FILE.yaml", help="file with settings; flags override it")
    made.add_argument("--data", metavar="NAME,..", help="names of the data sets")
    made.add_argument("--predictions", metavar="R1,..", help="which predictions to test, such as R1,R8 (default all)")
    made.add_argument("--rho", type=float, metavar="X", help="main radius of SAM's perturbation (default 0.1)")
    made.add_argument("--radii", metavar="X,..", help="further radii for R5 (default 0.3, 3 and 10 times --rho)")
    made.add_argument("--seeds", type=int, metavar="N", help="number of seeds: 0 to N-1 (default 5)")
    made.add_argument(
        "--scan-seeds", type=int, metavar="N", help="number of seeds for the further radii and for R1 (c) (default 3)"
    )
    made.add_argument(
        "--lsam-rho", type=float, metavar="X", help="radius of last-layer SAM in R8 (default: without it)"
    )
    made.add_argument(
        "--embedding", metavar="NAME", help="what represents an image in R7: pixels or frozen:NAME (default pixels)"
    )
    made.add_argument(
        "--quick", action="store_true", help="a first look in minutes: R8 and R13 with 3 seeds on a small network"
    )
    add_job_flags(made)
    made.add_argument("--out", metavar="DIR", help=f"folder of the results (default {DEFAULT_OUT})")
    add_executor_flags(made)
    made.add_argument("--no-train", action="store_true", help="train nothing: evaluate and judge the finished runs")
    made.add_argument("--no-figures", action="store_true", help="do not write figures")
    add_configuration_flags(made, many=True, without=("method", "effect", "rho", "seed"))
    add_option_flags(made, many=True)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    from realdata.predictions.judging import judge
    from realdata.predictions.request import request_of

    settings = _settings(options)
    request = request_of(settings)
    require_device(options.device or "auto")
    out = writable_directory(request.plan.out)
    device = options.device or "auto"
    jobs, left_out = _jobs(request, out, device, train=not options.no_train)
    executor = local_executor(options.workers, options.threads, out, device)
    for data, missing in request.untestable.items():
        print(f"{data} has no easy attribute: {', '.join(missing)} cannot be tested on it", flush=True)
    todo = print_plan(jobs, executor, measure=not (options.no_estimate or options.no_train))
    if left_out:
        print(f"{left_out} unfinished trainings are left out", flush=True)
    if options.dry_run:
        return
    write_text(out / SETTINGS, json.dumps(settings, indent=1, sort_keys=True))
    record_plan(out, request.plan.configurations)
    outcomes = run_jobs(todo, executor)
    if todo:
        print_outcomes(outcomes)
    for path in judge(request, out, figures=not options.no_figures):
        print(f"  {path}")
    exit_if_failed(outcomes)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the file, overridden by flags. Without both: the settings of the last call with this OUT."""
    settings = settings_from(options)
    for name in ("scan_seeds", "lsam_rho", "embedding"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    if options.quick:
        settings["quick"] = True
    for name in ("predictions", "radii"):
        if getattr(options, name) is not None:
            settings[name] = [part.strip() for part in getattr(options, name).split(",") if part.strip()]
    settings.setdefault("out", DEFAULT_OUT)
    if "data" not in settings and "grids" not in settings:
        settings = {**_remembered(Path(settings["out"]).expanduser()), **settings}
    return settings


def _remembered(out: Path) -> dict[str, Any]:
    try:
        found = read_json_object(out / SETTINGS, (), "the settings of the last call; it can be removed")
    except FileNotFoundError:
        raise ValueError(
            f"neither --data nor a file is given, and {out / SETTINGS} does not exist; allowed: --data, a file, or "
            "--out with the results of an earlier call"
        ) from None
    return with_names_of_today(found, str(out / SETTINGS))


def _jobs(request: Request, out: Path, device: str, *, train: bool) -> tuple[list[Job], int]:
    """The jobs, and how many are left out because they are not trained."""
    from realdata.training.checkpoints import is_finished

    jobs, left_out = [], 0
    for each, job in zip(request.plan.configurations, rootless_jobs(request.plan, out, device), strict=True):
        directory = Path(job.directory)
        # What is done needs no data.
        if job_status(directory, job.evaluation) in (DONE, DIVERGED):
            jobs.append(job)
        elif train or is_finished(directory):
            jobs.append(dataclasses.replace(job, root=request.plan.root_of(each.data)))
        else:
            left_out += job_status(directory) not in (DONE, DIVERGED)
    return jobs, left_out
