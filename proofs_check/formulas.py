"""The functions under proof: those of :mod:`toymodels.theory`, with some of them replaced for a negative control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import toymodels.theory as theory

Formula = Callable[..., Any]


class Formulas:
    """``formulas.drive`` is ``toymodels.theory.drive``, looked up when it is used, unless it was replaced.

    Args:
        replaced: functions to put in the place of the theory's, by name: the definite errors of a negative control.

    Raises:
        AttributeError: the theory has no function of that name, neither to use nor to replace.
    """

    def __init__(self, replaced: Mapping[str, Formula] | None = None) -> None:
        self._replaced = dict(replaced or {})
        for name in self._replaced:
            _theory_function(name)
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> Formula:
        if name.startswith("_"):
            raise AttributeError(name)
        original = _theory_function(name)
        self.used.add(name)
        return self._replaced.get(name, original)


def _theory_function(name: str) -> Formula:
    if name not in theory.__all__:
        raise AttributeError(f"toymodels.theory has no function {name!r}")
    function: Formula = getattr(theory, name)
    return function
