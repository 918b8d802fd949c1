"""A table of text with numbered notes, written as Markdown or as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LATEX_CHARACTERS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$", "—": "---", "≤": r"$\le$",
    "<": r"$<$", ">": r"$>$",
}  # fmt: skip


@dataclass(frozen=True)
class TableCell:
    """Text, numbers of its notes (counted from 1), and whether it is in bold."""

    text: str
    notes: tuple[int, ...] = ()
    bold: bool = False

    def markdown(self) -> str:
        """Inside of a pipe table."""
        text = escaped_markdown(self.text)
        return (f"**{text}**" if self.bold else text) + "".join(f"<sup>{note}</sup>" for note in self.notes)

    def latex(self) -> str:
        """Inside of a ``tabular``."""
        text = escaped_latex(self.text)
        notes = rf"$^{{{','.join(map(str, self.notes))}}}$" if self.notes else ""
        return (rf"\textbf{{{text}}}" if self.bold else text) + notes


@dataclass(frozen=True)
class TextTable:
    """Caption, header, rows of as many cells, and the notes that cells refer to by number."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """A pipe table; the notes follow as lines that start with their number."""
        header = [escaped_markdown(name) for name in self.header]
        cells = [[cell.markdown() for cell in row] for row in self.rows]
        widths = [max(len(line[k]) for line in [header, *cells]) for k in range(len(header))]
        lines = [_pipes(header, widths), _pipes(["-" * width for width in widths], widths)]
        lines += [_pipes(row, widths) for row in cells]
        notes = [f"<sup>{number}</sup> {escaped_markdown(note)}  " for number, note in enumerate(self.notes, 1)]
        return "\n".join([f"**{escaped_markdown(self.caption)}**", "", *lines, *([""] if notes else []), *notes]) + "\n"

    def latex(self) -> str:
        """A ``table`` environment for the package booktabs; the notes stand below the rules."""
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [r"\begin{table}", r"\centering\small", rf"\caption{{{escaped_latex(self.caption)}}}"]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [" & ".join(escaped_latex(name) for name in self.header) + r" \\", r"\midrule"]
        lines += [" & ".join(cell.latex() for cell in row) + r" \\" for row in self.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
        for number, note in enumerate(self.notes, 1):
            lines.append(rf"\par\raggedright\footnotesize $^{{{number}}}$ {escaped_latex(note)}")
        return "\n".join([*lines, r"\end{table}"]) + "\n"


def escaped_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(LATEX_CHARACTERS.get(character, character) for character in text)


def escaped_markdown(text: str) -> str:
    """One line of text without characters that would start a column, an emphasis, code, a link or a tag."""
    one_line = " ".join(text.split())
    for character in "\\`|_*":
        one_line = one_line.replace(character, "\\" + character)
    one_line = re.sub(r"&(?=#?\w+;)", "&amp;", one_line)  # else it is no more than an ampersand
    return one_line.replace("](", r"]\(").replace("<", "&lt;")


def _pipes(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
