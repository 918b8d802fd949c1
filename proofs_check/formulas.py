"""The functions under proof: those of :mod:`toymodels.theory` and a claim's own, with some replaced for a control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import toymodels.theory as theory

Formula = Callable[..., Any]


class Formulas:
    """``formulas.drive`` is ``toymodels.theory.drive``, looked up when it is used, unless it was replaced.

    Args:
        replaced: functions to put in the place of those under proof, by name: the errors of a negative control.
        own: functions of a claim of one's own, by name, beside the theory's.

    Raises:
        AttributeError: neither the theory nor the claim has a function of that name, to use or to replace.
    """

    def __init__(self, replaced: Mapping[str, Formula] | None = None, own: Mapping[str, Formula] | None = None) -> None:
        self._replaced, self._own = dict(replaced or {}), dict(own or {})
        for name in self._replaced:
            self._original(name)
        self.used: set[str] = set()

    def _original(self, name: str) -> Formula:
        return self._own[name] if name in self._own else _theory_function(name)

    def home(self, name: str) -> str:
        """Where a function lives, for messages."""
        return (
            f"{getattr(self._own[name], '__module__', 'own')}.{name}"
            if name in self._own
            else f"toymodels.theory.{name}"
        )

    def __getattr__(self, name: str) -> Formula:
        if name.startswith("_"):
            raise AttributeError(name)
        original = self._original(name)
        self.used.add(name)
        return self._replaced.get(name, original)


def _theory_function(name: str) -> Formula:
    if name not in theory.__all__:
        raise AttributeError(f"toymodels.theory has no function {name!r}")
    function: Formula = getattr(theory, name)
    return function
