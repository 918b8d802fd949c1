"""Bad inputs as tables, and what comes of each: a child of one warm process, watched from outside.

A table has one case per line: the input, ``->``, and how the message has to begin, where ``...`` stands for anything. A
line that begins with a blank goes on with the one before; one that begins with ``#`` is a comment. An input may hold
alternatives, ``a||b||c`` (of one word, without blanks): one case each, and ``{}`` in the message stands for the one
that is tried.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import shlex
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Content = str | bytes | None
"""Of a file that a case finds in its folder; None: a folder."""

SECONDS = 20.0
"""A case that takes longer is killed. It should take a blink; the machine may be busy."""
MEMORY_BYTES = 4 << 30
"""Address space that a case may add to what the warm process has."""


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        text: the input as people type it. action: does it, in a folder of its own; raises SystemExit or returns None.
        expected: how the message begins, see the module.
        files: what is in the folder. variables: environment variables. written: files that it may write.
        on_stdout: whether the message is part of a report on standard output.
    """

    text: str
    action: Callable[[], object]
    expected: str
    files: Mapping[str, Content] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    written: Sequence[str] = ()
    on_stdout: bool = False


@dataclass(frozen=True)
class Ended:
    """How a child ended, what it printed, and the files that it left, by their paths in its folder."""

    status: int | None
    stdout: str
    stderr: str
    left: frozenset[str]
    seconds: float


def rows(table: str) -> Iterator[tuple[str, str]]:
    """(input, expected) of a table, alternatives written out."""
    joined: list[str] = []
    for line in table.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace() and not line.startswith(" -> "):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line.strip())
    for line in joined:
        text, arrow, expected = f" {line}".rpartition(" -> ")
        if not arrow:
            raise ValueError(f"table line {line!r} has no ' -> '")
        several = re.search(r"\S*\|\|\S*", text)
        if several is None:
            yield text.strip(), expected.strip()
            continue
        start = re.match(r"[^|\s]*[=(]", several[0])  # what stands before the first alternative stays
        before = start[0] if start else ""
        for one in several[0][len(before) :].split("||"):
            yield text.replace(several[0], before + one).strip(), expected.strip().replace("{}", one)


def fault(case: Case, ended: Ended) -> str:
    """What is wrong with how a case ended; empty if nothing is."""
    if ended.status is None:
        return f"was killed after {SECONDS:g} s"
    if "Traceback" in ended.stderr:
        return f"has a traceback:\n{ended.stderr}"
    if ended.status != 2:
        return f"exits with status {ended.status}, not 2:\n{ended.stdout[-500:]}{ended.stderr[-1500:]}"
    begins = re.compile(".*".join(re.escape(part) for part in case.expected.split("...")), re.DOTALL)
    if case.on_stdout:
        if not any(begins.match(line.strip()) for line in ended.stdout.splitlines()) or ended.stderr:
            return f"does not print {case.expected!r} but:\n{ended.stdout}{ended.stderr}"
    else:
        lines = ended.stderr.splitlines()
        if len(lines) != 1:
            return f"prints {len(lines)} lines instead of one:\n{ended.stderr[:3000]}"
        if not begins.match(lines[0].removeprefix("error: ")) or not lines[0].startswith("error: "):
            return f"does not say {case.expected!r} but:\n{ended.stderr}"
    more = sorted(ended.left - {*case.files, *case.written})
    return f"leaves {', '.join(more)}" if more else ""


def run_all(cases: Sequence[Case], at_once: int = 2) -> Iterator[tuple[Case, Ended]]:
    """Run every case in a child of this process, ``at_once`` of them at a time; in the order in which they end.

    This process has to be warm (everything imported) and must have no threads.
    """
    gc.collect()
    gc.freeze()  # a child's collector would touch, and so copy, all that is imported
    waiting, running = list(reversed(cases)), {}
    with tempfile.TemporaryDirectory() as scratch:
        number = 0
        while waiting or running:
            while waiting and len(running) < at_once:
                number += 1
                child = _Child(waiting.pop(), Path(scratch) / str(number))
                running[child.pid] = child
            for child in list(running.values()):
                ended = child.ended()
                if ended is not None:
                    del running[child.pid]
                    yield child.case, ended
            time.sleep(0.002)


class _Child:
    """A case in a process and a folder of its own."""

    def __init__(self, case: Case, place: Path) -> None:
        self.case, self.folder = case, place / "work"
        self.outputs = [place / "stdout", place / "stderr"]
        self.folder.mkdir(parents=True)
        for name, content in case.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._run())

    def _run(self) -> int:
        """Do it, in the child; returns the exit status that Python would have."""
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number, path in zip((1, 2), self.outputs, strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Whatever has taken their place in this process, as pytest's capture does.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        os.chdir(self.folder)
        os.environ.update(self.case.variables)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES,) * 2)
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", ResourceWarning)
        status = 0
        try:
            self.case.action()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 1
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                status = 120
        return status

    def ended(self) -> Ended | None:
        """None while it runs; a child that takes too long is killed."""
        seconds = time.monotonic() - self.started
        pid, code = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and seconds < SECONDS:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # and what it may have started
        if pid == 0:
            os.waitpid(self.pid, 0)
        left = frozenset(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir())
        stdout, stderr = (path.read_text(errors="replace") for path in self.outputs)
        return Ended(os.waitstatus_to_exitcode(code) if pid else None, stdout, stderr, left, seconds)


def words(text: str) -> list[str]:
    """A command line as its arguments."""
    return shlex.split(text)
