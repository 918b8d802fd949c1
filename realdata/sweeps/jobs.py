"""One job of a sweep: train a configuration, evaluate its checkpoints, store the rows. It can be killed and resumed.

A job's directory is named by the hash of its configuration. Besides the files of the training it contains

    rows.json         configuration, title of the data, and all rows of each checkpoint and of the untrained network;
                      always a complete file
    failed.json       why the last attempt failed; removed when the job succeeds
    job.lock          locked by the process that is working on the job
    job.holder.json   describes this process
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.configuration import RunConfiguration
from realdata.sweeps.locks import Locked, job_lock
from realdata.versions import versions
from sambalance_tools.files import read_json_object, write_text

if TYPE_CHECKING:
    from realdata.models.classifier import Classifier
    from realdata.training.checkpoints import TrainedRun

    pass

ROWS, FAILED = "rows.json", "failed.json"
STORED_KEYS = ("configuration", "hash", "evaluation", "status", "checkpoints")
"""What ``rows.json`` has at least."""

DONE, DIVERGED, FAILURE, ELSEWHERE, WAITING = "done", "diverged", "failed", "elsewhere", "waiting"
"""Status of a job: trained and evaluated; the training loss became NaN or infinite; an error occurred; another process
is working on it; not started."""


@dataclass(frozen=True)
class Job:
    """Everything that a process, here or on another machine, needs to run a job; plain values only.

    Attributes:
        configuration: as :meth:`RunConfiguration.as_dict` gives it.
        root: folder of the data. directory: folder of the job.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        protocol: name of a probing protocol. probe_options: changes to it, see
            :class:`realdata.measures.protocols.Protocol`.
        evaluation_seed: seed of the evaluation, such as the probe's halves and subsamples.
        progress: whether to show progress on a terminal.
    """

    configuration: Mapping[str, Any]
    root: str
    directory: str
    device: str = "auto"
    protocol: str = "fast"
    probe_options: Mapping[str, Any] = field(default_factory=dict)
    evaluation_seed: int = 0
    progress: bool = False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Job:
        """The inverse of :meth:`as_dict`."""
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def evaluation(self) -> dict[str, Any]:
        """Settings other than the configuration on which the rows depend."""
        from realdata.measures.protocols import stored_options

        options = stored_options(self.probe_options)
        return {"protocol": self.protocol, "probe_options": options, "seed": self.evaluation_seed}


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended, with the reason as text."""

    hash: str
    status: str
    reason: str = ""
    seconds: float = 0.0


def job_status(directory: Path, evaluation: Mapping[str, Any] | None = None) -> str:
    """Status of a job, from the files in its directory.

    Args:
        evaluation: value of :attr:`Job.evaluation`; rows measured with other settings do not count as done. None
            accepts all rows.
    """
    stored = read_rows(directory)
    if stored and stored["status"] != "partial" and evaluation in (None, stored["evaluation"]):
        return str(stored["status"])
    return FAILURE if (directory / FAILED).exists() else WAITING


def read_rows(directory: Path) -> dict[str, Any] | None:
    """Content of ``rows.json``; None if it does not exist, a ValueError that names the file if it is damaged."""
    try:
        found = read_json_object(directory / ROWS, STORED_KEYS, f"the {ROWS} of a job; remove it to evaluate anew")
        if not is_stored_configuration(found["configuration"]) or not isinstance(found["checkpoints"], dict):
            raise ValueError(f"{directory / ROWS} is damaged; allowed: the {ROWS} of a job; remove it to evaluate anew")
        return found
    except FileNotFoundError:
        return None


def is_stored_configuration(value: Any) -> bool:
    """Whether a value of a JSON file has the form of a configuration."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("data"), str)
        and all(isinstance(value.get(name), dict) for name in ("data_options", "model_options"))
    )


def read_failure(directory: Path) -> dict[str, Any] | None:
    """Content of ``failed.json``: reason, traceback and configuration; None if it does not exist.

    Raises:
        ValueError: names the file, if it is damaged.
    """
    try:
        allowed = f"the {FAILED} of a job; it can be removed"
        found = read_json_object(directory / FAILED, ("reason", "configuration"), allowed)
        if not is_stored_configuration(found["configuration"]):
            raise ValueError(f"{directory / FAILED} is damaged; allowed: {allowed}")
        return found
    except FileNotFoundError:
        return None


def run_job(job: Job) -> JobOutcome:
    """Run a job, or the part of it that is not finished. Errors become an outcome and ``failed.json``.

    Errors inside the job are not raised. An interruption (Ctrl-C) is, and the job can be resumed.
    """
    configuration = RunConfiguration.from_dict(job.configuration)
    directory = Path(job.directory)
    try:
        with job_lock(directory):
            known = job_status(directory, job.evaluation)
            if known in (DONE, DIVERGED):
                return JobOutcome(configuration.hash, known, _reason(known))
            return _attempt(job, configuration, directory)
    except Locked as error:
        return JobOutcome(configuration.hash, ELSEWHERE, str(error))


def _attempt(job: Job, configuration: RunConfiguration, directory: Path) -> JobOutcome:
    started = time.perf_counter()
    stage = ["loading the data"]
    try:
        status = _do(job, configuration, directory, stage)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        reason = f"while {stage[0]}: {' '.join(reason.split())}"
        return record_failure(job, reason, traceback.format_exc(), time.perf_counter() - started)
    (directory / FAILED).unlink(missing_ok=True)
    return JobOutcome(configuration.hash, status, _reason(status), time.perf_counter() - started)


def record_failure(job: Job, reason: str, trace: str = "", seconds: float = 0.0) -> JobOutcome:
    """Write the reason of a failure into the job's directory and return the outcome."""
    report = {"reason": reason, "traceback": trace, "configuration": dict(job.configuration)}
    try:
        write_text(Path(job.directory) / FAILED, json.dumps(report, indent=1))
    except OSError as error:  # on a full disk, for which the job has failed
        reason += f" ({FAILED} could not be written either: {error.strerror})"
    return JobOutcome(RunConfiguration.from_dict(job.configuration).hash, FAILURE, reason, seconds)


def _reason(status: str) -> str:
    return "the training loss became NaN or infinite" if status == DIVERGED else ""


@dataclass(frozen=True)
class Steps:
    """Functions of a job: train a configuration, load the model of a checkpoint, measure it; and measure the network
    before its first step."""

    train: Callable[..., TrainedRun]
    load_model: Callable[..., Classifier]
    evaluate: Callable[..., list[dict[str, Any]]]
    measure_untrained: Callable[..., list[dict[str, Any]]]


def steps_of_a_job() -> Steps:
    """The functions used by jobs, imported only when a job runs, so that counting jobs needs no torch."""
    from realdata.measures.evaluate import evaluate
    from realdata.sweeps.untrained import measure
    from realdata.training.loading import load_checkpoint
    from realdata.training.train import train

    return Steps(train, load_checkpoint, evaluate, measure)


def _do(job: Job, configuration: RunConfiguration, directory: Path, stage: list[str]) -> str:
    """Train, then evaluate every checkpoint that has no rows yet; ``stage`` is the current stage, for error reports."""
    from realdata.datasets.loading import load_for
    from realdata.measures.protocols import protocol
    from realdata.measures.radius_rows import radius_rows
    from realdata.sweeps.untrained import untrained_entry
    from realdata.training.checkpoints import UNTRAINED

    steps = steps_of_a_job()
    data = load_for(job.root, configuration, progress=job.progress)
    stage[0] = "training"
    fresh = not (directory / "config.json").exists()
    started = time.perf_counter()
    run = steps.train(configuration, data, directory, device=job.device, progress=job.progress)
    training_seconds = time.perf_counter() - started

    stored = read_rows(directory)
    if stored is None or stored["evaluation"] != job.evaluation:
        # Seconds serve the estimate of a sweep's time, so only those of a training in one piece count.
        stored = {
            "configuration": configuration.as_dict(),
            "hash": configuration.hash,
            "title": data.title,
            "differences": list(data.differences),
            "fingerprint": data.fingerprint,
            "skipped_files": len(data.skipped),
            "evaluation": job.evaluation,
            "seconds": {"training": round(training_seconds, 3) if fresh else None, "evaluation": 0.0},
            "versions": versions("sambalance", "numpy", "torch", "torchvision", "scikit-learn"),
            "checkpoints": {},
        }
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in job.probe_options.items()}
    probing = protocol(job.protocol).replace(**options)
    if UNTRAINED not in stored["checkpoints"]:
        stage[0] = "evaluating the untrained network"
        started = time.perf_counter()
        first = untrained_entry(directory, configuration, job.evaluation, lambda: [
            to_json_values(row)
            for row in steps.measure_untrained(
                configuration, data, device=job.device, protocol=probing, seed=job.evaluation_seed
            )
        ])  # fmt: skip
        stored["checkpoints"] = {UNTRAINED: first, **stored["checkpoints"]}
        stored["seconds"]["evaluation"] += round(time.perf_counter() - started, 3)
        _write_rows(directory, stored, "partial")
    for checkpoint in run.checkpoints:
        if checkpoint.name in stored["checkpoints"]:
            continue
        # A steep loss passes several levels between two evaluations: the same weights, measured once.
        # (The untrained network is measured without example weights, which levels reached at step 0 have.)
        measured = [each for name, each in stored["checkpoints"].items() if name != UNTRAINED]
        duplicate = next((each for each in measured if each["step"] == checkpoint.step), None)
        stage[0] = f"evaluating checkpoint {checkpoint.name}"
        started = time.perf_counter()
        if duplicate is None:
            model = steps.load_model(checkpoint, configuration, data, device=job.device)
            rows = steps.evaluate(
                model, data, configuration, checkpoint, protocol=probing, seed=job.evaluation_seed
            )  # fmt: skip
            rows = [*rows, *radius_rows(directory)]
        stored["checkpoints"][checkpoint.name] = {
            "level": checkpoint.level,
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "training_loss": checkpoint.training_loss,
            "rows": [to_json_values(row) for row in rows] if duplicate is None else duplicate["rows"],
        }
        stored["seconds"]["evaluation"] += round(time.perf_counter() - started, 3)
        _write_rows(directory, stored, "partial")
    _write_rows(directory, stored, run.status)
    return run.status


def _write_rows(directory: Path, stored: dict[str, Any], status: str) -> None:
    write_text(directory / ROWS, json.dumps({**stored, "status": status}, indent=1, allow_nan=False))


def to_json_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with JSON values: NumPy numbers as Python numbers, NaN and infinity as None."""
    made: dict[str, Any] = {}
    for name, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and not abs(value) < float("inf"):
            value = None
        made[name] = value
    return made
