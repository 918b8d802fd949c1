"""Phase diagram of heads trained on features of real images, next to the toy model with the same feature strengths.

    python -m realdata phase_diagram --data waterbirds --embedding frozen:efficientnet_lite0 --dims 32
    python -m realdata phase_diagram --data cifar_mnist --basis pca --y p=0.8:1:32 --metric worst_group_accuracy
    python -m realdata phase_diagram --data waterbirds --network relu --x rho=0:0.6:16 --y init=0.1:0.6:16:log --p 0.95
    python -m realdata phase_diagram --from out/feature_phase_diagram/phase_diagram.nc --metric hard_probing_error

Each image is reduced once to a few features: the directions of two probes plus noise directions, or principal
components. For every cell of the map and every seed, a head is trained on all images. Example weights set the
correlation p between label and easy attribute. Writes phase_diagram.png, .pdf, .nc and summary.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernels.names import EFFECTS
from realdata.features.diagram import METRICS, FeatureDiagram
from realdata.features.heads import AXES, FIXED
from realdata.settings.flags import add_root_flag, root_folder
from realdata.values import single_values
from sambalance_tools.command_line import OneLineParser, module_parser, number_list
from sambalance_tools.files import writable_directory, write_text
from sambalance_tools.tables import text_table
from toymodels.command_line import AXIS_HELP, add_engine_options, map_axes
from toymodels.parameters import parameter

if TYPE_CHECKING:
    from realdata.features.table import FeatureTable
    from toymodels.sweep import Sweep

DEFAULT_X = {"diagonal": "rho=0:0.7:32", "linear": "rho=0:0.4:32", "relu": "rho=0:0.4:32"}
DEFAULT_Y = "p=0.5:1:32"
DEFAULT_LEVEL = 0.4
LEVELS = "0.6,0.5,0.4,0.3,0.2,0.1"
DEFAULTS: dict[str, float] = {"init": 0.3, "eta": 0.02, "steps": 1500}
TWO_LAYER_DEFAULTS: dict[str, float] = {"init": 0.3, "eta": 0.01, "steps": 3000}
"""Defaults that differ from the toy's. Features of images are noisy, so heads start smaller and need fewer steps. A
two-layer head can use its whole norm for any direction. It starts with the norm of a diagonal network of two features,
so its init is multiplied by sqrt(2 / K), and its learning rate is smaller."""
LOOSE = 0.02
"""If losses lie further below the level than this share of it, the report says so."""
NETWORK_OF = {"probe": "diagonal", "pca": "linear"}
DEFAULT_OUT = "out/feature_phase_diagram"


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata phase_diagram", __doc__)
    made.add_argument("--data", metavar="NAME", help="data set with an easy and a hard attribute")
    add_root_flag(made)
    made.add_argument(
        "--data-option", action="append", default=[], metavar="KEY=VALUE",
        help="an option of the data set (correlation, where it exists, is 0.5 by default: example weights set p)",
    )  # fmt: skip
    made.add_argument("--size", type=int, metavar="N", help="resize images to N x N pixels")
    features = made.add_argument_group("features")
    features.add_argument(
        "--embedding",
        default="pixels",
        metavar="NAME",
        help="what represents an image: pixels or frozen:NAME (default pixels)",
    )
    features.add_argument("--weights", metavar="X", help="weights of a frozen network: imagenet or a file")
    features.add_argument(
        "--basis", choices=("probe", "pca"), default="probe",
        help="probe: directions of the easy and the hard attribute plus noise directions; pca: principal components "
             "(default probe)",
    )  # fmt: skip
    features.add_argument("--dims", type=int, default=32, metavar="K", help="number of features (default 32)")
    features.add_argument(
        "--examples", type=int, default=2000, metavar="N",
        help="maximum number of training images, and of images to measure on, spread over the groups (default 2000)",
    )  # fmt: skip
    map_ = made.add_argument_group("map")
    map_.add_argument("--x", metavar="AXIS", help=f"horizontal axis, {AXIS_HELP} (default {DEFAULT_X['diagonal']})")
    map_.add_argument("--y", metavar="AXIS", help=f"vertical axis (default {DEFAULT_Y})")
    map_.add_argument(
        "--metric", choices=tuple(METRICS), default="advantage",
        help="what to draw; the advantages are differences from GD, positive where SAM is better "
             "(default advantage, that of the hard share)",
    )  # fmt: skip
    map_.add_argument(
        "--level", type=float, metavar="L", help=f"training loss at which the map is drawn (default {DEFAULT_LEVEL})"
    )
    map_.add_argument("--levels", metavar="L,..", help=f"further training losses to store (default {LEVELS})")
    map_.add_argument("--seeds", type=int, default=4, metavar="N", help="trainings per cell (default 4)")
    heads = made.add_argument_group("heads")
    heads.add_argument(
        "--network", choices=("diagonal", "linear", "relu"),
        help="diagonal: the theory's network, one weight pair per feature; linear, relu: two-layer networks "
             "(default diagonal with --basis probe, linear with pca)",
    )  # fmt: skip
    heads.add_argument(
        "--rule", choices=("sam", "lsam", "fsam", "usam", "linf_sam"), default="sam", help="update rule (default sam)"
    )
    heads.add_argument(
        "--effect", choices=EFFECTS, default="full",
        help="which effect of the phantom point to keep: both (full), example weights or Jacobian (default full)",
    )  # fmt: skip
    heads.add_argument(
        "--probe-noise",
        type=float,
        default=0.5,
        metavar="X",
        help="noise of the probes on the hidden features (default 0.5)",
    )
    for name in (*AXES, *FIXED):
        known = parameter(name)
        default = f"{DEFAULTS.get(name, known.default):g}"
        if name in TWO_LAYER_DEFAULTS:
            default += ", two-layer: " + ("times sqrt(2/K)" if name == "init" else f"{TWO_LAYER_DEFAULTS[name]:g}")
        heads.add_argument(
            f"--{name.replace('_', '-')}", type=float, metavar="N" if known.whole else "X",
            help=f"{known.meaning} (default {default})",
        )  # fmt: skip
    add_engine_options(made, precision=True, threads=True)
    made.add_argument("--out", default=DEFAULT_OUT, metavar="DIR", help=f"output folder (default {DEFAULT_OUT})")
    made.add_argument("--from", dest="source", metavar="FILE.nc", help="redraw a stored diagram without training")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    started = time.perf_counter()
    options = parser().parse_args(arguments)
    from kernels.engine import require_engine

    if options.source:
        _refuse_other_options(options)
        directory = writable_directory(options.out)
        diagram = FeatureDiagram.load(options.source)
    else:
        # Sweep and engine first: they are checked before images are read or embedded.
        sweep = sweep_from_options(options)
        require_engine(options.engine)
        directory = writable_directory(options.out)
        diagram = _train(options, _table(options), sweep)
    level = options.level if options.level is not None else _default_level(diagram)
    flow = diagram.flow(level)
    summary = diagram.summary(options.metric, level, flow, time.perf_counter() - started)
    paths = _write(diagram, options.metric, level, flow, summary, directory, redraw=bool(options.source))
    print(report(summary))
    for path in paths:
        print(f"  {path}")


def sweep_from_options(options: argparse.Namespace) -> Sweep:
    """The sweep that the options describe, vertical axis first. Feature strengths are measured later."""
    from toymodels.data import spurious
    from toymodels.networks import network
    from toymodels.rules import rule
    from toymodels.sweep import Sweep

    given = {name: getattr(options, name) for name in (*AXES, *FIXED) if getattr(options, name) is not None}
    chosen = options.network or NETWORK_OF[options.basis]
    texts = {"--y": options.y or DEFAULT_Y, "--x": options.x or DEFAULT_X[chosen]}
    axes = map_axes(texts["--y"], texts["--x"], given)
    for (option, text), (name, axis) in zip(texts.items(), axes.items(), strict=True):
        if name not in AXES:
            raise ValueError(f"{option} {text!r}: {name} cannot be an axis here; allowed: {', '.join(AXES)}")
        if len(axis) < 2:
            raise ValueError(f"{option} {text!r} has {len(axis)} value; allowed: at least 2")
    values = {name: value for name, value in {**_defaults(chosen, options.dims), **given}.items() if name not in axes}
    if not options.probe_noise > 0:
        raise ValueError(f"--probe-noise={options.probe_noise:g}; allowed: > 0")
    level = DEFAULT_LEVEL if options.level is None else options.level
    return Sweep(
        # A diagonal head has the theory's features only where they are coordinates; a two-layer head sees no basis.
        network=network(chosen),
        data=spurious(),
        rule=rule(options.rule, options.effect),
        values=values,
        axes=axes,
        seeds=options.seeds,
        loss_levels=tuple(dict.fromkeys((level, *number_list(options.levels or LEVELS, "--levels")))),
    )


def _defaults(head: str, dims: int) -> dict[str, float]:
    if head == "diagonal":
        return DEFAULTS
    return {**TWO_LAYER_DEFAULTS, "init": TWO_LAYER_DEFAULTS["init"] * math.sqrt(2 / max(dims, 2))}


def _table(options: argparse.Namespace) -> FeatureTable:
    """Features of the images, at most as many images as asked for."""
    if not options.data:
        raise ValueError("--data is not given; allowed: the name of a data set with an easy and a hard attribute")
    if options.weights is not None and options.embedding == "pixels":
        raise ValueError(f"--weights={options.weights} with --embedding pixels; allowed: with frozen:NAME")
    if options.weights not in (None, "imagenet") and not Path(options.weights).is_file():
        raise ValueError(f"--weights={options.weights} does not exist; allowed: imagenet, or a file of weights")
    root = root_folder(options.root)
    if options.examples < 8:
        raise ValueError(f"--examples={options.examples}; allowed: 8 or more, two per group")
    from realdata import datasets
    from realdata.features.table import feature_table
    from realdata.features.toy import fewer_examples
    from realdata.settings.completion import complete_data_options, data_option_names

    chosen: dict[str, Any] = single_values(options.data_option, "--data-option")
    if "correlation" in data_option_names(options.data):
        # Equally many images of all groups: the correlation is made by weights, and this way by the least of them.
        chosen = {"correlation": 0.5, **chosen}
    chosen = complete_data_options(options.data, chosen)
    data = datasets.load(options.data, root, chosen, size=options.size, progress=True)
    # Directions are found on all images, so that they do not depend on how many heads are trained on.
    table = feature_table(data, options.embedding, options.basis, options.dims, weights=options.weights)
    return fewer_examples(table, options.examples)


def _train(options: argparse.Namespace, table: FeatureTable, sweep: Sweep) -> FeatureDiagram:
    from sambalance_tools.progress import ProgressBar

    with ProgressBar("training heads") as bar:
        return FeatureDiagram.train(
            table, sweep, options.probe_noise, engine=options.engine, precision=options.precision,
            threads=options.threads, progress=bar,
        )  # fmt: skip


def _default_level(diagram: FeatureDiagram) -> float:
    """The default level if it was stored, otherwise the highest stored level."""
    levels = diagram.sweep.loss_levels
    return DEFAULT_LEVEL if DEFAULT_LEVEL in levels else float(levels[0])


def _refuse_other_options(options: argparse.Namespace) -> None:
    made = parser()
    kept = ("out", "source", "metric", "level")
    given = [name for name, value in vars(options).items() if name not in kept and value != made.get_default(name)]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{flags} cannot be combined with --from, which redraws a stored diagram")


def _write(
    diagram: FeatureDiagram, metric: str, level: float, flow: Any, summary: dict[str, Any], directory: Path, *,
    redraw: bool,
) -> list[Path]:  # fmt: skip
    """Write figure, data and summary; a redraw does not write the data again."""
    from realdata.features.figure import feature_figure
    from toymodels.plots import save_figure

    paths = []
    if not redraw:
        paths.append(directory / "phase_diagram.nc")
        diagram.save(paths[0])
    paths += save_figure(feature_figure(diagram, metric, level, flow), directory / "phase_diagram")
    paths.append(directory / "summary.json")
    write_text(paths[-1], json.dumps(summary, indent=2) + "\n")
    return paths


def report(summary: dict[str, Any]) -> str:
    """The short table that the command line prints."""
    from realdata.features.agreement import Agreement

    about, level = summary["about"], f"{summary['level']:g}"
    fit, held_out = about["strengths"]["fit"], about["strengths"]["evaluate"]
    found = Agreement(**summary["agreement"])
    rows = [
        ("features", f"{about['title']}, {about['embedding']}, {about['basis']}, {about['dims']} dimensions, "
                     f"{about['explained']:.0%} of the variance"),
        ("strengths", f"easy {fit['mu_easy']:.2f} (held out {held_out['mu_easy']:.2f}), hard {fit['mu_hard']:.2f} "
                      f"({held_out['mu_hard']:.2f}), noise {fit['noise_easy']:.2f}, {fit['noise_hard']:.2f}, "
                      f"{fit['noise_extra']:.2f}"),
        ("trainings", f"{summary['trainings']:,} x {summary['steps']:,} steps on {sum(about['images']['fit']):,} "
                      f"images, {summary['simulation_seconds']:.1f} s, {summary['engine']} {summary['precision']}; "
                      f"{summary['reached'][level]:.0%} reached loss {level}"),
        (summary["metric"].replace("_", " "), f"real against toy: {found.sentence()}; {found.cells} cells"),
        ("phases", f"{summary['phase_agreement'][level]:.0%} of the trainings have the phase of the toy's"),
    ]  # fmt: skip
    for line in summary["lines"].values():
        shares = [f"{name} {line[name]:.0%} of {line[f'{name}_cells']}" for name in ("real", "toy") if line.get(name)]
        if shares:
            rows.append((line["claim"], f"cells on their side of the {line['name']}: {', '.join(shares)}"))
    below = summary["loss_below_level"][level]
    if below is not None and below > LOOSE:
        rows.append(("matched loss", f"runs cross the level by up to {below:.0%}; a smaller --eta matches it better"))
    if summary["lines_are_of"]:
        rows.append(("lines", summary["lines_are_of"]))
    return text_table(rows)
