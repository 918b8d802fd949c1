"""A command ends in one line and a status, whatever goes wrong outside of it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sambalance_tools.checks import Unavailable
from sambalance_tools.command_line import OneLineParser, run_command

posix = pytest.mark.skipif(os.name != "posix", reason="devices and signals")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("n=0; allowed: 1"), "error: n=0; allowed: 1"),
        (Unavailable("engine='triton' is not available: no GPU"), "error: engine='triton' is not available: no GPU"),
        (MemoryError(), "error: not enough memory; allowed: fewer or smaller runs, such as fewer cells or seeds"),
        (MemoryError("9 GiB"), "error: not enough memory (9 GiB); allowed: fewer"),
        (OSError(errno.ENOSPC, "x", "a/b.png"), "error: a/b.png: No space left on device"),
        (OSError(errno.ENOSPC, "x"), "error: standard output or a file cannot be written: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "x", "b"), "error: b: No such file or directory"),
        (IsADirectoryError(errno.EISDIR, "it is a directory; allowed: a file", "b"), "error: b: it is a directory; al"),
        (OSError("cannot write x: there is no directory"), "error: cannot write x: there is no directory"),
    ],
)
def test_errors_become_one_line_and_status_2(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Any) -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(main, [])
    assert stop.value.code == 2
    [printed] = capsys.readouterr().err.splitlines()
    assert printed.startswith(line)


def test_errors_of_our_own_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        run_command(lambda arguments: (_ for _ in ()).throw(RuntimeError("a bug")), [])


def test_a_parser_has_no_usage_in_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(lambda arguments: OneLineParser().parse_args(arguments), ["--bogus"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --bogus (--help lists the options)\n"


PROGRAM = """
import sys, time
from pathlib import Path
from sambalance_tools.command_line import run_command
from sambalance_tools.files import atomic_path

def main(arguments):
    if arguments[0] == "print":
        print("result")
        return
    with atomic_path(arguments[1]) as partial:
        partial.write_text("half")
        print("writing", flush=True)
        time.sleep(60)

run_command(main, sys.argv[1:])
"""
COMMAND = [sys.executable, "-c", PROGRAM]


@posix
@pytest.mark.parametrize(
    ("redirection", "line"),
    [
        (">&-", "error: standard output is closed; allowed: an open one, such as >/dev/null\n"),
        (">/dev/full", "error: standard output: No space left on device\n"),
    ],
)
def test_a_standard_output_that_cannot_be_written_is_an_error(redirection: str, line: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *COMMAND, "print"], stderr=subprocess.PIPE, text=True,
        env=environment, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, line)


@posix
def test_a_reader_that_has_gone_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | true', "bash", *COMMAND, "print"], stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@posix
@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_leaves_nothing_half_written(number: int, status: int, word: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "write", str(tmp_path / "a.txt")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (status, f"{word}; nothing half-written was left behind\n")
    assert list(tmp_path.iterdir()) == []


def test_the_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_command(lambda arguments: None, [])
    assert signal.getsignal(signal.SIGTERM) is before
