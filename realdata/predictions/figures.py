"""One figure per prediction with one panel per data set: the numbers behind the verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from realdata.predictions.intervals import SeedInterval
from realdata.predictions.prediction import (
    CONTRADICTED,
    HOLDS,
    NO_RANGE,
    UNDECIDED,
    Evidence,
    Finding,
    RealPrediction,
)
from realdata.predictions.tables import SYMBOLS, Judged
from realdata.results.figures import COLOURS, plain_ticks
from toymodels.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HARD, EASY = COLOURS["sam"], COLOURS["lsam"]
"""Colours of the two attributes, and of SAM's two effects."""

HEAD_COLOURS = {"flatten": COLOURS["sam"], "pooled": COLOURS["lsam"], "interaction": COLOURS["sgd"]}
"""Of R8; the interaction is flatten minus pooled."""

VERDICT_COLOURS = {
    HOLDS: COLOURS["asam"],
    **dict.fromkeys(CONTRADICTED, COLOURS["linf_sam"]),
    **dict.fromkeys((NO_RANGE, UNDECIDED), COLOURS["sgd"]),
}

COLUMNS = 4
"""Maximum number of panels side by side."""

Draw = Callable[["Axes", Evidence], None]


def prediction_figures(found: Sequence[Judged], predictions: Sequence[RealPrediction]) -> Iterator[tuple[str, Figure]]:
    """(Name, figure) of each prediction."""
    for prediction in predictions:
        yield prediction.name, prediction_figure(found, prediction)


def prediction_figure(found: Sequence[Judged], prediction: RealPrediction) -> Figure:
    """The panels of one prediction, with the verdict in each title."""
    draw, height = DRAWINGS[prediction.name]
    columns = min(COLUMNS, len(found))
    lines = math.ceil(len(found) / columns)
    figure = new_figure(max(4.6, 3.5 * columns), height * lines + 0.8)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, one in zip(grid.flat, found, strict=False):
        _panel(axes, one, prediction, draw)
    for axes in list(grid.flat)[len(found) :]:
        axes.set_visible(False)
    figure.suptitle(f"{prediction.name} {prediction.title}", fontsize=11)
    shown: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    if shown:
        columns = min(len(shown), 2 if len(found) == 1 else 6)
        figure.legend(
            shown.values(), shown.keys(), loc="outside lower center", ncols=columns, fontsize=8, frameon=False
        )
    return figure


def _panel(axes: Axes, one: Judged, prediction: RealPrediction, draw: Draw) -> None:
    finding = one.verdicts[prediction.name]
    title = f"{_wrapped(one.data.name, 34)}\n{SYMBOLS[finding.verdict]} {finding.verdict}"
    # DejaVu Sans has the three symbols.
    axes.set_title(title, fontsize=9, color=VERDICT_COLOURS[finding.verdict], fontfamily="DejaVu Sans")
    try:
        draw(axes, one.evidence[prediction.name])
    except _Nothing:
        _explain(axes, finding)
    axes.tick_params(labelsize=8)


class _Nothing(Exception):
    """Raised if there is nothing to draw."""


def _explain(axes: Axes, finding: Finding) -> None:
    axes.set_axis_off()
    text = finding.reason if len(finding.reason) < 230 else finding.reason[:230] + " ..."
    axes.text(0.5, 0.5, _wrapped(text, 38), ha="center", va="center", fontsize=8, transform=axes.transAxes)


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def _intervals(axes: Axes, lines: Sequence[tuple[str, SeedInterval, str, str]], *, zero: bool = True) -> None:
    """Forest plot: (name, interval, colour, label in the legend) from top to bottom, with a line at 0 or without."""
    if not lines:
        raise _Nothing
    seen: set[str] = set()
    for place, (_, interval, colour, label) in enumerate(lines):
        low, high = (interval.mean if bound is None else bound for bound in (interval.low, interval.high))
        axes.errorbar(
            interval.mean, -place, xerr=[[interval.mean - low], [high - interval.mean]], color=colour, marker="o",
            markersize=5, capsize=3, linewidth=1.6, label=label if label and label not in seen else None,
        )  # fmt: skip
        seen.add(label)
    if zero:
        axes.axvline(0, color="0.6", linewidth=1.0, zorder=0)
    axes.set_yticks([-place for place in range(len(lines))], [name for name, *_ in lines])
    axes.set_ylim(-len(lines) + 0.4, 0.6)


def _draw_probing(axes: Axes, evidence: Evidence) -> None:
    names = {"a": "matched loss", "b": "the end", "c": "own settings"}
    lines = []
    for part, found in evidence.plot.items():
        for attribute, colour in (("hard", HARD), ("easy", EASY)):
            if attribute in found:
                lines.append((f"{names[part]}\n{attribute}", found[attribute], colour, f"{attribute} attribute"))
    _intervals(axes, lines)
    from realdata.predictions.r1_probing import EASY_ALLOWANCE

    axes.axvline(EASY_ALLOWANCE, color=EASY, linewidth=1.0, linestyle=":", label="most the easy error may rise")
    axes.set_xlabel("probing error, SAM minus SGD", fontsize=8)
    axes.locator_params(axis="x", nbins=5)


def _draw_weights(axes: Axes, evidence: Evidence) -> None:
    curves, intervals = evidence.plot["curves"], evidence.plot["intervals"]
    if not curves:
        raise _Nothing
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1.0)
    for point, style, colour in (("real", "-", COLOURS["sgd"]), ("phantom", "--", COLOURS["sam"])):
        if point in curves:
            x, y = zip(*curves[point], strict=True)
            axes.plot(x, y, style, color=colour, linewidth=1.6, label=f"SAM at the end, {point} weights")
    names = {"a": "phantom − real", "b": "SAM − SGD"}
    text = "\n".join(f"({part}) {names[part]}:\n{interval.text}" for part, interval in intervals.items())
    axes.text(0.04, 0.96, f"Gini\n{text}", fontsize=7.5, va="top", transform=axes.transAxes)
    axes.set_xlabel("share of examples, lightest first", fontsize=8)
    axes.set_ylabel("share of the total weight", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _draw_responses(axes: Axes, evidence: Evidence) -> None:
    points = evidence.plot.get("points")
    if not points:
        raise _Nothing
    for method, marker in (("SGD", "o"), ("SAM", "^")):
        for attribute, colour in (("hard", HARD), ("easy", EASY)):
            mine = [point for point in points if point["method"] == method]
            loss, factor = [point["loss"] for point in mine], [point[attribute] for point in mine]
            fill, label = "full" if method == "SAM" else "none", f"{method}, {attribute} attribute"
            axes.plot(loss, factor, marker, color=colour, markersize=4, alpha=0.75, fillstyle=fill, label=label)
    axes.axhline(1, color="0.6", linewidth=1.0, zorder=0)
    axes.set_xscale("log")
    axes.invert_xaxis()
    plain_ticks(axes)
    axes.set_xlabel("training loss (training goes to the right)", fontsize=8)
    axes.set_ylabel("suppression factor v~ / v", fontsize=8)


def _draw_contraction(axes: Axes, evidence: Evidence) -> None:
    drawn = False
    for kind, marker, colour in (("phantom", "x", "0.65"), ("last_layer", "o", HARD)):
        points = [point for each in evidence.plot.get(kind, {}).values() for point in each]
        if points:
            name = "last-layer phantom" if kind == "last_layer" else "full phantom (reported)"
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker, color=colour, markersize=3.5, alpha=0.7, label=name)
            drawn = True
    if not drawn:
        raise _Nothing
    points = evidence.plot.get("last_layer") or evidence.plot["phantom"]
    numbers = [number for each in points.values() for point in each for number in point]
    margin = 0.1 * (max(numbers) - min(numbers)) or 1.0
    # What decides fills the panel; what is only reported may lie outside.
    low, high = min(numbers) - margin, max(numbers) + margin
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.plot([low, high], [low, high], color=COLOURS["sgd"], linewidth=1.0, label="measured = predicted")
    finding = evidence.findings["a"]
    axes.text(0.04, 0.96, _wrapped(finding.reason, 34), fontsize=7.5, va="top", transform=axes.transAxes)
    axes.set_xlabel("predicted drop of the weight-logit gap", fontsize=8)
    axes.set_ylabel("measured drop", fontsize=8)


def _draw_radius(axes: Axes, evidence: Evidence) -> None:
    errors: dict[float, SeedInterval] = evidence.plot["errors"]
    sam = sorted(rho for rho in errors if rho > 0)
    if not sam:
        raise _Nothing
    if 0.0 in errors:
        plain = errors[0.0]
        axes.axhline(plain.mean, color=COLOURS["sgd"], linewidth=1.3, label="SGD")
        if plain.low is not None and plain.high is not None:
            axes.axhspan(plain.low, plain.high, color=COLOURS["sgd"], alpha=0.12)
    mean = [errors[rho].mean for rho in sam]
    half = [(errors[rho].high or errors[rho].mean) - errors[rho].mean for rho in sam]
    axes.errorbar(
        sam, mean, half, color=COLOURS["sam"], marker="o", markersize=5, capsize=3, linewidth=1.6,
        label="SAM, 95 % interval over seeds",
    )  # fmt: skip
    lost = [rho for rho in sam if rho in evidence.plot["lost"]]
    if lost:
        axes.plot(
            lost, [errors[rho].mean for rho in lost], "x", color=COLOURS["linf_sam"], markersize=10, markeredgewidth=2,
            label="with runs that diverged or collapsed",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sam, [f"{rho:g}" for rho in sam])
    axes.minorticks_off()
    axes.set_xlabel("rho", fontsize=8)
    axes.set_ylabel("hard probing error at the end", fontsize=8)


def _draw_effects(axes: Axes, evidence: Evidence) -> None:
    intervals = evidence.plot.get("intervals", {})
    colours = {"SAM": COLOURS["sam"], "weights": COLOURS["lsam"], "jacobian": COLOURS["asam"]}
    names = {"SAM": "SAM", "weights": "weights\nonly", "jacobian": "jacobian\nonly"}
    if not intervals:
        raise _Nothing
    for place, (name, interval) in enumerate(intervals.items()):
        axes.bar(place, interval.mean, color=colours[name], width=0.6, alpha=0.75)
        if interval.low is not None and interval.high is not None:
            half = interval.high - interval.mean
            axes.errorbar(place, interval.mean, half, color="black", capsize=4, linewidth=1.3)
    axes.axhline(0, color="0.4", linewidth=1.0)
    axes.set_xticks(range(len(intervals)), [names[name] for name in intervals])
    kind = {True: "redundant data", False: "spurious data", None: ""}[evidence.plot["redundant"]]
    axes.set_xlabel(f"{kind}, losses {', '.join(f'{level:g}' for level in evidence.plot['levels'])}", fontsize=8)
    axes.set_ylabel("hard probing error, difference to SGD", fontsize=8)


def _draw_filter(axes: Axes, evidence: Evidence) -> None:
    found = evidence.plot.get("filter")
    if found is None:
        raise _Nothing
    from numpy.polynomial import Polynomial

    order = sorted(range(len(found.strength)), key=lambda k: found.strength[k])
    mu = [found.strength[k] for k in order]
    for name, gain, predicted, colour, marker in (
        ("GD", found.gain_gd, found.predicted_gd, COLOURS["sgd"], "o"),
        ("SAM", found.gain_sam, found.predicted_sam, COLOURS["sam"], "^"),
    ):
        axes.plot(mu, [gain[k] for k in order], marker, color=colour, markersize=4, label=f"{name}, measured")
        # The law is a parabola, of which the features are points.
        law = Polynomial.fit(mu, [predicted[k] for k in order], 2)
        axes.plot(*law.linspace(200, (0.0, mu[-1])), "-", color=colour, linewidth=1.2, label=f"{name}, filter law")
    bend, ratio = (evidence.findings[part].interval for part in ("a", "b"))
    words = [f"(a) bend {bend.text}"] if bend else []
    words += [f"(b) ratio {ratio.text}"] if ratio else []
    axes.text(0.04, 0.96, "\n".join(words), fontsize=7.5, va="top", transform=axes.transAxes)
    axes.set_xlabel(_wrapped(f"feature strength mu; {found.features.split(': ')[-1]}", 44), fontsize=8)
    axes.set_ylabel("log-gain ln a / a(0)", fontsize=8)


def _draw_heads(axes: Axes, evidence: Evidence) -> None:
    lines = []
    for rule, found in evidence.plot.items():
        # The colours name the heads, so the rule is named once, at the middle one of its three lines.
        name = _wrapped(rule.replace(", features of the head", "; what the head sees"), 18)
        lines += [(name * (head == "pooled"), found[head], colour, head) for head, colour in HEAD_COLOURS.items()]
    _intervals(axes, lines)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("hard probing error, SAM minus SGD", fontsize=8)
    axes.locator_params(axis="x", nbins=5)


def _draw_halves(axes: Axes, evidence: Evidence) -> None:
    _intervals(axes, [(name, interval, COLOURS["sam"], "") for name, interval in evidence.plot.items()])
    axes.set_xlabel("hard probing error, SAM minus SGD", fontsize=8)
    axes.set_ylabel("when SAM is on", fontsize=8)
    axes.locator_params(axis="x", nbins=5)


def _draw_range(axes: Axes, evidence: Evidence) -> None:
    colours = {"SGD": COLOURS["sgd"], "SAM": COLOURS["sam"]}
    lines = [(name, interval, colours.get(name, COLOURS["asam"]), "") for name, interval in evidence.plot.items()]
    _intervals(axes, lines, zero=False)
    axes.set_xlabel("hard probing error", fontsize=8)
    axes.locator_params(axis="x", nbins=5)


DRAWINGS: dict[str, tuple[Draw, float]] = {
    "R1": (_draw_probing, 3.2),
    "R2": (_draw_weights, 3.2),
    "R3": (_draw_responses, 3.0),
    "R4": (_draw_contraction, 3.2),
    "R5": (_draw_radius, 3.0),
    "R6": (_draw_effects, 3.0),
    "R7": (_draw_filter, 3.2),
    "R8": (_draw_heads, 3.6),
    "R12": (_draw_halves, 2.6),
    "R13": (_draw_range, 2.8),
}
"""Drawing function of each prediction, and the height of its panels in inches."""
