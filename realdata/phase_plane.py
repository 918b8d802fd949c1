"""Draw real networks in the toy's phase plane: do they move as the theory's flow does?

    python -m realdata phase_plane --out out/predict
    python -m realdata phase_plane --out out/sweep --to docs/figures/phase

Reads the evaluated runs of OUT/runs (of a sweep or of predict), two classes and two attributes of two values each.
Writes per setting a folder with phase_plane.png and .pdf into OUT/phase_plane (or the folder --to).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from realdata.summary import SGD, Panel, Rule
from sambalance_tools.arrays import FloatArray
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory
from toymodels import theory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OF_FEATURE = ("mu", "response_v", "response_w", "imbalance")
OF_NETWORK = ("gradient_scale", "gradient_share", "direction_cosine", "drive_cosine")
GRID = 60
WIDTH, HEIGHT = 5.2, 5.0
COLUMNS = 3
LETTERS = 14.0
"""Letters of the note per inch of width."""


@dataclass(frozen=True)
class State:
    """One network at one checkpoint, in the toy's quantities (:mod:`realdata.measure`), easy first.

    Attributes:
        level: the training-loss level, None at the end. loss: training loss there. step: steps done.
        mu, v, w, imbalance: of the two features. scale: N. others: gradient_share and the cosines.
    """

    level: float | None
    loss: float
    step: int
    mu: tuple[float, float]
    v: tuple[float, float]
    w: tuple[float, float]
    imbalance: tuple[float, float]
    scale: float
    others: tuple[float, ...]

    def place(self, rho: float) -> tuple[float, float]:
        """(N / N*, z): the coordinates of C10, with ``a_k = sqrt |v_k w_k|`` for weights that are not balanced."""
        easy, hard = (m * math.sqrt(abs(v * w)) for m, v, w in zip(self.mu, self.v, self.w, strict=True))
        return self.scale / float(theory.balance_threshold(rho, *self.mu)), math.log(hard / easy)

    @property
    def in_the_quadrant(self) -> bool:
        """Whether both features speak for their label, as they always do in the toy's phase plane."""
        return all(v * w > 0 for v, w in zip(self.v, self.w, strict=True))


@dataclass(frozen=True)
class Trajectory:
    """The checkpoints of one run, in order of training."""

    rule: Rule
    seed: int
    states: tuple[State, ...]


def trajectories(panel: Panel) -> list[Trajectory]:
    """Runs of plain SGD and of SAM with both effects whose checkpoints have the toy's quantities for both attributes.

    A loss that fell through several levels at once leaves several checkpoints with the same weights.
    """
    rows = panel.rows
    rows = rows[(rows["split"] == "train") & rows["metric"].isin([*OF_FEATURE, *OF_NETWORK])]
    rows = rows[(rows["effect"] == "full") & rows["method"].isin(["sgd", "sam"]) & rows["value"].notna()]
    found = []
    for (method, rho, seed, _), of_run in rows.groupby(["method", "rho", "seed", "run"]):
        states = []
        for _, at in of_run.groupby("checkpoint"):
            measured = zip(at["metric"], at["attribute"], at["value"], strict=True)
            values = {(str(metric), str(attribute)): float(value) for metric, attribute, value in measured}
            state = _state(
                values, float(at["level"].iloc[0]), float(at["training_loss"].iloc[0]), int(at["step"].iloc[0])
            )
            if state is not None:
                states.append(state)
        states.sort(key=lambda state: (state.step, -(state.level or 0.0)))
        if states:
            found.append(Trajectory((str(method), "full", float(rho)), int(seed), tuple(states)))
    return found


def _state(values: dict[tuple[str, str], float], level: float, loss: float, step: int) -> State | None:
    wanted = [(metric, attribute) for metric in OF_FEATURE for attribute in ("easy", "hard")]
    wanted += [(metric, "") for metric in OF_NETWORK]
    if not all(key in values for key in wanted):
        return None
    mu, v, w, imbalance = ((values[metric, "easy"], values[metric, "hard"]) for metric in OF_FEATURE)
    if min(mu) <= 0 or not all((*v, *w)):
        return None
    scale, *others = (values[metric, ""] for metric in OF_NETWORK)
    return State(
        None if math.isnan(level) else float(level), float(loss), step, mu, v, w, imbalance, scale, tuple(others)
    )


def mean_trajectory(runs: Sequence[Trajectory], rho: float) -> list[tuple[float | None, float, float]]:
    """(level, N / N*, z) averaged over seeds (N / N* as a geometric mean) where every one of the runs has a state."""
    places = [{state.level: state.place(rho) for state in run.states} for run in runs]
    shared = [state.level for state in runs[0].states if all(state.level in each for each in places)]
    means = []
    for level in shared:
        scale, z = zip(*(each[level] for each in places), strict=True)
        means.append((level, math.exp(float(np.mean(np.log(scale)))), float(np.mean(z))))
    return means


def mean_strength_ratio(runs: Sequence[Trajectory]) -> float:
    """Geometric mean of mu_h / mu_e over all checkpoints."""
    return math.exp(float(np.mean([math.log(s.mu[1] / s.mu[0]) for run in runs for s in run.states])))


def flow_field(scale: FloatArray, z: FloatArray, ratio: float) -> tuple[FloatArray, FloatArray]:
    """C10 in dimensionless form: (d log10(N/N*), dz) by d tau (in units of 1/mu_e) at N/N* and z, for mu_h/mu_e.

    It depends on nothing else: rho only sets the unit of N.
    """
    norm = scale * theory.balance_threshold(1.0, 1.0, ratio)
    z_rate, norm_rate = theory.phase_plane_rates(z, norm, 1.0, ratio, 1.0)
    return np.asarray(norm_rate / norm / math.log(10)), np.asarray(z_rate + 0 * z)


def boundary(z: FloatArray, ratio: float) -> FloatArray:
    """N / N* on the collapse boundary (C10) at z; with mu_h > mu_e the two features change roles, and z its sign."""
    from toymodels.flows.collapse_boundary import collapse_boundary_scale

    strong, weak = max(1.0, ratio), min(1.0, ratio)
    scale = collapse_boundary_scale(np.full_like(z, strong), np.full_like(z, weak), z if ratio <= 1 else -z)
    return np.asarray(scale / theory.balance_threshold(1.0, 1.0, ratio))


def phase_plane_figure(panel: Panel, runs: Sequence[Trajectory]) -> Figure:
    """One plane per radius of SAM, with SGD's runs where they are at that radius."""
    from realdata.tables import what_it_is
    from toymodels.plots import new_figure

    radii = sorted({run.rule[2] for run in runs if run.rule != SGD})
    columns = min(COLUMNS, len(radii))
    lines = math.ceil(len(radii) / columns)
    width = WIDTH * columns + (1.6 if columns == 1 else 0.0)
    note = textwrap.fill(departures(runs), int(LETTERS * width))
    figure = new_figure(width, HEIGHT * lines + 1.0 + 0.14 * note.count("\n"))
    grid = figure.subplots(lines, columns, squeeze=False).reshape(-1)
    for axes in grid[len(radii) :]:
        axes.set_axis_off()
    for axes, rho in zip(grid, radii, strict=False):
        _draw_plane(axes, [run for run in runs if run.rule in (SGD, ("sam", "full", rho))], rho)
    figure.suptitle(f"{what_it_is(panel)}\nreal networks in the phase plane of the diagonal network (C10)", fontsize=10)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(3, columns + 1), fontsize=7.5, frameon=False,
        title=note, title_fontsize=7.5,
    )  # fmt: skip
    return figure


def departures(runs: Sequence[Trajectory]) -> str:
    """In words, how far the networks are from what the plane assumes; ranges are quartiles over all checkpoints."""
    states = [state for run in runs for state in run.states]

    def quartiles(values: list[float]) -> str:
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        return f"{middle:.2g} ({low:.2g} to {high:.2g})"

    share, directions, drives = zip(*(state.others for state in states), strict=True)
    inside = sum(state.in_the_quadrant for state in states)
    return (
        "The plane assumes balanced weights, one atom kind, constant mu, and features that share nothing and are all"
        " that there is."
        f" Measured, median (quartiles): |ln v/w| easy {quartiles([abs(s.imbalance[0]) for s in states])},"
        f" hard {quartiles([abs(s.imbalance[1]) for s in states])};"
        f" mu_h/mu_e {quartiles([s.mu[1] / s.mu[0] for s in states])}; share of the gradient's square in the two"
        f" features {quartiles(list(share))}, 1 in the toy; cosine of directions {quartiles(list(directions))},"
        f" of drives {quartiles(list(drives))}, 0 in the toy."
        f" Both features speak for their label in {inside} of {len(states)} checkpoints, the others are crosses."
    )


def _draw_plane(axes: Axes, runs: Sequence[Trajectory], rho: float) -> None:
    from realdata.figures import COLOURS

    ratio = mean_strength_ratio(runs)
    places = [state.place(rho) for run in runs for state in run.states]
    x, z = np.log10([p[0] for p in places]), np.array([p[1] for p in places])
    edges = float(theory.balance_threshold(1.0, 1.0, ratio))
    # The turning line, the collapse boundary and both fixed points' N belong into every picture.
    low, high = min(x.min(), math.log10(min(1, ratio) / edges)) - 0.2, max(x.max(), 0.0) + 0.3
    bottom, top = min(float(z.min()), -1.0) - 0.4, max(float(z.max()), 1.0) + 0.4
    _draw_flow(axes, np.linspace(low, high, GRID), np.linspace(bottom, top, GRID), ratio)
    for rule in dict.fromkeys(run.rule for run in runs):
        name = "SGD, as if at that rho" if rule == SGD else "SAM"
        _draw_runs(axes, [run for run in runs if run.rule == rule], rho, COLOURS[rule[0]], name)
    axes.plot([], [], "o", markerfacecolor="white", color="0.4", markersize=8, label="first level of the training loss")
    axes.plot([], [], "D", color="0.4", markersize=7, label="end of training")
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, top)
    ticks = [t for t in range(math.ceil(low), math.floor(high) + 1)]
    axes.set_xticks(ticks, [f"{10.0**t:g}" for t in ticks])
    axes.set_xlabel("N / N*,  N* = rho (mu_e + mu_h)")
    axes.set_ylabel("z = ln(mu_h a_h / mu_e a_e)")
    axes.set_title(f"rho = {rho:g}, flow of mean mu_h/mu_e = {ratio:.2g}", fontsize=9)


def _draw_flow(axes: Axes, x: FloatArray, z: FloatArray, ratio: float) -> None:
    """Stream lines, turning line, window of C8, collapse boundary, and where the fixed points lie (z at infinity)."""
    grid_x, grid_z = np.meshgrid(x, z)
    axes.streamplot(
        x, z, *flow_field(10**grid_x, grid_z, ratio), color="0.82", linewidth=0.6, arrowsize=0.7, density=1.1
    )
    edges = float(theory.balance_threshold(1.0, 1.0, ratio))
    window = sorted(math.log10(edge / edges) for edge in theory.suppression_window(1.0, 1.0, ratio))
    axes.axvspan(*window, color="#f1c40f", alpha=0.12, linewidth=0, label="stronger feature shrinks, weaker grows (C8)")
    axes.axvline(0.0, color="#7b3294", linestyle="--", linewidth=1.5, label="N = N*: z turns (C7)")
    axes.plot(np.log10(boundary(z, ratio)), z, color="black", linewidth=1.8, label="collapse boundary (C10)")
    # The axes of the two features are at infinity; each fixed point has N = rho mu_k of the feature that is left.
    source, saddle = (-1, 1) if ratio <= 1 else (1, -1)
    for end, marker, name in ((source, "s", "source"), (saddle, "X", "saddle")):
        scale = (ratio if end > 0 else 1.0) / edges
        axes.plot(math.log10(scale), z[-1] if end > 0 else z[0], marker, color="black", markersize=6, clip_on=False,
                  linestyle="none", label=f"{name}, at z = {'+' if end > 0 else '-'}infinity")  # fmt: skip


def _draw_runs(axes: Axes, runs: Sequence[Trajectory], rho: float, colour: str, name: str) -> None:
    for run in runs:
        x, z = (np.array(part) for part in zip(*(state.place(rho) for state in run.states), strict=True))
        axes.plot(np.log10(x), z, color=colour, linewidth=0.6, alpha=0.45)
        outside = np.array([not state.in_the_quadrant for state in run.states])
        axes.plot(np.log10(x[outside]), z[outside], "x", color=colour, markersize=5, alpha=0.6)
    means = mean_trajectory(runs, rho)
    if not means:
        return
    x, z = np.log10([m[1] for m in means]), np.array([m[2] for m in means])
    axes.plot(x, z, "-o", color=colour, linewidth=2.0, markersize=3.5, label=f"{name}: mean over seeds (thin: each)")
    axes.plot(x[0], z[0], "o", markerfacecolor="white", markeredgecolor=colour, markeredgewidth=1.8, markersize=9)
    axes.plot(x[-1], z[-1], "D", color=colour, markersize=8)
    # A loss that falls through several levels at once would write them on top of each other.
    texts: dict[tuple[float, float], list[str]] = {}
    for (level, *_), *place in zip(means, x, z, strict=True):
        texts.setdefault((float(place[0]), float(place[1])), []).append("end" if level is None else f"{level:g}")
    aside = (6, 5) if name == "SAM" else (6, -11)
    for at, words in texts.items():
        axes.annotate(", ".join(words), at, textcoords="offset points", xytext=aside, fontsize=7.5, color=colour,
                      fontweight="bold")  # fmt: skip


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata phase_plane", __doc__)
    made.add_argument("--out", default="out/predict", metavar="DIR", help="folder of the runs (default out/predict)")
    made.add_argument("--to", metavar="DIR", help="folder of the figures (default OUT/phase_plane)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    out = Path(options.out)
    if not (out / "runs").is_dir():
        raise ValueError(f"--out={options.out!r} has no folder runs; allowed: the folder of a sweep or of predict")
    drawn = list(drawable(out))
    if not drawn:
        raise ValueError(
            f"--out={options.out!r} has no evaluated SAM run of two classes with an easy and a hard attribute of two "
            "values each; allowed: runs that were evaluated by this version"
        )
    to = writable_directory(options.to or out / "phase_plane")
    for path in write_figures(drawn, to):
        print(f"  {path}")


def drawable(out: Path) -> Iterator[tuple[Panel, list[Trajectory]]]:
    """The settings of a folder of jobs whose networks can be drawn."""
    from realdata.results import collect, collect_settings
    from realdata.summary import panels

    for panel in panels(collect(out), collect_settings(out)["runs"]):
        runs = trajectories(panel)
        if any(run.rule != SGD for run in runs):
            yield panel, runs


def write_figures(drawn: Sequence[tuple[Panel, list[Trajectory]]], to: Path) -> list[Path]:
    """Write each setting's figure into a folder of its own, named by data set and setting."""
    from toymodels.plots import save_figure

    paths = []
    for panel, runs in drawn:
        folder = to / f"{panel.configuration['data']}-{panel.setting}"
        folder.mkdir(exist_ok=True)
        paths += save_figure(phase_plane_figure(panel, runs), folder / "phase_plane")
    return paths
