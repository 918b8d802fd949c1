"""The filter command: every log-gain lies on C22's parabola."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from toymodels.filter import __main__ as command
from toymodels.filter.study import run_filter


@pytest.fixture(scope="module")
def run():
    return run_filter(features=9, strengths=(0.3, 2.0), rho=(0.0, 0.1), init=0.05, eta=4e-3, levels=(0.6, 0.2))


def test_simulated_gains_lie_on_the_parabola_to_first_order_and_beyond_after_extrapolation(run):
    # First order: the deviation is the estimate up to O(eta) of it; extrapolated: second order, about eta times it.
    assert run.worst_ratio < 1.1
    assert run.extrapolated_deviation < 5 * run.eta * run.error_estimate.max()


def test_gd_is_a_line_and_sam_a_downward_parabola(run):
    curvature = np.diff(run.simulated, 2, axis=-1)
    assert np.abs(curvature[0]).max() < 1e-3 * np.abs(run.simulated[0]).max()
    assert (curvature[1] < -1e-3).all()


def test_the_top_moves_up_as_training_goes_on(run):
    assert run.top[1, 1] > run.top[1, 0]
    assert np.isinf(run.top[0]).all()


def test_a_wrong_parabola_would_be_noticed(run):
    halved = run.predicted + 0.5 * (run.tau[..., None] * run.mu - run.predicted)  # half the curvature
    assert np.abs(run.simulated - halved)[1].max() > 20 * run.error_estimate[1].max()


def test_a_collapsing_radius_is_left_out_of_the_comparison():
    run = run_filter(features=3, rho=(0.0, 5.0), init=0.1, eta=1e-2, levels=(0.5,))
    assert run.steps[1, 0] == -1
    assert np.isnan(run.simulated[1]).all()
    assert np.isfinite(run.worst_ratio)


def test_command_writes_figure_data_and_summary(tmp_path: Path):
    command.main(
        [
            "--features",
            "4",
            "--rho",
            "0,0.1",
            "--init",
            "0.1",
            "--eta",
            "0.01",
            "--level",
            "0.5",
            "--out",
            str(tmp_path),
        ]
    )
    assert {path.name for path in tmp_path.iterdir()} == {"filter.png", "filter.pdf", "filter.nc", "summary.json"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["worst_deviation_over_estimate"] < 1.2
    assert summary["config"]["features"] == 4


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--features", "1"], "features"),
        (["--strengths", "2:1"], "strengths"),
        (["--strengths", "x"], "--strengths"),
        (["--rho", "a"], "--rho"),
        (["--rho=-1"], "rho"),
        (["--init", "0"], "init"),
        (["--level", "0.9"], "levels"),
    ],
)
def test_bad_input_is_named(options: list[str], named: str, tmp_path: Path):
    with pytest.raises(ValueError, match=named):
        command.main([*options, "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
