"""R8: in one and the same network, SAM's gain on the hard attribute is larger with a head that knows places (C38)."""

from __future__ import annotations

from collections.abc import Mapping

from realdata.predictions.data import PredictionData
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
from realdata.predictions.runs import HEADS, has_heads, with_head, with_rule
from realdata.results.summary import SGD, Rule, rule_name

LEAST_SEEDS = 3
ERROR = "mean_group_probing_error"
PLACED, OWN = "probe_placed", "probe"
"""Splits of the probe: the means of the upper and of the lower half of the last feature maps, which have the same
dimension under every head; and what the head itself sees."""

LOCAL, POOLED = HEADS

Errors = dict[int, float]
"""Hard probing error at the end of training, by seed."""


def errors_at_end(data: PredictionData, head: str, rule: Rule, split: str, attribute: str = "hard") -> Errors:
    """Errors of the runs with this head and update rule."""
    base = with_head(data.base, head)

    return data.at_end(lambda seed: with_rule(base, rule, seed), ERROR, attribute, split)


def gains(data: PredictionData, rule: Rule, split: str) -> dict[str, Errors]:
    """Error minus that of SGD at the same seed, for each head; negative numbers are gains."""
    return {
        head: paired_differences(*(errors_at_end(data, head, each, split) for each in (rule, SGD))) for head in HEADS
    }


def interaction(by_head: Mapping[str, Errors]) -> Errors:
    """Difference under the local head minus difference under the pooled head, by seed."""
    return paired_differences(by_head[LOCAL], by_head[POOLED])


def judge(data: PredictionData) -> Evidence:
    """Judge the interaction of SAM and head, and report the same for LSAM and for the features that each head sees."""
    if not has_heads(data.base):
        none = untestable(f"{data.base.model} has one head; networks with {' and '.join(HEADS)} can test this")
        return Evidence({spec.name: none for spec in PREDICTION.parts})
    plot: dict[str, dict[str, SeedInterval]] = {}
    findings = {"a": _part(data, data.design.sam, PLACED, plot)}
    lsam = data.design.lsam
    findings["b"] = untestable("no radius of LSAM (lsam_rho)") if lsam is None else _part(data, lsam, PLACED, plot)
    findings["c"] = _part(data, data.design.sam, OWN, plot)
    return Evidence(findings, plot)


def _part(data: PredictionData, rule: Rule, split: str, plot: dict[str, dict[str, SeedInterval]]) -> Finding:
    by_head = gains(data, rule, split)
    both = interaction(by_head)
    if not both:
        return untestable(f"no seed has the hard error of SGD and {rule_name(rule)} under both heads")
    found = {**{head: interval_of(by_head[head]) for head in HEADS}, "interaction": interval_of(both)}
    plot[rule_name(rule) + (", features of the head" if split == OWN else "")] = found
    words = ", ".join(f"{head} {found[head].text}" for head in HEADS)
    return decide_by_sign(
        found["interaction"], negative=True, what=f"{rule_name(rule)} minus SGD: {words}; {LOCAL} minus {POOLED}",
        least=LEAST_SEEDS,
    )  # fmt: skip


_UNIT = "probing error"

PREDICTION = RealPrediction(
    name="R8",
    title="The head decides",
    statement="SAM gains more on the hard attribute with a head that knows places than with one that averages them",
    claim="C38",
    estimator=(
        f"(SAM - SGD) with the head {LOCAL} minus (SAM - SGD) with the head {POOLED}, at the same seed: mean over"
        " attribute groups of the hard probing error at the end of training, on the means of the upper and the lower"
        f" half of the last feature maps; t-interval over seeds (at least {LEAST_SEEDS})"
    ),
    rule=SIGN_RULE_NEGATIVE,
    parts=(
        PartSpec("a", "SAM, features of both halves", SIGN_RULE_NEGATIVE, _UNIT),
        PartSpec("b", "LSAM, features of both halves", SIGN_RULE_NEGATIVE, _UNIT, counts=False),
        PartSpec("c", "SAM, the features that each head sees", SIGN_RULE_NEGATIVE, _UNIT, counts=False),
    ),
    needs=("heads",),
    judge=judge,
)
