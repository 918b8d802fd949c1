"""What a prediction is, what a verdict rests on, and the decisions that several predictions share.

All decision rules were fixed before the data were seen. An interval is Student's t-interval over one number per seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from realdata.summary import CONFIDENCE, t_interval

if TYPE_CHECKING:
    from realdata.predictions.data import PredictionData

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
VERDICTS = (HOLDS, FAILS, UNDECIDED)

LEAST_SEEDS = 3
"""With fewer seeds nothing is decided."""

MATCH = 1.1
"""A level is matched if the mean training losses there differ by at most this factor."""


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, ``low`` and ``high`` None for fewer than two numbers; ``n`` numbers behind it."""

    mean: float
    low: float | None
    high: float | None
    n: int
    confidence: float = CONFIDENCE

    def lies_within(self, low: float, high: float) -> bool:
        """Whether the whole interval does."""
        return self.low is not None and self.high is not None and low <= self.low and self.high <= high

    def lies_below(self, bound: float) -> bool:
        """Whether the whole interval does, strictly."""
        return self.high is not None and self.high < bound

    def lies_above(self, bound: float) -> bool:
        """Whether the whole interval does, strictly."""
        return self.low is not None and self.low > bound

    @property
    def excludes_zero(self) -> bool:
        """Whether it lies on one side of 0."""
        return self.lies_below(0.0) or self.lies_above(0.0)

    @property
    def text(self) -> str:
        """``-0.012 [-0.020, -0.004]``."""
        return written(self.mean, self.low, self.high)


def written(mean: float | None, low: float | None, high: float | None) -> str:
    """An estimate and its interval with three decimals, large numbers with three digits; a dash for none."""
    if mean is None:
        return "—"
    text = _number(mean)
    return text if low is None or high is None else f"{text} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"
    return text.replace("-", "−")


def interval_of(numbers: Mapping[int, float] | Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The t-interval of numbers, of which there is at least one (per seed)."""
    values = list(numbers.values()) if isinstance(numbers, Mapping) else list(numbers)
    mean, half = t_interval(values, confidence)
    if half is None:
        return Interval(mean, None, None, len(values), confidence)
    return Interval(mean, mean - half, mean + half, len(values), confidence)


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
    interval: Interval | None = None
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
class Prediction:
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


def too_few(interval: Interval, least: int = LEAST_SEEDS) -> Finding | None:
    """Undecided for want of seeds, or None where there are enough."""
    if interval.n >= least:
        return None
    seeds = f"{interval.n} seed{'s' if interval.n != 1 else ''}"
    return Finding(UNDECIDED, f"{seeds}, a verdict needs {least}", interval, testable=False)


def decided_by_sign(interval: Interval, *, negative: bool, what: str, least: int = LEAST_SEEDS) -> Finding:
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


def combined(specs: Sequence[PartSpec], findings: Mapping[str, Finding]) -> Finding:
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


def mean_per_seed(numbers: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Mean of each seed's numbers, for seeds that have some."""
    return {seed: math.fsum(values) / len(values) for seed, values in sorted(numbers.items()) if values}
