"""What figures share: maps over two axes, analytic boundaries, captions, files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.files import atomic_path
from toymodels.metrics import Phase
from toymodels.networks import Patches
from toymodels.parameters import parameter
from toymodels.prediction import Boundary, no_flow_reason
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

PHASE_COLOURS = {
    Phase.COLLAPSE: "#4d4d4d",
    Phase.EASY_FIRST: "#e69f00",
    Phase.BALANCED: "#f7f3e3",
    Phase.HARD_FIRST: "#3a86c8",
    Phase.UNFINISHED: "#c9c9c9",
    Phase.DIVERGED: "#b2182b",
}
"""Safe for colour-blind readers: easy (orange) and hard (blue) differ in lightness too; the rest is grey or red."""

BOUNDARY_STYLES: dict[str, dict[str, object]] = {
    "collapse": {"linestyle": "-", "linewidth": 2.0, "color": "black"},
    "n_star": {"linestyle": "--", "linewidth": 1.8, "color": "#7b3294"},
    "share_0.4": {"linestyle": ":", "linewidth": 1.5, "color": "black"},
    "share_0.5": {"linestyle": "-.", "linewidth": 1.8, "color": "#008837"},
    "share_0.6": {"linestyle": (0, (1, 3)), "linewidth": 1.5, "color": "black"},
    "advantage": {"linestyle": "-.", "linewidth": 1.8, "color": "#008837"},
}

DPI = 200


@dataclass(frozen=True)
class MapStyle:
    """How a continuous metric is drawn."""

    label: str
    colours: str
    centre: float | None = None
    """Value at the middle of a diverging colour map."""
    limits: tuple[float, float] | None = None
    below: str | None = None
    """Colour of values below the limits (default: that of the lower limit)."""
    linear_below: float | None = None
    """Differences from the centre above this are drawn on a logarithmic scale, so that small ones stay visible."""


def new_figure(width: float, height: float) -> Figure:
    """A figure on the non-interactive Agg canvas (no display, no pyplot state)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_map(
    axes: Axes, x: tuple[str, FloatArray], y: tuple[str, FloatArray], values: FloatArray, style: MapStyle
) -> ScalarMappable:
    """Draw a continuous metric ``[ny, nx]`` into ``axes``; NaN cells are grey. Returns what a colour bar needs."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, SymLogNorm

    finite = values[np.isfinite(values)]
    low, high = style.limits or ((finite.min(), finite.max()) if finite.size else (0.0, 1.0))
    if style.centre is not None:
        reach = max(high - style.centre, style.centre - low, 1e-9)
        low, high = style.centre - reach, style.centre + reach
    high = high if high > low else low + 1.0
    normalise = Normalize(low, high)
    if style.linear_below is not None and high > style.linear_below:
        normalise = SymLogNorm(style.linear_below, vmin=low, vmax=high, base=10)
    colours = colormaps[style.colours].with_extremes(bad=PHASE_COLOURS[Phase.UNFINISHED], under=style.below)
    draw_cells(axes, x, y, colours(normalise(np.ma.masked_invalid(values)))[..., :3])
    axes.set_xlabel(axis_label(x[0]))
    axes.set_ylabel(axis_label(y[0]))
    return ScalarMappable(normalise, colours)


def add_colour_bar(figure: Figure, mapped: ScalarMappable, axes: Any, style: MapStyle) -> None:
    """A colour bar with plain numbers, also on a logarithmic scale."""
    bar = figure.colorbar(mapped, ax=axes, label=style.label, extend="min" if style.below else "neither")
    if style.linear_below is not None:
        low, high = mapped.get_clim()
        steps = np.array([-1, -0.5, -0.2, -0.1, -0.05, -0.02, 0, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
        bar.set_ticks([float(step) for step in steps if low <= step <= high])
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.minorticks_off()


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.pdf`` atomically. Both have the layout of the PNG: it is worked out once."""
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]
    for path in paths:
        with atomic_path(path) as partial:
            # No date inside the PDF: the same figure gives the same file.
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
            figure.savefig(partial, dpi=DPI, metadata=metadata)
        figure.set_layout_engine(None)  # "none" would still draw everything once before the file is drawn
    return paths


def is_logarithmic(values: FloatArray) -> bool:
    """Whether an axis is spaced evenly in its logarithm (and not linearly)."""
    if len(values) < 3 or values.min() <= 0:
        return False
    steps, ratios = np.diff(values), np.diff(np.log(values))
    return bool(np.ptp(ratios) < 0.1 * abs(ratios.mean()) and np.ptp(steps) > 0.1 * abs(steps.mean()))


def cell_edges(values: FloatArray) -> FloatArray:
    """``[n + 1]`` edges of cells centred at ``values`` (in the logarithm for logarithmic axes)."""
    inner = np.log(values) if is_logarithmic(values) else np.asarray(values, float)
    middle = 0.5 * (inner[1:] + inner[:-1])
    edges = np.concatenate([[2 * inner[0] - middle[0]], middle, [2 * inner[-1] - middle[-1]]])
    return np.exp(edges) if is_logarithmic(values) else edges


def draw_cells(axes: Axes, x: tuple[str, FloatArray], y: tuple[str, FloatArray], colours: FloatArray) -> None:
    """Draw a map of colours ``[ny, nx, 3]`` into ``axes``; evenly spaced logarithms give a logarithmic axis."""
    axes.pcolormesh(cell_edges(x[1]), cell_edges(y[1]), colours, rasterized=True)
    if is_logarithmic(x[1]):
        axes.set_xscale("log")
    if is_logarithmic(y[1]):
        axes.set_yscale("log")


def draw_boundaries(axes: Axes, x: FloatArray, y: FloatArray, boundaries: Sequence[Boundary]) -> list[Any]:
    """Draw the boundaries that lie inside the map; returns their legend entries."""
    from matplotlib.lines import Line2D

    handles = []
    for boundary in boundaries:
        field = np.ma.masked_invalid(boundary.field[..., 0])
        if not (np.any(field > 0) and np.any(field < 0)):
            continue
        style = BOUNDARY_STYLES.get(boundary.key, BOUNDARY_STYLES["collapse"])
        axes.contour(
            x, y, field, levels=[0.0], colors=[style["color"]], linewidths=style["linewidth"],
            linestyles=[style["linestyle"]],
        )  # fmt: skip
        handles.append(Line2D([], [], label=boundary.label, **style))  # type: ignore[arg-type]
    return handles


def axis_label(name: str) -> str:
    """Title and symbol of a parameter."""
    known = parameter(name)
    return f"{known.title} {known.symbol}"


def caption(sweep: Sweep, level: float, note: str | None = None) -> str:
    """All parameters that are not on an axis, in symbols, and what is to be known about the theory's lines.

    ``note`` is that; by default, which model the lines describe where it is not the sweep's.
    """
    shown = (
        "mu_easy",
        "mu_hard",
        "p",
        "q",
        "spread",
        "flip",
        "init",
        "eta",
        "steps",
        "rho",
        "relative_radius",
        "width",
        "cosine",
        "copies",
        "noise_patches",
    )
    noise = ("noise_easy", "noise_hard", "noise_features", "batch")
    parts = [f"loss level {level:g}", f"{len(sweep.seed_list)} seeds"]
    for name in (*shown, *noise):
        if name in sweep.axes or (name == "mu_hard" and "ratio" in {*sweep.axes, *sweep.values}):
            continue
        relevant = {
            **{
                data_parameter: data_parameter in sweep.data.parameters
                for data_parameter in ("p", "q", "spread", "flip")
            },
            "width": sweep.network.name != "diagonal",
            "rho": sweep.rule.name != "gd" and "relative_radius" not in {*sweep.axes, *sweep.values},
            "relative_radius": "relative_radius" in sweep.values,
            **{name: isinstance(sweep.network, Patches) for name in ("cosine", "copies", "noise_patches")},
        }.get(name, True)
        value = sweep.column(name)[0]
        if relevant and (value or name not in noise):
            parts.append(f"{parameter(name).symbol} = {value:g}")
    note = note or no_flow_reason(sweep)
    return ", ".join(parts) + ("\n" + textwrap.fill(f"lines: {note}", 110) if note else "")


def network_label(sweep: Sweep) -> str:
    """Name of the network for titles."""
    if sweep.network.name == "diagonal":
        return "Diagonal network"
    if isinstance(sweep.network, Patches):
        head = sweep.network.head if isinstance(sweep.network.head, str) else f"{sweep.network.head}-window"
        kind = "ReLU" if sweep.network.activation == "relu" else "linear"
        return f"Patches network, {head} head, {kind}"
    width = "" if "width" in sweep.axes else f" width {sweep.column('width')[0]:g}"
    return f"Two-layer {'ReLU' if sweep.network.name == 'relu' else 'linear'} network{width}"
