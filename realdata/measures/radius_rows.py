"""Rows on how far a run's perturbation reaches, the same at each checkpoint; split ``train``:

``initial_norm``       ||theta(0)||, of the parameters that the method perturbs.
``relative_radius``    rho / ||theta(0)||; 0 for plain training. See :mod:`realdata.training.radius`.

The training measures both before its first step. Runs of earlier versions did not, and have no such rows.
"""

from __future__ import annotations

import json
from pathlib import Path

from realdata.measures.rows import Row, row
from realdata.training.checkpoints import METRICS

RADIUS_METRICS = ("initial_norm", "relative_radius")


def radius_rows(directory: Path) -> list[Row]:
    """Rows of the module's docstring, from the ``metrics.jsonl`` of a run's directory."""
    try:
        with (directory / METRICS).open(encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, json.JSONDecodeError):
        return []
    return [row("train", metric, first[metric]) for metric in RADIUS_METRICS if metric in first]
