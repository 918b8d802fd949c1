"""Two-feature data as weighted atoms, exact or with Gaussian noise as a finite sample.

An atom n has weight pi_n, label y_n and feature values x_nk = y_n s_nk mu_k (features: easy, hard). s_nk = 1 agrees
with the label, -1 contradicts it, 0 is missing; other sizes are stronger or weaker copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice
from toymodels.parameters import parameter

DATA_KINDS = ("redundant", "spurious", "missing", "uneven", "label_noise", "slabs", "groups")


@dataclass(frozen=True)
class Atoms:
    """A weighted table of groups."""

    names: tuple[str, ...]
    weights: FloatArray
    """``[N]`` pi_n, sum 1."""
    signs: FloatArray
    """``[N, 2]`` s_nk for the easy and the hard feature."""
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
    :func:`slabs` and :func:`groups`.
    """

    kind: str
    table: tuple[tuple[str, float, float, float], ...] = ()

    def __post_init__(self) -> None:
        require_choice("data", self.kind, DATA_KINDS)

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
        return _table(self.table)


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


def groups(table: Sequence[tuple[str, float, float, float]]) -> FeatureData:
    """Data from a table of groups ``(name, weight, s_easy, s_hard)``; weights are normalised to sum 1.

    Example:
        >>> groups([("both", 0.8, 1, 1), ("easy wrong", 0.1, -1, 1), ("hard weak", 0.1, 1, 0.5)]).atoms().weights
        array([0.8, 0.1, 0.1])
    """
    rows = tuple((str(name), float(w), float(e), float(h)) for name, w, e, h in table)
    if not rows:
        raise ValueError("groups table is empty; at least one (name, weight, s_easy, s_hard) is needed")
    for row in rows:
        if not np.isfinite(row[1:]).all() or row[1] < 0:
            raise ValueError(f"groups row {row}; allowed: finite numbers and a weight >= 0")
    total = sum(row[1] for row in rows)
    if total <= 0:
        raise ValueError("groups weights sum to 0; at least one must be > 0")
    return FeatureData("groups", tuple((n, w / total, e, h) for n, w, e, h in rows))


def data_kind(name: str) -> FeatureData:
    """The kind of data by name, for command lines (tables of groups are made in Python)."""
    require_choice("data", name, DATA_KINDS[:-1])
    return FeatureData(name)


def _table(rows: Sequence[tuple[str, float, float, float]]) -> Atoms:
    return Atoms(
        tuple(row[0] for row in rows),
        np.array([row[1] for row in rows]),
        np.array([row[2:] for row in rows]),
        np.ones(len(rows)),
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
    """The atoms as training set: features s_nk y_n scaled by mu ``[B, 2]``; table ``run_row[b]`` serves run b."""
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
        mu: ``[B, 2]`` strengths.
        sigma: ``[B, d]`` noise sizes; columns after the second are pure-noise features.
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
    features[:, :, :2] += mean
    weights = np.full((1, samples), 1.0 / samples)
    return Samples(features, labels[run_row], weights, np.ones((1, dimension)), group[run_row])
