"""The relative radius of a run: measured before the first step, in the rows, in the tables; old runs have none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from realdata.measures.radius_rows import RADIUS_METRICS, radius_rows
from realdata.models.build import build
from realdata.results import run_table
from realdata.results.parquet import collect, collect_settings
from realdata.results.radius_table import radius_table
from realdata.results.summary import panels
from realdata.results.tables import panel_tables
from realdata.sweeps import jobs
from realdata.training import checkpoints
from realdata.training.radius import starting_radius
from realdata.training.train import train
from support.stored_runs import row, store
from support.toy_images import configuration, toy


def norm_of(model: torch.nn.Module, prefix: str = "") -> float:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and name.startswith(prefix)]
    assert named
    return float(np.sqrt(sum(np.square(p.detach().numpy().astype(float)).sum() for _, p in named)))


def test_the_norm_is_that_of_the_parameters_that_the_method_perturbs() -> None:
    settings, data = configuration(method="sam", rho=0.2), toy()
    model = build(settings, data)
    whole, head = norm_of(model), norm_of(model, "head.")
    assert head < whole
    for method, rho, norm in (("sam", 0.2, whole), ("asam", 0.5, whole), ("lsam", 0.2, head), ("sgd", 0.0, whole)):
        found = starting_radius(configuration(method=method, rho=rho), model)
        assert found["initial_norm"] == pytest.approx(norm, rel=1e-12)
        assert found["relative_radius"] == pytest.approx(rho / norm, rel=1e-12)
    next(model.parameters()).requires_grad_(False)
    assert starting_radius(settings, model)["initial_norm"] == pytest.approx(norm_of(model), rel=1e-12) != whole
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert np.isnan(starting_radius(settings, model)["relative_radius"])


def test_what_counts_is_what_sam_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the engine's side: the entries that differ at the phantom point are those whose norm is taken."""
    from kernels.sam.perturbation import Perturbation
    from realdata.training.optimization import TrainingStep

    for method in ("sam", "lsam"):
        settings, data = configuration(method=method, rho=0.2), toy()
        model = build(settings, data).train()
        moved: list[torch.Tensor] = []
        move = Perturbation.move

        def watched(self: Perturbation, groups: list, move=move, moved=moved) -> float:  # type: ignore[no-untyped-def]
            moved += [parameter.detach().clone() for group in groups for parameter in group.parameters]
            return move(self, groups)

        monkeypatch.setattr(Perturbation, "move", watched)
        wanted = starting_radius(settings, model)["initial_norm"]
        TrainingStep(settings, model, torch.device("cpu")).step(
            torch.rand(8, 3, 8, 8), torch.tensor([0, 1] * 4), 0.1
        )  # fmt: skip
        assert float(torch.stack([m.double().square().sum() for m in moved]).sum().sqrt()) == pytest.approx(wanted)


def test_the_first_line_of_the_metrics_has_it_and_the_others_do_not(tmp_path: Path) -> None:
    settings = configuration(method="sam", rho=0.2, epochs=1)
    train(settings, toy(), tmp_path, progress=False)
    first, *others = checkpoints.read_metrics(tmp_path)
    assert first["step"] == 0
    assert first["relative_radius"] == pytest.approx(0.2 / first["initial_norm"])
    assert others
    assert not any(name in line for line in others for name in RADIUS_METRICS)
    rows = radius_rows(tmp_path)
    assert [(each["split"], each["metric"], each["value"]) for each in rows] == [
        ("train", name, first[name]) for name in RADIUS_METRICS
    ]


@pytest.mark.parametrize("text", [None, "", '{"step": 0, "training_loss": 0.7}\n', '{"step": 3}\n{"initial_norm": 1}'])
def test_runs_of_earlier_versions_have_no_such_rows(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / checkpoints.METRICS).write_text(text)
    assert radius_rows(tmp_path) == []


def test_a_job_stores_the_rows_with_each_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.fake_parts import install

    install(monkeypatch.setattr)
    steps = jobs.steps_of_a_job()

    def train_and_measure(settings, data, directory, **options):  # type: ignore[no-untyped-def]
        (directory / checkpoints.METRICS).write_text('{"step": 0, "initial_norm": 5.0, "relative_radius": 0.02}\n')
        return steps.train(settings, data, directory, **options)

    monkeypatch.setattr(jobs, "steps_of_a_job", lambda: replace(steps, train=train_and_measure))
    values = {**configuration(method="sam", rho=0.1).as_dict(), "data": "fake"}
    outcome = jobs.run_job(jobs.Job(values, ".", str(tmp_path / "job")))
    assert outcome.status == jobs.DONE, outcome.reason
    stored = jobs.read_rows(tmp_path / "job")
    assert stored is not None
    for each in stored["checkpoints"].values():
        if each["step"]:
            found = {line["metric"]: line["value"] for line in each["rows"]}
            assert (found["initial_norm"], found["relative_radius"]) == (5.0, 0.02)


def with_radius(norm: float, rho: float) -> dict[str, tuple[float | None, float, list]]:  # type: ignore[type-arg]
    rows = [row("probing_error", 0.3, "hard")]
    if norm:
        rows += [row("initial_norm", norm, split="train"), row("relative_radius", rho / norm, split="train")]
    return {"loss-0.4": (0.4, 0.35, rows), "final": (None, 0.01, rows)}


def test_reports_show_norm_and_radius_by_rule_once_per_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, norm in ((0, 10.0), (1, 12.5)):
        store(tmp_path, stages=with_radius(norm, 0.0), seed=seed)
        last = store(tmp_path, stages=with_radius(norm, 0.1), seed=seed, method="sam", rho=0.1)
    store(tmp_path, stages=with_radius(0.0, 0.2), method="sam", rho=0.2)
    [panel] = panels(collect(tmp_path), collect_settings(tmp_path)["runs"])
    [table] = [each.table for each in panel_tables(panel) if each.stem == "relative_radius"]
    lines = [[cell.text for cell in line] for line in table.rows]
    assert [line[0] for line in lines] == ["SGD", "SAM, rho = 0.1"], "the run of an earlier version has no number"
    assert [line[1].split(" ± ")[0] for line in lines] == ["11.25", "11.25"]
    assert lines[0][2].split(" ± ")[0] == "0"
    assert lines[1][2].split(" ± ") == ["0.009", f"{0.001 * 12.706:.2g}"]  # Student's t, one degree of freedom
    run_table.print_run(tmp_path / "runs" / last.hash)
    assert "sam, rho 0.1 (relative radius 0.008), seed 1" in capsys.readouterr().out


def test_reports_of_earlier_runs_are_as_they_were(tmp_path: Path) -> None:
    store(tmp_path)
    [panel] = panels(collect(tmp_path), json.loads(json.dumps(collect_settings(tmp_path)))["runs"])
    assert radius_table(panel, "") is None
    assert not any(each.stem == "relative_radius" for each in panel_tables(panel))
