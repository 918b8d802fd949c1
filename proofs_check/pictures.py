"""Formulas and figures as self-contained SVG images for the HTML report: no network, no fonts, no scripts."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from html import escape

import matplotlib

matplotlib.use("Agg")
from matplotlib import mathtext
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from proofs_check.simulation import Simulation

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P")
MARKS = 25
"""At most this many marks a curve: more would hide the line."""


def _image(svg: str, alt: str, css: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return f'<img class="{css}" alt="{escape(alt, quote=True)}" src="data:image/svg+xml;base64,{data}">'


@lru_cache(maxsize=1024)
def formula(latex: str) -> str:
    """An ``<img>`` of a formula, typeset by Matplotlib's mathtext; the LaTeX source is its alternative text.

    Raises:
        ValueError: mathtext cannot read the formula.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({"mathtext.fontset": "cm", "svg.fonttype": "path", "svg.hashsalt": "proofs_check"}):
        readable = latex.replace(r"\iff", r"\;\Leftrightarrow\;")  # the one symbol of ours that mathtext lacks
        mathtext.math_to_image(f"${readable}$", buffer, prop=FontProperties(size=14), format="svg")
    return _image(buffer.getvalue().decode(), latex, "formula")


def figure(simulation: Simulation, alt: str) -> str:
    """An ``<img>`` of a simulation: the functions under proof as lines, the engine's run as marks."""
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "proofs_check", "font.size": 9}):
        page = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = page.add_subplot()
        for i, curve in enumerate(simulation.curves):
            colour = COLOURS[i % len(COLOURS)]
            order = curve.x.argsort()
            thin = max(1, -(-len(curve.x) // MARKS))
            axes.plot(curve.x[order], curve.theory[order], color=colour, linewidth=1.4)
            axes.plot(
                curve.x[::thin],
                curve.simulated[::thin],
                MARKERS[i % len(MARKERS)],
                color=colour,
                markersize=4,
                markerfacecolor="none",
                linestyle="none",
                label=curve.label,
            )
        low, high = axes.get_ylim()
        if high - low < 1e-6 * max(abs(low), abs(high)):  # a constant up to rounding: do not blow up the rounding
            axes.set_ylim(low - 0.1 * abs(low), high + 0.1 * abs(high))
        axes.set_xlabel(simulation.x_label)
        axes.set_ylabel(simulation.y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7.5)
        buffer = io.StringIO()
        page.savefig(buffer, format="svg", metadata={"Date": None})
    return _image(buffer.getvalue(), alt, "figure")
