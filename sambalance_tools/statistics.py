"""Intervals for means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


def t_interval(
    values: Sequence[float] | NDArray[np.floating[Any]], confidence: float = CONFIDENCE
) -> tuple[float, float | None]:
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
    mean = float(known.mean())
    if len(known) < 2:
        return mean, None
    from scipy import stats

    reach = float(stats.t.interval(confidence, len(known) - 1)[1])
    return mean, reach * float(known.std(ddof=1)) / math.sqrt(len(known))
