"""The exact flow of linear one-hidden-layer networks: its rates, its levels and phases against trainings, C36, C38."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import reference
from kernels.problem import Status
from sambalance_tools.arrays import FloatArray
from toymodels.data import data_kind, redundant
from toymodels.flows.linear_network import in_own_basis, linear_network_paths
from toymodels.flows.problem import FlowProblem
from toymodels.flows.solve import solve
from toymodels.metrics import Phase, phases, share_at_level
from toymodels.networks import Diagonal, Network, Patches, TwoLayer
from toymodels.phase_diagram.agreement import near_change
from toymodels.prediction import (
    boundaries,
    flow_advantage,
    flow_of,
    is_linear_flow,
    linear_flow_problem,
    no_flow_reason,
    predict,
)
from toymodels.rules import UpdateRule, rule
from toymodels.simulation import build_problem, simulate
from toymodels.sweep import Sweep

NETWORKS: dict[str, tuple[Network, dict[str, float]]] = {
    "linear": (TwoLayer("linear"), {}),
    "local": (Patches("local"), {}),
    "local, twice": (Patches("local"), {"copies": 2, "mu_easy": 1.2, "mu_hard": 0.7}),
    "pooled": (Patches("pooled"), {}),
    "3 windows": (Patches(3), {"copies": 3, "mu_easy": 0.8, "mu_hard": 0.5}),
}
RULES = {
    made.label: made
    for made in (
        *(rule(name) for name in ("gd", "sam", "lsam", "fsam", "usam", "sam_per_layer")),
        rule("sam", "weights"),
        rule("sam", "jacobian"),
        rule("lsam", "jacobian"),
        rule("sam_per_layer", "weights"),
    )
}
DATA = ("redundant", "spurious", "missing", "uneven", "label_noise")


def sweep_of(name: str, update: UpdateRule, data: str = "redundant", **options: Any) -> Sweep:
    """Trainings at several cosines from several starts; a fully connected network has no cosine."""
    network, values = NETWORKS[name]
    axes = {"rho": [0.1, 0.4], "cosine": [0.0, 0.5, 1.0]}
    if isinstance(network, TwoLayer):
        axes = {"rho": [0.1, 0.4], "init": [0.3, 0.5, 0.8]}
    made = {"init": 0.5, "width": 6, **values, **options.pop("values", {})}
    made = {name: value for name, value in made.items() if name not in axes}
    chosen: dict[str, Any] = {"axes": axes, "seeds": 2, "loss_levels": (0.4, 0.2, 0.1), **options}
    return Sweep(network=network, data=data_kind(data), rule=update, values=made, **chosen)


# --- rates ------------------------------------------------------------------------------------------------------------


class Columns:
    """Parameter columns of a sweep, as :func:`build_problem` wants them."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep

    def __getitem__(self, name: str) -> FloatArray:
        return self.sweep.column(name)


@pytest.mark.parametrize("update", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_rates_are_the_engines_step(name: str, update: str) -> None:
    """As narrow as it takes for the flow's rows to be the weights themselves."""
    data = DATA[(list(NETWORKS).index(name) + list(RULES).index(update)) % len(DATA)]
    sweep = sweep_of(name, RULES[update], data, values={"width": 3, "eta": 1.0, "steps": 1})
    rows = np.arange(sweep.runs)
    problem = linear_flow_problem(sweep, rows, (0.1,))
    columns = Columns(sweep)
    made, _, _ = build_problem(sweep, columns, rows)
    after = reference.train(made).layers
    moved_w, moved_v = (new - old for new, old in zip(after, made.initial_layers, strict=True))
    moved_v = moved_v.reshape(sweep.runs, -1, 3)
    assert problem.start.shape[1] == 3
    rates = problem.system().rates(np.zeros(sweep.runs), problem.start.reshape(-1, sweep.runs))
    rates = rates.reshape(problem.start.shape).transpose(2, 0, 1)
    np.testing.assert_allclose(rates[:, :2], moved_w.transpose(0, 2, 1), atol=1e-13)
    np.testing.assert_allclose(rates[:, 2:], moved_v, atol=1e-13)
    u = problem.system().coefficients(problem.start.reshape(-1, sweep.runs)).T
    recorded = simulate(
        sweep_of(name, RULES[update], data, values={"width": 3, "steps": 1}, record_steps=(0,)), engine="reference"
    )["record_coefficient"]
    np.testing.assert_allclose(u, recorded.values.reshape(sweep.runs, 2), atol=1e-14)


@pytest.mark.parametrize("width", [1, 4, 5, 40])
def test_an_own_basis_keeps_all_products(width: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3, 4, width))
    own = in_own_basis(rows)
    assert own.shape == (4, min(width, 4), 3)
    np.testing.assert_allclose(np.einsum("irb,jrb->bij", own, own), np.einsum("bim,bjm->bij", rows, rows), atol=1e-13)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_wide_network_has_the_flow_of_its_products(name: str) -> None:
    """Any rotation and padding of the hidden units leaves the flow alone."""
    sweep = sweep_of(name, rule("sam"), "uneven", values={"width": 30})
    problem = linear_flow_problem(sweep, np.arange(sweep.runs), (0.2,))
    n = problem.start.shape[0]
    assert problem.start.shape[1] == n
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((9, n)))[0]
    turned = type(problem)(**{**vars(problem), "start": np.einsum("rs,nsb->nrb", turn, problem.start)})
    one, other = solve(problem, rtol=1e-9), solve(turned, rtol=1e-9)
    np.testing.assert_allclose(one.level_coefficients, other.level_coefficients, rtol=1e-5, atol=1e-6)


# --- trainings --------------------------------------------------------------------------------------------------------

LEVELS = (0.5, 0.35, 0.2)


def shares_by_training(sweep: Sweep, eta: float, time: float = 12.0) -> FloatArray:
    """``[levels, B]`` hard share where the training loss first falls to each level, between steps; NaN if it does not.

    A crossing itself falls on a step, and where on it is an accident that no extrapolation in eta removes.
    """
    steps = round(time / eta)
    finer = Sweep(
        network=sweep.network, data=sweep.data, rule=sweep.rule, axes=sweep.axes, seeds=sweep.seeds,
        values={**sweep.values, "eta": eta, "steps": steps}, record_steps=range(steps + 1), loss_levels=(1e-6,),
    )  # fmt: skip
    found = simulate(finer, precision="float64")
    u = found["record_coefficient"].values.reshape(sweep.runs, steps + 1, 2)
    loss = found["record_loss"].values.reshape(sweep.runs, steps + 1)
    strong = np.stack([sweep.column("mu_easy"), sweep.column("mu_hard")], axis=1)[:, None] * u
    share = np.full((len(LEVELS), sweep.runs), np.nan)
    for k, level in enumerate(LEVELS):
        for run in np.flatnonzero((loss <= level).any(axis=1)):
            after = int((loss[run] <= level).argmax())
            if after:
                part = (loss[run, after - 1] - level) / (loss[run, after - 1] - loss[run, after])
                easy, hard = (1 - part) * strong[run, after - 1] + part * strong[run, after]
                share[k, run] = hard / (easy + hard)
    return share


def every_rule_and_network() -> list[Any]:
    """Each rule with two of the networks, each network with four of the rules; the other pairs are slow."""
    return [
        pytest.param(name, update, marks=[pytest.mark.slow] if (i + j) % len(NETWORKS) > 1 else [])
        for i, name in enumerate(NETWORKS)
        for j, update in enumerate(RULES)
    ]


@pytest.mark.parametrize(("name", "update"), every_rule_and_network())
def test_trainings_reach_the_levels_with_the_flows_hard_share(name: str, update: str) -> None:
    data = DATA[(2 * list(NETWORKS).index(name) + list(RULES).index(update)) % len(DATA)]
    sweep = sweep_of(name, RULES[update], data, values={"eta": 0.02, "steps": 600, "spread": 0.3, "p": 0.95})
    flow = solve(linear_flow_problem(sweep, np.arange(sweep.runs), LEVELS), rtol=1e-9)
    coarse, fine = shares_by_training(sweep, 0.02), shares_by_training(sweep, 0.01)
    u = flow.level_coefficients * np.stack([sweep.column("mu_easy"), sweep.column("mu_hard")])
    exact = u[:, 1] / u.sum(axis=1)
    # A level that a start meets already, or that the flow meets in the last moments, is met by one of them only.
    early = (flow.level_time > 0) & (flow.level_time < 11.5)
    compared = early & np.isfinite(coarse) & np.isfinite(fine)
    assert compared.sum() >= 0.9 * early.sum()
    assert compared.sum() >= 10
    error = 2 * np.abs(coarse - fine)[compared]
    deviation = np.abs(coarse - exact)[compared]
    limit = np.abs(2 * fine - coarse - exact)[compared]
    # First order: all of the deviation is predicted by halving the step; 1e-4 stands for the second order, which
    # is worst where a share passes a pole (a margin made of two coefficients of opposite sign).
    assert (deviation <= 1.5 * error + 1e-4).all(), (deviation / error).max()
    assert np.median(limit) < 1e-4
    assert np.median(error) > 1e-5, "the step is too small to test anything"


@pytest.mark.parametrize("data", ["redundant", "missing"])
@pytest.mark.parametrize("name", NETWORKS)
def test_runs_collapse_where_their_flows_do(name: str, data: str) -> None:
    network, values = NETWORKS[name]
    axes = {"init": [0.3, 0.45, 0.6, 0.75], "rho": np.linspace(0.0, 1.2, 9).tolist()}
    sweep = Sweep(
        network=network, data=data_kind(data), axes=axes, seeds=3, loss_levels=(0.2,),
        values={"steps": 4000, "eta": 0.02, "width": 10, **({} if isinstance(network, TwoLayer) else {"cosine": 0.4}),
                **values},
    )  # fmt: skip
    found = simulate(sweep, precision="float64")
    expected = predict(sweep, 0.2)
    flows = expected.phase.reshape(sweep.shape)
    settled = ~near_change(flows)
    collapsed = found["status"].values == Status.COLLAPSED
    assert 5 < collapsed.sum() < collapsed.size - 5
    assert settled.mean() > 0.25
    np.testing.assert_array_equal(collapsed[settled], expected.collapsed.reshape(sweep.shape)[settled])
    np.testing.assert_array_equal(phases(found, sweep, 0.2)[settled], flows[settled])
    reached = flows < Phase.UNFINISHED
    both = settled & reached & (flows > Phase.COLLAPSE)
    share = share_at_level(found, sweep, 0.2)
    np.testing.assert_allclose(share[both], expected.share.reshape(sweep.shape)[both], atol=0.02)


def test_the_paths_are_those_of_the_trainings_and_end_at_the_singularity() -> None:
    sweep = sweep_of("local", rule("sam"), values={"eta": 0.01, "steps": 400})
    marks = np.array([0, 50, 200, 400])
    u = [
        simulate(
            sweep_of("local", rule("sam"), values={"eta": eta, "steps": int(4 / eta)},
                     record_steps=(marks * round(0.01 / eta)).tolist()), precision="float64",
        )["record_coefficient"].values.reshape(sweep.runs, 4, 2).transpose(1, 2, 0)
        for eta in (0.01, 0.005)
    ]  # fmt: skip
    paths = linear_network_paths(linear_flow_problem(sweep, np.arange(sweep.runs), ()), marks * 0.01, 0.02, rtol=1e-9)
    followed = np.isfinite(paths)
    assert followed.mean() > 0.8
    np.testing.assert_allclose((2 * u[1] - u[0])[followed], paths[followed], atol=2e-4)
    doomed = sweep_of("local", rule("sam"), axes={"rho": [0.1, 3.0]}, seeds=1)
    ends = linear_network_paths(linear_flow_problem(doomed, np.arange(2), ()), np.array([0.0, 3.0]), 0.02, rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(ends), [[[False, False]] * 2, [[False, True]] * 2])


# --- closed forms -----------------------------------------------------------------------------------------------------


def diagonal_equivalent(sweep: Sweep, levels: tuple[float, ...]) -> FlowProblem:
    """C38: with orthogonal patterns a local head is a diagonal network; s+- = (W_k +- V_k)/sqrt2."""
    first, last = sweep.initial_layers(np.arange(sweep.runs))
    columns = first.transpose(0, 2, 1)
    plus, minus = (np.linalg.norm((columns + sign * last) / np.sqrt(2), axis=2).T for sign in (1, -1))
    rows = np.arange(sweep.runs)
    linear = linear_flow_problem(sweep, rows, levels)
    return FlowProblem(
        linear.mu, linear.signs, linear.weights, (plus + minus) / np.sqrt(2), (plus - minus) / np.sqrt(2), linear.rho,
        sweep.rule, linear.time, levels, sweep.collapse_threshold,
    )  # fmt: skip


@pytest.mark.parametrize("data", ["redundant", "missing", "uneven"])
@pytest.mark.parametrize("width", [1, 16])
def test_a_local_head_on_orthogonal_patterns_is_a_diagonal_network(width: int, data: str) -> None:
    sweep = Sweep(
        network=Patches("local"), data=data_kind(data), axes={"rho": [0.0, 0.2, 0.6], "init": [0.3, 0.6, 0.9]}, seeds=3,
        values={"width": width, "steps": 5000, "eta": 0.02, "imbalance": 0.2},
        # A random start may have products below zero, which on their way up the diagonal flow takes for a collapse.
        collapse_threshold=1e-9,
    )  # fmt: skip
    linear = solve(linear_flow_problem(sweep, np.arange(sweep.runs), LEVELS), rtol=1e-9)
    diagonal = solve(diagonal_equivalent(sweep, LEVELS), rtol=1e-9)
    first, last = sweep.initial_layers(np.arange(sweep.runs))
    # From the equivalent's start on everything but the direction of the hidden units is the same, and so is u, since
    # W_k . V_k = (|s+|^2 - |s-|^2)/2 = v w.
    np.testing.assert_allclose(
        np.einsum("bmk,bkm->kb", first, last), (lambda p: p.v * p.w)(diagonal_equivalent(sweep, LEVELS)), atol=1e-13
    )
    np.testing.assert_array_equal(np.isnan(linear.level_time), np.isnan(diagonal.level_time))
    np.testing.assert_allclose(linear.level_time, diagonal.level_time, rtol=1e-4)
    np.testing.assert_allclose(linear.level_coefficients, diagonal.level_coefficients, rtol=1e-4, atol=1e-6)
    assert np.isfinite(linear.level_time).mean() > 0.5


def test_the_nominal_local_head_is_the_nominal_diagonal_network_of_one_sided_start() -> None:
    """W and V orthogonal and of norm a: |s+| = |s-| = a, so that v = sqrt2 a and w = 0."""
    sweep = Sweep(
        network=Patches("local"), axes={"rho": [0.1, 0.3], "init": [0.4, 0.6]}, values={"jitter": 0.0}, seeds=1
    )
    equal = diagonal_equivalent(sweep, (0.2,))
    np.testing.assert_allclose(equal.w, 0, atol=1e-14)
    np.testing.assert_allclose(equal.v, np.sqrt(2) * np.tile([0.4, 0.6], 2)[None].repeat(2, 0), rtol=1e-13)


@pytest.mark.parametrize("name", ["linear", "pooled"])
def test_one_window_collapses_exactly_beyond_the_radius_of_c36(name: str) -> None:
    sweep = sweep_of(name, rule("sam"), values={"steps": 10**7}, seeds=4)
    expected = boundaries(sweep, predict(sweep, 0.2), 0.2)[0]
    assert (expected.key, expected.claim) == ("collapse", "C36")
    critical = sweep.column("rho") / np.exp(expected.field.reshape(-1))
    # The loss may fall to usual levels on the way to a collapse; a level that low is reached by escaping runs only.
    problem = linear_flow_problem(sweep, np.arange(sweep.runs), (1e-3,))
    for factor, collapsed in ((0.99, False), (1.01, True)):
        moved = type(problem)(**{**vars(problem), "rho": factor * critical})
        np.testing.assert_array_equal(solve(moved, rtol=1e-8).collapsed, collapsed)


@pytest.mark.parametrize(
    ("name", "update", "data"),
    [("local", "sam", "redundant"), ("pooled", "lsam", "redundant"), ("pooled", "sam", "spurious")],
)
def test_elsewhere_the_boundary_of_collapse_is_the_flows(name: str, update: str, data: str) -> None:
    network, values = NETWORKS[name]
    sweep = Sweep(
        network=network, data=data_kind(data), rule=rule(update), seeds=1, loss_levels=(0.2,),
        axes={"cosine": [0.0, 0.4, 0.8], "rho": [0.1, 0.5, 0.9, 1.3]},
        values={"jitter": 0.0, "init": 0.4, "steps": 20_000, "p": 0.95, **values},
    )  # fmt: skip
    prediction = predict(sweep, 0.2)
    found = {line.key: line for line in boundaries(sweep, prediction, 0.2)}
    assert {line.claim for line in found.values()} == {"flow"}
    np.testing.assert_array_equal(found["collapse"].field.reshape(-1) > 0, prediction.collapsed)
    assert 0 < prediction.collapsed.sum() < sweep.runs


def test_sam_gives_the_hard_feature_more_with_a_local_head_and_less_as_the_patterns_merge() -> None:
    """At cosine 1 a head of one window cannot tell the features apart, and SAM gives it nothing."""
    axes = {"cosine": [0.0, 0.5, 1.0], "rho": [0.0, 0.2, 0.3]}
    values = {"jitter": 0.0, "init": 0.6, "steps": 20_000}
    local, pooled = (
        flow_advantage(Sweep(network=Patches(head), axes=axes, values=values, seeds=1), 0.1)
        for head in ("local", "pooled")
    )
    assert np.isnan(local[:, 0]).all(), "GD has no advantage over itself"
    assert (local[0, 1:] > 0.01).all()
    assert (np.diff(local[0, 1:]) > 0).all()
    assert np.abs(pooled[2, 1:]).max() < 1e-4
    assert (np.abs(pooled[:, 1:]) < local[:, 1:]).all()


# --- which flow -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "exact", "reason"),
    [
        ({"network": Patches()}, True, None),
        ({"network": Patches(2), "values": {"copies": 2}}, True, None),
        ({"network": TwoLayer("linear")}, True, None),
        ({"network": TwoLayer("linear", bias=True)}, False, "two-layer linear network: compared with the diagonal"),
        ({"network": TwoLayer("relu")}, False, "two-layer relu network"),
        ({"network": Diagonal(), "rule": rule("asam")}, False, None),
        ({"network": Patches(), "rule": rule("sam_per_layer")}, True, None),
        ({"network": Patches(), "rule": rule("asam")}, False, "patches network: compared with the diagonal"),
        ({"network": Patches(), "rule": rule("linf_sam")}, False, "patches network: compared with the diagonal"),
        ({"network": Patches(), "rule": rule("sam_per_feature")}, False, "patches network: compared with the diagonal"),
        ({"network": Patches(activation="relu")}, True, "ReLU: compared with the linear network"),
        ({"network": Patches(), "values": {"noise_patches": 1}}, True, "noise_patches > 0: compared with noise-free"),
        ({"network": Patches(), "values": {"noise_features": 1}}, True, "noise_features > 0"),
        ({"network": Patches(), "values": {"sam_from": 10}}, True, "SAM in some steps"),
        ({"network": Patches(), "values": {"sam_until": 10}}, True, "SAM in some steps"),
        ({"network": Patches(), "loss": "squared"}, True, "squared loss"),
    ],
)
def test_the_flow_is_said_to_be_exact_where_it_is(options: dict[str, Any], exact: bool, reason: str | None) -> None:
    sweep = Sweep(seeds=1, **options)
    assert is_linear_flow(sweep) == exact
    found = no_flow_reason(sweep)
    assert found is None if reason is None else reason in (found or "")


def test_runs_of_different_structure_share_one_problem() -> None:
    sweep = Sweep(
        network=Patches("local"), data=redundant(), axes={"copies": [1, 2], "width": [1, 20]}, seeds=2,
        values={"steps": 2000, "init": 0.6, "cosine": 0.3},
    )  # fmt: skip
    together = solve(flow_of(sweep, np.arange(8), (0.3,)), rtol=1e-9)
    for run in range(8):
        alone = solve(flow_of(sweep, np.array([run]), (0.3,)), rtol=1e-9)
        np.testing.assert_allclose(
            together.level_coefficients[..., run], alone.level_coefficients[..., 0], rtol=1e-6, atol=1e-8
        )
