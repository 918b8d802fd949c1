"""The reduced flows: their rates, the two systems against each other and SciPy, the collapse boundary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from sambalance_tools.arrays import FloatArray
from support.trainings import SPURIOUS, train_trio, velocity
from toymodels import theory
from toymodels.flows import collapse_boundary
from toymodels.flows.collapse_boundary import collapse_boundary_rho, collapse_boundary_scale
from toymodels.flows.filter_law import FilterSystem, one_atom_loss_margin
from toymodels.flows.layers import LayerSystem, trajectories
from toymodels.flows.problem import FlowProblem
from toymodels.flows.solve import solve
from toymodels.rules import RULES, UpdateRule, rule

LEVELS = (0.4, 0.2, 0.1, 0.05)


def flow(
    mu: tuple[float, ...] = (2.0, 1.0),
    starts: FloatArray | None = None,
    rho: FloatArray | float = 0.3,
    time: float = 200.0,
    update: UpdateRule | None = None,
    signs: tuple[tuple[float, ...], ...] = ((1.0, 1.0),),
    weights: tuple[float, ...] = (1.0,),
    levels: tuple[float, ...] = LEVELS,
) -> FlowProblem:
    """Balanced flows; starts are ``[K, B]``."""
    a = np.array([[0.4], [0.4]]) if starts is None else np.asarray(starts)
    runs = a.shape[1]
    return FlowProblem(
        mu=np.tile(np.array(mu)[:, None], (1, runs)),
        signs=np.array(signs),
        weights=np.tile(np.array(weights)[:, None], (1, runs)),
        v=a,
        w=a,
        rho=np.broadcast_to(np.asarray(rho, dtype=float), (runs,)),
        rule=update or rule("sam"),
        time=np.full(runs, time),
        levels=levels,
    )


def by_layers(problem: FlowProblem) -> FlowProblem:
    """The same flows with the one atom written as two halves, which only the general system accepts."""
    twice = replace(problem, signs=np.tile(problem.signs, (2, 1, 1)), weights=np.tile(problem.weights / 2, (2, 1)))
    assert FilterSystem.applies(problem)
    assert not FilterSystem.applies(twice)
    return twice


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["full", "weights", "jacobian"])
@pytest.mark.parametrize("name", RULES)
def test_the_rates_are_the_engines_step(name: str, effect: str, rng: np.random.Generator) -> None:
    update = rule(name, effect)
    mu, runs = (2.0, 1.0, 0.5), 40
    w, v = rng.uniform(-1.0, 1.0, (2, runs, 3))
    signs, weights = ((1.0, 1.0, 1.0), (-1.0, 1.0, 0.5), (0.0, 1.0, -0.3)), (0.6, 0.3, 0.1)
    rho = np.zeros(runs) if name == "gd" else rng.uniform(0.05, 0.5, runs)
    problem = replace(flow(mu, np.ones((3, runs)), rho, update=update, signs=signs, weights=weights), v=v.T, w=w.T)
    rates = LayerSystem.of(problem).rates(np.zeros(runs), np.concatenate([v.T, w.T]))
    w_rate, v_rate = velocity(mu, (w, v), signs=signs, weights=weights, rho=rho, update=update)
    np.testing.assert_allclose(rates, np.concatenate([v_rate.T, w_rate.T]), atol=1e-12)


# --- trajectories and levels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "effect"), [("sam", "full"), ("lsam", "full"), ("usam", "full"), ("sam", "weights")])
def test_trajectories_are_scipys(name: str, effect: str) -> None:
    update = rule(name, effect)
    starts = np.array([[0.4, 0.2, 0.6], [0.4, 0.7, 0.5]])
    problem = flow(starts=starts, rho=0.25, update=update, signs=SPURIOUS, weights=(0.9, 0.1))
    times = np.linspace(0, 10, 6)
    v, w = trajectories(problem, times, rtol=1e-9)
    system = LayerSystem.of(problem)
    for run in range(3):
        one = system.take(np.array([run]))
        exact = solve_ivp(
            lambda x, y, one=one: one.rates(np.array([x]), y[:, None])[:, 0], (0, 10),
            np.concatenate([starts[:, run]] * 2), t_eval=times, rtol=1e-11, atol=1e-13, method="DOP853",
        ).y  # fmt: skip
        # 1e-9 per step, a hundred steps, and neighbouring curves part by no more than e^2 over this time.
        np.testing.assert_allclose(np.concatenate([v, w], axis=1)[:, :, run].T, exact, atol=1e-6)


def spread(runs_per_axis: int = 12) -> tuple[FloatArray, FloatArray]:
    """Starts ``[2, B]`` and radii ``[B]`` over all phases."""
    weights = np.linspace(0.05, 0.9, runs_per_axis)
    easy, hard, rho = np.meshgrid(weights, weights, [0, 0.3, 0.7])
    return np.stack([easy.ravel(), hard.ravel()]), rho.ravel()


def test_the_scalar_law_and_the_layers_give_the_same_levels_and_phases() -> None:
    starts, rho = spread()
    problem = flow(starts=starts, rho=rho)
    one, other = solve(problem, rtol=1e-8), solve(by_layers(problem), rtol=1e-8)
    np.testing.assert_array_equal(one.collapsed, other.collapsed)
    assert 20 < one.collapsed.sum() < len(rho) - 20
    reached = ~np.isnan(one.level_time)
    np.testing.assert_array_equal(reached, ~np.isnan(other.level_time))
    # Starts near the collapse boundary are unstable: they amplify the 1e-8 of a step to at most 1e-4 here.
    np.testing.assert_allclose(one.level_coefficients, other.level_coefficients, rtol=2e-4)
    np.testing.assert_allclose(one.level_time, other.level_time, rtol=2e-4)


def test_a_level_is_crossed_at_its_margin_or_at_once() -> None:
    starts = np.array([[0.4, 1.5], [0.4, 0.2]])
    result = solve(flow(starts=starts), rtol=1e-9)
    margins = (np.array([2.0, 1.0])[:, None] * result.level_coefficients).sum(axis=1)
    expected = np.array([one_atom_loss_margin(level) for level in LEVELS])
    np.testing.assert_allclose(margins[:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(np.logaddexp(0, -expected), LEVELS, rtol=1e-12)
    start_loss = np.logaddexp(0, -(2 * 1.5**2 + 0.2**2))
    np.testing.assert_array_equal(result.level_time[:, 1] == 0, start_loss <= np.array(LEVELS))
    assert start_loss < 0.05, "the second start lies below every level"


@pytest.mark.parametrize("system", ["filter", "layers"])
def test_what_comes_after_the_end_of_time_is_not_reported(system: str) -> None:
    starts = np.full((2, 2), 0.4)
    late = flow(starts=starts)
    crossing = solve(late).level_time[:, 0]
    early = replace(late, time=np.array([0.5 * (crossing[1] + crossing[2]), 1e-3]))
    result = solve(early if system == "filter" else by_layers(early))
    missed = [[False, True], [False, True], [True, True], [True, True]]
    np.testing.assert_array_equal(np.isnan(result.level_time), missed)
    np.testing.assert_array_equal(np.isnan(result.level_coefficients[:, 0]), np.isnan(result.level_time))
    np.testing.assert_allclose(result.time, early.time, rtol=1e-6)


@pytest.mark.parametrize("system", ["filter", "layers"])
def test_a_collapse_ends_the_flow_early_unless_time_is_up_first(system: str) -> None:
    doomed = flow(starts=np.array([[0.2, 0.2], [0.2, 0.2]]), rho=0.7)
    doomed = replace(doomed, time=np.array([1e-2, 200.0]))
    result = solve(doomed if system == "filter" else by_layers(doomed))
    np.testing.assert_array_equal(result.collapsed, [False, True])
    assert result.time[1] < 50
    assert np.isnan(result.level_time).all()


def test_gd_never_collapses() -> None:
    result = solve(flow(starts=np.array([[0.01, 0.02], [0.01, 0.003]]), rho=0.0, update=rule("gd")))
    assert not result.collapsed.any()
    assert not np.isnan(result.level_time).any()


REFERENCE_SHARES = {0.0: (0.284, 0.205, 0.151), 0.3: (0.304, 0.241, 0.187), 0.5: (0.346, 0.311, 0.258)}
"""Hard share at loss 0.4, 0.2, 0.05 from a(0) = (0.4, 0.4), mu = (2, 1); rho = 0 is GD."""


@pytest.mark.parametrize("rho", REFERENCE_SHARES)
def test_reference_shares_at_matched_loss(rho: float) -> None:
    result = solve(flow(rho=rho, levels=(0.4, 0.2, 0.05)), rtol=1e-9)
    u = result.level_coefficients[..., 0]
    share = u[:, 1] / (2 * u[:, 0] + u[:, 1])
    np.testing.assert_allclose(share, REFERENCE_SHARES[rho], atol=5.1e-4)  # three digits are given


@pytest.mark.parametrize("rho", REFERENCE_SHARES)
def test_trainings_have_the_reference_shares(rho: float) -> None:
    """The share of a training as a function of its loss, in the limit eta -> 0."""
    a = np.full((1, 2), 0.4)
    trio = train_trio((2.0, 1.0), (a, a), time=32.0, eta=0.08, samples=400, rho=rho)

    def shares(layers: tuple[FloatArray, ...]) -> FloatArray:
        u = (layers[0] * layers[1])[0]
        margin = 2 * u[:, 0] + u[:, 1]
        margins = [one_atom_loss_margin(level) for level in (0.4, 0.2, 0.05)]
        # Linear interpolation between samples 0.08 apart is off by less than 1e-4.
        return np.interp(margins, margin, u[:, 1] / margin)

    limit = trio.limit(shares)
    assert limit.error.max() < 2e-3
    np.testing.assert_allclose(limit.value, REFERENCE_SHARES[rho], atol=1e-3)


# --- the collapse boundary --------------------------------------------------------------------------------------------


def collapses(mu: tuple[float, float], start: tuple[float, float], rho: float) -> bool:
    """Follow C10's phase plane forward by SciPy, in the weights, until the run has either collapsed or escaped."""

    def rates(_: float, a: FloatArray) -> list[float]:
        return list(theory.balanced_rates(mu, a, rho))

    def inside(_: float, a: FloatArray) -> float:
        return float(np.hypot(*a) - 0.05 * rho)  # C26: within ||theta|| < rho there is no way back

    def outside(_: float, a: FloatArray) -> float:
        return float(np.hypot(*a) - 20 * rho)

    inside.terminal = outside.terminal = True  # type: ignore[attr-defined]
    found = solve_ivp(rates, (0, 500), start, events=(inside, outside), rtol=1e-10, atol=1e-12)
    assert found.status == 1, "undecided"
    return bool(len(found.t_events[0]))


@pytest.mark.parametrize("mu", [(2.0, 1.0), (2.0, 0.2), (1.0, 0.9)], ids=str)
@pytest.mark.parametrize("start", [(0.4, 0.4), (0.6, 0.1), (0.05, 0.5)], ids=str)
def test_the_collapse_boundary_is_where_forward_flows_part(mu: tuple[float, float], start: tuple[float, float]) -> None:
    (found,) = collapse_boundary_rho(*(np.array([x]) for x in (*mu, *start)))
    for distance in (0.1, 1e-5):
        assert not collapses(mu, start, (1 - distance) * found)
        assert collapses(mu, start, (1 + distance) * found)


def boundary_cases(rng: np.random.Generator, runs: int = 400) -> tuple[FloatArray, ...]:
    mu_easy = rng.uniform(0.3, 3.0, runs)
    return mu_easy, mu_easy * rng.uniform(0.3, 1.0, runs), *rng.uniform(0.02, 1.0, (2, runs))


def test_the_collapse_boundary_lies_between_the_proved_radii_and_near_the_circle(rng: np.random.Generator) -> None:
    """C26 bounds rho for a start of norm ||theta||; at mu_e = 2 mu_h the circle is off by at most 9 %."""
    mu_easy, mu_hard, easy, hard = boundary_cases(rng)
    found = collapse_boundary_rho(mu_easy, mu_hard, easy, hard)
    norm = np.sqrt(2 * (easy**2 + hard**2))
    inner, outer = theory.collapse_radii(found, mu_easy, mu_hard)
    assert (norm >= inner * (1 - 1e-7)).all()
    assert (norm <= outer * (1 + 1e-7)).all()
    twice = collapse_boundary_rho(np.full(400, 2.0), np.full(400, 1.0), easy, hard)
    assert (np.abs(norm / twice - 1) < 0.09).all()
    assert (np.abs(norm / twice - 1) > 0.02).any(), "it is not the circle itself"


def test_for_equal_strengths_the_collapse_boundary_is_the_circle(rng: np.random.Generator) -> None:
    _, _, easy, hard = boundary_cases(rng)
    mu = rng.uniform(0.3, 3.0, len(easy))
    found = collapse_boundary_rho(mu, mu, easy, hard)
    np.testing.assert_allclose(easy**2 + hard**2, found**2 / 2, rtol=1e-12)


def test_nearly_equal_strengths_have_the_boundary_that_integration_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    z, share = np.linspace(-4, 4, 21), 2.9e-3
    mu_easy = np.full(21, 2.0)
    mu_hard = mu_easy * (1 - share)
    expanded = collapse_boundary_scale(mu_easy, mu_hard, z)
    monkeypatch.setattr(collapse_boundary, "_NEARLY_EQUAL", 0.0)
    integrated = collapse_boundary_scale(mu_easy, mu_hard, z)
    # The expansion is off by about share^3 = 2.4e-8, and without its correction by 4e-6.
    np.testing.assert_allclose(expanded, integrated, rtol=5e-8)
    assert (expanded != integrated).any()


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_collapse_boundary_ends_in_the_saddle_with_the_known_curvature(ratio: float) -> None:
    mu_easy, mu_hard = np.array([2.0]), np.array([2.0 * ratio])
    far = collapse_boundary_scale(mu_easy, mu_hard, np.array([12.0]))
    np.testing.assert_allclose(far, mu_hard, rtol=1e-6)
    for a_easy in (0.02, 0.01):
        a_hard = theory.collapse_boundary_near_saddle(a_easy, 2.0, 2.0 * ratio, 1.0)
        found = collapse_boundary_rho(mu_easy, mu_hard, np.array([a_easy]), np.array([a_hard]))
        # The expansion's next term is O(a_e^4) with a coefficient of order (mu_e/mu_h)^2, at most 100.
        np.testing.assert_allclose(found, 1.0, atol=200 * a_easy**4 + 1e-7)
        circle = theory.sam_shift(1.0) - a_easy**2 / (2 * theory.sam_shift(1.0))
        assert abs(a_hard - circle) > 1e-7


def test_the_collapse_radius_is_proportional_to_the_start(rng: np.random.Generator) -> None:
    mu_easy, mu_hard, easy, hard = boundary_cases(rng)
    found = collapse_boundary_rho(mu_easy, mu_hard, easy, hard)
    np.testing.assert_allclose(collapse_boundary_rho(mu_easy, mu_hard, 7 * easy, 7 * hard), 7 * found, rtol=1e-12)
    np.testing.assert_allclose(collapse_boundary_rho(5 * mu_easy, 5 * mu_hard, easy, hard), found, rtol=1e-6)


def test_the_flows_collapse_exactly_beyond_the_boundary(rng: np.random.Generator) -> None:
    starts = rng.uniform(0.1, 0.8, (2, 200))
    mu = np.tile([[2.0], [1.0]], (1, 200))
    critical = collapse_boundary_rho(*mu, *starts)
    for factor, collapsed in ((0.999, False), (1.001, True)):
        result = solve(flow(starts=starts, rho=critical * factor, time=1e5), rtol=1e-8)
        np.testing.assert_array_equal(result.collapsed, collapsed)
