"""Many small ODEs at once: Dormand-Prince 5(4) with an own step size per run, first events and a stop per run.

Runs are columns: a state is ``[n, B]``. One Python loop advances all runs, each by its own accepted step, so thousands
of flows cost about as much as the longest of them. Tableau and dense output are those of SciPy's ``RK45``
(:mod:`toymodels.dormand_prince`); SciPy's ``solve_ivp`` is the oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.progress import Progress
from toymodels.flows import dormand_prince as tableau

CHUNK = 16_384
"""Runs advanced together: large enough that array work outweighs Python's, small enough to stay in the caches."""

ROOT_ITERATIONS = 14
"""Iterations that locate an event within a step, to rounding for smooth event functions."""


class System(Protocol):
    """A batch of ODEs dy/dx = rates(x, y)."""

    def take(self, rows: np.ndarray) -> System:
        """The system restricted to some runs."""

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """``[n, B]`` derivatives at ``x`` ``[B]``, ``y`` ``[n, B]``."""

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """``[E, B]`` functions whose first change from positive to non-positive is located."""

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        """``[B]`` runs to stop, given which events ``[E, B]`` have happened."""


@dataclass(frozen=True)
class Integration:
    """Results of :func:`integrate`."""

    x: FloatArray
    """``[B]`` where each run stopped."""
    y: FloatArray
    """``[n, B]`` state there."""
    event_x: FloatArray
    """``[E, B]`` first event; NaN if it did not happen. An event function that starts non-positive happens at once."""
    event_y: FloatArray
    """``[E, n, B]`` state at the event."""
    stalled: np.ndarray
    """``[B]`` runs whose step size fell to rounding (a singularity) or that used up their steps."""
    samples: FloatArray | None
    """``[T, n, B]`` states at the requested ``sample_x``; NaN past the stop."""


def integrate(
    system: System,
    start: FloatArray,
    x_end: FloatArray | float,
    rtol: float = 1e-7,
    atol: float = 1e-10,
    sample_x: FloatArray | None = None,
    max_steps: int = 20_000,
    progress: Progress | None = None,
) -> Integration:
    """Integrate every run from x = 0 to ``x_end`` (or until finished).

    Args:
        system: the rates, events and stopping rule.
        start: ``[n, B]`` initial states.
        x_end: end of every run, a number or ``[B]``, > 0.
        rtol, atol: bounds on each accepted step's estimated error, per component.
        sample_x: increasing points at which all runs' states are wanted.
        max_steps: bound on the steps of a run.
        progress: called with (runs done, runs).
    """
    runs = start.shape[1]
    ends = np.broadcast_to(np.asarray(x_end, dtype=float), (runs,))
    parts = []
    for first in range(0, max(runs, 1), CHUNK):
        rows = np.arange(first, min(first + CHUNK, runs))
        part = _Chunk(system.take(rows), start[:, rows], ends[rows], rtol, atol, sample_x)
        part.run(max_steps)
        parts.append(part)
        if progress is not None:
            progress(int(rows[-1]) + 1 if len(rows) else 0, runs)

    def joined(name: str) -> FloatArray:
        return np.concatenate([getattr(part, name) for part in parts], axis=-1)

    return Integration(
        x=joined("x"),
        y=joined("y"),
        event_x=joined("event_x"),
        event_y=joined("event_y"),
        stalled=joined("stalled").astype(bool),
        samples=None if sample_x is None else joined("samples"),
    )


@dataclass(frozen=True)
class _Step:
    """Accepted steps of some runs, kept until the events within them are located."""

    rows: np.ndarray
    x: FloatArray
    h: FloatArray
    y: FloatArray
    powers: FloatArray
    """``[4, n, B]`` coefficients of theta^1..theta^4 of y(x + theta h) - y(x)."""

    @classmethod
    def of(
        cls, which: np.ndarray, rows: np.ndarray, x: FloatArray, h: FloatArray, y: FloatArray, stages: list[FloatArray]
    ) -> _Step:
        slopes = np.stack([k[:, which] for k in stages])
        powers = np.einsum("sp,snb->pnb", tableau.P, slopes) * h[which]
        return cls(rows[which], x[which], h[which], y[:, which], powers)

    @classmethod
    def joined(cls, steps: list[_Step]) -> _Step:
        return cls(
            *(np.concatenate([getattr(s, f) for s in steps], axis=-1) for f in ("rows", "x", "h", "y", "powers"))
        )

    def at(self, theta: FloatArray) -> FloatArray:
        p = self.powers
        return self.y + theta * (p[0] + theta * (p[1] + theta * (p[2] + theta * p[3])))


class _Chunk:
    def __init__(
        self,
        system: System,
        start: FloatArray,
        ends: FloatArray,
        rtol: float,
        atol: float,
        sample_x: FloatArray | None,
    ) -> None:
        self.system, self.ends, self.rtol, self.atol, self.sample_x = system, ends, rtol, atol, sample_x
        self.x = np.zeros(start.shape[1])
        self.y = np.array(start, dtype=float)
        self.happened = system.events(self.x, self.y) <= 0
        self.event_x = np.where(self.happened, 0.0, np.nan)
        self.event_y = np.where(self.happened[:, None, :], self.y, np.nan)
        self.crossings: list[tuple[np.ndarray, _Step]] = []
        self.stalled = np.zeros(start.shape[1], dtype=bool)
        self.samples = None if sample_x is None else np.full((len(sample_x), *start.shape), np.nan)
        if self.samples is not None and sample_x is not None:
            self.samples[np.asarray(sample_x) == 0] = start

    def run(self, max_steps: int) -> None:
        """Advance all runs, then locate the events."""
        rows = np.flatnonzero(~self.system.finished(self.y, self.happened) & (self.ends > 0))
        system = self.system.take(rows)
        x, y, ends = self.x[rows], self.y[:, rows], self.ends[rows]
        slope = system.rates(x, y)
        relative_rate = (np.abs(slope) / np.maximum(np.abs(y), 1e-2)).max(0, initial=1e-6)
        h = np.minimum(0.1 * self.rtol**0.2 / relative_rate, ends)
        for _ in range(max_steps):
            if len(rows) == 0:
                break
            h = np.minimum(h, ends - x)
            new, error, stages = self._attempt(system, x, y, h, slope)
            ok = error <= 1  # NaN is a rejection
            stuck = ~ok & (h <= 1e-13 * np.maximum(x, 1e-3))
            new_x = x + h
            if ok.any():
                self._observe(ok, rows, system, x, h, y, new_x, new, stages)
            x, y, slope = np.where(ok, new_x, x), np.where(ok, new, y), np.where(ok, stages[6], slope)
            factor = 0.9 * np.where(np.isfinite(error), np.maximum(error, 1e-8), 1e10) ** -0.2
            h = h * np.clip(factor, 0.2, np.where(ok, 5.0, 1.0))
            leave = stuck | (x >= ends * (1 - 1e-14)) | (ok & system.finished(y, self.happened[:, rows]))
            if leave.any():
                gone, stay = rows[leave], np.flatnonzero(~leave)
                self.x[gone], self.y[:, gone], self.stalled[gone] = x[leave], y[:, leave], stuck[leave]
                rows, x, y, h, slope, ends = rows[stay], x[stay], y[:, stay], h[stay], slope[:, stay], ends[stay]
                system = system.take(stay)
        self.x[rows], self.y[:, rows], self.stalled[rows] = x, y, True
        self._locate_events()

    def _attempt(
        self, system: System, x: FloatArray, y: FloatArray, h: FloatArray, slope: FloatArray
    ) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
        """One Dormand-Prince step: the new state, its error relative to the tolerance, and the seven slopes."""
        stages = [slope]
        for i in range(1, 6):
            stages.append(system.rates(x + tableau.C[i] * h, y + h * _combine(tableau.A[i, :i], stages)))
        new = y + h * _combine(tableau.B, stages)
        stages.append(system.rates(x + h, new))
        scale = self.atol + self.rtol * np.maximum(np.abs(y), np.abs(new))
        return new, np.abs(h * _combine(tableau.E, stages) / scale).max(0), stages

    def _observe(
        self,
        ok: np.ndarray,
        rows: np.ndarray,
        system: System,
        x: FloatArray,
        h: FloatArray,
        y: FloatArray,
        new_x: FloatArray,
        new: FloatArray,
        stages: list[FloatArray],
    ) -> None:
        """Keep the steps in which an event first happens; fill requested samples on SciPy's quartic interpolant."""
        crossed = (system.events(new_x, new) <= 0) & ok & ~self.happened[:, rows]
        hit = np.flatnonzero(crossed.any(axis=0))
        if len(hit):
            self.crossings.append((crossed[:, hit], _Step.of(hit, rows, x, h, y, stages)))
            self.happened[:, rows] |= crossed
        if self.samples is None or self.sample_x is None:
            return
        for t, point in enumerate(self.sample_x):
            inside = np.flatnonzero(ok & (point > x) & (point <= new_x))
            if len(inside):
                step = _Step.of(inside, rows, x, h, y, stages)
                self.samples[t][:, step.rows] = step.at((point - step.x) / step.h)

    def _locate_events(self) -> None:
        """Find the root of every event within its kept step, all of them at once."""
        if not self.crossings:
            return
        crossed = np.concatenate([c for c, _ in self.crossings], axis=1)
        steps = _Step.joined([step for _, step in self.crossings])
        event, which = np.nonzero(crossed)
        step = _Step(steps.rows[which], steps.x[which], steps.h[which], steps.y[:, which], steps.powers[..., which])
        system = self.system.take(step.rows)

        def value(theta: FloatArray) -> FloatArray:
            return system.events(step.x + theta * step.h, step.at(theta))[event, np.arange(len(event))]

        theta = _illinois(value, len(event))
        self.event_x[event, step.rows] = step.x + theta * step.h
        self.event_y[event, :, step.rows] = step.at(theta).T


def _illinois(value: Callable[[FloatArray], FloatArray], count: int) -> FloatArray:
    """Roots in [0, 1] of ``count`` functions positive at 0 and non-positive at 1: regula falsi, Illinois variant."""
    low, high = np.zeros(count), np.ones(count)
    at_low, at_high = value(low), value(high)
    stayed = np.zeros(count)  # 1: the lower end stayed in the last iteration, -1: the upper one
    for _ in range(ROOT_ITERATIONS):
        span = at_low - at_high
        middle = low + (high - low) * np.where(span > 0, at_low / np.where(span > 0, span, 1.0), 0.5)
        found = value(middle)
        after = found <= 0
        # The end that stays twice has its value halved, which keeps the bracket shrinking from both sides.
        at_low = np.where(after, np.where(stayed > 0, at_low * 0.5, at_low), found)
        at_high = np.where(after, found, np.where(stayed < 0, at_high * 0.5, at_high))
        stayed = np.where(after, 1.0, -1.0)
        low, high = np.where(after, low, middle), np.where(after, middle, high)
    return high


def _combine(coefficients: FloatArray, slopes: list[FloatArray]) -> FloatArray:
    return sum((c * k for c, k in zip(coefficients, slopes, strict=True) if c != 0), np.zeros(()))
