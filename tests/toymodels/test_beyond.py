"""The laws that the study rests on, its estimates and verdicts, and its command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from sambalance_tools.command_line import run_command
from toymodels.beyond import __main__ as beyond
from toymodels.beyond.batch_suppression import suppression_gap
from toymodels.beyond.results import SeedMean, critical_radii, results
from toymodels.beyond.study import LEVEL, Study, diagonal_baseline, run_study, studies
from toymodels.flows.any_depth import depth_shares
from toymodels.flows.filter_law import one_atom_loss_margin
from toymodels.flows.fully_connected import FullyConnectedFlow, angle_integral, critical_rho
from toymodels.metrics import hard_share
from toymodels.networks import network
from toymodels.simulation import simulate
from toymodels.sweep import Sweep


def starts(name: str, width: int, seeds: int, init: float = 0.4) -> FullyConnectedFlow:
    first, last = network(name).initial_layers(np.arange(seeds), np.full(seeds, init), 2, width)
    return FullyConnectedFlow(first, last, np.tile([2.0, 1.0], (seeds, 1)), mirrored=name == "relu")


def test_angle_integral_is_the_integral():
    for phi in (0.01, 0.5, np.pi / 4, 1.4):
        numeric = quad(lambda u: 4 * u**3 / np.sqrt(np.sin(2 * u**4)), 0, phi**0.25)[0]
        assert angle_integral(np.array(phi)) == pytest.approx(numeric, rel=1e-8)


def test_critical_rho_separates_collapse_from_growth_in_the_differential_equations():
    n0, phi0, strength = 0.7, 0.6, 1.3

    def flow(tau, y, rho):
        n = np.hypot(*y)
        return strength * np.array([(1 - rho / n) * y[0], -(1 + rho / n) * y[1]])

    critical = float(critical_rho(n0, phi0))
    assert n0 * np.cos(phi0) < critical < n0
    for factor, grows in ((0.995, True), (1.005, False)):
        event = lambda tau, y, rho: (np.hypot(*y) - 0.05) * (np.hypot(*y) - 3)  # noqa: E731
        event.terminal = True
        start = n0 * np.array([np.cos(phi0), np.sin(phi0)])
        end = solve_ivp(flow, (0, 60), start, args=(factor * critical,), events=event, rtol=1e-8).y[:, -1]
        assert (np.hypot(*end) > 2) == grows


def test_aligned_balanced_starts_collapse_at_their_norm():
    assert critical_rho(0.8, 0.0) == 0.8
    assert critical_rho(1.0, 1e-6) == pytest.approx(1.0, abs=1e-4)
    assert critical_rho(1.0, np.pi / 4) == pytest.approx(0.7627598, abs=1e-6)


@pytest.mark.parametrize("width", [3, 32])
def test_linear_networks_follow_the_fully_connected_law(width):
    rho = np.linspace(0.0, 0.8, 17)
    law = starts("linear", width, 4)
    sweep = Sweep(
        network=network("linear"), axes={"rho": rho}, seeds=4, values={"width": width, "eta": 0.005, "steps": 12_000},
        loss_levels=(LEVEL,),
    )  # fmt: skip
    found = simulate(sweep, precision="float64")
    share = hard_share(found["crossing_coefficient"].values[:, :, 0, :], np.array(2.0), np.array(1.0))
    predicted = np.stack([law.hard_share(np.full(4, r), one_atom_loss_margin(LEVEL)) for r in rho])
    assert np.isfinite(predicted).sum() > 20
    both = np.isfinite(share) & np.isfinite(predicted)
    # First order in eta, and the crossing is known to one step.
    np.testing.assert_allclose(share[both], predicted[both], atol=2e-3)
    clear = np.abs(rho[:, None] / law.critical_rho() - 1) > 0.03
    collapsed = np.isnan(share)
    np.testing.assert_array_equal(collapsed[clear], (rho[:, None] > law.critical_rho())[clear])


def test_relu_networks_collapse_at_the_same_radius():
    rho = np.linspace(0.3, 0.7, 17)
    law = starts("relu", 64, 4)
    values = {"width": 64, "eta": 0.01, "steps": 12_000}
    found = simulate(Sweep(network=network("relu"), axes={"rho": rho}, seeds=4, values=values, loss_levels=(LEVEL,)))
    clear = np.abs(rho[:, None] / law.critical_rho() - 1) > 0.03
    lost = found["crossing_step"].values[..., 0] < 0
    np.testing.assert_array_equal(lost[clear], (rho[:, None] > law.critical_rho())[clear])


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_depth_flow_matches_simulation(depth):
    rho = np.array([0.0, 0.3, 0.5])
    sweep = Sweep(
        axes={"rho": rho}, seeds=1, values={"depth": depth, "eta": 0.005, "steps": 60_000, "jitter": 0.0, "init": 0.5},
        loss_levels=(LEVEL,),
    )  # fmt: skip
    found = simulate(sweep, precision="float64")
    share = hard_share(found["crossing_coefficient"].values[:, 0, 0, :], np.array(2.0), np.array(1.0))
    mu = np.array([[2.0] * 3, [1.0] * 3])
    flow, collapsed = depth_shares(
        mu, np.full((2, 3), 0.5), rho, depth, np.full(3, 300.0), one_atom_loss_margin(LEVEL)
    )  # fmt: skip
    assert not collapsed.any()
    np.testing.assert_allclose(share, flow, atol=2e-3)


def test_odd_depth_never_collapses_and_even_depth_does():
    margin = one_atom_loss_margin(LEVEL)
    mu, start = np.array([[2.0], [1.0]]), np.full((2, 1), 0.4)
    for depth, expected in ((2, True), (3, False), (4, True), (5, False)):
        collapsed = depth_shares(mu, start, np.array([1.6]), depth, np.array([400.0]), margin)[1]
        assert collapsed[0] == expected


def test_suppression_gap_without_noise_is_that_of_the_full_batch():
    mu, u = np.array([2.0, 1.0]), np.array([0.3, 0.2])
    by_hand = (4 - 1) / np.sqrt(2 * (4 * 0.3 + 0.2)) / 2
    for batch in (1, 16):
        assert suppression_gap(batch, mu, 0.0, u) == pytest.approx(by_hand, rel=1e-9)


def test_small_batches_favour_the_hard_feature_less_under_noise():
    gaps = [suppression_gap(batch, np.array([2.0, 1.0]), 1.0, np.array([1.3, 0.45])) for batch in (1, 4, 16, 256)]
    # The standard error of each is about 0.005.
    assert (np.diff(gaps) > 0.02).all()


def test_estimate_and_verdicts():
    estimate = SeedMean.of(np.array([1.0, 2.0, 3.0, np.nan]))
    assert (estimate.mean, estimate.n) == (2.0, 3)
    assert estimate.high - 2.0 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    narrow = SeedMean(0.10, 0.09, 0.11, 8)
    cases = {0.115: "holds", 0.15: "rough", 0.3: "breaks", -0.1: "breaks", np.nan: "no prediction", np.inf: "breaks"}
    for predicted, verdict in cases.items():
        assert narrow.verdict(predicted, 0.005) == verdict
    assert SeedMean(0.1, -0.1, 0.3, 8).verdict(0.1, 0.005) == "undecided"
    assert SeedMean.of(np.array([np.nan])).verdict(np.inf, 0.005) == "holds"
    assert SeedMean.of(np.array([np.nan])).verdict(1.0, 0.005) == "no data"


def test_critical_radius_is_the_middle_of_the_cell_where_collapse_begins():
    radii = np.array([0.0, 0.5, 1.0])
    collapsed = np.array([[False, False], [False, False], [True, False]])
    np.testing.assert_array_equal(critical_radii(collapsed, radii), [0.75, np.nan])


def test_the_diagonal_network_meets_its_own_prediction_and_wide_networks_have_no_advantage():
    known = studies(seeds=3)
    wanted = {"diagonal redundant init=0.4", "linear redundant init=0.4"}
    cases = tuple(case for case in known["data"].cases if case.label in wanted)
    small = Study("data", "", "", tuple(replace(case, law="") for case in cases))
    found = {case.label: case.quantities for case in results(run_study(small, radii=(0.0, 0.5, 0.8, 1.2)))}
    diagonal, linear = found["diagonal redundant init=0.4"], found["linear redundant init=0.4"]
    assert diagonal["advantage"].verdict == "holds"
    assert diagonal["probing_advantage"].verdict == "holds"
    assert diagonal["advantage"].measured.mean > 0.05
    assert abs(linear["advantage"].measured.mean) < 0.01
    assert linear["advantage"].verdict == "breaks"
    assert linear["critical_radius"].measured.mean < diagonal["critical_radius"].measured.mean


def test_the_diagonal_baseline_has_the_same_relative_radii():
    case = next(case for case in studies(2)["depth"].cases if case.label == "L=4 init=0.7")
    baseline = diagonal_baseline(case.with_radii((0.0, 0.5)), case.norm)
    assert baseline.axes["rho"][1] == pytest.approx(0.5 * 2 * 0.7)
    assert (baseline.column("depth") == 2).all()


def test_every_study_named_on_the_command_line_exists_and_fits_its_figure():
    known = studies(2)
    assert tuple(known) == beyond.STUDIES
    for study in known.values():
        labels = [case.label for case in study.cases]
        assert len(set(labels)) == len(labels)


def test_command_writes_figures_numbers_and_summary(tmp_path, capsys):
    beyond.main(["--study", "depth", "--seeds", "2", "--out", str(tmp_path)])
    for name in ("beyond_depth.png", "beyond_depth.pdf", "beyond_depth.nc"):
        assert (tmp_path / name).stat().st_size > 1000
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["depth"]["cases"]["L=3 init=0.4"]["critical_radius"]["law_verdict"] == "holds"
    assert summary["depth"]["cases"]["L=4 init=0.7"]["advantage"]["law_verdict"] == "holds"
    assert "L=4 init=0.7" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("options", "named"), [(["--study", "x"], "--study='x'"), (["--seeds", "1"], "--seeds=1")])
def test_a_bad_option_is_one_line_and_exit_status_two(options, named, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        run_command(beyond.main, [*options, "--out", str(tmp_path)])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count("\n") == 1
