"""Gains of many features under SAM, beside the parabolas of C22."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toymodels import theory
from toymodels.filter.study import FilterRun
from toymodels.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL_COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#a6761d")


def filter_figure(run: FilterRun) -> Figure:
    """One panel per radius: simulated gains as dots, C22 as lines, mu* as a triangle on the curve."""
    panels = len(run.rho)
    figure = new_figure(1.0 + 3.0 * panels, 3.6)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    fine = np.linspace(0, run.mu[-1], 200)
    for r, ax in enumerate(axes):
        for t, level in enumerate(run.levels):
            colour = LEVEL_COLOURS[t % len(LEVEL_COLOURS)]
            if run.steps[r, t] < 0:
                continue
            curve = theory.filter_log_gain(fine, run.tau[r, t], run.suppression_time[r, t], run.rho[r])
            ax.plot(fine, curve, color=colour, linewidth=1.4)
            ax.plot(run.mu, run.simulated[r, t], "o", color=colour, markersize=2.6, label=f"loss {level:g}")
            top = run.top[r, t]
            if np.isfinite(top) and top <= run.mu[-1]:
                height = theory.filter_log_gain(top, run.tau[r, t], run.suppression_time[r, t], run.rho[r])
                ax.plot(top, height, "v", color="black", markersize=6)
                ax.annotate(
                    r"$\mu^*$", (top, height), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=9
                )
        ax.axhline(0.0, color="0.6", linewidth=0.8)
        name = "GD" if run.rho[r] == 0 else rf"SAM, $\rho$ = {run.rho[r]:g}"
        ax.set_title(name, fontsize=10)
        ax.set_xlabel(r"Feature strength $\mu_k$")
        ax.margins(y=0.12)
    axes[0].set_ylabel(r"Log-gain $\ln\, a_k(t) / a_k(0)$")
    axes[0].legend(fontsize=8, frameon=False, title="simulation (dots), C22 (lines)", title_fontsize=8)
    return figure
