"""A process of a distributed training, as torchrun starts it: ``python -m support.distributed_training FOLDER``."""

from __future__ import annotations

import sys
from typing import Any

import torch

from realdata.training import train as training
from realdata.training.train import train
from support.toy_images import configuration, toy

# Without batch norm, whose statistics each process takes from its own part of a batch.
CASES: dict[str, dict[str, Any]] = {
    "sgd": {"model": "mlp", "model_options": {"width": 6}, "augmentation": "crop_flip"},
    "sam": {"model_options": {"width": 4, "depth": 2, "norm": "group"}, "method": "sam", "rho": 0.05},
    "lsam": {"model": "mlp", "model_options": {"width": 6}, "method": "lsam", "rho": 0.1},
    "jacobian": {"model": "mlp", "model_options": {"width": 6}, "method": "sam", "rho": 0.1, "effect": "jacobian"},
    "diverged": {"model": "mlp", "model_options": {"width": 6}, "lr": 1e30, "levels": ()},
}


def main(folder: str) -> None:
    """Train all cases, and one run that is stopped after its second evaluation and resumed."""
    torch.set_num_threads(1)
    for name, changes in CASES.items():
        train(configuration(**changes), toy(), f"{folder}/{name}", progress=False)
    real_evaluate, calls = training._Training._evaluate, 0

    def evaluate(self: Any, interval: Any) -> bool:
        nonlocal calls
        over = real_evaluate(self, interval)
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return over

    training._Training._evaluate = evaluate  # type: ignore[method-assign]
    try:
        train(configuration(**CASES["sam"]), toy(), f"{folder}/resumed", progress=False)
    except KeyboardInterrupt:
        training._Training._evaluate = real_evaluate  # type: ignore[method-assign]
        train(configuration(**CASES["sam"]), toy(), f"{folder}/resumed", progress=False)


if __name__ == "__main__":
    main(sys.argv[1])
