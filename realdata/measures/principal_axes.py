"""Wide features in their leading principal axes, because a probe of thousands of features takes minutes.

Features are standardised and projected on the axes in which a random part of the images varies most. The projections
are not standardised again: a ridge penalty on them is the penalty on the standardised features, restricted to the span
of these axes. The axes depend on no attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realdata.measures.linear_probe import LinearClassifier

IMAGES = 1024
"""Maximum number of images that the axes are computed from; their number of scalar products grows with its square."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PrincipalAxes:
    """Projection ``(features - mean) @ axes``, with ``mean [D]`` and ``axes [D, A]``, which contain the scale."""

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def of(cls, features: NDArray[np.float32], count: int, seed: int = 0) -> PrincipalAxes:
        """The leading axes of features ``[n, D]``.

        Args:
            count: number A of axes; fewer if the images span fewer. seed: seed of the part of the images.

        Raises:
            ValueError: for features that are not finite.
        """
        if not np.isfinite(features).all():
            raise ValueError("features contains values that are not finite; allowed: finite numbers")
        mean = features.mean(axis=0, dtype=np.float64)
        scale = features.std(axis=0, dtype=np.float64)
        dead = scale <= 10 * np.finfo(np.float32).eps * np.abs(mean)
        inverse = np.where(dead, 0.0, 1.0 / np.where(dead, 1.0, scale))
        rows = np.random.default_rng([seed, 1]).permutation(len(features))[:IMAGES]
        chosen = ((features[rows] - mean) * inverse).astype(np.float32)
        chosen -= chosen.mean(axis=0)
        # The smaller of the two products has the same spectrum.
        if len(chosen) < chosen.shape[1]:
            spectrum, vectors = np.linalg.eigh((chosen @ chosen.T).astype(np.float64))
        else:
            spectrum, vectors = np.linalg.eigh((chosen.T @ chosen).astype(np.float64))
        largest = max(float(spectrum[-1]), np.finfo(np.float64).tiny)
        kept = np.flatnonzero(spectrum > 1e-6 * largest)[::-1][:count]
        axes = vectors[:, kept]
        if len(chosen) < chosen.shape[1]:
            axes = chosen.T @ (axes / np.sqrt(spectrum[kept]))
        return cls(mean.astype(np.float32), (axes * inverse[:, None]).astype(np.float32))

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Projections ``[n, A]`` of features ``[n, D]``."""
        return np.asarray(features @ self.axes - self.mean @ self.axes, dtype=np.float32)

    def lift(self, classifier: LinearClassifier) -> LinearClassifier:
        """The classifier of features that equals one of projections."""
        weight = classifier.weight @ self.axes.T.astype(np.float64)
        return LinearClassifier(weight, classifier.bias - weight @ self.mean.astype(np.float64))
