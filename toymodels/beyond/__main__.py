"""Test the diagonal network's predictions on other networks, on noise and on mini-batches.

    python -m toymodels.beyond
    python -m toymodels.beyond --study width --study depth
    python -m toymodels.beyond --study batches --seeds 32 --out out/batches

Each study trains networks by GD and SAM over a grid of radii. It measures the hard share and the probing error of the
hidden features at the same training loss, and the radius at which SAM collapses. It compares them with the flow of the
diagonal network of the same norm and with the network's own law, if it has one. The command writes beyond_NAME.png,
.pdf and .nc for each study, and summary.json, into the output folder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from sambalance_tools.command_line import module_parser, run_command
from toymodels.command_line import add_engine_options

STUDIES = ("heads", "width", "data", "effects", "slabs", "noise", "batches", "depth")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = module_parser("toymodels.beyond", __doc__)
    made.add_argument(
        "--study",
        action="append",
        metavar="NAME",
        help=f"one of {', '.join(STUDIES)}; may be repeated (default all)",
    )
    made.add_argument("--seeds", type=int, default=8, metavar="N", help="trainings per setting, at least 2 (default 8)")
    add_engine_options(made, threads=True)
    made.add_argument("--out", default="out/beyond", metavar="DIR", help="output folder (default out/beyond)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    started = time.perf_counter()
    options = parser().parse_args(arguments)
    from sambalance_tools.checks import require_choice, require_whole
    from sambalance_tools.files import writable_directory, write_json
    from sambalance_tools.progress import ProgressBar
    from toymodels.beyond.figures import study_figure
    from toymodels.beyond.results import results, table
    from toymodels.beyond.study import (
        LEVEL,
        REFERENCE_RADIUS,
        run_study,
        share_table,
        studies,
        suppression_gaps,
    )
    from toymodels.parameters import PROBE_NOISE
    from toymodels.plots import save_figure
    from toymodels.simulation import save_dataset

    require_whole("--seeds", options.seeds, least=2)
    names = list(dict.fromkeys(options.study or STUDIES))
    for name in names:
        require_choice("--study", name, STUDIES)
    directory = writable_directory(options.out)
    known = studies(options.seeds)
    summary: dict[str, object] = {
        "level": LEVEL, "reference_radius": REFERENCE_RADIUS, "probe_noise": PROBE_NOISE, "seeds": options.seeds
    }  # fmt: skip
    paths = []
    for name in names:
        study_started = time.perf_counter()
        with ProgressBar(name) as bar:
            dataset = run_study(known[name], progress=bar, engine=options.engine, threads=options.threads)
        cases = results(dataset)
        stem = directory / f"beyond_{name}"
        save_dataset(dataset, stem.with_suffix(".nc"))
        paths += [*save_figure(study_figure(known[name], cases, options.seeds), stem), stem.with_suffix(".nc")]
        summary[name] = {
            "seconds": round(time.perf_counter() - study_started, 2),
            "cases": {case.label: {key: q.summary() for key, q in case.quantities.items()} for case in cases},
        }
        if name == "heads":
            summary["hard_share"] = {"radius": dataset["radius"].values.tolist(), **share_table(dataset)}
        if name == "batches":
            summary["suppression_gap"] = suppression_gaps()
        print(table(f"{name}: {known[name].title}", cases), end="\n\n")
    summary["wall_seconds"] = round(time.perf_counter() - started, 2)
    write_json(directory / "summary.json", summary)
    print("each cell: measured mean [95 % interval] (diagonal network's prediction; own law) verdict on the prediction")
    for path in [*paths, directory / "summary.json"]:
        print(f"  {path}")


if __name__ == "__main__":
    run_command(main)
