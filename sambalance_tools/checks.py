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
    """Raise a ValueError unless ``value`` is a whole number in ``least..most``; True and False are not numbers."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    too_large = whole and most is not None and value > most
    if not whole or value < least or too_large:
        # A bound that nobody meets would only clutter the message.
        told = most is not None and (too_large or most <= 10**9)
        bounds = f"in {least}..{most}" if told else f">= {least}"
        raise ValueError(f"{name}={value!r}; allowed: a whole number {bounds}")
