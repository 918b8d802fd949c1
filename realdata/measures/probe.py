"""Feature probing error: how well a linear probe reads an attribute off frozen penultimate features.

How it is tuned, fitted and measured is defined by a :class:`~realdata.measures.protocols.Protocol`.

The probe's data are balanced over the groups of :attr:`ImageData.attribute_group`, so that the easy attribute cannot
replace the hard one. "Feature probing error" is the measure of Springer et al. (2024, arXiv 2405.20439).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdata.measures.example_weights import group_means, weight_logits
from realdata.measures.group_accuracy import GroupAccuracy, ShareEstimate
from realdata.measures.linear_probe import LinearClassifier, ascend_path, fit_l1
from realdata.measures.protocols import PROTOCOLS, Protocol
from sambalance_tools.checks import require_whole

PROBE_TOLERANCE = 1e-3
"""Relative tolerance of a probe's coefficients. This change affects only images at the decision boundary."""

FloatArray = NDArray[np.float64]
Features = NDArray[np.floating]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ProbeResult:
    """Result of a probe.

    Attributes:
        error: share of evaluation images whose attribute is predicted wrongly. group_mean_error: mean of the group
            errors. worst_group_error: largest group error. All have bootstrap intervals.
        group_errors: one for each group, in order, with Wilson's interval; NaN for a group without images.
        log_loss: nats per evaluation image. group_log_losses: ``[groups]`` the same in each group; NaN for a group
            without images. Infinite with an attribute value that no image to fit on has.
        inverse_penalty: the chosen C.
        tuning: selection criterion for each C that was tried (for a loss, its negative); the largest one wins.
        classifier: the probe, in the units of the features as they were given.
        predicted: ``[n_evaluate]`` attribute of each image predicted by the probe.
        unconverged: number of fits that reached the solver's iteration limit.
    """

    error: ShareEstimate
    group_mean_error: ShareEstimate
    worst_group_error: ShareEstimate
    group_errors: tuple[ShareEstimate, ...]
    log_loss: float
    group_log_losses: FloatArray
    inverse_penalty: float
    tuning: dict[float, float]
    classifier: LinearClassifier
    predicted: IntArray
    unconverged: int


def probe(
    fit_features: Features,
    fit_attribute: IntArray,
    fit_group: IntArray,
    eval_features: Features,
    eval_attribute: IntArray,
    eval_group: IntArray,
    protocol: Protocol = PROTOCOLS["fast"],
    seed: int = 0,
    *,
    classes: int | None = None,
    groups: Sequence[str] | None = None,
    train_features: Features | None = None,
    device: str = "cpu",
) -> ProbeResult:
    """Tune and fit a probe on some images, measure it on others.

    Args:
        fit_features, eval_features: ``[n, D]`` penultimate features.
        fit_attribute, eval_attribute: ``[n]`` attribute to predict, in ``0 .. classes - 1``.
        fit_group, eval_group: ``[n]`` group to balance over, in ``0 .. len(groups) - 1``.
        protocol: see :class:`Protocol`.
        seed: seed of halves, subsamples and bootstrap.
        classes: number of attribute values; None: one more than the largest seen.
        groups: names of the groups; None: numbers.
        train_features: ``[n, D]``, needed by ``scaler="train"``.
        device: torch device of the multinomial solver; changes the result only by rounding.

    Raises:
        ValueError: for arrays that do not fit, too few images, or an attribute with one value.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> attribute = rng.integers(2, size=400)
        >>> features = np.c_[attribute + 0.1 * rng.standard_normal(400), rng.standard_normal(400)]
        >>> found = probe(features[:200], attribute[:200], attribute[:200], features[200:], attribute[200:],
        ...               attribute[200:])
        >>> found.error.value
        0.0
    """
    _check(fit_features, fit_attribute, fit_group, "fit")
    _check(eval_features, eval_attribute, eval_group, "eval")
    if fit_features.shape[1] != eval_features.shape[1]:
        raise ValueError(f"eval_features {eval_features.shape}; allowed: [n, {fit_features.shape[1]}]")
    count = _count(fit_attribute, eval_attribute, classes)
    names = tuple(groups) if groups is not None else tuple(map(str, range(_count(fit_group, eval_group, None))))
    rng = np.random.default_rng(seed)
    fitter = _Fitter(protocol.solver, count, seed, device)
    tuning = _tune(fit_features, fit_attribute, fit_group, protocol, fitter, rng)
    inverse_penalty = max((c for c in protocol.inverse_penalties if c in tuning), key=lambda c: tuning[c])
    scaler = _scaler_of_last_fit(fit_features, train_features, protocol)
    scaled = scaler.transform(fit_features)
    fits = []
    for _ in range(protocol.repeats):
        rows, weights = _balanced(fit_group, protocol.balance, rng)
        fits += fitter.fit(scaled[rows], fit_attribute[rows], weights, (inverse_penalty,))
    mean = LinearClassifier(np.mean([f.weight for f in fits], axis=0), np.mean([f.bias for f in fits], axis=0))
    classifier = scaler.undo(mean)
    scores = classifier.scores(eval_features)
    predicted = scores.argmax(axis=1)
    losses = _losses(scores, eval_attribute)
    right = GroupAccuracy.of(predicted == eval_attribute, eval_group, names)
    error, mean_error, worst_error = (
        right.average(kind, confidence=protocol.confidence, draws=protocol.draws, seed=seed).complement()
        for kind in ("raw", "mean", "worst")
    )
    per_group = tuple(right.group(g, protocol.confidence).complement() for g in range(len(names)))
    return ProbeResult(
        error, mean_error, worst_error, per_group, float(losses.mean()), group_means(losses, eval_group, len(names)),
        inverse_penalty, tuning, classifier, predicted, fitter.unconverged,
    )  # fmt: skip


class _Fitter:
    """The chosen solver; counts fits that did not converge."""

    def __init__(self, solver: str, classes: int, seed: int, device: str) -> None:
        self.solver, self.classes, self.seed, self.device = solver, classes, seed, device
        self.unconverged = 0

    def fit(
        self, features: Features, attribute: IntArray, weights: FloatArray | None, inverse_penalties: Sequence[float]
    ) -> list[LinearClassifier]:
        """The classifiers of these C, in their order."""
        found = dict(self.ascend(features, attribute, weights, inverse_penalties))
        return [found[c] for c in inverse_penalties]

    def ascend(
        self, features: Features, attribute: IntArray, weights: FloatArray | None, inverse_penalties: Sequence[float]
    ) -> Iterator[tuple[float, LinearClassifier]]:
        """Yields (C, classifier) in increasing order of C, each fitted when it is asked for."""
        if self.solver == "multinomial":
            yield from ascend_path(
                features, attribute, self.classes, inverse_penalties, weights, tolerance=PROBE_TOLERANCE,
                device=self.device,
            )  # fmt: skip
            return
        for c in sorted(inverse_penalties):
            [fitted], unconverged = fit_l1(features, attribute, self.classes, (c,), weights, seed=self.seed)
            self.unconverged += unconverged
            yield c, fitted


@dataclass(frozen=True)
class _Scaler:
    """Mean 0 and standard deviation 1; features that do not vary are only centred."""

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, features: Features) -> _Scaler:
        mean = features.mean(axis=0, dtype=np.float64)
        scale = features.std(axis=0, dtype=np.float64)
        constant = scale <= 10 * np.finfo(features.dtype).eps * np.abs(mean)
        return cls(mean, np.where(constant | (scale == 0), 1.0, scale))

    @classmethod
    def identity(cls, features: Features) -> _Scaler:
        return cls(np.zeros(features.shape[1]), np.ones(features.shape[1]))

    def transform(self, features: Features) -> FloatArray:
        return (features - self.mean) / self.scale

    def undo(self, classifier: LinearClassifier) -> LinearClassifier:
        """The classifier of unscaled features that equals one of scaled features."""
        weight = classifier.weight / self.scale
        return LinearClassifier(weight, classifier.bias - weight @ self.mean)


def _scaler_of_last_fit(fit: Features, train: Features | None, protocol: Protocol) -> _Scaler:
    if protocol.scaler == "none":
        return _Scaler.identity(fit)
    if protocol.scaler == "fit":
        return _Scaler.of(fit)
    if train is None or train.ndim != 2 or train.shape[1] != fit.shape[1] or not len(train):
        shape = None if train is None else train.shape
        raise ValueError(f"train_features {shape} with scaler='train'; allowed: [n, {fit.shape[1]}]")
    return _Scaler.of(train)


def _tune(
    features: Features,
    attribute: IntArray,
    group: IntArray,
    protocol: Protocol,
    fitter: _Fitter,
    rng: np.random.Generator,
) -> dict[float, float]:
    """Selection criterion for each C that was tried, in increasing order of C."""
    if len(protocol.inverse_penalties) == 1:
        return {protocol.inverse_penalties[0]: math.nan}
    measured = np.zeros(len(attribute), dtype=bool)
    paths = []
    for fit, check in _halves(group, protocol.tuning, rng):
        rows, weights = _balanced(group[fit], protocol.balance, rng)
        rows = fit[rows]
        scaler = _Scaler.identity(features) if protocol.scaler == "none" else _Scaler.of(features[rows])
        path = fitter.ascend(scaler.transform(features[rows]), attribute[rows], weights, protocol.inverse_penalties)
        paths.append((path, check, scaler.transform(features[check])))
        measured[check] = True
    merits: dict[float, float] = {}
    scores = np.zeros((len(attribute), fitter.classes))
    for c in sorted(set(protocol.inverse_penalties)):
        for path, check, checked in paths:
            scores[check] = next(path)[1].scores(checked)
        merits[c] = _merit(scores[measured], attribute[measured], group[measured], protocol.selection)
        best = max(merits, key=lambda tried: merits[tried])
        if protocol.patience is not None and len([tried for tried in merits if tried > best]) >= protocol.patience:
            break
    return merits


def _merit(scores: FloatArray, attribute: IntArray, group: IntArray, selection: str) -> float:
    """Selection criterion for one C; larger is better."""
    groups = int(group.max()) + 1
    if selection == "loss":
        loss = _losses(scores, attribute)
        # An attribute value that the other half lacks is lost whatever C is.
        known = np.isfinite(loss)
        return -float(np.nanmean(group_means(loss[known], group[known], groups)))
    right = GroupAccuracy.of(scores.argmax(axis=1) == attribute, group, tuple(map(str, range(groups))))
    return right.average(selection, draws=1).value


def _losses(scores: FloatArray, attribute: IntArray) -> FloatArray:
    """-log p of each image's attribute, [n]; infinite for a value that the probe never saw."""
    return np.asarray(np.logaddexp(0.0, weight_logits(scores, attribute)), dtype=np.float64)


def _halves(group: IntArray, tuning: str, rng: np.random.Generator) -> list[tuple[IntArray, IntArray]]:
    """(rows to fit on, rows to choose C on)."""
    order = rng.permutation(len(group))
    if tuning == "half":
        middle = len(order) // 2
        return [(order[middle:], order[:middle])]
    # Sorted by group, in random order within: every other row is a random half of every group.
    order = order[np.argsort(group[order], kind="stable")]
    return [(order[::2], order[1::2]), (order[1::2], order[::2])]


def _balanced(group: IntArray, balance: str, rng: np.random.Generator) -> tuple[IntArray, FloatArray | None]:
    """Rows and weights that give every group with images the total weight of the smallest one."""
    count = np.bincount(group)
    smallest = count[count > 0].min()
    if balance == "weights":
        return np.arange(len(group)), smallest / count[group]
    order = rng.permutation(len(group))
    rank = np.empty(len(group), dtype=np.int64)
    for g in np.flatnonzero(count):
        members = order[group[order] == g]
        rank[members] = np.arange(len(members))
    return np.flatnonzero(rank < smallest), None


def _count(first: IntArray, second: IntArray, given: int | None) -> int:
    if given is not None:
        require_whole("classes", given, 2)
        return given
    return max(2, int(max(first.max(), second.max())) + 1)


def _check(features: Features, attribute: IntArray, group: IntArray, part: str) -> None:
    if features.ndim != 2 or not (len(features) == len(attribute) == len(group)):
        raise ValueError(
            f"{part}_features {features.shape}, {part}_attribute {attribute.shape}, {part}_group {group.shape}; "
            "allowed: [n, D], [n] and [n]"
        )
    least = 4 if part == "fit" else 1
    if len(attribute) < least:
        raise ValueError(f"{part}_attribute has {len(attribute)} image(s); allowed: {least} or more")
    if min(attribute.min(), group.min()) < 0:
        raise ValueError(f"{part}_attribute or {part}_group contains a negative number; allowed: 0, 1, ...")
