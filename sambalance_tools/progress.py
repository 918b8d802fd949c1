"""Progress reports, and a progress bar that appears only on a terminal and only for work that takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

Progress = Callable[[int, int], None]
"""Called from time to time with (work done, work in all)."""

PATIENCE_SECONDS = 2.0
"""Work shorter than this shows no bar."""


def part_of(progress: Progress | None, before: int, share: int, total: int) -> Progress | None:
    """The report of one part of a job, in the units of the whole job.

    Args:
        progress: the report of the whole job; None if there is none.
        before: the work done before this part.
        share: the work of this part, in the units of ``total``; the part may count its own work in other units.
        total: the work of the whole job.
    """
    if progress is None:
        return None
    whole = progress

    def report(done: int, of: int) -> None:
        whole(before + share * done // max(of, 1), total)

    return report


class ProgressBar:
    """Context manager and callback ``bar(done, total)``; shown on a terminal once the work has taken two seconds."""

    def __init__(self, description: str) -> None:
        self.description = description
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            if time.monotonic() - self._started < PATIENCE_SECONDS or done >= total:
                return
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
