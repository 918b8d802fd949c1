"""What is the Triton engine's own: its layouts, launches and float64. On a GPU, or in Triton's interpreter.

TRITON_INTERPRET=1 python -m pytest tests/kernels -k triton
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels import reference
from kernels.gpu import engine as triton_engine
from kernels.gpu import memory as triton_memory
from kernels.gpu import results as triton_results
from kernels.problem import Status, TrainingProblem
from support.agreement import assert_agrees, assert_same_bits
from support.engine_problems import BAD_RUN, NETWORKS, diverging, fully_recorded, network_kinds
from support.engines import INTERPRETED, EngineCase
from support.problems import levels_along, random_problem

FLOAT32, FLOAT64 = EngineCase("triton", "float32"), EngineCase("triton", "float64")


@pytest.fixture(autouse=True)
def _needs_the_engine() -> None:
    FLOAT32.require()


def use_layout(
    monkeypatch: pytest.MonkeyPatch, lanes: int, rows: int, problem: TrainingProblem, unroll: int = 1
) -> None:
    from kernels.gpu import layout

    warps = max(1, lanes * rows // 32)
    launch = layout.Launch(lanes, rows, -(-problem.width // lanes), warps, unroll)
    monkeypatch.setattr(layout, "choose", lambda *arguments: launch)


@network_kinds
@pytest.mark.parametrize(("lanes", "rows"), [(1, 32), (2, 16), (4, 8), (32, 1)])
def test_every_layout_computes_the_same(
    lanes: int, rows: int, network: dict[str, Any], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several neurons a thread, threads without any, rows beyond the last run, several programs."""
    if INTERPRETED and (list(NETWORKS.values()).index(network) + lanes.bit_length()) % 2:
        pytest.skip("in the interpreter each network has half of the layouts")
    problem = random_problem(rng, runs=rows + 3, samples=3, dimension=3, width=5, steps=3, decay=True, **network)
    if rows > 16 and INTERPRETED:
        problem = problem.select(slice(0, 5))
    use_layout(monkeypatch, lanes, rows, problem)
    problem = fully_recorded(problem)
    assert_agrees(FLOAT32(problem), problem, "float32")


@network_kinds
def test_float64(network: dict[str, Any], rng: np.random.Generator) -> None:
    options = {"momentum": True, "decay": True, "loss": "exponential", **network}
    for batch_size in (None, 3):
        problem = random_problem(rng, samples=5, dimension=4, width=3, steps=6, batch_size=batch_size, **options)
        problem = replace(problem, batch_seed=np.arange(5, dtype=np.uint64) + np.uint64(2**63))
        problem = fully_recorded(problem)
        assert_agrees(FLOAT64(problem), problem, "float64")


@pytest.mark.parametrize("name", ["diagonal", "linear", "relu"])
@pytest.mark.parametrize("kind", ["huge_eta", "first_step"])
def test_float64_diverges_where_the_reference_does(kind: str, name: str, rng: np.random.Generator) -> None:
    problem = diverging(kind, NETWORKS[name], rng)
    result, wanted = FLOAT64(problem), reference.train(problem)
    np.testing.assert_array_equal(result.stopped_step, wanted.stopped_step)
    np.testing.assert_array_equal(result.status, wanted.status)
    assert result.status[BAD_RUN] == Status.DIVERGED


@network_kinds
def test_launches_may_end_anywhere(
    network: dict[str, Any], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut between, at and right after records; the state between launches loses nothing, momentum among it."""
    from kernels.gpu import host

    problem = random_problem(rng, runs=3, steps=11, momentum=True, batch_size=2, **network)
    problem = replace(problem, record_steps=[0, 4, 5, 8, 11], record_layers=True, loss_levels=levels_along(problem))
    whole = FLOAT32(problem)
    monkeypatch.setattr(host, "LAUNCH_SECONDS", 1e9)
    monkeypatch.setattr(host, "GROWTH", 1)
    for steps in (1, 4):
        monkeypatch.setattr(host, "FIRST_STEPS", steps)
        calls: list[int] = []
        assert_same_bits(FLOAT32(problem, progress=lambda done, total, calls=calls: calls.append(done)), whole)
        assert calls == [*range(steps, 11, steps), 11]


def test_outputs_are_poisoned_before_the_launch(rng: np.random.Generator) -> None:
    import torch

    from kernels.gpu import layout
    from kernels.gpu.host import DeviceTraining

    problem = fully_recorded(random_problem(rng))
    device = torch.device("cpu" if INTERPRETED else "cuda")
    blank = DeviceTraining(problem, "float32", device, layout.choose(problem, "float32", INTERPRETED)).result
    for name, tensor in vars(blank).items():
        if name.startswith(("record", "crossing")) and tensor.is_floating_point():
            assert tensor.numel() > 0
            assert tensor.isnan().all(), name
    assert (blank.crossing_step == -1).all()


def test_a_tile_whose_runs_are_finished_does_no_more_steps(rng: np.random.Generator) -> None:
    """All runs overflow at once: a billion steps take no time, in as few launches as their length grows to."""
    problem = replace(random_problem(rng, runs=3, dimension=2, samples=2), eta=1e300, weight_decay=1e300)
    result = FLOAT32(replace(problem, steps=10**7 if INTERPRETED else 10**9))
    np.testing.assert_array_equal(result.stopped_step, 0)
    np.testing.assert_array_equal(result.status, Status.DIVERGED)


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_runs_are_split_over_devices(runs: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = fully_recorded(random_problem(rng, runs=runs, batch_size=2, shared=("features", "initial_layers")))
    alone = FLOAT32(problem)
    visible = triton_engine.visible_devices()
    monkeypatch.setattr(triton_engine, "visible_devices", lambda: (2 * visible)[:2])
    assert len(triton_engine.train_on_devices(problem)) == min(runs, 2)
    assert_same_bits(FLOAT32(problem), alone)


@pytest.mark.parametrize("record_layers", [False, True])
def test_runs_that_do_not_fit_into_memory_at_once_are_trained_in_slices(
    record_layers: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last slice has a momentum and a decay, which select another kernel: the bits are the same."""
    problem = fully_recorded(random_problem(rng, runs=7, batch_size=2, network="two_layer", shared=("features",)))
    only_last = np.where(np.arange(7) == 6, 0.5, 0.0)
    problem = replace(problem, record_layers=record_layers, weight_decay=only_last, momentum=only_last)
    whole = FLOAT32(problem)
    three_runs = 3 * triton_memory.bytes_per_run(problem, "float32") / triton_memory.USABLE
    monkeypatch.setattr(triton_engine, "_free_bytes", lambda device: int(three_runs) + 1)
    # The results are copied row by row.
    monkeypatch.setattr(triton_results, "BLOCK_BYTES", 1)
    devices = len(triton_engine.visible_devices())
    calls: list[tuple[int, int]] = []
    assert_same_bits(FLOAT32(problem, progress=lambda done, total: calls.append((done, total))), whole)
    parts = -(-7 // (3 * devices))
    assert calls[-1] == (parts * problem.steps, parts * problem.steps)
    assert calls == sorted(calls)


def test_results_can_stay_on_the_device(rng: np.random.Generator) -> None:
    problem = random_problem(rng, runs=4, dimension=3)
    trainings = triton_engine.train_on_devices(problem)
    theta = np.concatenate([training.result.theta.cpu().numpy() for training in trainings], axis=1)
    result = triton_engine.train(problem)
    np.testing.assert_array_equal(theta.T, np.concatenate(result.layers, axis=1).astype(np.float32))
