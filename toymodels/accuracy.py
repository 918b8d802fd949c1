"""Accuracy of a trained toy network on each group of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kernels.problem import Layers
from sambalance_tools.arrays import FloatArray
from toymodels.data import Atoms
from toymodels.networks import Diagonal, Network, Patches, TwoLayer, as_two_layer

TEST_DRAWS = 256
"""Fresh noise draws per group for networks without a closed form (standard error at most 0.03)."""


def group_accuracy(
    network: Network,
    layers: Layers,
    atom_rows: Sequence[Atoms],
    run_row: np.ndarray,
    mu: FloatArray,
    sigma: FloatArray,
    extra_sigma: FloatArray,
    arrangement: FloatArray | None = None,
) -> FloatArray:
    """Probability that a fresh example of each group is classified correctly; a zero output counts one half.

    Linear networks: Phi(m_n / sd), the exact Gaussian probability (0, 1/2 or 1 without noise). ReLU networks and
    networks with biases: the share of correct outputs on both mirror images, exact without noise, else over
    :data:`TEST_DRAWS` common draws.

    Args:
        network: the network that was trained.
        layers: parameters ``[B, ..., *layer]``; any axes after B (such as loss levels) are kept.
        atom_rows, run_row: tables of groups and the table of each run.
        mu, sigma: ``[B, K]`` strengths and noise of the features.
        extra_sigma: ``[B]`` noise of further features.
        arrangement: ``[B or 1, P, d, inputs]`` where the inputs are in the patches of a patches network.

    Returns:
        ``[B, ..., N]``; NaN where the parameters are NaN.
    """
    signs = np.stack([a.signs for a in atom_rows])[run_row]
    labels = np.stack([a.labels for a in atom_rows])[run_row]
    if isinstance(network, Patches):
        assert arrangement is not None
        layers, network = as_two_layer(network, layers, arrangement)
    assert not isinstance(network, Patches)
    last = layers[-1]
    middle = last.shape[1:-1]

    def widen(array: FloatArray) -> FloatArray:
        """Give a [B, ...] array axes of length 1 for the axes between B and the layer's own."""
        return array.reshape(len(array), *[1] * len(middle), *array.shape[1:])

    if isinstance(network, Diagonal) or network.odd:
        coefficients = (
            np.prod(np.stack(layers), axis=0)
            if isinstance(network, Diagonal)
            else (np.einsum("...md,...m->...d", layers[0], last))
        )
        features = mu.shape[1]
        seen, rest = coefficients[..., :features], coefficients[..., features:]
        margin = np.einsum("...k,...nk->...n", seen * widen(mu), widen(signs))
        variance = ((seen * widen(sigma)) ** 2).sum(-1) + (rest**2).sum(-1) * widen(extra_sigma) ** 2
        return _probability(margin, np.sqrt(variance)[..., None])
    return _sampled(network, layers, signs, labels, atom_rows[0].symmetric, mu, sigma, extra_sigma, widen)


def _probability(margin: FloatArray, deviation: FloatArray) -> FloatArray:
    from scipy.special import ndtr

    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(margin == 0, 0.0, margin / deviation)
    return ndtr(score)


def _sampled(
    network: TwoLayer,
    layers: Layers,
    signs: FloatArray,
    labels: FloatArray,
    symmetric: bool,
    mu: FloatArray,
    sigma: FloatArray,
    extra_sigma: FloatArray,
    widen: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    first, last = layers
    dimension = first.shape[-1] - int(network.bias)
    noisy = bool((sigma > 0).any() or (extra_sigma > 0).any())
    draws = np.random.default_rng(20405).standard_normal((TEST_DRAWS if noisy else 1, dimension))
    scale = np.concatenate([sigma, np.repeat(extra_sigma[:, None], dimension - mu.shape[1], axis=1)], axis=1)
    images = (1.0, -1.0) if symmetric else (1.0,)
    correct = np.zeros((*last.shape[:-1], labels.shape[1]))
    for image in images:
        for n in range(labels.shape[1]):
            label = image * labels[:, n]
            inputs = scale[:, None, :] * draws
            inputs[..., : mu.shape[1]] += (signs[:, n] * label[:, None] * mu)[:, None, :]
            if network.bias:
                inputs = np.concatenate([inputs, np.ones((*inputs.shape[:2], 1))], axis=2)
            hidden = np.einsum("...md,...td->...tm", first, widen(inputs))
            hidden = np.maximum(hidden, 0.0) if network.activation == "relu" else hidden
            margin = np.einsum("...tm,...m->...t", hidden, last) * widen(label[:, None])
            correct[..., n] += np.where(np.isnan(margin), np.nan, (np.sign(margin) + 1) / 2).mean(-1)
    return correct / len(images)
