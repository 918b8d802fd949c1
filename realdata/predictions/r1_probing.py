"""R1: SAM lowers the hard attribute's probing error and does not raise the easy one's by much."""

from __future__ import annotations

import math
from collections.abc import Sequence

from realdata.predictions.data import PredictionData
from realdata.predictions.dynamic_range import with_range
from realdata.predictions.intervals import SeedInterval, interval_of, paired_differences
from realdata.predictions.prediction import (
    FAILS,
    HOLDS,
    REVERSED,
    SMALLEST_EFFECT,
    WHOLE_RULE,
    Evidence,
    Finding,
    PartSpec,
    RealPrediction,
    Tested,
    decide,
    gain_excluded,
    too_few,
    untestable,
)
from realdata.predictions.runs import tuning_pairs
from realdata.results.summary import SGD, Rule

LEAST_SEEDS = {"a": 5, "b": 5, "c": 3}
"""Minimum number of seeds for each part. The further pairs of (c) use the seeds of the scan."""

EASY_ALLOWANCE = 0.02
"""Largest allowed increase of the easy attribute's error."""

ERROR = "mean_group_probing_error"

Pair = tuple[float, float]
"""A pair of learning rate and weight decay."""

Numbers = dict[int, float]


def judge(data: PredictionData) -> Evidence:
    """Judge the three comparisons (a), (b) and (c)."""
    findings: dict[str, Finding] = {}
    plot: dict[str, dict[str, SeedInterval]] = {}
    hard, easy = data.values(ERROR, "hard"), data.values(ERROR, "easy")
    levels = data.matched_levels(hard, (SGD, data.design.sam))
    if levels:
        where = f"at the matched losses {', '.join(f'{level:g}' for level in levels)}"
        both = [data.difference_at_levels(values, data.design.sam, levels) for values in (hard, easy)]
        findings["a"] = _decided(both, where, plot, "a")
    else:
        findings["a"] = untestable(data.why_no_level(hard, (SGD, data.design.sam)))
    both = [data.difference(values, data.design.sam, None) for values in (hard, easy)]
    findings["b"] = _decided(both, "at the end", plot, "b")
    asked = data.design.seeds
    # Else (c), which may have fewer seeds, would be the verdict alone.
    enough = asked >= LEAST_SEEDS["b"]
    findings["c"] = _tuned(data, plot) if enough else untestable(f"R1 has {asked} seeds, at least {LEAST_SEEDS['b']}")
    return Evidence(with_range(findings, data), plot)


def _decided(both: Sequence[Numbers], where: str, plot: dict[str, dict[str, SeedInterval]], name: str) -> Finding:
    """Finding from differences by seed of the hard and the easy attribute; adds what is drawn to ``plot``."""
    hard, easy = both
    if not hard:
        return untestable(f"no seed has the hard probing error of both SGD and SAM {where}")
    found = interval_of(hard)
    plot[name] = {"hard": found}
    other = None
    if easy:
        other = plot[name]["easy"] = interval_of(easy)
    few = too_few(found, LEAST_SEEDS[name])
    if few is not None:
        return few
    reason = f"{where}: hard {found.text}, " + (f"easy {other.text}" if other else "no easy attribute")
    outcome, p = _outcome(found, other)
    return decide(Tested(reason, outcome, p, gain_excluded(found, negative=True)), found)


def _outcome(hard: SeedInterval, easy: SeedInterval | None) -> tuple[str, float]:
    """What the estimates point to, and its p-value."""
    p, beyond = hard.p(), easy.p(EASY_ALLOWANCE) if easy else 0.0
    if hard.mean < 0 and (easy is None or easy.mean <= EASY_ALLOWANCE):
        # Both halves must be shown.
        return HOLDS, max(p, beyond)
    if easy is None or easy.mean <= EASY_ALLOWANCE:
        return REVERSED, p
    if hard.mean < 0:
        return FAILS, beyond
    # Both point away from the prediction, and the clearer one is chosen: doubled for the choice.
    return (REVERSED, min(1.0, 2 * p)) if p <= beyond else (FAILS, min(1.0, 2 * beyond))


def _tuned(data: PredictionData, plot: dict[str, dict[str, SeedInterval]]) -> Finding:
    pairs = _complete_pairs(data)
    if len(pairs) < 2:
        return untestable("fewer than two pairs of learning rate and weight decay were trained for both SGD and SAM")
    best = {rule: _best(data, rule, pairs) for rule in (SGD, data.design.sam)}
    numbers = []
    for attribute in ("hard", "easy"):
        plain, sam = (_at_end(data, rule, ERROR, attribute, "probe", pair) for rule, pair in best.items())
        numbers.append(paired_differences(sam, plain))
    chosen = ", ".join(
        f"{'SGD' if rule == SGD else 'SAM'} at learning rate {rate:g} and weight decay {decay:g}"
        for rule, (rate, decay) in best.items()
    )
    return _decided(numbers, f"at the end, {chosen}", plot, "c")


def _complete_pairs(data: PredictionData) -> list[Pair]:
    """Pairs for which the runs of both methods are finished for every seed of the scan."""
    seeds = set(range(min(data.design.scan_seeds, data.design.seeds)))
    return [
        pair
        for pair in tuning_pairs(data.base)
        if all(
            seeds <= set(_at_end(data, rule, _accuracy(data), "", "validation", pair))
            for rule in (SGD, data.design.sam)
        )
    ]  # fmt: skip


def _accuracy(data: PredictionData) -> str:
    """Accuracy on validation images that are correlated as the training images are: groups count by their sizes there.

    Data sets with a target environment have no such groups; their validation images are like those for training.
    """
    return "accuracy" if data.target else "adjusted_accuracy"


def _best(data: PredictionData, rule: Rule, pairs: list[Pair]) -> Pair:
    """The pair with the highest mean :func:`_accuracy` over the seeds that all pairs have; ties: lowest loss."""
    accuracy = {pair: _at_end(data, rule, _accuracy(data), "", "validation", pair) for pair in pairs}
    name = "loss" if data.target else "adjusted_loss"
    loss = {pair: _at_end(data, rule, name, "", "validation", pair) for pair in pairs}
    shared = set.intersection(*(set(found) for found in accuracy.values()))

    def merit(pair: Pair) -> tuple[float, float]:
        losses = [loss[pair].get(seed, math.inf) for seed in shared]
        return round(math.fsum(accuracy[pair][seed] for seed in shared) / len(shared), 12), -math.fsum(losses)

    return max(pairs, key=merit)


def _at_end(data: PredictionData, rule: Rule, metric: str, attribute: str, split: str, pair: Pair) -> Numbers:
    if pair != (data.base.lr, data.base.weight_decay) and pair not in data.tuned:
        return {}
    return data.at(data.values(metric, attribute, split, pair), rule, None)


_RULE = (
    f"holds if the hard difference is below 0 and the easy one below +{EASY_ALLOWANCE:g}, reversed if the hard one is"
    f" above 0, fails if the easy one is above +{EASY_ALLOWANCE:g}, absent if the hard error is lower by less than"
    f" {SMALLEST_EFFECT:g}; by corrected p-values"
)
_UNIT = "probing error"

PREDICTION = RealPrediction(
    name="R1",
    title="Probing error",
    statement="SAM's probing error of the hard attribute is below SGD's, that of the easy one is not much above",
    claim="C7, C12, C22",
    estimator=(
        "mean over attribute groups of the probing error, SAM minus SGD at the same seed; t-interval over seeds"
        f" (at least {LEAST_SEEDS['a']}, for (c) {LEAST_SEEDS['c']})"
    ),
    rule=f"each part {_RULE}; {WHOLE_RULE}",
    parts=(
        PartSpec("a", "at matched training loss", f"{_RULE}; mean over the matched levels", _UNIT),
        PartSpec("b", "at the end of equally long training", _RULE, _UNIT),
        PartSpec(
            "c", "each method at its own learning rate and weight decay",
            f"{_RULE}; pairs chosen by the accuracy on validation images correlated as in training", _UNIT,
        ),
    ),
    needs=("main", "tuning", "ceiling"),
    judge=judge,
)  # fmt: skip
