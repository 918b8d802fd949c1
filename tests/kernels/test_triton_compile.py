"""The Triton engine compiled for GPUs that need not be here, and the tables in ``benchmarks`` about it.

Layouts are planned so that nothing spills and enough warps fit into a multiprocessor; a compiler or a kernel that
breaks the plan is noticed here, on a few variants that compile quickly. ``benchmarks/compile_matrix.py`` compiles all.
"""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.engines import INTERPRETED, require_triton_package

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"
MOST_COMPILE_SECONDS = 60.0
"""CPU seconds that a committed row may have: a user waits that long for the first result of a new kind of network."""


@pytest.fixture(autouse=True)
def _needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    require_triton_package()
    monkeypatch.syspath_prepend(BENCHMARKS)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def matrix(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: an interpreted kernel cannot be compiled."""
    path = os.pathsep.join([str(BENCHMARKS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "compile_matrix.py"), "--output", str(output), *arguments],
        env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "architectures"),
    [
        ("diagonal two atoms", ["sm_80", "sm_90", "sm_100"]),
        ("linear 16x4", ["sm_90"]),
        ("relu 16x4, everything", ["sm_90"]),
    ],
    ids=["diagonal", "linear", "relu"],
)
def test_a_variant_compiles_without_spills_within_its_registers(
    variant: str, architectures: list[str], tmp_path: Path
) -> None:
    options = [option for name in architectures for option in ("--architecture", name)]
    done = matrix(tmp_path / "matrix.csv", "--only", variant, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    table = rows_of(tmp_path / "matrix.csv")
    assert [row["architecture"] for row in table] == architectures
    for row in table:
        assert row["variant"] == variant
        assert int(row["spilled_bytes"]) == 0
        assert int(row["lost_loop_values"]) == 0
        assert 0 < int(row["registers"]) <= int(row["planned_registers"])


def test_rows_that_break_the_plan_are_named() -> None:
    from compile_matrix import unplanned

    row = {
        "variant": "v", "architecture": "sm_90", "registers": 168, "planned_registers": 168, "spilled_bytes": 0,
        "lost_loop_values": 0,
    }  # fmt: skip
    assert unplanned(row) is None
    assert "spills 8 bytes" in str(unplanned({**row, "spilled_bytes": 8}))
    assert "takes 169 registers" in str(unplanned({**row, "registers": 169}))
    assert "loses 1 values that loops carry" in str(unplanned({**row, "lost_loop_values": 1}))


def test_values_that_a_loop_no_longer_carries_are_counted() -> None:
    """Two loops of two and three values, of which the compiler has dropped one."""
    from compile_matrix import lost_loop_values

    loop = "%5:{n} = scf.for %i = %a to %b step %c iter_args({values}) -> ({types})  : i32 {{"
    first = loop.format(n=2, values="%x = %1, %y = %2", types="f32, f32")
    second = loop.format(n=3, values="%x = %1, %step = %2, %z = %3", types="f32, i64, f32")
    dropped = loop.format(n=2, values="%x = %1, %z = %3", types="f32, f32")
    kernel = SimpleNamespace(asm={"ttir": f"{first}\n{second}", "ttgir": f"{first}\n{second}"})
    assert lost_loop_values(kernel) == 0
    kernel.asm["ttgir"] = f"{first}\n{dropped}"
    assert lost_loop_values(kernel) == 1


def test_rows_of_another_release_stay_in_the_table(tmp_path: Path) -> None:
    import triton
    from compile_matrix import write

    path = tmp_path / "matrix.csv"
    path.write_text(f"variant,triton\nold,3.6.0\nnew,{triton.__version__}\n")
    write([{"variant": "newer", "triton": triton.__version__}], path)
    kept = [("old", "3.6.0")] if triton.__version__ != "3.6.0" else []
    assert [tuple(row.values()) for row in rows_of(path)] == [*kept, ("newer", triton.__version__)]


def test_an_unknown_variant_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from compile_matrix import main

    monkeypatch.setattr(sys, "argv", ["compile_matrix.py", "--only", "relu 17x5"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "'relu 17x5' is none of: diagonal two atoms;" in capsys.readouterr().err


def test_the_committed_matrix_is_of_todays_layouts() -> None:
    """Every variant on every architecture, laid out as the table does now, without spills."""
    from compile_matrix import TARGETS, VARIANTS

    table = rows_of(RESULTS / "compile_matrix.csv")
    releases = sorted({row["triton"] for row in table})
    assert releases[0].startswith("3.6"), "the oldest release that is supported"
    assert len(releases) == 2
    for release in releases:
        found = {(row["variant"], row["architecture"]): row for row in table if row["triton"] == release}
        assert set(found) == {(variant.name, name) for variant in VARIANTS for name in TARGETS}
        assert_is_of_todays_layouts(found)
    assert max(float(row["compile_cpu_seconds"]) for row in table) <= MOST_COMPILE_SECONDS


def assert_is_of_todays_layouts(found: dict[tuple[str, str], dict[str, str]]) -> None:
    from compile_matrix import TARGETS, VARIANTS, planned_for, unplanned

    from kernels.gpu.layout import choose

    for variant in VARIANTS:
        launch = choose(variant.problem(), variant.precision)
        for name, target in TARGETS.items():
            row = found[variant.name, name]
            layout = [int(row[key]) for key in ("threads_per_run", "runs_per_program", "warps", "unroll")]
            assert layout == [launch.lanes, launch.rows, launch.warps, launch.unroll], variant.name
            assert int(row["planned_registers"]) == planned_for(target, launch)
            assert unplanned(row) is None


def test_the_committed_roofline_has_every_case() -> None:
    from roofline import CASES

    from kernels.gpu.layout import choose

    found = {row["case"]: row for row in rows_of(RESULTS / "roofline.csv")}
    assert set(found) == {case.name for case in CASES}
    for case in CASES:
        launch, row = choose(case.problem()), found[case.name]
        assert [int(row["threads_per_run"]), int(row["unroll"])] == [launch.lanes, launch.unroll]
        assert 0.0 < float(row["fraction_of_fp32_peak"]) <= 1.0


# --- where the GPU pays -----------------------------------------------------------------------------------------------


def test_at_the_crossover_both_engines_take_the_same_time() -> None:
    from bench_gpu import crossover, diagonal_case

    from kernels.gpu.engine import work

    case, start, cpu, gpu = diagonal_case(16), 3.0, 2e6, 8e6
    found = crossover(case, start, cpu, gpu)
    run_steps = found / (work(case.at(1)) / 16)
    assert run_steps / cpu == pytest.approx(start + run_steps / gpu)
    assert crossover(case, start, gpu, cpu) == math.inf
    assert math.isnan(crossover(case, start, math.nan, gpu))


@pytest.mark.skipif(not INTERPRETED, reason="without a GPU, only the interpreter can start the engine")
def test_the_start_of_the_engine_is_timed_in_a_process_of_its_own() -> None:
    from bench_gpu import diagonal_case, start_seconds

    assert 0.0 < start_seconds(diagonal_case(4096), repetitions=1) < 120.0


def test_the_rate_of_the_cpu_engine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    import bench_gpu

    case = bench_gpu.diagonal_case(8)
    if "cpu" in bench_gpu.available_engines():
        assert bench_gpu.cpu_rate(case, seconds=0.01) > 1e3
    monkeypatch.setattr(bench_gpu, "available_engines", lambda: ("reference",))
    assert math.isnan(bench_gpu.cpu_rate(case))
