"""Command-line flags for all settings of a training, one flag per field of :class:`RunConfiguration`.

Data sets and models have their own options, set by ``--data-option KEY=VALUE`` and ``--model-option KEY=VALUE``. The
command ``run`` also has a flag for each option of its data set. Nothing heavy is imported here.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels.names import EFFECTS
from realdata.configuration import (
    ALLOW_OUTSIDE,
    AUGMENTATIONS,
    BASES,
    METHODS,
    ON_DECODE_ERROR,
    PRECISIONS,
    SCHEDULES,
)
from realdata.models import options as model_options
from realdata.settings.completion import DEFAULTS, FORMER_NAMES, TYPES
from realdata.settings.plan import read_plan
from realdata.values import convert_value, single_values, value_lists
from sambalance_tools.command_line import add_former_flag

ROOT_VARIABLE = "SAMBALANCE_DATA"


@dataclass(frozen=True)
class FlagText:
    """Help text of a flag; ``default`` describes the default in words if it is not a plain value."""

    meaning: str
    default: str | None = None


HELP = {
    "size": FlagText("resize images to X x X pixels", "the size of the data set"),
    "on_decode_error": FlagText(
        f"what to do if an image cannot be decoded, stop or leave it out: {', '.join(ON_DECODE_ERROR)}"
    ),
    "augmentation": FlagText(f"augmentation of training images: {', '.join(AUGMENTATIONS)}"),
    "model": FlagText("network: " + ", ".join(name + "NAME" * name.endswith(":") for name in model_options.names())),
    "method": FlagText("update rule: " + ", ".join(METHODS), "sam if --rho is positive, otherwise sgd"),
    "effect": FlagText(f"which of SAM's effects to keep, both (full) or only one: {', '.join(EFFECTS)}"),
    "rho": FlagText("radius of SAM's perturbation; 0: training without SAM"),
    "sam_from": FlagText("epoch from which SAM's perturbation is on"),
    "sam_until": FlagText("epoch until which SAM's perturbation is on", "the end"),
    "base": FlagText(f"base optimizer: {', '.join(BASES)}"),
    "lr": FlagText("learning rate"),
    "momentum": FlagText("momentum, or Adam's beta_1"),
    "weight_decay": FlagText("weight decay"),
    "batch_size": FlagText("examples per step"),
    "epochs": FlagText("passes over the training set"),
    "schedule": FlagText(f"learning-rate schedule: {', '.join(SCHEDULES)}"),
    "warmup_epochs": FlagText("epochs of linear warm-up"),
    "levels": FlagText(
        "training losses, separated by commas; the first evaluation at or below each is kept as a checkpoint"
    ),
    "stop_level": FlagText("stop when the training loss is at or below this value", "train all epochs"),
    "evaluations_per_epoch": FlagText("how often per epoch the training loss is measured"),
    "evaluation_examples": FlagText("number of training examples on which the training loss is measured", "all"),
    "seed": FlagText("seed of initialisation, data order and augmentation"),
    "precision": FlagText(f"{', '.join(PRECISIONS)}; the 16-bit types use automatic mixed precision"),
}
"""The flag of each field of :class:`RunConfiguration`, by its name."""


def flag(name: str) -> str:
    """``weight_decay`` as ``--weight-decay``."""
    return "--" + name.replace("_", "-")


def add_configuration_flags(parser: argparse.ArgumentParser, *, many: bool, without: Collection[str] = ()) -> None:
    """Add one flag per field of :class:`RunConfiguration`, except data set and options; flags not given stay None.

    Args:
        many: whether a flag takes several values separated by commas (the axes of a sweep).
        without: fields that get no flag and are None.
    """
    parser.set_defaults(**dict.fromkeys(without))
    group = parser.add_argument_group("training" + (" (values separated by commas are an axis of the sweep)" * many))
    for name, text in HELP.items():
        if name in without:
            continue
        convert = values_of(name) if many and name != "levels" else value_of(name)
        metavar = "X,.." if many or name == "levels" else "X"
        shown = _escaped(text.meaning + _default_shown(name, text))
        group.add_argument(flag(name), type=convert, metavar=metavar, help=shown)
        if name in FORMER_NAMES:
            add_former_flag(group, flag(FORMER_NAMES[name]), flag(name), type=convert)


def _default_shown(name: str, text: FlagText) -> str:
    if text.default is not None:
        return f" (default: {text.default})"
    return "" if DEFAULTS[name] is None else f" (default {_written(DEFAULTS[name])})"


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def add_option_flags(parser: argparse.ArgumentParser, *, many: bool) -> None:
    """Add ``--data-option`` and ``--model-option``, which may be repeated."""
    again = "; repeat it with another value to get an axis" if many else ""
    scope = "[DATA.]KEY=VALUE" if many else "KEY=VALUE"
    parser.add_argument(
        "--data-option", action="append", default=[], metavar=scope, help="an option of the data set" + again
    )
    parser.add_argument(
        "--model-option", action="append", default=[], metavar="KEY=VALUE", help="an option of the model" + again
    )


def value_of(name: str) -> Callable[[str], Any]:
    """Converter for argparse of text to one value of a field."""

    def convert(text: str) -> Any:
        try:
            return convert_value(name, text, TYPES[name])
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def values_of(name: str) -> Callable[[str], list[Any]]:
    """Converter for argparse of text to several values of a field, separated by commas."""
    one = value_of(name)

    def convert(text: str) -> list[Any]:
        values = [one(part) for part in text.split(",") if part.strip()]
        if not values:
            raise argparse.ArgumentTypeError(f"{name}={text!r} is empty; allowed: values separated by commas")
        return values

    return convert


class _AllowOutside(argparse.Action):
    """Sets the environment variable, which reaches the workers of a sweep: where files are is no setting of a run."""

    def __call__(self, *arguments: Any, **options: Any) -> None:
        os.environ[ALLOW_OUTSIDE] = "1"


def add_root_flag(made: argparse.ArgumentParser) -> None:
    """Add ``--root``, see :func:`root_folder`."""
    made.add_argument("--root", metavar="DIR", help=f"folder that contains the data sets (default: ${ROOT_VARIABLE})")
    made.add_argument(
        "--allow-outside", action=_AllowOutside, nargs=0,
        help="follow names and links in a table of images (metadata.csv) that lead out of the folder of the images",
    )  # fmt: skip


def add_job_flags(made: argparse.ArgumentParser) -> None:
    """Add the flags that ``run``, ``sweep`` and ``predict`` share: data folder, device and probing protocol."""
    add_root_flag(made)
    made.add_argument("--device", metavar="NAME", help="device: auto, cpu, cuda, ... (default auto)")
    made.add_argument("--protocol", metavar="NAME", help="probing protocol: fast or dfr (default fast)")
    made.add_argument(
        "--probe-option", action="append", default=[], metavar="KEY=VALUE",
        help="change an option of the protocol, see docs/how-to/probing.md",
    )  # fmt: skip
    made.add_argument(
        "--evaluation-seed",
        type=int,
        metavar="N",
        help="seed of the evaluation, such as the halves of the probe's images (default 0)",
    )


def add_data_flags(made: argparse.ArgumentParser, data: str) -> None:
    """Add a flag for each option of a data set."""
    from realdata import datasets

    declared = datasets.spec(data)
    group = made.add_argument_group(f"options of {data}")
    for entry in dataclasses.fields(declared.options):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        shown = "required" if required else f"default {entry.default}"
        text = f"{declared.options_help.get(entry.name, entry.name)} ({shown})"
        group.add_argument(data_flag(entry.name), dest=f"data_option_{entry.name}", metavar="X", help=_escaped(text))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def data_flag(option: str) -> str:
    """``--target``; or ``--data-seed`` if a flag of the training already has the name."""
    taken = {*HELP, "data", "root", "device", "out", "all", "help"}
    return flag(f"data_{option}" if option in taken else option)


def root_folder(given: str | None) -> str:
    """Folder that contains the data sets, from the flag or the environment; a ValueError if it is not a folder."""
    root = given or os.environ.get(ROOT_VARIABLE)
    if root is None:
        raise ValueError(
            f"--root is not given; allowed: the folder that contains the data set, or set ${ROOT_VARIABLE}"
        )
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"--root={root!r} is not a folder; allowed: the folder that contains the data set")
    return str(folder)


def settings_from(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the file, overridden by the flags that are given."""
    settings = read_plan(options.file) if options.file else {}
    if options.data:
        settings["data"] = [name.strip() for name in options.data.split(",") if name.strip()]
    for name in HELP:
        value = getattr(options, name)
        if value is not None:
            settings[name] = list(value) if isinstance(value, tuple) else value
    if options.seeds is not None or options.seed is not None:
        settings = {name: value for name, value in settings.items() if name not in ("seed", "seeds")}
        settings |= {name: getattr(options, name) for name in ("seed", "seeds") if getattr(options, name) is not None}
    for name in ("data_options", "model_options"):
        given = value_lists(getattr(options, name.removesuffix("s")), f"--{name.removesuffix('s').replace('_', '-')}")
        if given:
            chosen = {key: values[0] if len(values) == 1 else values for key, values in given.items()}
            settings[name] = {**(settings.get(name) or {}), **chosen}
    if options.probe_option:
        changed = single_values(options.probe_option, "--probe-option")
        settings["probe_options"] = {**(settings.get("probe_options") or {}), **changed}
    for name in ("root", "out", "protocol", "evaluation_seed"):
        if getattr(options, name) is not None:
            settings[name] = getattr(options, name)
    if not settings.get("root") and os.environ.get(ROOT_VARIABLE):
        settings["root"] = os.environ[ROOT_VARIABLE]
    return settings
