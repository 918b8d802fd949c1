"""Claims and derivations as a LaTeX document (amsmath, amssymb, booktabs, longtable, hyperref)."""

from __future__ import annotations

from collections.abc import Sequence

from proofs_check.claim import CheckedClaim, Claim

PREAMBLE = r"""\documentclass[11pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=25mm]{geometry}
\usepackage{amsmath,amssymb,booktabs,longtable}
\usepackage[hidelinks]{hyperref}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\emergencystretch=3em
\title{Proofs of the theory}
\author{}
\date{}
\begin{document}
\maketitle
"""
ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "$": r"\$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def text(plain: str) -> str:
    """Plain text with LaTeX's special characters escaped."""
    return plain.translate(ESCAPES)


def latex_report(claims: Sequence[Claim], outcomes: Sequence[CheckedClaim]) -> str:
    """A complete LaTeX document: a table of all claims, then a section for each."""
    pairs = list(zip(claims, outcomes, strict=True))
    rows = "\n".join(
        rf"\hyperref[{c.id}]{{{c.id}}} & {text(c.title)} & {o.status} & {text(o.method)} \\" for c, o in pairs
    )
    table = (
        "\\begin{longtable}{@{}lp{55mm}lp{60mm}@{}}\n\\toprule\nClaim & Title & Status & Method \\\\ "
        "\\midrule\n\\endhead\n"
        f"{rows}\n\\bottomrule\n\\end{{longtable}}\n"
    )
    return PREAMBLE + table + "\n".join(_section(c, o) for c, o in pairs) + "\n\\end{document}\n"


def _section(claim: Claim, outcome: CheckedClaim) -> str:
    lines = [rf"\section*{{{claim.id} {text(claim.title)}}}\label{{{claim.id}}}", text(claim.statement)]
    lines += [display(line) for line in claim.latex]
    lines += [r"\textbf{Assumptions}", *_list("itemize", [text(a) for a in claim.assumptions])]
    if claim.remark:
        lines.append(rf"\textbf{{Note.}} {text(claim.remark)}" + "\n")
    if outcome.failures:
        lines += [r"\textbf{Failures}", *_list("itemize", [text(f) for f in outcome.failures])]
    if outcome.steps:
        steps = [
            text(s.text) + (f" ({text(s.method)})" if s.method else "") + (display(s.latex) if s.latex else "")
            for s in outcome.steps
        ]
        lines += [r"\textbf{Derivation}", *_list("enumerate", steps)]
    names = ", ".join(rf"\texttt{{{text(name)}}}".replace(r"\_", r"\_\allowbreak{}") for name in outcome.functions)
    lines.append(rf"\textbf{{Source:}} {text(claim.source)}. \textbf{{Functions:}} {names or 'none'}." + "\n")
    return "\n".join(lines)


def display(latex: str) -> str:
    """A displayed formula, shrunk to the width of the text if it is wider."""
    return rf"\[ {latex} \]"


def _list(kind: str, items: Sequence[str]) -> list[str]:
    return [rf"\begin{{{kind}}}", *(rf"\item {item}" for item in items), rf"\end{{{kind}}}"]
