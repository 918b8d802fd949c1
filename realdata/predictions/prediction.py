"""What a prediction is, what a verdict rests on, and the decisions that several predictions share.

All decision rules were fixed before the data were seen. An interval is Student's t-interval over one number per seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from realdata.predictions.intervals import SeedInterval

if TYPE_CHECKING:
    from realdata.predictions.data import PredictionData

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
VERDICTS = (HOLDS, FAILS, UNDECIDED)

LEAST_SEEDS = 3
"""With fewer seeds nothing is decided."""


@dataclass(frozen=True)
class PartSpec:
    """A part of a prediction.

    Attributes:
        name: "a", "b", ...; "" where the prediction has one part.
        statement: what is claimed. rule: when it holds, fails, is undecided. unit: of the estimate.
        counts: whether it goes into the verdict, or is only reported.
    """

    name: str
    statement: str
    rule: str
    unit: str
    counts: bool = True


@dataclass(frozen=True)
class Finding:
    """What was found on one part.

    Attributes:
        verdict: one of :data:`VERDICTS`. reason: why, in words.
        interval: estimate and its interval; None where there is none.
        testable: False where the data cannot speak on it: it is undecided and left out of the whole verdict.
    """

    verdict: str
    reason: str
    interval: SeedInterval | None = None
    testable: bool = True


@dataclass(frozen=True)
class Evidence:
    """All that one prediction found on one data set.

    Attributes:
        findings: per name of a part. plot: numbers that its figure shows.
    """

    findings: Mapping[str, Finding]
    plot: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RealPrediction:
    """A prediction of the theory for real data.

    Attributes:
        name: "R1" to "R7". title: a few words. statement: what is predicted.
        claim: which claims of docs/theory.md it rests on. estimator: what is measured. rule: how it is decided.
        parts: see :class:`PartSpec`. needs: parts of the trainings (:data:`realdata.predictions.runs.PARTS`), or
            "filter" for the measurement of R7.
        judge: from the data of one base setting to what was found.
        across: names of parts that compare data sets, and how they are judged from the data of all of them.
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


def untestable(reason: str) -> Finding:
    """Undecided, since the data cannot speak on it."""
    return Finding(UNDECIDED, reason, testable=False)


def too_few(interval: SeedInterval, least: int = LEAST_SEEDS) -> Finding | None:
    """Undecided for want of seeds, or None where there are enough."""
    if interval.n >= least:
        return None
    seeds = f"{interval.n} seed{'s' if interval.n != 1 else ''}"
    return Finding(UNDECIDED, f"{seeds}, a verdict needs {least}", interval, testable=False)


def decide_by_sign(interval: SeedInterval, *, negative: bool, what: str, least: int = LEAST_SEEDS) -> Finding:
    """Holds where the whole interval has the predicted sign, fails where it has the other one.

    Args:
        negative: whether a negative number is predicted. what: name of the number, for the reason.
    """
    few = too_few(interval, least)
    if few is not None:
        return few
    text = f"{what} {interval.text}"
    if interval.lies_below(0.0):
        return Finding(HOLDS if negative else FAILS, f"{text} lies below 0", interval)
    if interval.lies_above(0.0):
        return Finding(FAILS if negative else HOLDS, f"{text} lies above 0", interval)
    return Finding(UNDECIDED, f"{text} includes 0", interval)


def combine(specs: Sequence[PartSpec], findings: Mapping[str, Finding]) -> Finding:
    """The verdict over the parts that count.

    Holds if all testable parts hold; fails if one fails and none holds; else undecided.
    """
    counted = [(spec, findings[spec.name]) for spec in specs if spec.counts]
    if len(counted) == 1:
        return counted[0][1]
    testable = [(spec, finding) for spec, finding in counted if finding.testable]
    if not testable:
        reason = "; ".join(f"({spec.name}) {finding.reason}" for spec, finding in counted)
        return Finding(UNDECIDED, f"no part can be tested: {reason}", counted[0][1].interval, testable=False)
    verdicts = [finding.verdict for _, finding in testable]
    if all(verdict == HOLDS for verdict in verdicts):
        whole = HOLDS
    elif FAILS in verdicts and HOLDS not in verdicts:
        whole = FAILS
    else:
        whole = UNDECIDED
    words = ", ".join(f"({spec.name}) {finding.verdict}" for spec, finding in testable)
    left_out = [spec.name for spec, finding in counted if not finding.testable]
    words += f"; not testable: {', '.join(f'({name})' for name in left_out)}" if left_out else ""
    return Finding(whole, words, testable[0][1].interval)
