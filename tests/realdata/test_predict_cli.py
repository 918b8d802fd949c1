"""``python -m realdata predict``: what is trained, training to verdicts, judging again, refusals in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from realdata import __main__ as entry
from realdata.commands import predict
from realdata.datasets import loading
from realdata.predictions import PREDICTIONS, Design, base_settings, trainings
from realdata.predictions.filter_evidence import FilterEvidence
from realdata.predictions.request import PROBING, request_of
from realdata.predictions.runs import OWN, tuning_pairs
from realdata.predictions.tables import (
    COLUMNS,
    SYMBOLS,
    estimate_table,
    judge_setting,
    read_predictions,
    table_of,
    verdict_rows,
    verdict_table,
    write_predictions,
)
from realdata.settings.completion import complete
from realdata.settings.plan import make_plan
from realdata.sweeps import jobs
from sambalance_tools.command_line import run_command
from support import fake_parts
from support.prediction_rows import LEVELS, World, base, gathered, made, store

FILTER = FilterEvidence(
    strength=(0.1, 0.4, 0.9), gain_gd=(0.1, 0.4, 0.9), gain_sam=(0.1, 0.38, 0.8), fit_gd=(0.0, 1.0, 0.0),
    fit_sam=(0.0, 1.0, -0.1), predicted_gd=(0.1, 0.4, 0.9), predicted_sam=(0.1, 0.38, 0.8), bend=(0.02, 0.01, 0.05),
    ratio=(1.0, 0.9, 1.1), draws=200, rho=0.1, features="made up",
)  # fmt: skip


# What is trained.


def test_the_runs_of_a_base_setting_are_these() -> None:
    setting, runs = base(), {"main", "effects", "scan", "tuning", "ceiling"}
    found = [(c.method, c.effect, c.rho, c.lr, c.weight_decay, c.seed) for c in trainings(setting, Design(), runs)]
    pair = (0.05, 5e-4)
    expected = [("sgd", "full", 0.0, *pair, seed) for seed in range(5)]
    expected += [("sam", effect, 0.1, *pair, seed) for effect in ("full", "weights", "jacobian") for seed in range(5)]
    expected += [("sam", "full", rho, *pair, seed) for rho in (0.03, 0.3, 1.0) for seed in range(3)]
    expected += [
        (method, "full", rho, *other, seed)
        for other in ((0.1, 5e-4), (0.05, 5e-3))
        for method, rho in (("sgd", 0.0), ("sam", 0.1))
        for seed in range(3)
    ]
    expected += [("sgd", "full", 0.0, *pair, seed) for seed in range(3) for _ in ("hard", "easy")]
    assert sorted(found) == sorted(expected)
    alone = [(c.data_options["ceiling"], c.seed, c.method) for c in trainings(setting, Design(), {"ceiling"})]
    assert alone == [(attribute, seed, "sgd") for seed in range(3) for attribute in ("hard", "easy")]
    assert not trainings(base(data="pacs"), Design(), {"ceiling"})
    assert len(found) == 47
    # The other head's, and SAM in the first and in the second half.
    assert len(trainings(setting, Design())) == 47 + 10 + 10
    # The first ten are the comparison that most predictions need, seed after seed.
    assert found[:2] == [expected[0], expected[5]]


def test_only_what_the_chosen_predictions_need_is_trained() -> None:
    def asked(names: str) -> int:
        return len(request_of({"data": "cifar_mnist", "predictions": names.split(",")}).plan.configurations)

    assert [asked(name) for name in ("R4", "R2,R3", "R6", "R5", "R1", "R1,R5,R6", "R7")] == [10, 10, 26, 25, 28, 47, 0]
    # Both heads, of which one is the base setting's; SAM in each half.
    assert [asked(name) for name in ("R8", "R12", "R13", "R1,R8")] == [20, 26, 16, 38]


def test_a_quick_look_is_small_and_what_is_given_stays() -> None:
    request = request_of({"data": "fmnist_mnist", "quick": True, "epochs": 7, "data_options": {"classes": 3}})
    (base,) = request.bases
    assert request.predictions == ("R8", "R13")
    assert len(request.plan.configurations) == 18
    assert (base.model, base.size, base.epochs) == ("paper_cnn", 16, 7)
    assert (base.data_options["examples_per_class"], base.data_options["classes"]) == (200, 3)


def test_what_needs_an_easy_attribute_is_not_trained_without_one() -> None:
    both = request_of({"data": ["pacs", "cifar_mnist"], "predictions": ["R2", "R6"]})
    assert both.untestable == {"pacs": ("R6",)}
    effects = {each.data for each in both.plan.configurations if each.effect != "full"}
    assert effects == {"cifar_mnist"}
    with pytest.raises(ValueError, match="R3,R6 need an easy attribute, which pacs has not; allowed: R1, R2"):
        request_of({"data": "pacs", "predictions": ["R3", "R6"]})


def test_a_sweep_of_the_same_settings_has_the_same_runs() -> None:
    """Runs that a sweep has trained are not trained again: same names of the folders."""
    own = {"model": "small_cnn", "weight_decay": 5e-4, "levels": [0.5, 0.3, 0.2, 0.1, 0.05, 0.02], "epochs": 10}
    own |= {"evaluations_per_epoch": 8, "evaluation_examples": 1000, "size": 48, "augmentation": "flip"}
    plan = make_plan({**own, "data": "waterbirds", "method": ["sgd", "sam"], "rho": [0, 0.1], "seeds": 5})
    request = request_of({"data": "waterbirds", "predictions": ["R4"]})
    assert {c.hash for c in plan.configurations} == {c.hash for c in request.plan.configurations}


def test_flags_and_files_stand_over_the_settings_of_a_data_set() -> None:
    (plain,) = base_settings({"data": "pacs"})
    assert (plain.size, plain.epochs, plain.data_options["target"]) == (32, 6, "sketch")
    (changed,) = base_settings({"data": "pacs", "epochs": 3, "data_options": {"target": "photo"}})
    assert (changed.size, changed.epochs, changed.data_options["target"]) == (32, 3, "photo")
    both = base_settings({"data": ["pacs", "celeba"], "lr": 0.1, "data_options": {"pacs.target": "cartoon"}})
    assert [(c.data, c.lr) for c in both] == [("pacs", 0.1), ("celeba", 0.1)]
    assert both[0].data_options["target"] == "cartoon"
    grids = base_settings({"epochs": 4, "grids": [{"data": "cifar_mnist", "epochs": 2}, {"data": ["celeba"]}]})
    assert [(c.data, c.epochs) for c in grids] == [("cifar_mnist", 2), ("celeba", 4)]
    targets = base_settings({"data": "pacs", "data_options": {"target": ["photo", "sketch"]}})
    assert [c.data_options["target"] for c in targets] == ["photo", "sketch"]


@pytest.mark.parametrize("data", OWN)
def test_the_settings_of_every_data_set_are_allowed(data: str) -> None:
    (found,) = base_settings({"data": data})
    assert (found.method, found.seed, found.weight_decay) == ("sgd", 0, 5e-4)


def test_numbers_are_rounded_so_that_folders_have_one_name() -> None:
    assert tuning_pairs(base(lr=0.05)) == ((0.05, 5e-4), (0.1, 5e-4), (0.05, 5e-3))
    assert tuning_pairs(base(weight_decay=0.0))[-1] == (0.05, 5e-4)
    assert Design(rho=0.1).all_radii == (0.0, 0.03, 0.1, 0.3, 1.0)
    assert Design(rho=0.2, radii=(0.2, 0.4)).all_radii == (0.0, 0.2, 0.4)


# Files.


def test_files_hold_the_verdicts_and_what_was_predicted(tmp_path: Path) -> None:
    predictions = list(PREDICTIONS.values())
    found = [judge_setting(made(tmp_path / "a"), predictions)]
    found += [judge_setting(made(tmp_path / "b", World(has_easy=False, sam_hard=0.1), lr=0.1), predictions)]
    rows = verdict_rows(found, predictions)
    write_predictions(tmp_path, rows, predictions, {"plan": {"rho": 0.1}})
    table = read_predictions(tmp_path / "predictions.parquet")
    assert list(table.columns) == list(COLUMNS)
    assert table.equals(table_of(rows))
    # The verdicts and the named parts of each setting, and one that compares them.
    parts = sum(bool(spec.name) for each in predictions for spec in each.parts)
    assert len(table) == 2 * (len(predictions) + parts) + 1
    one = table[(table["setting"] == found[1].data.setting) & (table["prediction"] == "R1")].set_index("part")
    assert list(one["verdict"]) == ["reversed", "reversed", "reversed", "reversed"]
    assert one.loc["b", "estimate"] == pytest.approx(0.1, abs=0.01)
    assert one.loc["b", "low"] < one.loc["b", "estimate"] < one.loc["b", "high"]
    assert (one.loc["b", "n"], one.loc["b", "confidence"], one.loc["b", "unit"]) == (5, 0.95, "probing error")
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert set(content["predictions"]) == set(PREDICTIONS)
    assert content["predictions"]["R5"]["parts"]["c"]["counts"] is False
    assert content["plan"] == {"rho": 0.1}
    text = (tmp_path / "verdict.md").read_text()
    assert "**✓ holds**" in text
    assert "**✗ reversed**" in text
    assert "○ undecided" in text
    assert "no easy attribute" in text


def test_tables_have_a_line_per_setting_and_part(tmp_path: Path) -> None:
    predictions = list(PREDICTIONS.values())
    rows = verdict_rows([judge_setting(made(tmp_path), predictions)], predictions)
    table = verdict_table(rows, predictions)
    assert [len(line) for line in table.rows] == [1 + len(PREDICTIONS)]
    texts = {line[1].text: line[3].text for line in estimate_table(rows).rows}
    assert list(texts) == [
        *("R1a", "R1b", "R1c", "R2a", "R2b", "R3", "R4a", "R4b", "R5a", "R5b", "R6", "R7a", "R7b"),
        *("R8a", "R8b", "R8c", "R12a", "R12b", "R13a", "R13b", "R13c", "R5c"),
    ]  # fmt: skip
    assert texts["R7a"] == "—"
    assert texts["R3"].startswith("0.200 [")


def test_a_figure_per_prediction_shows_every_setting(tmp_path: Path) -> None:
    from realdata.predictions.figures import prediction_figures

    predictions = list(PREDICTIONS.values())
    design, setting = Design(), base()
    whole = made(tmp_path / "a")
    found = [judge_setting(gathered(tmp_path / "a", setting, design, filter_evidence=FILTER), predictions)]
    found += [judge_setting(made(tmp_path / "b", World(has_easy=False, diverged=(1.0,))), predictions)]
    (tmp_path / "c" / "runs").mkdir(parents=True)
    found += [judge_setting(gathered(tmp_path / "c", setting, design), predictions)]
    figures = dict(prediction_figures(found, predictions))
    assert list(figures) == list(PREDICTIONS)
    for name, figure in figures.items():
        titles = [axes.get_title() for axes in figure.axes]
        assert [title.split("\n")[-1] for title in titles] == [
            f"{SYMBOLS[verdict]} {verdict}" for verdict in (one.verdicts[name].verdict for one in found)
        ]
        # The last one has nothing to draw and says why.
        assert len(figure.axes[0].lines) + len(figure.axes[0].patches) > 0
        assert len(figure.axes[2].lines) == 0
        assert figure.axes[2].texts[0].get_text()
    hard = figures["R5"].axes[0].get_lines()
    means = [whole.values("mean_group_probing_error", "hard").cell((("sam", "full", rho), "", None)).mean
             for rho in (0.03, 0.1, 0.3, 1.0)]  # fmt: skip
    assert any(len(line.get_ydata()) == 4 and list(line.get_ydata()) == pytest.approx(means) for line in hard)


@pytest.mark.parametrize(
    ("bend", "ratio", "expected"),
    [
        ((0.02, 0.01, 0.05), (1.0, 0.9, 1.1), ("holds", "holds", "holds")),
        ((0.2, 0.15, 0.3), (3.0, 2.5, 3.5), ("fails", "fails", "fails")),
        ((0.2, 0.05, 0.3), (1.0, 0.7, 1.1), ("undecided", "undecided", "undecided")),
        ((0.02, 0.01, 0.05), (-0.3, -0.5, 0.1), ("holds", "fails", "undecided")),
        ((float("nan"),) * 3, (1.0, 0.9, 1.1), ("undecided", "holds", "undecided")),
    ],
)
def test_r7_by_its_two_numbers(bend: Any, ratio: Any, expected: tuple[str, ...], tmp_path: Path) -> None:
    import dataclasses

    path = tmp_path / "filter.json"
    dataclasses.replace(FILTER, bend=bend, ratio=ratio).write(path)
    evidence = FilterEvidence.read(path)
    (tmp_path / "runs").mkdir()
    one = judge_setting(gathered(tmp_path, base(), Design(), filter_evidence=evidence), [PREDICTIONS["R7"]])
    found = one.evidence["R7"].findings
    assert (found["a"].verdict, found["b"].verdict, one.verdicts["R7"].verdict) == expected


def test_a_measurement_of_another_version_is_made_again(tmp_path: Path) -> None:
    assert FilterEvidence.read(tmp_path / "none.json") is None
    (tmp_path / "old.json").write_text('{"strength": [1.0]}')
    assert FilterEvidence.read(tmp_path / "old.json") is None
    FILTER.write(tmp_path / "new.json")
    assert FilterEvidence.read(tmp_path / "new.json") == FILTER


# The command.


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The data set ``tiny`` in place of the real ones; everything else is what it is."""
    fake_parts.install(monkeypatch.setattr, training=False)
    loading._load.cache_clear()
    yield
    loading._load.cache_clear()


class Here:
    """An executor without processes."""

    at_once = 1

    def outcomes(self, todo: Any) -> Iterator[Any]:
        for job in todo:
            yield jobs.run_job(job)

    def seconds_per_pass(self, job: Any) -> float | None:
        return None


SMALL = ["--data", "tiny", "--epochs", "2", "--batch-size", "16", "--model", "mlp", "--model-option", "width=8",
         "--levels", "0.6,0.3", "--seeds", "3", "--predictions", "R2,R3,R4", "--no-estimate", "--device", "cpu",
         "--evaluation-examples", "80", "--evaluations-per-epoch", "2"]  # fmt: skip


@pytest.mark.usefixtures("tiny")
def test_from_training_to_verdicts_and_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict, "local_executor", lambda *arguments: Here())
    out = tmp_path / "out"
    given = ["predict", *SMALL, "--root", str(tmp_path), "--out", str(out)]
    entry.main([*given, "--dry-run"])
    assert capsys.readouterr().out.startswith("6 jobs, 0 done already")
    assert not (out / "runs").exists()
    entry.main(given)
    assert "[6/6] done" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert {"predictions.parquet", "predictions.json", "verdict.md", "results.parquet", "results.json"} <= names
    assert {path.name for path in (out / "figures").iterdir()} == {
        f"{name}.{suffix}" for name in ("R2", "R3", "R4") for suffix in ("png", "pdf")
    }
    table = read_predictions(out / "predictions.parquet")
    assert list(table["prediction"].unique()) == ["R2", "R3", "R4"]
    # Real networks: the number of the table is that of the rows.
    (a,) = table[(table["prediction"] == "R2") & (table["part"] == "a")].itertuples()
    results = out / "results.parquet"
    import pandas as pd

    rows = pd.read_parquet(results)
    sam = rows[(rows["method"] == "sam") & rows["metric"].isin(["gini_real", "gini_phantom"])]
    wide = sam.drop_duplicates(["seed", "step", "metric"]).pivot(
        index=["seed", "step"], columns="metric", values="value"
    )
    expected = (wide["gini_phantom"] - wide["gini_real"]).groupby("seed").mean().mean()
    assert a.estimate == pytest.approx(expected)
    content = json.loads((out / "predictions.json").read_text())
    assert content["plan"]["probe_options"] == {**PROBING, "rho": 0.1}
    assert content["data"][0]["runs"] == {"done": 6}
    # Again, by the folder alone, without data and without training: the same verdicts, byte by byte.
    before = {name: digest(out / name) for name in ("predictions.parquet", "verdict.md", "figures/R4.pdf")}
    entry.main(["predict", "--out", str(out), "--no-train", "--root", str(tmp_path / "nowhere")])
    assert "6 jobs, 6 done already" in capsys.readouterr().out
    assert {name: digest(out / name) for name in before} == before


@pytest.mark.usefixtures("tiny")
def test_without_training_the_rest_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict, "local_executor", lambda *arguments: Here())
    out = tmp_path / "out"
    given = ["predict", *SMALL, "--root", str(tmp_path), "--out", str(out), "--no-figures"]
    entry.main([*given, "--seeds", "1"])
    capsys.readouterr()
    # One of the trained runs has lost its rows: it is evaluated again, nothing is trained.
    (first, second) = sorted((out / "runs").iterdir())
    (first / "rows.json").unlink()
    entry.main([*given, "--no-train"])
    printed = capsys.readouterr().out
    assert "2 jobs, 1 done already" in printed
    assert "4 unfinished trainings are left out" in printed
    assert (first / "rows.json").exists()
    assert sorted((out / "runs").iterdir()) == [first, second]
    text = (out / "verdict.md").read_text()
    assert "1 seed, a verdict needs 3" in text


@pytest.mark.usefixtures("tiny")
def test_r7_is_measured_once_and_says_why_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from realdata.predictions import filter_runs

    calls: list[tuple[int, str]] = []

    def measured(data: Any, embedding: str) -> FilterEvidence:
        calls.append((len(data), embedding))
        return FILTER

    monkeypatch.setattr(filter_runs, "measure_filter", measured)
    monkeypatch.delenv("SAMBALANCE_DATA", raising=False)
    given = ["predict", "--data", "tiny", "--predictions", "R7", "--out", str(tmp_path / "out"), "--no-figures"]
    entry.main([*given, "--device", "cpu"])
    assert "root of tiny is not given" in (tmp_path / "out" / "verdict.md").read_text()
    for _ in range(2):
        entry.main([*given, "--device", "cpu", "--root", str(tmp_path)])
    assert calls == [(240, "pixels")]
    assert read_predictions(tmp_path / "out" / "predictions.parquet")["verdict"][0] == "holds"
    assert "1.000 [0.900, 1.100]" in capsys.readouterr().out


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nothing"], "data='nothing' is not known; allowed: celeba"),
        (["--data", "celeba", "--predictions", "R9"], "predictions='R9'; allowed: R1, R2"),
        (["--data", "celeba", "--predictions", ","], "predictions is empty; allowed: R1, R2"),
        (["--data", "celeba", "--rho", "0"], "rho=0.0; allowed: finite numbers > 0"),
        (["--data", "celeba", "--radii", "0.1,x"], "radii='x'; allowed: a number"),
        (["--data", "celeba", "--seeds", "0"], "seeds=0; allowed: a whole number >= 1"),
        (["--data", "celeba", "--scan-seeds", "0"], "scan_seeds=0; allowed: a whole number >= 1"),
        (["--data", "celeba", "--method", "sam"], "unrecognized arguments: --method"),
        (["--data", "celeba"], "root of celeba is not given"),
        ([], "neither --data nor a file is given"),
        (["none.yaml"], "none.yaml: No such file or directory"),
        (["--data", "celeba", "--embedding", "resnet"], "embedding='resnet'; allowed: pixels, or frozen:NAME"),
    ],
)
def test_what_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("SAMBALANCE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_command(entry.main, ["predict", *arguments, "--device", "cpu"])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: celeba\nmethod: sam\n", "setting 'method' of a base setting"),
        ("data: celeba\nrho: [0.1, 0.2]\n", "rho=[0.1, 0.2]; allowed: one main radius"),
        ("grids: [{data: celeba, seeds: 2}]\n", "setting 'seeds' of a base setting"),
        ("grids: []\n", "grids=[]; allowed: a list of settings"),
        ("data: 3\n", "data=3; allowed: the name of a data set"),
        ("data: celeba\nspeed: 3\n", "setting 'speed' is unknown"),
    ],
)
def test_files_that_are_refused(text: str, message: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        run_command(entry.main, ["predict", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_says_what_flags_say(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "rho: 0.2\nradii: [0.4]\nseeds: 2\nscan_seeds: 1\npredictions: R5\ngrids:\n  - {data: celeba, epochs: 3}\n"
    )
    options = predict.parser().parse_args([str(tmp_path / "plan.yaml"), "--seeds", "3"])
    request = request_of(predict._settings(options))
    assert request.design == Design(rho=0.2, radii=(0.4,), seeds=3, scan_seeds=1)
    assert request.predictions == ("R5",)
    assert {(c.rho, c.seed, c.epochs) for c in request.plan.configurations} == {
        *((rho, seed, 3) for rho in (0.0, 0.2) for seed in range(3)), (0.4, 0, 3)
    }  # fmt: skip
    assert request.plan.probe_options["rho"] == 0.2


def test_helpers_of_these_tests_write_what_real_runs_do(tmp_path: Path) -> None:
    """The made-up rows have names that an evaluation gives: a prediction tested on them reads real ones."""
    store(tmp_path, World(), base())
    (path,) = (tmp_path / "runs").glob("*/rows.json")
    mine = {
        (r["split"], r["metric"], r["attribute"]) for r in json.loads(path.read_text())["checkpoints"]["final"]["rows"]
    }
    shutil.rmtree(tmp_path / "runs")
    from realdata.measures import evaluate
    from realdata.measures.protocols import Protocol
    from realdata.models.build import build

    options = {"width": 4, "depth": 1}
    configuration = complete({"data": "cifar_mnist", "model": "small_cnn", "model_options": options, "levels": LEVELS})
    data, protocol = fake_parts.tiny(), Protocol(readouts=("placed",))
    rows = evaluate.evaluate(build(configuration, data).eval(), data, configuration, protocol=protocol)
    real = {(r["split"], r["metric"], r["attribute"]) for r in rows}
    assert mine <= real
