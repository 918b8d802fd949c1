"""Does training move the hard attribute's error at all? Where it does not, SAM's effect on it says nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from realdata.predictions.data import PredictionData
from realdata.predictions.prediction import NO_RANGE, Finding, with_remarks
from realdata.predictions.runs import with_rule
from realdata.results.summary import SGD

ERROR = "mean_group_probing_error"


@dataclass(frozen=True)
class DynamicRange:
    """How far SGD moves the hard error.

    Attributes:
        fraction: see :func:`dynamic_range`; None if unknown. flat: whether that is less than SGD's scatter over seeds.
        words: the same in words.
        untrained: mean error before training. ceiling: mean error of networks trained on the hard attribute alone. None
            if they were not measured.
    """

    fraction: float | None
    flat: bool
    words: str
    untrained: float | None = None
    ceiling: float | None = None

    def share(self, error: float) -> float | None:
        """Where an error lies on the way from the untrained network's (0) to the ceiling's (1), or, without a ceiling,
        to 0; None if unknown."""
        if self.untrained is None:
            return None
        found = dynamic_range([self.untrained], [error], None if self.ceiling is None else [self.ceiling])
        return None if math.isnan(found) else found


def dynamic_range(
    untrained_errors: Sequence[float], sgd_errors: Sequence[float], ceiling_errors: Sequence[float] | None = None
) -> float:
    """Fraction of the way from the untrained network's error to the best possible one that SGD's training covers.

    Args:
        untrained_errors, sgd_errors: shape (seeds,), errors of the hard attribute before and after training.
        ceiling_errors: shape (any,), errors of networks that do as well as possible, such as ones trained on the hard
            attribute; None for an error of 0.

    Returns:
        The fraction; negative if training raises the error, NaN if the untrained network is as good as the ceiling.

    Example:
        >>> round(dynamic_range([0.5, 0.5], [0.4, 0.38], [0.1, 0.1]), 3)
        0.275
    """
    start, end = statistics.fmean(untrained_errors), statistics.fmean(sgd_errors)
    ceiling = statistics.fmean(ceiling_errors) if ceiling_errors else 0.0
    return (start - end) / (start - ceiling) if start > ceiling else math.nan


def is_flat(untrained_errors: Sequence[float], sgd_errors: Sequence[float]) -> bool:
    """Whether SGD moves the mean error, up or down, by less than the standard deviation of its errors over seeds."""
    moved = statistics.fmean(untrained_errors) - statistics.fmean(sgd_errors)
    return abs(moved) < statistics.stdev(sgd_errors)


def range_of(data: PredictionData) -> DynamicRange:
    """The range of the hard error at the end of SGD's training, over seeds measured before training (at step 0)."""
    starts, ends = untrained_by_seed(data), data.at_end(lambda seed: with_rule(data.base, SGD, seed), ERROR, "hard")
    pairs = [(start, ends[seed]) for seed, start in starts.items() if seed in ends]
    if len(pairs) < 2:
        return DynamicRange(None, False, "dynamic range unknown")
    untrained, trained = [start for start, _ in pairs], [error for _, error in pairs]
    ceilings = ceiling_errors(data)
    fraction = dynamic_range(untrained, trained, ceilings or None)
    start, best = statistics.fmean(untrained), statistics.fmean(ceilings) if ceilings else None
    if is_flat(untrained, trained):
        words = (
            f"SGD takes the hard error from {statistics.fmean(untrained):.3f} to {statistics.fmean(trained):.3f}, less"
            f" than its scatter over seeds, {statistics.stdev(trained):.3f}"
        )
        return DynamicRange(fraction, True, words, start, best)
    to = "0, as no ceiling was measured" if best is None else f"{best:.3f}, the error of training on it alone"
    words = f"dynamic range {fraction:.2f} of the way from the untrained error {start:.3f} to {to}"
    return DynamicRange(fraction, False, words, start, best)


def ceilings_by_seed(data: PredictionData, attribute: str = "hard") -> dict[int, float]:
    """An attribute's errors at the end of training on it alone, for the seeds that have them."""
    ends = {seed: data.ceiling(attribute, seed) for seed in range(data.design.scan_seeds)}
    errors = {seed: at.value(ERROR, attribute, "probe") for seed, at in ends.items() if at is not None}
    return {seed: error for seed, error in errors.items() if error is not None}


def ceiling_errors(data: PredictionData, attribute: str = "hard") -> list[float]:
    """The errors of :func:`ceilings_by_seed`."""
    return list(ceilings_by_seed(data, attribute).values())


def untrained_by_seed(data: PredictionData) -> dict[int, float]:
    """Hard errors before the first step; SGD and SAM start from the same network, so either has them."""
    found: dict[int, float] = {}
    for seed in range(data.design.seeds):
        for rule in (SGD, data.design.sam):
            at = data.untrained(rule, seed)
            if at is not None and (error := at.value(ERROR, "hard", "probe")) is not None:
                found.setdefault(seed, error)
    return found


def with_range(findings: Mapping[str, Finding], data: PredictionData) -> dict[str, Finding]:
    """The findings, with "no dynamic range" for those that could otherwise be tested, or the range in the reason."""
    found = range_of(data)
    changed = {}
    for name, finding in findings.items():
        if not finding.testable:
            changed[name] = finding
        elif found.flat:
            changed[name] = Finding(NO_RANGE, f"{found.words}; {finding.reason}", finding.interval, testable=False)
        else:
            changed[name] = with_remarks(finding, [found.words])
    return changed
