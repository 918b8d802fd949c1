"""The readable report: statement, assumptions, derivation, controls and the figure of the simulation, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from proofs_check.claim import CheckedClaim, Claim
from proofs_check.pictures import figure, formula
from proofs_check.simulation import Simulation

TEMPLATES = Path(__file__).parent / "templates"


def html_report(claims: Sequence[Claim], outcomes: Sequence[CheckedClaim]) -> str:
    """One self-contained HTML document: a table of all claims, then a section for each."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"power": _power, "formula": _formula, "figure": _figure}
    pairs = list(zip(claims, outcomes, strict=True))
    return environment.get_template("report.html.j2").render(pairs=pairs, outcomes=outcomes)


def _power(error: float) -> str:
    """An error's order of magnitude."""
    return f"{error:.0e}" if error > 0 else "0"


def _formula(latex: str) -> Markup:
    return Markup(formula(latex))


def _figure(simulation: Simulation, alt: str) -> Markup:
    return Markup(figure(simulation, alt))
