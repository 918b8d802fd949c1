"""Which samples a mini-batch step sees: a counter-based generator that every engine reproduces bit for bit.

Draw ``j`` of step ``t`` of a run with seed ``s`` is word ``j % 4`` of Philox4x32-10 (Salmon et al. 2011) with key
``(s mod 2^32, s div 2^32)`` and counter ``(t, j div 4, 0, 0)``. The word ``r`` picks the sample

    n = number of thresholds <= r,    thresholds_n = floor(2^32 * (pi_1 + ... + pi_n)),  n < S,

that is sample n with probability pi_n, with replacement. Runs that share a seed (and weights) share all their
mini-batches, whatever engine, thread count or batch they are in: common random numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
_KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Philox4x32-10 on arrays of 32-bit words.

    Args:
        counter: ``[..., 4]`` words below 2^32, held as uint64.
        key: ``[..., 2]`` words below 2^32, held as uint64.

    Returns:
        ``[..., 4]`` random words below 2^32, as uint64.
    """
    counter, key = (np.array(a, dtype=np.uint64) for a in (counter, key))
    for _ in range(10):
        products = counter[..., (0, 2)] * _MULTIPLIERS
        high, low = products >> _HALF, products & _LOW
        counter = np.stack(
            [
                high[..., 1] ^ counter[..., 1] ^ key[..., 0],
                low[..., 1],
                high[..., 0] ^ counter[..., 3] ^ key[..., 1],
                low[..., 0],
            ],
            axis=-1,
        )
        key = (key + _KEY_STEPS) & _LOW
    return counter


def sampling_thresholds(sample_weights: NDArray[np.floating[Any]]) -> NDArray[np.uint64]:
    """``[B or 1, S - 1]`` integer thresholds of the cumulative sample weights (the last sample takes the rest)."""
    cumulative = np.cumsum(np.asarray(sample_weights, dtype=np.float64), axis=1)[:, :-1]
    # A weight sum may exceed 1 by rounding; a threshold of 2^32 is never reached by a 32-bit word.
    return np.minimum(np.floor(cumulative * 2.0**32), 2.0**32).astype(np.uint64)


def minibatch_indices(
    seeds: NDArray[np.uint64], step: int, size: int, thresholds: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Sample indices ``[B, size]`` of one step.

    Args:
        seeds: ``[B]`` unsigned seeds, one per run.
        step: number of the step, from 0.
        size: draws per step.
        thresholds: from :func:`sampling_thresholds`, ``[B or 1, S - 1]``.
    """
    quads = -(-size // 4)
    counter = np.zeros((len(seeds), quads, 4), dtype=np.uint64)
    counter[..., 0] = step
    counter[..., 1] = np.arange(quads)
    key = np.stack([seeds & _LOW, seeds >> _HALF], axis=-1)[:, None, :]
    words = philox4x32(counter, np.broadcast_to(key, (len(seeds), quads, 2))).reshape(len(seeds), -1)[:, :size]
    if len(thresholds) == 1:
        return np.searchsorted(thresholds[0], words, side="right")
    return (thresholds[:, None, :] <= words[:, :, None]).sum(axis=2)
