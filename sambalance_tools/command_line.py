"""What all command lines share: parsers, one clear error in one line, Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from sambalance_tools.checks import Unavailable


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


def run_command(main: Callable[[Sequence[str] | None], Any], arguments: Sequence[str] | None = None) -> None:
    """Run a command line. No traceback: what goes wrong outside of the program becomes one line and an exit status.

    Status 2: a ValueError (a bad argument), an :class:`~sambalance_tools.checks.Unavailable`, an OSError (a full disk,
    a file that is not there), too little memory, a standard output that cannot be written. 130: Ctrl-C. 143: SIGTERM.
    Whatever ``main`` has opened, files half written and worker processes among it, is closed in all these cases.
    """
    if sys.stdout is None:  # `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - takes the place of the closed stream, for good
        _stop("standard output is closed; allowed: an open one, such as >/dev/null", 2)
    with _unwound_by_sigterm():
        try:
            main(arguments)
            _flush()
        except (ValueError, Unavailable) as error:
            _stop(error, 2)
        except MemoryError as error:
            # NumPy says how much it wanted; Python says nothing.
            wanted = f" ({error})" if str(error) else ""
            _stop(f"not enough memory{wanted}; allowed: fewer or smaller runs, such as fewer cells or seeds", 2)
        except BrokenPipeError:
            # The reader of the output (head, less) has gone; the files are written.
            _silence_stdout()
        except OSError as error:
            _stop(_reason(error), 2)
        except KeyboardInterrupt:
            print("interrupted; nothing half-written was left behind", file=sys.stderr)
            raise SystemExit(130) from None


def _stop(message: Any, status: int) -> NoReturn:
    """Print one line and exit."""
    with contextlib.suppress(OSError, AttributeError):
        print(f"error: {message}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _silence_stdout()  # Python would try once more while it exits, and complain
    raise SystemExit(status) from None


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Named, since nothing else would say that it was not a file.
        raise OSError(error.errno, os.strerror(error.errno or 0), "standard output") from None


def _silence_stdout() -> None:
    """Send what is still to be printed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reason(error: OSError) -> str:
    """What could not be read or written, and why."""
    why = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    if error.strerror and "allowed" in error.strerror:
        why = error.strerror
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {why}"
    return f"standard output or a file cannot be written: {why}" if error.errno in (errno.ENOSPC, errno.EIO) else why


@contextlib.contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that files are closed, partial ones removed, workers stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, frame: object) -> NoReturn:
        print("terminated; nothing half-written was left behind", file=sys.stderr)
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, unwind)
    except ValueError:  # a sub-interpreter
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
