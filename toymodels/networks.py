"""The toy networks: shapes and initialisation. End-to-end coefficients come from the engine.

Seeds are common random numbers: runs with the same seed start from the same draw, whatever else is swept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.names import ACTIVATIONS
from kernels.problem import Layers
from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice, require_whole

NETWORK_NAMES = ("diagonal", "linear", "relu", "patches")
HEADS = ("local", "pooled")
"""Heads of a patches network by name; a number is one of that many windows."""


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


@dataclass(frozen=True)
class Patches:
    """f(x) = sum_p V_w(p) . act(W x_p): filters W ``[m, d]`` that all patches x_p share, as in a convolution.

    The head V ``[q, m]`` has one row for each of q windows of neighbouring patches: ``"local"``, a window per patch
    (what Flatten and Linear are), ``"pooled"``, one window (global pooling), or a number of windows between them.
    :class:`PatchLayout` says what the patches hold. Weights start at init * normal / sqrt(m), so that the filters' norm
    along a pattern and the norm of each row of the head are ``init`` on average. The nominal start, jitter = 0, is that
    of an infinitely wide network: the columns of W and the rows of V are orthogonal, and their norms are ``init``
    exactly (if m is at least d + q). ``imbalance`` delta multiplies the head by e^delta and the filters by e^-delta.
    """

    head: str | int = "local"
    activation: str = "linear"

    def __post_init__(self) -> None:
        require_choice("activation", self.activation, ACTIVATIONS)
        if isinstance(self.head, str):
            if self.head not in HEADS:
                raise ValueError(f"head={self.head!r}; allowed: {', '.join(HEADS)} or a number of windows")
        else:
            require_whole("head", self.head, least=1)

    @property
    def name(self) -> str:
        """``patches``."""
        return "patches"

    @property
    def bias(self) -> bool:
        """Always false."""
        return False

    @property
    def odd(self) -> bool:
        """Whether f(-x) = -f(x)."""
        return self.activation == "linear"

    def windows(self, patches: int) -> int:
        """q for a number of patches, which it must divide."""
        if self.head == "local":
            return patches
        windows = 1 if self.head == "pooled" else int(self.head)
        if patches % windows:
            raise ValueError(f"head={windows} windows; allowed: a number that divides the {patches} patches")
        return windows

    def initial_layers(
        self,
        seeds: np.ndarray,
        init: FloatArray,
        jitter: FloatArray,
        imbalance: FloatArray,
        dimension: int,
        width: int,
        patches: int,
    ) -> Layers:
        """(W ``[B, m, d]``, V ``[B, q, m]``) from per-run seeds and scales ``[B]``."""
        rows = dimension + self.windows(patches)

        def draw(rng: np.random.Generator) -> np.ndarray:
            normal = rng.standard_normal((rows, width)) / np.sqrt(width)
            orthogonal = np.linalg.qr(normal.T)[0].T if width >= rows else normal
            return np.stack([normal, orthogonal])

        both = _per_seed(seeds, draw)
        start = np.where((jitter == 0)[:, None, None], both[:, 1], both[:, 0])
        filters, head = start[:, :dimension].transpose(0, 2, 1), start[:, dimension:]
        small, large = init * np.exp(-imbalance), init * np.exp(imbalance)
        return filters * small[:, None, None], head * large[:, None, None]


@dataclass(frozen=True)
class PatchLayout:
    """What the patches of an example hold: first those with the easy feature, then those with the hard one, then noise.

    Feature k is a pattern, a unit vector of R^d; the patterns' cosine is the parameter ``cosine``. Each of ``copies``
    patches holds x_p = y s_k mu_k pattern_k. ``noise_patches`` more patches hold noise only, and ``noise_features``
    more coordinates of every patch do.
    """

    copies: int = 1
    noise_patches: int = 0
    noise_features: int = 0

    @property
    def patches(self) -> int:
        """P."""
        return 2 * self.copies + self.noise_patches

    @property
    def dimension(self) -> int:
        """d, of one patch."""
        return 2 + self.noise_features

    @property
    def inputs(self) -> int:
        """Independent numbers in an example: the two features, then noise."""
        return 2 + 2 * self.copies * self.noise_features + self.noise_patches * self.dimension

    def arrangement(self, cosine: FloatArray) -> FloatArray:
        """``[B, P, d, inputs]``: patches are linear in the inputs, x = arrangement @ inputs. ``cosine`` is ``[B]``."""
        placed = np.zeros((len(cosine), self.patches, self.dimension, self.inputs))
        easy, hard = slice(0, self.copies), slice(self.copies, 2 * self.copies)
        placed[:, easy, 0, 0] = 1.0
        placed[:, hard, 0, 1] = cosine[:, None]
        placed[:, hard, 1, 1] = np.sqrt(1.0 - cosine**2)[:, None]
        column = 2
        for patch in range(self.patches):
            for coordinate in range(0 if patch >= 2 * self.copies else 2, self.dimension):
                placed[:, patch, coordinate, column] = 1.0
                column += 1
        return placed


Network = Diagonal | TwoLayer | Patches


def same_runs(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both arrays with a leading B, views where one has a leading 1."""
    runs = max(len(first), len(second))
    return np.broadcast_to(first, (runs, *first.shape[1:])), np.broadcast_to(second, (runs, *second.shape[1:]))


def feature_coefficients(coefficients: FloatArray, arrangement: FloatArray | None, features: int = 2) -> FloatArray:
    """``[B, ..., K]`` of the K features (two in patches), from coefficients ``[B, ..., d]`` or ``[B, ..., P, d]``."""
    if arrangement is None:
        return coefficients[..., :features]
    coefficients, arrangement = same_runs(coefficients, arrangement)
    return np.einsum("b...pd,bpdk->b...k", coefficients, arrangement[..., :2])


def as_two_layer(network: Patches, layers: Layers, arrangement: FloatArray) -> tuple[Layers, TwoLayer]:
    """The fully connected network on the inputs that computes what a patches network computes on their patches.

    Every filter at every patch is a hidden neuron, with the weights of its window's row of the head.

    Args:
        network: the patches network.
        layers: (W ``[B, ..., m, d]``, V ``[B, ..., q, m]``).
        arrangement: ``[B or 1, P, d, inputs]``.

    Returns:
        ((``[B, ..., P m, inputs]``, ``[B, ..., P m]``), the network).
    """
    first, last = layers
    patches = arrangement.shape[1]
    placed = np.broadcast_to(arrangement, (len(first), *arrangement.shape[1:]))
    filters = np.einsum("b...md,bpdn->b...pmn", first, placed, optimize=True)
    head = np.repeat(last, patches // last.shape[-2], axis=-2)
    lead = first.shape[:-2]
    return (filters.reshape(*lead, -1, filters.shape[-1]), head.reshape(*lead, -1)), TwoLayer(network.activation)


def network(name: str, bias: bool = False, head: str | int | None = None, activation: str | None = None) -> Network:
    """A network by name: ``diagonal``, ``linear`` or ``relu`` (two-layer), or ``patches`` (with a head)."""
    require_choice("network", name, NETWORK_NAMES)
    if name == "patches":
        if bias:
            raise ValueError("bias=True: a patches network has no bias; allowed with network linear or relu")
        windows = int(head) if isinstance(head, str) and head.isdecimal() else head
        return Patches(windows if windows is not None else "local", activation or "linear")
    for option, value in (("head", head), ("activation", activation)):
        if value is not None:
            raise ValueError(f"{option}={value!r}: allowed with network patches only")
    if name == "diagonal":
        if bias:
            raise ValueError("bias=True: a diagonal network has no bias; allowed with network linear or relu")
        return Diagonal()
    return TwoLayer(activation=name, bias=bias)


def _per_seed(seeds: np.ndarray, draw) -> np.ndarray:  # type: ignore[no-untyped-def]
    distinct, row = np.unique(seeds, return_inverse=True)
    return np.stack([draw(np.random.default_rng([int(seed), 0])) for seed in distinct])[row]
