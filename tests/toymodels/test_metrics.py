"""Hard share, phases at their edges, Lorenz curve and Gini coefficient."""

from __future__ import annotations

import numpy as np
import pytest

from toymodels.metrics import Phase, classify, gini, hard_share, lorenz


def test_the_hard_share_is_the_hard_part_of_the_margin() -> None:
    u = np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 3.0], [1.0, -2.0], [0.5, 0.5]])
    mu_easy, mu_hard = np.array([2.0, 2.0, 2.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0, 0.5, 1.0])
    np.testing.assert_allclose(hard_share(u, mu_easy, mu_hard), [0.5, 0.0, 1.0, -1.0, 0.25])
    assert np.isnan(hard_share(np.zeros((1, 2)), np.ones(1), np.ones(1))).all()
    levels = np.stack([u, 2 * u], axis=1)
    at_levels = hard_share(levels, mu_easy[:, None], mu_hard[:, None])
    np.testing.assert_allclose(at_levels[:, 1], hard_share(u, mu_easy, mu_hard))


def test_phases_at_their_edges_and_in_their_order_of_precedence() -> None:
    share = np.array([0.0, 0.4 - 1e-12, 0.4, 0.6, 0.6 + 1e-12, 1.0, np.nan, 0.5, 0.5, np.nan])
    reached = np.array([True, True, True, True, True, True, False, True, True, False])
    collapsed = np.array([False, False, False, False, False, False, False, True, True, True])
    diverged = np.array([False, False, False, False, False, False, False, False, True, False])
    found = classify(share, reached, collapsed, diverged)
    assert [Phase(p).label for p in found] == [
        "easy first", "easy first", "balanced", "balanced", "hard first", "hard first", "unfinished", "collapse",
        "diverged", "collapse",
    ]  # fmt: skip
    assert found.dtype == np.int8


def test_lorenz_and_gini_of_known_distributions() -> None:
    assert gini(np.full(7, 3.0)) == pytest.approx(0, abs=1e-15)
    population, held = lorenz(np.array([3.0, 1.0]))
    np.testing.assert_allclose(population, [0, 0.5, 1])
    np.testing.assert_allclose(held, [0, 0.25, 1])
    assert gini(np.array([3.0, 1.0])) == pytest.approx(0.25)
    assert gini(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(0.75)  # 1 - 1/n when one holds all
    n = 1000
    assert gini((np.arange(n) + 0.5) / n) == pytest.approx(1 / 3, abs=1e-6)  # uniform on [0, 1]


def test_sample_weights_stand_for_copies(rng: np.random.Generator) -> None:
    values, copies = rng.uniform(0, 1, 12), rng.integers(1, 5, 12)
    assert gini(values, copies) == pytest.approx(gini(np.repeat(values, copies)), abs=1e-14)


def test_gini_is_the_mean_difference(rng: np.random.Generator) -> None:
    values, pi = rng.uniform(0, 1, 30), rng.dirichlet(np.ones(30))
    difference = (pi[:, None] * pi * np.abs(values[:, None] - values)).sum()
    assert gini(values, pi) == pytest.approx(difference / (2 * pi @ values), rel=1e-12)


def test_impossible_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        lorenz(np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="all zero"):
        lorenz(np.zeros(3))
