"""What an engine promises as a guest in a process: signals, the GIL, threads, instruction sets."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.agreement import assert_agrees
from support.engines import EngineCase
from support.training_child import battery

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

ISA_NEEDS = {
    "v2": {"ssse3", "sse4_1", "sse4_2", "popcnt"},
    "v3": {"avx2", "fma", "bmi1", "bmi2"},
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}


def start(task: str, engine: EngineCase, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "support.training_child", task, engine.name, engine.precision, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def train_until_interrupted(engine: EngineCase, seconds: float, **environment: str) -> tuple[dict[str, Any], float]:
    """What the child reports, and how long it took to end after SIGINT."""
    with start("endless", engine, **environment) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "started"
            time.sleep(seconds)
            assert child.poll() is None, "the training must still be running"
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            output, _ = child.communicate(timeout=20)
            return json.loads(output), time.monotonic() - sent
        finally:
            child.kill()


@linux
def test_interrupt_ends_a_training_and_the_gil_is_free_meanwhile(fast_engine: EngineCase) -> None:
    report, seconds = train_until_interrupted(fast_engine, seconds=0.5)
    assert report["interrupted"]
    assert seconds < 3.0, "about 1 s is promised"
    # Triton's interpreter is Python itself and shares the GIL; an engine proper does not need it.
    enough = 5 if os.environ.get("TRITON_INTERPRET") == "1" and fast_engine.name == "triton" else 20
    assert report["counted"] > enough, "a Python thread that sleeps 1 ms per round must get its rounds in 0.5 s"


@linux
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_omp_num_threads_is_respected(fast_engine: EngineCase) -> None:
    if fast_engine.name != "cpu" or fast_engine.precision != "float32":
        pytest.skip("counted once, for the CPU engine")
    new = {n: train_until_interrupted(fast_engine, 0.3, OMP_NUM_THREADS=str(n))[0]["new_threads"] for n in (1, 2)}
    assert new[1] < new[2], new


@linux
@pytest.mark.parametrize("isa", ISA_NEEDS)
def test_each_instruction_set_agrees_with_the_reference(fast_engine: EngineCase, isa: str, tmp_path: Path) -> None:
    if fast_engine.name != "cpu":
        pytest.skip("instruction sets are the CPU engine's")
    flags = set(Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split())
    if lacking := ISA_NEEDS[isa] - flags:
        pytest.skip(f"this machine lacks {', '.join(sorted(lacking))}")
    out = tmp_path / "results.pickle"
    with start("battery", fast_engine, str(out), SAMBALANCE_ISA=isa) as child:
        assert child.wait(timeout=60) == 0
    results = pickle.loads(out.read_bytes())
    for problem, result in zip(battery(), results, strict=True):
        assert_agrees(result, problem, fast_engine.precision)
