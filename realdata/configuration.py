"""Configuration of one training: every setting that changes the result, checked once and identified by a hash.

The location of the data, the device and the number of processes are not part of it, because they do not belong to the
result. Two runs with the same hash are the same run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kernels.names import EFFECTS
from sambalance_tools.checks import require_choice, require_whole

Scalar = str | int | float | bool | None

SAM_OPTIONS: dict[str, dict[str, Any]] = {
    "sam": {},
    "lsam": {"perturb": "last-layer"},
    "asam": {"norm": "adaptive"},
    "usam": {"norm": "none"},
    "linf_sam": {"norm": "linf"},
}
"""Methods with a perturbation, as options of :class:`kernels.SAM`: all parameters; last layer only; adaptive; not
normalised; maximum norm."""

ALLOW_OUTSIDE = "SAMBALANCE_ALLOW_OUTSIDE"
"""Environment variable: if it is set, names in a table may lead out of the folder of the images (--allow-outside)."""

METHODS = ("sgd", *SAM_OPTIONS)
"""All methods: plain training and those with a perturbation."""

MOST_SEED = 2**63 - 1
"""Largest seed of every generator that is used."""

BASES = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step")
AUGMENTATIONS = ("none", "flip", "crop_flip", "domainbed")
PRECISIONS = ("float32", "bfloat16", "float16")
ON_DECODE_ERROR = ("fatal", "skip")

DEFAULT_LEVELS = (0.4, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Training losses at which methods are compared (nats per example, natural logarithm)."""


ADDED_LATER: dict[str, Any] = {"sam_from": 0.0, "sam_until": None}
"""Settings that are younger than the first stored runs, with their defaults. At its default such a setting is not part
of the hashed text, so that the hashes of finished runs stay what they are."""

STORED_NAMES = {"on_decode_error": "broken"}
"""Fields that have another name in files and in the hashed text, for compatibility with the first stored runs."""


@dataclass(frozen=True)
class RunConfiguration:
    """One training.

    Attributes:
        data: name of a data set, see :mod:`realdata.datasets`. data_options: its options (class pairs,
            correlation, target environment, ...).
        size: images are resized to ``size`` x ``size`` pixels; None keeps the data set's own resolution.
        on_decode_error: what happens if a file cannot be decoded: an error (``"fatal"``), or it is left out with a
            warning (``"skip"``).
        augmentation: augmentation of training images, see :mod:`realdata.training.augmentation`.
        model: name of a model, see :mod:`realdata.models.build`; ``model_options`` are its own options (width, ...).
        method, effect: the update rule, and which of SAM's two effects it keeps (``"full"`` both, ``"weights"``,
            ``"jacobian"``), see :class:`kernels.SAM`.
        rho: radius of the perturbation, >= 0; with 0 every method is plain training.
        sam_from, sam_until: epochs between which the perturbation is on; outside of them the method is plain training.
            Fractions are allowed; ``sam_until`` None is the end of training.
        base: base optimizer. lr, momentum, weight_decay: its options (momentum is Adam's beta_1).
        batch_size, epochs: examples per step, passes over the training set.
        schedule: learning-rate schedule; ``"step"`` divides by 10 at 1/2 and 3/4 of the epochs.
        warmup_epochs: epochs of linear warm-up.
        levels: training losses (mean over the training set, evaluation mode); the first evaluation at or below each is
            kept as a checkpoint.
        stop_level: stop when the training loss is at or below it; None trains all epochs.
        evaluations_per_epoch: how often the training loss is measured, >= 1.
        evaluation_examples: size of the fixed random part of the training set on which it is measured; None takes all.
        seed: seed of initialisation, data order and augmentation. Runs with the same seed share all three, for every
            method.
        precision: ``"bfloat16"`` and ``"float16"`` mean automatic mixed precision.

    Raises:
        ValueError: names the argument, its value and what is allowed.
    """

    data: str
    data_options: Mapping[str, Scalar] = field(default_factory=dict)
    size: int | None = None
    on_decode_error: str = "fatal"
    augmentation: str = "none"
    model: str = "small_cnn"
    model_options: Mapping[str, Scalar] = field(default_factory=dict)
    method: str = "sgd"
    effect: str = "full"
    rho: float = 0.0
    base: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 128
    epochs: int = 20
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    levels: tuple[float, ...] = DEFAULT_LEVELS
    stop_level: float | None = None
    evaluations_per_epoch: int = 1
    evaluation_examples: int | None = None
    seed: int = 0
    precision: str = "float32"
    sam_from: float = 0.0
    sam_until: float | None = None

    def __post_init__(self) -> None:
        for name in ("data", "model"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)!r}; allowed: a name")
        for name in ("data_options", "model_options"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name}={getattr(self, name)!r}; allowed: a mapping of names to values")
        if isinstance(self.levels, str) or not isinstance(self.levels, Iterable):
            raise ValueError(f"levels={self.levels!r}; allowed: finite numbers > 0")
        for name, allowed in (
            ("on_decode_error", ON_DECODE_ERROR),
            ("augmentation", AUGMENTATIONS),
            ("method", METHODS),
            ("effect", EFFECTS),
            ("base", BASES),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            require_choice(name, getattr(self, name), allowed)
        for name in ("size", "evaluation_examples"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1)
        for name in ("batch_size", "epochs", "evaluations_per_epoch"):
            require_whole(name, getattr(self, name), 1)
        require_whole("seed", self.seed, 0, MOST_SEED)
        for name in ("rho", "momentum", "weight_decay", "warmup_epochs", "sam_from"):
            _require(name, getattr(self, name), lambda value: value >= 0, "a finite number >= 0")
        _require("lr", self.lr, lambda value: value > 0, "a finite number > 0")
        _require("momentum", self.momentum, lambda value: value < 1, "a number in [0, 1)")
        if self.stop_level is not None:
            _require("stop_level", self.stop_level, lambda value: value > 0, "a finite number > 0, or None")
        for level in self.levels:
            _require("levels", level, lambda value: value > 0, "finite numbers > 0")
        if self.method == "sgd" and self.rho > 0:
            raise ValueError(f"rho={self.rho!r} with method='sgd'; allowed: 0, or one of {', '.join(SAM_OPTIONS)}")
        if self.method != "sgd" and self.rho == 0:
            raise ValueError(f"rho=0 with method={self.method!r}; allowed: a finite number > 0, or method='sgd'")
        if self.method == "sgd" and self.effect != "full":
            raise ValueError(f"effect={self.effect!r} with method='sgd'; allowed: 'full'")
        if self.sam_until is not None:
            ends = f"a finite number above sam_from={self.sam_from}, or None"
            _require("sam_until", self.sam_until, lambda value: value > self.sam_from, ends)
            object.__setattr__(self, "sam_until", float(self.sam_until))
        if self.sam_from >= self.epochs:
            raise ValueError(f"sam_from={self.sam_from!r} with epochs={self.epochs}; allowed: below the epochs")
        if self.method == "sgd" and (self.sam_from, self.sam_until) != (0, None):
            raise ValueError("sam_from and sam_until with method='sgd'; allowed: methods with a perturbation")
        # One order and one type for equal settings, so that the hash does not depend on how they were written.
        object.__setattr__(self, "levels", tuple(sorted({float(level) for level in self.levels}, reverse=True)))
        for name in ("data_options", "model_options"):
            plain = {key: _plain(value) for key, value in sorted(getattr(self, name).items())}
            object.__setattr__(self, name, plain)
        for name in ("rho", "lr", "momentum", "weight_decay", "warmup_epochs", "sam_from"):
            object.__setattr__(self, name, float(getattr(self, name)) + 0.0)  # not -0.0, which is written otherwise
        for name in ("size", "evaluation_examples", "batch_size", "epochs", "evaluations_per_epoch", "seed"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, int(getattr(self, name)))  # of NumPy's, too

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` is the inverse."""
        values = {**dataclasses.asdict(self), "levels": list(self.levels)}
        return {
            STORED_NAMES.get(name, name): value
            for name, value in values.items()
            if name not in ADDED_LATER or value != ADDED_LATER[name]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfiguration:
        """The configuration with these values; an unknown name raises a ValueError."""
        if not isinstance(values, Mapping) or "data" not in values:
            raise ValueError(f"configuration {values!r}; allowed: settings by name, data among them")
        known = {entry.name for entry in dataclasses.fields(cls)}
        fields = {stored: name for name, stored in STORED_NAMES.items()}
        arguments = {fields.get(name, name): value for name, value in values.items()}
        for name in arguments:
            require_choice("setting", name, tuple(sorted(known)))
        if "levels" in arguments:
            arguments["levels"] = tuple(arguments["levels"])
        return cls(**arguments)

    def replace(self, **changes: Any) -> RunConfiguration:
        """A copy with some values changed, checked anew."""
        return dataclasses.replace(self, **changes)

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits of SHA-256 over the canonical JSON of all values: the name of the run."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    return value.item() if hasattr(value, "item") else value


def _require(name: str, value: Any, holds: Any, allowed: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not holds(value):
        raise ValueError(f"{name}={value!r}; allowed: {allowed}")
