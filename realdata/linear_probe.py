"""Multinomial logistic regression with a ridge penalty, exact and fast: the work horse of linear probes.

Minimises, over weights ``W [K, D]`` and biases ``b [K]``,

    C sum_n s_n [logsumexp_k(z_nk) - z_n,y_n] + (r / 2) ||W||_F^2,      z_n = W x_n + b,

in double precision. ``r`` is 1, and 2 with two classes, where ``W = (-w/2, w/2)`` is then the minimiser of the usual
objective with ``(1/2) ||w||^2``: coefficients are those of scikit-learn's ``LogisticRegression(C=C)``, in both cases.

Newton steps by conjugate gradients (truncated, Dembo & Steihaug 1983). Features are rotated once into the principal
axes of the weighted data, in which the Hessian of an undecided classifier is diagonal; that diagonal, rescaled by the
current mean of p (1 - p), preconditions all later ones. Strengths are visited from the smallest, each fit starting from
the last one. Conjugate gradients run in single precision, which only costs them an occasional further step: what is
accepted, and when to stop, is decided by the objective and its gradient in double precision.

The objective is strongly convex in ``W`` with constant ``r >= 1``: ``||W - W*|| <= ||gradient||``, so the tolerance on
the gradient is a guarantee for the coefficients.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TOLERANCE = 1e-5
"""Bound on the distance of the coefficients from the minimiser, relative to their norm where that exceeds 1."""

NEWTON_STEPS = 100
CONJUGATE_STEPS = 250
HALVINGS = 40

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
    strengths: Sequence[float],
    sample_weight: NDArray[np.floating] | None = None,
    *,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
) -> list[LinearClassifier]:
    """Fit one classifier for each strength C.

    Args:
        features: ``[n, D]``, best standardised: the penalty sees their scale.
        target: ``[n]`` classes in ``0 .. classes - 1``. A class without examples gets a bias of minus infinity.
        classes: K >= 2.
        strengths: values of C > 0 (inverse penalties), in any order.
        sample_weight: ``[n]`` weights s_n >= 0; None: ones.
        tolerance: see :data:`TOLERANCE`.
        device: torch device that computes.

    Returns:
        Classifiers in the order of ``strengths``.

    Raises:
        ValueError: for arrays that do not fit, features that are not finite, or fewer than two classes present.

    Example:
        >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> [classifier] = fit_path(x, np.array([0, 0, 1, 1]), 2, [1.0])
        >>> classifier.predict(x)
        array([0, 0, 1, 1])
    """
    target = np.asarray(target)
    weights = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    present = _checked(features, target, classes, strengths, weights)
    position = np.full(classes, -1)
    position[present] = np.arange(len(present))
    problem = _Problem(features, position[target], len(present), weights, device)
    solutions: dict[float, tuple[FloatArray, FloatArray]] = {}
    start = problem.zero()
    for strength in sorted(set(map(float, strengths))):
        start = problem.solve(strength, start, tolerance)
        solutions[strength] = problem.original(start)
    fitted = []
    for strength in strengths:
        weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
        weight[present], bias[present] = solutions[float(strength)]
        fitted.append(LinearClassifier(weight, bias))
    return fitted


def _checked(
    features: NDArray[np.floating],
    target: NDArray[np.int64],
    classes: int,
    strengths: Sequence[float],
    weights: FloatArray,
) -> NDArray[np.int64]:
    """The classes that have examples."""
    if features.ndim != 2 or features.shape[0] != len(target) or len(weights) != len(target):
        raise ValueError(
            f"features {features.shape}, target {target.shape}, sample_weight {weights.shape}; "
            "allowed: [n, D], [n] and [n]"
        )
    if not np.isfinite(features).all():
        raise ValueError("features contains values that are not finite; allowed: finite numbers")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"sample_weight contains {weights.min():g}; allowed: finite numbers >= 0")
    if not len(strengths) or not all(np.isfinite(c) and c > 0 for c in strengths):
        raise ValueError(f"strengths={tuple(strengths)!r}; allowed: one or more finite numbers > 0")
    if len(target) and not (target.min() >= 0 and target.max() < classes):
        raise ValueError(f"target contains {target.min()}..{target.max()}; allowed: 0..{classes - 1}")
    present = np.unique(target[weights > 0])
    if len(present) < 2:
        raise ValueError(f"target contains {len(present)} class(es) of {classes}; a probe needs two or more")
    return present


class _Problem:
    """The objective in the principal axes of the data; parameters are ``[K, axes + 1]``, the last column the biases."""

    def __init__(
        self, features: NDArray[np.floating], target: NDArray[np.int64], classes: int, weights: FloatArray, device: str
    ) -> None:
        keep = weights > 0
        x = torch.as_tensor(np.ascontiguousarray(features[keep]), device=device).to(torch.float64)
        self.weights = torch.as_tensor(weights[keep], device=device)[:, None]
        self.centre = (self.weights * x).sum(0) / self.weights.sum()
        x = x - self.centre
        # Minimisers lie in the span of the data: with fewer examples than features that is the smaller space, and
        # directions without any variance may be dropped.
        span = None
        if len(x) < x.shape[1]:
            span, triangle = torch.linalg.qr(x.T)
            x = triangle.T
        variances, axes = torch.linalg.eigh(x.T @ (self.weights * x))
        used = variances > variances[-1] * len(variances) * torch.finfo(torch.float64).eps
        axes = axes[:, used]
        self.axes = axes if span is None else span @ axes
        ones = torch.ones(len(x), 1, dtype=torch.float64, device=device)
        self.design = torch.cat([x @ axes, ones], dim=1)
        self.single = self.design.to(torch.float32)
        self.spectrum = torch.cat([variances[used], self.weights.sum()[None]])
        self.target = torch.as_tensor(target[keep], device=device)
        self.answer = torch.nn.functional.one_hot(self.target, classes).to(torch.float64)
        self.ridge = torch.full_like(self.spectrum, 2.0 if classes == 2 else 1.0)
        self.ridge[-1] = 0.0

    def zero(self) -> Tensor:
        return self.design.new_zeros(self.answer.shape[1], self.design.shape[1])

    def original(self, theta: Tensor) -> tuple[FloatArray, FloatArray]:
        """(weight, bias) in the coordinates of the features; biases have mean zero."""
        weight = theta[:, :-1] @ self.axes.T
        bias = theta[:, -1] - weight @ self.centre
        return weight.cpu().numpy(), (bias - bias.mean()).cpu().numpy()

    def solve(self, strength: float, theta: Tensor, tolerance: float) -> Tensor:
        """The minimiser for one strength, from a start."""
        weights = strength * self.weights
        value, probabilities = self._value(theta, weights)
        for _ in range(NEWTON_STEPS):
            slope = ((probabilities - self.answer) * weights).T @ self.design + self.ridge * theta
            spread = self._mean_spread(probabilities)
            # Biases have no penalty; what makes them definite is the data's curvature, which may be below 1.
            certain = slope.clone()
            certain[:, -1] /= min(1.0, strength * spread * float(self.spectrum[-1]))
            size = float(certain.norm())
            if size <= tolerance * max(1.0, float(theta[:, :-1].norm())):
                break
            diagonal = strength * spread * self.spectrum + self.ridge
            step = self._newton_step(slope, probabilities, weights, diagonal, min(0.1, size**0.5))
            descent = float((slope * step).sum())
            length = 1.0
            for _ in range(HALVINGS):
                trial = theta + length * step
                trial_value, trial_probabilities = self._value(trial, weights)
                if trial_value <= value + 1e-4 * length * descent + 1e-14 * abs(value):
                    break
                length /= 2
            else:
                break
            theta, value, probabilities = trial, trial_value, trial_probabilities
        return theta

    def _value(self, theta: Tensor, weights: Tensor) -> tuple[float, Tensor]:
        logs = torch.log_softmax(self.design @ theta.T, dim=1)
        loss = -(weights[:, 0] * logs.gather(1, self.target[:, None])[:, 0]).sum()
        return float(loss + 0.5 * (self.ridge * theta**2).sum()), logs.exp()

    def _mean_spread(self, probabilities: Tensor) -> float:
        """Weighted mean of p (1 - p); floored, so that a classifier that is sure of everything divides by no zero."""
        spread = (self.weights * probabilities * (1 - probabilities)).sum()
        return max(float(spread) / (float(self.spectrum[-1]) * probabilities.shape[1]), 1e-12)

    def _newton_step(
        self, slope: Tensor, probabilities: Tensor, weights: Tensor, diagonal: Tensor, accuracy: float
    ) -> Tensor:
        """Approximately minus the inverse Hessian times the slope, by preconditioned conjugate gradients."""
        p, s = probabilities.to(torch.float32), weights.to(torch.float32)
        inverse, ridge = (1.0 / diagonal).to(torch.float32), self.ridge.to(torch.float32)
        scale = float(slope.abs().max())
        residual = (-slope / scale).to(torch.float32)
        step = torch.zeros_like(residual)
        solved = inverse * residual
        direction, power = solved, float((residual * solved).sum())
        goal = power * accuracy**2
        for _ in range(CONJUGATE_STEPS):
            moved = self.single @ direction.T
            moved = p * (moved - (p * moved).sum(1, keepdim=True)) * s
            image = moved.T @ self.single + ridge * direction
            curvature = float((direction * image).sum())
            if curvature <= 0:
                break
            length = power / curvature
            step, residual = step + length * direction, residual - length * image
            solved = inverse * residual
            previous, power = power, float((residual * solved).sum())
            if power <= goal:
                break
            direction = solved + (power / previous) * direction
        return step.to(torch.float64) * scale


def fit_l1(
    features: NDArray[np.floating],
    target: NDArray[np.int64],
    classes: int,
    strengths: Sequence[float],
    sample_weight: NDArray[np.floating] | None = None,
    *,
    seed: int = 0,
) -> tuple[list[LinearClassifier], int]:
    """Logistic regression with an l1 penalty by liblinear through scikit-learn, at its defaults.

    More than two classes are fitted one against the rest. Arguments and errors as in :func:`fit_path`; ``seed`` is that
    of liblinear's coordinate order.

    Returns:
        Classifiers in the order of ``strengths``, and how many fits ended at the limit of iterations.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    target = np.asarray(target)
    weights = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    present = _checked(features, target, classes, strengths, weights)
    # scikit-learn 1.8 replaced penalty="l1" by l1_ratio=1.
    old = LogisticRegression().get_params().get("penalty") == "l2"
    penalty = {"penalty": "l1"} if old else {"l1_ratio": 1.0}
    fitted, unconverged = [], 0
    for strength in strengths:
        weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
        # Two classes need one fit; its mirror image is the other class's.
        for k in present[1:] if len(present) == 2 else present:
            model = LogisticRegression(C=strength, solver="liblinear", random_state=seed, **penalty)
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
