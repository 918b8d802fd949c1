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
  "-c import xdist") exit "${XDIST:-0}" ;;
  "-c import _sambalance_cpu") exit "${NATIVE:-0}" ;;
  "- ") cat >/dev/null; echo "${NO_GPU:-one GPU}"; [[ -z ${NO_GPU:-} ]] ;;
  "-m pip") exit "${PIP:-0}" ;;
  "-m pytest")
    echo "KERNELS=$SAMBALANCE_KERNELS CACHE=$TRITON_CACHE_DIR" >>"$CALLS"
    case ${TESTS:-pass} in
      pass) echo "tests/a.py::test_a PASSED [ 50%]"; echo "tests/a.py::test_b SKIPPED [100%]" ;;
      parallel) echo "[gw0] [ 50%] PASSED tests/a.py::test_a "; echo "[gw1] [100%] PASSED tests/a.py::test_b " ;;
      fail) echo "[gw0] [ 50%] PASSED tests/a.py::test_a "; echo "[gw1] [100%] FAILED tests/a.py::test_b "
        echo "FAILED tests/a.py::test_b - assert 0"; exit 1 ;;
      slow) echo "tests/a.py::test_a PASSED [ 50%]"; exec sleep 60 ;;
      none) exit 5 ;;
    esac ;;
  "benchmarks/bench_gpu.py --plan") echo "benchmark: a case  84  350" ;;
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
    mine = {"PYTHON": str(stand_in), "CALLS": str(calls), "TMPDIR": str(stand_in.parent), "TRITON_INTERPRET": "1"}
    inherited = {name: value for name, value in os.environ.items() if name not in ("OUT", "OUTPUT", "LOGS")}
    done = subprocess.run(
        ["bash", str(SCRIPT), *options],
        env={**inherited, **mine, **environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done, calls.read_text().splitlines()


def benchmarks_of(calls: list[str]) -> list[str]:
    return [call for call in calls if call.startswith("benchmarks/bench_gpu.py")]


def test_tests_come_first_and_few_kernels_are_compiled_on_many_processes(stand_in: Path) -> None:
    done, calls = check(stand_in, TESTS="parallel")
    assert done.returncode == 0, done.stdout + done.stderr
    (tests,) = (call for call in calls if call.startswith("-m pytest"))
    assert "--dist worksteal" in tests
    assert "not reference-float64" in tests, "tests whose names speak of the reference are run"
    assert "test_triton_move.py" in tests
    assert any("KERNELS=few" in call for call in calls)
    assert calls.index(tests) < calls.index(benchmarks_of(calls)[0])
    assert "  2 passed" in done.stdout
    assert benchmarks_of(calls) == ["benchmarks/bench_gpu.py --tests 2 passed"]


def test_without_xdist_the_tests_run_in_one_process(stand_in: Path) -> None:
    done, calls = check(stand_in, "--tests", XDIST="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  1 passed" in done.stdout
    assert not any("worksteal" in call for call in calls)
    assert not benchmarks_of(calls)


def test_a_failure_marks_the_rows_of_the_benchmark(stand_in: Path) -> None:
    for tests, outcome in (("fail", "1 passed, 1 failed"), ("none", "none passed (exit status 5)")):
        done, calls = check(stand_in, TESTS=tests)
        assert done.returncode == 1
        assert "rows of the benchmark will say so" in done.stderr
        assert benchmarks_of(calls) == [f"benchmarks/bench_gpu.py --tests {outcome}"]


def test_tests_and_benchmark_can_be_two_calls(stand_in: Path) -> None:
    assert benchmarks_of(check(stand_in, "--benchmark")[1]) == ["benchmarks/bench_gpu.py --tests not run"]
    assert check(stand_in, "--tests", TESTS="fail")[0].returncode == 1
    done, calls = check(stand_in, "--benchmark")
    assert done.returncode == 0
    assert benchmarks_of(calls) == ["benchmarks/bench_gpu.py --tests 1 passed, 1 failed"]
    assert not any(call.startswith("-m pytest") for call in calls)


def test_tests_that_run_out_of_time_are_said_to(stand_in: Path) -> None:
    done, calls = check(stand_in, TESTS="slow", TEST_SECONDS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert benchmarks_of(calls) == [
        "benchmarks/bench_gpu.py --tests 1 passed, 0 failed, stopped at the time limit"
    ]  # fmt: skip


def test_results_go_to_the_folder_that_comes_back_and_compiled_kernels_elsewhere(stand_in: Path) -> None:
    out = stand_in.parent / "out"
    done, calls = check(stand_in, OUT=str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert benchmarks_of(calls)[0].endswith(f"--output {out}/gpu.csv")
    assert (out / "logs" / "tests.log").exists()
    (cache,) = (call.split("CACHE=")[1] for call in calls if "CACHE=" in call)
    assert out not in Path(cache).parents


def test_the_cpu_engine_is_built_where_it_is_missing(stand_in: Path) -> None:
    done, calls = check(stand_in, "--benchmark")
    assert not any(call.startswith("-m pip") for call in calls)
    done, calls = check(stand_in, "--benchmark", NATIVE="1")
    (build,) = (call for call in calls if call.startswith("-m pip"))
    assert "--no-build-isolation --no-deps --no-index" in build
    done, calls = check(stand_in, "--benchmark", NATIVE="1", PIP="1")
    assert done.returncode == 0
    assert "no crossover will be measured" in done.stdout
    assert benchmarks_of(calls)


def test_no_gpu_is_an_error(stand_in: Path) -> None:
    done, calls = check(stand_in, NO_GPU="none")
    assert done.returncode == 1
    assert not any(call.startswith("-m pytest") for call in calls)


def test_a_dry_run_prints_each_stage_with_its_seconds_and_needs_no_gpu(stand_in: Path) -> None:
    done, calls = check(stand_in, "--dry-run", NO_GPU="none")
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in ("tests:", "SAM's kernels", "C++ engine", "benchmark: a case", "profile"):
        assert stage in done.stdout
    assert calls == ["benchmarks/bench_gpu.py --plan"]


def test_kernels_of_the_same_tests_are_counted_without_a_gpu(stand_in: Path) -> None:
    done, (call,) = check(stand_in, "--count", NO_GPU="none")
    assert done.returncode == 0, done.stdout + done.stderr
    _, calls = check(stand_in, "--tests")
    (tests,) = (each for each in calls if each.startswith("-m pytest"))
    counted = call.removeprefix("benchmarks/count_kernels.py ")
    assert counted != call
    assert counted in tests, "the tests that are counted are those that run"


def test_options(stand_in: Path) -> None:
    done, calls = check(stand_in, "--quick", OUTPUT="other.csv", HYPOTHESIS="1")
    assert done.returncode == 0
    assert benchmarks_of(calls) == ["benchmarks/bench_gpu.py --tests not run --quick --output other.csv"]
    assert any("without_hypothesis" in call for call in calls)
    done, _ = check(stand_in, "--fast")
    assert done.returncode == 2
    assert "unknown option --fast; allowed: --tests" in done.stderr
    assert check(stand_in, "--benchmark", BENCHMARK="3")[0].returncode == 3
