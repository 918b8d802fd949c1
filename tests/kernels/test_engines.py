"""Every fast engine against the reference, and the promises of the contract that need no second opinion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels import reference
from kernels.names import EFFECTS, LOSSES, NORM_GROUPS, NORMS, PERTURBED_SETS
from kernels.problem import Status, TrainingProblem
from support.agreement import assert_agrees, assert_same_bits, tolerance
from support.engine_problems import (
    BAD_RUN,
    DIVERGING,
    FEW_NETWORKS,
    NETWORKS,
    diverging,
    few_network_kinds,
    fully_recorded,
    network_kinds,
)
from support.engines import FAST_ENGINES, INTERPRETED, EngineCase
from support.problems import SHAREABLE, levels_along, random_problem, smallest_preactivation, take

FEW: dict[str, Any] = {"steps": 4} if INTERPRETED else {}
"""What is wrong after twelve steps is wrong after four."""


def check(engine: EngineCase, problem: TrainingProblem) -> None:
    """The engine agrees with the reference, or says that it lacks what the problem needs."""
    if engine.lacks(problem):
        with pytest.raises(ValueError, match="does not support"):
            engine(problem)
    else:
        assert_agrees(engine(problem), problem, engine.precision)


# --- the builder keeps its word ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1, 5, 37])
@pytest.mark.parametrize("network", ["two_layer", "patches"])
def test_random_relu_problems_keep_their_gates(network: str, size: int, norm: str, rng: np.random.Generator) -> None:
    plain: dict[str, Any] = {}
    for perturb in PERTURBED_SETS:
        for options in (plain, {"loss": "squared", "momentum": True, "decay": True, "batch_size": 2}):
            problem = random_problem(
                rng, network=network, activation="relu", runs=4, dimension=size, width=size, norm=norm,
                perturb=perturb, steps=20, **options,
            )  # fmt: skip
            smallest, flips = smallest_preactivation(problem)
            features = np.abs(problem.features * problem.feature_scale[:, None])
            assert not flips.any()
            # 1000 times what rounding to float32 can do to a pre-activation.
            assert smallest.min() > 1e3 * np.finfo("float32").eps * features.sum(axis=-1).max()


@pytest.mark.parametrize("name", FAST_ENGINES)
def test_this_machine_has_the_engine(name: str) -> None:
    """Skipped where it has not: the tests below are then made without it."""
    EngineCase(name, "float32").require()


# --- agreement with the reference -------------------------------------------------------------------------------------


@network_kinds
@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("perturb", PERTURBED_SETS)
def test_every_rule(
    fast_engine: EngineCase, perturb: str, norm: str, effect: str, network: dict[str, Any], rng: np.random.Generator
) -> None:
    check(fast_engine, random_problem(rng, perturb=perturb, norm=norm, effect=effect, **FEW, **network))


@network_kinds
@pytest.mark.parametrize("norm", ["l2", "adaptive"])
@pytest.mark.parametrize("perturb", PERTURBED_SETS)
def test_groups_of_weights_with_a_norm_of_their_own(
    fast_engine: EngineCase, perturb: str, norm: str, network: dict[str, Any], rng: np.random.Generator
) -> None:
    for norm_over in NORM_GROUPS[1:] if network.get("network", "diagonal") == "diagonal" else ("layer",):
        options = {"norm": norm, "norm_over": norm_over, "perturb": perturb, **FEW, **network}
        check(fast_engine, random_problem(rng, adaptive_eta=0.2, **options))


@network_kinds
def test_sam_in_some_steps_only(fast_engine: EngineCase, network: dict[str, Any], rng: np.random.Generator) -> None:
    windows: dict[str, Any] = {"sam_from": [0, 2, 3, 5, 0, 12], "sam_until": [3, 4, 12, 5, 0, 6]}
    problem = random_problem(rng, runs=6, steps=5 if INTERPRETED else 12, **windows, **network)
    check(fast_engine, problem)
    check(fast_engine, replace(fully_recorded(problem), batch_size=2, batch_seed=np.arange(6)))


@few_network_kinds
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch_size", [None, 1, 5], ids=["all_samples", "batch1", "batch5"])
def test_every_loss_with_all_that_can_be_recorded(
    fast_engine: EngineCase, loss: str, batch_size: int | None, network: dict[str, Any], rng: np.random.Generator
) -> None:
    problem = random_problem(
        rng, runs=7, samples=6, dimension=5, width=4, loss=loss, momentum=True, decay=True, batch_size=batch_size,
        batch_seed=np.array([0, 1, 2, 2, 2**32, 2**63, 2**64 - 1], dtype=np.uint64), **FEW, **network,
    )  # fmt: skip
    check(fast_engine, fully_recorded(problem))


@few_network_kinds
@pytest.mark.parametrize("shared", [(), SHAREABLE, *((name,) for name in SHAREABLE)], ids=lambda names: "+".join(names))
def test_every_sharing_of_data(
    fast_engine: EngineCase, shared: tuple[str, ...], network: dict[str, Any], rng: np.random.Generator
) -> None:
    problem = random_problem(rng, runs=19, samples=5, shared=shared, **FEW, **network)
    check(fast_engine, fully_recorded(problem))
    check(fast_engine, replace(problem, batch_size=3, batch_seed=np.arange(19)))


@few_network_kinds
@pytest.mark.parametrize(
    ("runs", "samples", "dimension", "width"),
    [
        (1, 1, 1, 1),
        (1, 7, 3, 2),
        (2, 1, 5, 1),
        (15, 3, 1, 4),
        (16, 4, 16, 16),
        (17, 2, 17, 3),
        (33, 37, 2, 37),
        (5, 9, 37, 8),
    ],
)
def test_odd_sizes(
    fast_engine: EngineCase, runs: int, samples: int, dimension: int, width: int, network: dict[str, Any],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    if INTERPRETED and network.get("network") == "patches":
        samples, dimension = min(samples, 5), min(dimension, 5)
    problem = random_problem(rng, runs=runs, samples=samples, dimension=dimension, width=width, **FEW, **network)
    check(fast_engine, fully_recorded(problem))


@few_network_kinds
def test_large_batch(fast_engine: EngineCase, network: dict[str, Any], rng: np.random.Generator) -> None:
    """More runs than one block of any engine holds."""
    check(fast_engine, fully_recorded(random_problem(rng, runs=1031, steps=5, record_layers=True, **network)))


@st.composite
def problems(draw: st.DrawFn) -> TrainingProblem:
    """Any shapes, any options."""
    size = st.integers(1, 12 if INTERPRETED else 37)
    options: dict[str, Any] = dict(draw(st.sampled_from([*NETWORKS.values(), {"depth": 4}])))
    options |= {name: draw(size) for name in ("runs", "dimension", "width")}
    options |= {"samples": draw(st.integers(1, 12)), "steps": draw(st.integers(0, 6 if INTERPRETED else 12))}
    options |= {"loss": draw(st.sampled_from(LOSSES)), "norm": draw(st.sampled_from(NORMS))}
    options |= {"perturb": draw(st.sampled_from(PERTURBED_SETS)), "effect": draw(st.sampled_from(EFFECTS))}
    diagonal = options.get("network", "diagonal") == "diagonal"
    if options["norm"] in ("l2", "adaptive"):
        options["norm_over"] = draw(st.sampled_from(NORM_GROUPS if diagonal else NORM_GROUPS[:2]))
    options |= {"sam_from": draw(st.integers(0, 4)), "sam_until": draw(st.none() | st.integers(0, 12))}
    options |= {name: draw(st.booleans()) for name in ("decay", "momentum", "record_layers")}
    options["shared"] = tuple(draw(st.sets(st.sampled_from(SHAREABLE))))
    options["batch_size"] = draw(st.none() | st.integers(1, 9))
    options["record_steps"] = sorted(draw(st.sets(st.integers(0, options["steps"]))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    options["batch_seed"] = rng.integers(0, 2**64, size=options["runs"], dtype=np.uint64)
    problem = random_problem(rng, **options)
    return replace(problem, loss_levels=levels_along(problem)) if draw(st.booleans()) else problem


@settings(
    max_examples=10 if INTERPRETED else 40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(problem=problems())
def test_any_problem(fast_engine: EngineCase, problem: TrainingProblem) -> None:
    check(fast_engine, problem)


@network_kinds
def test_radius_zero_is_gradient_descent(
    fast_engine: EngineCase, network: dict[str, Any], rng: np.random.Generator
) -> None:
    """Whatever the rule would have done with a radius, up to rounding."""
    plain = fully_recorded(random_problem(rng, rho=0.0, **FEW, **network))
    check(fast_engine, plain)
    wanted = fast_engine(plain)
    for perturb in PERTURBED_SETS[:1] if INTERPRETED else PERTURBED_SETS:
        for norm in NORMS:
            for effect in EFFECTS[:1] if INTERPRETED else EFFECTS:
                got = fast_engine(replace(plain, perturb=perturb, norm=norm, effect=effect))
                np.testing.assert_allclose(
                    np.concatenate([layer.ravel() for layer in got.layers]),
                    np.concatenate([layer.ravel() for layer in wanted.layers]),
                    rtol=0,
                    atol=tolerance(plain, fast_engine.precision),
                )


@few_network_kinds
@pytest.mark.parametrize("steps", [0, 1])
def test_no_steps_and_one_step(
    fast_engine: EngineCase, steps: int, network: dict[str, Any], rng: np.random.Generator
) -> None:
    problem = random_problem(rng, steps=steps, **network)
    check(fast_engine, problem)
    check(fast_engine, fully_recorded(problem))
    check(fast_engine, replace(problem, record_steps=[0], record_layers=True))


def test_gates_that_flip(fast_engine: EngineCase, rng: np.random.Generator) -> None:
    """Gates open and close under way. Only runs that never come near z = 0 are kept, so rounding cannot decide one."""
    drawn = random_problem(
        rng, network="two_layer", activation="relu", runs=150, samples=5, dimension=3, width=4, steps=8, rho=0.0
    )
    smooth = replace(
        drawn,
        features=rng.normal(size=(150, 5, 3)),
        initial_layers=(rng.normal(size=(150, 4, 3)), rng.normal(size=(150, 4))),
        eta=rng.uniform(0.1, 0.5, size=150),
        rho=rng.uniform(0.0, 0.5, size=150),
    )
    smallest, flips = smallest_preactivation(smooth)
    kept = [int(run) for run in np.flatnonzero(flips & (smallest > 2e-3))]
    assert len(kept) > 30, "the problem must have flips to test"
    check(fast_engine, fully_recorded(take(smooth, kept)))


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("perturb", PERTURBED_SETS)
def test_zero_gradient_perturbs_nothing(any_engine: EngineCase, perturb: str, norm: str) -> None:
    """All-zero weights stay exact zeros: 0/0 in the normalisation would show as NaN."""
    zeros = np.zeros((3, 4))
    problem = TrainingProblem(
        features=np.ones((1, 2, 4)), labels=np.array([[1.0, -1.0]]), initial_layers=(zeros, zeros),
        rho=[0.0, 0.1, 1.0], eta=0.1, perturb=perturb, norm=norm, steps=4, record_steps=[0, 4], record_layers=True,
    )  # fmt: skip
    result = any_engine(problem)
    np.testing.assert_array_equal(np.stack(result.layers), 0.0)
    np.testing.assert_array_equal(result.records.gradient_norm, 0.0)
    np.testing.assert_array_equal(result.status, Status.COLLAPSED)
    np.testing.assert_allclose(result.loss, np.log(2), rtol=1e-6)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("perturb", PERTURBED_SETS)
def test_zero_last_layer(
    fast_engine: EngineCase, perturb: str, norm: str, activation: str, rng: np.random.Generator
) -> None:
    """With v = 0 the first layer's gradient is exactly zero: ``perturb="first"`` perturbs nothing at step 0."""
    problem = random_problem(rng, network="two_layer", activation=activation, norm=norm, perturb=perturb, steps=1)
    check(fast_engine, replace(problem, initial_layers=(problem.layers[0], np.zeros_like(problem.layers[1]))))


@pytest.mark.parametrize("norm", NORMS)
def test_dead_relu_network_stays_where_it_is(any_engine: EngineCase, norm: str) -> None:
    """No gate is open on any sample: the gradient is zero and so is the step."""
    first, last = np.full((2, 3, 2), -1.0), np.full((2, 3), 0.5)
    problem = TrainingProblem(
        features=np.ones((1, 4, 2)), labels=np.ones((1, 4)), initial_layers=(first, last), network="two_layer",
        activation="relu", norm=norm, rho=0.1, eta=0.5, steps=3,
    )  # fmt: skip
    result = any_engine(problem)
    np.testing.assert_array_equal(result.layers[0], first)
    np.testing.assert_array_equal(result.layers[1], last)
    np.testing.assert_array_equal(result.gradient_norm, 0.0)


@pytest.mark.parametrize("margin", [1e3, -1e3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", ["diagonal", "linear", "relu"])
def test_extreme_margins(fast_engine: EngineCase, network: str, loss: str, margin: float) -> None:
    """Two samples with margins of ``margin`` at the start, where a naive exp or a naive norm overflows."""
    if loss == "exponential":
        margin = max(margin, -60.0)  # e^60 = 1e26 is finite in float32, its square is not
    ones = np.ones((3, 1))
    kind: dict[str, Any] = {} if network == "diagonal" else {"network": "two_layer", "activation": network}
    layers = (ones, ones) if network == "diagonal" else (ones[:, None, :], ones)
    # The curvature is at most x^2 d lambda/dm, with d lambda/dm 1/4, 1 and e^-m.
    eta = {"logistic": 1e-5, "squared": 1e-8, "exponential": 1e-9 * np.exp(min(margin, 0.0))}[loss]
    problem = TrainingProblem(
        features=np.abs([[[margin], [margin]]]), labels=np.sign([[margin, margin]]), initial_layers=layers, loss=loss,
        eta=eta, rho=[0.0, 0.01, 0.1], steps=3, record_steps=[0, 1, 3],
        **kind,
    )  # fmt: skip
    result = fast_engine(problem)
    wanted = reference.train(problem)
    np.testing.assert_array_equal(result.status, wanted.status)
    # Rounding the margin by eps |margin| changes e^-m by a factor 1 + eps |margin|. An example weight below the
    # smallest normal number may come out as zero or as that number.
    limit = tolerance(problem, fast_engine.precision) * abs(margin)
    tiny = 10 * abs(margin) * float(np.finfo(fast_engine.precision).tiny)
    for name in ("loss", "gradient_norm", "coefficients"):
        np.testing.assert_allclose(getattr(result, name), getattr(wanted, name), rtol=limit, atol=tiny, err_msg=name)
        ours, theirs = getattr(result.records, name), getattr(wanted.records, name)
        np.testing.assert_allclose(ours, theirs, rtol=limit, atol=tiny, err_msg=f"records.{name}")


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_fitted_samples_keep_their_relative_weight(fast_engine: EngineCase, loss: str) -> None:
    """Loss and gradient at margins of 1 to 40 are right relative to themselves: log(1 + e^-m) is not 0."""
    margins = np.linspace(1.0, 40.0, 21)
    problem = TrainingProblem(
        features=margins[:, None, None], labels=[[1.0]], initial_layers=(np.ones((1, 1)), np.ones((1, 1))),
        loss=loss, steps=0,
    )  # fmt: skip
    result, wanted = fast_engine(problem), reference.train(problem)
    limit = tolerance(problem, fast_engine.precision) * 40.0
    np.testing.assert_allclose(result.loss, wanted.loss, rtol=limit)
    np.testing.assert_allclose(result.gradient_norm, wanted.gradient_norm, rtol=limit)


def test_tiny_gradient_still_has_a_direction(any_engine: EngineCase) -> None:
    """The square of a gradient underflows long before the gradient does; "a zero gradient perturbs nothing" is not it.

    A gradient of order e^-m, and a radius that takes the phantom point from margin m to a margin near 0: both weights
    are a~ = 1 - rho/sqrt 2 there and move by eta m a~ sigmoid(-m a~^2), which is far from nothing. In float32 e^-2m
    underflows; in float64 it only comes close, since the reference itself takes squares.
    """
    margin = 60.0 if any_engine.precision == "float32" else 340.0
    ones, rho, eta = np.ones((1, 1)), 1.3, 1e-3
    problem = TrainingProblem(
        features=[[[margin]]], labels=[[1.0]], initial_layers=(ones, ones), rho=rho, eta=eta, steps=1
    )
    phantom = 1 - rho / np.sqrt(2)
    moved = eta * margin * phantom / (1 + np.exp(margin * phantom**2))
    np.testing.assert_allclose(np.ravel(any_engine(problem).layers), 1 + moved, rtol=1e-5)


def test_collapsed_runs_are_told_apart(any_engine: EngineCase) -> None:
    """One feature with balanced weights a grows iff a > rho / sqrt 2 (for small learning rates)."""
    start = np.array([0.2, 0.2, 0.6])[:, None]
    problem = TrainingProblem(
        features=[[[1.0]]], labels=[[1.0]], initial_layers=(start, start), rho=[0.0, 0.6, 0.6], eta=0.04, steps=750
    )
    result = any_engine(problem)
    np.testing.assert_array_equal(result.status, [Status.OK, Status.COLLAPSED, Status.OK])
    assert abs(result.coefficients[1, 0]) < 1e-2
    np.testing.assert_array_equal(any_engine(replace(problem, collapse_threshold=0.0)).status, Status.OK)
    np.testing.assert_array_equal(any_engine(replace(problem, collapse_threshold=1e3)).status, Status.COLLAPSED)


def test_no_records_no_levels_have_empty_shapes(any_engine: EngineCase, rng: np.random.Generator) -> None:
    problem = random_problem(rng, runs=3, dimension=4)
    result = any_engine(problem)
    assert result.records.coefficients.shape == (3, 0, 4)
    assert result.records.loss.shape == result.records.gradient_norm.shape == (3, 0)
    assert result.crossings.coefficients.shape == (3, 0, 4)
    assert result.crossings.step.shape == result.crossings.loss.shape == (3, 0)
    assert result.records.layers is None
    assert result.crossings.layers is None
    asked = any_engine(replace(problem, record_layers=True))
    assert [layer.shape for layer in asked.records.layers or ()] == [(3, 0, 4)] * 2
    assert [layer.shape for layer in asked.crossings.layers or ()] == [(3, 0, 4)] * 2


def test_training_leaves_the_problem_alone(any_engine: EngineCase, rng: np.random.Generator) -> None:
    problem = fully_recorded(random_problem(rng, shared=SHAREABLE))
    before = [array.copy() for array in (*problem.layers, problem.features, problem.rho)]
    any_engine(problem)
    after = (*problem.layers, problem.features, problem.rho)
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_result_says_who_made_it(any_engine: EngineCase, rng: np.random.Generator) -> None:
    result = any_engine(random_problem(rng))
    assert result.engine == any_engine.name
    assert result.precision == any_engine.precision
    assert result.seconds > 0


# --- diverging runs ---------------------------------------------------------------------------------------------------


@few_network_kinds
@pytest.mark.parametrize("kind", DIVERGING)
def test_diverged_run_is_flagged_frozen_and_alone(
    any_engine: EngineCase, kind: str, network: dict[str, Any], rng: np.random.Generator
) -> None:
    problem = diverging(kind, network, rng)
    result = any_engine(problem)
    others = [run for run in range(problem.runs) if run != BAD_RUN]
    assert result.status[BAD_RUN] == Status.DIVERGED
    assert (result.status[others] != Status.DIVERGED).all()
    stopped = int(result.stopped_step[BAD_RUN])
    assert stopped < problem.steps
    assert (result.stopped_step[others] == problem.steps).all()

    assert all(np.isfinite(layer).all() for layer in result.layers), "frozen at its last finite parameters"
    if kind == "first_step":
        assert stopped == 0
        assert np.isfinite(result.loss[BAD_RUN]), "flagged although the frozen parameters' loss is fine"
        for layer, start in zip(result.layers, problem.layers, strict=True):
            np.testing.assert_array_equal(layer[BAD_RUN], start[BAD_RUN].astype(any_engine.precision))
    after = problem.record_steps > stopped
    kept = result.records
    for name, array in {"loss": kept.loss, "norm": kept.gradient_norm, "coefficients": kept.coefficients}.items():
        assert np.isnan(array[BAD_RUN, after]).all(), f"records.{name} after step {stopped}"
    for layer in kept.layers or ():
        assert np.isnan(layer[BAD_RUN, after]).all()
        assert np.isfinite(layer[BAD_RUN, ~after]).all()
    assert result.crossings.step[BAD_RUN].max() <= stopped
    # In the reference NumPy's einsum may choose another order of summation for another B; the fast engines may not.
    without = any_engine(take(problem, others))
    if any_engine.name != "reference":
        assert_same_bits(without, result, others)


@few_network_kinds
@pytest.mark.parametrize("kind", DIVERGING)
def test_diverged_run_stops_where_the_reference_does(
    fast_engine: EngineCase, kind: str, network: dict[str, Any], rng: np.random.Generator
) -> None:
    if fast_engine.precision != "float64":
        pytest.skip("float32 overflows earlier")
    problem = diverging(kind, network, rng)
    result, wanted = fast_engine(problem), reference.train(problem)
    np.testing.assert_array_equal(result.stopped_step, wanted.stopped_step)
    np.testing.assert_array_equal(result.status, wanted.status)
    # Every update multiplies the run's relative error by a few units at most, and there are up to 61 of them.
    for ours, theirs in zip(result.layers, wanted.layers, strict=True):
        scale = np.abs(theirs[BAD_RUN]).max()
        np.testing.assert_allclose(ours[BAD_RUN] / scale, theirs[BAD_RUN] / scale, rtol=0, atol=1e-10)


def test_infinite_final_loss_is_divergence(any_engine: EngineCase) -> None:
    """Finite parameters, all updates done (none), but a loss of 1e400."""
    if any_engine.precision != "float64":
        pytest.skip("the numbers are chosen for float64")
    large = np.array([[1.0], [1e100]])
    problem = TrainingProblem(
        features=[[[1.0]]], labels=[[1.0]], initial_layers=(large, large), loss="squared", steps=0
    )
    result = any_engine(problem)
    np.testing.assert_array_equal(result.status, [Status.OK, Status.DIVERGED])
    np.testing.assert_array_equal(result.stopped_step, 0)
    np.testing.assert_array_equal(result.layers[0], large)


# --- runs do not see each other ---------------------------------------------------------------------------------------

BITWISE: dict[str, dict[str, Any]] = {
    **FEW_NETWORKS,
    "minibatch": {"batch_size": 3, "batch_seed": np.arange(37), "momentum": True, "decay": True},
    "relu_minibatch": {**NETWORKS["relu"], "batch_size": 3, "batch_seed": np.arange(37), "norm": "linf"},
    "shared": {"shared": SHAREABLE, **NETWORKS["linear"]},
}
bitwise_kinds = pytest.mark.parametrize("options", BITWISE.values(), ids=BITWISE)


@bitwise_kinds
def test_run_alone_equals_run_in_the_batch(
    fast_engine: EngineCase, options: dict[str, Any], rng: np.random.Generator
) -> None:
    problem = fully_recorded(random_problem(rng, runs=37, samples=5, dimension=7, width=5, **FEW, **options))
    together = fast_engine(problem)
    for run in range(0, problem.runs, 12 if INTERPRETED else 1):
        assert_same_bits(fast_engine(problem.select(slice(run, run + 1))), together, [run])


@bitwise_kinds
def test_order_of_runs_does_not_matter(
    fast_engine: EngineCase, options: dict[str, Any], rng: np.random.Generator
) -> None:
    problem = fully_recorded(random_problem(rng, runs=37, samples=5, dimension=7, width=5, **FEW, **options))
    order = [int(run) for run in rng.permutation(37)]
    assert_same_bits(fast_engine(take(problem, order)), fast_engine(problem), order)


@bitwise_kinds
def test_threads_do_not_change_a_bit(
    fast_engine: EngineCase, options: dict[str, Any], rng: np.random.Generator
) -> None:
    few = fully_recorded(random_problem(rng, runs=37, samples=5, dimension=7, width=5, **FEW, **options))
    problem = take(few, [run % 37 for run in range(500)])
    wanted = fast_engine(problem, threads=1)
    for threads in (2,) if INTERPRETED else (2, 3, None):
        assert_same_bits(fast_engine(problem, threads=threads), wanted)


@few_network_kinds
@pytest.mark.parametrize("name", SHAREABLE)
def test_shared_data_equals_its_copies(
    fast_engine: EngineCase, name: str, network: dict[str, Any], rng: np.random.Generator
) -> None:
    problem = fully_recorded(random_problem(rng, runs=19, samples=5, dimension=6, shared=(name,), **FEW, **network))
    if name == "initial_layers":
        copies: dict[str, Any] = {name: tuple(np.array(layer) for layer in problem.layers)}
    else:
        copies = {name: np.repeat(getattr(problem, name), problem.runs, axis=0)}
    for batch_size in (None, 3):
        shared = replace(problem, batch_size=batch_size)
        assert_same_bits(fast_engine(replace(shared, **copies)), fast_engine(shared))


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_rises_to_the_total(any_engine: EngineCase, rng: np.random.Generator) -> None:
    calls: list[tuple[int, int]] = []
    problem = random_problem(rng, runs=40, steps=500)
    any_engine(problem, progress=lambda done, total: calls.append((done, total)))
    done, totals = zip(*calls, strict=True)
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert done[0] >= 0
    assert done[-1] == totals[0]


def test_error_in_progress_reaches_the_caller(any_engine: EngineCase, rng: np.random.Generator) -> None:
    class StopHere(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopHere

    problem = random_problem(rng, runs=40, steps=500)
    with pytest.raises(StopHere):
        any_engine(problem, progress=stop)
    assert (any_engine(problem).stopped_step == 500).all(), "the engine still works"
