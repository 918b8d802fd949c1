"""R4: at the phantom point the weight-logit gap of the easy attribute contracts by the measured suppression."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from realdata.predictions.data import At, PredictionData
from realdata.predictions.intervals import interval_of
from realdata.predictions.prediction import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Evidence,
    Finding,
    PartSpec,
    RealPrediction,
    too_few,
    untestable,
)
from realdata.results.summary import SGD

HOLDS_WITHIN, FAILS_OUTSIDE = (0.8, 1.25), (0.5, 2.0)
"""Bounds for the slope of the measured drop on the predicted one."""
LEAST_R2, FAILING_R2 = 0.8, 0.5
LEAST_POINTS = 3
"""Minimum number of points per seed; with fewer, a correlation has no meaning."""

Points = list[tuple[float, float]]
"""(Predicted, measured) drop of the gap."""


def judge(data: PredictionData) -> Evidence:
    """Slope and R2 per seed, at the last-layer phantom and at the full one."""
    if not data.has_easy:
        reason = untestable("not measurable: the data have no easy attribute, or nothing was measured")
        return Evidence({"a": reason, "b": reason})
    last, full = _points(data, _last_layer), _points(data, _full)
    return Evidence({"a": _decided(last), "b": _decided(full)}, {"last_layer": last, "phantom": full})


def _points(data: PredictionData, of: Callable[[At], Points]) -> dict[int, Points]:
    found: dict[int, Points] = {}
    for rule in (SGD, data.design.sam):
        for seed in range(data.design.seeds):
            for at in data.checkpoints(rule, seed):
                found.setdefault(seed, []).extend(of(at))
    return {seed: points for seed, points in sorted(found.items()) if points}


def _last_layer(at: At) -> Points:
    suppression = at.groups("easy_suppression_last_layer", "evaluate")
    moved = at.groups("weight_logit_gap_last_layer", "evaluate")
    return [
        ((1 - suppression[label]) * gap, gap - moved[label])
        for label, gap in at.groups("weight_logit_gap_real", "evaluate").items()
        if label in moved and label in suppression
    ]


def _full(at: At) -> Points:
    """At SAM's phantom point both layers move: u~_e / u_e is the product of both factors."""
    head, body = at.value("chi_v", "easy"), at.value("chi_w", "easy")
    moved = at.groups("weight_logit_gap_phantom", "evaluate")
    if head is None or body is None:
        return []
    gaps = at.groups("weight_logit_gap_real", "evaluate")
    return [((1 - head * body) * gap, gap - moved[label]) for label, gap in gaps.items() if label in moved]


def slope_and_r2(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Slope through the origin of the second on the first number, and their squared correlation; None where undefined.

    Example:
        >>> slope_and_r2([(1.0, 2.0), (2.0, 4.0), (-1.0, -2.0)])
        (2.0, 1.0)
    """
    n = len(points)
    square = math.fsum(p * p for p, _ in points)
    if n < LEAST_POINTS or not square:
        return None
    mean_p, mean_x = (math.fsum(point[k] for point in points) / n for k in (0, 1))
    spread_p = math.fsum((p - mean_p) ** 2 for p, _ in points)
    spread_x = math.fsum((x - mean_x) ** 2 for _, x in points)
    if not spread_p or not spread_x:
        return None
    shared = math.fsum((p - mean_p) * (x - mean_x) for p, x in points)
    return math.fsum(p * x for p, x in points) / square, min(1.0, shared**2 / (spread_p * spread_x))


def _decided(points: dict[int, Points]) -> Finding:
    fits = {seed: fit for seed, fit in ((seed, slope_and_r2(each)) for seed, each in points.items()) if fit}
    if not fits:
        return untestable(
            f"no seed has {LEAST_POINTS} gaps at both points (two classes and a two-valued easy attribute)"
        )
    slope = interval_of({seed: fit[0] for seed, fit in fits.items()})
    r2 = interval_of({seed: fit[1] for seed, fit in fits.items()})
    few = too_few(slope)
    if few is not None:
        return few
    reason = f"slope {slope.text}, R2 {r2.text}"
    if slope.lies_within(*HOLDS_WITHIN) and r2.mean >= LEAST_R2:
        return Finding(HOLDS, reason, slope)
    if slope.lies_below(FAILS_OUTSIDE[0]) or slope.lies_above(FAILS_OUTSIDE[1]) or r2.lies_below(FAILING_R2):
        return Finding(FAILS, reason, slope)
    return Finding(UNDECIDED, reason, slope)


_RULE = (
    f"holds if the slope's interval lies within [{HOLDS_WITHIN[0]:g}, {HOLDS_WITHIN[1]:g}] and the mean R2 is at least "
    f"{LEAST_R2:g}; fails if the slope's interval lies outside [{FAILS_OUTSIDE[0]:g}, {FAILS_OUTSIDE[1]:g}]"
    " entirely, or "
    f"that of R2 below {FAILING_R2:g}"
)
_UNIT = "slope"

PREDICTION = RealPrediction(
    name="R4",
    title="Contraction of weights",
    statement="between images whose easy attribute contradicts the label and images where it agrees, the gap of the"
    " mean"
    " weight logit contracts at the phantom point by the measured suppression of the easy attribute",
    claim="C11, C21",
    estimator="slope through the origin, and squared correlation, of the measured drop of the gap on the predicted one,"
    " (1 - v~_e / v_e) times the gap, over labels and checkpoints of SGD and SAM, on held-out images; t-interval over"
    " seeds of one slope per seed. (The drop, since the gap itself would fit whenever suppression is weak.)",
    rule=_RULE,
    parts=(
        PartSpec("a", "at the last-layer phantom point", _RULE, _UNIT),
        PartSpec("b", "at SAM's phantom point of the whole network (reported only)", _RULE, _UNIT, counts=False),
    ),
    needs=("main",),
    judge=judge,
    needs_easy=True,
)
