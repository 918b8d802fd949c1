"""What the theory says about a sweep: the flow of every run, and the analytic boundaries as fields over the sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sambalance_tools.arrays import FloatArray
from toymodels import theory
from toymodels.data import atom_tables, redundant
from toymodels.flows.collapse_boundary import collapse_boundary_rho
from toymodels.flows.filter_law import FilterSystem
from toymodels.flows.fully_connected import FullyConnectedFlow
from toymodels.flows.linear_network import LinearNetworkFlow, in_own_basis
from toymodels.flows.problem import FlowProblem
from toymodels.flows.solve import solve
from toymodels.metrics import BALANCED_SHARES, NEGLIGIBLE_ADVANTAGE, classify, hard_share
from toymodels.networks import Diagonal, Patches, PatchLayout, TwoLayer
from toymodels.sweep import Sweep

PHASE_RTOL = 1e-5
"""Tolerance of flows whose phase is wanted; it moves a boundary by less than a thousandth of a typical scale."""

REFINEMENTS = 2
SECTIONS = 8
"""Each refinement cuts the stretch in which a flow begins to collapse into so many: in the end 1/64 of a cell. The
points of a refinement are integrated together, which costs little more than one of them."""


@dataclass(frozen=True)
class Boundary:
    """A curve over the sweep, as the zero level of a field."""

    key: str
    name: str
    claim: str
    """Number of the claim in docs/theory.md, or ``flow`` where only the flow gives it."""
    field: FloatArray
    """Shape of the sweep; the boundary is where it changes sign. NaN where the boundary has no meaning."""

    @property
    def label(self) -> str:
        """Name for legends, with the claim's number where there is one."""
        return self.name if self.claim == "flow" else f"{self.name} ({self.claim})"


@dataclass(frozen=True)
class FlowPrediction:
    """The flow counterpart of a simulated sweep at one loss level."""

    rows: np.ndarray
    """Runs of the sweep that were integrated (flat indices)."""
    share: FloatArray
    """``[rows]`` hard share at the level; NaN where it was not reached in time."""
    phase: np.ndarray
    """``[rows]`` :class:`toymodels.metrics.Phase`."""
    collapsed: np.ndarray
    """``[rows]``."""


def no_flow_reason(sweep: Sweep) -> str | None:
    """Why the reduced flows do not describe this sweep exactly (None if they do, up to O(eta))."""
    reasons = []
    if not isinstance(sweep.network, Diagonal) and not is_linear_flow(sweep):
        kind = "patches" if isinstance(sweep.network, Patches) else f"two-layer {sweep.network.name}"
        reasons.append(f"{kind} network: compared with the diagonal network of the same norm")
    elif isinstance(sweep.network, Patches) and sweep.network.activation == "relu":
        reasons.append("ReLU: compared with the linear network of half the norm squared (C18)")
    elif isinstance(sweep.network, Diagonal) and (sweep.column("depth") != 2).any():
        reasons.append("depth > 2: compared with depth 2")
    if sweep.data.kind == "slabs":
        reasons.append("slabs: the hard feature is compared with a linear one")
    if sweep.loss != "logistic":
        reasons.append(f"{sweep.loss} loss: compared with the logistic one")
    noise = ("noise_easy", "noise_hard", "noise_features", "noise_patches")
    reasons += [f"{name} > 0: compared with noise-free data" for name in noise if (sweep.column(name) > 0).any()]
    if (sweep.column("sam_from") > 0).any() or (sweep.column("sam_until") < sweep.column("steps")).any():
        reasons.append("SAM in some steps: compared with SAM in all")
    extras = (("weight_decay", "weight decay"), ("momentum", "momentum"), ("batch", "mini-batches"))
    reasons += [f"{label}: compared without" for name, label in extras if (sweep.column(name) > 0).any()]
    return "; ".join(reasons) or None


def is_linear_flow(sweep: Sweep) -> bool:
    """Whether the flow is that of a linear network with one hidden layer, from each run's own random start."""
    network = sweep.network
    linear = isinstance(network, TwoLayer) and network.activation == "linear" and not network.bias
    known = sweep.rule.norm in ("l2", "none") and sweep.rule.norm_over != "feature"
    return (isinstance(network, Patches) or linear) and known


def linear_flow_problem(sweep: Sweep, rows: np.ndarray, levels: tuple[float, ...]) -> LinearNetworkFlow:
    """The exact flow of linear two-layer and patches networks; ReLU patches by C18's rescaled equivalent."""

    def column(name: str) -> FloatArray:
        return sweep.column(name)[rows]

    rho, time = column("rho"), column("eta") * column("steps")
    network = sweep.network
    parts = []
    features = len(sweep.data.features)
    _, structure = sweep.structure()
    chosen = structure[rows]
    for values in np.unique(chosen, axis=0):
        some = np.flatnonzero((chosen == values).all(axis=1))
        first, last = sweep.initial_layers(rows[some])
        named = dict(zip(sweep.structure()[0], values.tolist(), strict=True))
        if isinstance(network, Patches):
            layout = PatchLayout(named["copies"], named["noise_patches"], named["noise_features"])
            windows = network.windows(layout.patches)
            placed = layout.arrangement(column("cosine")[some])[:, :, :2, :2]
            readout = placed.reshape(len(some), windows, -1, 2, 2).sum(axis=2).transpose(3, 2, 1, 0)
        else:
            last = last[:, None, :]
            readout = np.broadcast_to(np.eye(features)[:, :, None, None], (features, features, 1, len(some)))
        # Windows without a feature never move, nor do filters across the patterns: the flow is without them.
        seen = (readout != 0).any(axis=(0, 1, 3))
        start = np.concatenate([first[:, :, :features].transpose(0, 2, 1), last[:, seen]], axis=1)
        parts.append((some, in_own_basis(start), readout[:, :, seen]))
    size = max(part[1].shape[0] for part in parts), max(part[1].shape[1] for part in parts)
    start, readout = np.zeros((*size, len(rows))), np.zeros((features, features, size[0] - features, len(rows)))
    for some, own, sees in parts:
        start[: own.shape[0], : own.shape[1], some] = own
        readout[:, :, : sees.shape[2], some] = sees
    if isinstance(network, Patches) and network.activation == "relu":
        time, rho = theory.relu_pair_equivalent(time, rho)
        start = start / np.sqrt(2.0)
    atoms = _atoms(sweep, rows)
    return LinearNetworkFlow(start, readout, *atoms, rho, sweep.rule, time, levels, sweep.collapse_threshold)


def _atoms(sweep: Sweep, rows: np.ndarray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(mu ``[K, B]``, signs ``[N, K, B]``, weights ``[N, B]``) of runs ``rows``."""

    def column(name: str) -> FloatArray:
        return sweep.column(name)[rows]

    # The flow knows no slabs: their hard feature is compared with a linear one.
    data = redundant() if sweep.data.kind == "slabs" else sweep.data
    tables, run_row = atom_tables(data, column, len(rows))
    weights = np.stack([table.weights for table in tables], axis=1)[:, run_row]
    signs = np.stack([table.signs for table in tables], axis=2)[:, :, run_row]
    return sweep.strengths()[rows].T, signs, weights


def flow_of(sweep: Sweep, rows: np.ndarray, levels: tuple[float, ...]) -> FlowProblem | LinearNetworkFlow:
    """The flow that runs ``rows`` are compared with; :func:`no_flow_reason` says where it is not theirs."""
    if is_linear_flow(sweep):
        return linear_flow_problem(sweep, rows, levels)
    return flow_problem(sweep, rows, levels)


def flow_problem(sweep: Sweep, rows: np.ndarray, levels: tuple[float, ...]) -> FlowProblem:
    """The flow of runs ``rows``: of the diagonal network itself, of C18's rescaled equivalent for ReLU."""

    def column(name: str) -> FloatArray:
        return sweep.column(name)[rows]

    mu, signs, weights = _atoms(sweep, rows)
    rho, time = column("rho"), column("eta") * column("steps")
    if isinstance(sweep.network, Diagonal):
        layers = sweep.network.initial_layers(
            column("seed").astype(int), column("init"), column("jitter"), column("imbalance"), len(mu), 2
        )
        w, v = layers[0].T, layers[-1].T
    else:
        scale = column("init")
        if sweep.network.activation == "relu":
            time, rho = theory.relu_pair_equivalent(time, rho)
            # A mirrored pair holds each weight twice, so the equivalent of the same norm starts lower by sqrt(2) (C17).
            scale = scale / np.sqrt(2.0)
        v = w = np.stack([scale] * len(mu))
    return FlowProblem(mu, signs, weights, v, w, rho, sweep.rule, time, levels, sweep.collapse_threshold)


def predict(sweep: Sweep, level: float, rows: np.ndarray | None = None) -> FlowPrediction:
    """Integrate the flows of ``rows`` (default: every run) up to a loss level and classify them."""
    rows = np.arange(sweep.runs) if rows is None else rows
    result = solve(flow_of(sweep, rows, (level,)), rtol=PHASE_RTOL)
    share = hard_share(result.level_coefficients[0].T, sweep.column("mu_easy")[rows], sweep.column("mu_hard")[rows])
    reached = ~np.isnan(result.level_time[0])
    return FlowPrediction(rows, share, classify(share, reached, result.collapsed), result.collapsed)


def boundaries(sweep: Sweep, prediction: FlowPrediction, level: float) -> list[Boundary]:
    """The analytic boundaries of a fully predicted sweep: collapse, N = N* at the start, hard shares at the level."""
    rows = np.arange(sweep.runs)
    problem = flow_of(sweep, rows, (level,))
    found: list[Boundary] = []
    by_filter = isinstance(problem, FlowProblem) and FilterSystem.applies(problem)
    if isinstance(problem, FlowProblem) and by_filter and sweep.rule.name != "gd" and (problem.rho > 0).any():
        log_rho = np.log(np.maximum(problem.rho, 1e-12))
        if len(problem.mu) == 2:
            columns = np.concatenate([problem.mu, problem.v])
            distinct, back = np.unique(columns, axis=1, return_inverse=True)
            critical = collapse_boundary_rho(*distinct)[back.reshape(-1)]
            found.append(
                Boundary("collapse", "collapse boundary", "C10", (log_rho - np.log(critical)).reshape(sweep.shape))
            )
        elif prediction.collapsed.any():
            found.append(_collapse_by_flow(problem, prediction.collapsed.reshape(sweep.shape), "C22"))
        threshold = theory.balance_threshold_rho(tuple(problem.mu), tuple(problem.v))
        gap = np.where(problem.mu[0] > problem.mu[1], log_rho - np.log(threshold), np.nan)
        found.append(Boundary("n_star", "$N = N^*$ at the start", "C7", gap.reshape(sweep.shape)))
    elif (one_window := _one_window_critical_rho(sweep, problem)) is not None:
        field = (np.log(np.maximum(problem.rho, 1e-12)) - np.log(one_window)).reshape(sweep.shape)
        found.append(Boundary("collapse", "collapse boundary", "C36", field))
    elif prediction.collapsed.any():
        found.append(_collapse_by_flow(problem, prediction.collapsed.reshape(sweep.shape), "flow"))
    share = np.where(prediction.collapsed, np.nan, prediction.share)
    low, high = BALANCED_SHARES
    names = {
        low: f"hard share {low:g} by the flow",
        0.5: "equal shares by the flow",
        high: f"hard share {high:g} by the flow",
    }
    claim = "C22" if by_filter else "flow"
    for value, name in names.items():
        found.append(Boundary(f"share_{value:g}", name, claim, (share - value).reshape(sweep.shape)))
    return found


def _one_window_critical_rho(sweep: Sweep, problem: FlowProblem | LinearNetworkFlow) -> FloatArray | None:
    """C36's radius ``[B]`` above which SAM collapses, where one window sees one atom kind; None elsewhere."""
    if not isinstance(problem, LinearNetworkFlow):
        return None
    rule = sweep.rule
    plain = (rule.perturb, rule.norm, rule.norm_over, rule.effect) == ("all", "l2", "all", "full")
    one_atom = problem.signs.shape[0] == 1 and bool((problem.signs == 1).all())
    if not (plain and one_atom and problem.readout.shape[2] == 1 and (problem.rho > 0).any()):
        return None
    atom = np.einsum("kib,kb->bi", problem.readout[:, :, 0], problem.mu)
    features = problem.readout.shape[1]
    first, last = problem.start[:features].transpose(2, 1, 0), problem.start[features].T
    return FullyConnectedFlow(first, last, atom).critical_rho()


def _collapse_by_flow(problem: FlowProblem | LinearNetworkFlow, collapsed: np.ndarray, claim: str) -> Boundary:
    return Boundary("collapse", "collapse by the flow", claim, _collapse_field(problem, collapsed))


def _collapse_field(problem: FlowProblem | LinearNetworkFlow, collapsed: np.ndarray) -> FloatArray:
    """Signed distance in cells, positive on the collapsed side, to where the flow begins to collapse.

    The place between neighbouring cells that end differently is found in :data:`REFINEMENTS` rounds, with parameters
    interpolated linearly between the two; cells without such a neighbour get +-1.
    """
    index = np.arange(collapsed.size).reshape(collapsed.shape)
    first, second = [], []
    for axis in range(collapsed.ndim - 1):
        ahead = np.take(index, range(1, collapsed.shape[axis]), axis)
        behind = np.take(index, range(collapsed.shape[axis] - 1), axis)
        differ = collapsed.flat[ahead] != collapsed.flat[behind]
        first.append(behind[differ])
        second.append(ahead[differ])
    one, other = np.concatenate(first), np.concatenate(second)
    starts_collapsed = collapsed.reshape(-1)[one]
    inner = np.arange(1, SECTIONS)[:, None] / SECTIONS
    near, far = (problem.take(np.tile(ends, len(inner))) for ends in (one, other))
    low, width = np.zeros(len(one)), 1.0
    for _ in range(REFINEMENTS):
        between = _interpolated(near, far, (low + width * inner).reshape(-1))
        same = solve(between, rtol=PHASE_RTOL).collapsed.reshape(len(inner), -1) == starts_collapsed
        width /= SECTIONS
        low = low + width * np.minimum.accumulate(same).sum(axis=0)
    high = low + width
    distance = np.ones(collapsed.size)
    np.minimum.at(distance, one, high)
    np.minimum.at(distance, other, 1 - low)
    return np.where(collapsed, 1.0, -1.0) * distance.reshape(collapsed.shape)


def _interpolated(
    near: FlowProblem | LinearNetworkFlow, far: FlowProblem | LinearNetworkFlow, share: FloatArray
) -> FlowProblem | LinearNetworkFlow:
    if isinstance(near, LinearNetworkFlow):
        assert isinstance(far, LinearNetworkFlow)
        return near.interpolate(far, share)
    assert isinstance(far, FlowProblem)
    return near.interpolate(far, share)


def flow_advantage(sweep: Sweep, level: float) -> FloatArray:
    """``[ny, nx]`` hard share of the flow minus GD's at a loss level, for a two-axis sweep with one seed.

    NaN where the level is not reached, and where rho is 0: there every rule is GD and the difference is rounding.
    """
    share = predict(sweep, level).share.reshape(sweep.shape)
    gd = sweep.gd_baseline()
    advantage = share - predict(gd, level).share.reshape(gd.shape)
    return np.where(sweep.column("rho").reshape(sweep.shape) == 0, np.nan, advantage)[..., 0]


def sign_change(advantage: FloatArray, name: str) -> Boundary:
    """Where a map of advantages ``[ny, nx]`` changes its sign.

    Jumps of the share would bend an interpolated line, so advantages are taken on a scale on which both sides of zero
    weigh alike: linear below :data:`toymodels.metrics.NEGLIGIBLE_ADVANTAGE`, logarithmic above.
    """
    return Boundary("advantage", name, "flow", np.arcsinh(advantage / NEGLIGIBLE_ADVANTAGE)[..., None])
