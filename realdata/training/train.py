"""Train one configuration. A training can be killed at any time and resumes with an identical result.

    run = train(configuration, data, "runs/" + configuration.hash)
    for checkpoint in run.checkpoints: ...

Training is divided into intervals between evaluations. Random numbers in an interval (order, augmentation, dropout)
depend only on the seed and the position of the interval. The state after an evaluation is therefore the weights, the
optimizer and a step number; it is written to one file, which is complete or absent. Several processes started by
``torchrun`` share each batch, see :mod:`realdata.training.distributed`. The files are described in
:mod:`realdata.training.checkpoints`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from realdata.configuration import RunConfiguration
from realdata.datasets.base import TRAIN, ImageData
from realdata.datasets.batches import Normalization, RowSource
from realdata.models.build import build
from realdata.models.classifier import Classifier
from realdata.training import checkpoints
from realdata.training.augmentation import ORDER, Augmentation, generator, training_batches
from realdata.training.checkpoints import Checkpoint, TrainedRun
from realdata.training.distributed import TrainingProcesses, connect_processes, require_divisible
from realdata.training.monitoring import Monitor
from realdata.training.optimization import TrainingStep, learning_rate, radius
from realdata.training.radius import starting_radius
from sambalance_tools.files import atomic_path
from sambalance_tools.progress import ProgressBar

CHECK_EVERY = 20
"""Steps between checks that the loss is finite; each check waits for the device."""


def train(
    configuration: RunConfiguration,
    data: ImageData,
    directory: str | os.PathLike[str],
    *,
    device: str = "auto",
    progress: bool = True,
) -> TrainedRun:
    """Train, resume a training, or return the finished run.

    Args:
        directory: directory of this run alone, created if needed.
        device: ``"auto"`` or a torch device. It is not part of the configuration, but results are bitwise identical
            only with the same device and number of threads.
        progress: whether to show a progress bar on a terminal.

    Raises:
        ValueError: if the directory contains another run, or the configuration does not fit the data.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    together = connect_processes(device)
    if together.first:
        checkpoints.write_config(directory, configuration, data)
    together.wait()
    if not checkpoints.is_finished(directory):
        # Fixed algorithms: choosing the fastest anew at each start would change the bits of a resumed run.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            _Training(configuration, data, directory, together, progress).run()
    together.wait()
    return checkpoints.read_run(directory)


@dataclass
class _Interval:
    """What happened since the last evaluation."""

    steps: int = 0
    examples: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    """Summed over steps with a finite loss."""
    not_finite: int = 0
    skipped: int = 0

    def diverged(self, loss_scaling: bool) -> bool:
        """Whether a loss was NaN or infinite, or SAM skipped every step. With a loss scale, single ones are normal."""
        lost = max(self.not_finite, self.skipped)
        return self.steps > 0 and (lost == self.steps or (self.not_finite > 0 and not loss_scaling))


@dataclass
class _Training:
    configuration: RunConfiguration
    data: ImageData
    directory: Path
    processes: TrainingProcesses
    progress: bool
    reached: list[Checkpoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        configuration, device = self.configuration, self.processes.device
        self.rows = self.data.rows(TRAIN)
        self.batch = require_divisible(configuration.batch_size, len(self.rows), self.processes.count, self.data)
        # A last incomplete batch is left out: another part of the data each epoch.
        self.steps_per_epoch = len(self.rows) // self.batch
        self.total = self.steps_per_epoch * configuration.epochs
        self.monitor = Monitor.of(configuration, self.data)
        self.model: Classifier = build(configuration, self.data).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.train()
        self.parallel: nn.Module = self.processes.wrap(self.model)
        self.stepper = TrainingStep(configuration, self.parallel, device)
        needed = np.concatenate([self.rows, *self.monitor.rows.values()])
        self.source = RowSource(self.model.inputs(self.data), needed, device)
        self.normalization = Normalization(self.data, device)
        self.step = 0

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train from the last evaluation, or from the start, to the end."""
        if not self._resume() and self._evaluate(_Interval()):
            return
        with ProgressBar(f"{self.configuration.model}, {self.configuration.method}") as bar:
            for stop in self._evaluation_steps():
                interval = self._advance(stop, bar if self.progress and self.processes.first else None)
                if self._evaluate(interval):
                    return

    def _evaluation_steps(self) -> list[int]:
        """Steps of the evaluations after the current step."""
        per_epoch = min(self.configuration.evaluations_per_epoch, self.steps_per_epoch)
        ends = [math.ceil((i + 1) * self.steps_per_epoch / per_epoch) for i in range(per_epoch)]
        steps = [epoch * self.steps_per_epoch + end for epoch in range(self.configuration.epochs) for end in ends]
        return [step for step in steps if step > self.step]

    def _advance(self, stop: int, bar: ProgressBar | None) -> _Interval:
        """Train up to a step, or until the loss becomes NaN or infinite."""
        interval = _Interval()
        skipped = self.stepper.skipped_steps
        started = time.perf_counter()
        total = torch.zeros((), device=self.processes.device)
        lost = torch.zeros((), device=self.processes.device)
        torch.manual_seed(_dropout_seed(self.configuration.seed, self.step, self.processes.rank))
        for inputs, labels in self._batches(stop):
            rate = learning_rate(self.configuration, self.step, self.steps_per_epoch)
            rho = radius(self.configuration, self.step, self.steps_per_epoch)
            loss = self.stepper.step(inputs, labels, rate, rho)
            finite = loss.isfinite()
            total += torch.where(finite, loss, 0)
            lost += ~finite
            self.step += 1
            interval.steps += 1
            if bar is not None:
                bar(self.step, self.total)
            if interval.steps % CHECK_EVERY == 0 or self.step == stop:
                sums = self.processes.total(torch.stack([total, lost])).tolist()
                total, lost = torch.zeros_like(total), torch.zeros_like(lost)
                interval.loss += sums[0] / self.processes.count
                interval.not_finite += math.ceil(sums[1] / self.processes.count)
                interval.skipped = self.stepper.skipped_steps - skipped
                if interval.diverged(self._loss_scaling):
                    break
        interval.examples = interval.steps * self.batch
        interval.seconds = time.perf_counter() - started
        return interval

    def _batches(self, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and labels of this process for the steps up to ``stop``, which is in the current epoch."""
        epoch, first = divmod(self.step, self.steps_per_epoch)
        seed = self.configuration.seed
        order = generator(seed, epoch, ORDER).permutation(self.rows)
        augmentation = Augmentation.of_epoch(self.configuration.augmentation, self.data, len(order), seed, epoch)
        count = stop - self.step
        positions = [
            self.processes.share(np.arange(i * self.batch, (i + 1) * self.batch)) for i in range(first, first + count)
        ]
        labels = torch.from_numpy(self.data.label[order]).to(self.processes.device)
        inputs = training_batches(self.source, self.normalization, augmentation, order, positions)
        for chunk, batch in zip(positions, inputs, strict=True):
            yield batch, labels[int(chunk[0]) : int(chunk[-1]) + 1 : self.processes.count]

    @property
    def _loss_scaling(self) -> bool:
        return self.configuration.precision == "float16"

    # --- evaluations --------------------------------------------------------------------------------------------------

    def _evaluate(self, interval: _Interval) -> bool:
        """Evaluate and save checkpoints; return whether the run has ended."""
        measured = self.monitor.measure(self.model, self.source, self.normalization, self.processes)
        loss = measured["training_loss"]
        diverged = interval.diverged(self._loss_scaling) or not math.isfinite(loss)
        if not diverged:
            for level in self.configuration.levels:
                if loss <= level and all(kept.level != level for kept in self.reached):
                    self._keep(checkpoints.level_name(level), level, loss)
        stop = self.configuration.stop_level
        over = diverged or self.step == self.total or (stop is not None and loss <= stop)
        if over and not diverged:
            self._keep(checkpoints.FINAL, None, loss)
        if self.processes.first:
            length = self._append_metrics(interval, measured)
            if over:
                self._finish(diverged, loss, interval)
            else:
                self._write_resume(length)
        return over

    def _keep(self, name: str, level: float | None, loss: float) -> None:
        checkpoint = checkpoints.make(self.directory, name, level, self.step, self._epoch, loss)
        self.reached.append(checkpoint)
        if self.processes.first:
            checkpoints.save(self.directory, checkpoint, self.model, self.configuration, self.data.fingerprint)

    @property
    def _epoch(self) -> float:
        return self.step / self.steps_per_epoch

    def _append_metrics(self, interval: _Interval, measured: dict[str, Any]) -> int:
        """Append a line; return the length of the file."""
        finite_steps = interval.steps - interval.not_finite
        row = {
            "step": self.step,
            "epoch": self._epoch,
            "lr": learning_rate(self.configuration, max(self.step - 1, 0), self.steps_per_epoch),
            **measured,
            **(starting_radius(self.configuration, self.model) if self.step == 0 else {}),
            "batch_loss": interval.loss / finite_steps if finite_steps else None,
            "skipped_steps": interval.skipped,
            "examples_per_second": interval.examples / interval.seconds if interval.steps else None,
        }
        # JSON knows no NaN: a loss that is not finite becomes null.
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with (self.directory / checkpoints.METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            return file.tell()

    def _finish(self, diverged: bool, loss: float, interval: _Interval) -> None:
        run = TrainedRun(self.directory, "diverged" if diverged else "done", tuple(self.reached))
        details: dict[str, Any] = {"step": self.step, "epoch": self._epoch}
        details["training_loss"] = loss if math.isfinite(loss) else None
        if diverged:
            details["reason"] = (
                f"{interval.not_finite} losses were not finite and SAM skipped {interval.skipped} steps "
                f"of the last {interval.steps}"
            )
        checkpoints.write_done(run, details)

    # --- resuming -----------------------------------------------------------------------------------------------------

    def _write_resume(self, metrics_length: int) -> None:
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "stepper": self.stepper.state_dict(),
            "metrics_length": metrics_length,
            "checkpoints": [checkpoints.as_json(c) for c in self.reached],
        }
        with atomic_path(self.directory / checkpoints.RESUME) as partial:
            torch.save(state, partial)

    def _resume(self) -> bool:
        """Load the state of the last evaluation, if there is one, and remove later lines of the metrics."""
        path = self.directory / checkpoints.RESUME
        state: dict[str, Any] | None = None
        if path.exists():
            state = torch.load(path, map_location=self.processes.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.stepper.load_state_dict(state["stepper"])
            self.step = state["step"]
            self.reached = [checkpoints.from_json(self.directory, entry) for entry in state["checkpoints"]]
        self.processes.wait()
        if self.processes.first:
            with (self.directory / checkpoints.METRICS).open("a") as file:
                file.truncate(0 if state is None else state["metrics_length"])
        return state is not None


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank, 3]).generate_state(1, np.uint64)[0] >> 1)
