"""The network before its first step has rows of its own, measured once for all runs that start from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from realdata.configuration import RunConfiguration  # noqa: E402
from realdata.measures.evaluate import evaluate  # noqa: E402
from realdata.measures.protocols import protocol  # noqa: E402
from realdata.models.build import build  # noqa: E402
from realdata.results.parquet import read_results, read_settings, write_results  # noqa: E402
from realdata.results.summary import MEASURES, panels, values_of  # noqa: E402
from realdata.sweeps import jobs, untrained  # noqa: E402
from realdata.sweeps.jobs import Job, run_job  # noqa: E402
from realdata.training.checkpoints import UNTRAINED  # noqa: E402
from support import fake_parts  # noqa: E402
from support.toy_images import configuration, toy  # noqa: E402

pytestmark = pytest.mark.usefixtures("stand_in_parts")


def job(folder: Path, **changes: Any) -> Job:
    made = RunConfiguration(**{"data": "fake", **changes})
    return Job(made.as_dict(), str(folder), str(folder / "runs" / made.hash))


def stored(of: Job) -> dict[str, Any]:
    return dict(json.loads((Path(of.directory) / "rows.json").read_text()))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """(method, rho, seed) of every measurement of an untrained network."""
    calls: list[tuple[str, float, int]] = []

    def counted(configuration: Any, data: Any, **options: Any) -> list[Any]:
        calls.append((configuration.method, configuration.rho, configuration.seed))
        return fake_parts.measure_untrained(configuration, data, **options)

    steps = dataclasses.replace(jobs.steps_of_a_job(), measure_untrained=counted)
    monkeypatch.setattr(jobs, "steps_of_a_job", lambda: steps)
    return calls


def test_it_is_measured_once_per_network_and_stored_with_every_run(
    tmp_path: Path, measured: list[tuple[str, float, int]]
) -> None:
    all_jobs = [
        job(tmp_path, seed=0), job(tmp_path, seed=0, method="sam", rho=0.1), job(tmp_path, seed=0, lr=0.2, epochs=3),
        job(tmp_path, seed=1), job(tmp_path, seed=0, model_options={"width": 4}),
    ]  # fmt: skip
    assert [run_job(each).status for each in all_jobs] == ["done"] * 5
    assert measured == [("sgd", 0.0, 0), ("sgd", 0.0, 1), ("sgd", 0.0, 0)]
    for each in all_jobs:
        name, entry = next(iter(stored(each)["checkpoints"].items()))
        assert (name, entry["level"], entry["step"], entry["epoch"]) == (UNTRAINED, None, 0, 0.0)
        # Without a loss of step 0 in metrics.jsonl, it is the measured one.
        assert entry["training_loss"] == 0.7
        assert [row["value"] for row in entry["rows"] if row["metric"] == "probing_error"] == [
            0.5 + 0.01 * each.configuration["seed"]
        ]
    again = dataclasses.replace(all_jobs[0], evaluation_seed=1)
    assert run_job(again).status == "done"
    assert len(measured) == 4


def test_a_run_of_an_earlier_version_is_read_without_it(tmp_path: Path, measured: list[tuple[str, float, int]]) -> None:
    old = job(tmp_path)
    run_job(old)
    content = stored(old)
    del content["checkpoints"][UNTRAINED]
    (Path(old.directory) / "rows.json").write_text(json.dumps(content))
    measured.clear()
    assert run_job(old).status == "done"
    assert UNTRAINED not in stored(old)["checkpoints"]
    assert not measured
    [panel] = panels(read_results(write_results(tmp_path)[0]), read_settings(tmp_path / "results.json"))
    assert not len(panel.untrained)


def test_the_end_of_training_is_not_the_untrained_network(tmp_path: Path) -> None:
    run_job(job(tmp_path))
    paths = write_results(tmp_path)
    [panel] = panels(read_results(paths[0]), read_settings(paths[1]))
    hard = dataclasses.replace(MEASURES[0], split="test")
    value = values_of(panel, hard).found[("sgd", "full", 0.0), "", None][0]
    assert value == pytest.approx(0.35 + 0.1 * 0.001)
    assert set(panel.untrained["value"].dropna()) == {0.5, 0.7}


def test_the_rows_are_those_of_the_network_as_it_was_built() -> None:
    data, made = toy(), configuration(seed=3)
    fast = protocol("fast").replace(draws=20)
    rows = untrained.measure(made, data, device="cpu", protocol=fast, seed=0)
    model = build(made, data).eval()
    everything = evaluate(model, data, made, protocol=fast)
    kept = [row for row in everything if row["split"] != "evaluate" and row in rows]
    assert kept == [row for row in rows if row["split"] != "evaluate"]
    assert {row["split"] for row in rows} == {"train", "validation", "test", "probe"}
    assert not any(row["metric"].startswith("gini") for row in rows)


def test_the_loss_is_that_of_the_first_line_of_the_metrics(tmp_path: Path) -> None:
    made = configuration()
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "metrics.jsonl").write_text('{"step": 0, "training_loss": 0.69}\n{"step": 9, "training_loss": 0.1}\n')
    entry = untrained.untrained_entry(directory, made, {}, lambda: [])
    assert entry["training_loss"] == 0.69
    assert [row["value"] for row in entry["rows"]] == [0.69]
    assert untrained.shared_file(directory, made, {}) is None
