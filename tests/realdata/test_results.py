"""The Parquet table and the settings beside it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from realdata.configuration import RunConfiguration
from realdata.results.parquet import COLUMNS, collect, collect_settings, read_results, setting_of_values, write_results
from support.stored_runs import row, store


def test_one_row_per_run_checkpoint_and_measure(tmp_path: Path) -> None:
    sam = store(tmp_path, method="sam", rho=0.1, seed=3, data_options={"target": "sketch"})
    store(tmp_path, seed=3)
    write_results(tmp_path)
    table = read_results(tmp_path / "results.parquet")
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 4
    mine = table[table["run"] == sam.hash].set_index("checkpoint")
    first = mine.loc["loss-0.4"]
    assert (first["method"], first["rho"], first["seed"], first["target"]) == ("sam", 0.1, 3, "sketch")
    assert (first["level"], first["training_loss"], first["step"], first["epoch"]) == (0.4, 0.35, 7, 1.5)
    assert (first["value"], first["n"], first["attribute"], first["group"]) == (0.4, 10, "hard", "")
    assert math.isnan(mine.loc["final"]["level"])
    assert table["target"].isna().sum() == 0


def test_a_value_that_could_not_be_measured_stays_a_row(tmp_path: Path) -> None:
    store(tmp_path, stages={"final": (None, 0.1, [row("worst_group_accuracy", None)])})
    write_results(tmp_path)
    (value,) = read_results(tmp_path / "results.parquet")["value"]
    assert math.isnan(value)


def test_half_evaluated_runs_are_not_in_the_table_but_in_the_settings(tmp_path: Path) -> None:
    partial = store(tmp_path, status="partial")
    waiting = RunConfiguration(data="cifar_mnist", seed=9)
    (tmp_path / "plan.json").write_text(json.dumps({waiting.hash: waiting.as_dict()}))
    failed = RunConfiguration(data="cifar_mnist", seed=8)
    (tmp_path / "runs" / failed.hash).mkdir()
    report = {"reason": "while training: no", "traceback": "", "configuration": failed.as_dict()}
    (tmp_path / "runs" / failed.hash / "failed.json").write_text(json.dumps(report))
    assert len(collect(tmp_path)) == 0
    runs = collect_settings(tmp_path)["runs"]
    assert {name: run["reason"] for name, run in runs.items()} == {
        partial.hash: "interrupted after evaluating 2 checkpoints",
        waiting.hash: "not run yet",
        failed.hash: "while training: no",
    }


def test_results_name_no_folder_and_are_the_same_every_time(tmp_path: Path) -> None:
    store(tmp_path)
    first = [path.read_bytes() for path in write_results(tmp_path)]
    assert [path.read_bytes() for path in write_results(tmp_path)] == first
    assert str(tmp_path).encode() not in b"".join(first)


def test_a_setting_is_all_but_rule_seed_and_target() -> None:
    base = RunConfiguration(data="pacs", data_options={"target": "sketch", "x": 1})
    like = base.replace(method="sam", rho=0.2, effect="weights", seed=4, data_options={"target": "photo", "x": 1})
    assert setting_of_values(base.as_dict()) == setting_of_values(like.as_dict())
    for changes in ({"lr": 1.0}, {"epochs": 3}, {"data_options": {"target": "sketch", "x": 2}}, {"size": 32}):
        assert setting_of_values(base.replace(**changes).as_dict()) != setting_of_values(base.as_dict())


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; allowed"):
        read_results(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("x")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        read_results(tmp_path / "text.parquet")
    import pandas as pd

    pd.DataFrame({"run": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="lacks the columns data, title"):
        read_results(tmp_path / "other.parquet")
