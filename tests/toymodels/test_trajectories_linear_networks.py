"""Trajectories of linear networks with one hidden layer: against their exact flow, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from toymodels import redundant, rule, simulate, spurious
from toymodels.data import FeatureData
from toymodels.flows.linear_network import linear_network_states, read_states
from toymodels.networks import Patches, TwoLayer
from toymodels.prediction import linear_flow_problem
from toymodels.sweep import Sweep
from toymodels.trajectories import __main__ as trajectories
from toymodels.trajectories import comparison
from toymodels.trajectories.linear_networks import LinearNetworkStudy

SHORT = {"rho": 0.3, "eta": 0.02, "steps": 300, "width": 7}


@pytest.mark.parametrize(
    ("network", "data", "more"),
    [
        (Patches("local"), redundant(), {}),
        pytest.param(Patches("pooled"), spurious(), {"cosine": 0.4, "copies": 2, "rho": 0.1}, marks=[pytest.mark.slow]),
        (Patches(2), spurious(), {"cosine": 0.7, "copies": 3}),
        (TwoLayer("linear"), redundant(), {"rho": 0.1}),
    ],
    ids=["local", "pooled", "windows", "linear"],
)
def test_trainings_follow_the_exact_flow_to_first_order(
    network: Patches | TwoLayer, data: FeatureData, more: dict[str, float]
) -> None:
    study = LinearNetworkStudy.run(network, data, {**SHORT, **more}, seeds=2)
    assert list(study.rules) == ["gd", "sam", "lsam", "sam_weights", "sam_jacobian"]
    assert study.worst_ratio < 1.5
    for compared in study.rules.values():
        assert compared.order == pytest.approx(1.0, abs=0.1)
        for name in ("scale", "weights", "phantom_weights", "loss"):
            # The distance from the flow shrinks with the step, whatever is observed.
            full, half = (
                np.abs(getattr(one, name) - getattr(compared.flow, name)).max()
                for one in (compared.simulated, compared.halved)
            )
            assert half < 0.6 * full + 1e-9


def test_what_is_read_off_the_layers_is_what_simulate_reports() -> None:
    values = {**SHORT, "cosine": 0.4, "copies": 2}
    study = LinearNetworkStudy.run(Patches(2), spurious(), values, seeds=2)
    marks = np.rint(study.times / SHORT["eta"]).astype(int)
    sweep = replace(study.sweep, record_steps=tuple(marks.tolist()))
    result = simulate(sweep, precision="float64")
    seen = study.rules["sam"].simulated  # the nominal start comes first
    np.testing.assert_allclose(
        seen.coefficients[:, 1:], result.record_coefficient.values.transpose(2, 0, 1), atol=1e-12
    )
    np.testing.assert_allclose(seen.loss[1:], result.record_loss.values, atol=1e-12)


def test_on_one_atom_kind_the_scale_is_the_gradient_norm_over_the_example_weight() -> None:
    values = {**SHORT, "cosine": 0.4}
    sweep = Sweep(network=Patches("local"), rule=rule("gd"), values=values, seeds=3)
    found = simulate(sweep, precision="float64")
    study = LinearNetworkStudy.run(Patches("local"), redundant(), values, seeds=3)
    last = study.rules["gd"].simulated
    expected = found.gradient_norm.values / last.weights[0, 1:, -1]
    np.testing.assert_allclose(last.scale[1:, -1], expected, rtol=1e-9)


def test_a_point_of_no_radius_is_its_own_phantom_and_a_basis_changes_nothing() -> None:
    sweep = Sweep(network=Patches("local"), values={**SHORT, "rho": 0.0}, seeds=2)
    problem = linear_flow_problem(sweep, np.arange(sweep.runs), ())
    states = linear_network_states(problem, np.array([0.0, 1.0, 3.0]), 0.0, 1e-9)
    np.testing.assert_array_equal(states[0], problem.start)
    once = read_states(problem, states)
    np.testing.assert_array_equal(once.margins, once.phantom_margins)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 9)))[0][: states.shape[2]]
    turned = read_states(problem, np.einsum("tnrb,rm->tnmb", states, rotation))
    for name in ("coefficients", "margins", "scale"):
        np.testing.assert_allclose(getattr(turned, name), getattr(once, name), atol=1e-12)


def test_local_heads_on_orthogonal_patterns_share_the_diagonal_networks_effects() -> None:
    """C14 with vectors for weights (C38): weights only runs along GD's curve, Jacobian only along SAM's."""
    study = LinearNetworkStudy.run(Patches("local"), redundant(), SHORT, seeds=1)
    for follower, leader in (("sam_weights", "gd"), ("sam_jacobian", "sam")):
        a, b = study.rules[follower].flow, study.rules[leader].flow
        inside = (a.loss[0] > max(a.loss[0].min(), b.loss[0].min())) & (a.loss[0] < 0.65)
        expected = np.interp(np.log(a.loss[0][inside]), np.log(b.loss[0][::-1]), b.share[0][::-1])
        assert np.abs(a.share[0][inside] - expected).max() < 2e-3


def test_a_collapse_ends_the_flow_and_the_share() -> None:
    study = LinearNetworkStudy.run(Patches("pooled"), redundant(), {**SHORT, "rho": 1.5}, seeds=1)
    sam = study.rules["sam"]
    assert np.isnan(sam.flow.coefficients[..., -1]).all()
    assert np.isnan(sam.simulated.share[:, -1]).all()
    assert np.isfinite(sam.error_estimate).all()
    assert np.isfinite(study.rules["gd"].flow.coefficients).all()


@pytest.mark.parametrize("options", [["patches", "--head", "2", "--copies", "2", "--cosine", "0.3"], ["linear"]])
def test_command_writes_figure_data_and_summary(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    studied = {"gd", "sam", "sam_jacobian"}  # each rule is a column of panels
    monkeypatch.setattr(comparison, "STUDIED", {name: comparison.STUDIED[name] for name in sorted(studied)})
    short = ["--steps", "80", "--eta", "0.05", "--seeds", "2", "--width", "6", "--relative-radius", "0.2"]
    trajectories.main(["--network", *options, *short, "--out", str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"trajectories.png", "trajectories.pdf", "trajectories.nc", "summary.json"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert Sweep.from_config(summary["config"]).network.name == options[0]
    assert summary["relative_radius"] == pytest.approx([0.2, 0.2])
    assert set(summary["max_abs_deviation"]) == studied
    with xr.open_dataset(tmp_path / "trajectories.nc", engine="h5netcdf") as stored:
        assert stored.simulated_coefficient.dims == ("rule", "feature", "start", "time")
        assert "flow_phantom_example_weight" in stored
        assert "flow_suppression" not in stored
        nominal = ["nominal"] if options[0] == "patches" else []
        assert list(stored.start.values) == [*nominal, "seed 0", "seed 1"]
    assert "SAM, jacobian only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "patches", "--activation", "relu"], "activation='relu' has no exact flow; allowed: linear"),
        (["--network", "linear", "--animate", "gif"], "--animate gif.*allowed: with --network diagonal"),
        (["--network", "linear", "--head", "pooled"], "head='pooled': allowed with network patches only"),
        (["--network", "patches", "--head", "3"], "head=3 windows; allowed"),
        (["--network", "patches", "--noise-patches", "1"], "noise_patches"),
        (["--network", "relu"], "invalid choice: 'relu'"),
    ],
)
def test_what_has_no_exact_flow_is_refused(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        trajectories.main([*options, "--out", str(tmp_path)])
