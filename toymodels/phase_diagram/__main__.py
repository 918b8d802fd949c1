"""Draw a phase diagram: what SAM does to an easy and a hard feature, by simulation and by theory.

    python -m toymodels.phase_diagram
    python -m toymodels.phase_diagram --data spurious --p 0.9
    python -m toymodels.phase_diagram --network relu --width 16 --x rho=0:1:48 --y ratio=0.1:1:48
    python -m toymodels.phase_diagram --network patches --head local --metric advantage --y cosine=0:1:48
    python -m toymodels.phase_diagram --metric advantage --compare effects --data spurious
    python -m toymodels.phase_diagram --metric advantage --x rho=0.01:1:96:log --y init=0.05:1:96:log
    python -m toymodels.phase_diagram --from out/phase_diagram/phase_diagram.nc --metric hard_share

Each cell of the map shows one training per seed. The lines are predictions of the theory, for small learning rates.
Without --eta and --steps, the default learning rate is halved, and the steps are doubled, until halving it once more
changes the phase of no more than 1% of the cells. The command writes
phase_diagram.png, .pdf, .nc and summary.json into the output folder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernels.names import EFFECTS, LOSSES
from sambalance_tools.command_line import module_parser, run_command
from sambalance_tools.files import write_json
from toymodels.command_line import (
    AXIS_HELP,
    DATA_NAMES,
    add_engine_options,
    add_parameter_options,
    add_patches_options,
    given_parameters,
    map_axes,
)
from toymodels.parameters import PROBE_NOISE
from toymodels.phase_diagram import METRICS, PROBED
from toymodels.rules import RULES

if TYPE_CHECKING:
    from pathlib import Path

    from toymodels.phase_diagram.report import Report
    from toymodels.sweep import Sweep

DEFAULT_X = "rho=0:1:96"
DEFAULT_Y = "ratio=0.05:0.95:96"
DEFAULT_LEVEL = 0.1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = module_parser("toymodels.phase_diagram", __doc__)
    made.add_argument("--x", metavar="AXIS", help=f"horizontal axis, {AXIS_HELP} (default {DEFAULT_X})")
    made.add_argument("--y", metavar="AXIS", help=f"vertical axis (default {DEFAULT_Y})")
    made.add_argument(
        "--metric", choices=METRICS, default="phase",
        help="what the map shows (default phase). probing_error: how often a linear probe misreads the hard feature in "
        "the hidden features that the head sees; of patches networks also in those pooled over all patches, or placed, "
        "those of each patch. suppression: chi, what is left of the easy feature at SAM's phantom point; _hard: of the "
        "hard one; _gap: hard minus easy",
    )  # fmt: skip
    made.add_argument(
        "--probe-noise", type=float, metavar="X",
        help=f"probing_error: noise on the hidden features before they are read (default {PROBE_NOISE})",
    )  # fmt: skip
    made.add_argument(
        "--compare", choices=("effects",),
        help="effects: four maps of the advantage over GD, for SAM, each of its two effects alone, and last-layer SAM",
    )  # fmt: skip
    made.add_argument(
        "--level", type=float, default=None, metavar="L",
        help=f"training-loss level at which runs are compared (default {DEFAULT_LEVEL})",
    )  # fmt: skip
    made.add_argument(
        "--network", choices=("diagonal", "linear", "relu", "patches"), default="diagonal",
        help="diagonal, two-layer linear or ReLU, or patches: shared filters and a head (default diagonal)",
    )  # fmt: skip
    add_patches_options(made)
    made.add_argument("--bias", action="store_true", help="add biases to the first layer of a two-layer network")
    made.add_argument("--data", choices=DATA_NAMES, default="redundant", help="kind of data (default redundant)")
    made.add_argument(
        "--rule", choices=tuple(RULES), default="sam",
        help="gradient descent, SAM, last-layer SAM, first-layer SAM, SAM without normalisation, SAM in the infinity "
        "norm, adaptive SAM, or SAM with a norm per layer or per feature (default sam)",
    )  # fmt: skip
    made.add_argument(
        "--effect", choices=EFFECTS, default="full",
        help="which effect of the phantom point to keep: both (full), example weights or Jacobian (default full)",
    )  # fmt: skip
    made.add_argument("--loss", choices=LOSSES, default="logistic", help="loss function (default logistic)")
    made.add_argument("--seeds", type=int, default=4, metavar="N", help="trainings per cell (default 4)")
    add_engine_options(made, precision=True, threads=True)
    made.add_argument(
        "--out", default="out/phase_diagram", metavar="DIR", help="output folder (default out/phase_diagram)"
    )
    made.add_argument("--from", dest="source", metavar="FILE.nc", help="redraw a stored diagram without training again")
    add_parameter_options(made, title="parameters that are not on an axis")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    started = time.perf_counter()
    options = parser().parse_args(arguments)
    from sambalance_tools.files import writable_directory
    from sambalance_tools.progress import ProgressBar
    from toymodels.phase_diagram.report import Report
    from toymodels.phase_diagram.study import Diagram
    from toymodels.step_size import choose_eta, measure

    directory = writable_directory(options.out)
    if options.compare:
        _compare_effects(options, directory, started)
        return
    if options.source:
        _refuse_simulation_options(options)
        diagram = Diagram.load(options.source)
    else:
        sweep = sweep_from_options(options)
        level = options.level if options.level is not None else DEFAULT_LEVEL
        if {"eta", "steps"} & {*sweep.values, *sweep.axes}:  # what is given stays as it is
            step_size = measure(sweep, level, options.engine, options.precision)
        else:
            sweep, step_size = choose_eta(sweep, level, options.engine, options.precision)
        with ProgressBar("simulating") as bar:
            diagram = Diagram.simulate(
                sweep,
                engine=options.engine,
                precision=options.precision,
                threads=options.threads,
                progress=bar,
                step_size=step_size,
            )
    level = options.level if options.level is not None else diagram.default_level
    report = Report.of(diagram, options.metric, level)
    paths = write_report(report, directory, redraw=bool(options.source), started=started)
    print(report.table())
    for path in paths:
        print(f"  {path}")


def write_report(report: Report, directory: Path, redraw: bool, started: float) -> list[Path]:
    """Write figure, data and summary; a redraw leaves the data alone. Returns the paths."""
    from toymodels.plots import save_figure

    paths = save_figure(report.figure(), directory / "phase_diagram")
    if not redraw:
        report.diagram.save(directory / "phase_diagram.nc")
        paths.append(directory / "phase_diagram.nc")
    write_json(directory / "summary.json", report.summary(time.perf_counter() - started))
    return [*paths, directory / "summary.json"]


def _compare_effects(options: argparse.Namespace, directory: Path, started: float) -> None:
    from sambalance_tools.progress import ProgressBar
    from toymodels.phase_diagram.effects import EffectsMap
    from toymodels.phase_diagram.figures import effects_figure
    from toymodels.plots import save_figure
    from toymodels.simulation import save_dataset

    if (
        options.source
        or options.metric not in ("phase", "advantage")
        or (options.rule, options.effect) != ("sam", "full")
    ):
        raise ValueError(
            "--compare effects sets the rules and the metric itself; allowed: only without --from, --rule and --effect"
        )
    with ProgressBar("simulating") as bar:
        found = EffectsMap.simulate(
            sweep_from_options(options), engine=options.engine, precision=options.precision,
            threads=options.threads, level=options.level or DEFAULT_LEVEL, progress=bar,
        )  # fmt: skip
    paths = [*save_figure(effects_figure(found), directory / "effects"), directory / "effects.nc"]
    save_dataset(found.dataset(), directory / "effects.nc")
    write_json(directory / "summary.json", found.summary(time.perf_counter() - started))
    print(found.table())
    for path in [*paths, directory / "summary.json"]:
        print(f"  {path}")


def sweep_from_options(options: argparse.Namespace) -> Sweep:
    """The sweep that the options describe; vertical axis first."""
    from toymodels.data import data_kind
    from toymodels.networks import network
    from toymodels.phase_diagram.study import diagram_sweep
    from toymodels.rules import rule

    values = given_parameters(options)
    y, x = map_axes(options.y or DEFAULT_Y, options.x or DEFAULT_X, values).items()
    return diagram_sweep(
        x=x,
        y=y,
        values=values,
        network=network(options.network, options.bias, options.head, options.activation),
        data=data_kind(options.data),
        rule=rule(options.rule, options.effect),
        loss=options.loss,
        seeds=options.seeds,
        level=options.level if options.level is not None else DEFAULT_LEVEL,
        metric=options.metric,
        probe_noise=_probe_noise(options),
    )


def _probe_noise(options: argparse.Namespace) -> float:
    if options.probe_noise is None:
        return PROBE_NOISE
    if options.metric not in PROBED:
        raise ValueError(f"--probe-noise={options.probe_noise:g}; allowed: with --metric {', '.join(PROBED)} only")
    if not options.probe_noise > 0:
        raise ValueError(f"--probe-noise={options.probe_noise:g}; allowed: > 0")
    return float(options.probe_noise)


def _refuse_simulation_options(options: argparse.Namespace) -> None:
    given = [f"--{name.replace('_', '-')}" for name in given_parameters(options)]
    given += [f"--{name}" for name in ("x", "y") if getattr(options, name)]
    for name in ("network", "head", "activation", "data", "rule", "effect", "loss", "seeds", "bias", "probe_noise"):
        if getattr(options, name) != parser().get_default(name):
            given.append(f"--{name.replace('_', '-')}")
    if given:
        raise ValueError(f"{', '.join(given)} cannot be combined with --from, which redraws a stored simulation")


if __name__ == "__main__":
    run_command(main)
