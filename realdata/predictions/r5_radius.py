"""R5: over the radius the hard attribute's probing error first falls and then rises (features collapse)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from realdata.predictions.data import At, PredictionData
from realdata.predictions.dynamic_range import with_range
from realdata.predictions.intervals import SeedInterval, interval_of
from realdata.predictions.prediction import (
    HOLDS,
    REVERSED,
    SMALLEST_EFFECT,
    UNDECIDED,
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
    with_remarks,
)
from realdata.predictions.runs import radius_rule
from realdata.sweeps.jobs import DIVERGED
from sambalance_tools.statistics import CONFIDENCE

ERROR = "mean_group_probing_error"
MARGIN = SMALLEST_EFFECT
"""Smaller changes of the error do not count."""
COLLAPSED_SHARE = 0.99
"""A network that predicts one class on this share of the training images has collapsed."""
LEAST_DATA_SETS = 5


@dataclass(frozen=True)
class Scan:
    """Final error of the hard attribute by radius and seed; descriptions of runs that count as chance, by radius."""

    errors: Mapping[float, Mapping[int, float]]
    lost: Mapping[float, Sequence[str]]

    @property
    def seeds(self) -> list[int]:
        """Seeds that exist for every radius."""
        return sorted(set.intersection(*(set(found) for found in self.errors.values())))

    def means(self) -> dict[float, float]:
        """Mean error for each radius over the shared seeds."""
        return {rho: math.fsum(e[s] for s in self.seeds) / len(self.seeds) for rho, e in self.errors.items()}

    @property
    def best(self) -> float:
        """Radius with the smallest mean error."""
        means = self.means()
        return min(means, key=lambda rho: (means[rho], rho))


def scan(data: PredictionData) -> Scan:
    """Collect the errors by radius; radius 0 is SGD."""
    chance = _chance(data)
    errors: dict[float, dict[int, float]] = {}
    lost: dict[float, list[str]] = {}
    for rho in data.design.all_radii:
        for seed in range(data.design.seeds):
            error, fate = _error(data, rho, seed, chance)
            if error is not None:
                errors.setdefault(rho, {})[seed] = error
            if error is not None and fate:
                lost.setdefault(rho, []).append(f"seed {seed} {fate}")
    return Scan(errors, lost)


def _error(data: PredictionData, rho: float, seed: int, chance: float | None) -> tuple[float | None, str]:
    rule = radius_rule(rho)
    if data.status(rule, seed)[0] == DIVERGED:
        return chance, "diverged"
    end = data.final(rule, seed)
    if end is None:
        return None, ""
    share = end.value("most_predicted_share")
    if share is not None and share >= COLLAPSED_SHARE and chance is not None:
        return chance, "collapsed"
    return end.value(ERROR, "hard", "probe"), ""


def _chance(data: PredictionData) -> float | None:
    """Error when guessing a value of the hard attribute; None if no run was measured."""
    for rho in data.design.all_radii:
        for seed in range(data.design.seeds):
            end = data.final(radius_rule(rho), seed)
            values = hard_values(end, data.has_easy) if end is not None else 0
            if values:
                return 1 - 1 / values
    return None


def hard_values(at: At, has_easy: bool) -> int:
    """How many values the hard attribute has, by the names of the probe's groups: "hard", or "hard, easy"."""
    groups = at.groups("group_probing_error", "probe", "hard")
    return len({name.rsplit(", ", 1)[0] if has_easy else name for name in groups})


def judge(data: PredictionData) -> Evidence:
    """Judge the rise and the fall of the hard attribute's quality."""
    found = scan(data)
    missing = [rho for rho in data.design.all_radii if rho not in found.errors]
    plot = {
        "errors": {rho: interval_of(errors) for rho, errors in found.errors.items()}, "lost": found.lost,
        "main": data.design.rho,
    }  # fmt: skip
    if 0.0 in missing or len(found.errors) < 2:
        return Evidence({"a": untestable("no errors of SGD and SAM at the end"), "b": untestable("the same")}, plot)
    remarks = [f"rho {rho:g}: {', '.join(words)}, counted as chance" for rho, words in sorted(found.lost.items())]
    remarks += [f"not trained: rho {', '.join(f'{rho:g}' for rho in missing)}"] if missing else []
    findings = {"a": _rise(found, data.design.all_radii[1:]), "b": untestable("not all radii were trained")}
    if not missing:
        findings["b"] = _fall(found)
    findings = {name: with_remarks(finding, remarks) for name, finding in with_range(findings, data).items()}
    return Evidence(findings, {**plot, "best": found.best if found.seeds else None})


def _rise(found: Scan, radii: Sequence[float]) -> Finding:
    """Compare all planned ``radii`` with SGD. The correction counts every radius, even if it is not trained."""
    plain = found.errors[0.0]
    confidence = 1 - (1 - CONFIDENCE) / len(radii)
    differences: dict[float, SeedInterval] = {}
    for rho in radii:
        pairs = {seed: error - plain[seed] for seed, error in found.errors.get(rho, {}).items() if seed in plain}
        if pairs:
            differences[rho] = interval_of(pairs, confidence)
    enough = {rho: interval for rho, interval in differences.items() if too_few(interval) is None}
    if not enough:
        few = [finding for finding in map(too_few, differences.values()) if finding is not None]
        return few[0] if few else untestable("no radius shares a seed with SGD")
    words = ", ".join(f"rho {rho:g}: {interval.text}" for rho, interval in sorted(enough.items()))
    best = min(enough, key=lambda rho: enough[rho].mean)
    lower = {rho: min(1.0, len(radii) * each.p()) for rho, each in enough.items() if each.mean < 0}
    whole = len(enough) == len(radii)
    # Of all radii something must be shown, so the largest p-value counts and needs no correction for their number.
    p_absent = max(gain_excluded(each, negative=True, size=MARGIN) for each in enough.values()) if whole else 1.0
    if not lower:
        p_worse = max(each.p() for each in enough.values()) if whole else 1.0
        tested = Tested(f"not below SGD at any radius; {words}", REVERSED, p_worse, p_absent, MARGIN)
        return decide(tested, enough[best])
    clear = [rho for rho in lower if enough[rho].lies_below(0.0)]
    shown = min(clear or [best], key=lambda rho: enough[rho].mean)
    text = f"below SGD at rho {shown:g}; {words}" if clear else f"no interval below 0: {words}"
    return decide(Tested(text, HOLDS, min(lower.values()), p_absent, MARGIN), enough[shown])


def _fall(found: Scan) -> Finding:
    largest, seeds = max(found.errors), found.seeds
    if not seeds:
        return untestable("no seed was trained at every radius")
    best = found.best
    interval = interval_of([found.errors[largest][seed] - found.errors[best][seed] for seed in seeds])
    what = f"error at rho {largest:g} minus that at the best radius, {best:g}:"
    return decide_by_sign(interval, negative=False, what=what, size=MARGIN)


def best_radius_and_scale(found: Sequence[tuple[PredictionData, Evidence]]) -> Finding:
    """Part (c): Spearman's correlation over data sets of the best radius and SGD's gradient scale."""
    points = [
        (best, scale)
        for data, evidence in found
        if (best := evidence.plot.get("best")) is not None and (scale := _gradient_scale(data)) is not None
    ]
    if len(points) < LEAST_DATA_SETS:
        return untestable(f"{len(points)} data sets with a best radius and a gradient scale, {LEAST_DATA_SETS} needed")
    from scipy.stats import spearmanr

    correlation = float(spearmanr([best for best, _ in points], [scale for _, scale in points]).statistic)
    if not math.isfinite(correlation):
        return untestable("the best radius is the same on all data sets")
    interval = SeedInterval(correlation, None, None, len(points))
    return Finding(
        UNDECIDED, f"Spearman correlation {correlation:.2f} over {len(points)} data sets, reported", interval
    )


def _gradient_scale(data: PredictionData) -> float | None:
    """N = R / mean weight, mean over SGD's checkpoints and seeds."""
    scales = [
        scale
        for seed in range(data.design.seeds)
        for at in data.checkpoints(radius_rule(0.0), seed)
        if (scale := at.value("gradient_scale")) is not None
    ]
    return math.fsum(scales) / len(scales) if scales else None


_UNIT = "probing error"

PREDICTION = RealPrediction(
    name="R5",
    title="Best radius",
    statement="over rho the quality of the hard attribute first rises and then falls (collapse)",
    claim="C7, C8, C10, C22",
    estimator="probing error of the hard attribute at the end (mean over attribute groups) over rho, 0 being SGD; a run"
    " that diverged or collapsed counts as chance; t-intervals over seeds",
    rule=f"each part its own; {WHOLE_RULE}",
    parts=(
        PartSpec(
            "a", "rise: at some radius the error is below SGD's",
            "differences to SGD, p-values and intervals with Bonferroni's correction over the radii: holds if one is"
            f" below 0, reversed if all are above, absent if none is below -{MARGIN:g}; by corrected p-values", _UNIT,
        ),
        PartSpec(
            "b", "fall: at the largest radius the error is above the smallest mean error over all radii",
            f"holds if the difference is above 0, absent if it is below {MARGIN:g}; by corrected p-values", _UNIT,
        ),
    ),
    needs=("main", "scan", "ceiling"),
    judge=judge,
    across=(
        PartSpec(
            "c", "the best rho grows with the gradient scale of the features",
            f"reported; nothing with fewer than {LEAST_DATA_SETS} data sets", "Spearman correlation", counts=False,
        ),
        best_radius_and_scale,
    ),
)  # fmt: skip
