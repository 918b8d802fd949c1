"""The predictions (R1, R2, ...) of the theory for real data: statements, measurements and decision rules.

    from realdata.predictions import PREDICTIONS

Each prediction is a module with a constant ``PREDICTION``; ``python -m realdata predict`` trains and judges.
"""

from __future__ import annotations

from realdata.predictions import (
    r1_probing,
    r2_weights,
    r3_responses,
    r4_contraction,
    r5_radius,
    r6_effects,
    r7_filter,
    r8_heads,
    r12_halves,
    r13_range,
)
from realdata.predictions.data import PredictionData, prediction_data
from realdata.predictions.dynamic_range import dynamic_range
from realdata.predictions.intervals import SeedInterval
from realdata.predictions.prediction import (
    ABSENT,
    FAILS,
    HOLDS,
    NO_RANGE,
    REVERSED,
    UNDECIDED,
    Evidence,
    Finding,
    RealPrediction,
    combine,
)
from realdata.predictions.runs import Design, base_settings, trainings

PREDICTIONS = {
    module.PREDICTION.name: module.PREDICTION
    for module in (
        r1_probing, r2_weights, r3_responses, r4_contraction, r5_radius, r6_effects, r7_filter, r8_heads, r12_halves,
        r13_range,
    )
}  # fmt: skip
"""All predictions by name, in order."""

__all__ = [
    "ABSENT",
    "FAILS",
    "HOLDS",
    "NO_RANGE",
    "PREDICTIONS",
    "REVERSED",
    "UNDECIDED",
    "Design",
    "Evidence",
    "Finding",
    "PredictionData",
    "RealPrediction",
    "SeedInterval",
    "base_settings",
    "combine",
    "dynamic_range",
    "prediction_data",
    "trainings",
]  # fmt: skip
