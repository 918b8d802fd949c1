"""A lock on a job's directory: two sweeps never do one job twice, and no lock outlives its process."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

NAME = "job.lock"


class Locked(Exception):
    """Another process works on this job; the message says which."""


@contextmanager
def job_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, which is made if needed.

    The operating system owns the lock and drops it when the process ends, however it ends (SIGKILL, power), so that a
    dead process never blocks a job and nobody has to guess whether a process of that number is still the same one.
    The file's text, process and host, only serves messages. It is never removed: a second process could otherwise lock
    the removed file while a third locks a new one.

    Raises:
        Locked: if another process, here or on a host that shares the folder, holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / NAME, "a+", encoding="utf-8") as file:
        if not _try(file):
            raise Locked(_holder(directory))
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _holder(directory: Path) -> str:
    try:
        text = json.loads((directory / NAME).read_text(encoding="utf-8"))
        return f"process {text['pid']} on {text['host']} is at it"
    except (ValueError, KeyError, OSError):
        return "another process is at it"


if sys.platform == "win32":  # pragma: no cover - the other branch's twin, for a system the tests do not run on
    import msvcrt

    def _try(file: IO[str]) -> bool:
        file.seek(1 << 20)  # beyond the text, which others have to be able to read
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        except OSError:
            return False
        finally:
            file.seek(0)

else:
    import fcntl

    def _try(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
