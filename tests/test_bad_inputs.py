"""The tables of bad inputs: all of them, in one warm process; and the watch over them fails where it should."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import bad_input_cases
from support.bad_input_cases import Case, fault, rows, run_all

SCRIPT = Path(__file__).parent / "bad_inputs.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked children")


@pytest.mark.slow
def test_every_bad_input_ends_in_the_line_that_the_tables_name() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    counts = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" wrong")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert [int(count) >= 300 for count in counts] == [True, True], done.stdout


def say(message: str, status: int = 2) -> None:
    """What a command does with a bad input."""
    print(message, file=sys.stderr)
    raise SystemExit(status)


def write_half_and_say(message: str) -> None:
    Path(".half.txt").write_text("x")
    say(message)


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "a traceback": (lambda: 1 / 0, "has a traceback"),
    "another status": (lambda: say("error: n=0", 1), "exits with status 1"),
    "no error": (lambda: None, "exits with status 0"),
    "another message": (lambda: say("error: m=0"), "does not say"),
    "no 'error: '": (lambda: say("n=0; allowed: 1"), "does not say"),
    "two lines": (lambda: say("warning\nerror: n=0; allowed: 1"), "prints 2 lines"),
    "a file left": (lambda: write_half_and_say("error: n=0; allowed: 1"), "leaves .half.txt"),
    "too slow": (lambda: time.sleep(60), "was killed"),
    "too much memory": (lambda: bytearray(1 << 40), "has a traceback"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_watch_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bad_input_cases, "SECONDS", 0.5 if name == "too slow" else 20.0)
    action, expected = FAULTS[name]
    [(case, ended)] = run_all([Case(name, action, "n=0; allowed:")])
    assert fault(case, ended).startswith(expected)


def test_the_watch_lets_a_clear_line_pass() -> None:
    [(case, ended)] = run_all([Case("good", lambda: say("error: n=0; is not; allowed: 1, 2"), "n=0; ... allowed:")])
    assert fault(case, ended) == ""
    assert ended.status == 2


def test_tables_have_alternatives_comments_and_long_lines() -> None:
    table = """
# a comment
--x=1||2 y -> x={}; allowed
--long
    words -> more than
    one line
 -> nothing given
"""
    assert list(rows(table)) == [
        ("--x=1 y", "x=1; allowed"), ("--x=2 y", "x=2; allowed"), ("--long words", "more than one line"),
        ("", "nothing given"),
    ]  # fmt: skip
