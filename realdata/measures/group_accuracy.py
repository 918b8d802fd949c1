"""Accuracy of groups, and the four averages that tables call "accuracy", by name and with intervals.

``raw``       share of correct images: groups count by their size in this split.
``mean``      mean of the group accuracies, with equal weights.
``worst``     accuracy of the worst group (Sagawa et al. 2020).
``adjusted``  mean of the group accuracies weighted by the groups' sizes in the training set (WILDS, Koh et al. 2021).

A group without images has no accuracy (NaN) and is left out of all four.

Intervals over images: Wilson's (1927) for one group and for ``raw``, which is one share. For ``mean`` and ``adjusted``
the groups' Wilson intervals are combined (Zou, Huang & Zhang 2009: distances to each bound add up in squares). That of
``worst`` is a percentile of a bootstrap, in which groups keep their sizes and each draw has its own worst group; with
many small groups the worst of a draw is worse than that of the data, so it is widened, if needed, to contain the value.
Where all draws are alike, as without any error, it is Wilson's of the worst group: no error is no certainty.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sambalance_tools.checks import require_choice
from sambalance_tools.statistics import CONFIDENCE

AVERAGES = ("raw", "mean", "worst", "adjusted")
BOOTSTRAP_DRAWS = 1000

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ShareEstimate:
    """A share in [0, 1] with its interval, and the number of images; NaN if there are none."""

    value: float
    low: float
    high: float
    n: int

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval's ends."""
        return self.low, self.high

    def complement(self) -> ShareEstimate:
        """1 - share: the error if this is an accuracy."""
        return ShareEstimate(1 - self.value, 1 - self.high, 1 - self.low, self.n)


@dataclass(frozen=True)
class GroupAccuracy:
    """Correct images and images of each group.

    Attributes:
        correct, count: ``[G]``, in the order of ``names``.
        names: of the groups.
    """

    correct: IntArray
    count: IntArray
    names: tuple[str, ...]

    @classmethod
    def of(cls, correct: NDArray[np.bool_], group: IntArray, names: Sequence[str]) -> GroupAccuracy:
        """Count.

        Args:
            correct: ``[n]`` whether each image was classified correctly. group: ``[n]`` in ``0 .. len(names) - 1``.

        Raises:
            ValueError: for arrays of different lengths or an unknown group.
        """
        if correct.shape != group.shape:
            raise ValueError(f"correct {correct.shape} and group {group.shape}; allowed: arrays of one length")
        if len(group) and not (group.min() >= 0 and group.max() < len(names)):
            raise ValueError(f"group contains {group.min()}..{group.max()}; allowed: 0..{len(names) - 1}")
        return cls(
            np.bincount(group, weights=correct, minlength=len(names)).astype(np.int64),
            np.bincount(group, minlength=len(names)).astype(np.int64),
            tuple(names),
        )

    @property
    def accuracy(self) -> FloatArray:
        """``[G]``, NaN for groups without images."""
        return np.divide(self.correct, self.count, out=np.full(len(self.count), np.nan), where=self.count > 0)

    @property
    def empty(self) -> tuple[str, ...]:
        """Names of the groups without images."""
        return tuple(name for name, count in zip(self.names, self.count, strict=True) if count == 0)

    @property
    def worst(self) -> str:
        """Name of the worst group; of several, the first. Empty if there are no images at all."""
        return self.names[int(np.nanargmin(self.accuracy))] if self.count.any() else ""

    def group(self, index: int, confidence: float = CONFIDENCE) -> ShareEstimate:
        """Accuracy of one group with Wilson's interval."""
        correct, count = int(self.correct[index]), int(self.count[index])
        return ShareEstimate(float(self.accuracy[index]), *wilson(correct, count, confidence), count)

    def average(
        self,
        kind: str,
        *,
        train_count: IntArray | None = None,
        confidence: float = CONFIDENCE,
        draws: int = BOOTSTRAP_DRAWS,
        seed: int = 0,
    ) -> ShareEstimate:
        """One of :data:`AVERAGES` with its interval.

        Args:
            kind: which average.
            train_count: ``[G]`` group sizes in the training set, for ``"adjusted"``.
            confidence: confidence level of the interval, in (0, 1).
            draws, seed: number of bootstrap draws of ``"worst"``, and their seed.

        Raises:
            ValueError: for an unknown kind; ``"adjusted"`` without sizes, or with sizes that are zero for every group
                that has images.
        """
        require_choice("kind", kind, AVERAGES)
        present = self.count > 0
        n = int(self.count.sum())
        weights = self._weights(kind, train_count)[present]
        if not n:
            return ShareEstimate(math.nan, math.nan, math.nan, 0)
        accuracy, count = self.accuracy[present], self.count[present]
        if kind == "raw":
            right = int(self.correct.sum())
            return ShareEstimate(right / n, *wilson(right, n, confidence), n)
        bounds = np.array([self.group(int(g), confidence).bounds for g in np.flatnonzero(present)])
        if kind == "worst":
            drawn = np.random.default_rng(seed).binomial(count, accuracy, size=(draws, len(count))) / count
            tail = (1 - confidence) / 2
            low, high = np.quantile(drawn.min(axis=1), [tail, 1 - tail])
            worst = int(accuracy.argmin())
            value = float(accuracy[worst])
            low, high = bounds[worst] if low == high else (min(value, low), max(value, high))
            return ShareEstimate(value, float(low), float(high), n)
        share = weights / weights.sum()
        value = float(accuracy @ share)
        down, up = np.sqrt((share**2) @ (bounds - accuracy[:, None]) ** 2)
        return ShareEstimate(value, max(0.0, value - float(down)), min(1.0, value + float(up)), n)

    def _weights(self, kind: str, train_count: IntArray | None) -> FloatArray:
        if kind != "adjusted":
            return self.count.astype(float) if kind == "raw" else np.ones(len(self.count))
        if train_count is None or len(train_count) != len(self.count):
            raise ValueError(f"train_count={train_count!r}; allowed: {len(self.count)} group sizes")
        weights = np.asarray(train_count, dtype=float)
        if self.count.any() and not weights[self.count > 0].sum() > 0:
            raise ValueError(f"train_count={train_count!r} is zero for every group with images; allowed: some above 0")
        return weights


@functools.lru_cache(maxsize=4096)  # averages ask for the same groups again, and SciPy's test takes its time
def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share; (NaN, NaN) for n = 0.

    Example:
        >>> [round(x, 4) for x in wilson(0, 10)]
        [0.0, 0.2775]
    """
    from scipy.stats import binomtest

    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}; allowed: a number in (0, 1)")
    if n == 0:
        return math.nan, math.nan
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
