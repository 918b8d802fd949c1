"""What the command lines of the toy models share: axis expressions and parameter options.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping

from kernels.names import ACTIVATIONS, ENGINES, PRECISIONS
from toymodels.parameters import PARAMETERS, parameter

AXIS_HELP = "NAME=START:STOP:COUNT, with :log for logarithmic spacing, or NAME=V1,V2,..."


DEFAULT_COUNT = 96
"""Values of an axis given as START:STOP."""

MOST_VALUES = 10**7
"""An axis of more values is a slip: with another axis and seeds its runs fit into no memory."""

DATA_NAMES = ("redundant", "spurious", "missing", "uneven", "label_noise", "slabs")
"""Kinds of data that a command line can name; tables of groups are made in Python."""


def parse_axis(text: str, option: str) -> tuple[str, list[float]]:
    """Parse ``rho=0:1:96``, ``init=0.01:1:64:log`` or ``width=2,4,8``; a ValueError names the option and the fault."""
    name, equals, expression = text.partition("=")
    if not equals:
        raise ValueError(f"{option} {text!r} has no '='; allowed: {AXIS_HELP}")
    known = parameter(name.strip())
    try:
        values = _axis_values(expression)
    except ValueError as error:
        raise ValueError(f"{option} {text!r}: {error}; allowed: {AXIS_HELP}") from None
    if known.whole and ":" in expression:
        # A range of whole numbers may be finer than they are; what is not finite is left to the check.
        values = sorted({float(round(value)) if math.isfinite(value) else value for value in values})
    return known.name, [known.check(value) for value in values]


def _axis_values(expression: str) -> list[float]:
    if ":" not in expression:
        values = [float(part) for part in expression.split(",") if part.strip()]
        if not values:
            raise ValueError("the axis is empty")
        return values
    bounds, logarithmic = (expression[:-4], True) if expression.endswith(":log") else (expression, False)
    start_text, stop_text, *count_text = bounds.split(":")
    if len(count_text) > 1:
        raise ValueError(f"{':'.join(count_text)!r} is not a count")
    start, stop = float(start_text), float(stop_text)
    count = int(count_text[0]) if count_text else DEFAULT_COUNT
    if count > MOST_VALUES:
        raise ValueError(f"{count:,} values are more than {MOST_VALUES:,}")
    if count < 1 or (count > 1 and start == stop):
        raise ValueError(f"{count} values from {start:g} to {stop:g}")
    if logarithmic and not (start > 0 and stop > 0):
        raise ValueError("logarithmic spacing needs start and stop > 0")
    fractions = [i / max(count - 1, 1) for i in range(count)]
    if logarithmic:
        return [start * (stop / start) ** fraction for fraction in fractions]
    return [start + (stop - start) * fraction for fraction in fractions]


def map_axes(y: str, x: str, given: Mapping[str, float]) -> dict[str, list[float]]:
    """The two axes of a map, the vertical one first; a ValueError if they are the same, or fixed in ``given``."""
    vertical, horizontal = parse_axis(y, "--y"), parse_axis(x, "--x")
    if horizontal[0] == vertical[0]:
        raise ValueError(f"--x and --y are both {horizontal[0]!r}; allowed: two different parameters")
    for option, (name, _) in (("--x", horizontal), ("--y", vertical)):
        if name in given:
            raise ValueError(f"{name} is both an axis ({option}) and fixed at {given[name]:g}; allowed: one of them")
    return dict((vertical, horizontal))


def add_engine_options(parser: argparse.ArgumentParser, *, precision: bool = False, threads: bool = False) -> None:
    """``--engine``, and where a command lets them be chosen ``--precision`` and ``--threads``."""
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help=f"engine that trains: {', '.join(ENGINES)}, or auto: the first of these that is available and supports "
        "the problem (default auto)",
    )
    if precision:
        parser.add_argument("--precision", choices=PRECISIONS, help="default: the engine's own")
    if threads:
        parser.add_argument(
            "--threads",
            type=int,
            metavar="N",
            help="threads of the cpu engine (default: OMP_NUM_THREADS, or one per CPU)",
        )


def add_patches_options(parser: argparse.ArgumentParser) -> None:
    """``--head`` and ``--activation`` of patches networks; unset ones stay None."""
    parser.add_argument(
        "--head",
        metavar="HEAD",
        help="patches: local (the head knows the place of a patch), pooled (it sees the sum over places), or a number "
        "of windows, each of which is summed (default local)",
    )
    parser.add_argument("--activation", choices=ACTIVATIONS, help="patches: activation of the filters (default linear)")


def add_parameter_options(
    parser: argparse.ArgumentParser, defaults: dict[str, float] | None = None, title: str = "parameters"
) -> None:
    """One option per parameter, ``--mu-easy 2``; unset ones stay None."""
    group = parser.add_argument_group(title)
    for known in PARAMETERS.values():
        default = (defaults or {}).get(known.name, known.default)
        group.add_argument(
            f"--{known.name.replace('_', '-')}",
            type=_number(known.name),
            metavar="N" if known.whole else "X",
            help=f"{known.meaning} (default {default:g})".replace("%", "%%"),
        )


def given_parameters(arguments: argparse.Namespace) -> dict[str, float]:
    """The parameters that were set on the command line."""
    return {name: getattr(arguments, name) for name in PARAMETERS if getattr(arguments, name) is not None}


def _number(name: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            return parameter(name).check(float(text))
        except ValueError as error:
            message = str(error) if "allowed" in str(error) else f"{text!r} is not a number"
            raise argparse.ArgumentTypeError(message) from None

    convert.__name__ = name
    return convert
