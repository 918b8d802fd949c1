"""How thousands of small trainings run at once: one contract, several engines, one SAM for torch modules."""

from kernels.engine import available_engines, train
from kernels.problem import Crossings, Records, Status, TrainingProblem, TrainingResult

__all__ = ["Crossings", "Records", "Status", "TrainingProblem", "TrainingResult", "available_engines", "train"]
