"""Reports: means, intervals and paired differences by hand, a reason for every empty cell, files that are valid."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from realdata.commands import report
from realdata.configuration import RunConfiguration
from realdata.results.parquet import read_results, read_settings, write_results
from realdata.results.summary import ALL_TARGETS, MEASURES, Panel, panels, rule_name, values_of
from realdata.results.tables import excludes_zero, format_cell, hardness_table, panel_tables
from realdata.results.text_table import TableCell, TextTable
from sambalance_tools.command_line import run_command
from sambalance_tools.statistics import t_interval
from support.stored_runs import row, rows_of, stages, store
from toymodels import plots

HARD = MEASURES[0]
SGD, SAM = ("sgd", "full", 0.0), ("sam", "full", 0.1)
SEEDS = (0, 1, 2)


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    """SGD and SAM, three seeds; hard probing errors at the end are 0.3 + seed / 100, and less by 0.02, 0.03, 0.04."""
    for seed in SEEDS:
        store(tmp_path, seed=seed, stages=stages(0.30 + 0.01 * seed))
        store(tmp_path, method="sam", rho=0.1, seed=seed, stages=stages(0.30 + 0.01 * seed - 0.02 - 0.01 * seed))
    return tmp_path


def only_panel(out: Path) -> Panel:
    write_results(out)
    (panel,) = panels(read_results(out / "results.parquet"), read_settings(out / "results.json"))
    return panel


def test_means_intervals_and_paired_differences(sweep_folder: Path) -> None:
    values = values_of(only_panel(sweep_folder), HARD)
    cell = values.cell((SGD, "", None))
    low, high = stats.t.interval(0.95, 2, 0.31, stats.sem([0.30, 0.31, 0.32]))
    assert (cell.mean, cell.n, cell.planned, cell.reasons) == (pytest.approx(0.31), 3, 3, ())
    assert cell.half == pytest.approx((high - low) / 2)
    difference = values.difference((SAM, "", None))
    # Paired: -0.02, -0.03, -0.04. Unpaired seeds would give the same mean and another width.
    assert difference.mean == pytest.approx(-0.03)
    assert difference.half == pytest.approx(stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3))
    assert values.cell((SAM, "", 0.4)).mean == pytest.approx(0.38)
    assert values.mean_loss((SAM, "", 0.4)) == pytest.approx(0.35)


def test_one_seed_has_no_interval_and_two_have_a_wide_one() -> None:
    assert t_interval([0.5]) == (0.5, None)
    mean, half = t_interval([0.4, 0.6])
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(12.706 * 0.1, rel=1e-3)


def test_every_empty_cell_says_why(sweep_folder: Path) -> None:
    end_only = {"final": (None, 0.2, rows_of(0.3))}
    store(sweep_folder, seed=3, stages=end_only)
    store(sweep_folder, seed=4, status="diverged", stages={"loss-0.4": (0.4, 0.3, rows_of(0.4))})
    failed = RunConfiguration(data="cifar_mnist", levels=(0.4, 0.1), seed=5)
    directory = sweep_folder / "runs" / failed.hash
    directory.mkdir()
    reason = {"reason": "while training: out of memory", "traceback": "", "configuration": failed.as_dict()}
    (directory / "failed.json").write_text(json.dumps(reason))
    waiting = failed.replace(seed=6)
    (sweep_folder / "plan.json").write_text(json.dumps({waiting.hash: waiting.as_dict()}))
    store(sweep_folder, seed=7, stages={"final": (None, 0.01, [row("probing_error", None, "hard")])})
    values = values_of(only_panel(sweep_folder), HARD)
    common = {"seed 5: while training: out of memory", "seed 6: not run yet"}
    at_level = {"seeds 3, 7: training ended above this loss", "seed 4: the training diverged before"}
    at_end = {"seed 4: the training diverged", "seed 7: not defined on this data (a group without images)"}
    assert set(values.cell((SGD, "", 0.1)).reasons) == common | at_level
    cell = values.cell((SGD, "", None))
    assert set(cell.reasons) == common | at_end
    assert (cell.n, cell.planned) == (4, 8)
    assert format_cell(cell).endswith("(4 of 8)")
    store(sweep_folder, method="sam", rho=0.1, seed=5)
    lonely = values_of(only_panel(sweep_folder), HARD).difference((SAM, "", None))
    assert (lonely.n, lonely.reasons) == (3, ("seed 5: no SGD run of this seed to compare with",))


def test_the_mean_of_targets_needs_all_of_them(tmp_path: Path) -> None:
    for seed in SEEDS:
        for target, hard in (("photo", 0.2), ("sketch", 0.4)):
            if (seed, target) != (2, "sketch"):
                store(tmp_path, data="pacs", seed=seed, stages=stages(hard + seed), data_options={"target": target})
    sketch = RunConfiguration(data="pacs", levels=(0.4, 0.1), seed=2, data_options={"target": "sketch"})
    (tmp_path / "plan.json").write_text(json.dumps({sketch.hash: sketch.as_dict()}))
    panel = only_panel(tmp_path)
    cell = values_of(panel, HARD).cell((SGD, ALL_TARGETS, None))
    assert (cell.n, cell.mean) == (2, pytest.approx(0.8))
    assert cell.reasons == ("seed 2: no value for target sketch",)
    stems = {each.stem: each.detail for each in panel_tables(panel)}
    assert stems["probing_error-hard-mean_of_targets"] is False
    assert stems["probing_error-hard-sketch"] is True


def test_losses_that_do_not_match_are_marked(tmp_path: Path) -> None:
    """SGD at 0.19 where the level is 0.4, SAM at 0.3; both at 0.09 at the next level."""
    for seed in SEEDS:
        store(tmp_path, seed=seed, stages=stages(0.3, level_loss=0.19))
        store(tmp_path, seed=seed, method="sam", rho=0.1, stages=stages(0.3, level_loss=0.3))
    tables = {each.stem: each.table for each in panel_tables(only_panel(tmp_path))}
    plain, sam = tables["probing_error-hard"].rows
    assert [cell.notes for cell in plain] == [(), (1,), (), ()]
    assert [cell.notes for cell in sam] == [(), (), (), ()]
    assert tables["probing_error-hard"].notes[0].startswith("measured far below this level")
    difference = tables["probing_error-hard-difference"]
    assert [cell.notes for cell in difference.rows[0]] == [(), (1,), (), ()]
    assert difference.notes[0].startswith("the training losses of the two differ by more than a factor of 1.5")


def test_tables_about_probing_have_rows_of_the_untrained_network_and_the_ceiling(tmp_path: Path) -> None:
    for seed in SEEDS:
        start = {"untrained": (None, 0.7, [row("probing_error", 0.5 + 0.1 * seed, "hard")])}
        for rule in ({}, {"method": "sam", "rho": 0.1}):
            store(tmp_path, seed=seed, stages={**start, **stages(0.3)}, **rule)
        if seed < 2:
            store(tmp_path, seed=seed, stages=stages(0.1 + 0.02 * seed), data_options={"ceiling": "hard"})
    panel = only_panel(tmp_path)
    assert (len(panel.runs), len(panel.ceilings["hard"].runs)) == (6, 2)
    tables = {each.stem: each.table for each in panel_tables(panel)}
    hard = tables["probing_error-hard"]
    assert [cells[0].text for cells in hard.rows] == [
        "SGD", "SAM, rho = 0.1", "untrained network", "SGD on the hard attribute alone"
    ]  # fmt: skip
    texts = [[cell.text for cell in cells[1:]] for cells in hard.rows[2:]]
    assert texts[0] == ["—", "—", "0.600 ± 0.248"]
    assert [text.split()[0] for text in texts[1]] == ["0.210", "0.160", "0.110"]
    assert hard.rows[2][1].notes == (len(hard.notes),)
    assert "reaches no level" in hard.notes[-1]
    assert [cells[0].text for cells in tables["probing_error-easy"].rows] == ["SGD", "SAM, rho = 0.1"]
    assert [cells[0].text for cells in tables["probing_error-hard-difference"].rows] == ["SAM, rho = 0.1"]
    assert not any("untrained" in cells[0].text for cells in tables["worst_group_accuracy"].rows)


def test_which_attribute_is_hard_is_measured(tmp_path: Path) -> None:
    for seed in SEEDS:
        start = {"untrained": (None, 0.7, [row("probing_error", 0.5, "hard"), row("probing_error", 0.4, "easy")])}
        store(tmp_path, seed=seed, stages={**start, **stages(0.3)})
        for attribute, error in (("hard", 0.1), ("easy", 0.2)):
            alone = {"final": (None, 0.01, [row("probing_error", error, attribute)])}
            store(tmp_path, seed=seed, stages=alone, data_options={"ceiling": attribute})
    panel = only_panel(tmp_path)
    table = hardness_table(panel, "")
    assert table is not None
    numbers = [[float(cell.text.split()[0]) for cell in cells[1:]] for cells in table.rows]
    assert numbers == [[0.5, 0.4, 0.3, 0.1], [0.4, 0.02, 0.02, 0.2]]
    # Trained alone, the attribute called easy is the harder one.
    assert table.caption.endswith("not settled")
    bare = hardness_table(dataclasses.replace(panel, ceilings={}), "")
    assert bare is not None
    assert bare.caption.endswith("the attribute called hard")
    assert [cell.notes for cell in bare.rows[0]] == [(), (), (), (), (1,)]


def test_figures_show_the_untrained_network_and_the_ceiling(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from realdata.results.figures import against_loss

    start = {"untrained": (None, 0.7, [row("probing_error", 0.5, "hard")])}
    store(tmp_path, stages={**start, **stages(0.3)})
    store(tmp_path, stages=stages(0.1), data_options={"ceiling": "hard"})
    panel = only_panel(tmp_path)
    figure = against_loss(panel, {HARD: values_of(panel, HARD)}, "")
    lines = {str(line.get_label()): line.get_ydata() for line in figure.axes[0].lines}
    assert set(lines["untrained network"]) == {0.5}
    assert set(lines["SGD on the probed attribute alone"]) == {0.1}


def test_tables_name_the_data_the_seeds_and_stand_out_where_the_interval_excludes_zero(sweep_folder: Path) -> None:
    tables = {each.stem: each.table for each in panel_tables(only_panel(sweep_folder))}
    assert all("Made up, 3 seeds" in table.caption for table in tables.values())
    difference = tables["probing_error-hard-difference"]
    assert [cell.bold for cell in difference.rows[0]] == [False, True, True, True]
    assert difference.rows[0][3].text == "−0.030 ± 0.025"
    assert not any(cell.bold for cell in tables["probing_error-easy-difference"].rows[0])
    assert excludes_zero(values_of(only_panel(sweep_folder), HARD).difference((SAM, "", None)))
    assert [cell.text for cell in tables["training_loss"].rows[1]] == ["SAM, rho = 0.1", "0.35", "0.09", "0.01"]


def test_rules_have_names() -> None:
    assert rule_name(("linf_sam", "full", 0.1)) == "SAM (max norm), rho = 0.1"
    assert rule_name(("sam", "jacobian", 0.05)) == "SAM, jacobian only, rho = 0.05"


def test_markdown_and_latex_escape_what_is_special() -> None:
    cells = [TableCell("a_b|c", (1, 2), bold=True), TableCell("−0.1 ± 50 %")]
    table = TextTable("x_y & z", ["one", "two"], [cells], ["first", "second"])
    markdown = table.markdown().splitlines()
    assert markdown[0] == r"**x\_y & z**"
    assert markdown[4].split(" | ")[0] == r"| **a\_b\|c**<sup>1</sup><sup>2</sup>"
    assert len({line.count(" | ") for line in markdown[2:5]}) == 1
    assert r"\textbf{a\_b|c}$^{1,2}$ & $-$0.1 $\pm$ 50 \% \\" in table.latex()


def test_a_report_has_tables_and_figures_that_can_be_opened(sweep_folder: Path, capsys: Any) -> None:
    report.main(["--out", str(sweep_folder)])
    folder = sweep_folder / "report"
    text = (folder / "report.md").read_text()
    assert str(folder / "report.md") in capsys.readouterr().out
    assert "6 runs: 6 done" in text
    assert "## Made up, 3 seeds" in text
    assert "Computed with torch 2." in text
    names = {path.name for path in (folder / "cifar_mnist").iterdir()}
    assert {
        f"{stem}.{suffix}" for stem in ("against_loss", "against_rho", "lorenz") for suffix in ("png", "pdf")
    } <= names
    from matplotlib.image import imread

    for path in (folder / "cifar_mnist").glob("*.png"):
        assert f"(cifar_mnist/{path.name})" in text
        image = imread(path)
        assert min(image.shape[:2]) / plots.DPI > 2.5, "inches"
        assert image[..., :3].std() > 0.01


def test_figures_draw_what_the_tables_say(sweep_folder: Path) -> None:
    from realdata.results.figures import against_loss, against_rho, lorenz_curves, panel_figures

    panel = only_panel(sweep_folder)
    values = {HARD: values_of(panel, HARD)}
    lines = {line.get_label(): line for line in against_loss(panel, values, "").axes[0].get_lines()}
    assert lines["SGD"].get_ydata() == pytest.approx([0.31, 0.36, 0.41])
    assert lines["SAM, rho = 0.1"].get_ydata() == pytest.approx([0.28, 0.33, 0.38])
    # Training loss, moved aside by 1 % so that intervals do not hide each other.
    assert lines["SGD"].get_xdata() == pytest.approx([0.01, 0.09, 0.35], rel=0.011)
    axes = against_rho(panel, values, "").axes[0]
    assert [line.get_ydata()[0] for line in axes.get_lines() if "SGD" in str(line.get_label())] == [
        pytest.approx(0.31), pytest.approx(0.36)
    ]  # fmt: skip
    curve = lorenz_curves(panel)[SAM, None, "phantom"]
    assert [point[:2] for point in curve] == [(0, 0), (0.25, 0.0625), (0.5, 0.25), (0.75, 0.5625), (1, 1)]
    assert [name for name, _ in panel_figures(panel)] == ["against_loss", "against_rho", "lorenz"]


def test_texts_of_a_figure_do_not_overlap(sweep_folder: Path) -> None:
    from realdata.results.figures import panel_figures

    for _, figure in panel_figures(only_panel(sweep_folder)):
        figure.canvas.draw()
        boxes = []
        for axes in figure.axes:
            texts = [axes.xaxis.label, axes.yaxis.label, axes.title, *axes.get_xticklabels(), *axes.get_yticklabels()]
            boxes += [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
        boxes += [legend.get_window_extent() for legend in figure.legends]
        for k, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[k + 1 :])


def test_a_sweep_without_a_number_still_explains_itself(tmp_path: Path) -> None:
    waiting = RunConfiguration(data="pacs", data_options={"target": "photo"})
    (tmp_path / "plan.json").write_text(json.dumps({waiting.hash: waiting.as_dict()}))
    (tmp_path / "runs").mkdir()
    report.main(["--out", str(tmp_path), "--no-figures", "--no-latex"])
    text = (tmp_path / "report" / "report.md").read_text()
    assert "no results" in text
    assert "not run yet" in text


def test_a_report_needs_only_the_two_result_files(sweep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    paths = write_results(sweep_folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in paths:
        shutil.copy(path, elsewhere)
    options = ["--no-figures", "--no-latex"]
    report.main(["--out", str(elsewhere), *options])
    report.main(["--out", str(sweep_folder), *options])
    assert (elsewhere / "report" / "report.md").read_text() == (sweep_folder / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [(None, "is not a folder"), ("empty", "results.parquet does not exist"), ("broken", "is not what a sweep writes")],
)
def test_a_folder_without_results_is_refused(prepare: str | None, message: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    if prepare is not None:
        out.mkdir()
    if prepare == "broken":
        store(tmp_path / "other")
        write_results(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "results.parquet", out)
        (out / "results.json").write_text("[]")
    with pytest.raises(SystemExit) as stop:
        run_command(report.main, ["--out", str(out)])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_tables_compile(sweep_folder: Path) -> None:
    tables = "".join(each.table.latex() for each in panel_tables(only_panel(sweep_folder)))
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{tables}\end{{document}}"
    (sweep_folder / "all.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=sweep_folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
