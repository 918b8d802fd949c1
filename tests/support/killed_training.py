"""A training that kills its process in the middle: ``python -m support.killed_training FOLDER THREADS``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from realdata.training.optimization import TrainingStep
from realdata.training.train import train
from support.toy_images import configuration, toy

INTERRUPTED: dict[str, Any] = {
    "method": "sam", "rho": 0.05, "augmentation": "crop_flip", "epochs": 3, "evaluations_per_epoch": 2,
    "levels": (0.69, 0.6, 0.5, 0.4), "base": "adamw", "lr": 0.01,
}  # fmt: skip


def main(folder: str, threads: int) -> None:
    """Train until the thirteenth step, then SIGKILL."""
    torch.set_num_threads(threads)
    real_step, steps = TrainingStep.step, 0

    def step(self: TrainingStep, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return real_step(self, *arguments)

    TrainingStep.step = step  # type: ignore[method-assign]
    train(configuration(**INTERRUPTED), toy(), folder, progress=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
