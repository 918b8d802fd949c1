"""Groups as weighted atoms, mirror images, slabs, and finite noisy samples."""

from __future__ import annotations

import numpy as np
import pytest

import toymodels
from toymodels.data import (
    DATA_KINDS,
    Atoms,
    FeatureData,
    Samples,
    data_kind,
    exact_samples,
    groups,
    missing,
    noisy_samples,
    redundant,
    slabs,
    spurious,
)

MU = np.array([[2.0, 1.0]])
ZERO = np.zeros(1, dtype=int)


def test_each_kind_has_its_weights_and_signs() -> None:
    one = redundant().atoms()
    assert one.weights.tolist() == [1.0]
    assert one.signs.tolist() == [[1.0, 1.0]]
    two = spurious().atoms(p=0.7)
    np.testing.assert_allclose(two.weights, [0.7, 0.3])
    assert two.signs.tolist() == [[1.0, 1.0], [-1.0, 1.0]]
    gone = missing().atoms(q=0.2)
    np.testing.assert_allclose(gone.weights, [0.8, 0.2])
    assert gone.signs.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    for table in (one, two, gone):
        assert (table.labels == 1).all()
        assert table.symmetric


def test_the_package_exports_every_kind() -> None:
    for kind in DATA_KINDS:
        if kind == "samples":  # made by FeatureData.from_samples
            continue
        assert kind in toymodels.__all__
        made = toymodels.groups([("a", 1, 1, 1)]) if kind == "groups" else getattr(toymodels, kind)()
        assert made.kind == kind
    assert sorted(name for names in toymodels._HOMES.values() for name in names) == toymodels.__all__


def test_tables_of_groups_are_normalised() -> None:
    table = groups([("a", 3, 1, 1), ("b", 1, -0.5, 2)]).atoms()
    assert table.names == ("a", "b")
    np.testing.assert_allclose(table.weights, [0.75, 0.25])
    assert table.signs.tolist() == [[1.0, 1.0], [-0.5, 2.0]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "empty"),
        ([("a", -1, 1, 1)], "weight >= 0"),
        ([("a", 1, float("nan"), 1)], "finite"),
        ([("a", 0, 1, 1)], "sum to 0"),
    ],
)
def test_bad_tables_are_refused(table: list[tuple[str, float, float, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        groups(table)


def test_unknown_kinds_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"data='nope'.*redundant.*spurious"):
        data_kind("nope")
    with pytest.raises(ValueError, match="allowed"):
        FeatureData("nope")
    with pytest.raises(ValueError, match="allowed"):
        data_kind("groups")


@pytest.mark.parametrize("kind", ["redundant", "spurious", "missing"])
def test_mirror_images_halve_the_weights_and_negate_every_input(kind: str) -> None:
    table = data_kind(kind).atoms()
    twice = table.mirrored()
    n = len(table.weights)
    assert twice.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(twice.weights[:n], table.weights / 2)
    np.testing.assert_array_equal(twice.weights[:n], twice.weights[n:])
    x, y = twice.signs * twice.labels[:, None], twice.labels
    np.testing.assert_array_equal(x[:n], -x[n:])
    np.testing.assert_array_equal(y[:n], -y[n:])
    assert len(set(twice.names)) == 2 * n
    assert twice.mirrored() is twice


@pytest.mark.parametrize("half", [1, 2, 3])
def test_slabs_alternate_along_the_hard_feature_with_equal_classes(half: int) -> None:
    table = slabs().atoms(slabs=half)
    x = table.signs * table.labels[:, None]
    order = np.argsort(x[:, 1])
    np.testing.assert_allclose(x[order, 1], np.linspace(-1, 1, 2 * half + 1))
    np.testing.assert_array_equal(table.labels[order], [(-1.0) ** i for i in range(2 * half + 1)])
    np.testing.assert_array_equal(x[:, 0], table.labels)
    for label in (-1, 1):
        inside = table.labels == label
        assert table.weights[inside].sum() == pytest.approx(0.5)
        assert np.ptp(table.weights[inside]) == 0
    assert not table.symmetric
    assert table.mirrored() is table


def test_no_slabs_are_the_linear_feature() -> None:
    table = slabs().atoms(slabs=0)
    assert table.signs.tolist() == [[1.0, 1.0]]
    assert table.symmetric


def test_exact_samples_give_each_run_its_table() -> None:
    tables = [spurious().atoms(p=p) for p in (0.6, 0.9)]
    mu = np.array([[2.0, 1.0], [3.0, 0.5], [1.0, 1.0]])
    made = exact_samples(tables, np.array([1, 0, 1]), mu)
    np.testing.assert_allclose(made.weights, [[0.9, 0.1], [0.6, 0.4], [0.9, 0.1]])
    np.testing.assert_array_equal(made.features, [[[1, 1], [-1, 1]]])
    np.testing.assert_array_equal(made.scale, mu)
    different = [Atoms(("a",), np.ones(1), np.array([[s, 1.0]]), np.array([-1.0])) for s in (1.0, 2.0)]
    own = exact_samples(different, np.array([1, 0]), mu[:2])
    np.testing.assert_array_equal(own.features, [[[-2, -1]], [[-1, -1]]])
    np.testing.assert_array_equal(own.labels, [[-1], [-1]])


def noisy(
    table: Atoms, samples: int = 64, seeds: tuple[int, ...] = (0,), sigma: tuple[float, ...] = (0.5, 0.8)
) -> Samples:
    rows = np.arange(len(seeds))
    zero = np.zeros(len(seeds), dtype=int)
    return noisy_samples(
        [table], zero, rows, seeds, samples, np.repeat(MU, len(seeds), 0), np.tile(sigma, (len(seeds), 1))
    )


@pytest.mark.parametrize("samples", [10, 64, 101])
@pytest.mark.parametrize("p", [0.5, 0.77, 0.9, 1.0])
def test_group_shares_of_a_sample_are_exact_up_to_one_example(p: float, samples: int) -> None:
    made = noisy(spurious().atoms(p=p), samples)
    assert abs((made.group == 0).mean() - p) <= 0.5 / samples + 1e-12
    assert made.features.shape == (1, samples, 2)
    np.testing.assert_array_equal(made.weights, np.full((1, samples), 1 / samples))


def test_labels_of_symmetric_data_alternate_and_slabs_keep_theirs() -> None:
    made = noisy(spurious().atoms(p=0.75), 40)
    np.testing.assert_array_equal(made.labels[0], np.tile([1.0, -1.0], 20))
    table = slabs().atoms(slabs=1)
    made = noisy(table, 40)
    np.testing.assert_array_equal(made.labels[0], table.labels[made.group[0]])


def test_noise_has_the_given_size_around_the_atoms() -> None:
    sigma = (0.5, 0.8, 1.5)
    size = 4000
    table = spurious().atoms(p=0.75)
    made = noisy(table, size, sigma=sigma)
    mean = np.zeros((size, 3))
    mean[:, :2] = table.signs[made.group[0]] * made.labels[0][:, None] * MU
    noise = (made.features[0] - mean) / sigma
    # Means and variances of 4000 normal draws have standard errors 0.016 and 0.022: five of them.
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.08)
    np.testing.assert_allclose(noise.var(0), 1, atol=0.11)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.08


def test_runs_with_one_seed_share_their_noise_whatever_else_differs() -> None:
    tables = [spurious().atoms(p=p) for p in (0.6, 0.9)]
    mu, sigma = np.array([[2.0, 1.0], [3.0, 0.5], [2.0, 1.0]]), np.array([[0.5, 0.5], [1.0, 0.25], [0.5, 0.5]])
    made = noisy_samples(tables, np.array([0, 1, 0]), np.array([0, 0, 1]), [7, 8], 50, mu, sigma)
    noise = []
    for run, table in enumerate((0, 1, 0)):
        mean = tables[table].signs[made.group[run]] * made.labels[run][:, None] * mu[run]
        noise.append((made.features[run] - mean) / sigma[run])
    np.testing.assert_allclose(noise[0], noise[1], atol=1e-12)
    assert np.abs(noise[0] - noise[2]).max() > 0.5
