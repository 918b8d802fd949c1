"""The phase diagram of real features: command line, files, redrawing, agreement, lines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from realdata import datasets
from realdata.commands import phase_diagram
from realdata.features.agreement import Agreement
from realdata.features.diagram import METRICS, FeatureDiagram
from realdata.features.heads import train_heads
from realdata.features.lines import analytic_lines, share_on_its_side, theory_sweep, with_strengths
from realdata.features.table import feature_table
from realdata.features.toy import gaussian_table
from sambalance_tools.command_line import run_command
from support.standins import write_cifar_mnist
from toymodels.data import redundant, spurious
from toymodels.networks import network
from toymodels.prediction import boundaries, predict, sign_change
from toymodels.rules import rule
from toymodels.sweep import Sweep

SMALL = ["--x", "rho=0:0.6:4", "--y", "p=0.7:1:3", "--seeds", "2", "--dims", "6", "--steps", "150", "--eta", "0.1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cifar_mnist(tmp_path_factory.mktemp("data"), train=60, test=30)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMBALANCE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("SAMBALANCE_DATA", raising=False)


@pytest.fixture(scope="module")
def drawn(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMBALANCE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        phase_diagram.main(["--data", "cifar_mnist", "--root", str(root), *SMALL, "--out", str(out)])
    return out


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


# --- command line -----------------------------------------------------------------------------------------------------


def test_a_diagram_is_trained_drawn_and_summed_up(drawn: Path) -> None:
    assert {path.name for path in drawn.iterdir()} == {
        "phase_diagram.nc", "phase_diagram.png", "phase_diagram.pdf", "summary.json"
    }  # fmt: skip
    found = summary_of(drawn)
    # 3 x 4 cells and a column of 3 by GD, two seeds, on the images and on the toy.
    assert found["trainings"] == 2 * 2 * (12 + 3)
    assert found["cells"] == 12
    assert found["config"]["network"]["name"] == "diagonal"
    assert found["about"]["images"]["fit"] == [27, 27, 27, 27]  # correlation 0.5, a tenth held out
    assert set(found["agreements"]) == set(METRICS)
    assert found["agreement"] == found["agreements"]["advantage"]["0.4"]
    assert imread(drawn / "phase_diagram.png").std() > 0.1


def test_gd_is_trained_once_for_each_row_and_is_the_column_without_a_radius(drawn: Path) -> None:
    diagram = FeatureDiagram.load(drawn / "phase_diagram.nc")
    for heads, gd in ((diagram.real, diagram.real_gd), (diagram.toy, diagram.toy_gd)):
        assert gd.sizes["rho"] == 1
        for name in ("hard_share", "hard_probing_error", "crossing_step"):
            np.testing.assert_allclose(heads[name].values[:, 0], gd[name].values[:, 0], rtol=1e-12)
    for values in diagram.values("advantage", 0.5):
        known = np.isfinite(values[:, 0])
        assert known.any()
        np.testing.assert_allclose(values[known, 0], 0.0, atol=1e-12)


def test_a_stored_diagram_is_redrawn_as_it_was(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = str(drawn / "phase_diagram.nc")
    phase_diagram.main(["--from", stored, "--out", str(tmp_path)])
    assert "real against toy" in capsys.readouterr().out
    first, again = summary_of(drawn), summary_of(tmp_path)
    for summary in (first, again):
        del summary["wall_seconds"]
        # A file also holds the values that were defaults.
        summary["config"] = Sweep.from_config(Sweep.from_config(summary["config"]).config()).config()
    assert first == again
    assert not (tmp_path / "phase_diagram.nc").exists()
    assert (tmp_path / "phase_diagram.png").read_bytes() == (drawn / "phase_diagram.png").read_bytes()


@pytest.mark.parametrize("metric", list(METRICS))
def test_every_metric_can_be_drawn(metric: str, drawn: Path, tmp_path: Path) -> None:
    phase_diagram.main(
        ["--from", str(drawn / "phase_diagram.nc"), "--metric", metric, "--level", "0.5", "--out", str(tmp_path)]
    )
    assert summary_of(tmp_path)["metric"] == metric


def test_the_command_line_offers_the_metrics_that_there_are() -> None:
    offered = next(action.choices for action in phase_diagram.parser()._actions if action.dest == "metric")
    assert offered is not None
    assert tuple(METRICS) == tuple(offered)


def test_principal_components_get_a_two_layer_head(root: Path, tmp_path: Path) -> None:
    arguments = ["--data", "cifar_mnist", "--root", str(root), *SMALL, "--basis", "pca", "--width", "3"]
    phase_diagram.main([*arguments, "--out", str(tmp_path)])
    found = summary_of(tmp_path)
    assert found["config"]["network"]["name"] == "linear"
    assert found["config"]["values"]["init"] == pytest.approx(0.3 * np.sqrt(2 / 6))
    # Of the stand-in's pixels the lower block, the hard attribute, has the larger distance of means.
    assert found["about"]["strengths"]["fit"]["mu_hard"] > found["about"]["strengths"]["fit"]["mu_easy"]
    assert found["lines"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--data is not given"),
        (["--data", "cifar_mnist"], r"--root is not given; allowed: .*SAMBALANCE_DATA"),
        (["--data", "cifar_mnist", "--root", "nowhere"], "--root='nowhere' is not a folder"),
        (["--data", "faces", "--root", "."], "data='faces' is not known"),
        (["--x", "width=2,4"], "width cannot be an axis here; allowed: rho, p, init"),
        (["--x", "p=0.5:1:3"], "--x and --y are both 'p'"),
        (["--x", "rho=0.1"], "has 1 value; allowed: at least 2"),
        (["--rho", "0.1"], r"rho is both an axis \(--x\) and fixed at 0.1"),
        (["--y", "p=0.5:1.5:3"], r"p=1.5; allowed: a number in \[0, 1\]"),
        (["--probe-noise", "0"], "--probe-noise=0; allowed: > 0"),
        (["--data", "cifar_mnist", "--root", ".", "--examples", "4"], "--examples=4; allowed: 8 or more"),
        (["--from", "x.nc", "--seeds", "2"], "--seeds cannot be combined with --from"),
        (["--from", "x.nc"], "--from=x.nc cannot be read as a phase diagram of real features"),
        (["--network", "conv"], "invalid choice: 'conv'"),
    ],
)
def test_what_is_not_allowed_is_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_command(phase_diagram.main, [*arguments, "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    import re

    assert re.search(message, line), line


# --- what is trained on what ------------------------------------------------------------------------------------------


def test_the_images_train_one_map_and_the_toy_s_data_the_other(root: Path) -> None:
    data = datasets.load("cifar_mnist", root, {"correlation": 0.5})
    table = feature_table(data, "pixels", "probe", 5)
    values = {"steps": 60, "eta": 0.1, "init": 0.3}
    wanted = Sweep(data=spurious(), values=values, axes={"p": [0.8, 1.0], "rho": [0.0, 0.2]}, seeds=1)
    seen: list[tuple[int, int]] = []
    diagram = FeatureDiagram.train(table, wanted, 0.5, progress=lambda done, total: seen.append((done, total)))
    for heads, images in ((diagram.real, table), (diagram.toy, gaussian_table(table))):
        alone = train_heads(images, wanted, 0.5)
        for name in ("loss", "crossing_step", "hard_share", "hard_probing_error"):
            np.testing.assert_allclose(heads[name].values, alone[name].values, rtol=1e-9)
    assert not np.allclose(diagram.real["loss"].values, diagram.toy["loss"].values, rtol=1e-3)
    # Eight runs and four by GD of sixty steps; nothing is counted twice.
    assert {total for _, total in seen} == {12 * 60}
    assert seen == sorted(seen)


# --- agreement --------------------------------------------------------------------------------------------------------


def test_agreement_counts_what_both_maps_have() -> None:
    first = np.array([0.1, 0.2, -0.3, 0.004, np.nan, 0.5])
    second = np.array([0.2, 0.4, 0.1, 0.3, 0.1, np.nan])
    found = Agreement.of(first, second, signed=True)
    assert (found.cells, found.only_first, found.only_second) == (4, 1, 1)
    assert (found.signed, found.too_small) == (3, 1)
    assert found.same_sign == pytest.approx(2 / 3)
    assert found.rms == pytest.approx(np.sqrt(np.mean([0.1**2, 0.2**2, 0.4**2, 0.296**2])))
    assert found.pearson == pytest.approx(np.corrcoef(first[:4], second[:4])[0, 1])
    assert found.spearman == pytest.approx(0.8)  # ranks 3 4 1 2 and 2 4 1 3
    assert Agreement.of(first, second, signed=False).same_sign is None


def test_maps_without_variation_have_no_correlation() -> None:
    found = Agreement.of(np.ones(5), np.arange(5.0), signed=False)
    assert found.pearson is None
    assert "too equal" in found.sentence()


# --- lines ------------------------------------------------------------------------------------------------------------

VALUES = {"mu_easy": 2.0, "mu_hard": 1.0, "init": 0.3}


@pytest.mark.parametrize("kind", ["diagonal", "relu"])
def test_at_p_1_the_lines_are_those_of_the_toy_on_redundant_data(kind: str) -> None:
    axes = {"init": [0.2, 0.3, 0.4], "rho": np.linspace(0.05, 1.0, 9)}
    values = {"mu_easy": 2.0, "mu_hard": 1.0, "jitter": 0.0}
    made = {"network": network(kind), "axes": axes, "seeds": 1}
    toy = Sweep(data=redundant(), values=values, **made)
    expected = {line.key: line.field for line in boundaries(toy, predict(toy, 0.4), 0.4)}
    for line in analytic_lines(Sweep(data=spurious(), values={**values, "p": 1.0}, **made)):
        np.testing.assert_allclose(line.field, expected[line.key], rtol=1e-9)


def test_with_contradicting_images_the_easy_drive_is_weaker() -> None:
    made = {"values": VALUES, "data": spurious(), "seeds": 1}
    axes = {"p": [0.5, 0.7, 0.75, 0.8, 1.0], "rho": np.linspace(0.05, 1.0, 9)}
    collapse, turning = analytic_lines(Sweep(axes=axes, **made))
    weaker = Sweep(axes={"p": [1.0], "rho": axes["rho"]}, **{**made, "values": {**VALUES, "mu_easy": 2.0 * 0.6}})
    for line, other in zip((collapse, turning), analytic_lines(weaker), strict=True):
        np.testing.assert_allclose(line.field[3], other.field[0], rtol=1e-9)
    # At p = 1/2 there is one feature left; below 3/4 the hard one has the stronger drive.
    assert np.isnan(collapse.field[0]).all()
    assert np.isnan(turning.field[:3]).all()
    assert np.isfinite(collapse.field[1:]).all()


def test_a_two_layer_head_is_compared_at_its_norm() -> None:
    axes = {"p": [0.8, 1.0], "rho": [0.1, 0.5]}
    made = {"data": spurious(), "seeds": 1}
    linear = Sweep(axes=axes, network=network("linear"), values={"init": 0.1}, **made)
    layers = network("linear").initial_layers(np.arange(200), np.full(200, 0.1), 32, 16)
    norm = np.sqrt(np.mean([(layers[0] ** 2).sum((1, 2)) + (layers[1] ** 2).sum(1)]))
    # Four weights of the size a: two features, two layers.
    a = theory_sweep(linear, 32).column("init")[0]
    assert a == pytest.approx(norm / 2, rel=0.02)
    swept = Sweep(axes={"init": [0.1, 0.2], "rho": [0.1, 0.5]}, network=network("linear"), **made)
    np.testing.assert_allclose(theory_sweep(swept, 32).axes["init"], [a, 2 * a])
    diagonal = Sweep(axes=axes, values={"init": 0.1}, **made)
    assert theory_sweep(diagonal, 32) is diagonal


def test_rules_without_these_claims_have_no_lines() -> None:
    axes = {"p": [0.8, 1.0], "rho": [0.1, 0.5]}
    assert analytic_lines(Sweep(axes=axes, data=spurious(), values=VALUES, rule=rule("lsam"), seeds=1)) == []
    assert analytic_lines(Sweep(axes=axes, data=spurious(), values={**VALUES, "imbalance": 0.1}, seeds=1)) == []


def test_a_stronger_hard_feature_has_no_lines_and_its_maps_all_the_same(drawn: Path) -> None:
    diagram = FeatureDiagram.load(drawn / "phase_diagram.nc")
    assert with_strengths(diagram.sweep, 1.0, 2.0) is None
    fit = {**diagram.about["strengths"]["fit"], "mu_easy": 1.0, "mu_hard": 2.0}
    turned = dataclasses.replace(
        diagram, about={**diagram.about, "strengths": {**diagram.about["strengths"], "fit": fit}}
    )
    assert turned.flow(0.4) is None
    assert turned.lines("advantage", None) == []
    assert "stronger" in turned.summary("advantage", 0.4, None, 0.0)["lines_are_of"]


def test_the_share_on_a_line_s_side_counts_cells_with_a_known_side() -> None:
    line = sign_change(np.array([[1.0, -1.0, 2.0], [np.nan, 1.0, -3.0]]), "no advantage")
    share, cells = share_on_its_side(np.array([[1.0, 1.0, 1.0], [1.0, np.nan, -1.0]]), line)
    assert (share, cells) == (0.75, 4)
    assert share_on_its_side(np.full((2, 3), np.nan), line) == (None, 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--weights", "no.pt"], "--weights=no.pt with --embedding pixels; allowed: with frozen:NAME"),
        (["--weights", "no.pt", "--embedding", "frozen:resnet18"], "--weights=no.pt does not exist"),
    ],
)
def test_weights_that_are_not_there_are_refused_before_anything_is_read(given: list[str], words: str) -> None:
    from realdata.commands import phase_diagram

    with pytest.raises(ValueError, match=words):
        phase_diagram.main(["--data", "celeba", "--root", "nowhere", *given])
