"""Which engines the tests run on: the one place to add an engine.

An engine that this machine lacks has no tests in the suite that all engines share, and one skipped test says so. With
``SAMBALANCE_REQUIRE_ENGINES=cpu`` (names, comma-separated) it has them all the same, and they fail, so that a build
server cannot pass by testing nothing. With ``TRITON_INTERPRET=1`` the Triton engine needs no GPU: Triton's interpreter
runs its kernels. ``SAMBALANCE_KERNELS=few`` (``benchmarks/gpu_check.sh``) leaves out tests of the Triton engine that
need a kernel of their own, one that differs from others in a single option.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import pytest

from kernels import cpu
from kernels.gpu import engine as triton_engine
from kernels.names import EFFECTS, NORMS, PERTURBED_SETS
from kernels.problem import TrainingProblem, TrainingResult
from support.interpreter import patch_once_per_launch

INTERPRETED = triton_engine.interpreted()
"""In Triton's interpreter seconds are what milliseconds are elsewhere: tests repeat themselves less often."""
FAST_ENGINES = {"cpu": ("float32", "float64"), "triton": ("float32",) if INTERPRETED else ("float32", "float64")}
"""Name of each engine that is held to the reference, and its precisions (test_triton_engine.py has float64)."""
MODULES = {"cpu": cpu, "triton": triton_engine}
FEW_KERNELS = os.environ.get("SAMBALANCE_KERNELS") == "few"
WITHOUT_PRECISION_OF_THEIR_OWN = (
    "test_every_sharing_of_data", "test_shared_data_equals_its_copies", "test_run_alone_equals_run_in_the_batch",
    "test_order_of_runs_does_not_matter", "test_threads_do_not_change_a_bit",
)  # fmt: skip
"""Tests of how data are addressed, in which float32 speaks for float64."""


def required(engine: str) -> bool:
    """Whether tests must fail where this engine is missing."""
    return engine in os.environ.get("SAMBALANCE_REQUIRE_ENGINES", "").replace(" ", "").split(",")


def skip_or_fail(engine: str, reason: str) -> None:
    """Skip the test for want of something that ``engine`` needs; fail it where the engine was required."""
    if required(engine):
        pytest.fail(f"SAMBALANCE_REQUIRE_ENGINES asks for engine {engine!r}: {reason}")
    pytest.skip(reason)


def require_triton_package() -> None:
    """For tests of what Triton can do without the engine: compile, or interpret other kernels."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("triton") is None:
        skip_or_fail("triton", "triton is not installed")


@dataclass(frozen=True)
class EngineCase:
    """One engine at one precision; calling it trains a problem."""

    name: str
    precision: str

    def __call__(self, problem: TrainingProblem, **options: Any) -> TrainingResult:
        from kernels.engine import train

        return train(problem, engine=self.name, precision=self.precision, **options)

    def lacks(self, problem: TrainingProblem) -> str | None:
        """What of a problem the engine says that it lacks, or None."""
        return MODULES[self.name].lacks(problem) if self.name in MODULES else None

    def require(self) -> None:
        """Skip the test, or fail it where the engine was required, if this machine lacks the engine."""
        reason = MODULES[self.name].unavailable() if self.name in MODULES else None
        if reason is not None:
            skip_or_fail(self.name, f"engine {self.name!r} is not available: {reason}")
        if self.name == "triton" and INTERPRETED:
            patch_once_per_launch()


def fast_cases() -> list[EngineCase]:
    """The fast engines that are tried here: those that this machine has, and those that it is required to have."""
    tried = {name: required(name) or MODULES[name].unavailable() is None for name in FAST_ENGINES}
    return [EngineCase(name, each) for name, precisions in FAST_ENGINES.items() if tried[name] for each in precisions]


def all_cases() -> list[EngineCase]:
    """The reference and the fast engines that are tried here."""
    return [EngineCase("reference", "float64"), *fast_cases()]


def case_id(case: EngineCase) -> str:
    return f"{case.name}-{case.precision}"


def left_out(item: pytest.Item) -> bool:
    """Whether a test of the Triton engine is left out: one that needs a kernel of its own where there are to be few; in
    the interpreter some of the rules and layouts, whose code the others run too."""
    parameters, engine, name = _case(item)
    if engine is None or engine.name != "triton":
        return False
    if name == "test_every_rule" and (FEW_KERNELS or INTERPRETED):
        return not _in_latin_square(parameters)
    return FEW_KERNELS and engine.precision == "float64" and name in WITHOUT_PRECISION_OF_THEIR_OWN


def exhaustive(item: pytest.Item) -> bool:
    """Whether a test is marked slow, because it combines what others combine in pairs: two thirds of the rules, and the
    second precision where a precision makes no difference."""
    parameters, engine, name = _case(item)
    if name == "test_every_rule":
        return not _in_latin_square(parameters)
    return engine == EngineCase("cpu", "float64") and name in WITHOUT_PRECISION_OF_THEIR_OWN


def _case(item: pytest.Item) -> tuple[dict[str, Any], EngineCase | None, str]:
    """Parameters of a test, its engine if it is one of the fast ones' tests, and its name without parameters."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    engine = parameters.get("fast_engine")
    return parameters, engine if isinstance(engine, EngineCase) else None, item.name.split("[")[0]


def _in_latin_square(rule: dict[str, Any]) -> bool:
    """A third of the rules, with every pair of a perturbed set, a norm and an effect."""
    places = [PERTURBED_SETS.index(rule["perturb"]), NORMS.index(rule["norm"]), EFFECTS.index(rule["effect"])]
    return sum(places) % 3 == 0
