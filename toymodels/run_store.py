"""Arrays of all runs of a sweep, filled batch by batch and labelled in the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.problem import TrainingResult
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    import xarray as xr


class RunStore:
    """Results of a sweep's runs, and the engine that trained them.

    Args:
        sweep: the sweep that was trained.
        run_steps: updates of all runs together.
    """

    def __init__(self, sweep: Sweep, run_steps: int) -> None:
        self.sweep = sweep
        self.run_steps = run_steps
        self.done = 0
        """Updates of the runs trained so far, all together."""
        self._seconds = 0.0
        self._engine = self._precision = ""
        self._arrays: dict[str, np.ndarray] = {}

    def trained(self, result: TrainingResult, run_steps: int) -> None:
        """Record one engine call; its runs did ``run_steps`` updates all together."""
        self.done += run_steps
        self._seconds += result.seconds
        self._engine, self._precision = result.engine, result.precision

    def put(self, name: str, values: np.ndarray, rows: np.ndarray) -> None:
        """Keep ``values`` of some rows in the array ``name`` of all runs."""
        if name not in self._arrays:
            self._arrays[name] = np.empty((self.sweep.runs, *values.shape[1:]), dtype=values.dtype)
        self._arrays[name][rows] = values

    def dataset(
        self, trailing: Mapping[str, tuple[str, ...]], meaning: Mapping[str, str], coords: Mapping[str, Any]
    ) -> xr.Dataset:
        """Everything, labelled.

        Args:
            trailing: for each variable, the names of its dimensions after those of the sweep (default: none).
            meaning: for each variable, a description.
            coords: coordinates of the trailing dimensions.

        Returns:
            A dataset with the sweep's axes and ``seed`` as dimensions. ``attrs["config"]`` is the JSON of
            :meth:`Sweep.config`; ``attrs`` also name engine, precision, seconds and run-steps.
        """
        import xarray as xr

        sweep = self.sweep
        variables = {
            name: (
                (*sweep.dims, *trailing.get(name, ())),
                values.reshape(*sweep.shape, *values.shape[1:]),
                {"long_name": meaning[name]},
            )
            for name, values in self._arrays.items()
        }
        axes = {name: np.asarray(axis) for name, axis in sweep.axes.items()}
        attrs = {
            "config": json.dumps(sweep.config()),
            "engine": self._engine,
            "precision": self._precision,
            "simulation_seconds": self._seconds,
            "run_steps": float(self.run_steps),
        }
        return xr.Dataset(variables, coords={**axes, "seed": list(sweep.seed_list), **coords}, attrs=attrs)
