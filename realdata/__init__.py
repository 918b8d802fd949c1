"""Train with SGD and SAM on real images, probe what was learned, and test the predictions of the theory.

    from realdata import RunConfiguration, evaluate, load, load_checkpoint, train

    data = load("cifar_mnist", "data")
    configuration = RunConfiguration("cifar_mnist", method="sam", rho=0.1)
    run = train(configuration, data, "runs/sam")
    final = run.checkpoints[-1]
    rows = evaluate(load_checkpoint(final, configuration, data), data, configuration, final)

Each name is imported when it is first used: ``import realdata`` needs neither NumPy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realdata.configuration import RunConfiguration
    from realdata.datasets import load
    from realdata.datasets.base import Card, ImageData
    from realdata.measures.evaluate import evaluate
    from realdata.measures.extraction import extract
    from realdata.measures.own_network import probe_network
    from realdata.measures.probe import probe
    from realdata.measures.protocols import Protocol
    from realdata.results.parquet import read_results
    from realdata.training.checkpoints import TrainedRun, read_run
    from realdata.training.loading import load_checkpoint
    from realdata.training.train import train

__all__ = [
    "Card",
    "ImageData",
    "Protocol",
    "RunConfiguration",
    "TrainedRun",
    "evaluate",
    "extract",
    "load",
    "load_checkpoint",
    "probe",
    "probe_network",
    "read_results",
    "read_run",
    "train",
]

_MODULES = {
    "Card": "datasets.base",
    "ImageData": "datasets.base",
    "Protocol": "measures.protocols",
    "RunConfiguration": "configuration",
    "TrainedRun": "training.checkpoints",
    "evaluate": "measures.evaluate",
    "extract": "measures.extraction",
    "load": "datasets",
    "load_checkpoint": "training.loading",
    "probe": "measures.probe",
    "probe_network": "measures.own_network",
    "read_results": "results.parquet",
    "read_run": "training.checkpoints",
    "train": "training.train",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
