"""Two-feature toy models of what SAM does to features: simulated, analytic, and the two side by side.

    >>> from toymodels import Sweep, share_at_level, simulate
    >>> sweep = Sweep(axes={"rho": [0.0, 0.5]}, seeds=1, values={"jitter": 0.0})
    >>> share_at_level(simulate(sweep), sweep, level=0.1)[:, 0].round(2).tolist()
    [0.17, 0.28]

Names are imported when first used, so that ``import toymodels`` and ``--help`` cost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from toymodels._shadowing import check_kernels

if TYPE_CHECKING:
    from toymodels.data import (
        FeatureData,
        data_kind,
        groups,
        label_noise,
        missing,
        redundant,
        slabs,
        spurious,
        uneven,
    )
    from toymodels.metrics import Phase, advantage, gini, hard_share, lorenz, phases, share_at_level
    from toymodels.networks import Diagonal, Patches, PatchLayout, TwoLayer, network
    from toymodels.phase_diagram.own_metrics import map_metric
    from toymodels.phase_diagram.report import Report
    from toymodels.phase_diagram.study import Diagram, diagram_sweep
    from toymodels.rules import UpdateRule, rule
    from toymodels.simulation import save_dataset, simulate
    from toymodels.sweep import Sweep

check_kernels()

_HOMES = {
    "data": (
        "FeatureData",
        "data_kind",
        "groups",
        "label_noise",
        "missing",
        "redundant",
        "slabs",
        "spurious",
        "uneven",
    ),
    "phase_diagram.own_metrics": ("map_metric",),
    "phase_diagram.report": ("Report",),
    "phase_diagram.study": ("Diagram", "diagram_sweep"),
    "metrics": ("Phase", "advantage", "gini", "hard_share", "lorenz", "phases", "share_at_level"),
    "networks": ("Diagonal", "PatchLayout", "Patches", "TwoLayer", "network"),
    "rules": ("UpdateRule", "rule"),
    "simulation": ("save_dataset", "simulate"),
    "sweep": ("Sweep",),
}

__all__ = [
    "Diagonal",
    "Diagram",
    "FeatureData",
    "PatchLayout",
    "Patches",
    "Phase",
    "Report",
    "Sweep",
    "TwoLayer",
    "UpdateRule",
    "advantage",
    "data_kind",
    "diagram_sweep",
    "gini",
    "groups",
    "hard_share",
    "label_noise",
    "lorenz",
    "map_metric",
    "missing",
    "network",
    "phases",
    "redundant",
    "rule",
    "save_dataset",
    "share_at_level",
    "simulate",
    "slabs",
    "spurious",
    "uneven",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"toymodels.{module}"), name)
    raise AttributeError(f"module 'toymodels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
