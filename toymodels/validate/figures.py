"""Deviation against predicted error, a dot a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from toymodels.plots import new_figure
from toymodels.validate.study import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def validation_figure(results: Sequence[Result], limit: float) -> Figure:
    """Every configuration as a dot: deviation against predicted error, on logarithmic axes."""
    figure = new_figure(5.6, 4.8)
    ax = figure.add_subplot()
    for label, chosen, colour in (
        ("flows", [r for r in results if r.name != "closed form"], "#3a86c8"),
        ("closed forms (extrapolated)", [r for r in results if r.name == "closed form"], "#e69f00"),
    ):
        x = np.concatenate([r.predicted_error for r in chosen])
        y = np.maximum(np.concatenate([r.deviation for r in chosen]), 1e-13)
        ax.plot(x, y, "o", markersize=2.6, alpha=0.6, color=colour, label=label, markeredgewidth=0)
    span = np.array(ax.get_xlim()) if ax.get_xscale() == "log" else np.array([1e-9, 1.0])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.plot(span, span, color="black", linewidth=1, label="deviation = predicted error")
    ax.plot(span, limit * span, color="black", linewidth=1, linestyle=":", label=f"{limit:g} x predicted error")
    ax.set_xlabel("Predicted error of the simulation")
    ax.set_ylabel("Deviation between simulation and theory")
    ax.legend(fontsize=8, frameon=False)
    return figure
