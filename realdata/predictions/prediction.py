"""Predictions, their evidence and verdicts, and decision rules that several predictions share.

An interval is Student's t-interval over one number per seed. Estimates and intervals were fixed before the data were
seen. After the first data had been seen, absent and no dynamic range were added, and p-values are corrected, see
:mod:`realdata.predictions.correction`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from realdata.predictions.intervals import SeedInterval
from sambalance_tools.statistics import CONFIDENCE, smallest_detectable_effect

if TYPE_CHECKING:
    from realdata.predictions.data import PredictionData

HOLDS, UNDECIDED = "holds", "undecided"
REVERSED = "reversed"
"""The difference is clear, in the direction opposite to the predicted one."""
ABSENT = "absent"
"""A predicted difference of :data:`SMALLEST_EFFECT` or more is excluded."""
FAILS = "fails"
"""A number lies outside the range that the prediction allows (slopes, ratios, the easy attribute's error)."""
NO_RANGE = "no dynamic range"
"""SGD's training hardly moves the hard attribute's error, so SAM's effect on it says nothing."""
CONTRADICTED = (REVERSED, FAILS, ABSENT)
VERDICTS = (HOLDS, *CONTRADICTED, NO_RANGE, UNDECIDED)

ALPHA = round(1 - CONFIDENCE, 9)
"""A corrected p-value below this decides."""

WHOLE_RULE = (
    "the whole holds if all parts hold; reversed or fails if one part is or does and none holds; absent if all are;"
    " undecided if it would hold but for a part that cannot be tested"
)

SMALLEST_EFFECT = 0.01
"""An effect is absent if effects of this size or more are excluded.

The judged differences are of errors, Gini coefficients and suppression factors, which all run from 0 to 1: this is one
hundredth of their range. It is the margin that R5 had for the error before the data were seen.
"""

LEAST_SEEDS = 3
"""With fewer seeds, the verdict is undecided."""


SIGN_RULE_NEGATIVE = (
    f"holds if the difference is below 0, reversed if above, absent if it is not below -{SMALLEST_EFFECT:g}; by"
    " corrected p-values"
)
SIGN_RULE_POSITIVE = (
    f"holds if the difference is above 0, reversed if below, absent if it is not above {SMALLEST_EFFECT:g}; by"
    " corrected p-values"
)


@dataclass(frozen=True)
class PartSpec:
    """A part of a prediction.

    Attributes:
        name: "a", "b", ...; "" where the prediction has one part.
        statement: the claim. rule: when it holds, fails or is undecided. unit: unit of the estimate.
        counts: whether it contributes to the verdict or is only reported.
    """

    name: str
    statement: str
    rule: str
    unit: str
    counts: bool = True


@dataclass(frozen=True)
class Tested:
    """Tests of one part, from which the verdict follows once their p-values are corrected.

    Attributes:
        text: the numbers in words.
        outcome: the verdict if ``p`` is small: :data:`HOLDS`, :data:`REVERSED` or :data:`FAILS`, by the estimate.
        p: p-value of "there is no difference" (or of the bound, for :data:`FAILS`).
        p_absent: p-value of "the predicted difference is ``size`` or more".
        size: the smallest effect that counts, see :data:`SMALLEST_EFFECT`.
        remarks: words at the end of the reason.
    """

    text: str
    outcome: str
    p: float
    p_absent: float
    size: float = SMALLEST_EFFECT
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Result for one part of a prediction.

    Attributes:
        verdict: one of :data:`VERDICTS`. reason: why, in words.
        interval: estimate with its interval; None if there is none.
        testable: False if the data cannot test it; the whole prediction then cannot hold.
        tested: tests that decide; None where no test does.
        p, p_absent: their p-values; of a whole prediction, those of the parts that decide.
        p_corrected, p_absent_corrected: the same, corrected for the number of tests.
        detectable: the smallest effect that the test finds with a power of 80 %.
    """

    verdict: str
    reason: str
    interval: SeedInterval | None = None
    testable: bool = True
    tested: Tested | None = None
    p: float | None = None
    p_corrected: float | None = None
    p_absent: float | None = None
    p_absent_corrected: float | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Evidence:
    """All results of one prediction on one data set.

    Attributes:
        findings: finding of each part, by name. plot: numbers for the figure.
    """

    findings: Mapping[str, Finding]
    plot: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RealPrediction:
    """A prediction of the theory for real data.

    Attributes:
        name: "R1", "R2", ... title: a few words. statement: what is predicted.
        claim: the claims of docs/theory.md behind it, if any. estimator: what is measured. rule: how it is decided.
        parts: see :class:`PartSpec`. needs: parts of the trainings (:data:`realdata.predictions.runs.PARTS`), or
            "filter" for the measurement of R7.
        needs_easy: whether it can be tested only on data with an easy attribute.
        judge: function from the data of one base setting to the evidence.
        across: parts that compare data sets, by name, with functions that judge them on all data sets.
    """

    name: str
    title: str
    statement: str
    claim: str
    estimator: str
    rule: str
    parts: tuple[PartSpec, ...]
    needs: tuple[str, ...]
    judge: Callable[[PredictionData], Evidence]
    across: tuple[PartSpec, Callable[[Sequence[tuple[PredictionData, Evidence]]], Finding]] | None = None
    needs_easy: bool = False


def untestable(reason: str) -> Finding:
    """An undecided finding because the data cannot test the prediction."""
    return Finding(UNDECIDED, reason, testable=False)


def too_few(interval: SeedInterval, least: int = LEAST_SEEDS) -> Finding | None:
    """An undecided finding if there are too few seeds; None if there are enough."""
    if interval.n >= least:
        return None
    seeds = f"{interval.n} seed{'s' if interval.n != 1 else ''}"
    return Finding(UNDECIDED, f"{seeds}, a verdict needs {least}", interval, testable=False)


def decide(
    tested: Tested,
    interval: SeedInterval,
    p: float | None = None,
    p_absent: float | None = None,
    tests: int = 1,
) -> Finding:
    """The finding that follows from tests.

    Args:
        interval: estimate. p, p_absent: corrected p-values; by default those of ``tested``, not corrected.
        tests: number of tests that were corrected for; the smallest detectable effect is at the level ALPHA / tests.
    """
    p = tested.p if p is None else p
    p_absent = tested.p_absent if p_absent is None else p_absent
    detectable = None
    if interval.sd is not None and interval.n >= 2:
        detectable = smallest_detectable_effect(interval.sd, interval.n, ALPHA / tests)
    if p < ALPHA:
        verdict, words = tested.outcome, f"p = {tested.p:.2g}, corrected {p:.2g}"
    elif p_absent < ALPHA:
        verdict = ABSENT
        words = f"the predicted effect is below {tested.size:g}: p = {tested.p_absent:.2g}, corrected {p_absent:.2g}"
    else:
        verdict, words = UNDECIDED, f"p = {tested.p:.2g}, corrected {p:.2g}"
        if detectable is not None:
            words += f"; an effect of {detectable:.2g} would have been found with a power of 80 %"
    reason = "; ".join([tested.text, words, *tested.remarks])
    return Finding(
        verdict, reason, interval, True, tested, tested.p, p, tested.p_absent, p_absent, detectable
    )  # fmt: skip


def with_remarks(finding: Finding, remarks: Sequence[str]) -> Finding:
    """The finding with more words at the end of its reason."""
    if not remarks:
        return finding
    tested = finding.tested
    if tested is not None:
        tested = replace(tested, remarks=(*tested.remarks, *remarks))
    return replace(finding, reason="; ".join([finding.reason, *remarks]), tested=tested)


def decide_by_sign(
    interval: SeedInterval,
    *,
    negative: bool,
    what: str,
    least: int = LEAST_SEEDS,
    size: float = SMALLEST_EFFECT,
) -> Finding:
    """Holds if the difference has the predicted sign, reversed if the opposite, absent if it is below ``size``.

    Args:
        negative: whether a negative number is predicted. what: name of the number in the reason.
    """
    few = too_few(interval, least)
    if few is not None:
        return few
    outcome = HOLDS if (interval.mean < 0) == negative else REVERSED
    tested = Tested(f"{what} {interval.text}", outcome, interval.p(), gain_excluded(interval, negative, size), size)
    return decide(tested, interval)


def gain_excluded(interval: SeedInterval, negative: bool, size: float = SMALLEST_EFFECT) -> float:
    """p-value of "the predicted difference is ``size`` or more": one of the two tests of an equivalence test.

    Args:
        negative: whether a negative difference is predicted.
    """
    return interval.p(-size, "greater") if negative else interval.p(size, "less")


def combine(specs: Sequence[PartSpec], findings: Mapping[str, Finding]) -> Finding:
    """The verdict over the parts that count.

    Holds if all parts hold; a part that cannot be tested never makes it hold. Reversed or fails if one part is or does
    and none holds; absent if all parts are absent; no dynamic range if a part has none; else undecided.
    """
    counted = [(spec, findings[spec.name]) for spec in specs if spec.counts]
    if len(counted) == 1:
        return counted[0][1]
    verdicts = [finding.verdict for _, finding in counted]
    testable = [(spec, finding) for spec, finding in counted if finding.testable]
    if not testable and NO_RANGE not in verdicts:
        reason = "; ".join(f"({spec.name}) {finding.reason}" for spec, finding in counted)
        return Finding(UNDECIDED, f"no part can be tested: {reason}", counted[0][1].interval, testable=False)
    shown = [(spec, finding) for spec, finding in counted if finding.testable or finding.verdict == NO_RANGE]
    words = ", ".join(f"({spec.name}) {finding.verdict}" for spec, finding in shown)
    left_out = [spec.name for spec, finding in counted if (spec, finding) not in shown]
    words += f"; not testable: {', '.join(f'({name})' for name in left_out)}" if left_out else ""
    whole = _whole(verdicts)
    if whole in (UNDECIDED, NO_RANGE):
        return Finding(whole, words, shown[0][1].interval, testable=whole == UNDECIDED)
    deciding = [finding for _, finding in shown if finding.verdict == whole]
    # All must hold or be absent, so the largest p-value decides; a single reversed part decides by itself.
    pick = max if whole in (HOLDS, ABSENT) else min
    return Finding(
        whole, words, shown[0][1].interval,
        p=_picked(pick, [finding.p for finding in deciding]),
        p_corrected=_picked(pick, [finding.p_corrected for finding in deciding]),
        p_absent=_picked(pick, [finding.p_absent for finding in deciding]),
        p_absent_corrected=_picked(pick, [finding.p_absent_corrected for finding in deciding]),
    )  # fmt: skip


def _whole(verdicts: Sequence[str]) -> str:
    if NO_RANGE in verdicts:
        return NO_RANGE
    for unanimous in (HOLDS, ABSENT):
        if all(verdict == unanimous for verdict in verdicts):
            return unanimous
    if HOLDS not in verdicts:
        for one in (REVERSED, FAILS):
            if one in verdicts:
                return one
    return UNDECIDED


def _picked(pick: Callable[[list[float]], float], numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return pick(known) if known and len(known) == len(numbers) else None
