"""R6: SAM's isolated effects split its gain as the theory says."""

from __future__ import annotations

from realdata.predictions.data import PredictionData
from realdata.predictions.dynamic_range import with_range
from realdata.predictions.intervals import SeedInterval, interval_of
from realdata.predictions.prediction import (
    HOLDS,
    SMALLEST_EFFECT,
    UNDECIDED,
    Evidence,
    Finding,
    PartSpec,
    RealPrediction,
    Tested,
    decide,
    decide_by_sign,
    too_few,
    untestable,
)
from realdata.results.summary import SGD

ERROR = "mean_group_probing_error"
SMALL_SHARE = 0.25
"""An effect counts as absent if its interval lies within this share of SAM's mean."""
REDUNDANT = 1 - 1e-9
"""Data are redundant if Cramer's V of label and easy attribute is at least this."""


def judge(data: PredictionData) -> Evidence:
    """Judge the differences from SGD of SAM and of its two effects, at the levels where all four match."""
    if not data.has_easy:
        return Evidence({"": untestable("no easy attribute: the data are neither redundant nor spurious")})
    rules = {"SAM": data.design.sam, **data.design.effects}
    errors = data.values(ERROR, "hard")
    levels = data.matched_levels(errors, (SGD, *rules.values()))
    if not levels:
        return Evidence({"": untestable(data.why_no_level(errors, (SGD, *rules.values())))})
    numbers = {name: data.difference_at_levels(errors, rule, levels) for name, rule in rules.items()}
    seeds = sorted(set.intersection(*(set(found) for found in numbers.values())))
    if not seeds:
        return Evidence({"": untestable("no seed has all four methods at a matched level")})
    numbers = {name: {seed: found[seed] for seed in seeds} for name, found in numbers.items()}
    intervals = {name: interval_of(found) for name, found in numbers.items()}
    redundant = is_redundant(data)
    plot = {"intervals": intervals, "redundant": redundant, "levels": levels}
    return Evidence(with_range({"": _decided(numbers, intervals, redundant)}, data), plot)


def is_redundant(data: PredictionData) -> bool | None:
    """Whether easy attribute and label determine each other in training; None if not measured."""
    for rule in (SGD, data.design.sam):
        for seed in range(data.design.seeds):
            for at in data.checkpoints(rule, seed):
                association = at.value("easy_association", "easy")
                if association is not None:
                    return association >= REDUNDANT
    return None


def _decided(
    numbers: dict[str, dict[int, float]], intervals: dict[str, SeedInterval], redundant: bool | None
) -> Finding:
    whole = intervals["SAM"]
    few = too_few(whole)
    if few is not None:
        return few
    words = ", ".join(f"{name} {interval.text}" for name, interval in intervals.items())
    if not whole.excludes_zero:
        return Finding(UNDECIDED, f"SAM has no effect to split: {words}", whole, testable=False)
    if redundant is None:
        return untestable("the association of label and easy attribute was not measured")
    return _redundant(numbers, words) if redundant else _spurious(intervals, words)


def _redundant(numbers: dict[str, dict[int, float]], words: str) -> Finding:
    sam, weights, jacobian = (numbers[name] for name in ("SAM", "weights", "jacobian"))
    nearer = {seed: abs(weights[seed] - sam[seed]) - abs(jacobian[seed] - sam[seed]) for seed in sam}
    what = f"redundant data ({words}): distance to SAM of weights-only minus that of jacobian-only"
    return decide_by_sign(interval_of(nearer), negative=False, what=what)


def _spurious(intervals: dict[str, SeedInterval], words: str) -> Finding:
    bound = SMALL_SHARE * abs(intervals["SAM"].mean)
    effects = [intervals[name] for name in ("weights", "jacobian")]
    text = f"spurious data: {words}"
    # Of the two, the effect that is nearer to nothing decides.
    weaker = min(effects, key=lambda interval: abs(interval.mean))
    # Both effects must differ from 0; one that is nearly 0 suffices against it, doubled for the choice of which.
    p = max(interval.p() for interval in effects)
    nearly_none = min(max(each.p(-bound, "greater"), each.p(bound, "less")) for each in effects)
    return decide(Tested(text, HOLDS, p, min(1.0, 2 * nearly_none), round(bound, 3)), weaker)


_RULE = (
    "undecided if SAM's own interval includes 0. Redundant data: |weights - SAM| - |jacobian - SAM| per seed, holds if"
    f" above 0, reversed if below, absent if not above {SMALLEST_EFFECT:g}. Spurious data: holds if both effects differ"
    f" from 0, absent if one lies within ±{SMALL_SHARE:g} times SAM's mean. By corrected p-values"
)

PREDICTION = RealPrediction(
    name="R6",
    title="Which effect",
    statement="on redundant data the jacobian-only variant reproduces SAM and the weights-only one does not; on"
    " spurious"
    " data both effects matter",
    claim="C14",
    estimator="probing error of the hard attribute, difference to SGD at the same seed, of SAM and of its isolated"
    " effects;"
    " mean over the levels at which the training losses of all four match; t-interval over seeds",
    rule=_RULE,
    parts=(PartSpec("", "jacobian-only on redundant data, both effects on spurious data", _RULE, "probing error"),),
    needs=("main", "effects", "ceiling"),
    judge=judge,
    needs_easy=True,
)
