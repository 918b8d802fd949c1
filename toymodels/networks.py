"""The toy networks: shapes and initialisation. End-to-end coefficients come from the engine.

Seeds are common random numbers: runs with the same seed start from the same draw, whatever else is swept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.problem import Layers
from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice

NETWORK_NAMES = ("diagonal", "linear", "relu")


@dataclass(frozen=True)
class Diagonal:
    """f(x) = sum_k x_k prod_l layer_l[k]; starts balanced at init * exp(jitter * normal) per feature.

    ``imbalance`` delta starts the last layer at a e^delta and the first at a e^-delta.
    """

    name: str = "diagonal"
    bias: bool = False

    @property
    def odd(self) -> bool:
        """Whether f(-x) = -f(x)."""
        return True

    def initial_layers(
        self,
        seeds: np.ndarray,
        init: FloatArray,
        jitter: FloatArray,
        imbalance: FloatArray,
        dimension: int,
        depth: int,
    ) -> Layers:
        """Layers ``[B, d]`` from per-run seeds and scales ``[B]``."""
        normal = _per_seed(seeds, lambda rng: rng.standard_normal(dimension))
        weight = init[:, None] * np.exp(jitter[:, None] * normal)
        first, last = weight * np.exp(-imbalance)[:, None], weight * np.exp(imbalance)[:, None]
        return (first, *[weight] * (depth - 2), last)


@dataclass(frozen=True)
class TwoLayer:
    """f(x) = v . act(W x), width m; W_jk = init * normal / sqrt(m) and v_j = +-||W_j||.

    The start is balanced neuron by neuron and its norm, sqrt(2 d) init on average, is that of the diagonal network at
    the same ``init`` for every width; ``init`` runs from rich (small) to lazy (large). ``bias`` adds a constant feature
    1, whose weights are first-layer biases (perturbed and decayed with that layer).
    """

    activation: str = "relu"
    bias: bool = False

    @property
    def name(self) -> str:
        """``relu`` or ``linear``."""
        return self.activation

    @property
    def odd(self) -> bool:
        """Whether f(-x) = -f(x)."""
        return self.activation == "linear" and not self.bias

    def initial_layers(self, seeds: np.ndarray, init: FloatArray, dimension: int, width: int) -> Layers:
        """(W ``[B, m, d]``, v ``[B, m]``) from per-run seeds and scales ``[B]``."""

        def draw(rng: np.random.Generator) -> np.ndarray:
            first = rng.standard_normal((width, dimension)) / np.sqrt(width)
            if self.bias:
                first[:, -1] = 0.0
            sign = np.where(np.arange(width) % 2 == 0, 1.0, -1.0)
            return np.concatenate([first, (sign * np.linalg.norm(first, axis=1))[:, None]], axis=1)

        both = _per_seed(seeds, draw) * init[:, None, None]
        return both[..., :-1], both[..., -1]


Network = Diagonal | TwoLayer


def network(name: str, bias: bool = False) -> Network:
    """A network by name: ``diagonal``, ``linear`` or ``relu`` (two-layer)."""
    require_choice("network", name, NETWORK_NAMES)
    if name == "diagonal":
        if bias:
            raise ValueError("bias=True: a diagonal network has no bias; allowed with network linear or relu")
        return Diagonal()
    return TwoLayer(activation=name, bias=bias)


def _per_seed(seeds: np.ndarray, draw) -> np.ndarray:  # type: ignore[no-untyped-def]
    distinct, row = np.unique(seeds, return_inverse=True)
    return np.stack([draw(np.random.default_rng([int(seed), 0])) for seed in distinct])[row]
