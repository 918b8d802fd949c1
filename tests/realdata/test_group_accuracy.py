"""Averages are what their names say, and intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from realdata.measures.group_accuracy import AVERAGES, GroupAccuracy, wilson

NAMES = ("land, land", "land, water", "water, land", "water, water")
EXAMPLE = GroupAccuracy(np.array([90, 10, 0, 30]), np.array([100, 20, 0, 40]), NAMES)


def test_the_four_averages_are_what_their_names_say() -> None:
    train = np.array([3498, 184, 56, 1057])
    value = {kind: EXAMPLE.average(kind, train_count=train).value for kind in AVERAGES}
    assert value["raw"] == pytest.approx(130 / 160)
    assert value["mean"] == pytest.approx((0.9 + 0.5 + 0.75) / 3)
    assert value["worst"] == pytest.approx(0.5)
    assert value["adjusted"] == pytest.approx((0.9 * 3498 + 0.5 * 184 + 0.75 * 1057) / (3498 + 184 + 1057))
    assert EXAMPLE.worst == "land, water"


def test_a_group_without_images_is_named_and_has_no_accuracy() -> None:
    assert EXAMPLE.empty == ("water, land",)
    estimate = EXAMPLE.group(2)
    assert estimate.n == 0
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()


def test_no_images_at_all_give_no_average() -> None:
    nothing = GroupAccuracy.of(np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64), NAMES)
    assert all(np.isnan(nothing.average(kind, train_count=np.ones(4)).value) for kind in AVERAGES)
    assert nothing.worst == ""


def test_counts_are_those_of_the_images() -> None:
    correct = np.array([True, False, True, True])
    found = GroupAccuracy.of(correct, np.array([0, 0, 2, 2]), ("a", "b", "c"))
    assert found.correct.tolist() == [1, 0, 2]
    assert found.count.tolist() == [2, 0, 2]


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 7), (250, 1000)])
def test_wilson_is_scipys(successes: int, n: int) -> None:
    theirs = binomtest(successes, n).proportion_ci(confidence_level=0.9, method="wilson")
    assert wilson(successes, n, 0.9) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_bootstrap_intervals_of_the_averages_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    truth, count, train = np.array([0.9, 0.6, 0.75]), np.array([200, 60, 80]), np.array([10, 1, 5])
    expected = {
        "raw": truth @ count / count.sum(), "mean": truth.mean(), "worst": 0.6, "adjusted": truth @ train / train.sum(),
    }  # fmt: skip
    covered = dict.fromkeys(AVERAGES, 0)
    for trial in range(400):
        drawn = GroupAccuracy(rng.binomial(count, truth), count, ("a", "b", "c"))
        for kind in AVERAGES:
            found = drawn.average(kind, train_count=train, draws=300, seed=trial)
            covered[kind] += found.low <= expected[kind] <= found.high
    # Binomial deviation of the coverage over 400 trials is 0.011; small groups and the tails of 300 draws cost a bit.
    assert all(0.90 <= hits / 400 <= 0.98 for hits in covered.values()), covered


@pytest.mark.parametrize("kind", AVERAGES)
def test_no_error_at_all_is_no_certainty(kind: str) -> None:
    """0 errors of 48: the interval reaches as far as Wilson's of the images that the average rests on."""
    found = GroupAccuracy(np.array([24, 24]), np.array([24, 24]), ("a", "b"))
    estimate = found.average(kind, train_count=np.array([10, 30]))
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    below, least = wilson(24, 24)[0], wilson(48, 48)[0]
    assert below <= estimate.low <= least + 0.02
    error = estimate.complement()
    assert error.low == 0.0
    assert error.high > 0.05


def test_the_worst_of_many_small_groups_lies_in_its_interval() -> None:
    many = GroupAccuracy(np.full(100, 16), np.full(100, 20), tuple(map(str, range(100))))
    found = many.average("worst")
    assert found.low < 0.6
    assert found.value == found.high == 0.8


def test_the_error_is_the_complement_with_its_interval_turned_round() -> None:
    accuracy = EXAMPLE.average("mean")
    error = accuracy.complement()
    assert (error.value, error.low, error.high) == (1 - accuracy.value, 1 - accuracy.high, 1 - accuracy.low)
    assert error.low < error.value < error.high


def test_bad_input_is_one_error_that_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"kind='median'.*raw, mean, worst, adjusted"):
        EXAMPLE.average("median")
    with pytest.raises(ValueError, match="train_count=None; allowed: 4 group sizes"):
        EXAMPLE.average("adjusted")
    with pytest.raises(ValueError, match="is zero for every group with images"):
        EXAMPLE.average("adjusted", train_count=np.array([0, 0, 5, 0]))
    with pytest.raises(ValueError, match=r"group contains 0..4; allowed: 0..3"):
        GroupAccuracy.of(np.ones(2, dtype=bool), np.array([0, 4]), NAMES)
    with pytest.raises(ValueError, match="confidence=95"):
        wilson(1, 2, 95)
