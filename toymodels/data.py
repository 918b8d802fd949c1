"""Data as weighted atoms, exact or with Gaussian noise as a finite sample.

An atom n has weight pi_n, label y_n and feature values x_nk = y_n s_nk mu_k. s_nk = 1 agrees with the label, -1
contradicts it, 0 is missing; other sizes are stronger or weaker copies. The first two features are the easy and the
hard one, which the sweep's parameters name; data of one's own may have more, of fixed strengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice, require_whole
from toymodels.parameters import parameter

DATA_KINDS = ("redundant", "spurious", "missing", "uneven", "label_noise", "slabs", "groups", "samples")

OWN_KINDS = ("groups", "samples")
"""Kinds whose atoms are given, in Python."""

FEATURES = ("easy", "hard")
"""The features that every kind of data has; more come after them."""


@dataclass(frozen=True)
class Atoms:
    """A weighted table of groups."""

    names: tuple[str, ...]
    weights: FloatArray
    """``[N]`` pi_n, sum 1."""
    signs: FloatArray
    """``[N, K]`` s_nk; the easy and the hard feature come first."""
    labels: FloatArray
    """``[N]`` y_n in -1/+1."""
    symmetric: bool = True
    """Whether the data also hold the mirror image (x, y) -> (-x, -y) of every atom with the same weight. Networks
    that are odd in x cannot tell, so only one of the two is stored; others train on :meth:`mirrored`."""

    def mirrored(self) -> Atoms:
        """The table with mirror images written out (each half the weight)."""
        if not self.symmetric:
            return self
        return Atoms(
            tuple(f"{name}, y={sign}" for sign in ("+1", "-1") for name in self.names),
            np.tile(self.weights / 2, 2),
            np.tile(self.signs, (2, 1)),
            np.concatenate([self.labels, -self.labels]),
            symmetric=False,
        )


@dataclass(frozen=True)
class FeatureData:
    """A kind of data; its numbers (p, q, slabs, noise, ...) are parameters of the experiment and can be swept.

    Use the constructors :func:`redundant`, :func:`spurious`, :func:`missing`, :func:`uneven`, :func:`label_noise`,
    :func:`slabs`, :func:`groups` and :meth:`from_samples`.

    Args:
        kind: one of :data:`DATA_KINDS`.
        table: for data of one's own, rows (name, weight, s_1, ..., s_K) of one length, weights summing to 1.
        strengths: mu_k of the features of one's own data, K numbers; of the first two they are defaults, which a
            sweep's ``mu_easy`` and ``mu_hard`` (or ``ratio``) replace. Empty: the parameters' own defaults.
        labels: y_n of each row of the table, -1 or +1; empty: all +1, and the mirror image of every row as well.
    """

    kind: str
    table: tuple[tuple[Any, ...], ...] = ()
    strengths: tuple[float, ...] = ()
    labels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_choice("data", self.kind, DATA_KINDS)
        if self.kind in OWN_KINDS and not self.table:
            made = "groups(table)" if self.kind == "groups" else "FeatureData.from_samples(X, y)"
            raise ValueError(f"data={self.kind!r} without a table; allowed: {made}")

    @staticmethod
    def from_samples(X: Any, y: Any, sample_weight: Any = None, *, easy: int = 0, hard: int = 1) -> FeatureData:
        """Data of one's own: every sample is an atom, and nothing is drawn.

        The strength mu_k of a feature is the root mean square of its column, so that s_nk = y_n x_nk / mu_k and the
        training set is ``X`` itself. Equal samples become one atom of their joint weight.

        Args:
            X: ``[S, K]`` values of K >= 2 features.
            y: ``[S]`` labels -1 or +1 (0 and False count as -1, True as +1).
            sample_weight: ``[S]`` non-negative weights (default: all equal); they are normalised to sum 1.
            easy, hard: columns of ``X`` that are the easy and the hard feature; the easy one must be the stronger.

        Raises:
            ValueError: names the argument and what is allowed.

        Example:
            >>> data = FeatureData.from_samples([[2, 1], [-2, -1], [-2, 1], [2, 1]], [1, -1, 1, 1])
            >>> [round(mu, 6) for mu in data.strengths], data.atoms().weights.tolist()
            ([2.0, 1.0], [0.25, 0.25, 0.5])
        """
        values, labels, weights = _checked_samples(X, y, sample_weight)
        count = values.shape[1]
        for name, column in (("easy", easy), ("hard", hard)):
            require_whole(name, column, least=0)
            if column >= count:
                raise ValueError(f"{name}={column!r}; allowed: a column of X, 0 to {count - 1}")
        if easy == hard:
            raise ValueError(f"easy={easy!r} and hard={hard!r} are one column; allowed: two columns of X")
        order = [easy, hard, *(k for k in range(count) if k not in (easy, hard))]
        strengths = np.sqrt(weights @ values**2)[order]
        if not (strengths > 0).all():
            raise ValueError(
                f"X has only zeros in column {order[int(np.argmin(strengths))]}; allowed: features that vary"
            )
        signs = labels[:, None] * values[:, order] / strengths
        rows, row = np.unique(np.column_stack([signs, labels]), axis=0, return_inverse=True)
        weight = np.bincount(row.reshape(-1), weights, minlength=len(rows))
        table = tuple(
            (f"sample {n}", float(w), *(float(s) for s in each[:-1]))
            for n, (w, each) in enumerate(zip(weight, rows, strict=True))
        )
        return FeatureData("samples", table, tuple(float(mu) for mu in strengths), tuple(float(e) for e in rows[:, -1]))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features: easy, hard, and feature_3, ... of one's own data."""
        count = len(self.table[0]) - 2 if self.table else len(FEATURES)
        return (*FEATURES, *(f"feature_{k + 1}" for k in range(len(FEATURES), count)))

    def config(self) -> dict[str, Any]:
        """The data as JSON-ready values; :meth:`from_config` reads them back."""
        found: dict[str, Any] = {"kind": self.kind, "table": [list(row) for row in self.table]}
        optional = {"strengths": list(self.strengths), "labels": list(self.labels)}
        return found | {name: values for name, values in optional.items() if values}

    @staticmethod
    def from_config(stored: Mapping[str, Any]) -> FeatureData:
        """The data of a stored configuration."""
        table = tuple((str(name), *(float(number) for number in numbers)) for name, *numbers in stored["table"])
        more = (tuple(float(x) for x in stored.get(name, ())) for name in ("strengths", "labels"))
        return FeatureData(stored["kind"], table, *more)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that shape the atoms."""
        return {
            "spurious": ("p",),
            "missing": ("q",),
            "uneven": ("spread",),
            "label_noise": ("flip",),
            "slabs": ("slabs",),
        }.get(self.kind, ())

    def atoms(self, p: float = 0.9, q: float = 0.3, spread: float = 0.5, flip: float = 0.1, slabs: int = 1) -> Atoms:
        """The atoms for given parameter values (those the kind does not have are ignored)."""
        if self.kind == "redundant":
            return _table((("redundant", 1.0, 1.0, 1.0),))
        if self.kind == "spurious":
            return _table((("majority", p, 1.0, 1.0), ("minority", 1 - p, -1.0, 1.0)))
        if self.kind == "missing":
            return _table((("both features", 1 - q, 1.0, 1.0), ("easy missing", q, 0.0, 1.0)))
        if self.kind == "uneven":
            return _table((("easy larger", 0.5, 1 + spread, 1 - spread), ("hard larger", 0.5, 1 - spread, 1 + spread)))
        if self.kind == "label_noise":
            return _table((("clean", 1 - flip, 1.0, 1.0), ("flipped", flip, -1.0, -1.0)))
        if self.kind == "slabs":
            return _slab_atoms(int(slabs))
        return _table(self.table, self.labels)


def redundant() -> FeatureData:
    """Both features predict the label in every example: one atom kind, s = (1, 1)."""
    return FeatureData("redundant")


def spurious() -> FeatureData:
    """The easy feature agrees with the label with probability p, and contradicts it in the minority group."""
    return FeatureData("spurious")


def missing() -> FeatureData:
    """The easy feature is absent with probability q; the hard one is always there."""
    return FeatureData("missing")


def uneven() -> FeatureData:
    """Feature sizes differ between examples: s = (1 + spread, 1 - spread) in one half, the reverse in the other."""
    return FeatureData("uneven")


def label_noise() -> FeatureData:
    """The label is flipped with probability ``flip``: both features contradict it there.

    No network can push the loss below the entropy of the flip, so low loss levels are out of reach.
    """
    return FeatureData("label_noise")


def slabs() -> FeatureData:
    """The easy feature is linear; the class alternates over 2j+1 equal slabs of the hard feature's line.

    Slab i = -j..j has its centre at mu_hard * i/j and class (-1)^(i+j) (outer slabs positive); both classes weigh 1/2
    and the slabs of a class are equally likely. j = 0 is the linear feature.
    """
    return FeatureData("slabs")


def groups(table: Sequence[Sequence[Any]], strengths: Sequence[float] = ()) -> FeatureData:
    """Data from a table of groups ``(name, weight, s_easy, s_hard, s_3, ...)``, of two features or more.

    Args:
        table: one row a group. The weights sum to 1, or are whole numbers that count examples.
        strengths: mu_k of every feature. More than two features need them; for two, they default to the parameters'
            ``mu_easy`` and ``mu_hard``, which in any case replace the first two when a sweep gives them.

    Raises:
        ValueError: names the row or the argument, and what is allowed.

    Example:
        >>> groups([("both", 0.8, 1, 1), ("easy wrong", 0.1, -1, 1), ("hard weak", 0.1, 1, 0.5)]).atoms().weights
        array([0.8, 0.1, 0.1])
        >>> groups([("all", 1, 1, 1, 1)], strengths=(2, 1, 0.5)).features
        ('easy', 'hard', 'feature_3')
    """
    rows = [_group_row(row) for row in table]
    if not rows:
        raise ValueError("groups table is empty; at least one (name, weight, s_easy, s_hard) is needed")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"groups rows have {sorted({len(row) - 2 for row in rows})} signs; allowed: one number for all"
        )
    weights = [row[1] for row in rows]
    total = sum(weights)
    if total <= 0:
        raise ValueError("groups weights sum to 0; at least one must be > 0")
    if abs(total - 1) > 1e-6 and not all(weight == int(weight) for weight in weights):
        raise ValueError(
            f"groups weights={weights} sum to {total:g}; allowed: weights that sum to 1, or whole numbers of examples"
        )
    count = len(rows[0]) - 2
    mu = tuple(float(strength) for strength in strengths)
    if len(mu) != count and (mu or count > len(FEATURES)):
        raise ValueError(f"strengths={list(mu)} for {count} features; allowed: one strength > 0 for each feature")
    if not all(math.isfinite(strength) and strength > 0 for strength in mu):
        raise ValueError(f"strengths={list(mu)}; allowed: finite numbers > 0")
    return FeatureData("groups", tuple((row[0], row[1] / total, *row[2:]) for row in rows), mu)


def _group_row(row: Sequence[Any]) -> tuple[Any, ...]:
    try:
        name, *numbers = row
        values = [float(number) for number in numbers]
    except (TypeError, ValueError):
        raise ValueError(f"groups row {row!r}; allowed: (name, weight, s_easy, s_hard, ...) of numbers") from None
    if len(values) < 1 + len(FEATURES):
        raise ValueError(f"groups row {row!r}; allowed: a name, a weight and at least two signs")
    if not np.isfinite(values).all() or values[0] < 0:
        raise ValueError(f"groups row {row!r}; allowed: finite numbers and a weight >= 0")
    return (str(name), *values)


def _checked_samples(X: Any, y: Any, sample_weight: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """X ``[S, K]``, y ``[S]`` as -1 or +1, weights ``[S]`` of sum 1; a ValueError names what cannot be."""
    values, labels = _numbers("X", X), _numbers("y", y)
    if values.ndim != 2 or len(values) == 0 or values.shape[1] < len(FEATURES):
        raise ValueError(f"X has shape {values.shape}; allowed: [samples, features], at least 1 and at least 2")
    if labels.shape != values.shape[:1]:
        raise ValueError(f"y has shape {labels.shape} for X of shape {values.shape}; allowed: a label for each sample")
    labels = np.where(labels == 0, -1.0, labels) if set(np.unique(labels)) <= {0.0, 1.0} else labels
    wrong = ~np.isin(labels, (-1.0, 1.0))
    if wrong.any():
        raise ValueError(f"y holds {labels[wrong][0]:g}; allowed: two classes, -1 and 1 (or 0 and 1)")
    weights = np.ones(len(values)) if sample_weight is None else _numbers("sample_weight", sample_weight)
    if weights.shape != labels.shape or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("sample_weight; allowed: a number >= 0 for each sample, one of them > 0")
    return values, labels, weights / weights.sum()


def _numbers(name: str, given: Any) -> FloatArray:
    try:
        values = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={given!r} is not numeric; allowed: finite numbers") from None
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity; allowed: finite numbers")
    return values


def data_kind(name: str) -> FeatureData:
    """The kind of data by name, for command lines (tables of groups are made in Python)."""
    require_choice("data", name, [kind for kind in DATA_KINDS if kind not in OWN_KINDS])
    return FeatureData(name)


def _table(rows: Sequence[tuple[Any, ...]], labels: Sequence[float] = ()) -> Atoms:
    return Atoms(
        tuple(row[0] for row in rows),
        np.array([row[1] for row in rows]),
        np.array([row[2:] for row in rows]),
        np.array(labels or [1.0] * len(rows)),
        symmetric=not labels,
    )


def _slab_atoms(half: int) -> Atoms:
    parameter("slabs").check(half)
    if half == 0:
        return _table((("linear", 1.0, 1.0, 1.0),))
    index = np.arange(-half, half + 1)
    labels = np.where((index + half) % 2 == 0, 1.0, -1.0)
    per_class = np.where(labels > 0, (labels > 0).sum(), (labels < 0).sum())
    # x_h = mu_h * index/half = y * s * mu_h, so s carries the label once more.
    signs = np.stack([np.ones(len(index)), labels * index / half], axis=1)
    return Atoms(tuple(f"slab {i:+d}" for i in index), 0.5 / per_class, signs, labels, symmetric=False)


def atom_tables(data: FeatureData, column: Callable[[str], FloatArray], runs: int) -> tuple[list[Atoms], np.ndarray]:
    """The distinct tables of a batch of runs, and ``[B]`` which of them each run uses.

    Args:
        data: the kind of data.
        column: returns the ``[B]`` values of a parameter by name.
        runs: B.
    """
    names = data.parameters
    if not names:
        return [data.atoms()], np.zeros(runs, dtype=int)
    settings, run_row = np.unique(np.stack([column(name) for name in names], axis=1), axis=0, return_inverse=True)
    return [data.atoms(**dict(zip(names, setting, strict=True))) for setting in settings], run_row.reshape(-1)


@dataclass(frozen=True)
class Samples:
    """Training inputs of a batch of runs, ready for the engine."""

    features: FloatArray
    """``[B or 1, S, d]``, before the scale."""
    labels: FloatArray
    """``[B or 1, S]``."""
    weights: FloatArray
    """``[B or 1, S]``."""
    scale: FloatArray
    """``[B or 1, d]``."""
    group: np.ndarray
    """``[B or 1, S]`` index of each sample's group in ``atoms.names``."""


def exact_samples(atom_rows: Sequence[Atoms], run_row: np.ndarray, mu: FloatArray) -> Samples:
    """The atoms as training set: features s_nk y_n scaled by mu ``[B, K]``; table ``run_row[b]`` serves run b."""
    first = atom_rows[0]
    shared_signs = all(np.array_equal(a.signs, first.signs) for a in atom_rows)
    chosen = np.array([0]) if shared_signs else run_row
    features = np.stack([a.signs * a.labels[:, None] for a in atom_rows])[chosen]
    labels = np.stack([a.labels for a in atom_rows])[chosen]
    weights = np.stack([a.weights for a in atom_rows])
    weights = weights if len(atom_rows) == 1 else weights[run_row]
    return Samples(features, labels, weights, mu, np.arange(len(first.weights))[None, :])


def noisy_samples(
    atom_rows: Sequence[Atoms],
    run_row: np.ndarray,
    seed_row: np.ndarray,
    seeds: Sequence[int],
    samples: int,
    mu: FloatArray,
    sigma: FloatArray,
) -> Samples:
    """A finite sample of size ``samples`` with Gaussian feature noise, per run.

    Groups are stratified: sample i belongs to the group in which the quantile (i + 1/2)/S falls, so group shares are
    exact up to 1/S and runs with one seed share their noise (common random numbers). Labels alternate for symmetric
    data.

    Args:
        atom_rows: distinct tables.
        run_row: ``[B]`` the table of each run.
        seed_row: ``[B]`` the position of each run's seed in ``seeds``.
        seeds: distinct seeds of the noise.
        samples: S.
        mu: ``[B, K]`` strengths.
        sigma: ``[B, d]`` noise sizes; columns after the K-th are pure-noise features.
    """
    dimension = sigma.shape[1]
    noise = np.stack([np.random.default_rng([seed, 1]).standard_normal((samples, dimension)) for seed in seeds])
    quantile = (np.arange(samples) + 0.5) / samples
    group = np.stack([np.searchsorted(np.cumsum(a.weights)[:-1], quantile, side="right") for a in atom_rows])
    labels = np.stack([a.labels[g] for a, g in zip(atom_rows, group, strict=True)])
    if atom_rows[0].symmetric:
        labels = labels * np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)
    signs = np.stack([a.signs[g] for a, g in zip(atom_rows, group, strict=True)])
    mean = (signs * labels[..., None])[run_row] * mu[:, None, :]
    features = noise[seed_row] * sigma[:, None, :]
    features[:, :, : mu.shape[1]] += mean
    weights = np.full((1, samples), 1.0 / samples)
    return Samples(features, labels[run_row], weights, np.ones((1, dimension)), group[run_row])
