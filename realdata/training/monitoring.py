"""Measurements during training: the training loss, which decides on checkpoints, and group accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from realdata.configuration import RunConfiguration
from realdata.datasets.base import SPLIT_NAMES, TEST, TRAIN, VALIDATION, ImageData
from realdata.datasets.batches import Normalization, Rows, RowSource, chunks_of
from realdata.training.augmentation import generator
from realdata.training.distributed import TrainingProcesses
from realdata.training.optimization import autocast

BATCH = 128
"""Examples per forward pass without gradient. With more, activations do not fit into the cache of a CPU."""

MONITORED = 4096
"""Largest number of validation and of test images that are measured during training, divided equally among the groups.
There are no more than training images, so that measuring takes no longer than an epoch."""
MONITORED_PER_GROUP = 16, 1024
"""Smallest and largest number of them per group, where a group has as many."""

_MONITOR_STREAM = 2
"""Stream of random numbers, separate from order and augmentation."""


def monitored_per_group(groups: int, training: int = MONITORED) -> int:
    """Maximum number of images of each group that are measured in a split.

    The total is limited, because with many groups the measurement would otherwise take as long as the training.

    Args:
        groups: number of groups. training: number of training images.
    """
    least, most = MONITORED_PER_GROUP
    return min(most, max(least, min(MONITORED, training) // groups))


@dataclass(frozen=True)
class Monitor:
    """The rows that are measured at each evaluation: ``"training"``, and ``"validation"`` and ``"test"`` if there are.

    The training loss is the mean over all training images, or over a fixed random part of them; of validation and test
    images, a fixed random part of each group, which makes the accuracy of each group an unbiased estimate.
    """

    configuration: RunConfiguration
    data: ImageData
    rows: dict[str, Rows]

    @classmethod
    def of(cls, configuration: RunConfiguration, data: ImageData) -> Monitor:
        """Choose the rows; the choice depends only on the data and the configuration."""
        random = generator(configuration.seed, 0, _MONITOR_STREAM)
        training = data.rows(TRAIN)
        limit = configuration.evaluation_examples
        if limit is not None and limit < len(training):
            training = np.sort(random.permutation(training)[:limit])
        rows = {"training": training}
        most = monitored_per_group(len(data.group_names), len(data.rows(TRAIN)))
        for split in (VALIDATION, TEST):
            shuffled = random.permutation(data.rows(split))
            if len(shuffled):
                kept = [shuffled[data.group[shuffled] == g][:most] for g in range(len(data.group_names))]
                rows[SPLIT_NAMES[split]] = np.sort(np.concatenate(kept))
        return cls(configuration, data, rows)

    @torch.no_grad()
    def measure(
        self, model: nn.Module, source: RowSource, normalization: Normalization, processes: TrainingProcesses
    ) -> dict[str, Any]:
        """Training loss (nats per example) and accuracy, and accuracies of groups, in evaluation mode.

        The forward passes run in the precision of the training. Leaves the model in training mode.
        """
        model.eval()
        measured: dict[str, Any] = {}
        for name, rows in self.rows.items():
            loss, right, count = self._sums(model, source, normalization, processes, rows)
            if name == "training":
                measured["training_loss"] = loss / len(rows)
                measured["training_accuracy"] = float(right.sum() / len(rows))
                continue
            groups = {g: float(r / n) for g, r, n in zip(self.data.group_names, right, count, strict=True) if n}
            measured[f"{name}_group_accuracy"] = groups
            measured[f"{name}_mean_group_accuracy"] = sum(groups.values()) / len(groups)
            measured[f"{name}_worst_group_accuracy"] = min(groups.values())
        model.train()
        return measured

    def _sums(
        self,
        model: nn.Module,
        source: RowSource,
        normalization: Normalization,
        processes: TrainingProcesses,
        rows: Rows,
    ) -> tuple[float, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Sum of the losses; correct predictions and images of each group."""
        chunks = chunks_of(processes.share(rows), BATCH)
        groups = len(self.data.group_names)
        device = processes.device
        sums = torch.zeros(1 + groups, dtype=torch.float64, device=device)
        for chunk, images in zip(chunks, source.batches(chunks), strict=True):
            with autocast(self.configuration, device):
                logits = model(normalization(images))
            logits = logits.float()
            labels = torch.from_numpy(self.data.label[chunk]).to(device)
            sums[0] += cross_entropy(logits, labels, reduction="sum").double()
            right = (logits.argmax(1) == labels).double()
            sums[1:].index_add_(0, torch.from_numpy(self.data.group[chunk]).to(device), right)
        sums = processes.total(sums).cpu()
        return float(sums[0]), sums[1:].numpy(), np.bincount(self.data.group[rows], minlength=groups)
