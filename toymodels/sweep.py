"""A sweep: one experiment with some of its numbers replaced by named axes, times seeds; and its flat batch of runs.

Axes are one-to-one with the dimensions of the result: a sweep over ``{"rho": ..., "ratio": ...}`` with four seeds gives
a dataset with dimensions ``(rho, ratio, seed, ...)`` and the axis values as coordinates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kernels.names import LOSSES
from kernels.problem import Layers
from kernels.reference import run_sum
from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice, require_whole
from toymodels.data import FEATURES, FeatureData, data_kind, redundant
from toymodels.memory import require_sweep_memory
from toymodels.networks import Diagonal, Network, Patches, PatchLayout, TwoLayer, network
from toymodels.parameters import PARAMETERS, PATCHES_ONLY, STRUCTURAL, parameter
from toymodels.rules import UpdateRule, rule


@dataclass(frozen=True)
class Sweep:
    """What to train: network, data and rule, fixed parameter values, swept axes and seeds.

    Args:
        network, data, rule: see :mod:`toymodels.networks`, :mod:`toymodels.data`, :mod:`toymodels.rules`; or
            their names.
        values: fixed parameters by name (see :data:`toymodels.parameters.PARAMETERS`); the others keep their defaults.
        axes: swept parameters by name, each a non-empty sequence of values.
        seeds: a number of seeds (0, 1, ...) or the seeds themselves; they draw starts, noise and mini-batches.
        loss: ``logistic``, ``exponential`` or ``squared``.
        loss_levels: training-loss levels at which runs are compared.
        record_steps: steps at which coefficients and loss are kept.
        group_accuracy: also measure the accuracy of every group, at the end and at each level.
        probe_noise: if > 0, also probe the hidden features for both attributes under noise of this standard deviation
            (see :mod:`toymodels.probe`), at the end and at each level.
        suppression: also measure how far the rule's phantom point suppresses each feature (see
            :mod:`toymodels.suppression`), at the end and at each level.
        collapse_threshold: a run has collapsed when both coefficients end below it.

    Raises:
        ValueError: names the argument, the value and what is allowed.

    Example:
        >>> Sweep(axes={"rho": [0.0, 0.3], "ratio": [0.25, 0.5, 1.0]}, seeds=2).shape
        (2, 3, 2)
    """

    network: Network = field(default_factory=Diagonal)
    data: FeatureData = field(default_factory=redundant)
    rule: UpdateRule = field(default_factory=lambda: rule("sam"))
    values: Mapping[str, float] = field(default_factory=dict)
    axes: Mapping[str, Sequence[float] | FloatArray] = field(default_factory=dict)
    seeds: int | Sequence[int] = 4
    loss: str = "logistic"
    loss_levels: Sequence[float] = (0.4, 0.2, 0.1, 0.05)
    record_steps: Sequence[int] = ()
    group_accuracy: bool = False
    probe_noise: float = 0.0
    suppression: bool = False
    collapse_threshold: float = 1e-2

    def __post_init__(self) -> None:
        self._name_parts()
        require_choice("loss", self.loss, LOSSES)
        for name in ("values", "axes"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name}={getattr(self, name)!r}; allowed: a mapping of parameters' names")
        values = {name: _value(name, value) for name, value in self.values.items()}
        axes = {name: _axis(name, axis) for name, axis in self.axes.items()}
        for name in axes:
            if name in values:
                raise ValueError(
                    f"{name} is given both as a value ({values[name]:g}) and as an axis; allowed: one of them"
                )
        both = {*values, *axes}
        if {"ratio", "mu_hard"} <= both:
            raise ValueError("ratio and mu_hard are both given; allowed: one of them (ratio = mu_hard / mu_easy)")
        if {"rho", "relative_radius"} <= both:
            raise ValueError("rho and relative_radius are both given; allowed: one of them (rho = r * initial norm)")
        if not isinstance(self.network, Patches):
            for name in both.intersection(PATCHES_ONLY):
                if name in axes or values[name] != parameter(name).default:
                    raise ValueError(f"{name} is a parameter of patches networks; allowed: with network patches only")
        count = self.seeds if isinstance(self.seeds, (int, np.integer)) else np.size(self.seeds)
        if count < _LARGEST_SEED:  # else the seeds are refused as such
            require_sweep_memory(
                self.network, values, axes, count, np.size(self.loss_levels), np.size(self.record_steps)
            )
        seeds = _seeds(self.seeds)
        levels = _numbers("loss_levels", self.loss_levels)
        if not all(math.isfinite(level) and level > 0 for level in levels) or len(set(levels)) < len(levels):
            raise ValueError(f"loss_levels={levels}; allowed: distinct numbers > 0")
        (probe_noise,) = _numbers("probe_noise", [self.probe_noise])
        if not (math.isfinite(probe_noise) and probe_noise >= 0):
            raise ValueError(f"probe_noise={self.probe_noise!r}; allowed: a number >= 0 (0: no probe)")
        (threshold,) = _numbers("collapse_threshold", [self.collapse_threshold])
        if not (math.isfinite(threshold) and threshold >= 0):
            raise ValueError(f"collapse_threshold={self.collapse_threshold!r}; allowed: a number >= 0")
        record_steps = _numbers("record_steps", self.record_steps)
        if not all(math.isfinite(step) and step == int(step) and step >= 0 for step in record_steps):
            raise ValueError(f"record_steps={list(self.record_steps)!r}; allowed: whole numbers >= 0")
        if record_steps and "steps" in axes:
            raise ValueError("record_steps cannot be combined with an axis over steps; allowed: one of them")
        if self.group_accuracy and self.data.kind == "slabs" and "slabs" in axes:
            raise ValueError("group_accuracy=True with an axis over slabs, which changes the groups; allowed: False")
        for name, value in (
            ("values", values),
            ("axes", axes),
            ("seeds", tuple(seeds)),
            ("loss_levels", tuple(sorted(levels, reverse=True))),
            ("record_steps", tuple(int(step) for step in record_steps)),
        ):
            object.__setattr__(self, name, value)
        easy, hard = self.column("mu_easy"), self.column("mu_hard")
        if (hard > easy * (1 + 1e-12)).any():
            worst = int(np.argmax(hard - easy))
            raise ValueError(
                f"mu_hard={hard[worst]:g} exceeds mu_easy={easy[worst]:g}; allowed: mu_hard <= mu_easy, "
                "the easy feature being the stronger one"
            )
        self._check_features()
        self._check_windows()

    def _name_parts(self) -> None:
        """Names in the place of network, data or rule become what they name."""
        makers: tuple[tuple[str, Any, Any], ...] = (
            ("network", network, (Diagonal, TwoLayer, Patches)),
            ("data", data_kind, FeatureData),
            ("rule", rule, UpdateRule),
        )
        for name, make, kind in makers:
            given = getattr(self, name)
            if isinstance(given, str):
                object.__setattr__(self, name, make(given))
            elif not isinstance(given, kind):
                raise ValueError(f"{name}={given!r}; allowed: a name, or what toymodels.{make.__name__}(name) returns")

    def _check_features(self) -> None:
        if len(self.data.features) == len(FEATURES):
            return
        what = f"data={self.data.kind!r} with {len(self.data.features)} features"
        if isinstance(self.network, Patches):
            raise ValueError(f"{what}: a patches network has two patterns; allowed: network diagonal, linear or relu")
        if self.suppression:
            raise ValueError(f"{what}: suppression is that of two features; allowed: suppression=False")
        if self.probe_noise:
            raise ValueError(f"{what}: the probe knows two attributes; allowed: probe_noise=0")

    def _check_windows(self) -> None:
        if isinstance(self.network, Patches):
            for copies in np.unique(self.column("copies")):
                for noise in np.unique(self.column("noise_patches")):
                    self.network.windows(PatchLayout(int(copies), int(noise)).patches)

    @property
    def measures_layers(self) -> bool:
        """Whether the weights themselves are measured, at the end and at each level."""
        return self.group_accuracy or self.probe_noise > 0 or self.suppression

    # --- shape -----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis in order, then the number of seeds."""
        return (*(len(axis) for axis in self.axes.values()), len(self.seed_list))

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes in order, then ``seed``."""
        return (*self.axes, "seed")

    @property
    def runs(self) -> int:
        """Number of runs."""
        return math.prod(self.shape)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds."""
        assert isinstance(self.seeds, tuple)
        return self.seeds

    # --- columns: one value per run ----------------------------------------------------------------------------------

    def column(self, name: str) -> FloatArray:
        """``[B]`` value of a parameter (or of ``"seed"``) in every run, in the order of :attr:`shape` (C order)."""
        if name == "mu_hard" and ("ratio" in self.axes or "ratio" in self.values):
            return self.column("ratio") * self.column("mu_easy")
        if name == "ratio" and not ("ratio" in self.axes or "ratio" in self.values):
            return self.column("mu_hard") / self.column("mu_easy")
        if name in ("rho", "relative_radius") and self.rule.name == "gd":
            return np.zeros(self.runs)
        relative = "relative_radius" in self.axes or "relative_radius" in self.values
        if name == "rho" and relative:
            return self.column("relative_radius") * self.initial_norm()
        if name == "relative_radius" and not relative:
            return self.column("rho") / self.initial_norm()
        if name in self.dims:
            axis = self.dims.index(name)
            along = np.asarray(self.seed_list if name == "seed" else self.axes[name], dtype=float)
            view = along.reshape([-1 if i == axis else 1 for i in range(len(self.shape))])
            return np.broadcast_to(view, self.shape).reshape(-1)
        return np.full(self.runs, float(self.values.get(name, self._default(name))))

    def _default(self, name: str) -> float:
        """A parameter's default; strengths of one's own data come before the table's."""
        strengths = dict(zip(("mu_easy", "mu_hard"), self.data.strengths, strict=False))
        return strengths.get(name, parameter(name).default)

    def strengths(self) -> FloatArray:
        """``[B, K]`` mu_k of every run and feature."""
        fixed = self.data.strengths[len(FEATURES) :]
        return np.stack(
            [self.column("mu_easy"), self.column("mu_hard"), *(np.full(self.runs, mu) for mu in fixed)], axis=1
        )

    def structure(self) -> tuple[tuple[str, ...], np.ndarray]:
        """(names, ``[B, len(names)]`` values) of the parameters that change array shapes."""
        return STRUCTURAL, np.stack([self.column(name) for name in STRUCTURAL], axis=1).astype(int)

    def initial_layers(self, rows: np.ndarray, inputs: int | None = None) -> Layers:
        """Layers ``[len(rows), ...]`` of runs ``rows`` at step 0, all of one structure.

        Args:
            rows: numbers of the runs.
            inputs: length of an example, for networks that train on other data than the sweep's (default: on those).
        """

        def column(name: str) -> FloatArray:
            return self.column(name)[rows]

        whole = {name: int(column(name)[0]) for name in STRUCTURAL}
        seeds, init = column("seed").astype(np.uint64), column("init")
        dimension = len(self.data.features) + whole["noise_features"] + int(self.network.bias)
        dimension = dimension if inputs is None else inputs
        if isinstance(self.network, Diagonal):
            return self.network.initial_layers(
                seeds, init, column("jitter"), column("imbalance"), dimension, whole["depth"]
            )
        if isinstance(self.network, Patches):
            layout = PatchLayout(whole["copies"], whole["noise_patches"], whole["noise_features"])
            return self.network.initial_layers(
                seeds, init, column("jitter"), column("imbalance"), layout.dimension, whole["width"], layout.patches
            )
        return self.network.initial_layers(seeds, init, dimension, whole["width"])

    def initial_norm(self) -> FloatArray:
        """``[B]`` ||theta(0)||, the l2 norm of all weights at step 0."""
        norm = np.empty(self.runs)
        _, structure = self.structure()
        for values in np.unique(structure, axis=0):
            rows = np.flatnonzero((structure == values).all(axis=1))
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                some = rows[start : start + _ROWS_AT_ONCE]
                layers = self.initial_layers(some)
                norm[some] = np.sqrt(run_sum(layers))
        return norm

    # --- variants ----------------------------------------------------------------------------------------------------

    def gd_baseline(self) -> Sweep:
        """The same sweep trained by GD; an axis over rho shrinks to one value, since GD has none."""
        radii = ("rho", "relative_radius")
        axes = {name: ([0.0] if name in radii else axis) for name, axis in self.axes.items()}
        return replace(self, rule=rule("gd"), axes=axes)

    def nominal(self) -> Sweep:
        """The same sweep from the nominal start: no jitter, the first seed, and nothing measured but the training."""
        values = dict(self.values) if "jitter" in self.axes else {**self.values, "jitter": 0.0}
        return replace(
            self, values=values, seeds=self.seed_list[:1], group_accuracy=False, probe_noise=0.0, suppression=False
        )

    def finer(self, factor: int) -> Sweep:
        """The same trainings with 1/factor of the learning rate, over the same time: step t becomes step factor * t."""
        spread = {"eta": 1.0 / factor, "steps": factor, "sam_from": factor, "sam_until": factor}
        most = {name: parameter(name).high for name in spread}
        axes = {
            name: np.minimum(np.asarray(axis) * spread.get(name, 1), most.get(name, math.inf))
            for name, axis in self.axes.items()
        }
        values = {**{name: self._default(name) for name in spread if name not in axes}, **self.values}
        for name in set(spread) & set(values):
            values[name] = min(values[name] * spread[name], most[name])
        return replace(self, values=values, axes=axes, record_steps=tuple(step * factor for step in self.record_steps))

    # --- configuration -----------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Everything that defines the sweep, as JSON-ready values; :meth:`from_config` reads it back."""
        return {
            "network": _network_config(self.network),
            "data": self.data.config(),
            "rule": {"name": self.rule.name, "effect": self.rule.effect},
            "loss": self.loss,
            "values": dict(self.values),
            "defaults": {
                name: self._default(name) for name in PARAMETERS if name not in self.values and name not in self.axes
            },
            "axes": {name: [float(x) for x in axis] for name, axis in self.axes.items()},
            "seeds": list(self.seed_list),
            "loss_levels": list(self.loss_levels),
            "record_steps": list(self.record_steps),
            "group_accuracy": self.group_accuracy,
            "probe_noise": self.probe_noise,
            "suppression": self.suppression,
            "collapse_threshold": self.collapse_threshold,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str) -> Sweep:
        """The sweep of a stored configuration (a mapping or its JSON)."""
        stored = json.loads(config) if isinstance(config, str) else config
        return cls(
            network=network(**stored["network"]),
            data=FeatureData.from_config(stored["data"]),
            rule=rule(stored["rule"]["name"], stored["rule"]["effect"]),
            loss=stored["loss"],
            # Defaults are stored too, so that a file means the same when a later version changes one.
            values={**_without_aliases(stored), **stored["values"]},
            axes=stored["axes"],
            seeds=stored["seeds"],
            loss_levels=stored["loss_levels"],
            record_steps=stored["record_steps"],
            group_accuracy=stored["group_accuracy"],
            probe_noise=stored.get("probe_noise", 0.0),
            suppression=stored.get("suppression", False),
            collapse_threshold=stored["collapse_threshold"],
        )


_ROWS_AT_ONCE = 16_384
"""Starts that are held at once where only their norms are wanted."""


def _network_config(network: Network) -> dict[str, Any]:
    config: dict[str, Any] = {"name": network.name, "bias": network.bias}
    if isinstance(network, Patches):
        config |= {"head": network.head, "activation": network.activation}
    return config


def _without_aliases(stored: Mapping[str, Any]) -> dict[str, float]:
    """Stored defaults, without those of ratio / mu_hard and rho / relative_radius that the sweep does not use."""
    given = {*stored["values"], *stored["axes"]}
    unused = ("mu_hard" if "ratio" in given else "ratio", "rho" if "relative_radius" in given else "relative_radius")
    return {name: value for name, value in stored["defaults"].items() if name not in unused}


MOST_SEEDS = 1_000_000
"""Largest number of seeds that is drawn up as a list."""

_LARGEST_SEED = 2**53
"""Seeds are columns of float64 numbers, which hold whole numbers below this exactly."""


def _seeds(given: Any) -> list[int]:
    if isinstance(given, (int, np.integer)):
        require_whole("seeds", given, least=1)
        if given > MOST_SEEDS:
            raise ValueError(f"seeds={given!r}; allowed: a number from 1 to {MOST_SEEDS}")
        return list(range(given))
    allowed = "a number >= 1, or distinct seeds >= 0 (whole numbers below 2**53)"
    try:
        seeds = list(given)
        whole = all(not isinstance(seed, (bool, np.bool_)) and seed == int(seed) for seed in seeds)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"seeds={given!r}; allowed: {allowed}") from None
    if not seeds or not whole or min(seeds) < 0 or max(seeds) >= _LARGEST_SEED or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={given!r}; allowed: {allowed}")
    return [int(seed) for seed in seeds]


def _numbers(name: str, given: Any) -> list[float]:
    try:
        return [float(each) for each in given]
    except (TypeError, ValueError):
        raise ValueError(f"{name}={given!r}; allowed: numbers") from None


def _value(name: str, given: Any) -> float:
    known = parameter(name)
    try:
        return known.check(float(given))
    except TypeError:
        raise ValueError(f"{name}={given!r}; allowed: a number ({known.meaning})") from None


def _axis(name: str, axis: Sequence[float] | FloatArray) -> FloatArray:
    known = parameter(name)
    try:
        values = np.asarray(axis, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"axis {name}={axis!r} is not numeric") from None
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"axis {name} has shape {values.shape}; allowed: a list of at least one value")
    for value in values:
        known.check(float(value))
    if (np.diff(values) <= 0).any():
        raise ValueError(f"axis {name}={values.tolist()} is not increasing; allowed: increasing values, none twice")
    return values
