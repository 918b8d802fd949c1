"""Eight extensions of the diagonal network, each a list of cases that are trained and compared with its predictions.

A case is one network on one kind of data, trained at a common grid of *relative radii* r = rho / ||theta(0)||, where
||theta(0)|| = sqrt(2 L) init is the parameter norm of the diagonal network with two features and the same ``init`` (of
a patches network with d coordinates and q windows, sqrt(d + q) init). The depth-2 diagonal network collapses at r close
to 1 on redundant data (C10), so r is its natural unit. r = 0 is GD.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr

from sambalance_tools.arrays import FloatArray
from sambalance_tools.progress import Progress, part_of
from toymodels.beyond.batch_suppression import suppression_gap
from toymodels.data import FeatureData, groups, missing, redundant, slabs, spurious
from toymodels.flows.any_depth import depth_shares
from toymodels.flows.filter_law import one_atom_loss_margin
from toymodels.flows.fully_connected import FullyConnectedFlow
from toymodels.flows.problem import FlowProblem
from toymodels.flows.solve import solve
from toymodels.metrics import hard_share
from toymodels.networks import Diagonal, Patches, PatchLayout, TwoLayer, network
from toymodels.parameters import PATCHES_ONLY, PROBE_NOISE
from toymodels.prediction import flow_problem, predict
from toymodels.rules import rule
from toymodels.simulation import simulate
from toymodels.sweep import Sweep

if TYPE_CHECKING:
    import xarray as xr

RADII = tuple(round(0.05 * i, 2) for i in range(25))
"""Relative radii, 0 to 1.2."""

REFERENCE_RADIUS = 0.5
"""Where advantages are compared: fixed beforehand, below the collapse of every network in the study."""

LEVEL = 0.1
COLLAPSED_MARGIN = 0.05
"""A run whose final loss is that of a margin below this, or whose attribute margins are, has collapsed; smaller for
small starts (:attr:`Case.nothing`)."""

BOTH_WAYS = groups([("both", 0.6, 1, 1), ("easy only", 0.2, 1, 0), ("hard only", 0.2, 0, 1)])
"""Each feature is missing in a fifth of the data, so that no network can take the two for one."""


@dataclass(frozen=True)
class Case:
    """One network on one kind of data."""

    label: str
    family: str
    """What the figures colour by."""
    tick: str
    """Where it stands on the horizontal axis of its panel."""
    panel: str
    sweep: Sweep
    """Without an axis over rho, which :func:`run_case` adds."""
    law: str = ""
    """``fully connected`` (the closed form on one atom kind), ``depth`` (C23's flow), ``products`` (the flow of
    :mod:`toymodels.flows.linear_network`) or none."""

    @property
    def nothing(self) -> float:
        """Margin below which a run has learned nothing: well under the diagonal network's at the start."""
        start = self.sweep.column("init")[0] ** self.sweep.column("depth")[0]
        return min(COLLAPSED_MARGIN, float(0.25 * start * self.sweep.column("mu_easy")[0]))

    @property
    def norm(self) -> float:
        """||theta(0)||, where rho = r ||theta(0)||: of the two-feature diagonal network, or of a patches network."""
        if isinstance(self.sweep.network, Patches):
            layout = PatchLayout(int(self.sweep.column("copies")[0]), int(self.sweep.column("noise_patches")[0]))
            rows = layout.dimension + self.sweep.network.windows(layout.patches)
            return float(np.sqrt(rows) * self.sweep.column("init")[0])
        return float(np.sqrt(2.0 * self.sweep.column("depth")[0]) * self.sweep.column("init")[0])

    def with_radii(self, radii: Sequence[float]) -> Sweep:
        """The sweep over the radii."""
        return replace(self.sweep, axes={"rho": [r * self.norm for r in radii]}, loss_levels=(LEVEL,))


@dataclass(frozen=True)
class Study:
    """One extension."""

    name: str
    title: str
    axis: str
    """Label of the ticks."""
    cases: tuple[Case, ...]
    radii: tuple[float, ...] = RADII


def run_study(
    study: Study, radii: Sequence[float] | None = None, progress: Progress | None = None, **options: Any
) -> xr.Dataset:
    """Train every case; dimensions (case, radius, seed), and the predictions beside the simulation.

    Variables: ``share``, ``hard_error``, ``easy_error`` at the loss level (NaN where it was not reached),
    ``collapsed``; ``diagonal_share``, ``diagonal_hard_error``, ``diagonal_collapsed`` (case, radius): the noise-free
    depth-2 diagonal network's flow with the same strengths and init; ``law_share``, ``law_collapsed``: the own law.
    """
    import xarray as xr

    radii = study.radii if radii is None else radii
    total = sum(case.with_radii(radii).runs * int(case.sweep.column("steps")[0]) for case in study.cases)
    done = 0
    rows: list[dict[str, np.ndarray]] = []
    for case in study.cases:
        sweep = case.with_radii(radii)
        work = sweep.runs * int(sweep.column("steps")[0])
        rows.append(run_case(case, sweep, part_of(progress, done, work, total), **options))
        done += work
    dims = {3: ("case", "radius", "seed"), 2: ("case", "radius")}
    variables = {}
    for name in rows[0]:
        stacked = np.stack([row[name] for row in rows])
        variables[name] = (dims[stacked.ndim], stacked)
    coords = {
        "case": [case.label for case in study.cases],
        "radius": list(radii),
        "seed": list(study.cases[0].sweep.seed_list),
        "family": ("case", [case.family for case in study.cases]),
        "tick": ("case", [case.tick for case in study.cases]),
        "panel": ("case", [case.panel for case in study.cases]),
        "norm": ("case", [case.norm for case in study.cases]),
    }
    configs = json.dumps({case.label: case.with_radii(radii).config() for case in study.cases})
    attrs = {"study": study.name, "level": LEVEL, "probe_noise": PROBE_NOISE, "config": configs}
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def run_case(case: Case, sweep: Sweep, progress: Progress | None, **options: Any) -> dict[str, np.ndarray]:
    """Train one case and compute its predictions; arrays ``[radius, seed]`` and ``[radius]``."""
    runs = simulate(sweep, progress=progress, **options)
    margins = runs["crossing_attribute_margin"].values[:, :, 0]
    errors = runs["crossing_probing_error"].values[:, :, 0]
    final_margin = -np.log(np.expm1(np.maximum(runs["loss"].values, 1e-12)))
    baseline = diagonal_baseline(sweep, case.norm)
    problem = flow_problem(baseline, np.arange(baseline.runs), (LEVEL,))
    found = solve(problem)
    # A flow that starts below the level has nothing to say about how the level is reached.
    easy, hard = np.where(_initial_loss(problem) > LEVEL, found.level_coefficients[0], np.nan)
    mu_easy, mu_hard = baseline.column("mu_easy"), baseline.column("mu_hard")
    sigma = sweep.column("noise_hard")[0]
    law_share, law_collapsed = _law(case, sweep)
    return {
        "share": hard_share(margins, np.ones(1), np.ones(1)),
        "easy_error": errors[..., 0],
        "hard_error": errors[..., 1],
        # The second says the same where the network goes on fitting pure noise.
        "collapsed": (final_margin < case.nothing)
        | (np.abs(runs["attribute_margin"].values).max(axis=-1) < case.nothing),
        "diagonal_share": hard_share(np.stack([easy, hard], axis=-1), mu_easy, mu_hard),
        # C2's balanced hidden weight is w_h = sqrt(u_h); the probe's closed form for it is in toymodels.probe.
        "diagonal_hard_error": ndtr(-mu_hard * np.sqrt(hard / (PROBE_NOISE**2 + sigma**2 * hard))),
        "diagonal_collapsed": np.where(np.isnan(easy).all(), False, found.collapsed),
        "law_share": law_share,
        "law_collapsed": law_collapsed,
    }


def diagonal_baseline(sweep: Sweep, norm: float) -> Sweep:
    """The noise-free depth-2 diagonal network at the same relative radii, strengths and init (one nominal start).

    For ReLU networks C17 and C18 turn this into mirrored pairs of the same norm at the same rho.
    """
    noise = ("noise_easy", "noise_hard", "noise_features", "noise_extra")
    unused = ("width", "depth", "batch", "jitter", *noise, *PATCHES_ONLY)
    values = {name: value for name, value in sweep.values.items() if name not in unused}
    rho = np.asarray(sweep.axes["rho"]) / norm * 2 * sweep.column("init")[0]
    return replace(
        sweep, network=Diagonal(), values={**values, "jitter": 0.0}, axes={"rho": rho}, seeds=1, probe_noise=0.0
    )


def _initial_loss(problem: FlowProblem) -> FloatArray:
    margins = np.einsum("nkb,kb->nb", problem.signs, problem.mu * problem.v * problem.w)
    return (problem.weights * np.logaddexp(0.0, -margins)).sum(axis=0)


def _law(case: Case, sweep: Sweep) -> tuple[np.ndarray, np.ndarray]:
    """(share, collapsed), each ``[radius, seed]``; NaN and False where the case has no law of its own."""
    share, collapsed = np.full(sweep.runs, np.nan), np.zeros(sweep.runs, dtype=bool)
    rho, seeds, init = sweep.column("rho"), sweep.column("seed").astype(int), sweep.column("init")
    mu = np.stack([sweep.column("mu_easy"), sweep.column("mu_hard")], axis=1)
    margin = one_atom_loss_margin(LEVEL)
    if case.law == "fully connected":
        assert isinstance(sweep.network, TwoLayer)
        dimension = 2 + int(sweep.column("noise_features")[0])
        first, last = sweep.network.initial_layers(seeds, init, dimension, int(sweep.column("width")[0]))
        # Pure-noise features are across the atom like x_perp: they enter through the norm of v alone.
        start = FullyConnectedFlow(first[..., :2], last, mu, mirrored=sweep.network.activation == "relu")
        share, collapsed = start.hard_share(rho, margin), rho > start.critical_rho()
    elif case.law == "products":
        found = predict(sweep, LEVEL)
        share, collapsed = found.share, found.collapsed
    elif case.law == "depth":
        jitter = sweep.column("jitter")
        depth = int(sweep.column("depth")[0])
        weights = Diagonal().initial_layers(seeds, init, jitter, np.zeros_like(init), 2, depth)[0]
        time = sweep.column("eta") * sweep.column("steps")
        share, collapsed = depth_shares(mu.T, weights.T, rho, depth, time, margin)
    return share.reshape(sweep.shape), collapsed.reshape(sweep.shape)


def suppression_gaps(mu: tuple[float, float] = (2.0, 1.0), sigma: float = 1.0) -> list[dict[str, float]]:
    """What a batch's suppression favours on GD's curve from init 0.4 (C4): rows of margin, batch size and gap."""
    rows = []
    for margin in (0.5, 1.5, 3.0):
        easy = np.geomspace(0.16, 6.0, 4000)
        hard = 0.16 * (easy / 0.16) ** (mu[1] / mu[0])
        here = int(np.argmin(np.abs(mu[0] * easy + mu[1] * hard - margin)))
        coefficients = np.array([easy[here], hard[here]])
        for batch in (1, 4, 16, 1024):
            gap = suppression_gap(batch, np.array(mu), sigma, coefficients)
            rows.append({"margin": margin, "batch": batch, "gap": round(gap, 3)})
    return rows


def studies(seeds: int = 8) -> dict[str, Study]:
    """The studies by name."""
    makers = (_heads, _widths, _data, _effects, _slabs, _noise, _batches, _depths)
    return {study.name: study for study in (make(seeds) for make in makers)}


def share_table(dataset: xr.Dataset) -> dict[str, list[float | None]]:
    """Mean hard share at the loss level by relative radius, for each case; None where no seed reached the level."""
    rows = {}
    for label in dataset["case"].values:
        shares = dataset["share"].sel(case=label).values
        known = np.isfinite(shares)
        means = np.where(known, shares, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        rows[str(label)] = [
            round(float(mean), 4) if some else None for mean, some in zip(means, known.any(axis=1), strict=True)
        ]
    return rows


def _heads(seeds: int) -> Study:
    def case(tick: str, head: str | int, panel: str, activation: str, name: str = "sam", **values: float) -> Case:
        sweep = Sweep(
            network=Patches(head, activation), data=redundant(), rule=rule(name), seeds=seeds,
            values={"width": 32, "steps": 5000, **values}, probe_noise=PROBE_NOISE,
        )  # fmt: skip
        law = "products" if rule(name).norm in ("l2", "none") else ""
        return Case(f"{activation} {tick} {panel}", f"patches {activation}", tick, panel, sweep, law=law)

    cases = []
    for activation in ("linear", "relu"):
        for cosine in (0.0, 0.5, 0.9):
            panel = f"cosine {cosine:g}"
            for head in ("local", "pooled"):
                cases.append(case(head, head, panel, activation, cosine=cosine))
        cases.append(case("LSAM", "local", "cosine 0", activation, "lsam", cosine=0.0))
        cases.append(case("ASAM", "local", "cosine 0", activation, "asam", cosine=0.0))
        for tick, several in (("local", "local"), ("2 windows", 2), ("pooled", "pooled")):
            cases.append(case(tick, several, "each feature in two patches", activation, copies=2))
        law = "fully connected"
        sweep = _sweep(activation, redundant(), seeds, width=32, steps=5000)
        cases.append(Case(f"{activation} full cosine 0", activation, "full", "cosine 0", sweep, law=law))
    radii = tuple(0.0625 * i for i in range(17))
    return Study("heads", "Shared filters under local, windowed and pooled heads", "Head", tuple(cases), radii)


def _sweep(
    name: str, data: FeatureData, seeds: int, bias: bool = False, effect: str = "full", **values: float
) -> Sweep:
    return Sweep(
        network=network(name, bias), data=data, rule=rule("sam", effect), seeds=seeds, values=values,
        probe_noise=PROBE_NOISE,
    )  # fmt: skip


def _widths(seeds: int) -> Study:
    cases = [
        Case(
            f"{name} m={width} init={init:g}", name, f"{width}", f"init {init:g}",
            _sweep(name, redundant(), seeds, width=width, init=init, eta=eta, steps=steps), law="fully connected",
        )
        for init, eta, steps in ((0.1, 0.02, 4000), (0.4, 0.02, 4000), (0.8, 0.01, 5000), (1.6, 0.005, 9000))
        for name in ("linear", "relu")
        for width in (2, 4, 8, 16, 64, 256)
    ]  # fmt: skip
    return Study("width", "Fully connected two-layer networks, redundant data", "Width $m$", tuple(cases))


def _data(seeds: int) -> Study:
    kinds = {"redundant": redundant(), "both ways": BOTH_WAYS, "easy missing": missing(), "spurious": spurious()}
    cases = [
        Case(
            f"{name} {kind} init={init:g}", name, kind, f"init {init:g}",
            _sweep(name, data, seeds, width=64, init=init, steps=5000),
        )
        for init in (0.1, 0.4)
        for name in ("diagonal", "linear", "relu")
        for kind, data in kinds.items()
    ]  # fmt: skip
    return Study("data", "Data in which the features can be told apart", "Data", tuple(cases))


def _effects(seeds: int) -> Study:
    kinds = {"both ways": BOTH_WAYS, "easy missing": missing(), "spurious": spurious()}
    cases = [
        Case(
            f"{name} {kind} {effect}", name, {"full": "SAM"}.get(effect, effect), kind,
            _sweep(name, data, seeds, effect=effect, width=64, steps=5000),
        )
        for kind, data in kinds.items()
        for name in ("diagonal", "linear", "relu")
        for effect in ("full", "weights", "jacobian")
    ]  # fmt: skip
    return Study("effects", "Which effect of SAM is left", "Effect kept", tuple(cases))


def _slabs(seeds: int) -> Study:
    settings = ((0, 1.0), (1, 1.0), (1, 1.5), (1, 2.0), (2, 2.0))
    cases = [
        Case(
            f"j={half} mu_h={mu_hard:g} init={init:g}", "relu", f"{half}, {mu_hard:g}", f"ReLU, bias, init {init:g}",
            _sweep("relu", slabs(), seeds, bias=True, slabs=half, mu_hard=mu_hard, init=init, width=64,
                   eta=0.05, steps=5000),
        )
        for init in (0.4, 1.6)
        for half, mu_hard in settings
    ]  # fmt: skip
    return Study("slabs", "Slabs as the hard feature", "Slabs $j$, strength $\\mu_h$", tuple(cases))


def _noise(seeds: int) -> Study:
    common: dict[str, Any] = {"samples": 64, "steps": 3000, "width": 16, "noise_extra": 0.5}
    cases = [
        Case(
            f"{name} sigma={sigma:g}", name, f"{sigma:g}", "noise on both features",
            _sweep(name, redundant(), seeds, **common, noise_easy=sigma, noise_hard=sigma),
            law="" if name == "diagonal" else "fully connected",
        )
        for name in ("diagonal", "linear", "relu")
        for sigma in (0.25, 0.5, 1.0)
    ]  # fmt: skip
    cases += [
        Case(
            f"{name} extra={extra}", name, f"{extra}", "further pure-noise features",
            _sweep(name, redundant(), seeds, **common, noise_easy=0.25, noise_hard=0.25, noise_features=extra),
            law="" if name == "diagonal" else "fully connected",
        )
        for name in ("diagonal", "linear", "relu")
        for extra in (2, 8, 32)
    ]  # fmt: skip
    return Study("noise", "Feature noise and pure-noise features", "Noise size / number", tuple(cases))


def _batches(seeds: int) -> Study:
    cases = [
        Case(
            f"b={batch or 'all'} sigma={sigma:g}", "diagonal", f"{batch or 'all'}", f"noise {sigma:g}, 64 samples",
            _sweep("diagonal", redundant(), seeds, samples=64, noise_easy=sigma, noise_hard=sigma, batch=batch,
                   steps=4000),
        )
        for sigma in (0.25, 1.0)
        for batch in (1, 2, 4, 8, 16, 32, 0)
    ]  # fmt: skip
    return Study("batches", "m-SAM: mini-batches with common draws", "Mini-batch size $b$", tuple(cases))


def _depths(seeds: int) -> Study:
    cases = [
        Case(
            f"L={depth} init={init:g}", "diagonal", f"{depth}", f"init {init:g}",
            _sweep("diagonal", redundant(), seeds, depth=depth, init=init, steps=20000), law="depth",
        )
        for init in (0.4, 0.7)
        for depth in (2, 3, 4, 5)
    ]  # fmt: skip
    return Study("depth", "Deeper diagonal networks", "Depth $L$", tuple(cases))
