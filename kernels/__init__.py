"""How thousands of small trainings run at once: one contract, several engines, one SAM for torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernels.engine import available_engines, train
from kernels.problem import Crossings, Records, Status, TrainingProblem, TrainingResult

if TYPE_CHECKING:
    from kernels.sam import SAM

__all__ = ["SAM", "Crossings", "Records", "Status", "TrainingProblem", "TrainingResult", "available_engines", "train"]


def __getattr__(name: str) -> Any:
    # SAM is imported when first used: it needs torch, which the engines do not.
    if name == "SAM":
        from kernels.sam import SAM

        return SAM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
