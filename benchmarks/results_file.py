"""Rows of measurements: which machine they were taken on, and the CSV files that they are appended to."""

from __future__ import annotations

import csv
import platform
from pathlib import Path
from typing import Any


def machine() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def append(table: list[dict[str, Any]], path: Path) -> None:
    """Append rows to a file, with a header if it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        if new:
            writer.writeheader()
        writer.writerows(table)
