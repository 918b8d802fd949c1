"""R12: SAM in the first half of the training keeps more of its gain than SAM in the second half (C42)."""

from __future__ import annotations

from collections.abc import Callable

from realdata.configuration import RunConfiguration
from realdata.predictions.data import PredictionData
from realdata.predictions.dynamic_range import with_range
from realdata.predictions.intervals import SeedInterval, interval_of, paired_differences
from realdata.predictions.prediction import (
    SIGN_RULE_NEGATIVE,
    Evidence,
    Finding,
    PartSpec,
    RealPrediction,
    decide_by_sign,
    untestable,
)
from realdata.predictions.runs import first_half, second_half, with_rule
from realdata.results.summary import SGD, Rule

ERROR = "mean_group_probing_error"

WHEN: dict[str, Callable[[RunConfiguration], RunConfiguration]] = {
    "throughout": lambda sam: sam, "first half": first_half, "second half": second_half,
}  # fmt: skip
"""Schedules of SAM, by name."""


def judge(data: PredictionData) -> Evidence:
    """Judge first half minus second half; report how much of SAM's gain each half keeps."""

    def errors_of(rule: Rule, when: Callable[[RunConfiguration], RunConfiguration]) -> dict[int, float]:
        return data.at_end(lambda seed: when(with_rule(data.base, rule, seed)), ERROR, "hard")

    plain = errors_of(SGD, WHEN["throughout"])
    errors = {name: errors_of(data.design.sam, when) for name, when in WHEN.items()}
    plot: dict[str, SeedInterval] = {}
    for name, found in errors.items():
        shared = paired_differences(found, plain)
        if shared:
            plot[name] = interval_of(shared)
    findings = {
        "a": _difference(errors["first half"], errors["second half"], "first half minus second half"),
        "b": _difference(errors["first half"], errors["throughout"], "first half minus throughout"),
    }
    return Evidence(with_range(findings, data), plot)


def _difference(one: dict[int, float], other: dict[int, float], what: str) -> Finding:
    shared = paired_differences(one, other)
    if not shared:
        return untestable(f"no seed has the hard error of both: {what}")
    return decide_by_sign(interval_of(shared), negative=True, what=what)


PREDICTION = RealPrediction(
    name="R12",
    title="When SAM matters",
    statement="SAM in the first half of training lowers the hard attribute's error more than SAM in the second half",
    claim="C42",
    estimator=(
        "hard probing error at the end, SAM in the first half of the epochs only minus SAM in the second half only, at"
        " the same seed; t-interval over seeds"
    ),
    rule=SIGN_RULE_NEGATIVE,
    parts=(
        PartSpec("a", "first half against second half", SIGN_RULE_NEGATIVE, "probing error"),
        PartSpec("b", "first half against SAM throughout", SIGN_RULE_NEGATIVE, "probing error", counts=False),
    ),
    needs=("main", "halves", "ceiling"),
    judge=judge,
)
