"""Command-line options and settings of files for everything a training can be told: one flag per field, typed once.

Data sets and models declare options of their own; ``--data-option KEY=VALUE`` and ``--model-option KEY=VALUE`` reach
them by name, and ``run`` offers those of its data set as flags too. Nothing heavy is imported here.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from realdata import model_options
from realdata.configuration import (
    AUGMENTATIONS,
    BASES,
    BROKEN,
    METHODS,
    PRECISIONS,
    SCHEDULES,
    RunConfiguration,
    Scalar,
)

EFFECT_NAMES = ("full", "weights", "jacobian")

HELP = {
    "size": "resize images to N x N pixels (default: the data set's own)",
    "broken": f"a file that cannot be decoded is: {', '.join(BROKEN)}",
    "augmentation": f"of training images: {', '.join(AUGMENTATIONS)}",
    "model": ", ".join(name + "NAME" * name.endswith(":") for name in model_options.names()),
    "method": f"{', '.join(METHODS)} (default: sgd without --rho, sam with it)",
    "effect": f"which of SAM's effects is kept: {', '.join(EFFECT_NAMES)}",
    "rho": "radius of SAM's perturbation; 0 is plain training",
    "base": f"base optimizer: {', '.join(BASES)}",
    "lr": "learning rate",
    "momentum": "momentum, or Adam's beta_1",
    "weight_decay": "weight decay",
    "batch_size": "examples per step",
    "epochs": "passes over the training set",
    "schedule": f"of the learning rate: {', '.join(SCHEDULES)}",
    "warmup_epochs": "epochs of linear warm-up",
    "levels": "training losses whose first crossing keeps a checkpoint, separated by commas",
    "stop_level": "end once the training loss is at or below this (default: train all epochs)",
    "evaluations_per_epoch": "how often the training loss is measured",
    "evaluation_examples": "training examples on which it is measured (default: all)",
    "seed": "of initialisation, order and augmentation",
    "precision": f"{', '.join(PRECISIONS)}; the last two are automatic mixed precision",
}
"""What each flag means; the names are fields of :class:`RunConfiguration`."""

TYPES: dict[str, Any] = typing.get_type_hints(RunConfiguration)
DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(RunConfiguration)}


def flag(name: str) -> str:
    """``weight_decay`` as ``--weight-decay``."""
    return "--" + name.replace("_", "-")


def add_configuration_flags(parser: argparse.ArgumentParser, *, many: bool, without: Collection[str] = ()) -> None:
    """One flag per field of :class:`RunConfiguration` but its data set and options; unset ones stay None.

    Args:
        many: whether a flag takes several values separated by commas (the axes of a sweep).
        without: fields that get no flag, but None.
    """
    parser.set_defaults(**dict.fromkeys(without))
    group = parser.add_argument_group("training" + (" (several values separated by commas are an axis)" * many))
    for name, text in HELP.items():
        if name in without:
            continue
        default = DEFAULTS[name]
        shown = "" if default is None or "default" in text else f" (default {_written(default)})"
        convert = values_of(name) if many and name != "levels" else value_of(name)
        metavar = "X,.." if many or name == "levels" else "X"
        group.add_argument(flag(name), type=convert, metavar=metavar, help=(text + shown).replace("%", "%%"))


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def add_option_flags(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """``--data-option`` and ``--model-option``, each any number of times."""
    again = "; again with another value: an axis" if many else ""
    scope = "[DATA.]KEY=VALUE" if many else "KEY=VALUE"
    parser.add_argument(
        "--data-option", action="append", default=[], metavar=scope, help="an option of the data set" + again
    )
    parser.add_argument(
        "--model-option", action="append", default=[], metavar="KEY=VALUE", help="an option of the model" + again
    )


def value_of(name: str) -> Callable[[str], Any]:
    """A converter of one value of a field, for argparse."""

    def convert(text: str) -> Any:
        try:
            return typed(name, text, TYPES[name])
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def values_of(name: str) -> Callable[[str], list[Any]]:
    """A converter of several values of a field separated by commas."""
    one = value_of(name)

    def convert(text: str) -> list[Any]:
        values = [one(part) for part in text.split(",") if part.strip()]
        if not values:
            raise argparse.ArgumentTypeError(f"{name}={text!r} is empty; allowed: values separated by commas")
        return values

    return convert


def typed(name: str, value: Any, kind: Any) -> Any:
    """``value`` (text of a command line, or a value of a file) as ``kind``.

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
                    return typed(name, value, choice)
                except ValueError:
                    continue
        raise ValueError(f"{name}={value!r}; allowed: {_named(choices)}")
    if typing.get_origin(kind) is typing.Literal:
        if value in choices:
            return value
        raise ValueError(f"{name}={value!r}; allowed: {', '.join(map(str, choices))}")
    if typing.get_origin(kind) is tuple:
        parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)
        return tuple(typed(name, part, choices[0]) for part in parts)
    try:
        return _CONVERTERS[kind](value)
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{name}={value!r}; allowed: {_named((kind,))}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise ValueError(value)
    return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(float(value))


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


def scalar(text: str) -> Scalar:
    """The plain value that a text stands for: none, true, a whole number, a number, or the text itself."""
    word = text.strip()
    if word.lower() in ("none", "null"):
        return None
    for convert in (_truth, int, float):
        try:
            return convert(word)
        except (ValueError, KeyError):
            continue
    return word


def pairs(texts: Iterable[str], option: str) -> dict[str, list[str]]:
    """``["a=1", "b=2", "a=3"]`` as ``{"a": ["1", "3"], "b": ["2"]}``; a ValueError names the option and the fault."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{option}={text!r}; allowed: KEY=VALUE")
        found.setdefault(key.strip().replace("-", "_"), []).append(value.strip())
    return found


def single(texts: Iterable[str], option: str) -> dict[str, str]:
    """As :func:`pairs`, for options of which each is given once."""
    found = pairs(texts, option)
    for key, values in found.items():
        if len(values) > 1:
            raise ValueError(f"{option} {key}= is given {len(values)} times; allowed: once")
    return {key: values[0] for key, values in found.items()}


def option_types(options: type) -> dict[str, Any]:
    """Types of the fields of a data set's dataclass of options."""
    hints = typing.get_type_hints(options)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(options)}


def data_option_names(data: str) -> tuple[str, ...]:
    """Names of the options of a data set; an unknown data set is a ValueError."""
    from realdata import datasets

    return tuple(option_types(datasets.spec(data).options))


def complete_data_options(data: str, given: Mapping[str, Any]) -> dict[str, Scalar]:
    """The options of a data set, typed, checked and with their defaults written out.

    So two ways of saying the same have one hash, and a stored configuration does not change its meaning with a default.

    Raises:
        ValueError: for an unknown data set or option, or a value that the data set does not allow.
    """
    from realdata import datasets

    return dataclasses.asdict(datasets.spec(data).make_options(given))


def complete_model_options(model: str, given: Mapping[str, Any]) -> dict[str, Scalar]:
    """The options of a model, typed, checked and with their defaults written out.

    Raises:
        ValueError: for an unknown model or option, or a value that the model does not allow.
    """
    defaults, values = model_options.options(model), dict(given)
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(value, str) and default is None:
            values[name] = scalar(value)
        elif isinstance(value, str):
            values[name] = typed(f"model option {name}", value, type(default))
    return model_options.checked_options(model, values)


def complete(values: Mapping[str, Any]) -> RunConfiguration:
    """The configuration with these values, all options written out, ``method`` chosen by ``rho`` when not given.

    Raises:
        ValueError: names the argument, its value and what is allowed.
    """
    for name in values:
        if name not in TYPES:
            raise ValueError(f"setting {name!r} is unknown; allowed: {', '.join(TYPES)}")
    plain = {
        name: typed(name, value, TYPES[name])
        for name, value in values.items()
        if name not in ("data_options", "model_options")
    }
    if "method" not in plain:
        plain["method"] = "sam" if plain.get("rho", 0) > 0 else "sgd"
    data_options = complete_data_options(plain["data"], values.get("data_options") or {})
    model = plain.get("model", DEFAULTS["model"])
    chosen = complete_model_options(model, values.get("model_options") or {})
    return RunConfiguration(**plain, data_options=data_options, model_options=chosen)
