"""The files in a run's directory, and functions to write and read them.

========================  ======================================================================================
``config.json``           configuration, description of the data, and versions
``metrics.jsonl``         one line per evaluation; the first, before step 1, has norm and relative radius too
``checkpoints/``          ``loss-0.1.pt`` and so on, the first evaluation at or below each level; ``final.pt``
``resume.pt``             the state at the last evaluation, until the run is finished
``done``                  how the run ended, and its checkpoints (JSON)
========================  ======================================================================================
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.configuration import RunConfiguration
from realdata.datasets.base import ImageData
from realdata.models.weights_file import first_line
from realdata.versions import versions
from sambalance_tools.files import atomic_path, write_text

if TYPE_CHECKING:
    from realdata.models.classifier import Classifier

CONFIG, METRICS, CHECKPOINTS, RESUME, DONE = "config.json", "metrics.jsonl", "checkpoints", "resume.pt", "done"
FINAL = "final"
UNTRAINED = "untrained"
"""The network before its first step. It has no file, because it is built from the configuration and its seed."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights at one evaluation.

    Attributes:
        name: ``"loss-0.1"``, ``"final"``, or ``"untrained"``. path: its file.
        level: the level that the training loss reached here for the first time; None for the final checkpoint and for
            the untrained network.
        step, epoch: number of steps, and the same in epochs.
        training_loss: nats per example at these weights, in evaluation mode.
    """

    name: str
    path: Path
    level: float | None
    step: int
    epoch: float
    training_loss: float


@dataclass(frozen=True)
class TrainedRun:
    """A finished run. ``status`` is ``"done"``, or ``"diverged"`` if the loss became NaN or infinite. A diverged run
    has no final checkpoint, but those of the levels that it reached."""

    directory: Path
    status: str
    checkpoints: tuple[Checkpoint, ...]


def level_name(level: float) -> str:
    """Name of the checkpoint of a level."""
    return f"loss-{level:g}"


def save(
    directory: Path, checkpoint: Checkpoint, model: Classifier, configuration: RunConfiguration, fingerprint: str
) -> None:
    """Write a checkpoint atomically, under ``checkpoint.path``."""
    import torch

    (directory / CHECKPOINTS).mkdir(exist_ok=True)
    content = {
        "model": model.state_dict(),
        "configuration": configuration.as_dict(),
        "data": fingerprint,
        "checkpoint": as_json(checkpoint),
    }
    with atomic_path(checkpoint.path) as partial:
        torch.save(content, partial)


def write_config(directory: Path, configuration: RunConfiguration, data: ImageData) -> None:
    """Write ``config.json``.

    Raises:
        ValueError: if the directory contains another run; names the directory and the differences.
    """
    path = directory / CONFIG
    if path.exists():
        known = read_config(directory)
        if known["configuration"] != configuration.as_dict():
            differing = [k for k, v in configuration.as_dict().items() if known["configuration"].get(k, ...) != v]
            raise ValueError(f"directory={str(directory)!r} holds another run ({', '.join(differing)} differ)")
        if known["data"]["fingerprint"] != data.fingerprint:
            raise ValueError(
                f"directory={str(directory)!r} holds a run on other data, fingerprint {known['data']['fingerprint']}, "
                f"not {data.fingerprint}"
            )
        return
    content = {
        "configuration": configuration.as_dict(),
        "hash": configuration.hash,
        "data": {
            "name": data.name,
            "title": data.title,
            "fingerprint": data.fingerprint,
            "shape": list(data.images.shape),
            "skipped": list(data.skipped),
        },
        "versions": versions("sambalance", "torch", "torchvision", "timm", "numpy"),
    }
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_config(directory: Path) -> dict[str, Any]:
    """Content of ``config.json``."""
    return _read_json(directory / CONFIG)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Lines of ``metrics.jsonl``."""
    text = (directory / METRICS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write_done(run: TrainedRun, details: Mapping[str, Any]) -> None:
    """Mark a run as finished; its ``resume.pt`` is no longer needed."""
    content = {"status": run.status, **details, "checkpoints": [as_json(c) for c in run.checkpoints]}
    write_text(run.directory / DONE, json.dumps(content, indent=2) + "\n")
    (run.directory / RESUME).unlink(missing_ok=True)


def is_finished(directory: Path) -> bool:
    """Whether a run in this directory has ended (``"done"`` or ``"diverged"``)."""
    return (directory / DONE).exists()


def read_run(directory: str | os.PathLike[str]) -> TrainedRun:
    """The finished run in a directory. Needs no torch.

    Raises:
        ValueError: if there is none, or it is not finished.
    """
    directory = Path(directory)
    if not is_finished(directory):
        state = "a run that is not finished" if (directory / CONFIG).exists() else "no run"
        raise ValueError(f"directory={str(directory)!r} holds {state}; allowed: one with a file '{DONE}'")
    content = _read_json(directory / DONE)
    checkpoints = tuple(from_json(directory, entry) for entry in content["checkpoints"])
    return TrainedRun(directory, content["status"], checkpoints)


def make(directory: Path, name: str, level: float | None, step: int, epoch: float, loss: float) -> Checkpoint:
    """Make a checkpoint in this directory."""
    return Checkpoint(name, directory / CHECKPOINTS / f"{name}.pt", level, step, epoch, loss)


def first_training_loss(directory: Path) -> float | None:
    """Training loss before the first step; None if it was not measured or is not finite."""
    try:
        with (directory / METRICS).open(encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, json.JSONDecodeError):
        return None
    loss = first.get("training_loss") if first["step"] == 0 else None
    return None if loss is None else float(loss)


def from_json(directory: Path, entry: Mapping[str, Any]) -> Checkpoint:
    """Inverse of :func:`as_json`; the directory may have been moved."""
    return make(directory, entry["name"], entry["level"], entry["step"], entry["epoch"], entry["training_loss"])


def as_json(checkpoint: Checkpoint) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(checkpoint).items() if key != "path"}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({first_line(error)})") from None
    return content
