"""Low-dimensional features of images: bases, groups, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realdata.datasets.base import EVALUATE, FIT, TRAIN, ImageData
from realdata.features.table import FeatureTable, feature_table
from realdata.measures.extraction import extract
from realdata.training.loading import load_checkpoint
from realdata.training.train import train
from support.toy_images import configuration, toy


@pytest.fixture(scope="module")
def data() -> ImageData:
    return toy()


def _signed_mean(table: FeatureTable, name: str) -> np.ndarray:
    """Mean of the features, equally weighted groups, signed by an attribute."""
    fit = table.rows(FIT)
    attribute, group = getattr(table, name)[fit], table.group[fit]
    weights = 1.0 / np.bincount(group)[group]
    mean: np.ndarray = (weights / weights.sum() * np.where(attribute == 1, 1.0, -1.0)) @ table.features[fit]
    return mean


def test_in_the_probe_basis_only_the_first_two_coordinates_tell_of_the_attributes(data: ImageData) -> None:
    table = feature_table(data, basis="probe", dims=6)
    assert table.names == ("easy", "hard", "noise 1", "noise 2", "noise 3", "noise 4")
    easy, hard = _signed_mean(table, "easy"), _signed_mean(table, "hard")
    assert easy[0] > 0
    assert hard[1] > 0
    # Single precision of the vectors, twice a matrix product of up to thousands of terms.
    np.testing.assert_allclose(easy[1:], 0.0, atol=1e-3 * easy[0])
    np.testing.assert_allclose(hard[2:], 0.0, atol=1e-3 * hard[1])


def test_noise_has_size_one_within_groups_in_the_probe_basis() -> None:
    # As many images as make the covariance within groups a good estimate.
    table = feature_table(toy(1200, 1, 4, 4), basis="probe", dims=6)
    fit = table.rows(FIT)
    features, group = table.features[fit], table.group[fit]
    variances = np.stack([features[group == g].var(axis=0) for g in np.unique(group)]).mean(axis=0)
    # The covariance is shrunk by a twentieth towards its mean, which lifts small variances and lowers large ones.
    np.testing.assert_allclose(variances, 1.0, atol=0.07)


def test_principal_components_fall_in_variance_and_share_one_scale(data: ImageData) -> None:
    table = feature_table(data, basis="pca", dims=5)
    features = table.features[table.rows(FIT)]
    second_moment = (features**2).mean(axis=0)
    assert (np.diff(second_moment) < 0).all()
    assert second_moment.mean() == pytest.approx(1.0, rel=1e-4)
    covariance = features.T @ features / len(features)
    np.testing.assert_allclose(covariance - np.diag(second_moment), 0.0, atol=1e-3 * second_moment[0])


def test_a_number_of_examples_is_spread_evenly_over_the_groups(data: ImageData) -> None:
    table = feature_table(data, basis="pca", dims=2, examples=8)
    everything = feature_table(data, basis="pca", dims=2)
    for part in (FIT, EVALUATE):
        count = np.bincount(table.group[table.rows(part)], minlength=4)
        available = np.bincount(everything.group[everything.rows(part)], minlength=4)
        assert count.sum() == 8
        # Whoever has fewer than another gave all it has.
        assert all(count[g] == available[g] or count[g] >= count.max() - 1 for g in range(4))


def test_the_same_seed_chooses_the_same_images_and_another_does_not(data: ImageData) -> None:
    first, again, other = (feature_table(data, basis="pca", dims=2, examples=8, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.features, again.features)
    assert not np.array_equal(first.features, other.features)


def test_a_frozen_network_of_our_own_is_an_embedding(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMBALANCE_CACHE", str(tmp_path / "cache"))
    settings = configuration(epochs=1)
    run = train(settings, data, tmp_path / "backbone", progress=False)
    table = feature_table(data, "frozen:small_cnn", "pca", 8, weights=str(run.checkpoints[-1].path))
    backbone = load_checkpoint(run.checkpoints[-1], settings, data)
    embeddings = extract(backbone, data, data.rows(TRAIN)).features.astype(np.float64)
    assert embeddings.shape[1] == 8
    # All components of the embeddings are kept, turned and scaled by one factor: angles and ratios stay.
    ours, theirs = (x - x.mean(axis=0) for x in (table.features[table.rows(FIT)], embeddings))
    grams = [x @ x.T / (x**2).sum() for x in (ours, theirs)]
    np.testing.assert_allclose(grams[0], grams[1], atol=1e-4 * grams[1].max())
    assert table.explained == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"basis": "fourier"}, "basis='fourier' is not known; allowed: probe, pca"),
        ({"dims": 0}, "dims=0"),
        ({"dims": 10**6}, "dims=1000000 of 'pixels'; allowed: at most"),
        ({"embedding": "pixel"}, "embedding='pixel'; allowed: 'pixels' or 'frozen:NAME'"),
        ({"examples": 3}, "examples=3"),
    ],
)
def test_wrong_arguments_are_named(data: ImageData, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        feature_table(data, **arguments)
