"""R13: is there a dynamic range? Training must move the hard attribute's error, and there must be room for it."""

from __future__ import annotations

from realdata.predictions.data import PredictionData
from realdata.predictions.dynamic_range import ERROR, ceilings_by_seed, is_flat, untrained_by_seed
from realdata.predictions.intervals import SeedInterval, interval_of, paired_differences
from realdata.predictions.prediction import (
    HOLDS,
    NO_RANGE,
    SMALLEST_EFFECT,
    WHOLE_RULE,
    Evidence,
    Finding,
    PartSpec,
    RealPrediction,
    Tested,
    decide,
    decide_by_sign,
    gain_excluded,
    too_few,
    untestable,
)
from realdata.results.summary import SGD

Errors = dict[int, float]
"""Hard probing error by seed."""


def judge(data: PredictionData) -> Evidence:
    """Judge whether SGD moves the hard error (a) and whether there is room for it (b); report the share (c)."""
    start, room = untrained_by_seed(data), ceilings_by_seed(data)
    values = data.values(ERROR, "hard")
    rows = {"untrained": start, "SGD": data.at(values, SGD, None), "SAM": data.at(values, data.design.sam, None)}
    rows["hard alone"] = room
    plot: dict[str, SeedInterval] = {name: interval_of(found) for name, found in rows.items() if found}
    findings = {"a": _moved(start, rows["SGD"]), "b": _room(start, room), "c": _share(start, rows["SGD"], room)}
    return Evidence(findings, plot)


def _moved(start: Errors, end: Errors) -> Finding:
    shared = sorted(set(start) & set(end))
    if not shared:
        return untestable("no seed has the hard error before and after SGD's training")
    moved = interval_of(paired_differences(end, start))
    few = too_few(moved)
    if few is not None:
        return few
    text = f"SGD minus untrained {moved.text}"
    if is_flat([start[seed] for seed in shared], [end[seed] for seed in shared]):
        return Finding(NO_RANGE, f"{text}, less than SGD's scatter over seeds", moved, testable=False)
    absent = max(gain_excluded(moved, negative=True), gain_excluded(moved, negative=False))
    return decide(Tested(text, HOLDS, moved.p(), absent), moved)


def _room(start: Errors, room: Errors) -> Finding:
    if not set(start) & set(room):
        return untestable("no network was trained on the hard attribute alone")
    return decide_by_sign(
        interval_of(paired_differences(room, start)),
        negative=True,
        what="trained on the hard attribute alone, minus untrained",
    )


def _share(start: Errors, end: Errors, room: Errors) -> Finding:
    shared = sorted(set(start) & set(end) & set(room))
    shares = [(start[s] - end[s]) / (start[s] - room[s]) for s in shared if start[s] > room[s]]
    if not shares:
        return untestable("no seed has all three errors, with room between untrained and ceiling")
    found = interval_of(shares)
    return Finding(HOLDS, f"SGD covers {found.text} of the way from untrained to the ceiling", found, testable=False)


_MOVED = (
    "holds if the difference is not 0 by the corrected p-value; no dynamic range if its mean is below the standard"
    f" deviation of SGD's errors over seeds; absent if it lies within +-{SMALLEST_EFFECT:g}"
)
_ROOM = f"holds if the difference is below 0, reversed if above, absent if it is not below -{SMALLEST_EFFECT:g}"

PREDICTION = RealPrediction(
    name="R13",
    title="Dynamic range",
    statement="training moves the hard attribute's probing error, and training on that attribute alone lowers it",
    claim="",
    estimator="hard probing error at the end minus the untrained network's, at the same seed; t-interval over seeds",
    rule=f"(a) {_MOVED}; (b) {_ROOM}; {WHOLE_RULE}",
    parts=(
        PartSpec("a", "SGD moves the hard error", _MOVED, "probing error"),
        PartSpec("b", "there is room: a network trained on the hard attribute alone is better", _ROOM, "probing error"),
        PartSpec("c", "share of the room that SGD covers", "reported", "share", counts=False),
    ),
    needs=("main", "ceiling"),
    judge=judge,
)
