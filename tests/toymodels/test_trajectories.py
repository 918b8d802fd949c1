"""The trajectories command: simulation against flow and closed forms, its files and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from toymodels import redundant, spurious
from toymodels.trajectories import __main__ as trajectories
from toymodels.trajectories import figures
from toymodels.trajectories.study import TrajectoryStudy

SHORT = {"rho": 0.5, "eta": 0.02, "steps": 400}


@pytest.fixture(scope="module")
def study() -> TrajectoryStudy:
    return TrajectoryStudy.run(redundant(), SHORT, seeds=2)


def test_deviation_from_the_flow_is_at_most_twice_the_first_order_estimate(study: TrajectoryStudy):
    assert study.worst_ratio < 2
    for rule in study.rules.values():
        assert rule.order == pytest.approx(1.0, abs=0.1)


def test_closed_forms_hold_to_1e_6_after_extrapolation(study: TrajectoryStudy):
    assert {"C4", "C5", "C9", "C22"} <= set(study.closed_form_deviation)
    assert max(study.closed_form_deviation.values()) < 1e-6


def test_turning_point_lies_where_n_equals_n_star(study: TrajectoryStudy):
    assert study.turning_point_ratio == pytest.approx(1.0, abs=0.002)


def test_weights_only_follows_gd_and_jacobian_only_follows_sam_in_share_over_loss(study: TrajectoryStudy):
    """C14 on redundant data, on the flows: one curve, traversed at another speed."""
    for follower, leader in (("sam_weights", "gd"), ("sam_jacobian", "sam")):
        a, b = study.rules[follower].flow, study.rules[leader].flow
        low, high = max(a.loss[0].min(), b.loss[0].min()), min(a.loss[0].max(), b.loss[0].max())
        inside = (a.loss[0] > low) & (a.loss[0] < high)
        expected = np.interp(np.log(a.loss[0][inside]), np.log(b.loss[0][::-1]), b.share[0][::-1])
        # 121 points along the curve: linear interpolation is good to the curvature over one interval.
        assert np.abs(a.share[0][inside] - expected).max() < 2e-3


def test_spurious_data_have_no_single_atom_closed_form_but_follow_their_flow():
    study = TrajectoryStudy.run(spurious(), {**SHORT, "rho": 0.3}, seeds=1)
    assert study.closed_form_deviation == {}
    assert study.turning_point_ratio is None
    assert study.worst_ratio < 2
    assert study.dataset().sizes["group"] == 2


def test_command_writes_figures_data_summary_and_animation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(figures, "FRAMES", 2)
    trajectories.main(["--steps", "200", "--eta", "0.05", "--seeds", "1", "--animate", "gif", "--out", str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    drawn = {f"{stem}.{ending}" for stem in ("trajectories", "phase_plane") for ending in ("png", "pdf")}
    assert names == drawn | {"phase_plane.gif", "trajectories.nc", "summary.json"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    keys = {
        "max_abs_deviation",
        "max_abs_deviation_closed_form",
        "order_of_convergence",
        "turning_point_ratio",
        "config",
    }
    assert keys <= set(summary)
    with xr.open_dataset(tmp_path / "trajectories.nc", engine="h5netcdf") as stored:
        assert stored.simulated_coefficient.dims == ("rule", "feature", "start", "time")
        assert list(stored.rule.values) == ["gd", "sam", "lsam", "sam_weights", "sam_jacobian"]
    assert "SAM, jacobian only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--momentum", "0.9"], "momentum"), (["--noise-hard", "0.5"], "noise_hard"), (["--depth", "3"], "depth")],
)
def test_a_configuration_that_the_flow_does_not_describe_is_refused(options: list[str], named: str, tmp_path: Path):
    with pytest.raises(ValueError, match=named):
        trajectories.main([*options, "--out", str(tmp_path)])
