"""What is read off a run: hard share, phase, comparisons at matched training loss, worst group, Gini and Lorenz."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from kernels.problem import Status
from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_choice

if TYPE_CHECKING:
    import xarray as xr

    from toymodels.sweep import Sweep

NEGLIGIBLE_ADVANTAGE = 0.005
"""Hard shares that differ by less count as equal: first-order errors in the learning rate are of this size."""

BALANCED_SHARES = (0.4, 0.6)
"""Hard shares between which a run counts as balanced."""


class Phase(IntEnum):
    """What a run learned by the time it reached a training-loss level."""

    COLLAPSE = 0
    """Both coefficients ended below the threshold."""
    EASY_FIRST = 1
    """The level was reached with a hard share below 0.4."""
    BALANCED = 2
    """... between 0.4 and 0.6."""
    HARD_FIRST = 3
    """... above 0.6."""
    UNFINISHED = 4
    """Neither collapsed nor at the level within the given steps."""
    DIVERGED = 5
    """A parameter or the loss became NaN or infinite; the run was stopped."""

    @property
    def label(self) -> str:
        """Name for legends."""
        return self.name.lower().replace("_", " ")


def hard_share(coefficients: FloatArray, mu_easy: FloatArray, mu_hard: FloatArray) -> FloatArray:
    """H = mu_h u_h / (mu_e u_e + mu_h u_h), the hard feature's share of the margin.

    Args:
        coefficients: ``[..., 2]`` end-to-end coefficients (easy, hard).
        mu_easy, mu_hard: strengths, broadcast against the leading axes.

    Returns:
        ``[...]``; NaN where the margin is zero. Outside [0, 1] when a coefficient is negative.
    """
    easy, hard = mu_easy * coefficients[..., 0], mu_hard * coefficients[..., 1]
    total = easy + hard
    return np.divide(hard, total, out=np.full(np.shape(total), np.nan), where=total != 0)


def classify(
    share: FloatArray, reached: np.ndarray, collapsed: np.ndarray, diverged: np.ndarray | bool = False
) -> np.ndarray:
    """Phases from the hard share at a level and how the runs ended; arrays of one shape, result int8."""
    low, high = BALANCED_SHARES
    at_level = np.where(share < low, Phase.EASY_FIRST, np.where(share > high, Phase.HARD_FIRST, Phase.BALANCED))
    phase = np.where(reached, at_level, Phase.UNFINISHED)
    phase = np.where(collapsed, Phase.COLLAPSE, phase)
    return np.where(diverged, Phase.DIVERGED, phase).astype(np.int8)


def strengths(sweep: Sweep) -> tuple[FloatArray, FloatArray]:
    """(mu_easy, mu_hard) of every run in the shape of the sweep."""
    return sweep.column("mu_easy").reshape(sweep.shape), sweep.column("mu_hard").reshape(sweep.shape)


def value_range(values: FloatArray) -> list[float]:
    """[smallest, largest], for a summary."""
    return [float(values.min()), float(values.max())]


def level_index(sweep: Sweep, level: float) -> int:
    """Position of a loss level among the sweep's; an unknown one is a ValueError that lists them."""
    for index, known in enumerate(sweep.loss_levels):
        if np.isclose(known, level, rtol=1e-9):
            return index
    raise ValueError(f"level={level:g} was not recorded; allowed: {', '.join(f'{x:g}' for x in sweep.loss_levels)}")


def share_at_level(dataset: xr.Dataset, sweep: Sweep, level: float) -> FloatArray:
    """Hard share at the first crossing of a loss level, in the shape of the sweep; NaN where it was not reached."""
    k = level_index(sweep, level)
    return hard_share(dataset["crossing_coefficient"].values[..., k, :], *strengths(sweep))


def phases(dataset: xr.Dataset, sweep: Sweep, level: float) -> np.ndarray:
    """:class:`Phase` of every simulated run at a loss level, in the shape of the sweep."""
    k = level_index(sweep, level)
    status = dataset["status"].values
    return classify(
        share_at_level(dataset, sweep, level),
        dataset["crossing_step"].values[..., k] >= 0,
        status == Status.COLLAPSED,
        status == Status.DIVERGED,
    )


def advantage(dataset: xr.Dataset, gd: xr.Dataset, sweep: Sweep, level: float) -> FloatArray:
    """Hard share minus GD's at the same training loss, start and data; NaN where either missed the level.

    ``gd`` is the dataset of ``sweep.gd_baseline()``; its axis over rho has length 1 and is broadcast.

    Raises:
        ValueError: for datasets of other sweeps.
    """
    for name, given, twin in (("dataset", dataset, sweep), ("gd", gd, sweep.gd_baseline())):
        shape = given["crossing_step"].shape[:-1]
        own = sweep.rule.name == "gd" and shape == sweep.shape  # a sweep of GD may be its own baseline
        if shape != twin.shape and not own:
            made = "sweep" if twin is sweep else "sweep.gd_baseline()"
            raise ValueError(f"{name} has runs of shape {shape}; allowed: {twin.shape}, as simulate({made}) gives them")
    return share_at_level(dataset, sweep, level) - share_at_level(gd, sweep.gd_baseline(), level)


def worst_group(dataset: xr.Dataset, sweep: Sweep, level: float | None = None) -> FloatArray:
    """Accuracy of the worst group at a loss level (NaN where it was not reached), or at the end (``level=None``)."""
    if level is None:
        return dataset["group_accuracy"].values.min(axis=-1)
    return dataset["crossing_group_accuracy"].values[..., level_index(sweep, level), :].min(axis=-1)


def probing_error(
    dataset: xr.Dataset, sweep: Sweep, level: float, features: str = "head", attribute: str = "hard"
) -> FloatArray:
    """Probing error at the first crossing of a loss level, in the shape of the sweep; NaN where it was not reached.

    Args:
        dataset: of a sweep with ``probe_noise``.
        sweep, level: the sweep, and one of its loss levels.
        features: hidden features as the ``head`` sees them; of a patches network also ``pooled`` over all patches, or
            ``placed``, those of each patch.
        attribute: ``easy`` or ``hard``.

    Raises:
        ValueError: for unknown features, or a level that was not recorded.
    """
    require_choice("features", features, ("head", "pooled", "placed"))
    name = "crossing_probing_error" + ("" if features == "head" else f"_{features}")
    return dataset[name].sel(attribute=attribute).values[..., level_index(sweep, level)]


def suppression(dataset: xr.Dataset, sweep: Sweep, level: float, feature: str = "easy") -> FloatArray:
    """chi_k of the easy or the hard feature at the first crossing of a loss level (:mod:`toymodels.suppression`).

    The dataset is of a sweep with ``suppression=True``; the result has the shape of the sweep, with NaN where the level
    was not reached.
    """
    return dataset["crossing_suppression"].sel(attribute=feature).values[..., level_index(sweep, level)]


def lorenz(values: FloatArray, weights: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Lorenz curve: (share of examples, share of the total that the smallest of them hold), both from 0 to 1.

    Args:
        values: ``[n]`` non-negative example weights lambda.
        weights: ``[n]`` sample weights pi (default: all equal).

    Raises:
        ValueError: for a negative value, or when all are zero.
    """
    values = np.asarray(values, dtype=float)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=float)
    if (values < 0).any():
        raise ValueError(f"values contains {values.min():g}; allowed: >= 0")
    if not (values * weights).sum() > 0:
        raise ValueError("values are all zero; a Lorenz curve needs a positive total")
    order = np.argsort(values)
    population = np.concatenate([[0.0], np.cumsum(weights[order])])
    held = np.concatenate([[0.0], np.cumsum((values * weights)[order])])
    return population / population[-1], held / held[-1]


def gini(values: FloatArray, weights: FloatArray | None = None) -> float:
    """Gini coefficient: 1 - 2 x area under the Lorenz curve; 0 when all examples weigh the same."""
    population, held = lorenz(values, weights)
    return float(1.0 - (np.diff(population) * (held[1:] + held[:-1])).sum())
