"""The page: what it says is what lies in the folder; it is valid, accessible, safe and needs nothing beside it."""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import itertools
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from realdata.commands import report
from realdata.configuration import RunConfiguration
from realdata.html import figures as html_figures
from realdata.html import page as html_report
from realdata.html.figures import Picture, embed_pictures, picture_of_file
from realdata.html.summary import groups, lost_runs
from realdata.html.verdicts import SYMBOLS, difference_words, read_verdicts
from realdata.predictions import PREDICTIONS
from realdata.predictions.tables import ALL_DATA, write_predictions
from realdata.results.parquet import setting_of_values
from sambalance_tools.command_line import run_command
from support.stored_runs import stages, store
from toymodels.theory.claims import IN_SHORT

NASTY = '<script>alert("x")</script> & Söhne'
REASON = "the path <b>a&b</b> is 'not' \"there\"; " + "a long reason, wrapped somewhere, " * 12
TITLES = {
    "cifar_mnist": "CIFAR-MNIST (JPEG copy)",
    "celeba": "CelebA subset (10,000 images)",
    "waterbirds": "Waterbirds-like (not the published set)",
    "pacs": "PACS",
    "rotated_mnist": NASTY,
}
DIFFERENCES = {"cifar_mnist": ["copy"], "celeba": ["subset"], "waterbirds": ["likeness"]}
TODAY = datetime.date(2026, 11, 24)
VOID = {"meta", "img", "br", "link", "input", "hr"}


# A folder of predict, made up.


def verdict_of(data: int, prediction: int) -> str:
    return ("holds", "fails", "undecided")[(data + prediction) % 3]


def rows_of_predictions() -> Iterator[dict[str, Any]]:
    """Verdicts on five data sets that cover every word, missing numbers and texts that need escaping."""
    for number, (data, title) in enumerate(TITLES.items()):
        where = {"data": data, "title": title, "target": "sketch" if data == "pacs" else ""}
        where["setting"] = setting_of_values(base(data).as_dict())
        for place, each in enumerate(PREDICTIONS.values()):
            verdict = verdict_of(number, place)
            undecided = verdict == "undecided"
            common = {
                "prediction": each.name, "verdict": verdict, "unit": each.parts[0].unit, "rule": each.rule,
                "estimate": None if undecided else -0.0123 * (number + 1), "low": None if undecided else -0.034,
                "high": None if undecided else -0.001, "n": None if undecided else 5, "confidence": 0.95,
                "reason": f"{REASON}{data} {each.name}",
            }  # fmt: skip
            yield {**where, **common, "part": "", "statement": each.statement}
            for spec in each.parts:
                if spec.name:
                    part = {"part": spec.name, "statement": spec.statement, "rule": spec.rule, "unit": spec.unit}
                    part["reason"] = f"{REASON}{data} {each.name}{spec.name}"
                    strict = {"confidence": 0.9875} if (each.name, spec.name) == ("R5", "a") else {}
                    yield {**where, **common, **part, **strict}
    across = PREDICTIONS["R5"].across
    assert across is not None
    spec = across[0]
    yield {
        "data": ALL_DATA, "title": "all data sets", "setting": "", "target": "", "prediction": "R5", "part": spec.name,
        "statement": spec.statement, "verdict": "undecided", "estimate": 0.5, "low": None, "high": None,
        "unit": spec.unit, "n": 5, "confidence": 0.95, "rule": spec.rule, "reason": "Spearman correlation 0.50",
    }  # fmt: skip


def base(data: str, **changes: Any) -> RunConfiguration:
    options = {"data_options": {"target": "sketch"}} if data == "pacs" else {}
    return RunConfiguration(**{"data": data, "levels": (0.4, 0.1), **options, **changes})


def store_sweep(out: Path) -> None:
    """SGD and SAM on two data sets; SAM diverges, fails and is missing once each on the second."""
    for data in ("cifar_mnist", "celeba"):
        for seed in range(5):
            store(
                out,
                title=TITLES[data],
                differences=DIFFERENCES[data],
                data=data,
                seed=seed,
                stages=stages(0.3 + 0.01 * seed),
            )
            if (data, seed) not in {("celeba", 2), ("celeba", 3), ("celeba", 4)}:
                lower = stages(0.28 + 0.011 * seed)
                store(
                    out,
                    title=TITLES[data],
                    differences=DIFFERENCES[data],
                    data=data,
                    method="sam",
                    rho=0.1,
                    seed=seed,
                    stages=lower,
                )
    store(out, title=TITLES["cifar_mnist"], differences=["copy"], data="cifar_mnist", lr=0.02, stages=stages(0.4))
    diverged = {"loss-0.4": stages(0.3)["loss-0.4"]}
    sam: dict[str, Any] = {"data": "celeba", "method": "sam", "rho": 0.1}
    store(out, title=TITLES["celeba"], differences=["subset"], **sam, seed=2, status="diverged", stages=diverged)
    failed = base(**sam, seed=3)
    folder = out / "runs" / failed.hash
    folder.mkdir()
    reason = {"reason": f"while training: {NASTY}", "traceback": "", "configuration": failed.as_dict()}
    (folder / "failed.json").write_text(json.dumps(reason))
    waiting = base(**sam, seed=4)
    (out / "plan.json").write_text(json.dumps({waiting.hash: waiting.as_dict()}))


def store_verdicts(out: Path) -> None:
    details = {
        "date": "2026-11-23", "versions": {"torch": "2.9", "numpy": "2.4"},
        "plan": {"rho": 0.1, "radii": [0.0, 0.03, 0.1], "levels": [0.4, 0.1], "probe_options": {"rho": 0.1}},
        "data": [
            {
                "data": data, "title": title, "differences": DIFFERENCES.get(data, []),
                "setting": setting_of_values(base(data).as_dict()),
                "target": "sketch" if data == "pacs" else "", "configuration": base(data).as_dict(),
                "seeds": [0, 1, 2, 3, 4], "runs": {"done": 7, "waiting": 3},
            }
            for data, title in TITLES.items()
        ],
    }  # fmt: skip
    write_predictions(out, list(rows_of_predictions()), list(PREDICTIONS.values()), details)
    (out / "figures").mkdir()
    for name in PREDICTIONS:
        if name != "R3":
            draw(out / "figures" / f"{name}.png", 2400, 700)


def draw(path: Path, width: int, height: int) -> None:
    from toymodels.plots import new_figure

    figure = new_figure(width / 200, height / 200)
    axes = figure.add_subplot()
    axes.plot([0, 1, 2], [0.3, 0.2, 0.25], "o-")
    axes.set_xlabel("rho")
    axes.set_ylabel("hard probing error")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)


def store_phases(out: Path, beside: Path) -> None:
    draw(out / "phase_plane" / f"celeba-{setting_of_values(base('celeba').as_dict())}" / "phase_plane.png", 900, 900)
    draw(beside / "phase_diagram.png", 900, 900)
    summary = {
        "about": {"title": NASTY, "embedding": "pixels", "basis": "pca"}, "phase_agreement": 0.98765,
        "agreements": {str(level): {"cells": level} for level in range(40)},
        "config": {"rho": [0.01 * k for k in range(32)], "seeds": [0, 1], "table": []},
        "boundaries": [{"claim": "C10", "error_cells": None}, {"claim": "C7", "error_cells": 0.5}],
    }  # fmt: skip
    (beside / "summary.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predict")
    store_sweep(out)
    store_verdicts(out)
    store_phases(out, out.parent / "beside")
    return out


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return html_report.page(folder, folder / "report", [folder.parent / "beside"], today=TODAY)


@pytest.fixture(scope="module")
def tree(text: str) -> Tree:
    return parsed(text)


# Reading it back.


class Tree(HTMLParser):
    """Tags in order with their attributes and text; an assertion fails where a tag is not balanced."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str]]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[int, str] = {}
        self.parents: dict[int, list[int]] = {}
        self._path: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        found = {name: value or "" for name, value in attrs}
        number = len(self.tags)
        self.tags.append((tag, found))
        self.parents[number] = list(self._path)
        self.texts[number] = ""
        if tag not in VOID:
            self.open.append((tag, found))
            self._path.append(number)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag, f"</{tag}> does not close what is open"
        self._path.pop()
        if tag in ("dt", "dd", "td", "th", "li", "p", "summary", "caption"):
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for number in self._path:
            self.texts[number] += data

    def all(self, tag: str, **attributes: str) -> list[int]:
        """Numbers of the elements with a tag and these attributes; ``cls`` is one of its classes."""
        cls = attributes.pop("cls", None)
        return [
            number
            for number, (name, found) in enumerate(self.tags)
            if (name == tag or tag == "*")
            and (cls is None or cls in found.get("class", "").split())
            and all(found.get(key) == value for key, value in attributes.items())
        ]

    def text(self, number: int) -> str:
        return " ".join(self.texts[number].split())

    def by_id(self, name: str) -> str:
        """Text of the element with an id."""
        (number,) = self.all("*", id=name)
        return self.text(number)

    def inside(self, number: int, tag: str, **attributes: str) -> list[int]:
        return [each for each in self.all(tag, **attributes) if number in self.parents[each]]


def parsed(text: str) -> Tree:
    tree = Tree()
    tree.feed(text)
    tree.close()
    assert not tree.open, f"not closed: {[tag for tag, _ in tree.open]}"
    return tree


def check_page(text: str) -> Tree:
    """What holds of every page."""
    tree = parsed(text)
    assert text.startswith("<!doctype html>")
    ids = [found["id"] for _, found in tree.tags if "id" in found]
    assert len(ids) == len(set(ids))
    assert not [each for each in ids if re.search(r"\s", each) or not each]
    links = [found["href"] for _, found in tree.tags if "href" in found]
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(ids)
    for name in ("aria-labelledby", "aria-describedby", "headers"):
        assert {found[name] for _, found in tree.tags if name in found} <= set(ids)
    headings = [int(tag[1]) for tag, _ in tree.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings.count(1) == 1
    assert headings[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    for number in tree.all("table"):
        assert tree.text(tree.inside(number, "caption")[0])
    for number in tree.all("th"):
        assert tree.tags[number][1].get("scope") in ("col", "row")
    for number in tree.all("img"):
        found = tree.tags[number][1]
        assert len(found["alt"]) > 20
        assert found["src"].startswith("data:image/png;base64,")
        assert int(found["width"]) > 0
        assert int(found["height"]) > 0
    for number in tree.all("div", cls="scroll"):
        assert tree.tags[number][1]["tabindex"] == "0"
        assert tree.tags[number][1]["aria-label"]
    return tree


# Valid, safe, nothing beside it.


def test_tags_balance_ids_are_unique_links_lead_somewhere_and_headings_are_in_order(text: str) -> None:
    tree = check_page(text)
    assert len(tree.all("table")) > 40
    assert len(tree.all("h4")) == 1 + 5 * len(PREDICTIONS)


def test_nothing_is_loaded_from_elsewhere_and_the_policy_forbids_it(text: str, tree: Tree) -> None:
    for tag, found in tree.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in found if name.startswith("on") or name == "style"]
        assert found.get("src", "data:").startswith("data:")
    assert "://" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    (style,), (script,) = tree.all("style"), tree.all("script")
    assert not re.search(r"url\(|@import|@font-face", tree.texts[style])
    (policy,) = (found["content"] for _, found in tree.tags if found.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for number, name in ((style, "style-src"), (script, "script-src")):
        digest = base64.b64encode(hashlib.sha256(tree.texts[number].encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"


def test_texts_of_the_folder_are_escaped(text: str, tree: Tree) -> None:
    assert len(tree.all("script")) == 1
    assert not tree.all("b")
    assert "alert(" not in tree.texts[tree.all("script")[0]]
    # Title of a data set, reason of a failed training, words of a summary.json.
    assert tree.by_id("data-5-title") == NASTY
    (lost,) = [number for number in tree.all("tr") if "while training" in tree.text(number)]
    assert tree.text(lost).endswith(f"while training: {NASTY}")
    assert NASTY in tree.by_id("extra-2")


def test_it_names_no_folder_of_this_machine_and_is_small(text: str, folder: Path) -> None:
    assert str(folder.parent) not in text
    assert len(text.encode()) < 5e6


@pytest.mark.slow  # draws all figures a second time
def test_the_same_folder_gives_the_same_page(text: str, folder: Path) -> None:
    again = html_report.page(folder, folder / "report", [folder.parent / "beside"], today=TODAY)
    assert again == text
    assert "Page written on 2026-11-24" in text


@pytest.mark.usefixtures("no_panel_figures")
def test_the_same_folder_gives_the_same_words(folder: Path) -> None:
    one, other = (html_report.page(folder, folder / "report", figures=False, today=TODAY) for _ in range(2))
    assert one == other
    assert "Page written on 2026-11-24" in one


# What it says.


def test_the_top_answers_in_five_lines(tree: Tree) -> None:
    (top,) = tree.all("dl", cls="top")
    found = {
        tree.text(dt): tree.text(dd) for dt, dd in zip(tree.inside(top, "dt"), tree.inside(top, "dd"), strict=True)
    }
    assert list(found) == ["Asked", "On", "Answer", "From", "Biggest caveat"]
    assert "R1 to R8, R12, R13" in found["Asked"]
    assert found["On"] == f"5 data sets: {'; '.join(TITLES.values())}."
    counted = {
        word: [verdict_of(d, p) for d in range(5) for p in range(len(PREDICTIONS))].count(word) for word in SYMBOLS
    }
    start = f"Of {5 * len(PREDICTIONS)} verdicts " + "{holds} hold, {fails} fail and {undecided} are undecided.".format(
        **counted
    )
    assert found["Answer"].startswith(start)
    assert "R1 (holds on 2, contradicted on 2)" in found["Answer"]
    assert found["From"].startswith("21 trainings: 18 done, 1 diverged, 1 failed, 1 missing.")
    assert found["Biggest caveat"].startswith("2 of 21 trainings have no result")


def test_caveats_name_subsets_copies_likenesses_scale_and_chance(tree: Tree) -> None:
    words = " ".join(tree.text(number) for number in tree.all("li"))
    assert "3 of 5 data sets are not the published ones" in words
    assert "Waterbirds-like (not the published set) is a likeness, not the published data set" in words
    assert "Scale: small cnn, 20 epochs" in words
    assert "of twenty intervals about one misses by chance alone" in words
    assert "1 training diverged" in words


def test_differences_from_the_published_images_are_said_in_words() -> None:
    assert difference_words(()) == ""
    both = "a subset of the published data set and a copy of the published data set that is not identical to it"
    assert difference_words(("subset", "copy")) == both
    assert difference_words(None).startswith("not known")


def test_runs_of_an_earlier_version_do_not_pass_for_the_published_images(tmp_path: Path) -> None:
    configuration = store(tmp_path, title="Made up")
    path = tmp_path / "runs" / configuration.hash / "rows.json"
    stored = json.loads(path.read_text())
    del stored["differences"]
    path.write_text(json.dumps(stored))
    tree = check_page(html_report.page(tmp_path, tmp_path / "report", figures=False))
    assert "Made up is not known to be the published data set" in " ".join(
        tree.text(number) for number in tree.all("li")
    )


def test_every_cell_of_the_table_leads_to_its_details(tree: Tree) -> None:
    rows = {(row["data"], row["prediction"], row["part"]): row for row in rows_of_predictions()}
    (table,) = tree.all("table", cls="verdicts")
    lines = tree.inside(table, "tr")[1:]
    assert len(lines) == 5
    for line, data in zip(lines, TITLES, strict=True):
        cells = tree.inside(line, "td")
        assert len(cells) == len(PREDICTIONS)
        for cell, name in zip(cells, PREDICTIONS, strict=True):
            row = rows[data, name, ""]
            (link,) = tree.inside(cell, "a")
            # Colour, symbol and word.
            assert tree.tags[link][1]["class"] == row["verdict"]
            assert tree.text(link) == f"{SYMBOLS[row['verdict']]} {row['verdict']}"
            target = tree.tags[link][1]["href"][1:]
            details = tree.by_id(target)
            assert tree.by_id(f"{target}-title").startswith(f"{name} on {TITLES[data]}")
            assert row["verdict"] in details
            assert row["reason"] in details
            parts = [each for key, each in rows.items() if key[:2] == (data, name) and key[2]] or [row]
            for part in parts:
                assert part["rule"] in details
                assert part["statement"] in details
                assert part["reason"] in details
            if row["verdict"] != "undecided":
                assert f"−{0.0123 * (list(TITLES).index(data) + 1):.3f}" in details
                assert "[−0.034, −0.001]" in details
                assert row["unit"] in details


def test_intervals_that_are_not_at_95_percent_say_so(tree: Tree) -> None:
    assert "[−0.034, −0.001] at 98.75 %" in tree.by_id("R5-data-1")
    assert "at 98.75" not in tree.by_id("R1-data-1")


def test_predictions_come_with_their_conditions_rules_and_what_compares_data_sets(tree: Tree) -> None:
    for each in PREDICTIONS.values():
        text = tree.by_id(each.name)
        assert each.statement in text
        assert each.estimator in text
        assert each.rule in text
        for claim in filter(None, each.claim.split(", ")):
            assert f"{claim}: {IN_SHORT[claim]}" in text
    assert "meet its condition D_hard w_hard / v_hard < D_easy w_easy / v_easy" in tree.by_id("R3")
    assert "(reported, not in the verdict)" in tree.by_id("R5")
    assert "Spearman correlation 0.50" in tree.by_id("R5")


def test_trainings_without_a_result_have_a_reason(tree: Tree) -> None:
    (table,) = [n for n in tree.all("table") if tree.text(tree.inside(n, "caption")[0]).startswith("Trainings that")]
    lines = [[tree.text(c) for c in tree.inside(row, "*")] for row in tree.inside(table, "tr")[1:]]
    rows = {(cells[2], cells[3]): cells for cells in lines}
    assert rows["2", "diverged"][4].startswith("loss or weights were no longer finite")
    assert rows["3", "failed"][4] == f"while training: {NASTY}"
    assert rows["4", "missing"][4] == "not run yet"
    assert all(cells[:2] == ["CelebA subset (10,000 images)", "SAM, rho = 0.1"] for cells in lines)


def test_settings_seeds_versions_and_date_are_on_the_page(tree: Tree) -> None:
    text = tree.by_id("data-4")
    assert "0, 1, 2, 3, 4" in text
    assert "data options target sketch" in text
    assert "7 done, 3 missing" in text
    assert "fingerprint f0" in tree.by_id("data-1")
    everything = tree.text(tree.all("main")[0])
    assert "numpy 2.4, torch 2.9" in everything
    assert "Trained with torch 2 " in everything
    assert "probe options.rho 0.1" in everything
    assert "Judged on 2026-11-23" in tree.text(tree.all("header")[0])


def test_results_are_the_tables_of_the_report_with_further_settings_last(tree: Tree) -> None:
    panels = tree.all("details", cls="panel")
    assert len(panels) == 3
    assert "−0.019 ± 0.006 (2 of 5)" in tree.text(panels[0])
    assert len(tree.inside(panels[0], "img")) == 3
    assert "further setting: lr 0.02" in tree.text(panels[2])
    assert not tree.inside(panels[2], "img")
    (bold, *_) = tree.inside(panels[0], "strong")
    assert tree.text(bold).startswith("−0.020")
    (sup, *_) = tree.inside(panels[0], "sup")
    assert tree.text(sup) == "1, 2"
    assert tree.by_id("results-1-table-1-note-1") == f"seed 3: while training: {NASTY}"


# Pictures.


def test_figures_are_inside_and_missing_ones_are_said_to_be_missing(tree: Tree) -> None:
    pictures = {name: tree.inside(tree.all("*", id=name)[0], "img") for name in PREDICTIONS}
    assert [name for name, each in pictures.items() if len(each) != 1] == ["R3"]
    assert "No figure: figures/R3.png is not in the folder" in tree.by_id("R3")
    found = tree.tags[pictures["R1"][0]][1]
    assert "CelebA subset (10,000 images): fails" in found["alt"]
    with Image.open(io.BytesIO(base64.b64decode(found["src"].split(",")[1]))) as image:
        assert (int(found["width"]), int(found["height"])) == (1152, 336)
        assert image.width == round(1.6 * 1152)
        assert np.asarray(image.convert("L")).std() > 5


def test_phase_planes_of_the_folder_and_the_diagram_beside_it_are_shown_with_numbers(tree: Tree) -> None:
    assert tree.by_id("extra-1-title") == "Phase plane: CelebA subset (10,000 images)"
    assert tree.by_id("extra-2-title") == f"Phase diagram: {NASTY}, pixels, pca"
    text = tree.by_id("extra-2")
    assert "phase_agreement 0.9877" in text
    assert "config.rho 0, 0.01, ... 0.31 (32 values)" in text
    assert "boundaries 2.error_cells 0.5" in text
    assert "boundaries 1.error_cells" not in text
    assert "config.table" not in text
    assert "agreements.23.cells 23 agreements 16 more in summary.json" in text
    assert [len(tree.inside(tree.all("*", id=f"extra-{k}")[0], "img")) for k in (1, 2)] == [1, 1]


@pytest.fixture
def no_panel_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of the sweep's results take long and are not what is tested."""
    monkeypatch.setattr("realdata.results.figures.panel_figures", lambda panel: [])


@pytest.mark.usefixtures("no_panel_figures")
def test_a_diagram_inside_of_the_folder_is_shown_once(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    inside = out / "diagram"
    shutil.copytree(folder.parent / "beside", inside)
    (out / "report").mkdir()
    shutil.copy(inside / "phase_diagram.png", out / "report" / "phase_plane.png")
    for beside in ([], [inside]):
        tree = parsed(html_report.page(out, out / "report", beside))
        titles = [tree.text(n) for n in tree.all("h3") if re.match("Phase (plane|diagram)", tree.text(n))]
        assert titles == ["Phase plane: CelebA subset (10,000 images)", f"Phase diagram: {NASTY}, pixels, pca"]


def noise(seed: int) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (75, 100, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, format="PNG", dpi=(200, 200))
    return Picture(written.getvalue(), "noise", f"noise {seed}")


def test_pictures_lose_sharpness_before_the_page_is_too_large() -> None:
    pictures = [noise(seed) for seed in range(4)]
    budget, widths = 10**8, []
    for _ in html_figures.DENSITIES:
        found = embed_pictures(pictures, budget)
        assert len(found) == 4
        assert {(each.width, each.height) for each in found.values()} == {(48, 36)}
        with Image.open(io.BytesIO(base64.b64decode(found[pictures[0]].address.split(",")[1]))) as image:
            widths.append(image.width)
        total = sum(len(each.address) for each in found.values())
        assert total <= budget
        budget = total - 1
    assert widths == [round(density * 48) for density in html_figures.DENSITIES]
    # Not even the least sharp ones fit: the last is left out.
    assert list(embed_pictures(pictures, budget)) == pictures[:3]


@pytest.mark.usefixtures("no_panel_figures")
def test_pictures_that_did_not_fit_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_report, "embed_pictures", lambda pictures: {})
    tree = check_page(html_report.page(folder, folder / "report"))
    assert not tree.all("img")
    assert "R1 Probing error, a panel per data set: left out, the page would be too large." in tree.by_id("R1")


def test_transparent_figures_stand_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    picture = picture_of_file(tmp_path / "clear.png", "nothing", "nothing")
    address = embed_pictures([picture])[picture].address
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as image:
        assert image.convert("RGB").getextrema() == ((255, 255),) * 3


# Colours.


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Ratio by WCAG 2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_texts_have_contrast_aa_in_light_dark_and_print() -> None:
    style = (html_report.TEMPLATES / "style.css").read_text()
    schemes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(schemes) == 3
    for scheme in schemes:
        assert len(scheme) == 12
        pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "panel")]
        pairs += [(f"{verdict}-ink", verdict) for verdict in ("holds", "fails", "undecided")]
        for ink, ground in pairs:
            assert contrast(scheme[ink], scheme[ground]) >= 4.5, (ink, ground)


# Other folders.


def test_a_sweep_has_a_page_without_verdicts_that_says_so(tmp_path: Path, capsys: Any) -> None:
    store_sweep(tmp_path)
    report.main(["--html", "--out", str(tmp_path)])
    path = tmp_path / "report" / "report.html"
    assert str(path) in capsys.readouterr().out
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    tree = check_page(path.read_text(encoding="utf-8"))
    assert "no predictions were judged in it" in tree.text(tree.all("main")[0])
    assert not tree.all("table", cls="verdicts")
    top = tree.text(tree.all("dl", cls="top")[0])
    assert "Of 2 differences of the hard probing error at the end of training, 2 lie below 0" in top
    assert len(tree.all("details", cls="panel")) == 3
    assert all(tree.inside(n, "img") for n in tree.all("details", cls="panel")[:2])


def test_a_page_needs_only_the_files_of_results_and_predictions(folder: Path, tmp_path: Path) -> None:
    for name in ("results.parquet", "results.json", "predictions.parquet", "predictions.json"):
        shutil.copy(folder / name, tmp_path)
    page = html_report.page(tmp_path, tmp_path / "report", figures=False, today=TODAY)
    tree = check_page(page)
    assert not tree.all("img")
    assert "No figure" not in page
    assert len(tree.all("table", cls="verdicts")) == 1


def test_predictions_that_need_no_training_have_a_page(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    store_verdicts(tmp_path)
    tree = check_page(html_report.page(tmp_path, tmp_path / "report"))
    text = tree.text(tree.all("main")[0])
    assert "The predictions here need no training." in text
    assert "0 trainings" in text


def test_it_reads_what_predict_writes(tmp_path: Path) -> None:
    from realdata.predictions.tables import judge_setting, verdict_rows
    from support.prediction_rows import World, made

    predictions = list(PREDICTIONS.values())
    found = [
        judge_setting(made(tmp_path / "a"), predictions),
        judge_setting(made(tmp_path / "b", World(has_easy=False)), predictions),
    ]
    write_predictions(tmp_path / "a", verdict_rows(found, predictions), predictions, {})
    tree = check_page(html_report.page(tmp_path / "a", tmp_path / "report", figures=False))
    verdicts = read_verdicts(tmp_path / "a")
    assert verdicts is not None
    assert len(verdicts.places) == 1  # the same base setting twice
    for name in PREDICTIONS:
        assert found[0].verdicts[name].verdict in tree.by_id(f"{name}-data-1-title")


def test_two_settings_of_one_data_set_have_two_names(tmp_path: Path) -> None:
    rows = list(rows_of_predictions())
    mine = [row for row in rows if row["data"] == "celeba"]
    write_predictions(tmp_path, [*mine, *({**row, "setting": "other"} for row in mine)], list(PREDICTIONS.values()), {})
    verdicts = read_verdicts(tmp_path)
    assert verdicts is not None
    names = [place.name for place in verdicts.places]
    setting = mine[0]["setting"]
    assert names == [f"{TITLES['celeba']}, setting {setting}", f"{TITLES['celeba']}, setting other"]


def test_a_panel_without_results_takes_the_title_of_its_data_set(folder: Path) -> None:
    from realdata.results.parquet import read_results, read_settings
    from realdata.results.summary import panels

    runs = read_settings(folder / "results.json")
    waiting = base("celeba", lr=0.5)
    more: Mapping[str, Any] = {
        **runs, waiting.hash: {"configuration": waiting.as_dict(), "status": "waiting", "reason": "not run yet"}
    }  # fmt: skip
    found = groups(panels(read_results(folder / "results.parquet"), more))
    named = {(each.name, each.differs) for each in found if each.panel.configuration["data"] == "celeba"}
    assert named == {(TITLES["celeba"], "lr 0.05"), (TITLES["celeba"], "lr 0.5")}
    lost = [(each.data, each.rule, each.seeds) for each in lost_runs(found) if each.data.endswith("(lr 0.5)")]
    assert lost == [(f"{TITLES['celeba']} (lr 0.5)", "SGD", "0")]


def test_all_done_and_published_leaves_scale_seeds_and_chance_as_caveats(tmp_path: Path) -> None:
    for seed in range(3):
        store(tmp_path, seed=seed, title="CelebA", data="celeba")
    tree = check_page(html_report.page(tmp_path, tmp_path / "report", figures=False))
    top = tree.text(tree.all("dl", cls="top")[0])
    assert "Biggest caveat Scale: small cnn" in top
    assert "Every training has a result." in tree.text(tree.all("main")[0])
    assert "There is no difference of hard probing errors" in top


def test_each_claim_that_a_prediction_rests_on_is_told_in_a_sentence() -> None:
    assert {claim for each in PREDICTIONS.values() for claim in each.claim.split(", ") if claim} <= set(IN_SHORT)


# Refusals.


def broken(folder: Path, kind: str) -> list[str]:
    """Break a folder and return the arguments with which its report is refused."""
    if kind == "no json":
        (folder / "predictions.json").unlink()
    elif kind == "no table":
        (folder / "predictions.parquet").unlink()
    elif kind == "bad json":
        (folder / "predictions.json").write_text('{"predictions": {"R1": {}}}')
    elif kind == "json of a list":
        (folder / "predictions.json").write_text("[]")
    elif kind == "fewer predictions":
        found = json.loads((folder / "predictions.json").read_text())
        del found["predictions"]["R4"]
        (folder / "predictions.json").write_text(json.dumps(found))
    elif kind == "verdict":
        import pandas as pd

        table = pd.read_parquet(folder / "predictions.parquet")
        table.loc[0, "verdict"] = "perhaps"
        table.to_parquet(folder / "predictions.parquet")
    elif kind == "figure":
        (folder / "figures" / "R1.png").write_bytes((folder / "figures" / "R2.png").read_bytes()[:2000])
    elif kind == "with nothing":
        return ["--html", "--with", str(folder / "figures")]
    elif kind == "with no figure":
        (folder / "only").mkdir()
        (folder / "only" / "summary.json").write_text("{}")
        return ["--html", "--with", str(folder / "only")]
    elif kind == "with bad json":
        shutil.copytree(folder / "figures", folder / "bad")
        (folder / "bad" / "summary.json").write_text("{")
        return ["--html", "--with", str(folder / "bad")]
    elif kind == "with but not html":
        return ["--with", str(folder / "figures")]
    elif kind == "with but no figures":
        return ["--html", "--no-figures", "--with", str(folder / "figures")]
    return ["--html"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no json", "predictions.json does not exist"), ("no table", "predictions.parquet does not exist"),
        ("bad json", "predictions.json is not what predict writes"),
        ("json of a list", "predictions.json is not what predict writes"),
        ("fewer predictions", "predictions.json lacks R4"), ("verdict", "verdict='perhaps'"),
        ("figure", "R1.png is not a"), ("with nothing", "has no summary.json"), ("with no figure", "has no figure"),
        ("with bad json", "summary.json is not what a phase diagram writes"), ("with but not html", "without --html"),
        ("with but no figures", "with --no-figures"),
    ],
)  # fmt: skip
def test_broken_folders_are_refused_and_an_old_page_stays(
    kind: str, message: str, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    shutil.rmtree(out / "runs")
    arguments = broken(out, kind)
    (out / "report").mkdir()
    (out / "report" / "report.html").write_text("old")
    with pytest.raises(SystemExit) as stop:
        run_command(report.main, ["--out", str(out), *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "allowed:" in error
    assert [each.name for each in (out / "report").iterdir()] == ["report.html"]
    assert (out / "report" / "report.html").read_text() == "old"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="has no runs; allowed: the folder of a sweep or of a predict"):
        html_report.page(tmp_path, tmp_path / "report")


def test_figures_of_the_report_are_looked_for_outside_of_it(tmp_path: Path) -> None:
    for name in ("a/phase_plane_x.png", "report/phase_plane_y.png", "phase_plane.png", "a/other.png"):
        draw(tmp_path / name, 400, 400)
    found = html_figures.figures_named(tmp_path, "phase_plane", [tmp_path / "report"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/phase_plane_x.png", "phase_plane.png"]
