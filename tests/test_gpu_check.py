"""``benchmarks/gpu_check.sh`` with a stand-in for Python: what it runs, in which order, and what stops it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu_check.sh"
STAND_IN = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$1 $2" in
  "-c import hypothesis") exit "${HYPOTHESIS:-0}" ;;
  "- ") cat >/dev/null; echo "${NO_GPU:-one GPU}"; [[ -z ${NO_GPU:-} ]] ;;
  "-m pytest")
    case ${TESTS:-pass} in
      pass) echo "tests/a.py::test_a PASSED [ 50%]"; echo "tests/a.py::test_b SKIPPED [100%]" ;;
      fail) echo "tests/a.py::test_a PASSED [ 50%]"; echo "tests/a.py::test_b FAILED [100%]"; exit 1 ;;
      slow) echo "tests/a.py::test_a PASSED [ 50%]"; exec sleep 60 ;;
      none) exit 5 ;;
    esac ;;
  "benchmarks/bench_gpu.py"*) echo "PYTHONPATH=$PYTHONPATH" >>"$CALLS"; exit "${BENCHMARK:-0}" ;;
esac
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def check(stand_in: Path, *options: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    calls = stand_in.parent / "calls"
    calls.write_text("")
    done = subprocess.run(
        ["bash", str(SCRIPT), *options],
        env={**os.environ, "PYTHON": str(stand_in), "CALLS": str(calls), "LOGS": str(stand_in.parent / "logs"),
             "TRITON_INTERPRET": "1", **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done, calls.read_text().splitlines()


def benchmarked(calls: list[str]) -> bool:
    return any(call.startswith("benchmarks/bench_gpu.py") for call in calls)


def test_tests_come_first_and_cover_every_kind_of_network(stand_in: Path) -> None:
    done, calls = check(stand_in)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = [i for i, call in enumerate(calls) if call.startswith("-m pytest")]
    bench = next(i for i, call in enumerate(calls) if call.startswith("benchmarks/bench_gpu.py"))
    assert len(tests) == 7
    assert max(tests) < bench
    assert "7 passed" not in done.stdout
    assert done.stdout.count("1 passed, 0 failed: all passed") == 7


def test_a_failure_stops_before_the_benchmark(stand_in: Path) -> None:
    for tests in ("fail", "none"):
        done, calls = check(stand_in, TESTS=tests)
        assert done.returncode == 1
        assert "nothing is timed" in done.stderr
        assert not benchmarked(calls)


def test_tests_that_run_out_of_time_are_said_to(stand_in: Path) -> None:
    done, calls = check(stand_in, TESTS="slow", TEST_SECONDS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stopped at the time limit" in done.stdout
    assert benchmarked(calls)


def test_no_gpu_is_an_error(stand_in: Path) -> None:
    done, calls = check(stand_in, NO_GPU="none")
    assert done.returncode == 1
    assert not any(call.startswith("-m pytest") for call in calls)


def test_options(stand_in: Path) -> None:
    done, calls = check(stand_in, "--tests")
    assert done.returncode == 0
    assert not benchmarked(calls)
    done, calls = check(stand_in, "--quick", OUTPUT="other.csv", HYPOTHESIS="1")
    assert "benchmarks/bench_gpu.py --quick --output other.csv" in calls
    assert any("without_hypothesis" in call for call in calls)
    assert check(stand_in, "--fast")[0].returncode == 2
    assert check(stand_in, BENCHMARK="3")[0].returncode == 3
