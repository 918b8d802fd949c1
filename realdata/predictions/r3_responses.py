"""R3: the last-layer phantom suppresses the head's response to the hard attribute less than that to the easy one."""

from __future__ import annotations

from realdata.predictions.data import At, PredictionData
from realdata.predictions.intervals import interval_of, mean_per_seed
from realdata.predictions.prediction import (
    SIGN_RULE_POSITIVE,
    Evidence,
    PartSpec,
    RealPrediction,
    decide_by_sign,
    untestable,
)
from realdata.results.summary import SGD

LEAST_SHARE = 0.5
"""Share of the checkpoints that must have positive responses to both attributes."""


def judge(data: PredictionData) -> Evidence:
    """Compare the suppression of both responses at the checkpoints of SGD and SAM."""
    if not data.has_easy:
        return Evidence({"": untestable("not measurable: the data have no easy attribute, or nothing was measured")})
    differences: dict[int, list[float]] = {}
    points: list[dict[str, float | str]] = []
    seen = 0
    for rule, name in ((SGD, "SGD"), (data.design.sam, "SAM")):
        for seed in range(data.design.seeds):
            for at in data.checkpoints(rule, seed):
                seen += 1
                both = _suppression(at)
                if both is not None:
                    hard, easy = both
                    differences.setdefault(seed, []).append(hard - easy)
                    points.append({"method": name, "loss": at.training_loss, "hard": hard, "easy": easy})
    used = sum(len(each) for each in differences.values())
    plot = {"points": points}
    if used < LEAST_SHARE * seen or not used:
        reason = f"the head responds positively to both attributes at {used} of {seen} checkpoints; half are needed"
        return Evidence({"": untestable(reason)}, plot)
    interval = interval_of(mean_per_seed(differences))
    finding = decide_by_sign(interval, negative=False, what=f"hard minus easy at {used} of {seen} checkpoints")
    return Evidence({"": finding}, plot)


def _suppression(at: At) -> tuple[float, float] | None:
    """(Hard, easy) v~_k / v_k of a checkpoint where both responses are positive."""
    real = [at.value("head_response_real", attribute) for attribute in ("hard", "easy")]
    ratio = [at.value("head_suppression", attribute) for attribute in ("hard", "easy")]
    if any(value is None or value <= 0 for value in real) or ratio[0] is None or ratio[1] is None:
        return None
    return ratio[0], ratio[1]


_RULE = SIGN_RULE_POSITIVE

PREDICTION = RealPrediction(
    name="R3",
    title="Head responses",
    statement="at the last-layer phantom point the head's response to the easy attribute is suppressed more than"
    " that to"
    " the hard one. The claim is conditional, this tests whether real networks meet its condition"
    " D_hard w_hard / v_hard < D_easy w_easy / v_easy",
    claim="C12, C21",
    estimator="v~/v of the hard attribute minus that of the easy one, along the probes' directions, mean over the"
    " checkpoints of SGD and SAM at which both responses are positive; t-interval over seeds",
    rule=f"{_RULE}; undecided if both responses are positive at fewer than half of the checkpoints",
    parts=(PartSpec("", "hard suppression factor above the easy one", _RULE, "difference of v~/v"),),
    needs=("main",),
    judge=judge,
    needs_easy=True,
)
