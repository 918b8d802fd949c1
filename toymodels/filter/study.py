"""The filter law C22 compared with simulation: K features, several radii, several training-loss levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.problem import TrainingProblem
from sambalance_tools.arrays import FloatArray
from sambalance_tools.checks import require_whole
from sambalance_tools.memory import require_memory
from sambalance_tools.progress import Progress
from toymodels import theory
from toymodels.flows.problem import FlowProblem, FlowResult
from toymodels.flows.solve import solve
from toymodels.rules import rule

if TYPE_CHECKING:
    import xarray as xr

LEAST, MOST = 1e-9, 1e9
"""Weights and learning rates beyond these leave float64 when they are squared or divided by."""

TIME_LIMIT = 1e6
"""Longest training, in units of eta * steps, that is searched for a loss level."""


@dataclass(frozen=True)
class FilterRun:
    """Simulated and predicted log-gains. ``[R]`` radii, ``[T]`` moments (one per loss level), ``[K]`` features."""

    mu: FloatArray
    rho: FloatArray
    levels: tuple[float, ...]
    steps: np.ndarray
    """``[R, T]`` updates done at each moment; -1 where the flow collapses before the level."""
    simulated: FloatArray
    """``[R, T, K]`` ln a_k / a_k(0)."""
    predicted: FloatArray
    """``[R, T, K]`` the parabola at the same time."""
    halved: FloatArray
    """``[R, T, K]`` the simulation with half the learning rate, at the same time."""
    tau: FloatArray
    suppression_time: FloatArray
    """``[R, T]``."""
    eta: float
    init: float
    engine: str

    @property
    def error_estimate(self) -> FloatArray:
        """``[R, T, K]`` first-order error of the simulation: twice its change when eta is halved."""
        return 2 * np.abs(self.simulated - self.halved)

    @property
    def top(self) -> FloatArray:
        """``[R, T]`` most amplified strength mu*; infinite for GD."""
        with np.errstate(divide="ignore"):
            return theory.most_amplified_strength(self.tau, self.suppression_time, self.rho[:, None])

    @property
    def worst_ratio(self) -> float:
        """Largest deviation from a parabola over the largest first-order error of its dots.

        Per parabola, since the error changes sign along it and vanishes at some strength.
        """
        floor = 1e-9  # rounding of the float64 engine and of the flow's integration
        reached = self.steps >= 0
        deviation = np.abs(self.simulated - self.predicted)[reached].max(axis=-1)
        return float((deviation / (self.error_estimate[reached].max(axis=-1) + floor)).max())

    @property
    def extrapolated_deviation(self) -> float:
        """Largest deviation from the parabola after Richardson extrapolation of the simulation to eta = 0."""
        return float(np.nanmax(np.abs(2 * self.halved - self.simulated - self.predicted)))

    def summary(self, wall_seconds: float) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        return {
            "config": {
                "features": len(self.mu),
                "strengths": [float(self.mu[0]), float(self.mu[-1])],
                "rho": self.rho.tolist(),
                "levels": list(self.levels),
                "init": self.init,
                "eta": self.eta,
            },
            "engine": self.engine,
            "max_abs_deviation": float(np.nanmax(np.abs(self.simulated - self.predicted))),
            "max_error_estimate": float(np.nanmax(self.error_estimate)),
            "worst_deviation_over_estimate": self.worst_ratio,
            "max_abs_deviation_extrapolated": self.extrapolated_deviation,
            "most_amplified_strength": [
                {"rho": float(r), "level": level, "mu_star": float(top) if np.isfinite(top) else None}
                for r, tops in zip(self.rho, self.top, strict=True)
                for level, top in zip(self.levels, tops, strict=True)
            ],
            "wall_seconds": wall_seconds,
        }

    def table(self) -> str:
        """The short table that the command line prints."""
        lines = [
            f"{len(self.mu)} features, {len(self.rho)} radii, {len(self.levels)} levels; "
            f"eta {self.eta:g}, {self.engine}, {int(self.steps.max()):,} steps",
            f"largest deviation from the parabola {np.nanmax(np.abs(self.simulated - self.predicted)):.2e}, "
            f"{self.worst_ratio:.2f} x the first-order error of the simulation; "
            f"{self.extrapolated_deviation:.1e} after extrapolation to eta = 0",
        ]
        for r, tops in zip(self.rho, self.top, strict=True):
            shown = ", ".join(
                f"{top:.2f} at loss {level:g}" if np.isfinite(top) else ("a line" if r == 0 else "collapsed")
                for level, top in zip(self.levels, tops, strict=True)
            )
            lines.append(f"rho {r:g}: mu* {shown}")
        return "\n".join(lines)

    def dataset(self) -> xr.Dataset:
        """Everything, labelled."""
        import json

        import xarray as xr

        dims = ("rho", "level", "strength")
        return xr.Dataset(
            {
                "simulated_log_gain": (dims, self.simulated),
                "predicted_log_gain": (dims, self.predicted),
                "error_estimate": (dims, self.error_estimate),
                "tau": (dims[:2], self.tau),
                "suppression_time": (dims[:2], self.suppression_time),
                "step": (dims[:2], self.steps),
            },
            coords={"rho": self.rho, "level": list(self.levels), "strength": self.mu},
            attrs={"config": json.dumps(self.summary(0.0)["config"]), "engine": self.engine},
        )


def run_filter(
    features: int = 64,
    strengths: tuple[float, float] = (0.1, 2.0),
    rho: Sequence[float] = (0.0, 0.1, 0.15),
    init: float = 0.02,
    eta: float = 1e-3,
    levels: Sequence[float] = (0.6, 0.3, 0.1),
    engine: str = "auto",
    progress: Progress | None = None,
) -> FilterRun:
    """Train K redundant features by GD and SAM and predict every log-gain from two numbers per moment, tau and S.

    The moments are the flow's times at ``levels``; simulation and prediction are compared at the same time.

    Args:
        features: K >= 2.
        strengths: lowest and highest mu_k; the others are evenly spaced.
        rho: radii; 0 is GD.
        init: a_k(0) of every feature.
        eta: learning rate of the simulation.
        levels: training-loss levels below the loss at the start.
        engine: as in :func:`kernels.train` (run in float64).

    Raises:
        ValueError: for a value that is not allowed.
    """
    require_whole("features", features, least=2)
    low, high = strengths
    if not 0 < low < high < np.inf:
        raise ValueError(f"strengths={strengths}; allowed: 0 < low < high, finite")
    for name, value in (("init", init), ("eta", eta)):
        if not LEAST <= value <= MOST:
            raise ValueError(f"{name}={value:g}; allowed: a number in [{LEAST:g}, {MOST:g}]")
    radii = np.array(sorted(set(float(r) for r in rho)))
    if (radii < 0).any() or not np.isfinite(radii).all():
        raise ValueError(f"rho={radii.tolist()}; allowed: >= 0")
    # Of the flow's solver, a hundred numbers per feature and radius.
    require_memory(f"features={features}, {len(radii)} radii", features * len(radii), 800, "features of a run")
    mu = np.linspace(low, high, features)
    start_loss = float(np.log1p(np.exp(-(mu * init**2).sum())))
    ordered = tuple(sorted((float(level) for level in levels), reverse=True))
    if not ordered or not ordered[-1] > 0 or not ordered[0] < start_loss:
        raise ValueError(f"levels={list(ordered)}; allowed: between 0 and the loss at the start, {start_loss:.4g}")

    times = _flow(mu, radii, init, ordered, np.full(len(radii), TIME_LIMIT)).level_time.T
    steps = np.where(np.isnan(times), -1, np.rint(np.nan_to_num(times) / eta)).astype(int)
    simulated, used = _simulate(mu, radii, init, eta, steps, engine, progress)
    halved, _ = _simulate(mu, radii, init, eta / 2, np.where(steps < 0, -1, 2 * steps), engine, progress)

    shape = steps.shape
    flat = _flow(mu, np.repeat(radii, shape[1]), init, (), np.maximum(steps.reshape(-1), 1) * eta)
    assert flat.tau is not None
    assert flat.suppression_time is not None
    tau = np.where(steps < 0, np.nan, flat.tau.reshape(shape))
    suppression = np.where(steps < 0, np.nan, flat.suppression_time.reshape(shape))
    predicted = theory.filter_log_gain(mu, tau[..., None], suppression[..., None], radii[:, None, None])
    return FilterRun(
        mu, radii, ordered, steps, simulated, predicted, halved, tau, suppression, eta, init, used
    )  # fmt: skip


def _flow(mu: FloatArray, rho: FloatArray, init: float, levels: tuple[float, ...], time: FloatArray) -> FlowResult:
    runs = len(rho)
    start = np.full((len(mu), runs), init)
    ones = np.ones((1, len(mu)))
    strengths = np.repeat(mu[:, None], runs, axis=1)
    problem = FlowProblem(
        strengths, ones, np.ones((1, runs)), start, start, rho, rule("sam"), time, levels, init**2 / 1e4
    )
    return solve(problem, rtol=1e-10)


def _simulate(
    mu: FloatArray,
    rho: FloatArray,
    init: float,
    eta: float,
    steps: np.ndarray,
    engine: str,
    progress: Progress | None,
) -> tuple[FloatArray, str]:
    """(``[R, T, K]`` log-gains after ``steps`` ``[R, T]`` updates, name of the engine); NaN for -1 steps."""
    from kernels.engine import train

    wanted = np.unique(steps[steps >= 0])
    if len(wanted) == 0:
        raise ValueError(f"rho={rho.tolist()}: every run collapses before the first level; allowed: smaller rho")
    start = np.full((1, len(mu)), init)
    result = train(
        TrainingProblem(
            features=mu[None, None, :],
            labels=np.ones((1, 1)),
            initial_layers=(start, start),
            eta=eta,
            rho=rho,
            steps=int(wanted[-1]),
            record_steps=wanted,
        ),
        engine=engine,
        precision="float64",
        progress=progress,
    )
    position = np.searchsorted(wanted, np.maximum(steps, 0))
    coefficients = np.take_along_axis(result.records.coefficients, position[..., None], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = 0.5 * np.log(coefficients / init**2)
    return np.where((steps < 0)[..., None], np.nan, gains), result.engine
