"""What all command lines share: parsers, one clear error in one line, Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors, so that :func:`run_command` reports them in one line without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (--help lists the options)")


def module_parser(module: str, documentation: str | None) -> OneLineParser:
    """A parser for ``python -m module``, described by the module's docstring: first paragraph, then examples."""
    description, _, examples = (documentation or "").partition("\n\n")
    return OneLineParser(
        prog=f"python -m {module}",
        description=description,
        epilog="examples and files:\n\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class _FormerFlag(argparse.Action):
    """Stores the value for the flag of today, whose name is ``const``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        print(f"warning: {option_string} is now called {self.const}", file=sys.stderr)
        setattr(namespace, self.dest, values)


def add_former_flag(parser: argparse._ActionsContainer, former: str, flag: str, **options: Any) -> None:
    """Accept a flag under the name it once had, with a warning; ``--help`` does not list it.

    Args:
        parser: a parser, or a group of its flags, that has ``flag``.
        former: the name of earlier versions, such as ``--broken``.
        flag: today's name.
        options: of ``add_argument``: the type or the choices of ``flag``.
    """
    name = flag.lstrip("-").replace("-", "_")
    parser.add_argument(
        former, action=_FormerFlag, const=flag, dest=name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **options
    )


def number_list(text: str, option: str) -> list[float]:
    """Parse ``0,0.1,0.2``; a ValueError names the option and the fault."""
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"{option} {text!r}; allowed: numbers separated by commas") from None
    if not numbers:
        raise ValueError(f"{option} {text!r} is empty; allowed: numbers separated by commas")
    return numbers


def run_command(main: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> None:
    """Run a command line. A ValueError becomes one line and exit status 2, Ctrl-C exit status 130; no traceback."""
    try:
        main(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except MemoryError:
        print("error: not enough memory for this many runs; use fewer cells or seeds", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader of the output (head, less) has gone; the files are written. Keep Python from flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        raise SystemExit(130) from None
