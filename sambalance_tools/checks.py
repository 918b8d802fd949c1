"""Checks of arguments: each raises one ValueError that names the argument, its value and what is allowed."""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any


def require_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise a ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known; allowed: {', '.join(allowed)}")


def require_whole(name: str, value: Any, least: int) -> None:
    """Raise a ValueError unless ``value`` is a whole number of at least ``least``; True and False are not numbers."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}; allowed: a whole number >= {least}")
