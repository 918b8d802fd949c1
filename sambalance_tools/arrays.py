"""Names for the types of NumPy arrays; rows in batches that fit the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


def batches_of_rows(rows: np.ndarray, bytes_per_row: int, memory_bytes: int) -> Iterator[np.ndarray]:
    """``rows`` in their order, in batches that need at most ``memory_bytes`` but hold at least one row each."""
    size = max(1, memory_bytes // bytes_per_row)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
