"""Figures of a report: probing error against training loss and against rho, and Lorenz curves of example weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from realdata.results.summary import (
    ALL_TARGETS,
    MEASURES,
    SGD,
    Measure,
    Panel,
    Rule,
    Values,
    baselines,
    rule_name,
    values_of,
)
from realdata.results.tables import level_name, what_it_is
from sambalance_tools.statistics import t_interval
from toymodels.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "sgd": "#4d4d4d", "sam": "#0072b2", "lsam": "#e69f00", "asam": "#009e73", "usam": "#cc79a7", "linf_sam": "#d55e00",
}  # fmt: skip
"""Colour of each method, from Okabe and Ito's palette for colour-blind readers."""

EFFECT_STYLES = {"full": "-", "weights": ":", "jacobian": "--"}
MARKERS = "osD^vP*X"
"""Marker of each radius, so that lines differ not only in colour."""

BASELINE_STYLES = (":", "-.")
"""Lines of the untrained network and of training on the probed attribute alone."""

DODGE = 0.02
"""Relative distance between neighbours with the same x value."""

MOST_BANDS = 3
"""With more lines than this, intervals are bars at the points instead of bands."""

SHOWN = MEASURES[:2] + MEASURES[3:4]
"""Measures to draw: hard and easy probing error, worst-group accuracy."""


def panel_figures(panel: Panel) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every figure for which the panel has data."""
    target = ALL_TARGETS if len(panel.targets) > 1 else panel.targets[0]
    values = {measure: values_of(panel, measure) for measure in SHOWN}
    values = {measure: found for measure, found in values.items() if found.found}
    if values:
        yield "against_loss", against_loss(panel, values, target)
    if values and any(rule[2] > 0 for rule in panel.rules):
        yield "against_rho", against_rho(panel, values, target)
    curves = lorenz_curves(panel)
    if curves:
        yield "lorenz", lorenz_figure(panel, curves, target)


def against_loss(panel: Panel, values: dict[Measure, Values], target: str) -> Figure:
    """A measure against the training loss, one line per update rule, with t-intervals over seeds."""
    figure, all_axes = _row_of_axes(len(values))
    for axes, (measure, found) in zip(all_axes, values.items(), strict=True):
        for place, rule in enumerate(panel.rules):
            points = []
            for level in panel.levels:
                key = rule, target, level
                cell, loss = found.cell(key), found.mean_loss(key)
                if cell.mean is not None and loss is not None and loss > 0:
                    points.append((loss, cell.mean, cell.half or 0.0))
            # A little apart, so that one interval does not hide another.
            aside = 1.0 + DODGE * (place - (len(panel.rules) - 1) / 2)
            _line(axes, sorted((loss * aside, mean, half) for loss, mean, half in points), panel.rules, rule)
        for (name, baseline), style in zip(baselines(panel, measure).items(), BASELINE_STYLES, strict=False):
            mean = baseline.cell((SGD, target, None)).mean
            if mean is not None:
                label = name.replace(measure.attribute, "probed")
                axes.axhline(mean, color="0.6", linestyle=style, linewidth=1.2, label=label)
        axes.set_xscale("log")
        axes.invert_xaxis()
        plain_ticks(axes)
        axes.set_xlabel("training loss (training goes to the right)")
        axes.set_ylabel(measure.title)
    _finish(figure, all_axes[0], f"{what_it_is(panel, target)}: at matched training loss")
    return figure


def against_rho(panel: Panel, values: dict[Measure, Values], target: str) -> Figure:
    """A measure against rho at the end and at the lowest level that every rule reached; plain SGD is a band."""
    level = _common_level(panel, next(iter(values.values())), target)
    stages: list[tuple[float | None, str, str]] = [(None, "-", "full")]
    if level is not None:
        stages.append((level, "--", "none"))
    figure, all_axes = _row_of_axes(len(values))
    kinds = list(dict.fromkeys((method, effect) for method, effect, _ in panel.rules if method != "sgd"))
    radii = sorted({rule[2] for rule in panel.rules if rule[2] > 0})
    logarithmic = len(radii) > 2 and radii[-1] / radii[0] > 3
    for axes, (measure, found) in zip(all_axes, values.items(), strict=True):
        for row, (stage, style, fill) in enumerate(stages):
            when = level_name(stage)
            plain = found.cell((SGD, target, stage))
            if plain.mean is not None:
                axes.axhline(plain.mean, color=COLOURS["sgd"], linestyle=style, linewidth=1.2, label=f"SGD, {when}")
                if plain.half:
                    axes.axhspan(plain.mean - plain.half, plain.mean + plain.half, color=COLOURS["sgd"], alpha=0.1)
            for number, (method, effect) in enumerate(kinds):
                points = []
                for rule in panel.rules:
                    cell = found.cell((rule, target, stage))
                    if rule[:2] == (method, effect) and cell.mean is not None:
                        points.append((rule[2], cell.mean, cell.half or 0.0))
                if points:
                    name = rule_name((method, effect, 0.0))
                    aside = DODGE * (number * len(stages) + row - (len(kinds) * len(stages) - 1) / 2)
                    x, mean, half = _columns(points)
                    x = [rho * (1 + aside) if logarithmic else rho + aside * radii[-1] for rho in x]
                    axes.errorbar(
                        x, mean, half, color=COLOURS[method], linestyle=style, marker=MARKERS[number],
                        markersize=4.5, linewidth=1.4, capsize=2.5, fillstyle=fill, label=f"{name}, {when}",
                    )  # fmt: skip
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xticks(radii, [f"{radius:g}" for radius in radii])
        axes.minorticks_off()
        axes.set_xlabel("rho")
        axes.set_ylabel(measure.title)
    _finish(figure, all_axes[0], f"{what_it_is(panel, target)}: over the radius")
    return figure


def _common_level(panel: Panel, values: Values, target: str) -> float | None:
    """The lowest level that every update rule reached with every seed, else the lowest that any rule reached."""
    levels = [level for level in panel.levels if level is not None]
    cells = {level: [values.cell((rule, target, level)) for rule in panel.rules] for level in levels}
    whole = [level for level in levels if all(cell.n and cell.n == cell.planned for cell in cells[level])]
    some = [level for level in levels if any(cell.n for cell in cells[level])]
    return min(whole or some, default=None)


Curves = dict[tuple[Rule, float | None, str], list[tuple[float, float, float]]]
"""(rule, level, "real" or "phantom") to (share of examples, mean height, half width)."""


def lorenz_curves(panel: Panel) -> Curves:
    """Mean Lorenz curves over seeds and targets, at the lowest level that any run reached and at the end."""
    rows = panel.rows[panel.rows["metric"].isin(["lorenz_real", "lorenz_phantom"])]
    rows = rows[rows["value"].notna()]
    if not len(rows):
        return {}
    stages = [*sorted({float(level) for level in rows["level"].dropna()})[:1], None]
    found: Curves = {}
    for stage in stages:
        at = rows[rows["level"].isna()] if stage is None else rows[rows["level"] == stage]
        keys = ["metric", "method", "effect", "rho"]
        for (metric, method, effect, rho), part in at.groupby(keys):
            curve = [(0.0, 0.0, 0.0)]
            for share, heights in part.groupby(part["group"].astype(float)):
                mean, half = t_interval([float(height) for height in heights["value"]])
                curve.append((float(share), mean, half or 0.0))
            rule = str(method), str(effect), float(rho)
            found[rule, stage, str(metric).removeprefix("lorenz_")] = [*curve, (1.0, 1.0, 0.0)]
    return found


def lorenz_figure(panel: Panel, curves: Curves, target: str) -> Figure:
    """Lorenz curves: left the real weights, right those at the phantom point; a row per stage of training."""
    stages = list(dict.fromkeys(stage for _, stage, _ in curves))
    figure = new_figure(7.4, 3.0 * len(stages) + 1.1)
    grid = figure.subplots(len(stages), 2, squeeze=False, sharex=True, sharey=True)
    for line, stage in zip(grid, stages, strict=True):
        for axes, point in zip(line, ("real", "phantom"), strict=True):
            axes.plot([0, 1], [0, 1], color="0.75", linewidth=1.0)
            for rule in panel.rules:
                if (rule, stage, point) in curves:
                    _line(axes, curves[rule, stage, point], panel.rules, rule, marks=False)
            axes.set_title(f"{point} weights, {level_name(stage)}", fontsize=9)
            axes.set_aspect("equal")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
        line[0].set_ylabel("share of the total weight")
    for axes in grid[-1]:
        axes.set_xlabel("share of examples, lightest first")
    _finish(figure, grid[0][0], f"{what_it_is(panel, target)}: how even the example weights are", "mean over seeds")
    return figure


def _row_of_axes(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = new_figure(max(4.8, 3.5 * count), 4.0)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _style(rules: Sequence[Rule], rule: Rule) -> dict[str, Any]:
    """Colour by method, dashes by effect, marker and depth of colour by radius."""
    method, effect, rho = rule
    radii = sorted({other[2] for other in rules if other[0] == method})
    place = radii.index(rho)
    return {
        "color": _lightened(COLOURS[method], 0.75 * (1 - (place + 1) / len(radii))),
        "linestyle": EFFECT_STYLES[effect],
        "marker": MARKERS[place % len(MARKERS)],
    }


def _lightened(colour: str, share: float) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(part + share * (1 - part) for part in to_rgb(colour))


def _line(
    axes: Axes, points: list[tuple[float, float, float]], rules: Sequence[Rule], rule: Rule, *, marks: bool = True
) -> None:  # fmt: skip
    """Line through (x, mean, half width); with markers also the intervals."""
    if not points:
        return
    style = _style(rules, rule)
    x, mean, half = _columns(points)
    if not marks:
        style.pop("marker")
    axes.plot(x, mean, linewidth=1.5, markersize=4.5, label=rule_name(rule), **style)
    if not marks:
        return
    if len(rules) <= MOST_BANDS:
        low = [m - h for m, h in zip(mean, half, strict=True)]
        high = [m + h for m, h in zip(mean, half, strict=True)]
        axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    else:
        axes.errorbar(x, mean, half, fmt="none", ecolor=style["color"], elinewidth=1.0, capsize=2.0)


def _columns(points: Sequence[tuple[float, float, float]]) -> tuple[list[float], list[float], list[float]]:
    return [p[0] for p in points], [p[1] for p in points], [p[2] for p in points]


def plain_ticks(axes: Axes) -> None:
    """Plain numbers (0.02, 0.05, 0.1) on a logarithmic axis."""
    high, low = axes.get_xlim()
    numbers = [digit * 10.0**power for power in range(-7, 3) for digit in (1, 2, 5)]
    shown = [number for number in numbers if low <= number <= high]
    # More than a handful would touch each other.
    shown = [number for number in shown if len(shown) <= 7 or f"{number:e}".startswith("1")]
    axes.set_xticks(shown, [f"{number:g}" for number in shown])
    axes.minorticks_off()


INTERVALS = "mean over seeds, with 95 % t-intervals where there are several"


def _finish(figure: Figure, axes: Axes, title: str, remark: str = INTERVALS) -> None:
    figure.suptitle(f"{title}\n{remark}", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8, frameon=False)
