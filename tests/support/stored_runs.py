"""Directories of jobs that were never run, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realdata.configuration import RunConfiguration

LEVELS = (0.4, 0.1)


def row(metric: str, value: float | None, attribute: str = "", group: str = "", split: str = "probe") -> dict[str, Any]:
    return {"split": split, "metric": metric, "attribute": attribute, "group": group, "value": value} | {
        "low": None if value is None else value - 0.01, "high": None if value is None else value + 0.01, "n": 10
    }  # fmt: skip


def store(
    out: Path,
    status: str = "done",
    stages: Any = None,
    title: str = "Made up",
    differences: Sequence[str] = (),
    **changes: Any,
) -> RunConfiguration:
    """Write a job's directory.

    Args:
        stages: name of a checkpoint to (level, training loss, rows); None is one level and the end.
    """
    values = {"data": "cifar_mnist", "levels": LEVELS, **changes}
    configuration = RunConfiguration(**values)
    if stages is None:
        stages = {"loss-0.4": (0.4, 0.35, [row("probing_error", 0.4, "hard")]),
                  "final": (None, 0.01, [row("probing_error", 0.3, "hard")])}  # fmt: skip
    directory = out / "runs" / configuration.hash
    directory.mkdir(parents=True)
    checkpoints = {
        name: {"level": level, "step": 7, "epoch": 1.5, "training_loss": loss, "rows": rows}
        for name, (level, loss, rows) in stages.items()
    }
    stored = {
        "configuration": configuration.as_dict(), "hash": configuration.hash, "title": title,
        "differences": list(differences), "fingerprint": "f0",
        "skipped_files": 0, "evaluation": {"protocol": "fast"}, "seconds": {"training": 1.0, "evaluation": 1.0},
        "versions": {"torch": "2"}, "checkpoints": checkpoints, "status": status,
    }  # fmt: skip
    (directory / "rows.json").write_text(json.dumps(stored))
    return configuration


def rows_of(hard: float, worst: float = 0.5) -> list[dict[str, Any]]:
    curves = [
        row(f"lorenz_{p}", s**2, group=str(s), split="train") for p in ("real", "phantom") for s in (0.25, 0.5, 0.75)
    ]
    return [
        row("probing_error", hard, "hard"),
        row("probing_error", 0.9, "hard", group="one group of several"),
        row("probing_error", 0.02, "easy"),
        row("worst_group_accuracy", worst, split="test"),
        row("worst_group_accuracy", 0.1, split="validation"),
        *curves,
    ]  # fmt: skip


def stages(hard: float, level_loss: float = 0.35) -> dict[str, Any]:
    return {
        "loss-0.4": (0.4, level_loss, rows_of(hard + 0.1)),
        "loss-0.1": (0.1, 0.09, rows_of(hard + 0.05)),
        "final": (None, 0.01, rows_of(hard)),
    }
