"""Intervals over seeds, and the criterion for matched training losses, shared by all predictions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sambalance_tools.statistics import CONFIDENCE, t_interval, t_test_p

MATCH = 1.1
"""A level is matched if the mean training losses there differ by at most this factor."""


@dataclass(frozen=True)
class SeedInterval:
    """A mean of ``n`` numbers with its interval; ``low`` and ``high`` are None for fewer than two numbers.

    ``sd`` is the standard deviation of the numbers; None if there are fewer than two, or the interval is no t-interval.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    confidence: float = CONFIDENCE
    sd: float | None = None

    def p(self, at: float = 0.0, side: Literal["two-sided", "less", "greater"] = "two-sided") -> float:
        """p-value of the t-test of the mean, see :func:`sambalance_tools.statistics.t_test_p`; 1 if there is none."""
        if self.sd is None or not math.isfinite(self.sd):
            return 1.0
        return t_test_p(self.mean, self.sd, self.n, at, side)

    def lies_within(self, low: float, high: float) -> bool:
        """Whether the whole interval lies within these bounds."""
        return self.low is not None and self.high is not None and low <= self.low and self.high <= high

    def lies_below(self, bound: float) -> bool:
        """Whether the whole interval lies strictly below the bound."""
        return self.high is not None and self.high < bound

    def lies_above(self, bound: float) -> bool:
        """Whether the whole interval lies strictly above the bound."""
        return self.low is not None and self.low > bound

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.lies_below(0.0) or self.lies_above(0.0)

    @property
    def text(self) -> str:
        """``-0.012 [-0.020, -0.004]``."""
        return format_interval(self.mean, self.low, self.high)


def format_interval(mean: float | None, low: float | None, high: float | None) -> str:
    """An estimate and its interval with three decimals, large numbers with three digits; a dash for none."""
    if mean is None:
        return "—"
    text = _number(mean)
    return text if low is None or high is None else f"{text} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"
    return text.replace("-", "−")


def interval_of(numbers: Mapping[int, float] | Sequence[float], confidence: float = CONFIDENCE) -> SeedInterval:
    """The t-interval of one or more numbers (one per seed)."""
    values = list(numbers.values()) if isinstance(numbers, Mapping) else list(numbers)
    mean, half = t_interval(values, confidence)
    if half is None:
        return SeedInterval(mean, None, None, len(values), confidence)
    return SeedInterval(mean, mean - half, mean + half, len(values), confidence, statistics.stdev(values))


def paired_differences(mine: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    """Numbers minus those of the other runs at the same seed, for the seeds that both have."""
    return {seed: mine[seed] - other[seed] for seed in mine if seed in other}


def mean_per_seed(numbers: Mapping[int, Sequence[float]]) -> dict[int, float]:
    """Mean of each seed's numbers, for seeds that have any."""
    return {seed: math.fsum(values) / len(values) for seed, values in sorted(numbers.items()) if values}
