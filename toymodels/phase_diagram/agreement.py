"""How well simulation and theory agree over a two-axis sweep: phases for each run, boundaries in cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels.prediction import Boundary, FlowPrediction


@dataclass(frozen=True)
class PhaseAgreement:
    """Share of runs whose simulated phase is the phase of the flow from the same start."""

    share: float
    runs: int
    off_boundary_share: float | None
    """The same without runs within one cell of a phase boundary of the flow (None if the flow skipped runs)."""
    off_boundary_runs: int


def phase_agreement(simulated: np.ndarray, prediction: FlowPrediction) -> PhaseAgreement:
    """Compare phases ``[ny, nx, seeds]`` (any axes order, seeds last) with the flow's."""
    same = simulated.reshape(-1)[prediction.rows] == prediction.phase
    if len(prediction.rows) < simulated.size:
        return PhaseAgreement(float(same.mean()), len(same), None, 0)
    away = ~near_change(prediction.phase.reshape(simulated.shape)).reshape(-1)
    off = float(same[away].mean()) if away.any() else None
    return PhaseAgreement(float(same.mean()), len(same), off, int(away.sum()))


def near_change(values: np.ndarray) -> np.ndarray:
    """Cells whose 3 x 3 neighbourhood in the first two axes holds more than one value."""
    padded = np.pad(values, [(1, 1), (1, 1)] + [(0, 0)] * (values.ndim - 2), mode="edge")
    ny, nx = values.shape[:2]
    shifted = [padded[i : i + ny, j : j + nx] for i in range(3) for j in range(3)]
    return np.logical_or.reduce([part != values for part in shifted])


def boundary_error_cells(simulated: FloatArray, boundary: Boundary) -> float | None:
    """Largest distance, in cells, between the zero lines of a simulated field and of an analytic one, seed by seed.

    Both directions count: a simulated line far from the analytic one, and an analytic one that the simulation misses.
    Points next to cells where the other field is NaN do not count.

    Args:
        simulated: ``[ny, nx, seeds]``.
        boundary: its ``field`` has the same shape.

    Returns:
        The distance; None where neither has a line.
    """
    worst: float | None = None
    for seed in range(simulated.shape[2]):
        pair = (simulated[..., seed], boundary.field[..., seed])
        lines = [zero_lines(field) for field in pair]
        for mine, other, other_field in ((lines[0], lines[1], pair[1]), (lines[1], lines[0], pair[0])):
            points = [point for line in mine for point in line if _defined_around(other_field, point)]
            if not points:
                continue
            distance = _largest_distance(np.array(points), other) if other else float("inf")
            worst = distance if worst is None else max(worst, distance)
    return worst


def zero_lines(field: FloatArray) -> list[FloatArray]:
    """Polylines ``[n, 2]`` (x, y in cells) along which a field ``[ny, nx]`` is zero."""
    from contourpy import contour_generator

    if min(field.shape) < 2 or not np.isfinite(field).any():
        return []
    return [np.asarray(line) for line in contour_generator(z=np.ma.masked_invalid(field)).lines(0.0)]


def _defined_around(field: FloatArray, point: FloatArray) -> bool:
    x, y = np.rint(point).astype(int)
    return bool(np.isfinite(field[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]).all())


def _largest_distance(points: FloatArray, lines: list[FloatArray]) -> float:
    """max over points of the distance to the nearest segment."""
    starts = np.concatenate([line[:-1] for line in lines])
    steps = np.concatenate([np.diff(line, axis=0) for line in lines])
    length2 = np.maximum((steps**2).sum(1), 1e-30)
    offset = points[:, None, :] - starts[None]
    along = np.clip((offset * steps).sum(2) / length2, 0.0, 1.0)
    return float(np.sqrt(((offset - along[..., None] * steps) ** 2).sum(2)).min(axis=1).max())
