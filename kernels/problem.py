"""The one contract that all engines share: a batch of independent small trainings.

A :class:`TrainingProblem` holds ``B`` runs as structure-of-arrays. Run ``i`` trains one network by

    theta <- theta - eta_i * buffer,    buffer <- momentum_i * buffer + g(theta~) + weight_decay_i * theta,

where ``theta~ = theta + rho_i * direction(g(theta))`` is the *phantom point* (Foret et al. 2021, eq. 2) and ``g`` is
the gradient of ``sum_n pi_n loss(m_n)`` with margins ``m_n = y_n f(x_n)``. Shapes use

    B runs, S samples, d features, P patches of d features each, m hidden neurons or filters, q windows of a head,
    L layers of a diagonal network, R record steps, K loss levels.

Arrays that are already float64 are not copied: leave them alone while a problem uses them. What a run that overflows
between opposite infinities does (-inf or NaN, and with it the step at which it stops) depends on whether the machine
fuses multiply and add.

This module knows nothing of features, phases or figures; it only says what a training is and what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.names import ACTIVATIONS, EFFECTS, LOSSES, NETWORKS, NORM_GROUPS, NORMS, PERTURBED_SETS
from sambalance_tools.arrays import FloatArray, IntArray
from sambalance_tools.checks import require_choice, require_whole
from sambalance_tools.fields import Converted, frozen_dataclass

Layers = tuple[FloatArray, ...]

_MOST = 2**63 - 1
"""Largest whole number that the engines hold."""


class Status(IntEnum):
    """How a run ended."""

    OK = 0
    DIVERGED = 1
    """A step would have made a parameter non-finite, or the final loss is not finite. The run was frozen at its last
    finite parameters; records and crossings after that step stay NaN and -1."""
    COLLAPSED = 2
    """Every end-to-end coefficient ended below ``collapse_threshold`` in absolute value."""


def _as_whole_numbers(name: str, value: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(value).reshape(-1)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}={value!r}; allowed: whole numbers")
    return array.astype(np.int64)


def _as_whole_numbers_or_none(name: str, value: ArrayLike | None) -> Any:
    return None if value is None else _as_whole_numbers(name, value)


def _as_seeds(name: str, value: ArrayLike) -> NDArray[np.uint64]:
    # Through Python's integers: NumPy would make floats of a list that mixes large and small ones.
    array = np.asarray(value, dtype=object)
    seeds = array.reshape(-1).tolist()
    if array.ndim > 1 or not all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in seeds):
        raise ValueError(f"{name}={value!r}; allowed: a whole number or one per run, [B]")
    for seed in seeds:
        if not 0 <= seed < 2**64:
            raise ValueError(f"{name} contains {seed}; allowed: 0 to 2^64 - 1")
    return np.array(seeds, dtype=np.uint64)


def _as_finite(name: str, value: ArrayLike) -> FloatArray:
    if value is None:
        raise ValueError(f"{name} is not numeric: None")
    try:
        if np.iscomplexobj(value):
            raise TypeError
        array = np.ascontiguousarray(value, dtype=np.float64) if np.ndim(value) else np.asarray(value, np.float64)
    except (TypeError, ValueError):
        shown = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)
        raise ValueError(f"{name} is not numeric: {shown}") from None
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}{list(index) if index else ''} is {array[index]}; allowed: finite numbers")
    return array


def _as_finite_or_none(name: str, value: ArrayLike | None) -> Any:
    return None if value is None else _as_finite(name, value)


def _as_layers(name: str, value: Sequence[ArrayLike]) -> Layers:
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, str):
        raise ValueError(f"{name}={value!r}; allowed: a sequence of arrays, one per layer")
    return tuple(_as_finite(f"{name}[{i}]", layer) for i, layer in enumerate(value))


def _require_dimensions(name: str, array: FloatArray, ndim: int) -> None:
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; allowed: {ndim} dimensions, the first being runs (or 1)")


def _require_shape(name: str, array: FloatArray, trailing: tuple[int, ...]) -> None:
    _require_dimensions(name, array, len(trailing) + 1)
    if array.shape[1:] != trailing:
        wanted = ", ".join(map(str, trailing))
        raise ValueError(f"{name} has shape {array.shape}; allowed: [runs or 1, {wanted}]")


_Floats = Converted[ArrayLike, FloatArray]


@frozen_dataclass
class TrainingProblem:
    """``B`` independent trainings that share their shapes, their kind of network and their kind of rule.

    Args:
        features: ``[B or 1, S, d]`` inputs; of ``patches`` networks ``[B or 1, S, P, d]``. A leading 1 is shared by all
            runs without a copy.
        labels: ``[B or 1, S]``, each -1 or +1.
        initial_layers: the parameters at step 0, from the first layer to the last.
            ``diagonal``: two or more arrays ``[B or 1, d]``; ``f(x) = sum_k x_k prod_l layer_l[k]``.
            ``two_layer``: ``(W [B or 1, m, d], v [B or 1, m])``; ``f(x) = v . act(W x)``.
            ``patches``: ``(W [B or 1, m, d], V [B or 1, q, m])``; ``f(x) = sum_k V_w(k) . act(W x_k)``: the filters W
            are shared by all patches, and the head has one row for each window of P/q neighbouring patches,
            ``w(k) = floor(k q / P)``. q = P is a *local* head, q = 1 a *pooled* one: V may then be ``[B or 1, m]``.
            There are no biases: append a constant feature to ``features`` for a first-layer bias.
        network: ``"diagonal"``, ``"two_layer"`` or ``"patches"``.
        activation: ``"linear"`` or ``"relu"`` (not for diagonal networks).
        sample_weights: ``[B or 1, S]``, non-negative, each row sums to 1. Default: ``1/S``.
        feature_scale: ``[B or 1, d]`` (``[B or 1, P, d]``) multiplies the features, so that a sweep over feature
            strengths on one data set needs no copy of the data. Default: ones.
        loss: ``"logistic"`` log(1 + e^-m), ``"exponential"`` e^-m, or ``"squared"`` (1 - m)^2 / 2.
        eta: learning rate, a number or ``[B]``, >= 0.
        rho: perturbation radius, a number or ``[B]``, >= 0. ``rho = 0`` is gradient descent.
        sam_from, sam_until: whole numbers >= 0, one or ``[B]``: steps t with ``sam_from <= t < sam_until`` perturb, the
            others are gradient descent. None: until the end.
        perturb: which layers the perturbation moves *and* which gradient enters its norm.
        norm: ``"l2"``: rho g/||g||_2; ``"linf"``: rho sign(g); ``"none"``: rho g; ``"adaptive"``: rho T^2 g/||T g||_2
            with T = |theta| + adaptive_eta, elementwise (Kwon et al. 2021, ASAM). A zero gradient perturbs nothing; so
            does one whose square underflows (entries below about 1e-154 in float64).
        norm_over: which perturbed weights share a norm, for ``"l2"`` and ``"adaptive"``: ``"all"`` of them, those of a
            ``"layer"``, or those of a ``"feature"`` (diagonal networks). Each group is moved by rho.
        adaptive_eta: a number >= 0, see ``norm``.
        effect: which part of the gradient -sum_n pi_n lambda_n y_n J_n is taken at the phantom point:
            ``"full"`` both, ``"weights"`` the example weights lambda only, ``"jacobian"`` the Jacobian J only.
        weight_decay, momentum: numbers or ``[B]``, >= 0 (momentum < 1), as in ``torch.optim.SGD`` around SAM: the
            decay term is taken at the real weights and does not enter the perturbation.
        steps: number of updates, >= 0.
        batch_size: samples drawn with replacement, with probabilities ``sample_weights``, for each step (both of its
            gradients use the same draw and weight it 1/batch_size). None: every step sees all samples. Records and
            crossings always refer to all samples. See :mod:`kernels.sampling` for the generator.
        batch_seed: a number or ``[B]`` whole numbers in [0, 2^64); runs that share it share their mini-batches.
        record_steps: increasing steps in [0, steps] at which the state *before* the update is kept.
        record_layers: keep all parameters at record steps and crossings as well.
        loss_levels: positive training-loss levels whose first crossing from above is kept, in any order.
        collapse_threshold: see :attr:`Status.COLLAPSED`.

    Raises:
        ValueError: names the argument, the offending value and what is allowed.

    Example:
        >>> import numpy as np
        >>> problem = TrainingProblem(
        ...     features=np.array([[[2.0, 1.0]]]), labels=np.array([[1.0]]),
        ...     initial_layers=(np.full((3, 2), 0.4), np.full((3, 2), 0.4)),
        ...     eta=0.05, rho=[0.0, 0.3, 0.5], steps=100)
        >>> problem.runs, problem.samples, problem.dimension
        (3, 1, 2)
    """

    features: _Floats = Converted(_as_finite)
    labels: _Floats = Converted(_as_finite)
    initial_layers: Converted[Sequence[ArrayLike], Layers] = Converted(_as_layers)
    network: str = "diagonal"
    activation: str = "linear"
    sample_weights: Converted[ArrayLike | None, FloatArray] = Converted(_as_finite_or_none, default=None)
    feature_scale: Converted[ArrayLike | None, FloatArray] = Converted(_as_finite_or_none, default=None)
    loss: str = "logistic"
    eta: _Floats = Converted(_as_finite, default=0.01)
    rho: _Floats = Converted(_as_finite, default=0.0)
    sam_from: Converted[ArrayLike, NDArray[np.int64]] = Converted(_as_whole_numbers, default=0)
    sam_until: Converted[ArrayLike | None, NDArray[np.int64]] = Converted(_as_whole_numbers_or_none, default=None)
    perturb: str = "all"
    norm: str = "l2"
    norm_over: str = "all"
    adaptive_eta: float = 0.01
    effect: str = "full"
    weight_decay: _Floats = Converted(_as_finite, default=0.0)
    momentum: _Floats = Converted(_as_finite, default=0.0)
    steps: int = 1000
    batch_size: int | None = None
    batch_seed: Converted[ArrayLike, NDArray[np.uint64]] = Converted(_as_seeds, default=0)
    record_steps: Converted[ArrayLike, NDArray[np.int64]] = Converted(_as_whole_numbers, default=())
    record_layers: bool = False
    loss_levels: _Floats = Converted(_as_finite, default=())
    collapse_threshold: float = 1e-2
    runs: int = field(init=False)

    def __post_init__(self) -> None:
        for name, allowed in (
            ("network", NETWORKS),
            ("activation", ACTIVATIONS),
            ("loss", LOSSES),
            ("perturb", PERTURBED_SETS),
            ("norm", NORMS),
            ("norm_over", NORM_GROUPS),
            ("effect", EFFECTS),
        ):
            require_choice(name, getattr(self, name), allowed)
        if self.network == "diagonal" and self.activation != "linear":
            raise ValueError(f"activation={self.activation!r}: a diagonal network is linear; use network='two_layer'")

        self._check_norm()

        features = self.features
        _require_dimensions("features", features, 4 if self.network == "patches" else 3)
        if 0 in features.shape[1:]:
            raise ValueError(f"features has shape {features.shape}: at least one sample and one feature are needed")
        layers = self.initial_layers
        self._check_layers()
        vectors: dict[str, FloatArray] = {
            "eta": self.eta, "rho": self.rho, "weight_decay": self.weight_decay, "momentum": self.momentum
        }  # fmt: skip
        for name, vector in vectors.items():
            if vector.ndim > 1:
                raise ValueError(f"{name} has shape {vector.shape}; allowed: a number or one value per run, [B]")
            if (vector < 0).any():
                raise ValueError(f"{name}={vector.min():g} is negative; allowed: {name} >= 0")
        if (vectors["momentum"] >= 1).any():
            raise ValueError(f"momentum={vectors['momentum'].max():g}; allowed: 0 <= momentum < 1")

        samples, sample_shape = features.shape[1], features.shape[2:]
        labels = self.labels
        _require_shape("labels", labels, (samples,))
        if not np.isin(labels, (-1.0, 1.0)).all():
            bad = labels[~np.isin(labels, (-1.0, 1.0))].flat[0]
            raise ValueError(f"labels contains {bad:g}; allowed: -1 and +1")
        weights = np.full((1, samples), 1.0 / samples) if self.sample_weights is None else self.sample_weights
        _require_shape("sample_weights", weights, (samples,))
        if (weights < 0).any():
            raise ValueError(f"sample_weights contains {weights.min():g}; allowed: >= 0")
        totals = weights.sum(axis=1)
        worst = totals[np.abs(totals - 1).argmax()]
        if abs(worst - 1) > 1e-6:
            raise ValueError(f"sample_weights: a row sums to {worst:.9g}; allowed: every row sums to 1")
        scale = np.ones((1, *sample_shape)) if self.feature_scale is None else self.feature_scale
        _require_shape("feature_scale", scale, sample_shape)

        seeds = self.batch_seed
        if self.batch_size is not None:
            require_whole("batch_size", self.batch_size, least=1, most=_MOST)
        require_whole("steps", self.steps, least=0, most=_MOST)
        if not isinstance(self.record_layers, (bool, np.bool_)):
            raise ValueError(f"record_layers={self.record_layers!r}; allowed: True, False")
        windows = {"sam_from": self.sam_from, "sam_until": self.sam_until}
        if self.sam_until is None:
            # No number of steps: a copy of the problem with more steps still perturbs until its end.
            windows["sam_until"] = np.array([np.iinfo(np.int64).max])
        for name, numbers in windows.items():
            if (numbers < 0).any():
                raise ValueError(f"{name} contains {numbers.min()}; allowed: whole numbers >= 0")

        leading = {
            "features": features.shape[0],
            "labels": labels.shape[0],
            "sample_weights": weights.shape[0],
            "feature_scale": scale.shape[0],
            **{f"initial_layers[{i}]": layer.shape[0] for i, layer in enumerate(layers)},
            **{name: vector.size for name, vector in vectors.items()},
            "batch_seed": seeds.size,
            **{name: steps.size for name, steps in windows.items()},
        }
        runs = max(leading.values())
        for name, size in leading.items():
            if size not in (1, runs):
                raise ValueError(f"{name} has {size} runs where the problem has {runs}; allowed: {runs} or 1")
        if runs == 0 or 0 in leading.values():
            raise ValueError("the problem has no runs; at least one is needed")

        record = self.record_steps
        if record.size and (record[0] < 0 or record[-1] > self.steps or (np.diff(record) <= 0).any()):
            raise ValueError(f"record_steps={record.tolist()}; allowed: increasing steps in 0..{self.steps}")
        levels = self.loss_levels.reshape(-1)
        if (levels <= 0).any():
            raise ValueError(f"loss_levels contains {levels.min():g}; allowed: > 0")
        threshold = self.collapse_threshold
        number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
        if not number or not threshold >= 0:
            raise ValueError(f"collapse_threshold={threshold!r}; allowed: a number >= 0")

        checked: dict[str, Any] = {
            "features": features,
            "labels": labels,
            "sample_weights": weights,
            "feature_scale": scale,
            "initial_layers": tuple(np.broadcast_to(layer, (runs, *layer.shape[1:])) for layer in layers),
            **{name: np.broadcast_to(vector.reshape(-1), (runs,)) for name, vector in vectors.items()},
            "steps": int(self.steps),
            "batch_seed": np.broadcast_to(seeds, (runs,)),
            **{name: np.broadcast_to(numbers, (runs,)) for name, numbers in windows.items()},
            "adaptive_eta": float(self.adaptive_eta),
            "record_steps": record,
            "loss_levels": levels,
            "runs": runs,
        }
        # Converted once, they are not converted again: that would copy what is only broadcast.
        vars(self).update(checked)

    def _check_norm(self) -> None:
        if self.norm_over != "all" and self.norm not in ("l2", "adaptive"):
            raise ValueError(f"norm_over={self.norm_over!r}: norm={self.norm!r} has none; allowed: l2, adaptive")
        if self.norm_over == "feature" and self.network != "diagonal":
            raise ValueError(
                f"norm_over='feature': features of a {self.network} network share their weights; allowed: all, layer"
            )
        eta = self.adaptive_eta
        if not isinstance(eta, (int, float, np.number)) or not 0 <= eta < np.inf:
            raise ValueError(f"adaptive_eta={eta!r}; allowed: a number >= 0")

    def _check_layers(self) -> None:
        layers, dimension = self.initial_layers, self.features.shape[-1]
        if self.network == "diagonal":
            if len(layers) < 2:
                raise ValueError(f"initial_layers has {len(layers)} layers; a diagonal network needs at least 2")
            for i, layer in enumerate(layers):
                _require_shape(f"initial_layers[{i}]", layer, (dimension,))
            return
        if len(layers) != 2:
            raise ValueError(f"initial_layers has {len(layers)} layers; a {self.network} network needs (W, v)")
        first, last = layers
        _require_dimensions("initial_layers[0]", first, 3)
        width = first.shape[1]
        if width == 0:
            raise ValueError(f"initial_layers[0] has shape {first.shape}; at least one neuron is needed")
        _require_shape("initial_layers[0]", first, (width, dimension))
        if self.network == "patches" and last.ndim != 2:
            windows = last.shape[1] if last.ndim == 3 else 1
            _require_shape("initial_layers[1]", last, (windows, width))
            if windows == 0 or self.patches % windows:
                raise ValueError(
                    f"initial_layers[1] has {windows} windows; allowed: a number that divides {self.patches} patches"
                )
            return
        _require_shape("initial_layers[1]", last, (width,))

    @property
    def samples(self) -> int:
        """S, the number of training samples."""
        return int(self.features.shape[1])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, and of the end-to-end coefficients: (d,), or (P, d) of a patches network."""
        return self.features.shape[2:]

    @property
    def dimension(self) -> int:
        """Numbers in one sample: d, or P d of a patches network."""
        return int(np.prod(self.sample_shape))

    @property
    def patches(self) -> int:
        """P, the number of patches of a sample; 1 except for a patches network."""
        return int(self.features.shape[2]) if self.network == "patches" else 1

    @property
    def windows(self) -> int:
        """q, the number of rows of a patches network's head; 1 for other networks."""
        last = self.initial_layers[-1]
        return int(last.shape[1]) if self.network == "patches" and last.ndim == 3 else 1

    @property
    def width(self) -> int:
        """m, the number of hidden neurons or filters (d for a diagonal network)."""
        return int(self.initial_layers[0].shape[1])

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.initial_layers)

    @property
    def perturbed_layers(self) -> tuple[int, ...]:
        """Indices of the layers that the perturbation moves."""
        last = self.depth - 1
        return {"all": tuple(range(self.depth)), "last": (last,), "first": (0,)}[self.perturb]

    @property
    def layers(self) -> Layers:
        """``initial_layers``, each with a leading B (a view where it was broadcast)."""
        return self.initial_layers

    def select(self, runs: slice) -> TrainingProblem:
        """The sub-problem of a contiguous slice of runs; shared arrays stay shared."""

        def rows(array: FloatArray) -> FloatArray:
            return array if len(array) == 1 else array[runs]

        return replace(
            self,
            features=rows(self.features),
            labels=rows(self.labels),
            sample_weights=rows(self.sample_weights),
            feature_scale=rows(self.feature_scale),
            initial_layers=tuple(layer[runs] for layer in self.layers),
            eta=self.eta[runs],
            rho=self.rho[runs],
            weight_decay=self.weight_decay[runs],
            momentum=self.momentum[runs],
            batch_seed=self.batch_seed[runs],
            sam_from=self.sam_from[runs],
            sam_until=self.sam_until[runs],
        )


@dataclass(frozen=True)
class Records:
    """States kept at ``steps`` ``[R]``; NaN from the step at which a run diverged."""

    steps: IntArray
    coefficients: FloatArray
    """``[B, R, d]`` (``[B, R, P, d]``) end-to-end coefficients."""
    loss: FloatArray
    """``[B, R]`` training loss."""
    gradient_norm: FloatArray
    """``[B, R]`` l2 norm of the gradient over all parameters, weight decay excluded."""
    layers: Layers | None = None
    """Parameters, ``[B, R, ...]``; None unless ``record_layers`` is set."""


@dataclass(frozen=True)
class Crossings:
    """The first step at which the training loss was at or below each of ``levels`` ``[K]``."""

    levels: FloatArray
    step: IntArray
    """``[B, K]``; -1 where the level was not reached."""
    coefficients: FloatArray
    """``[B, K, d]`` (``[B, K, P, d]``) end-to-end coefficients at that step; NaN where a level was not reached."""
    loss: FloatArray
    """``[B, K]`` training loss at that step (a little below the level); NaN where it was not reached."""
    layers: Layers | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What an engine returns. Arrays are float64 whatever the engine's precision."""

    engine: str
    precision: str
    layers: Layers
    """Final parameters, as ``initial_layers``, each with a leading B."""
    coefficients: FloatArray
    """``[B, d]`` final end-to-end coefficients u, in units of 1/feature: diagonal prod_l layer_l; two-layer linear
    W^T v; two-layer ReLU W^T v / 2, the exact linear part of f, since (f(x) - f(-x))/2 = v . W x / 2. ``[B, P, d]`` of
    patches networks: W^T V_w(k) of patch k, half of it with ReLU."""
    loss: FloatArray
    """``[B]`` final training loss."""
    gradient_norm: FloatArray
    """``[B]`` final gradient norm."""
    status: NDArray[np.int8]
    """``[B]``, values of :class:`Status`."""
    stopped_step: IntArray
    """``[B]`` updates done: ``steps``, or fewer where the run diverged."""
    records: Records
    crossings: Crossings
    seconds: float
    """Wall time of the engine, set-up and copies included."""


def final_status(
    problem: TrainingProblem, coefficients: FloatArray, loss: FloatArray, stopped_step: IntArray
) -> NDArray[np.int8]:
    """``[B]`` :class:`Status` of runs from their final coefficients ``[B, ...]`` and loss, and the updates they did."""
    collapsed = (np.abs(coefficients) < problem.collapse_threshold).reshape(problem.runs, -1).all(axis=1)
    diverged = (stopped_step < problem.steps) | ~np.isfinite(loss)
    return np.where(diverged, Status.DIVERGED, np.where(collapsed, Status.COLLAPSED, Status.OK)).astype(np.int8)
