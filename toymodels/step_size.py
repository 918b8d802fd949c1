"""Is the learning rate small enough for the flow's lines? Known beforehand, from a few runs of the sweep itself.

C20: a training follows its flow up to an error of first order in eta, where the gradient scale N stays away from 0. A
run that passes close to N = 0 (last-layer SAM near its collapse, say) hops over it in steps of size eta, and may then
end in another phase than the flow. What halving eta changes is half of a first-order error, so a phase that changes
when eta is halved is one that the lines may miss. The theory itself is not asked: agreement with it stays a test.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from toymodels import metrics
from toymodels.metrics import Phase
from toymodels.prediction import no_flow_reason
from toymodels.simulation import simulate
from toymodels.sweep import Sweep

PILOT_CELLS = 12
"""Largest side of the grid of runs that are trained for it."""

ALLOWED_CHANGE = 0.01
"""Share of cells whose phase may change when eta is halved."""

MOST_FINER = 16
"""Largest factor by which eta is lowered in the search."""


@dataclass(frozen=True)
class StepSize:
    """How far a sweep's learning rate is from one that its phases do not notice."""

    eta: float
    """The largest learning rate of the sweep."""
    changed: float
    """Share of cells whose phase changes when eta is halved."""
    enough: int | None
    """Factor by which eta must be lowered for at most :data:`ALLOWED_CHANGE`; None if none up to 16 is enough."""
    lowered_from: float | None = None
    """The default learning rate, where this one was chosen in its place."""

    @property
    def is_fine(self) -> bool:
        """Whether the phases do not notice."""
        return self.changed <= ALLOWED_CHANGE

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` and stored diagrams hold."""
        return asdict(self)

    def line(self) -> str:
        """One line for the screen."""
        chosen = "" if self.lowered_from is None else f" in place of {self.lowered_from:g}"
        return f"eta {self.eta:g}{chosen}: halving it changes the phase of {self.changed:.1%} of the cells"

    def advice(self, sweep: Sweep) -> str:
        """What to change, for a learning rate that is not fine."""
        if self.enough is None:
            return f"no eta down to {self.eta / MOST_FINER:g} is small enough: runs that pass close to N = 0 (C20)"
        steps = int(sweep.column("steps").max()) * self.enough
        return f"try --eta {self.eta / self.enough:g} --steps {steps}"


def measure(sweep: Sweep, level: float, engine: str = "auto", precision: str | None = None) -> StepSize | None:
    """Train a thin grid of the sweep from its nominal start with eta, eta/2, ..., until its phases stay.

    Args:
        sweep: a sweep with one axis or more.
        level: the training-loss level at which phases are read.
        engine, precision: as in :func:`kernels.train`.

    Returns:
        None where no flow describes the sweep, so that its lines are approximate at any learning rate.
    """
    if no_flow_reason(sweep) is not None:
        return None
    pilot = replace(thinned(sweep.nominal(), PILOT_CELLS), record_steps=(), probe_noise=0.0)

    def phases(factor: int) -> np.ndarray:
        part = pilot.finer(factor)
        return metrics.phases(simulate(part, engine=engine, precision=precision), part, level)

    factor, first, coarse = 1, None, phases(1)
    while True:
        fine = phases(2 * factor)
        # A run that ends just before or after its level says nothing about eta; one that is late to collapse does.
        late = (coarse == Phase.UNFINISHED) ^ (fine == Phase.UNFINISHED)
        collapses = (coarse == Phase.COLLAPSE) | (fine == Phase.COLLAPSE)
        changed = float(((coarse != fine) & (~late | collapses)).mean())
        first = changed if first is None else first
        if changed <= ALLOWED_CHANGE or factor == MOST_FINER:
            break
        factor, coarse = 2 * factor, fine
    enough = factor if changed <= ALLOWED_CHANGE else None
    return StepSize(float(sweep.column("eta").max()), first, enough)


def choose_eta(
    sweep: Sweep, level: float, engine: str = "auto", precision: str | None = None
) -> tuple[Sweep, StepSize | None]:
    """The sweep with a learning rate that its phases do not notice, and what was found; the time stays the same."""
    found = measure(sweep, level, engine, precision)
    if found is None or found.is_fine or found.enough is None:
        return sweep, found
    finer = sweep.finer(found.enough)
    measured = measure(finer, level, engine, precision)
    assert measured is not None
    record = sweep.record_steps  # the first step is still the first
    return replace(finer, record_steps=record), replace(measured, lowered_from=found.eta)


def thinned(sweep: Sweep, most: int) -> Sweep:
    """The sweep with every axis thinned to at most ``most`` values, both ends kept."""
    axes = {}
    for name, axis in sweep.axes.items():
        values = np.asarray(axis)
        axes[name] = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).astype(int))]
    return replace(sweep, axes=axes)
