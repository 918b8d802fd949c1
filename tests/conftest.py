"""Fixtures of all tests, and how pytest and hypothesis run here.

The workers of pytest-xdist share the machine's CPUs, so each (and what it starts) computes on one thread.
"""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy and torch count the CPUs
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

from support.engines import EngineCase, all_cases, case_id, exhaustive, fast_cases, left_out

settings.register_profile("sambalance", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("sambalance")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of an engine are made when they are collected: a plugin may have brought an engine until then."""
    for fixture, cases in (("fast_engine", fast_cases), ("any_engine", all_cases)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, cases(), ids=case_id, indirect=True)


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in filter(exhaustive, items):
        item.add_marker(pytest.mark.slow)
    redundant = {item for item in items if left_out(item)}
    if redundant:
        config.hook.pytest_deselected(items=list(redundant))
        items[:] = [item for item in items if item not in redundant]


@pytest.fixture
def fast_engine(request: pytest.FixtureRequest) -> EngineCase:
    """Each fast engine at each of its precisions."""
    case: EngineCase = request.param
    case.require()
    return case


@pytest.fixture
def any_engine(request: pytest.FixtureRequest) -> EngineCase:
    """The reference and each fast engine: for promises of the contract that need no second opinion."""
    case: EngineCase = request.param
    case.require()
    return case


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20405)
