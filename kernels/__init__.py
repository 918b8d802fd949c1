"""How thousands of small trainings run at once: one contract, several engines, one SAM for torch modules.

Names are imported when first used: SAM needs torch, which the engines do not, and ``--help`` needs neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.engine import available_engines, train
    from kernels.problem import Crossings, Records, Status, TrainingProblem, TrainingResult
    from kernels.sam.optimizer import SAM

_HOMES = {
    "engine": ("available_engines", "train"),
    "problem": ("Crossings", "Records", "Status", "TrainingProblem", "TrainingResult"),
    "sam.optimizer": ("SAM",),
}

__all__ = ["SAM", "Crossings", "Records", "Status", "TrainingProblem", "TrainingResult", "available_engines", "train"]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            try:
                home = importlib.import_module(f"kernels.{module}")
            except ModuleNotFoundError as error:
                if error.name != "torch":
                    raise
                raise ImportError(f"kernels.{name} needs the package torch; pip install 'sambalance[gpu]'") from None
            return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
