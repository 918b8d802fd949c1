"""Tables of text, aligned by rich, for what commands print."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

WIDEST = 10_000
"""Characters of a line: a table is never wrapped, so that it can be read by programs and pasted anywhere."""


def text_table(
    rows: Sequence[Sequence[str]],
    header: Sequence[str] | None = None,
    title: str = "",
    right: Collection[int] = (),
) -> str:
    """Rows of text in aligned columns, two spaces apart.

    Args:
        rows: each with as many cells as the first.
        header: names of the columns. None: no line of names.
        title: a line above the table.
        right: columns that are aligned to the right, counted from 0.

    Returns:
        Lines without spaces at their ends; no line break at the end.

    Example:
        >>> print(text_table([["runs", "1,024"], ["loss", "0.1"]], header=["name", "value"], right=[1]))
        name  value
        runs  1,024
        loss    0.1
    """
    # rich takes a moment to import, and --help needs no table.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=header is not None)
    for column, name in enumerate(header or [""] * len(rows[0])):
        table.add_column(Text(name), justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        # As Text, brackets in a cell are brackets and no markup.
        table.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=WIDEST, color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join([title, *lines] if title else lines)
