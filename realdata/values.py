"""Convert a text of a command line, or a value of a YAML file, to the type of a field."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from realdata.configuration import Scalar


def convert_value(name: str, value: Any, kind: Any) -> Any:
    """Convert ``value`` (text of a command line, or a value of a file) to ``kind``.

    Args:
        kind: ``str``, ``int``, ``float``, ``bool``, one of those or None, or ``tuple[float, ...]``.

    Raises:
        ValueError: names the argument, the value and what is allowed.
    """
    choices = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.strip().lower() in ("none", "null", "")):
            if type(None) in choices:
                return None
            raise ValueError(f"{name}={value!r}; allowed: {_named(choices)}")
        for choice in choices:
            if choice is not type(None):
                try:
                    return convert_value(name, value, choice)
                except ValueError:
                    continue
        raise ValueError(f"{name}={value!r}; allowed: {_named(choices)}")
    if typing.get_origin(kind) is typing.Literal:
        if value in choices:
            return value
        raise ValueError(f"{name}={value!r}; allowed: {', '.join(map(str, choices))}")
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (str, list, tuple)):
            raise ValueError(f"{name}={value!r}; allowed: a list of values, each {_named(choices[:1])}")
        parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)
        return tuple(convert_value(name, part, choices[0]) for part in parts)
    try:
        return _CONVERTERS[kind](value)
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{name}={value!r}; allowed: {_named((kind,))}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError(value)
    if isinstance(value, int) or (isinstance(value, str) and value.strip().lstrip("+-").isdigit()):
        return int(value)  # a float would round large ones
    number = float(value)
    if not math.isfinite(number) or number != int(number):
        raise ValueError(value)
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(value)


def _truth(value: Any) -> bool:
    answers = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    return answers[str(value).strip().lower()]


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple, dict)):
        raise ValueError(value)
    return str(value).strip()


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {int: _whole, float: _number, bool: _truth, str: _text}

_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "one word or phrase",
    type(None): "none",
}


def _named(kinds: Iterable[Any]) -> str:
    return " or ".join(_NAMES.get(kind, str(kind)) for kind in kinds)


def read_scalar(text: str) -> Scalar:
    """The value that a text represents: None, a boolean, an integer, a number, or the text itself."""
    word = text.strip()
    if word.lower() in ("none", "null"):
        return None
    for convert in (_truth, int, float):
        try:
            return convert(word)
        except (ValueError, KeyError):
            continue
    return word


def value_lists(texts: Iterable[str], option: str) -> dict[str, list[str]]:
    """``["a=1", "b=2", "a=3"]`` as ``{"a": ["1", "3"], "b": ["2"]}``; a ValueError names the option and the fault."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{option}={text!r}; allowed: KEY=VALUE")
        found.setdefault(key.strip().replace("-", "_"), []).append(value.strip())
    return found


def single_values(texts: Iterable[str], option: str) -> dict[str, str]:
    """Like :func:`value_lists`, for options that may be given only once."""
    found = value_lists(texts, option)
    for key, values in found.items():
        if len(values) > 1:
            raise ValueError(f"{option} {key}= is given {len(values)} times; allowed: once")
    return {key: values[0] for key, values in found.items()}


def option_types(options: type) -> dict[str, Any]:
    """Types of the options in a data set's dataclass."""
    hints = typing.get_type_hints(options)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(options)}
