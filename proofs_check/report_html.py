"""The readable report: statement, assumptions, derivation, controls and the figure of the simulation, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from proofs_check.claim import Claim, Outcome
from proofs_check.pictures import figure, formula

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; }
body { max-width: 58rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin: 0; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
section { border-top: 1px solid #ccc; padding: 1.2rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.proved { color: #00664a; font-weight: 600; } .failed { color: #b03a00; font-weight: 600; }
.formula { display: block; max-width: 100%; height: auto; margin: .45rem 0 .45rem 1rem; }
.figure { display: block; max-width: 100%; height: auto; }
.how { color: #555; font-size: .85rem; } .meta { color: #444; font-size: .92rem; }
ol li, ul li { margin: .25rem 0; } code { font-size: .9em; overflow-wrap: anywhere; }
a { color: #00578a; }
"""


def html_report(claims: Sequence[Claim], outcomes: Sequence[Outcome]) -> str:
    """One self-contained HTML document: a table of all claims, then a section for each."""
    pairs = list(zip(claims, outcomes, strict=True))
    proved = sum(o.proved for o in outcomes)
    rows = "".join(
        f'<tr><td><a href="#{c.id}">{c.id}</a></td><td>{escape(c.title)}</td><td class="{o.status}">{o.status}</td>'
        f'<td>{escape(o.method)}</td><td class="number">{_power(o.witness_max_error)}</td>'
        f'<td class="number">{_simulation(o)}</td><td class="number">{o.seconds:.1f}</td></tr>'
        for c, o in pairs
    )
    sections = "".join(_section(c, o) for c, o in pairs)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Proofs of the theory</title>'
        f"<style>{STYLE}</style></head><body><h1>Proofs of the theory</h1>"
        f"<p>{proved} of {len(pairs)} claims proved. Each claim is derived from the loss and compared with the "
        "function of <code>toymodels.theory</code> that computes it. The same proof is run with planted errors, which "
        "it must reject; a fifty-digit numerical witness and a simulation by the reference engine stand beside it.</p>"
        "<table><thead><tr><th>Claim</th><th>Title</th><th>Status</th><th>Method</th><th>Witness error</th>"
        "<th>Simulation error / bound</th><th>Seconds</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{sections}</body></html>\n"
    )


def _power(error: float) -> str:
    return f"{error:.0e}" if error > 0 else "0"


def _simulation(outcome: Outcome) -> str:
    s = outcome.simulation
    return f"{s.error:.1e} / {s.bound:.1e}" if s else "-"


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{line}</li>" for line in lines)


def _section(claim: Claim, outcome: Outcome) -> str:
    parts = [
        f'<section id="{claim.id}"><h2>{claim.id} {escape(claim.title)} '
        f'<span class="{outcome.status}">{outcome.status}</span></h2>',
        f"<p>{escape(claim.statement)}</p>{''.join(formula(line) for line in claim.latex)}",
        f"<h3>Assumptions</h3><ul>{_items(map(escape, claim.assumptions))}</ul>",
    ]
    if claim.remark:
        parts.append(f'<p class="meta"><strong>Note.</strong> {escape(claim.remark)}</p>')
    functions = ", ".join(f"<code>{name}</code>" for name in outcome.functions)
    parts.append(
        f'<p class="meta">Source: {escape(claim.source)}. '
        f"Functions of <code>toymodels.theory</code>: {functions or 'none'}.</p>"
    )
    if outcome.failures:
        parts.append(f'<h3 class="failed">Failures</h3><ul>{_items(map(escape, outcome.failures))}</ul>')
    parts.append(f"<h3>Derivation</h3><ol>{_items(_step(s.text, s.latex, s.method) for s in outcome.steps)}</ol>")
    controls = (
        f"<strong>{escape(r.error)}</strong>: "
        + (f"rejected. {escape(r.found)}" if r.rejected else '<span class="failed">not rejected</span>')
        for r in outcome.rejections
    )
    parts.append(f"<h3>Negative controls</h3><ul>{_items(controls)}</ul>")
    parts.append(f"<h3>Witness</h3><p>Largest error at fifty digits: {_power(outcome.witness_max_error)}.</p>")
    if outcome.simulation:
        s = outcome.simulation
        parts.append(
            "<h3>Simulation</h3><p>Lines: the functions under proof. Marks: the reference engine. "
            f"Error {s.error:.2g}, bound {s.bound:.2g} ({escape(s.reason)}).</p>"
            + figure(s, f"{claim.id}: {s.y_label} against {s.x_label}")
        )
    return "".join(parts) + "</section>"


def _step(text: str, latex: str, method: str) -> str:
    how = f' <span class="how">({escape(method)})</span>' if method else ""
    return escape(text) + how + (formula(latex) if latex else "")
