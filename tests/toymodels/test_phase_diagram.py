"""The phase diagram from the command line: files, summary, redraw, determinism, bad input, interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from kernels import reference
from sambalance_tools.command_line import run_command
from sambalance_tools.files import atomic_path
from support.coarse_pictures import COARSE_DPI
from toymodels import plots
from toymodels.networks import Patches
from toymodels.phase_diagram import METRICS, PROBED, SUPPRESSED
from toymodels.phase_diagram.__main__ import main, write_report
from toymodels.phase_diagram.report import Report
from toymodels.phase_diagram.study import Diagram
from toymodels.sweep import Sweep

GOLDEN = Path(__file__).parents[1] / "golden" / "phase_diagram_small.json"
FILES = ["phase_diagram.nc", "phase_diagram.pdf", "phase_diagram.png", "summary.json"]
SMALL = [
    "--x", "rho=0:0.9:10", "--y", "ratio=0.1:0.9:9", "--seeds", "2", "--steps", "700", "--eta", "0.08",
    "--engine", "reference",
]  # fmt: skip
TINY = ["--x", "rho=0:0.6:3", "--y", "ratio=0.3:0.9:3", "--seeds", "1", "--steps", "60", "--eta", "0.2"]


@dataclass(frozen=True)
class Written:
    """What a command wrote."""

    folder: Path
    summary: dict[str, Any]
    printed: str


def command(folder: Path, *options: str) -> Written:
    """Run the command line in this process."""
    main([*options, "--out", str(folder)])
    return Written(folder, json.loads((folder / "summary.json").read_text()), "")


def names(folder: Path) -> list[str]:
    """Every file of a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def variables(path: Path) -> dict[str, np.ndarray]:
    """All variables of a stored diagram."""
    found = {}
    for group in ("/", "gd", "nominal"):
        with xr.open_dataset(path, group=group, engine="h5netcdf") as stored:
            found |= {f"{group}:{name}": stored[name].values.copy() for name in stored.variables}
    return found


def assert_drawn(path: Path, least: int = 5 * COARSE_DPI) -> None:
    """A picture of a sensible size with more than a handful of colours."""
    from matplotlib.image import imread

    pixels = imread(path)
    assert min(pixels.shape[:2]) >= least
    colours = np.unique((pixels[::3, ::3, :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)
    assert len(colours) > 8, "nearly blank"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return command(tmp_path_factory.mktemp("small"), *SMALL)


# --- what is written --------------------------------------------------------------------------------------------------


def test_all_files_are_written_and_the_figure_shows_something(small: Written) -> None:
    assert names(small.folder) == FILES
    assert_drawn(small.folder / "phase_diagram.png")
    assert (small.folder / "phase_diagram.pdf").read_bytes().startswith(b"%PDF")


def test_the_summary_says_what_was_done(small: Written) -> None:
    summary = small.summary
    for key in (
        "config", "engine", "runs", "steps", "wall_seconds", "simulation_seconds", "run_steps_per_second",
        "phase_agreement", "agreement_runs", "boundary_error_cells", "boundaries",
    ):  # fmt: skip
        assert key in summary, key
    assert summary["engine"] == "reference"
    assert summary["steps"] == 700
    assert summary["runs"] == 180 + 18 + 90, "the map, its GD baseline, its nominal start"
    assert summary["agreement_runs"] == 180
    assert 0 < summary["simulation_seconds"] < summary["wall_seconds"]
    rate = summary["runs"] * 700 / summary["simulation_seconds"]
    assert summary["run_steps_per_second"] == pytest.approx(rate)
    assert {(line["key"], line["claim"]) for line in summary["boundaries"]} == {
        ("collapse", "C10"), ("n_star", "C7"), ("share_0.4", "C22"), ("share_0.5", "C22"), ("share_0.6", "C22"),
    }  # fmt: skip
    assert sum(summary["phases"].values()) == pytest.approx(1)


def test_the_configuration_is_stored_and_gives_the_same_runs(small: Written) -> None:
    stored = Sweep.from_config(small.summary["config"])
    assert stored.dims == ("ratio", "rho", "seed")
    np.testing.assert_allclose(stored.axes["rho"], np.linspace(0, 0.9, 10))
    assert stored.column("eta")[0] == 0.08
    with xr.open_dataset(small.folder / "phase_diagram.nc", engine="h5netcdf") as data:
        assert json.loads(data.attrs["config"]) == small.summary["config"]
        assert data["coefficient"].dims == ("ratio", "rho", "seed", "feature")


def test_simulation_and_theory_agree(small: Written) -> None:
    summary = small.summary
    # Away from the boundaries no run differs; a run on a boundary may fall to either side (seeds move the start by 2 %,
    # eta moves it by O(eta)): a tenth of 90 cells on four boundaries, half of them on the other side.
    assert summary["phase_agreement_off_boundary"] == 1.0
    assert summary["phase_agreement"] > 0.95
    # Half a cell is what a collapse can be placed to: a cell has collapsed or it has not.
    assert summary["boundary_error_cells"] <= 1.0
    errors = {line["key"]: line["error_cells"] for line in summary["boundaries"]}
    assert errors["n_star"] < 0.1
    assert max(errors[f"share_{share}"] for share in ("0.4", "0.5", "0.6")) < 0.3


def test_the_small_diagram_is_the_golden_one(small: Written) -> None:
    """Shares may move by one run of 180 for rounding on another machine; distances by a hundredth of a cell."""
    golden = json.loads(GOLDEN.read_text())
    for phase, share in golden["phases"].items():
        assert small.summary["phases"][phase] == pytest.approx(share, abs=1.01 / 180), phase
    assert small.summary["phase_agreement"] == pytest.approx(golden["phase_agreement"], abs=1.01 / 180)
    for key, error in golden["error_cells"].items():
        (found,) = [line["error_cells"] for line in small.summary["boundaries"] if line["key"] == key]
        assert found == pytest.approx(error, abs=0.01), key


def test_the_same_command_gives_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "figure", lambda self: plots.new_figure(1, 1))
    found = [variables(command(tmp_path / name, *TINY).folder / "phase_diagram.nc") for name in ("one", "two")]
    assert set(found[0]) == set(found[1])
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name], err_msg=name)


def test_redrawing_gives_the_same_phases_without_simulating(
    small: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a redraw simulated")

    monkeypatch.setattr(reference, "train", refuse)
    monkeypatch.setattr("kernels.engine.train", refuse)
    source = small.folder / "phase_diagram.nc"
    again = command(tmp_path, "--from", str(source))
    assert names(tmp_path) == [name for name in FILES if not name.endswith(".nc")]
    for key in ("phases", "phase_agreement", "boundaries", "runs", "level", "simulation_seconds"):
        assert again.summary[key] == small.summary[key], key
    stored, redrawn = (Sweep.from_config(written.summary["config"]) for written in (small, again))
    assert stored.config() == redrawn.config()
    assert (tmp_path / "phase_diagram.png").read_bytes() == (small.folder / "phase_diagram.png").read_bytes()
    assert "agreement" in capsys.readouterr().out
    other = command(tmp_path, "--from", str(source), "--level", "0.4")
    assert other.summary["level"] == 0.4
    assert other.summary["phases"] != small.summary["phases"]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_drawn(metric: str, spurious: Written, tmp_path: Path) -> None:
    source = ["--from", str(spurious.folder / "phase_diagram.nc")]
    if metric in (*PROBED, *SUPPRESSED):
        source = [*TINY, "--network", "patches", "--width", "6", "--level", "0.6"]
    drawn = command(tmp_path, *source, "--metric", metric)
    assert drawn.summary["metric"] == metric
    assert_drawn(tmp_path / "phase_diagram.png")


@pytest.fixture(scope="module")
def spurious(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return command(
        tmp_path_factory.mktemp("spurious"), "--data", "spurious", "--p", "0.95", "--x", "rho=0:0.6:5",
        "--y", "init=0.1:0.8:4:log", "--seeds", "1", "--steps", "400", "--eta", "0.15", "--engine", "reference",
    )  # fmt: skip


def test_spurious_data_come_by_one_option_with_groups_and_the_flow_of_two_atoms(spurious: Written) -> None:
    with xr.open_dataset(spurious.folder / "phase_diagram.nc", engine="h5netcdf") as data:
        assert list(data["group"].values) == ["majority", "minority"]
    assert {line["claim"] for line in spurious.summary["boundaries"]} == {"flow"}
    assert spurious.summary["theory_note"] is None
    assert spurious.summary["phase_agreement"] >= 0.8


def test_relu_networks_come_by_one_option_and_say_what_the_lines_are(tmp_path: Path) -> None:
    written = command(tmp_path, "--network", "relu", "--width", "4", *TINY)
    assert "diagonal network" in written.summary["theory_note"]
    assert written.summary["config"]["network"] == {"name": "relu", "bias": False}
    assert written.summary["config"]["values"]["width"] == 4
    assert_drawn(tmp_path / "phase_diagram.png")


def test_patches_networks_come_by_one_option_with_their_exact_flow(tmp_path: Path) -> None:
    written = command(
        tmp_path, "--network", "patches", "--head", "pooled", "--x", "rho=0:0.5:6", "--y", "cosine=0:1:5",
        "--steps", "300", "--eta", "0.05",
    )  # fmt: skip
    summary = written.summary
    assert names(tmp_path) == FILES
    assert_drawn(tmp_path / "phase_diagram.png")
    assert summary["theory_note"] is None, "the flow is exact"
    assert summary["config"]["network"] == {"name": "patches", "bias": False, "head": "pooled", "activation": "linear"}
    assert summary["runs"] == 6 * 5 * 4 + 5 * 4 + 6 * 5
    assert summary["phase_agreement"] > 0.9
    assert summary["phase_agreement_off_boundary"] == 1.0
    assert {(line["key"], line["claim"]) for line in summary["boundaries"]} >= {
        ("collapse", "C36"),
        ("share_0.5", "flow"),
    }
    stored = Sweep.from_config(summary["config"])
    assert stored.network == Patches("pooled")
    again = command(tmp_path / "again", "--from", str(tmp_path / "phase_diagram.nc"), "--metric", "hard_share")
    assert again.summary["phases"] == summary["phases"]
    assert_drawn(tmp_path / "again" / "phase_diagram.png")


@pytest.mark.parametrize(
    "options",
    [
        ("--network", "patches", "--y", "cosine=0:0.8:3", "--metric", "advantage"),
        ("--network", "patches", "--head", "3", "--copies", "3", "--activation", "relu", "--data", "spurious"),
        ("--network", "patches", "--noise-patches", "1", "--samples", "8", "--x", "relative_radius=0:0.3:3"),
        ("--network", "patches", "--rule", "sam_per_layer", "--y", "copies=1,2"),
        ("--network", "patches", "--rule", "asam", "--y", "init=0.3:0.6:2"),
        ("--network", "patches", "--compare", "effects", "--metric", "advantage", "--y", "cosine=0:0.8:3"),
        ("--rule", "asam"),
        ("--rule", "sam_per_feature", "--x", "sam_until=0:30:3"),
        ("--data", "slabs", "--slabs", "2"),
        ("--data", "slabs", "--x", "slabs=0,1,2"),
        ("--data", "missing", "--rule", "lsam"),
        ("--rule", "gd", "--metric", "advantage"),
        ("--network", "relu", "--x", "width=1,2,3"),
        ("--x", "steps=20,40,60", "--y", "rho=0:0.5:3"),
        ("--y", "ratio=0.5:1:3"),
        ("--network", "linear", "--bias", "--data", "spurious", "--metric", "worst_group_accuracy"),
        ("--network", "relu", "--metric", "probing_error", "--probe-noise", "0.2", "--level", "0.6"),
        ("--network", "patches", "--head", "pooled", "--metric", "suppression_gap", "--level", "0.6"),
        ("--data", "slabs", "--metric", "suppression", "--rule", "fsam"),
    ],
    ids=" ".join,
)
def test_other_axes_data_and_rules_are_drawn(options: tuple[str, ...], tmp_path: Path) -> None:
    base = {"--x": "rho=0:0.6:3", "--y": "ratio=0.3:0.9:3", "--seeds": "1", "--eta": "0.2"}
    base = {name: value for name, value in base.items() if name not in options}
    if "steps" not in " ".join(options):
        base["--steps"] = "40"
    written = command(tmp_path, *options, *[part for pair in base.items() for part in pair])
    if "effects" in options:
        assert names(tmp_path) == ["effects.nc", "effects.pdf", "effects.png", "summary.json"]
        assert written.summary["theory_note"] is None
        return
    assert names(tmp_path) == FILES
    assert written.summary["runs"] > 0


def test_probing_errors_of_all_hidden_features_are_redrawn_from_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--network", "patches", "--head", "pooled", "--seeds", "2", "--width", "6", "--level", "0.5")
    command(tmp_path / "one", *TINY, *options, "--metric", "probing_error_placed")
    file = tmp_path / "one" / "phase_diagram.nc"
    diagram = Diagram.load(file)
    head, pooled, placed = (diagram.values(f"probing_error{end}", 0.5) for end in ("", "_pooled", "_placed"))
    np.testing.assert_array_equal(head, pooled)  # a pooled head sees pooled features
    reached = np.isfinite(head)
    assert reached.any()
    assert (placed < pooled)[reached].all()
    assert ((placed > 0) & (pooled <= 0.5))[reached].all()
    again = command(tmp_path / "two", "--from", str(file), "--metric", "probing_error_pooled", "--level", "0.5")
    assert again.summary["metric"] == "probing_error_pooled"
    capsys.readouterr()
    message = failure(capsys, "--from", str(file), "--metric", "suppression", "--out", str(tmp_path / "three"))
    assert "metric='suppression' was not measured in this diagram; allowed: simulate it" in message
    message = failure(capsys, "--from", str(file), "--probe-noise", "0.1", "--out", str(tmp_path / "three"))
    assert "--probe-noise cannot be combined with --from" in message


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "negative radius": (["--rho", "-1", "--x", "p=0.6:0.9:3"], "rho=-1.0; allowed: a number >= 0"),
    "NaN": (["--rho", "nan"], "rho=nan"),
    "not a number": (["--rho", "much"], "'much' is not a number"),
    "hard above easy": (["--mu-hard", "3", "--y", "init=0.1:1:3"], "mu_hard=3 exceeds mu_easy=2"),
    "unknown axis": (["--x", "colour=0:1:3"], "'colour' is not known"),
    "unknown metric": (["--metric", "beauty"], "beauty"),
    "unknown network": (["--network", "mlp"], "mlp"),
    "unknown rule": (["--rule", "adam"], "adam"),
    "unknown data": (["--data", "images"], "images"),
    "unknown engine": (["--engine", "abacus"], "engine='abacus' is not known; allowed: auto"),
    "unknown option": (["--colour", "red"], "--colour"),
    "empty axis": (["--x", "rho="], "the axis is empty"),
    "one value": (["--x", "rho=0.3"], "--x rho has 1 value; allowed: at least 2"),
    "axis twice": (["--y", "rho=0:1:3"], "--x and --y are both 'rho'"),
    "axis and value": (["--ratio", "0.5"], "ratio is both an axis (--y) and fixed at 0.5"),
    "level": (["--level", "0"], "loss_levels"),
    "seeds": (["--seeds", "0"], "seeds=0"),
    "threads": (["--threads", "0"], "threads=0"),
    "precision": (["--engine", "reference", "--precision", "float32"], "precision='float32'"),
    "pooled features without patches": (
        ["--metric", "probing_error_pooled"],
        "metric='probing_error_pooled' needs patches; allowed: probing_error, or a patches network",
    ),
    "probe noise": (["--metric", "probing_error", "--probe-noise", "0"], "--probe-noise=0; allowed: > 0"),
    "probe noise elsewhere": (["--probe-noise", "0.3"], "--probe-noise=0.3; allowed: with --metric probing_error"),
    "worst group without groups": (["--metric", "worst_group_accuracy"], "needs groups"),
    "bias": (["--bias"], "a diagonal network has no bias"),
    "unknown head": (["--network", "patches", "--head", "wide"], "head='wide'; allowed: local, pooled or a number"),
    "no window": (["--network", "patches", "--head", "0"], "head=0; allowed"),
    "windows": (
        ["--network", "patches", "--head", "3"],
        "head=3 windows; allowed: a number that divides the 2 patches",
    ),
    "cosine": (["--network", "patches", "--y", "cosine=0:1.5:4"], "cosine=1.5; allowed: a number in [0, 1]"),
    "cosine elsewhere": (["--y", "cosine=0:1:5"], "cosine is a parameter of patches networks"),
    "copies elsewhere": (["--copies", "2"], "copies is a parameter of patches networks"),
    "head elsewhere": (["--head", "local"], "head='local': allowed with network patches only"),
    "activation elsewhere": (["--activation", "relu"], "activation='relu': allowed with network patches only"),
    "bias of patches": (["--network", "patches", "--bias"], "a patches network has no bias"),
    "two radii": (["--relative-radius", "0.1"], "rho and relative_radius are both given"),
    "norm per feature of patches": (["--network", "patches", "--rule", "sam_per_feature"], "share their weights"),
    "source missing": (["--from", "nowhere.nc"], "--from=nowhere.nc cannot be read"),
}


def failure(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line that a command prints before it exits with status 2."""
    with pytest.raises(SystemExit) as stopped:
        run_command(main, list(options))
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1, printed.err
    assert printed.err.startswith("error: ")
    return printed.err


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_two(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it simulated first")

    if case not in ("threads", "precision", "unknown engine"):  # these the engine itself refuses, before any work
        monkeypatch.setattr("kernels.engine.train", refuse)
    options, message = BAD[case]
    assert message in failure(capsys, *options, "--out", str(tmp_path))
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels.engine.train", lambda *_, **__: pytest.fail("it simulated first"))
    (tmp_path / "file").write_text("in the way")
    assert "cannot write there" in failure(capsys, *TINY, "--out", str(tmp_path / "file"))
    assert "cannot write there" in failure(capsys, *TINY, "--out", str(tmp_path / "file" / "below"))


def test_files_that_are_no_diagram_are_refused(
    tmp_path: Path, small: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    text, foreign, half, odd = (tmp_path / name for name in ("text.nc", "foreign.nc", "half.nc", "odd.nc"))
    text.write_text("no netCDF")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(foreign, engine="h5netcdf")
    half.write_bytes((small.folder / "phase_diagram.nc").read_bytes()[:5000])
    for group, mode in (("/", "w"), ("gd", "a"), ("nominal", "a")):
        made = xr.Dataset({"status": ("x", [0])}, attrs={"config": "{}"})
        made.to_netcdf(odd, engine="h5netcdf", group=group, mode=mode)  # type: ignore[call-overload]
    for path in (text, foreign, half, odd, tmp_path):
        assert f"--from={path}" in failure(capsys, "--from", str(path), "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(
    "option",
    [("--rho", "0.1"), ("--x", "rho=0:1:3"), ("--data", "spurious"), ("--seeds", "9"), ("--head", "local"),
     ("--activation", "relu")],
)  # fmt: skip
def test_a_redraw_takes_no_options_of_the_simulation(
    option: tuple[str, str], small: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(small.folder / "phase_diagram.nc")
    line = failure(capsys, "--from", source, *option, "--out", str(tmp_path))
    assert f"{option[0]} cannot be combined with --from" in line
    assert "was not recorded; allowed: 0.4" in failure(
        capsys, "--from", source, "--level", "0.33", "--out", str(tmp_path)
    )


# --- interruption -----------------------------------------------------------------------------------------------------

ANNOUNCED = """
import sys
import kernels.engine
from sambalance_tools.command_line import run_command
from toymodels.phase_diagram.__main__ import main
train = kernels.engine.train
def announced(*arguments, **options):
    print("training", flush=True)
    return train(*arguments, **options)
kernels.engine.train = announced
run_command(main, sys.argv[1:])
"""


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_ctrl_c_during_the_simulation_leaves_everything_as_it_was(engine: str, tmp_path: Path) -> None:
    old = {name: f"old {name}".encode() for name in FILES}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    long = ["--steps", "200000000", "--x", "rho=0:1:20", "--engine", engine, "--out", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-c", ANNOUNCED, *long], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "training\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("interrupted")
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == old


@pytest.fixture(scope="module")
def report(small: Written) -> Report:
    return Report.of(Diagram.load(small.folder / "phase_diagram.nc"), "phase", 0.1)


@pytest.mark.parametrize("when", ["png", "pdf", "nc", "json"])
def test_ctrl_c_while_writing_leaves_only_whole_files(
    when: str, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(b"old")
    real_replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if str(target).endswith(when):
            assert Path(source).stat().st_size > 100, "the new file is there, not yet in place"
            raise KeyboardInterrupt
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    monkeypatch.setattr(Report, "figure", lambda self: plots.new_figure(1, 1))
    with pytest.raises(KeyboardInterrupt):
        write_report(report, tmp_path, redraw=False, started=0.0)
    assert names(tmp_path) == FILES
    order = ["png", "pdf", "nc", "json"]
    for name in FILES:
        suffix = name.rpartition(".")[2]
        is_old = (tmp_path / name).read_bytes() == b"old"
        assert is_old == (order.index(suffix) >= order.index(when)), name


def test_an_atomic_file_appears_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    with atomic_path(target) as partial:
        partial.write_text("new")
        assert not target.exists()
        assert partial.suffix == ".txt"
    assert target.read_text() == "new"
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert target.stat().st_mode == ordinary.stat().st_mode

    def fail() -> None:
        with atomic_path(target) as partial:
            partial.write_text("newer")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "new"
    assert names(tmp_path) == ["ordinary", "result.txt"]


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "toymodels.phase_diagram", "--help"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "--from FILE.nc" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "toymodels" in imported
    assert imported.isdisjoint({"matplotlib", "xarray", "scipy", "torch", "pandas", "sympy", "h5py", "numpy"})


def test_the_module_is_a_command(small: Written, tmp_path: Path) -> None:
    """Once for real, from another folder: a redraw with status 0 that prints its table and its paths."""
    shutil.copy(small.folder / "phase_diagram.nc", tmp_path / "stored.nc")
    done = subprocess.run(
        [sys.executable, "-m", "toymodels.phase_diagram", "--from", "stored.nc", "--out", "new/folder"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "collapse boundary: within" in done.stdout
    for name in ("phase_diagram.png", "phase_diagram.pdf", "summary.json"):
        assert f"new/folder/{name}" in done.stdout
        assert (tmp_path / "new" / "folder" / name).exists()
    assert_drawn(tmp_path / "new" / "folder" / "phase_diagram.png", least=1000)
