"""Metrics of one's own: one decorated function, and maps, reports and redraws know it by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels.phase_diagram import METRICS
from toymodels.plots import MapStyle

if TYPE_CHECKING:
    from toymodels.phase_diagram.study import Diagram

Values = Callable[["Diagram", float], FloatArray]
"""(diagram, loss level) -> ``[ny, nx, seeds]`` or ``[ny, nx]``; NaN where a run has no value."""


@dataclass(frozen=True)
class OwnMetric:
    """What a map shows, and how it is drawn."""

    values: Values
    style: MapStyle

    def cells(self, diagram: Diagram, level: float) -> FloatArray:
        """``[ny, nx, seeds]``, or one value a cell as ``[ny, nx, 1]``.

        Raises:
            ValueError: the function returned another shape.
        """
        found = np.asarray(self.values(diagram, level), dtype=float)
        shape = diagram.sweep.shape
        if found.shape == shape[:-1]:
            return found[..., None]
        if found.shape != shape:
            name = getattr(self.values, "__name__", "the metric")
            raise ValueError(f"{name} returned shape {found.shape}; allowed: {shape} or {shape[:-1]}")
        return found


OWN_METRICS: dict[str, OwnMetric] = {}
"""By name, what :func:`map_metric` has registered in this process."""


def map_metric(
    name: str,
    label: str,
    colours: str = "viridis",
    *,
    centre: float | None = None,
    limits: tuple[float, float] | None = None,
    linear_below: float | None = None,
) -> Callable[[Values], Values]:
    """Register the decorated function as a metric of maps, by name.

    Args:
        name: what ``Report.of(diagram, name, level)`` is given; registering it again replaces it.
        label, colours, centre, limits, linear_below: see :class:`toymodels.plots.MapStyle`; ``colours`` is a colour map
            of Matplotlib.

    Raises:
        ValueError: for the name of a metric that comes with the package.

    Example:
        >>> @map_metric("total", "Sum of the coefficients")
        ... def total(diagram, level):
        ...     return diagram.dataset["coefficient"].values.sum(axis=-1)
    """
    if not isinstance(name, str) or not name or name in METRICS:
        raise ValueError(f"name={name!r}; allowed: a name other than {', '.join(METRICS)}")

    def register(values: Values) -> Values:
        OWN_METRICS[name] = OwnMetric(values, MapStyle(label, colours, centre, limits, linear_below=linear_below))
        return values

    return register
