"""A lock on a job's directory: two sweeps never do one job twice, and no lock outlives its process."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sambalance_tools.files import write_text

LOCK, HOLDER = "job.lock", "job.holder.json"


class Locked(Exception):
    """Another process works on this job; the message says which."""


@contextmanager
def job_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, which is made if needed.

    The operating system owns the lock and drops it when the process ends, however it ends (SIGKILL, power), so that a
    dead process never blocks a job and nobody has to guess whether a process of that number is still the same one.
    The lock file stays: a second process could otherwise lock the removed file while a third locks a new one. Who holds
    it is written beside it and only serves messages.

    Raises:
        Locked: if another process, here or on a host that shares the folder, holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Locked(_holder(directory)) from None
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())}
        write_text(directory / HOLDER, json.dumps(holder))
        yield
    finally:
        (directory / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(directory: Path) -> str:
    try:
        holder = json.loads((directory / HOLDER).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} is working on this job"
    except (ValueError, KeyError, OSError):
        return "another process is working on this job"
