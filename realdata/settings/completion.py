"""Make a complete configuration from a file or flags, with all options converted, checked and written out."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from realdata.configuration import RunConfiguration, Scalar
from realdata.models import options as model_options
from realdata.values import convert_value, option_types, read_scalar

TYPES: dict[str, Any] = typing.get_type_hints(RunConfiguration)

DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(RunConfiguration)}


FORMER_NAMES = {"on_decode_error": "broken"}
"""Former names of settings, still accepted in flags and files."""


def data_option_names(data: str) -> tuple[str, ...]:
    """Names of the options of a data set; an unknown data set is a ValueError."""
    from realdata import datasets

    return tuple(option_types(datasets.spec(data).options))


def complete_data_options(data: str, given: Mapping[str, Any]) -> dict[str, Scalar]:
    """The options of a data set, typed, checked and with their defaults written out.

    Different spellings of the same options then have the same hash, and a stored configuration does not change its
    meaning if a default changes. Left out are options that came after the first stored runs, if they have their default
    (see ``ADDED_LATER``).

    Raises:
        ValueError: for an unknown data set or option, or a value that the data set does not allow.
    """
    from realdata import datasets
    from realdata.datasets.specification import ADDED_LATER

    options = dataclasses.asdict(datasets.spec(data).make_options(given))
    return {name: value for name, value in options.items() if name not in ADDED_LATER or value != ADDED_LATER[name]}


def complete_model_options(model: str, given: Mapping[str, Any]) -> dict[str, Scalar]:
    """The options of a model, typed, checked and with their defaults written out.

    Left out are options that came after the first stored runs, if they have their default (see ``ADDED_LATER``).

    Raises:
        ValueError: for an unknown model or option, or a value that the model does not allow.
    """
    defaults, values = model_options.options(model), dict(given)
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(value, str) and default is None:
            values[name] = read_scalar(value)
        elif isinstance(value, str):
            values[name] = convert_value(f"model option {name}", value, type(default))
    return model_options.stored_options(model, model_options.checked_options(model, values))


def complete(values: Mapping[str, Any]) -> RunConfiguration:
    """The configuration with these values and all options written out; ``rho`` decides ``method`` if it is not given.

    Raises:
        ValueError: names the argument, its value and what is allowed.
    """
    for name in values:
        if name not in TYPES:
            raise ValueError(f"setting {name!r} is unknown; allowed: {', '.join(TYPES)}")
    if "data" not in values:
        raise ValueError("setting 'data' is not given; allowed: the name of a data set")
    plain = {
        name: convert_value(name, value, TYPES[name])
        for name, value in values.items()
        if name not in ("data_options", "model_options")
    }
    if "method" not in plain:
        plain["method"] = "sam" if plain.get("rho", 0) > 0 else "sgd"
    data_options = complete_data_options(plain["data"], values.get("data_options") or {})
    model = plain.get("model", DEFAULTS["model"])
    chosen = complete_model_options(model, values.get("model_options") or {})
    return RunConfiguration(**plain, data_options=data_options, model_options=chosen)
