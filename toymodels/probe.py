"""Quality of hidden features: the error of a linear probe that reads an attribute off them, under stated noise.

Probe data hold both attributes, a_e and a_h in -1/+1, balanced and independent, so that neither can stand in for the
other: x_e = a_e mu_e, x_h = a_h mu_h (for slabs a point of a slab of class a_h), with the features' own Gaussian noise
sigma_k. The hidden features phi are those that the last layer sees: act(W x), or x_k prod_{l<L} layer_l[k] for a
diagonal network. Before the probe, Gaussian noise of standard deviation ``noise`` is added to every one of them, in
which a feature that was learned weakly drowns.

The probe is the population ridge regression of the attribute on phi: the limit of infinitely many probe examples, with
no sampling error of its own. The representation noise is always integrated exactly. For linear networks everything else
is too. With C = diag(mu_e^2 + sigma_e^2, mu_h^2 + sigma_h^2, sigma_x^2, ...), the Gram matrix G = W^T W and
s = noise^2 + ridge, the normal equations (s I + W C W^T) beta = mu_k W e_k are solved by beta = mu_k W A with

    A = (s I + C G)^-1 e_k,                                                     (push-through identity)

and, since beta . phi = sum of the two attributes' terms and a Gaussian,

    error = 1/2 [Phi(-(h + e)/d) + Phi(-(h - e)/d)],   h = mu_k (G A)_k,   e = mu_k' (G A)_k',
    d^2 = noise^2 A^T G A + sum_j sigma_j^2 (G A)_j^2,

k' being the other attribute. A diagonal network has e = 0 and
error = Phi(-mu_k |w_k| / sqrt(noise^2 + sigma_k^2 w_k^2)). For ReLU networks and slabs the same is done over the atoms
of the probe data (exact without feature noise), or over common random draws of the feature noise.

"Feature probing error" is the measure of Springer et al. (2024, arXiv 2405.20439, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kernels.problem import Layers
from sambalance_tools.arrays import FloatArray, batches_of_rows
from sambalance_tools.checks import require_choice
from toymodels.data import slabs as slab_data
from toymodels.networks import Diagonal, Network, Patches, as_two_layer

ATTRIBUTES = ("easy", "hard")

PROBE_DRAWS = 128
"""Noise draws per probe atom where no closed form exists: one set to fit the probe, one of the same size to test it."""

CHUNK_BYTES = 1 << 27
"""Bound on the hidden features that are held at once."""


@dataclass(frozen=True)
class ProbeData:
    """What the probe is given to see.

    Args:
        mu: ``[B, 2]`` strengths of the easy and the hard feature.
        sigma: ``[B, d]`` noise of every input feature, the pure-noise ones included; None: none. Features past the
            second without noise are zero.
        slabs: j; the hard attribute is the class of 2j+1 slabs (0: the sign of the hard feature).
        arrangement: ``[B or 1, P, d, inputs]`` where the inputs are in the patches of a patches network.
    """

    mu: FloatArray
    sigma: FloatArray | None = None
    slabs: int = 0
    arrangement: FloatArray | None = None

    def take(self, runs: np.ndarray) -> ProbeData:
        """The data of some runs."""
        sigma = None if self.sigma is None else self.sigma[runs]
        placed = self.arrangement
        if placed is not None and len(placed) > 1:
            placed = placed[runs]
        return ProbeData(self.mu[runs], sigma, self.slabs, placed)

    def noise_sizes(self, dimension: int) -> FloatArray:
        """``[B, dimension]`` sigma, with zeros where none was given."""
        full = np.zeros((len(self.mu), dimension))
        if self.sigma is not None:
            full[:, : self.sigma.shape[1]] = self.sigma
        return full


def probing_error(
    network: Network,
    layers: Layers,
    data: ProbeData,
    noise: float,
    attribute: str = "hard",
    ridge: float = 0.0,
    windows: int | None = None,
) -> FloatArray:
    """Error probability of a linear probe for an attribute on the hidden features of trained networks.

    Args:
        network: the kind of network.
        layers: parameters ``[B, ..., *layer]``; any axes after B (such as loss levels) are kept.
        data: the probe data of each run.
        noise: standard deviation of the noise on each hidden feature, in units of the hidden features, > 0.
        attribute: ``easy`` or ``hard``.
        ridge: penalty ridge |beta|^2 on top of what the noise does, >= 0.
        windows: for a patches network, into how many windows its hidden features are summed: 1 are the pooled features,
            as many as patches the placed ones. Default: as its head does.

    Returns:
        ``[B, ...]`` in [0, 1]; NaN where the parameters are NaN; 1/2 where the attribute cannot be read at all.

    Raises:
        ValueError: for an unknown attribute, ``noise`` <= 0 or ``ridge`` < 0.

    Example:
        >>> layers = (np.array([[0.5, 0.2], [0.5, 0.0]]), np.array([[0.5, 0.2], [0.5, 0.0]]))
        >>> probing_error(Diagonal(), layers, ProbeData(np.array([[2.0, 1.0]] * 2)), noise=0.2).round(4)
        array([0.1587, 0.5   ])
    """
    require_choice("attribute", attribute, ATTRIBUTES)
    if not noise > 0:
        raise ValueError(f"noise={noise!r}; allowed: > 0 (without noise a probe reads the weakest feature perfectly)")
    if not ridge >= 0:
        raise ValueError(f"ridge={ridge!r}; allowed: >= 0")
    k = ATTRIBUTES.index(attribute)

    def errors(flat: Layers, part: ProbeData) -> FloatArray:
        if _is_linear(network) and not part.slabs:
            return _linear_error(
                _pooled(network, _first_layer(network, flat, part), part, windows), part, noise, k, ridge
            )
        hidden, points = _hidden(network, flat, part, 0, windows)
        beta, offset = _ridge_probe(hidden, points.attributes[:, k], points.weights, noise, ridge)
        if points.sampled:
            hidden, points = _hidden(network, flat, part, 1, windows)
        score = points.attributes[:, k] * (np.einsum("btm,bm->bt", hidden, beta) + offset[:, None])
        return normal_error(score, noise * np.linalg.norm(beta, axis=1)[:, None]) @ points.weights

    return _by_chunks(network, layers, data, errors)


def attribute_margins(network: Network, layers: Layers, data: ProbeData) -> FloatArray:
    """``[B, ..., 2]`` E[a_k f(x)] on the probe data: how much of the output is due to each attribute.

    For linear networks it is mu_k u_k, so its hard part over its sum is the hard share; it means the same for networks
    without end-to-end coefficients (ReLU, slabs). Arguments as in :func:`probing_error`.
    """

    def margins(flat: Layers, part: ProbeData) -> FloatArray:
        if _is_linear(network) and not part.slabs:
            first = _pooled(network, _first_layer(network, flat, part), part, None)
            return np.einsum("bmd,bm->bd", first, flat[-1].reshape(len(first), -1))[:, :2] * part.mu
        hidden, points = _hidden(network, flat, part, 0)
        output = np.einsum("btm,bm->bt", hidden, flat[-1].reshape(len(hidden), -1))
        return output @ (points.attributes * points.weights[:, None])

    return _by_chunks(network, layers, data, margins)


def _by_chunks(network: Network, layers: Layers, data: ProbeData, measure) -> FloatArray:  # type: ignore[no-untyped-def]
    """Flatten the axes between B and the layers' own, measure in bounded chunks, restore the axes."""
    own = 1 if isinstance(network, Diagonal) else 2
    lead = layers[0].shape[: layers[0].ndim - own]
    flat = tuple(layer.reshape(-1, *layer.shape[len(lead) :]) for layer in layers)
    run = np.repeat(np.arange(lead[0]), int(np.prod(lead[1:], dtype=int)))
    finite = np.flatnonzero(np.logical_and.reduce([np.isfinite(x).reshape(len(x), -1).all(1) for x in flat]))
    result: FloatArray | None = None
    for rows in _chunks(finite, flat, data):
        values = measure(tuple(layer[rows] for layer in flat), data.take(run[rows]))
        if result is None:
            result = np.full((len(run), *values.shape[1:]), np.nan)
        result[rows] = values
    if result is None:
        shape = measure(tuple(np.zeros_like(x[:1]) for x in flat), data.take(run[:1])).shape[1:]
        result = np.full((len(run), *shape), np.nan)
    return result.reshape(*lead, *result.shape[1:])


def _chunks(rows: np.ndarray, layers: Layers, data: ProbeData) -> Iterator[np.ndarray]:
    """Rows whose hidden features and inputs fit into :data:`CHUNK_BYTES`; patches have hidden features at each patch,
    and a matrix from all inputs to all of them."""
    points = 2 * (2 * max(data.slabs, 1) + 1) * (1 if data.sigma is None else PROBE_DRAWS)
    hidden, inputs, matrix = layers[-1].shape[-1], layers[0].shape[-1], 0
    if data.arrangement is not None:
        patches, _, inputs = data.arrangement.shape[1:]
        hidden *= patches
        matrix = hidden * inputs
    return batches_of_rows(rows, 8 * (points * (hidden + inputs) + matrix), CHUNK_BYTES)


def _is_linear(network: Network) -> bool:
    return isinstance(network, Diagonal) or (network.activation == "linear" and not network.bias)


def _first_layer(network: Network, layers: Layers, data: ProbeData) -> FloatArray:
    """``[B, m, d]`` matrix of hidden features (before the activation) over inputs: W; diagonal for a diagonal network;
    of a patches network the filters at each patch, ``[B, P m, inputs]``."""
    if isinstance(network, Patches):
        assert data.arrangement is not None
        return as_two_layer(network, layers, data.arrangement)[0][0]
    if not isinstance(network, Diagonal):
        return layers[0]
    weight = np.prod(np.stack(layers[:-1]), axis=0)
    return weight[:, :, None] * np.eye(weight.shape[1])


def _pooled(network: Network, placed: FloatArray, data: ProbeData, windows: int | None) -> FloatArray:
    """Sums of ``placed`` ``[B, P m, ...]`` over each window's patches, ``[B, q m, ...]``; other networks' unchanged."""
    if not isinstance(network, Patches):
        return placed
    assert data.arrangement is not None
    patches = data.arrangement.shape[1]
    count = network.windows(patches) if windows is None else Patches(windows).windows(patches)
    split = placed.reshape(len(placed), count, patches // count, placed.shape[1] // patches, *placed.shape[2:])
    return split.sum(axis=2).reshape(len(placed), -1, *placed.shape[2:])


def _linear_error(first: FloatArray, data: ProbeData, noise: float, k: int, ridge: float) -> FloatArray:
    gram = np.einsum("bmi,bmj->bij", first, first)
    dimension = gram.shape[1]
    sigma = data.noise_sizes(dimension)
    second_moment = sigma**2
    second_moment[:, :2] += data.mu**2
    system = (noise**2 + ridge) * np.eye(dimension) + second_moment[:, :, None] * gram
    solved = np.linalg.solve(system, np.eye(dimension)[:, [k]])[..., 0]
    seen = np.einsum("bij,bj->bi", gram, solved)
    own, other = data.mu[:, k] * seen[:, k], data.mu[:, 1 - k] * seen[:, 1 - k]
    variance = noise**2 * np.einsum("bi,bi->b", solved, seen) + ((sigma * seen) ** 2).sum(1)
    score = np.stack([own + other, own - other], axis=1)
    return normal_error(score, np.sqrt(np.maximum(variance, 0))[:, None]).mean(axis=1)


def normal_error(score: FloatArray, deviation: FloatArray) -> FloatArray:
    """Phi(-score / deviation); a probe that sees nothing (0 / 0) guesses."""
    from scipy.special import ndtr

    ratio = np.divide(score, deviation, out=np.zeros_like(score), where=deviation > 0)
    return ndtr(-ratio)


@dataclass(frozen=True)
class _Points:
    """Points of the probe data: ``attributes [T, 2]`` and ``weights [T]``; sampled if they hold drawn noise."""

    attributes: FloatArray
    weights: FloatArray
    sampled: bool


def _hidden(
    network: Network, layers: Layers, data: ProbeData, draws_from: int, windows: int | None = None
) -> tuple[FloatArray, _Points]:
    """Hidden features ``[B, T, m]`` without representation noise; ``draws_from`` picks the noise draws."""
    first = _first_layer(network, layers, data)
    dimension = first.shape[2] - int(network.bias)
    hard, hard_class, hard_weight = _hard_atoms(data.slabs)
    attributes = np.stack([np.repeat([1.0, -1.0], len(hard)), np.tile(hard_class, 2)], axis=1)
    values = np.stack([attributes[:, 0], np.tile(hard, 2)], axis=1)
    weights = np.tile(hard_weight, 2) / 2
    sigma = data.noise_sizes(dimension)
    sampled = bool((sigma > 0).any())
    draws = PROBE_DRAWS if sampled else 1
    attributes, values = np.repeat(attributes, draws, axis=0), np.repeat(values, draws, axis=0)
    weights = np.repeat(weights, draws) / draws
    inputs = np.zeros((len(first), len(values), first.shape[2]))
    if sampled:
        normal = np.random.default_rng([20439, draws_from]).standard_normal((len(values), dimension))
        inputs[..., :dimension] = sigma[:, None, :] * normal
    inputs[..., :2] += values * data.mu[:, None, :]
    if network.bias:
        inputs[..., -1] = 1.0
    hidden = np.einsum("bmd,btd->btm", first, inputs, optimize=True)
    if not isinstance(network, Diagonal) and network.activation == "relu":
        hidden = np.maximum(hidden, 0.0)
    if isinstance(network, Patches):
        hidden = _pooled(network, hidden.transpose(0, 2, 1), data, windows).transpose(0, 2, 1)
    return hidden, _Points(attributes, weights, sampled)


def _hard_atoms(half: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positions (in units of mu_hard), classes and weights of the hard attribute's atoms."""
    if half == 0:
        return np.array([1.0, -1.0]), np.array([1.0, -1.0]), np.array([0.5, 0.5])
    atoms = slab_data().atoms(slabs=half)
    return atoms.labels * atoms.signs[:, 1], atoms.labels, atoms.weights


def _ridge_probe(
    hidden: FloatArray, target: FloatArray, weights: FloatArray, noise: float, ridge: float
) -> tuple[FloatArray, FloatArray]:
    """(beta ``[B, m]``, offset ``[B]``) of the weighted regression, in whichever of T and m is smaller."""
    centre = np.einsum("t,btm->bm", weights, hidden)
    root = np.sqrt(weights)
    design = root[:, None] * (hidden - centre[:, None])
    mean = float(weights @ target)
    answer = root * (target - mean)
    points, width = design.shape[1:]
    shift = noise**2 + ridge
    if points <= width:
        kernel = np.einsum("btm,bsm->bts", design, design, optimize=True) + shift * np.eye(points)
        dual = np.linalg.solve(kernel, np.broadcast_to(answer[:, None], (len(design), points, 1)))
        beta = np.einsum("btm,bt->bm", design, dual[..., 0])
    else:
        moment = np.einsum("btm,btn->bmn", design, design, optimize=True) + shift * np.eye(width)
        beta = np.linalg.solve(moment, np.einsum("btm,t->bm", design, answer)[..., None])[..., 0]
    return beta, mean - np.einsum("bm,bm->b", beta, centre)
