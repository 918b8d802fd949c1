"""Checks of arguments: each raises one ValueError that names the argument, its value and what is allowed."""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any


class Unavailable(RuntimeError):
    """Something that was asked for by name cannot be used on this machine; the message says why."""


def require_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise a ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known; allowed: {', '.join(allowed)}")


def require_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise a ValueError unless ``value`` is a whole number of ``least`` to ``most``; True and False are not numbers."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"a whole number >= {least}" if most is None else f"a whole number in {least}..{most}"
        raise ValueError(f"{name}={value!r}; allowed: {bounds}")
