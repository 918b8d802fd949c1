"""Mini-batch draws: the published generator, the right probabilities, the same for every engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from kernels.sampling import minibatch_indices, philox4x32, sampling_thresholds
from support import oracle
from support.problems import random_problem

# Known-answer vectors of the Random123 library (kat_vectors, philox4x32 10).
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
WORD = st.integers(0, 2**32 - 1)


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


def seeds(*values: int) -> NDArray[np.uint64]:
    return np.array(values, dtype=np.uint64)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN, ids=["zeros", "ones", "pi"])
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    assert oracle.philox(words(counter), words(key)) == words(answer), "the oracle"
    ours = philox4x32(np.array(words(counter), dtype=np.uint64), np.array(words(key), dtype=np.uint64))
    assert tuple(map(int, ours)) == words(answer), "kernels.sampling"


@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
def test_philox_equals_whole_number_arithmetic(counter: tuple[int, ...], key: tuple[int, ...]) -> None:
    ours = philox4x32(np.array([counter] * 2, dtype=np.uint64), np.array([key] * 2, dtype=np.uint64))
    assert [tuple(map(int, row)) for row in ours] == [oracle.philox(counter, key)] * 2


def test_philox_leaves_its_arguments_alone() -> None:
    counter, key = np.zeros(4, dtype=np.uint64), np.zeros(2, dtype=np.uint64)
    philox4x32(counter, key)
    assert not counter.any()
    assert not key.any()


def test_thresholds_are_scaled_cumulative_weights() -> None:
    ours = sampling_thresholds(np.array([[0.25, 0.5, 0.25], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(ours, [[2**30, 3 * 2**30], [0, 2**32], [2**32, 2**32]])
    assert sampling_thresholds(np.array([[1.0]])).shape == (1, 0)


def test_thresholds_survive_a_sum_above_one() -> None:
    ours = sampling_thresholds(np.array([[1.0 + 1e-7, 0.0, 0.0]]))
    np.testing.assert_array_equal(ours, [[2**32, 2**32]])


def test_a_word_on_a_threshold_belongs_to_the_next_sample() -> None:
    """n is the number of thresholds <= the word: probe each side of the word that seed 5 draws first."""
    word = oracle.philox((0, 0, 0, 0), (5, 0))[0]
    for threshold, sample in ((word, 1), (word + 1, 0)):
        single = np.array([[threshold]], dtype=np.uint64)
        assert minibatch_indices(seeds(5), 0, 1, single)[0, 0] == sample
        assert (minibatch_indices(seeds(5, 5), 0, 1, np.repeat(single, 2, axis=0)) == sample).all()


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("shared", [(), ("sample_weights",)], ids=["own_weights", "shared_weights"])
def test_draws_equal_the_oracle(size: int, shared: tuple[str, ...], rng: np.random.Generator) -> None:
    problem = random_problem(
        rng, runs=4, samples=6, shared=shared, batch_size=size, batch_seed=seeds(0, 1, 2**32 + 1, 2**64 - 1)
    )
    thresholds = sampling_thresholds(problem.sample_weights)
    for step in (0, 1, 1000):
        ours = minibatch_indices(problem.batch_seed, step, size, thresholds)
        assert ours.tolist() == [oracle.draws(problem, run, step) for run in range(problem.runs)]


def test_draws_follow_the_weights() -> None:
    """Chi-square over 40,000 draws; the seeds are fixed, so the p-values are too (rejected below 0.001)."""
    weights = np.array([[0.02, 0.38, 0.1, 0.3, 0.2]])
    thresholds = sampling_thresholds(weights)
    indices = np.stack([minibatch_indices(seeds(*range(10)), step, 20, thresholds) for step in range(200)])
    counts = np.bincount(indices.ravel(), minlength=5)
    assert stats.chisquare(counts, weights[0] * indices.size).pvalue > 1e-3
    # Neighbours in the batch, consecutive steps and neighbouring seeds are independent.
    for first, second in (
        (indices[:, :, :-1], indices[:, :, 1:]), (indices[:-1], indices[1:]), (indices[:, :-1], indices[:, 1:]),
    ):  # fmt: skip
        table = np.zeros((5, 5))
        np.add.at(table, (first.ravel(), second.ravel()), 1)
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_samples_of_weight_zero_are_not_drawn() -> None:
    thresholds = sampling_thresholds(np.array([[0.0, 0.5, 0.0, 0.5, 0.0]]))
    drawn = minibatch_indices(seeds(*range(100)), 3, 50, thresholds)
    assert set(np.unique(drawn)) == {1, 3}


def test_a_run_draws_the_same_in_any_company() -> None:
    """Common random numbers: by seed and step alone, not by place, batch size or who shares the thresholds' rows."""
    weights = np.array([[0.1, 0.2, 0.3, 0.4]])
    thresholds = sampling_thresholds(weights)
    alone = minibatch_indices(seeds(9), 4, 6, thresholds)[0]
    crowd = minibatch_indices(seeds(1, 9, 2, 9), 4, 11, thresholds)
    np.testing.assert_array_equal(crowd[1, :6], alone)
    np.testing.assert_array_equal(crowd[1], crowd[3])
    assert (crowd[0] != crowd[1]).any()
    per_run = minibatch_indices(seeds(1, 9, 2, 9), 4, 11, np.repeat(thresholds, 4, axis=0))
    np.testing.assert_array_equal(per_run, crowd)
    assert (minibatch_indices(seeds(9), 5, 6, thresholds)[0] != alone).any()
