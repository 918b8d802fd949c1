"""Images of one's own: tables, folders and arrays, with any number of classes; bad ones are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from realdata import __main__ as entry
from realdata import datasets
from realdata.datasets.own import coded, drawn_split
from support import standins

TABLE = {"file": "animals.csv", "label": "animal", "easy": "place"}


def load(root: Path, name: str = "table", **options: Any) -> Any:
    return datasets.load(name, root, {**(TABLE if name == "table" else {}), **options}, cache=root / "cache")


def test_a_table_has_the_names_of_its_columns(tmp_path: Path) -> None:
    standins.write_own_table(tmp_path, split=True)
    data = load(tmp_path, split="part", title="Animals")
    assert (data.title, data.label_names, data.easy_names) == ("Animals", standins.OWN_CLASSES, standins.OWN_PLACES)
    assert data.group_names[:2] == ("cat, indoors", "cat, outdoors")
    assert np.bincount(data.split).tolist() == [24, 18, 18]
    table = pd.read_csv(tmp_path / "animals.csv")
    assert [data.label_names[k] for k in data.label] == list(table["animal"])
    assert [data.easy_names[k] for k in data.easy] == list(table["place"])
    # An image is where its row says: the stand-ins are coloured by class and place.
    colours = data.images[np.arange(6)].mean(axis=(2, 3))
    again = data.images[np.arange(6, 12)].mean(axis=(2, 3))
    assert np.abs(colours - again).max() < 12


def test_parquet_and_csv_are_the_same_data_set(tmp_path: Path) -> None:
    standins.write_own_table(tmp_path)
    pd.read_csv(tmp_path / "animals.csv").to_parquet(tmp_path / "animals.parquet")
    one, other = (
        datasets.load("table", tmp_path, {**TABLE, "file": f"animals.{kind}", "title": "x"}, cache=tmp_path / "cache")
        for kind in ("csv", "parquet")
    )
    assert one.fingerprint == other.fingerprint
    assert (
        datasets.from_table(tmp_path / "animals.csv", label="animal", easy="place", title="x").fingerprint
        == one.fingerprint
    )


def test_splits_that_are_not_given_are_drawn_in_each_group(tmp_path: Path) -> None:
    standins.write_own_table(tmp_path, each=10)
    with pytest.warns(UserWarning, match="60%, 20%, 20% are drawn of each group"):
        data = load(tmp_path)
    counts = np.array([np.bincount(data.group[data.split == code], minlength=6) for code in range(3)])
    assert counts.tolist() == [[6] * 6, [2] * 6, [2] * 6]
    assert not np.array_equal(drawn_split(data.group, 0), drawn_split(data.group, 1))


def test_folders_with_and_without_splits(tmp_path: Path) -> None:
    standins.write_own_folders(tmp_path / "a")
    standins.write_own_folders(tmp_path / "b", splits=())
    first = load(tmp_path / "a", "folder")
    assert np.bincount(first.split).tolist() == [18, 18, 18]
    assert (first.label_names, first.easy) == (standins.OWN_CLASSES, None)
    with pytest.warns(UserWarning, match="no folders of splits"):
        second = load(tmp_path / "b", "folder")
    assert second.title == "b"


def test_arrays_of_either_order_and_any_labels() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (60, 9, 10, 3), dtype=np.uint8)
    label, easy = [10, 9, 2] * 20, ["a, b", "c"] * 30
    data = datasets.from_arrays(pixels, label, easy=easy, split=["train", "val", "test", "train"] * 15)
    assert data.images.shape == (60, 3, 9, 10)
    assert np.array_equal(data.images[np.array([4])][0], pixels[4].transpose(2, 0, 1))
    assert (data.label_names, data.easy_names) == (("2", "9", "10"), ("a; b", "c"))
    assert np.bincount(data.split).tolist() == [30, 15, 15]
    moved = datasets.from_arrays(pixels.transpose(0, 3, 1, 2).copy(), label, easy=easy, split=[0, 1, 2, 0] * 15)
    assert moved.fingerprint == data.fingerprint
    assert coded(["1.0", "1", "x"])[1] == ("1", "1.0", "x")


def edited(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        table = pd.read_csv(root / "animals.csv")
        change(table).to_csv(root / "animals.csv", index=False)

    return edit


@pytest.mark.parametrize(
    ("edit", "options", "words"),
    [
        (lambda root: None, {"file": "none.csv"}, r"none\.csv is missing"),
        (lambda root: None, {"label": "kind"}, "has no column 'kind'"),
        (lambda root: None, {"split": "place"}, "row 1 of the data: split is 'indoors'"),
        (lambda root: None, {"seed": -1}, "seed=-1"),
        (lambda root: (root / "pictures" / "003.png").unlink(), {}, "1 of 60 images named in"),
        (lambda root: (root / "pictures" / "003.png").write_bytes(b"no image"), {}, "cannot be decoded: .*003.png"),
        (edited(lambda t: t.assign(animal="cat")), {}, r"has one class only \(cat\)"),
        (edited(lambda t: t.assign(place="indoors")), {}, "the easy attribute is always indoors"),
        (
            edited(lambda t: t.assign(animal=[""] + ["cat", "dog"] * 29 + ["cat"])),
            {},
            "row 1 of the data: animal is empty",
        ),
        (edited(lambda t: t.assign(image="../" + t["image"])), {}, "leads out of"),
        (edited(lambda t: t.assign(part="train")), {"split": "part"}, "assigns to validation or test"),
    ],
)
def test_bad_tables_are_refused_in_one_line(
    edit: Callable[[Path], None], options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    standins.write_own_table(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        load(tmp_path, **options)
    assert "\n" not in str(error.value)


def test_bad_folders_and_arrays_are_refused_in_one_line(tmp_path: Path) -> None:
    standins.write_own_folders(tmp_path / "mixed")
    (tmp_path / "mixed" / "more").mkdir()
    (tmp_path / "empty").mkdir()
    pixels = np.zeros((6, 3, 4, 4), np.uint8)
    for call, words in (
        (lambda: load(tmp_path / "mixed", "folder"), r"folders of splits \(.*\) and others \(more\)"),
        (lambda: load(tmp_path / "empty", "folder"), "no images in folders of classes"),
        (lambda: load(tmp_path, "folder", path="none"), "is not a folder"),
        (lambda: datasets.from_arrays(pixels.astype(float), [0, 1] * 3), "images of type float64"),
        (lambda: datasets.from_arrays(pixels, [0, 1]), "label has 2 values for 6 images"),
        (lambda: datasets.from_arrays(pixels, [0, 1] * 3, split=["train"] * 6), "validation or test"),
        (
            lambda: datasets.from_arrays(np.zeros((20, 3, 4, 4), np.uint8), [0, 1] * 10, mean=(1.0,)),
            "mean=.*allowed: 3 finite numbers",
        ),
        (lambda: datasets.from_arrays(np.zeros((6, 7, 4, 9), np.uint8), [0, 1] * 3), "C of 1 to 4"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_three_classes_from_check_to_the_table_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    standins.write_own_table(tmp_path / "data", each=20, split=True)
    monkeypatch.setenv("SAMBALANCE_CACHE", str(tmp_path / "cache"))
    options = [word for name, value in {**TABLE, "split": "part"}.items() for word in (f"--{name}", value)]
    entry.main(["check", "table", "--root", str(tmp_path / "data"), *options])
    assert "120 rows" in capsys.readouterr().out
    small = ["--epochs", "1", "--batch-size", "16", "--model-option", "width=4", "--model-option", "depth=1"]
    entry.main(["run", "table", "--root", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *options, *small])
    said = capsys.readouterr().out
    assert "animals: small_cnn, sgd" in said
    assert "hard probing error" in said
