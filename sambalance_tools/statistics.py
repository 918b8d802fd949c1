"""Intervals and tests for means of independent values, such as one paired difference per seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95

Values = Sequence[float] | NDArray[np.floating[Any]]


def t_interval(values: Values, confidence: float = CONFIDENCE) -> tuple[float, float | None]:
    """Mean of independent values and half the width of Student's t-interval for it.

    Args:
        values: at least one finite number.
        confidence: of the interval, in (0, 1).

    Returns:
        (mean, half width); the half width is None for a single value.

    Example:
        >>> mean, half = t_interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 3)
        (2.0, 2.484)
    """
    known = np.asarray(values, dtype=float)
    if not known.size:
        raise ValueError("values is empty; allowed: at least one number")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}; allowed: a number in (0, 1)")
    mean = float(known.mean())
    if len(known) < 2:
        return mean, None
    from scipy import stats

    reach = float(stats.t.interval(confidence, len(known) - 1)[1])
    return mean, reach * float(known.std(ddof=1)) / math.sqrt(len(known))


def t_test_p(
    mean: float, sd: float, n: int, at: float = 0.0, side: Literal["two-sided", "less", "greater"] = "two-sided"
) -> float:
    """p-value of Student's t-test of a mean, from mean and standard deviation.

    Args:
        mean, sd: of ``n`` >= 2 independent values (with n - 1 in the denominator). at: the mean under the null.
        side: of the alternative: the true mean differs from ``at``, is less, or is greater.

    Returns:
        The p-value. Without scatter it is 0 if the mean is on the side of the alternative, and 1 if not.

    Example:
        >>> round(t_test_p(2.0, 1.0, 3), 4)
        0.0742
    """
    if not sd:
        found = {"two-sided": mean != at, "less": mean < at, "greater": mean > at}[side]
        return 0.0 if found else 1.0
    from scipy import stats

    t = (mean - at) * math.sqrt(n) / sd
    if side == "two-sided":
        return 2 * float(stats.t.sf(abs(t), n - 1))
    return float(stats.t.cdf(t, n - 1) if side == "less" else stats.t.sf(t, n - 1))


class Equivalence(NamedTuple):
    """p-values of two one-sided tests: ``above`` that the mean is above the lower bound, ``below`` the upper one."""

    above: float
    below: float

    @property
    def p(self) -> float:
        """p-value for the mean lying between the bounds: the larger of the two."""
        return max(self.above, self.below)


def two_one_sided_tests(differences: Values, low: float, high: float) -> Equivalence:
    """Equivalence test of paired differences: does their mean lie between two bounds?

    Two one-sided t-tests (TOST; Schuirmann, J. Pharmacokinet. Biopharm. 15, 657, 1987). The mean lies within the
    bounds at level alpha if both p-values are below alpha; each alone excludes means beyond one bound.

    Args:
        differences: shape (n,), n >= 2, one difference per pair. low, high: bounds, low < high.

    Example:
        >>> round(two_one_sided_tests([0.001, -0.001, 0.002, -0.002], -0.01, 0.01).p, 5)
        0.00081
    """
    if not low < high:
        raise ValueError(f"low={low!r}, high={high!r}; allowed: low < high")
    known = np.asarray(differences, dtype=float)
    mean, sd, n = float(known.mean()), float(known.std(ddof=1)), len(known)
    return Equivalence(t_test_p(mean, sd, n, low, "greater"), t_test_p(mean, sd, n, high, "less"))


def holm(p_values: Values) -> NDArray[np.float64]:
    """Holm's correction: rejecting where the result is <= alpha makes any false rejection at most alpha likely.

    Holds whatever the dependence between the tests (Holm, Scand. J. Stat. 6, 65, 1979).

    Args:
        p_values: shape (m,), in [0, 1].

    Returns:
        Corrected p-values, shape (m,), in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    known = np.asarray(p_values, dtype=np.float64)
    if (known < 0).any() or (known > 1).any():
        raise ValueError(f"p_values={known.tolist()}; allowed: numbers in [0, 1]")
    order = np.argsort(known, kind="stable")
    factors = np.arange(len(known), 0, -1)
    corrected = np.empty_like(known)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * known[order]))
    return corrected


def smallest_detectable_effect(sd: float, n: int, alpha: float = 1 - CONFIDENCE, power: float = 0.8) -> float:
    """The true mean that a two-sided paired t-test finds with this power.

    Solves the power of the noncentral t distribution for the mean (Cohen, Statistical Power Analysis, 1988, chapter 2).

    Args:
        sd: standard deviation of the differences. n: number of pairs, >= 2.
        alpha: level of the test, in (0, 1). power: in (alpha, 1).

    Example:
        >>> round(smallest_detectable_effect(sd=1.0, n=5), 2)
        1.68
    """
    if n < 2:
        raise ValueError(f"n={n!r}; allowed: a whole number >= 2")
    if sd < 0:
        raise ValueError(f"sd={sd!r}; allowed: a number >= 0")
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha={alpha!r}, power={power!r}; allowed: 0 < alpha < power < 1")
    from scipy import optimize, stats

    critical = float(stats.t.isf(alpha / 2, n - 1))
    # Given the scatter that the test estimates, its statistic is normal. (SciPy's noncentral t is NaN far out.)
    grid = (np.arange(4000) + 0.5) / 4000
    reach = critical * np.sqrt(stats.chi2.ppf(grid, n - 1) / (n - 1))

    def lack(noncentrality: float) -> float:
        found = stats.norm.cdf(noncentrality - reach) + stats.norm.cdf(-noncentrality - reach)
        return float(found.mean()) - power

    high = 2.0
    while lack(high) < 0:
        high *= 2
    return sd * float(optimize.brentq(lack, 0.0, high)) / math.sqrt(n)
