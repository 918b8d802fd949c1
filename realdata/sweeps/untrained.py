"""The network before its first step, measured once for all runs that start from it.

Update rules, radii, learning rates and numbers of epochs do not change it. So its rows are in a file beside the jobs,
``OUT/untrained/KEY.json``, from which each job copies them into its ``rows.json``. They lack the example weights and
the toy's quantities, which depend on the update rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.configuration import STORED_NAMES, RunConfiguration
from realdata.measures.rows import row
from realdata.training.checkpoints import first_training_loss
from sambalance_tools.files import write_text

if TYPE_CHECKING:
    from realdata.datasets.base import ImageData
    from realdata.measures.protocols import Protocol

DECISIVE = ("data", "data_options", "size", "on_decode_error", "model", "model_options", "seed")
"""Settings that decide on the untrained network and on the images that measure it."""

RUNS, SHARED = "runs", "untrained"
"""Folder of the jobs in OUT, and that of the shared files."""

Rows = list[dict[str, Any]]


def measure(
    configuration: RunConfiguration, data: ImageData, *, device: str, protocol: Protocol, seed: int
) -> Rows:  # fmt: skip
    """Measure the network of a configuration before its first step, see :func:`realdata.measures.evaluate.evaluate`."""
    from realdata.measures.evaluate import evaluate
    from realdata.models.build import build
    from realdata.models.device import choose_device

    model = build(configuration, data).to(choose_device(device)).eval()
    return evaluate(model, data, configuration, protocol=protocol, seed=seed, weights=False)


def untrained_entry(
    directory: Path, configuration: RunConfiguration, evaluation: Mapping[str, Any], measure: Callable[[], Rows]
) -> dict[str, Any]:
    """The entry of the untrained network in a job's ``rows.json``.

    Args:
        directory: folder of the job. evaluation: see :attr:`realdata.sweeps.jobs.Job.evaluation`.
        measure: measures the rows; called only if no other job has left them.
    """
    path = shared_file(directory, configuration, evaluation)
    rows = _read(path)
    if rows is None:
        rows = measure()
        if path is not None:
            path.parent.mkdir(exist_ok=True)
            write_text(path, json.dumps(rows, allow_nan=False))
    loss = first_training_loss(directory)
    if loss is None:
        loss = next((r["value"] for r in rows if (r["split"], r["metric"]) == ("train", "loss")), None)
    rows = [row("train", "training_loss", loss), *rows]
    return {"level": None, "step": 0, "epoch": 0.0, "training_loss": loss, "rows": rows}


def shared_file(directory: Path, configuration: RunConfiguration, evaluation: Mapping[str, Any]) -> Path | None:
    """The file that all jobs with the same untrained network share; None for a job that is not in a folder of jobs."""
    if directory.parent.name != RUNS:
        return None
    values = configuration.as_dict()
    stored = {name: values[STORED_NAMES.get(name, name)] for name in DECISIVE}
    text = json.dumps([stored, dict(evaluation)], sort_keys=True, default=list)
    return directory.parent.parent / SHARED / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _read(path: Path | None) -> Rows | None:
    if path is None:
        return None
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError):
        return None
