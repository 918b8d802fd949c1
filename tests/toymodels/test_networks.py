"""Initialisation: norms, balance, common random numbers."""

from __future__ import annotations

import numpy as np
import pytest

from toymodels.networks import Diagonal, TwoLayer, network


def per_run(value: float, runs: int) -> np.ndarray:
    return np.full(runs, value)


def squared_norm(layers: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.sum([(layer.reshape(len(layer), -1) ** 2).sum(1) for layer in layers], axis=0)


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("width", [1, 2, 16, 64])
def test_the_norm_of_a_two_layer_start_is_that_of_the_diagonal_one_at_every_width(width: int, activation: str) -> None:
    runs, init, dimension = 4000, 0.3, 2
    layers = TwoLayer(activation).initial_layers(np.arange(runs), per_run(init, runs), dimension, width)
    diagonal = Diagonal().initial_layers(np.zeros(1, int), *(np.array([x]) for x in (init, 0.0, 0.0)), dimension, 2)
    mean = squared_norm(layers).mean()
    # ||theta||^2 = 2 init^2 chi^2 with m d degrees of freedom / m: relative deviation sqrt(2/(m d))/sqrt(runs).
    assert mean == pytest.approx(squared_norm(diagonal)[0], rel=5 * np.sqrt(2 / (width * dimension) / runs))
    assert layers[0].shape == (runs, width, dimension)


def test_every_neuron_starts_balanced_with_alternating_signs() -> None:
    first, last = TwoLayer("relu").initial_layers(np.arange(5), np.linspace(0.1, 1, 5), 3, 7)
    np.testing.assert_allclose(np.linalg.norm(first, axis=2), np.abs(last), rtol=1e-14)
    np.testing.assert_array_equal(np.sign(last), np.tile([1, -1, 1, -1, 1, -1, 1], (5, 1)))


def test_a_bias_starts_at_zero_and_leaves_the_balance() -> None:
    first, last = TwoLayer("relu", bias=True).initial_layers(np.arange(3), per_run(0.5, 3), 3, 4)
    np.testing.assert_array_equal(first[:, :, 2], 0)
    np.testing.assert_allclose(np.linalg.norm(first, axis=2), np.abs(last), rtol=1e-14)


def test_runs_with_one_seed_start_from_the_same_draw_scaled() -> None:
    seeds, init = np.array([3, 5, 3]), np.array([0.1, 0.1, 0.7])
    first, last = TwoLayer("linear").initial_layers(seeds, init, 2, 6)
    np.testing.assert_allclose(first[2], 7 * first[0], rtol=1e-12)
    np.testing.assert_allclose(last[2], 7 * last[0], rtol=1e-12)
    assert np.abs(first[0] - first[1]).max() > 0.01
    layers = Diagonal().initial_layers(seeds, init, per_run(0.5, 3), per_run(0.0, 3), 2, 2)
    np.testing.assert_allclose(layers[0][2], 7 * layers[0][0], rtol=1e-12)
    assert np.abs(layers[0][0] - layers[0][1]).max() > 0.001


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_a_diagonal_start_is_balanced_up_to_the_given_imbalance(depth: int) -> None:
    init, imbalance = np.array([0.4, 0.4]), np.array([0.0, 0.5])
    layers = Diagonal().initial_layers(np.arange(2), init, np.zeros(2), imbalance, 2, depth)
    assert len(layers) == depth
    np.testing.assert_allclose(layers[0], 0.4 * np.exp(-imbalance)[:, None] * np.ones(2), rtol=1e-15)
    np.testing.assert_allclose(layers[-1], 0.4 * np.exp(imbalance)[:, None] * np.ones(2), rtol=1e-15)
    np.testing.assert_allclose(np.prod(np.stack(layers), axis=0), 0.4**depth, rtol=1e-14)


def test_jitter_spreads_the_logarithm_of_the_start() -> None:
    runs = 4000
    layers = Diagonal().initial_layers(
        np.arange(runs), per_run(0.4, runs), per_run(0.3, runs), per_run(0.0, runs), 2, 2
    )
    logs = np.log(layers[0] / 0.4)
    # Standard errors of the mean and the deviation: 0.3/sqrt(4000) = 0.005 and 0.0034; five of them.
    np.testing.assert_allclose(logs.mean(0), 0, atol=0.025)
    np.testing.assert_allclose(logs.std(0), 0.3, atol=0.017)


def test_names_and_oddness() -> None:
    assert network("diagonal").odd
    assert network("linear").odd
    assert not network("relu").odd
    assert not network("linear", bias=True).odd
    assert [network(name).name for name in ("diagonal", "linear", "relu")] == ["diagonal", "linear", "relu"]
    with pytest.raises(ValueError, match="no bias"):
        network("diagonal", bias=True)
    with pytest.raises(ValueError, match=r"network='mlp'.*diagonal, linear, relu"):
        network("mlp")
