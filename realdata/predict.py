"""Train what the predictions R1 to R7 need on real data, evaluate it, and give each a verdict per data set.

    python -m realdata predict --data cifar_mnist,pacs,celeba,waterbirds --root data --out out/predict
    python -m realdata predict --data waterbirds --predictions R1,R4 --seeds 3 --dry-run --root data
    python -m realdata predict plan.yaml --no-train
    python -m realdata predict --out out/predict                what was asked for last time, there

A file has the settings of trainings as a sweep has them, without method, effect and seed; each of its grids is a base
setting. Data sets have settings of their own, which flags and files stand over. Runs lie in OUT/runs as those of a
sweep, and are resumed like them. Writes predictions.parquet, predictions.json, verdict.md, figures/R1.png ... and
results.parquet.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.configuration import RunConfiguration
from realdata.jobs import DIVERGED, DONE, Job, state
from realdata.options import add_configuration_flags, add_option_flags
from realdata.plan import Plan, make_plan
from realdata.run import add_job_flags
from realdata.sweep import (
    add_executor_flags,
    exit_if_failed,
    local_executor,
    record_plan,
    rootless_jobs,
    say_how_it_went,
    say_what_is_to_do,
    settings_from,
    work,
)
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory, write_text

if TYPE_CHECKING:
    from realdata.predictions.base import Prediction
    from realdata.predictions.data import PredictionData
    from realdata.predictions.runs import Design

DEFAULT_OUT = "out/predict"
SETTINGS = "settings.json"
"""In OUT: what was asked for, so that the same can be asked for again by OUT alone."""

PLANNED = ("root", "roots", "out", "protocol", "evaluation_seed")
"""Settings that a plan keeps as they are."""

TRAIN_EXAMPLES = 1024
"""Training images that are measured at a checkpoint, half of the protocol's: hundreds of checkpoints are."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        bases: base settings. design: what is trained of each. predictions: names, in order.
        plan: all trainings, where data and results lie, how is evaluated. embedding: of the features of R7.
    """

    bases: tuple[RunConfiguration, ...]
    design: Design
    predictions: tuple[str, ...]
    plan: Plan
    embedding: str


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata predict", __doc__)
    made.add_argument("file", nargs="?", metavar="FILE.yaml", help="settings; flags stand for what it says")
    made.add_argument("--data", metavar="NAME,..", help="data sets")
    made.add_argument("--predictions", metavar="R1,..", help="which of R1 to R7 (default all)")
    made.add_argument("--rho", type=float, metavar="X", help="main radius of SAM (default 0.1)")
    made.add_argument("--radii", metavar="X,..", help="further radii of R5 (default 0.3, 3 and 10 times the main one)")
    made.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1 (default 5)")
    made.add_argument("--scan-seeds", type=int, metavar="N", help="seeds of further radii and of R1c (default 3)")
    made.add_argument("--embedding", metavar="NAME", help="features of R7: pixels or frozen:NAME (default pixels)")
    add_job_flags(made)
    made.add_argument("--out", metavar="DIR", help=f"folder of the results (default {DEFAULT_OUT})")
    add_executor_flags(made)
    made.add_argument("--no-train", action="store_true", help="evaluate and judge only what was trained already")
    made.add_argument("--no-figures", action="store_true", help="write no figures")
    add_configuration_flags(made, many=True, without=("method", "effect", "rho", "seed"))
    add_option_flags(made, many=True)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    settings = _settings(options)
    request = request_of(settings)
    out = writable_directory(request.plan.out)
    device = options.device or "auto"
    jobs, left_out = _jobs(request, out, device, train=not options.no_train)
    executor = local_executor(options.workers, options.threads, out, device)
    todo = say_what_is_to_do(jobs, executor, measure=not (options.no_estimate or options.no_train))
    if left_out:
        print(f"{left_out} trainings are not finished and left out", flush=True)
    if options.dry_run:
        return
    write_text(out / SETTINGS, json.dumps(settings, indent=1, sort_keys=True))
    record_plan(out, request.plan.configurations)
    outcomes = work(todo, executor)
    if todo:
        say_how_it_went(outcomes)
    for path in judge(request, out, figures=not options.no_figures):
        print(f"  {path}")
    exit_if_failed(outcomes)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the file with those of the flags in their place; with neither, those that OUT remembers."""
    settings = settings_from(options)
    for name in ("scan_seeds", "embedding"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    for name in ("predictions", "radii"):
        if getattr(options, name) is not None:
            settings[name] = [part.strip() for part in getattr(options, name).split(",") if part.strip()]
    settings.setdefault("out", DEFAULT_OUT)
    if "data" not in settings and "grids" not in settings:
        settings = {**_remembered(Path(settings["out"]).expanduser()), **settings}
    return settings


def _remembered(out: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((out / SETTINGS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(
            f"neither --data nor a file is given, and {out / SETTINGS} does not exist; allowed: one of them"
        ) from None


def request_of(settings: Mapping[str, Any]) -> Request:
    """What settings ask for.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    from realdata.predictions import runs

    given = dict(settings)
    rho = given.get("rho")
    if isinstance(rho, list):
        raise ValueError(f"rho={rho!r}; allowed: one main radius (radii: has the further ones)")
    names = _chosen(given.pop("predictions", None))
    embedding = str(given.pop("embedding", None) or "pixels")
    if embedding != "pixels" and not embedding.startswith("frozen:"):
        raise ValueError(f"embedding={embedding!r}; allowed: pixels, or frozen:NAME")
    design = runs.design_of(given)
    bases = tuple(runs.base_settings(given))
    needs = {need for name in names for need in _predictions()[name].needs}
    # Part after part, so that the comparison that most predictions need is there first.
    found: dict[str, RunConfiguration] = {}
    for part in runs.PARTS:
        for base in bases:
            for each in runs.trainings(base, design, {part} & needs):
                found.setdefault(each.hash, each)
    shared: dict[str, Any] = {name: given[name] for name in PLANNED if name in given}
    # SGD's checkpoints are measured at SAM's radius, and few images are enough for a mean.
    probing = {"train_examples": TRAIN_EXAMPLES, "rho": design.rho, **(given.get("probe_options") or {})}
    first: dict[str, Any] = {"data": bases[0].data, "data_options": bases[0].data_options}
    plan = make_plan({**first, **shared, "probe_options": probing})
    plan = dataclasses.replace(plan, configurations=tuple(found.values()))
    return Request(bases, design, names, plan, embedding)


def _chosen(names: Any) -> tuple[str, ...]:
    known = tuple(_predictions())
    if names is None:
        return known
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if name not in known:
            raise ValueError(f"predictions={name!r}; allowed: {', '.join(known)}")
    if not listed:
        raise ValueError(f"predictions is empty; allowed: {', '.join(known)}")
    return tuple(name for name in known if name in listed)


def _predictions() -> dict[str, Prediction]:
    from realdata.predictions import PREDICTIONS

    return PREDICTIONS


def _jobs(request: Request, out: Path, device: str, *, train: bool) -> tuple[list[Job], int]:
    """The jobs, and how many are left out since they are not trained."""
    from realdata.checkpoints import is_finished

    jobs, left_out = [], 0
    for each, job in zip(request.plan.configurations, rootless_jobs(request.plan, out, device), strict=True):
        directory = Path(job.directory)
        # What is done needs no data.
        if state(directory, job.evaluation) in (DONE, DIVERGED):
            jobs.append(job)
        elif train or is_finished(directory):
            jobs.append(dataclasses.replace(job, root=request.plan.root_of(each.data)))
        else:
            left_out += state(directory) not in (DONE, DIVERGED)
    return jobs, left_out


def judge(request: Request, out: Path, *, figures: bool = True) -> list[Path]:
    """Write results and verdicts of what lies in ``out``; the paths."""
    from realdata.predictions.tables import judged, verdict_rows, write_predictions
    from realdata.report import read_settings
    from realdata.results import read_results, write_results

    paths = write_results(out)
    rows, runs = read_results(paths[0]), read_settings(paths[1])
    predictions = [_predictions()[name] for name in request.predictions]
    found = [judged(_data_of(base, request, out, rows, runs), predictions) for base in request.bases]
    table = verdict_rows(found, predictions)
    paths += write_predictions(out, table, predictions, _details(request, [one.data for one in found]))
    if figures:
        from realdata.predictions.figures import prediction_figures
        from toymodels.plots import save_figure

        folder = writable_directory(out / "figures")
        for name, figure in prediction_figures(found, predictions):
            paths += save_figure(figure, folder / name)
    print((out / "verdict.md").read_text(encoding="utf-8").split("\n## ")[0])
    return paths


def _data_of(
    base: RunConfiguration, request: Request, out: Path, rows: Any, runs: Mapping[str, Mapping[str, Any]]
) -> PredictionData:
    from realdata.predictions.data import prediction_data
    from realdata.predictions.filter_runs import filter_of

    evidence, reason = None, "not asked for"
    if "R7" in request.predictions:
        folder = writable_directory(out / "filter")
        evidence, reason = filter_of(base, request.plan, request.embedding, folder)
    return prediction_data(base, request.design, rows, runs, evidence, reason)


def _details(request: Request, found: Sequence[PredictionData]) -> dict[str, Any]:
    """What predictions.json says beside the predictions."""
    from realdata.versions import versions

    design, plan = request.design, request.plan
    asked = {each.hash for each in plan.configurations}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": versions("sambalance", "numpy", "torch", "scikit-learn", "scipy", "pandas"),
        "plan": {
            "rho": design.rho, "radii": list(design.all_radii), "seeds": design.seeds, "scan_seeds": design.scan_seeds,
            "levels": sorted({level for base in request.bases for level in base.levels}, reverse=True),
            "runs": len(plan.configurations), "embedding": request.embedding, "protocol": plan.protocol,
            "probe_options": dict(plan.probe_options), "evaluation_seed": plan.evaluation_seed,
        },
        "data": [
            {
                "data": one.base.data, "title": one.title, "setting": one.setting, "target": one.target,
                "configuration": one.base.as_dict(), "seeds": list(range(design.seeds)), "runs": _counts(one, asked),
            }
            for one in found
        ],
    }  # fmt: skip


def _counts(data: PredictionData, asked: Collection[str]) -> dict[str, int]:
    """How many of the runs that were asked for stand how."""
    states = [str(run["status"]) for name, run in data.runs.items() if name in asked]
    return {name: states.count(name) for name in sorted(set(states))}
