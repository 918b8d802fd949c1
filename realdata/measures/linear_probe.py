"""Linear classifiers used as probes: multinomial with a ridge penalty (fast) and l1 (liblinear).

The ridge objective is that of scikit-learn's ``LogisticRegression(C=C)``, with the same coefficients for two and for
more classes. How it is minimised is described in :mod:`realdata.measures.multinomial`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-5
"""Bound on the distance of the coefficients from the minimiser, relative to their norm where that exceeds 1."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LinearClassifier:
    """``argmax_k (weight x + bias)_k`` with ``weight [K, D]``, ``bias [K]``, in the units of the features given."""

    weight: FloatArray
    bias: FloatArray

    def scores(self, features: NDArray[np.floating]) -> FloatArray:
        """Scores [n, K] of features [n, D]."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float64)

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.int64]:
        """Classes [n] of features [n, D]; equal scores go to the first class."""
        return self.scores(features).argmax(axis=1)


def fit_path(
    features: NDArray[np.floating],
    target: NDArray[np.int64],
    classes: int,
    inverse_penalties: Sequence[float],
    sample_weight: NDArray[np.floating] | None = None,
    *,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
) -> list[LinearClassifier]:
    """Fit one classifier with a ridge penalty for each C, in increasing order; each fit starts from the last one.

    Args:
        features: ``[n, D]``, preferably standardised, because the penalty depends on their scale.
        target: ``[n]`` classes in ``0 .. classes - 1``. A class without examples gets a bias of minus infinity.
        classes: K >= 2.
        inverse_penalties: values of C > 0, in any order.
        sample_weight: ``[n]`` weights s_n >= 0; None: ones.
        tolerance: see :data:`TOLERANCE`.
        device: torch device that computes.

    Returns:
        Classifiers in the order of ``inverse_penalties``.

    Raises:
        ValueError: for arrays that do not fit, features that are not finite, or fewer than two classes present.

    Example:
        >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> [classifier] = fit_path(x, np.array([0, 0, 1, 1]), 2, [1.0])
        >>> classifier.predict(x)
        array([0, 0, 1, 1])
    """
    path = ascend_path(features, target, classes, inverse_penalties, sample_weight, tolerance=tolerance, device=device)
    found = dict(path)
    return [found[float(inverse_penalty)] for inverse_penalty in inverse_penalties]


def ascend_path(
    features: NDArray[np.floating],
    target: NDArray[np.int64],
    classes: int,
    inverse_penalties: Sequence[float],
    sample_weight: NDArray[np.floating] | None = None,
    *,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
) -> Iterator[tuple[float, LinearClassifier]]:
    """Yields (C, classifier) in increasing order of C, each fitted when it is asked for.

    Arguments and errors as in :func:`fit_path`.
    """
    from realdata.measures.multinomial import RidgeProblem

    target = np.asarray(target)
    weights = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    present = _checked(features, target, classes, inverse_penalties, weights)
    position = np.full(classes, -1)
    position[present] = np.arange(len(present))
    problem = RidgeProblem(features, position[target], len(present), weights, device)
    start = problem.zero()
    for inverse_penalty in sorted(set(map(float, inverse_penalties))):
        start = problem.solve(inverse_penalty, start, tolerance)
        weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
        weight[present], bias[present] = problem.original(start)
        yield inverse_penalty, LinearClassifier(weight, bias)


def _checked(
    features: NDArray[np.floating],
    target: NDArray[np.int64],
    classes: int,
    inverse_penalties: Sequence[float],
    weights: FloatArray,
) -> NDArray[np.int64]:
    """Check the arguments; return the classes that have examples."""
    if features.ndim != 2 or features.shape[0] != len(target) or len(weights) != len(target):
        raise ValueError(
            f"features {features.shape}, target {target.shape}, sample_weight {weights.shape}; "
            "allowed: [n, D], [n] and [n]"
        )
    if not np.isfinite(features).all():
        raise ValueError("features contains values that are not finite; allowed: finite numbers")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"sample_weight contains {weights.min():g}; allowed: finite numbers >= 0")
    if not len(inverse_penalties) or not all(np.isfinite(c) and c > 0 for c in inverse_penalties):
        raise ValueError(f"inverse_penalties={tuple(inverse_penalties)!r}; allowed: one or more finite numbers > 0")
    if len(target) and not (target.min() >= 0 and target.max() < classes):
        raise ValueError(f"target contains {target.min()}..{target.max()}; allowed: 0..{classes - 1}")
    present = np.unique(target[weights > 0])
    if len(present) < 2:
        raise ValueError(f"target contains {len(present)} class(es) of {classes}; a probe needs two or more")
    return present


def fit_l1(
    features: NDArray[np.floating],
    target: NDArray[np.int64],
    classes: int,
    inverse_penalties: Sequence[float],
    sample_weight: NDArray[np.floating] | None = None,
    *,
    seed: int = 0,
) -> tuple[list[LinearClassifier], int]:
    """Logistic regression with an l1 penalty by scikit-learn's liblinear solver with default settings.

    More than two classes are fitted one-vs-rest. Arguments and errors as in :func:`fit_path`; ``seed`` sets liblinear's
    coordinate order.

    Returns:
        Classifiers in the order of ``inverse_penalties``, and how many fits reached the iteration limit.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    target = np.asarray(target)
    weights = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    present = _checked(features, target, classes, inverse_penalties, weights)
    # scikit-learn 1.8 replaced penalty="l1" by l1_ratio=1.
    old = LogisticRegression().get_params().get("penalty") == "l2"
    penalty = {"penalty": "l1"} if old else {"l1_ratio": 1.0}
    fitted, unconverged = [], 0
    for inverse_penalty in inverse_penalties:
        weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
        # Two classes need one fit; its mirror image is the other class's.
        for k in present[1:] if len(present) == 2 else present:
            model = LogisticRegression(C=inverse_penalty, solver="liblinear", random_state=seed, **penalty)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.fit(features, target == k, sample_weight=None if sample_weight is None else weights)
            unconverged += any(issubclass(w.category, ConvergenceWarning) for w in caught)
            weight[k], bias[k] = model.coef_[0], model.intercept_[0]
        if len(present) == 2:
            first, second = present
            weight[second], bias[second] = weight[second] / 2, bias[second] / 2
            weight[first], bias[first] = -weight[second], -bias[second]
        fitted.append(LinearClassifier(weight, bias))
    return fitted, unconverged
