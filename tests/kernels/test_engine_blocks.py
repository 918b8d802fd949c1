"""The CPU engine at sizes of heads on real features: its blocks of samples, neurons and features, and their edges.

Sizes lie on both sides of a tile of samples (16 or 48), of blocks of four and eight, and of the number of features from
which small matrix products take over (7).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from agreement import assert_agrees, assert_same_bits
from conftest import EngineCase
from problems import random_problem

from kernels import cpu
from kernels.problem import EFFECTS, TrainingProblem

RELU: dict[str, Any] = {"network": "two_layer", "activation": "relu"}
NETWORKS: dict[str, dict[str, Any]] = {"diagonal": {}, "linear": {"network": "two_layer"}, "relu": RELU}
SHARED = ("features", "labels", "feature_scale")
"""What the runs of a table of features have in common."""
RUNS = 19
network_kinds = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


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


def head(rng: np.random.Generator, network: dict[str, Any], **sizes: Any) -> TrainingProblem:
    problem = random_problem(rng, runs=RUNS, shared=SHARED, steps=4, **{**sizes, **network})
    return replace(problem, record_steps=[0, 2, 4], record_layers=True)


@pytest.mark.parametrize("samples", [1, 15, 17, 47, 48, 49, 53, 98])
def test_edges_of_a_tile_of_samples(
    engine: EngineCase, instruction_set: str, samples: int, rng: np.random.Generator
) -> None:
    problem = head(rng, RELU, samples=samples, dimension=9, width=5)
    assert_agrees(engine(problem), problem, engine.precision)


@pytest.mark.parametrize("width", [1, 3, 4, 6, 9])
@pytest.mark.parametrize("dimension", [6, 7, 8, 11, 13])
def test_edges_of_blocks_of_neurons_and_features(
    engine: EngineCase, instruction_set: str, dimension: int, width: int, rng: np.random.Generator
) -> None:
    problem = head(rng, RELU, samples=51, dimension=dimension, width=width)
    assert_agrees(engine(problem), problem, engine.precision)


@pytest.mark.parametrize("effect", EFFECTS)
@network_kinds
def test_many_samples_and_features(
    engine: EngineCase, network: dict[str, Any], effect: str, rng: np.random.Generator
) -> None:
    problem = head(rng, network, samples=1003, dimension=130, width=5, effect=effect)
    assert_agrees(engine(problem), problem, engine.precision)


@network_kinds
def test_mini_batches_of_many_samples(engine: EngineCase, network: dict[str, Any], rng: np.random.Generator) -> None:
    """Draws that lanes share, and draws of their own: samples as scalars and as vectors."""
    problem = head(rng, network, samples=501, dimension=18, width=6, batch_size=67)
    for seeds in (np.full(RUNS, 3), np.arange(RUNS)):
        drawn = replace(problem, batch_seed=seeds.astype(np.uint64))
        assert_agrees(engine(drawn), drawn, engine.precision)


@network_kinds
def test_weights_of_each_run(engine: EngineCase, network: dict[str, Any], rng: np.random.Generator) -> None:
    """Sample weights [B, S] train run by run as [1, S] does, alone, in the batch and on any number of threads."""
    problem = head(rng, network, samples=301, dimension=33, width=5)
    together = engine(problem)
    assert_agrees(together, problem, engine.precision)
    weights = problem.array("sample_weights")
    assert len(np.unique(weights[:, 0])) == RUNS
    for run in (0, 7, RUNS - 1):
        alone = problem.select(slice(run, run + 1))
        assert_same_bits(engine(alone), together, [run])
        shared = replace(problem, sample_weights=weights[run : run + 1])
        assert_same_bits(engine(alone), engine(shared), [run])
    assert_same_bits(engine(problem, threads=2), engine(problem, threads=1))
