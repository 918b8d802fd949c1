"""Group accuracy: the closed form against Monte Carlo, ReLU networks where the answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sambalance_tools.arrays import FloatArray
from toymodels.accuracy import group_accuracy
from toymodels.data import Atoms, slabs, spurious
from toymodels.networks import Diagonal, TwoLayer

MU = np.array([[2.0, 1.0]])
QUIET = np.zeros((1, 2))
ROW = np.zeros(1, dtype=int)


def monte_carlo(
    output: Callable[[FloatArray], FloatArray], table: Atoms, sigma: tuple[float, ...], count: int = 200_000
) -> FloatArray:
    """Share of fresh examples of each group on the right side, over both mirror images of symmetric data."""
    rng = np.random.default_rng(1)
    shares = []
    for signs, label in zip(table.signs, table.labels, strict=True):
        y = label * (np.where(np.arange(count) % 2 == 0, 1.0, -1.0) if table.symmetric else np.ones(count))
        x = rng.standard_normal((count, len(sigma))) * sigma
        x[:, :2] += signs * y[:, None] * MU
        shares.append((y * output(x) > 0).mean())
    return np.array(shares)


NOISE = np.array([[1.5, 0.7]])
EXTRA = np.array([0.6])
SIGMA = (1.5, 0.7, 0.6)


def test_the_closed_form_of_linear_networks_is_the_monte_carlo_share() -> None:
    table = spurious().atoms()
    w, v = np.array([[0.5, 1.2, 0.4]]), np.array([[0.9, 0.7, -0.8]])
    found = group_accuracy(Diagonal(), (w, v), [table], ROW, MU, NOISE, EXTRA)
    sampled = monte_carlo(lambda x: x @ (w * v)[0], table, SIGMA)
    np.testing.assert_allclose(found[0], sampled, atol=0.006)  # five standard errors of 0.5/sqrt(200000)
    first, last = np.array([[[0.5, 0.3, -0.2], [0.1, 0.9, 0.5]]]), np.array([[1.0, -0.5]])
    found = group_accuracy(TwoLayer("linear"), (first, last), [table], ROW, MU, NOISE, EXTRA)
    sampled = monte_carlo(lambda x: x @ first[0].T @ last[0], table, SIGMA)
    np.testing.assert_allclose(found[0], sampled, atol=0.006)
    assert 0.05 < found.min() < found.max() < 0.95


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("bias", [False, True])
def test_sampled_networks_have_the_monte_carlo_share(activation: str, bias: bool) -> None:
    table = spurious().atoms()
    rng = np.random.default_rng(5)
    first, last = rng.standard_normal((1, 5, 3 + bias)), rng.standard_normal((1, 5))

    def output(x: FloatArray) -> FloatArray:
        inputs = np.concatenate([x, np.ones((len(x), 1))], axis=1) if bias else x
        hidden = inputs @ first[0].T
        return (np.maximum(hidden, 0) if activation == "relu" else hidden) @ last[0]

    found = group_accuracy(TwoLayer(activation, bias), (first, last), [table], ROW, MU, NOISE, EXTRA)
    # 256 draws for each of two mirror images: standard error at most 0.03 where they are fully correlated.
    np.testing.assert_allclose(found[0], monte_carlo(output, table, SIGMA), atol=0.08)


def test_without_noise_a_group_is_right_wrong_or_undecided() -> None:
    table = spurious().atoms()
    for u, expected in (((1.0, 3.0), [1, 1]), ((2.0, 1.0), [1, 0]), ((1.0, 2.0), [1, 0.5]), ((0.0, 0.0), [0.5, 0.5])):
        found = group_accuracy(Diagonal(), (np.array([u]), np.ones((1, 2))), [table], ROW, MU, QUIET, np.zeros(1))
        np.testing.assert_array_equal(found, [expected])


def test_relu_networks_are_exact_without_noise() -> None:
    table = slabs().atoms(slabs=1)  # the class is positive in the outer slabs, x_h = +-1, negative at 0
    outer = np.array([[[0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]])  # |x_h| - 1/2 by a bias neuron
    last = np.array([[1.0, 1.0, -0.5]])
    found = group_accuracy(TwoLayer("relu", bias=True), (outer, last), [table], ROW, MU, QUIET, np.zeros(1))
    np.testing.assert_array_equal(found, [[1, 1, 1]])
    found = group_accuracy(TwoLayer("relu", bias=True), (outer, -last), [table], ROW, MU, QUIET, np.zeros(1))
    np.testing.assert_array_equal(found, [[0, 0, 0]])
    one_sided = np.array([[[0.0, 1.0]]])  # relu(x_h): right for y = +1, undecided for the mirror image
    found = group_accuracy(
        TwoLayer("relu"), (one_sided, np.ones((1, 1))), [spurious().atoms()], ROW, MU, QUIET, np.zeros(1)
    )
    np.testing.assert_array_equal(found, [[0.75, 0.75]])


@pytest.mark.parametrize("network", [Diagonal(), TwoLayer("relu")], ids=lambda n: n.name)
def test_axes_between_runs_and_parameters_are_kept_and_nan_stays_nan(network: Diagonal | TwoLayer) -> None:
    rng = np.random.default_rng(2)
    runs, levels = 3, 4
    mu = np.tile(MU, (runs, 1)) * np.array([[1.0], [0.5], [2.0]])
    shapes = [(2,), (2,)] if network.name == "diagonal" else [(5, 2), (5,)]
    layers = tuple(rng.standard_normal((runs, levels, *shape)) for shape in shapes)
    layers[0][1, 2] = np.nan
    tables, rows = [spurious().atoms(p=p) for p in (0.6, 0.9)], np.array([0, 1, 0])
    sigma, extra = np.tile(NOISE, (runs, 1)), np.zeros(runs)
    found = group_accuracy(network, layers, tables, rows, mu, sigma, extra)
    assert found.shape == (runs, levels, 2)
    for level in range(levels):
        one = group_accuracy(network, tuple(x[:, level] for x in layers), tables, rows, mu, sigma, extra)
        np.testing.assert_array_equal(found[:, level], one)
    np.testing.assert_array_equal(np.isnan(found).any(-1), np.isnan(found).all(-1))
    assert np.isnan(found[1, 2]).all()
    assert np.isnan(found).sum() == 2
