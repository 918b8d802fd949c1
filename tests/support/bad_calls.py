"""Tables of bad calls from Python; see support/bad_input_cases.py for the notation."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from support.bad_input_cases import Case, rows

TABLE = """
require_whole("steps", -1, least=0) -> steps=-1; allowed: a whole number >= 0
"""


def names() -> dict[str, Any]:
    """What the calls may use."""
    from sambalance_tools.checks import require_whole

    return {"require_whole": require_whole}


def _action(source: str) -> Callable[[], object]:
    code = compile(source, "<call>", "eval")

    def act() -> object:
        warnings.simplefilter("error")
        try:
            value = eval(code, names())
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            print(f"error: {kind}{error}", file=sys.stderr)
            raise SystemExit(2) from None
        print(f"returns {value!r}"[:300], file=sys.stderr)
        return None

    return act


def cases() -> list[Case]:
    """All of them."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    for text, expected in rows(TABLE):
        yield Case(text, _action(text), expected)
