"""Training on one attribute alone, several partners in validation and test, and ceilings in predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realdata import datasets
from realdata.commands import check
from realdata.datasets.base import TEST, TRAIN, VALIDATION, ImageData
from realdata.datasets.specification import DataProblem
from realdata.predictions import HOLDS, NO_RANGE, PREDICTIONS, Design
from realdata.predictions.dynamic_range import DynamicRange, ceiling_errors, range_of
from realdata.predictions.runs import ceiling
from realdata.predictions.tables import judge_setting
from realdata.results.parquet import setting_of_values
from realdata.settings.completion import complete
from support import standins
from support.prediction_rows import World, base, made

FIVE = Design(scan_seeds=5)


def counts(data: ImageData, split: int) -> np.ndarray:
    """Images of each (hard, easy) pair."""
    rows = data.rows(split)
    found = np.zeros((len(data.hard_names), len(data.easy_names)), int)
    np.add.at(found, (data.hard[rows], data.easy[rows]), 1)  # type: ignore[index]
    return found


@pytest.mark.parametrize("attribute", ["hard", "easy"])
def test_dominoes_have_as_many_independent_pairs_and_the_attribute_for_a_label(attribute: str, tmp_path: Path) -> None:
    root = standins.write_fmnist_mnist(tmp_path)
    options = {"classes": 3, "examples_per_class": 6}
    plain = datasets.load("fmnist_mnist", root, options)
    alone = datasets.load("fmnist_mnist", root, {**options, "ceiling": attribute})
    assert np.array_equal(counts(plain, TRAIN), 6 * np.eye(3))
    assert np.array_equal(counts(alone, TRAIN), np.full((3, 3), 2))
    assert np.array_equal(counts(alone, TEST), counts(plain, TEST))
    assert np.array_equal(alone.label, getattr(alone, attribute))
    assert alone.label_names == getattr(plain, f"{attribute}_names")
    assert alone.fingerprint != plain.fingerprint


WRITERS: dict[str, tuple[Callable[[Path], object], dict[str, str], int]] = {
    "celeba": (standins.write_celeba, {}, 2),
    "waterbirds": (standins.write_waterbirds, {}, 2),
    "colored_mnist": (standins.write_mnist, {"target": "-90%"}, 3),
}


@pytest.mark.parametrize("name", list(WRITERS))
@pytest.mark.parametrize("attribute", ["hard", "easy"])
def test_other_sets_are_cut_down_to_the_rarest_pair(
    name: str, attribute: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, options, least = WRITERS[name]
    write(tmp_path)
    plain = datasets.load(name, tmp_path, options)
    alone = datasets.load(name, tmp_path, {**options, "ceiling": attribute})
    smallest = counts(plain, TRAIN).min()
    assert smallest >= least
    assert np.array_equal(counts(alone, TRAIN), np.full((2, 2), smallest))
    for split in (VALIDATION, TEST):
        assert np.array_equal(alone.rows(split), plain.rows(split))
    assert np.array_equal(alone.label, getattr(alone, attribute))
    assert set(alone.rows(TRAIN)) <= set(plain.rows(TRAIN))
    if name == "celeba":
        check.main([name, "--root", str(tmp_path), "--ceiling", attribute])
        assert "group" in capsys.readouterr().out


def test_a_set_without_some_pair_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standins, "GROUPED_SPLITS", ((8, 2, 0, 6), (3, 3, 3, 3), (4, 4, 4, 4)))
    standins.write_celeba(tmp_path)
    with pytest.raises(DataProblem, match="no training image is both blond and female, so the two attributes cannot"):
        datasets.load("celeba", tmp_path, {"ceiling": "easy"})
    with pytest.raises(ValueError, match="ceiling='both' is not known; allowed: none, hard, easy"):
        datasets.load("celeba", tmp_path, {"ceiling": "both"})
    with pytest.raises(ValueError, match="option 'ceiling' is unknown to pacs"):
        datasets.spec("pacs").make_options({"ceiling": "hard", "target": "sketch"})


def test_finished_runs_keep_their_hashes() -> None:
    plain = complete({"data": "cifar_mnist"})
    assert not {"ceiling", "partners"} & plain.data_options.keys()
    assert complete({"data": "cifar_mnist", "data_options": {"ceiling": "none", "partners": 1}}).hash == plain.hash
    alone = complete({"data": "cifar_mnist", "data_options": {"ceiling": "easy", "partners": 2}})
    assert (alone.data_options["ceiling"], alone.data_options["partners"]) == ("easy", 2)
    # A ceiling belongs to the setting whose ceiling it is.
    same = ceiling(plain, "hard", 3)
    assert same is not None
    assert setting_of_values(same.as_dict()) == setting_of_values(plain.as_dict())
    assert setting_of_values(alone.as_dict()) != setting_of_values(plain.as_dict())
    assert same.hash != plain.hash


# Partners.


def test_each_image_meets_as_many_classes_as_it_has_partners(tmp_path: Path) -> None:
    from realdata.datasets import fmnist_mnist

    root = standins.write_fmnist_mnist(tmp_path)
    options = {"classes": 3, "validation": 0.2}
    spec = fmnist_mnist.SPEC
    one, three = (spec.inspect(root, spec.make_options({**options, "partners": n})) for n in (1, 3))
    assert np.array_equal(np.flatnonzero(one.split == TRAIN), np.flatnonzero(three.split == TRAIN))
    for split in (VALIDATION, TEST):
        few, many = (contents.split == split for contents in (one, three))
        assert many.sum() == 3 * few.sum()
        bottom, top = three.source.bottom_rows[many], three.source.top_rows[many]  # type: ignore[attr-defined]
        assert len({*zip(bottom, top, strict=True)}) == many.sum()
        assert three.easy is not None
        for row in np.unique(bottom):
            assert sorted(three.easy[many][bottom == row]) == [0, 1, 2]
        pairs = np.bincount(three.group[many])
        assert set(pairs) == {many.sum() // 9}
    with pytest.raises(ValueError, match="partners=4 with 3 classes; allowed: at most one of each class"):
        spec.inspect(root, spec.make_options({**options, "partners": 4}))
    with pytest.raises(ValueError, match="partners=0"):
        spec.make_options({"partners": 0})


def test_one_partner_is_what_it_was(tmp_path: Path) -> None:
    """The digits of the fingerprint were taken before there were partners."""
    data = datasets.load("fmnist_mnist", standins.write_fmnist_mnist(tmp_path), {"classes": 3})
    assert data.fingerprint == FINGERPRINT


FINGERPRINT = "852bcfe6c38d71372033979e7e8182ce"


# Predictions.


def test_the_range_is_measured_against_the_ceiling(tmp_path: Path) -> None:
    world = World(untrained=0.6, ceiling=0.1, noise=0.001)
    data = made(tmp_path, world, FIVE)
    assert ceiling_errors(data) == pytest.approx([0.1 + 0.01 * seed for seed in range(5)], abs=0.01)
    found = range_of(data)
    assert found.untrained == pytest.approx(0.602)
    assert found.ceiling == pytest.approx(0.12, abs=0.005)
    assert found.fraction == pytest.approx((0.602 - 0.32) / (0.602 - 0.12), abs=0.02)
    assert "to 0.12" in found.words
    assert found.share(0.602) == pytest.approx(0)
    assert found.share(0.12) == pytest.approx(1, abs=0.01)
    one = judge_setting(data, [PREDICTIONS["R1"]])
    assert one.verdicts["R1"].verdict == HOLDS
    # The runs of the ceiling are not runs of SGD in the setting.
    assert data.final(("sgd", "full", 0.0), 0).value("mean_group_probing_error", "hard", "probe") > 0.25  # type: ignore[union-attr]


def test_without_a_ceiling_the_range_is_that_to_an_error_of_0(tmp_path: Path) -> None:
    found = range_of(made(tmp_path, World(untrained=0.6), FIVE))
    assert found.ceiling is None
    assert found.words.endswith("to 0, as no ceiling was measured")
    assert found.share(0.3) == pytest.approx(0.5, abs=0.01)
    assert DynamicRange(None, False, "").share(0.3) is None


def test_a_flat_range_is_flat_with_a_ceiling_too(tmp_path: Path) -> None:
    data = made(tmp_path, World(untrained=0.32, ceiling=0.1), FIVE)
    assert judge_setting(data, [PREDICTIONS["R1"]]).verdicts["R1"].verdict == NO_RANGE


def test_a_set_without_an_easy_attribute_has_no_ceiling() -> None:
    assert ceiling(base(data="pacs", data_options={"target": "sketch"}), "hard", 0) is None
