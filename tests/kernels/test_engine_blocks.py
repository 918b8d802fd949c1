"""The CPU engine's blocks of samples, neurons and features, and their edges, with each instruction set of this machine.

Sizes lie on both sides of a tile of 16 samples, of blocks of 2, 4 and 8 within it, and of the number of features from
which small matrix products take over (9).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels import cpu
from kernels.problem import TrainingProblem
from support.agreement import assert_agrees, assert_same_bits
from support.engines import EngineCase
from support.problems import random_problem

RUNS = 19


@pytest.fixture(params=["float32", "float64"])
def engine(request: pytest.FixtureRequest) -> EngineCase:
    case = EngineCase("cpu", request.param)
    case.require()
    return case


@pytest.fixture(params=["v2", "v3", "v4", "native"])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the machine's: they have different numbers of registers, hence different blocks."""
    if cpu.unavailable() is not None or request.param not in cpu.native().instruction_sets():
        pytest.skip(f"instruction set {request.param} is not available here")
    monkeypatch.setenv("SAMBALANCE_ISA", request.param)
    return str(request.param)


def relu_network(rng: np.random.Generator, **sizes: Any) -> TrainingProblem:
    """Runs on samples that all of them share."""
    problem = random_problem(
        rng, runs=RUNS, shared=("features", "labels", "feature_scale"), steps=4, network="two_layer",
        activation="relu", **sizes,
    )  # fmt: skip
    return replace(problem, record_steps=[0, 2, 4], record_layers=True)


@pytest.mark.parametrize("samples", [1, 3, 4, 7, 15, 16, 17, 28, 33])
@pytest.mark.parametrize("dimension", [4, 9])
def test_edges_of_a_tile_of_samples(
    engine: EngineCase, instruction_set: str, dimension: int, samples: int, rng: np.random.Generator
) -> None:
    problem = relu_network(rng, samples=samples, dimension=dimension, width=5)
    assert_agrees(engine(problem), problem, engine.precision)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 9])
@pytest.mark.parametrize("dimension", [1, 8, 9, 11])
def test_edges_of_blocks_of_neurons_and_features(
    engine: EngineCase, instruction_set: str, dimension: int, width: int, rng: np.random.Generator
) -> None:
    problem = relu_network(rng, samples=21, dimension=dimension, width=width)
    assert_agrees(engine(problem), problem, engine.precision)


@pytest.mark.parametrize("dimension", [4, 9])
def test_a_run_alone_has_the_bits_of_the_batch(
    engine: EngineCase, instruction_set: str, dimension: int, rng: np.random.Generator
) -> None:
    problem = relu_network(rng, samples=37, dimension=dimension, width=5)
    together = engine(problem)
    for run in (0, 7, RUNS - 1):
        assert_same_bits(engine(problem.select(slice(run, run + 1))), together, [run])
