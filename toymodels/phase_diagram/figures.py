"""Figures of a phase diagram: phases, a continuous metric, and SAM's isolated effects side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels.metrics import Phase
from toymodels.phase_diagram.effects import COMPARED, EffectsMap, seed_mean
from toymodels.plots import (
    PHASE_COLOURS,
    MapStyle,
    add_colour_bar,
    axis_label,
    caption,
    draw_boundaries,
    draw_cells,
    draw_map,
    network_label,
    new_figure,
)
from toymodels.prediction import Boundary, sign_change

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ERROR = ("viridis_r", None, (0.0, 0.5))
"""One scale for all probing errors, from none to a guess."""

_CHI = ("viridis", None, (0.0, 1.0), "#b2182b")
"""One scale for both features; below 0 SAM makes a feature shrink (C8)."""

MAP_STYLES = {
    "hard_share": MapStyle("Hard share at the loss level, $H$", "PuOr", centre=0.5, limits=(0.0, 1.0)),
    "advantage": MapStyle("Hard share minus GD's at matched loss", "RdBu", centre=0.0, linear_below=0.05),
    "steps": MapStyle("Steps to the loss level", "viridis"),
    "worst_group_accuracy": MapStyle("Worst-group accuracy at the loss level", "cividis", limits=(0.0, 1.0)),
    "probing_error": MapStyle("Hard feature's probing error, hidden features as the head sees them", *_ERROR),
    "probing_error_pooled": MapStyle("Hard feature's probing error, hidden features pooled over patches", *_ERROR),
    "probing_error_placed": MapStyle("Hard feature's probing error, hidden features of each patch", *_ERROR),
    "suppression": MapStyle("Suppression factor of the easy feature, $\\chi_e$ (red: it shrinks)", *_CHI),
    "suppression_hard": MapStyle("Suppression factor of the hard feature, $\\chi_h$ (red: it shrinks)", *_CHI),
    "suppression_gap": MapStyle(
        "How much more the easy feature is suppressed, $\\chi_h-\\chi_e$", "RdBu", 0.0, (-1.0, 1.0)
    ),
}


def phase_figure(
    x: tuple[str, FloatArray],
    y: tuple[str, FloatArray],
    phases: np.ndarray,
    boundaries: Sequence[Boundary],
    title: str,
    caption: str,
    ax: Axes | None = None,
) -> Figure:
    """Phases ``[ny, nx, seeds]``; a cell's colour is the mean over its seeds, so blends show disagreement."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    palette = np.array([to_rgb(PHASE_COLOURS[phase]) for phase in Phase])
    figure, axes = _canvas(ax, 6.4)
    draw_cells(axes, x, y, palette[phases].mean(axis=2))
    handles = [
        Patch(facecolor=PHASE_COLOURS[phase], edgecolor="0.3", linewidth=0.5, label=phase.label)
        for phase in Phase
        if (phases == phase).any()
    ]
    handles += draw_boundaries(axes, x[1], y[1], boundaries)
    _finish(figure, axes, (x[0], y[0]), title, caption, handles, own_axes=ax is not None)
    return figure


def map_figure(
    x: tuple[str, FloatArray],
    y: tuple[str, FloatArray],
    values: FloatArray,
    style: MapStyle,
    boundaries: Sequence[Boundary],
    title: str,
    caption: str,
    ax: Axes | None = None,
) -> Figure:
    """A continuous metric ``[ny, nx]`` with a colour bar; NaN cells (no value) are grey."""
    from matplotlib.patches import Patch

    figure, axes = _canvas(ax, 6.8)
    add_colour_bar(figure, draw_map(axes, x, y, values, style), axes, style)
    handles = draw_boundaries(axes, x[1], y[1], boundaries)
    if not np.isfinite(values).all():
        handles.append(Patch(facecolor=PHASE_COLOURS[Phase.UNFINISHED], edgecolor="0.3", label="level not reached"))
    _finish(figure, axes, (x[0], y[0]), title, caption, handles, own_axes=ax is not None)
    return figure


def effects_figure(effects: EffectsMap) -> Figure:
    """Four panels on one colour scale; the flows' sign change as a black line."""
    (y_name, y), (x_name, x) = ((name, np.asarray(axis)) for name, axis in effects.sweep.axes.items())
    means = {name: seed_mean(values) for name, values in effects.advantage.items()}
    reach = max((float(np.nanmax(np.abs(m))) for m in means.values() if np.isfinite(m).any()), default=0.0)
    style = MapStyle(
        "Hard share minus GD's at matched loss", "RdBu", centre=0.0, limits=(-reach, reach), linear_below=0.05
    )
    figure = new_figure(8.2, 7.0)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, (name, values) in zip(axes.flat, means.items(), strict=True):
        mapped = draw_map(ax, (x_name, x), (y_name, y), values, style)
        line = sign_change(effects.flow_advantage[name], "sign change by the flow")
        field = np.ma.masked_invalid(line.field[..., 0])
        if (field > 0).any() and (field < 0).any():
            ax.contour(*effects.flow_axes, field, levels=[0.0], colors="black", linewidths=1.5)
        ax.set_title(COMPARED[name].label, fontsize=10)
    for ax in axes[0]:
        ax.set_xlabel("")
    for ax in axes[:, 1]:
        ax.set_ylabel("")
    add_colour_bar(figure, mapped, axes, style)
    head = f"{network_label(effects.sweep)}, {effects.sweep.data.kind} data: which effect balances?"
    figure.suptitle(
        f"{head}\n" + caption(effects.sweep, effects.level) + "; black: sign change by the flows; grey: no value",
        fontsize=9,
    )
    return figure


def _canvas(ax: Axes | None, width: float) -> tuple[Figure, Axes]:
    """The axes that are given, with their figure, or new ones."""
    if ax is not None:
        figure = ax.figure.figure if hasattr(ax.figure, "figure") else ax.figure
        return cast("Figure", figure), ax
    figure = new_figure(width, 5.4)
    return figure, figure.add_subplot()


def _finish(
    figure: Figure,
    axes: Axes,
    names: tuple[str, str],
    title: str,
    caption: str,
    handles: list[Any],
    own_axes: bool,
) -> None:
    """Labels, title and legend; of a figure of one's own only what belongs to its axes."""
    axes.set_xlabel(axis_label(names[0]))
    axes.set_ylabel(axis_label(names[1]))
    if own_axes:
        axes.set_title(f"{title}\n{caption}", fontsize=7)
        axes.legend(handles=handles, fontsize=6)
        return
    figure.suptitle(title, fontsize=11)
    axes.set_title(caption, fontsize=7, color="0.35")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7.5, frameon=False)
