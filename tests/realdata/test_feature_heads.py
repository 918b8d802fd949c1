"""Heads on real features: correlation by weights, measures, strengths; on the toy's data they are the toy's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from realdata.datasets.base import EVALUATE, FIT
from realdata.features.heads import correlation_weights, train_heads
from realdata.features.measures import MEASURES, ProbeImages, hidden_features, measure_heads
from realdata.features.table import FeatureTable
from realdata.features.toy import (
    Strengths,
    directions,
    fewer_examples,
    gaussian_table,
    group_weights,
    measured_strengths,
    signs,
)
from toymodels import metrics
from toymodels.data import redundant, spurious
from toymodels.networks import network
from toymodels.probe import ProbeData, probing_error
from toymodels.simulation import simulate
from toymodels.sweep import Sweep

MU = (2.0, 1.0)


def table(counts: tuple[int, int, int, int] = (2, 2, 2, 2), noise: float = 0.0, width: int = 3) -> FeatureTable:
    """The theory's data: groups 2 hard + easy of these sizes in either part, the label being the hard attribute."""
    group = np.tile(np.repeat(np.arange(4), counts), 2)
    split = np.repeat([FIT, EVALUATE], sum(counts)).astype(np.int8)
    hard, easy = group // 2, group % 2
    features = noise * np.random.default_rng(0).standard_normal((len(group), width))
    features[:, :2] += (2.0 * np.stack([easy, hard], axis=1) - 1) * MU
    names = ("easy", "hard", *(f"noise {k + 1}" for k in range(width - 2)))
    return FeatureTable(features, 2.0 * hard - 1, hard, easy, split, names, "made up", "pixels", "probe", 1.0)


def sweep(**changes: object) -> Sweep:
    values = {"mu_easy": MU[0], "mu_hard": MU[1], "steps": 600, "eta": 0.05}
    made = {
        "data": spurious(), "values": values, "axes": {"p": [0.7, 0.9, 1.0], "rho": [0.0, 0.2, 0.4]}, "seeds": 2,
        "loss_levels": (0.4, 0.2),
    }  # fmt: skip
    return Sweep(**{**made, **changes})  # type: ignore[arg-type]


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_make_the_correlation_within_each_label() -> None:
    data = table((7, 2, 3, 5))
    p = np.array([0.5, 0.8, 1.0])
    weights = correlation_weights(data, p)
    rows = data.rows(FIT)
    agrees = signs(data, rows)[:, 0] == data.label[rows]
    for label in (-1.0, 1.0):
        of_label = data.label[rows] == label
        np.testing.assert_allclose(weights[:, of_label & agrees].sum(axis=1), p / 2)
        np.testing.assert_allclose(weights[:, of_label & ~agrees].sum(axis=1), (1 - p) / 2)
        assert (np.ptp(weights[:, of_label & agrees], axis=1) < 1e-15).all()


def test_a_correlation_without_images_for_it_is_refused() -> None:
    data = table((3, 0, 2, 3))
    assert correlation_weights(data, np.array([1.0])).sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no image to fit on whose easy attribute contradicts label -1"):
        correlation_weights(data, np.array([0.9]))


# --- the toy's results on the toy's data ------------------------------------------------------------------------------


def test_heads_on_the_theory_s_data_are_the_toy_s_networks() -> None:
    # A third coordinate that is zero changes nothing but the start's random numbers, which jitter 0 leaves out.
    wanted = sweep(values={**sweep().values, "jitter": 0.0})
    heads = train_heads(table(), wanted, 0.5, engine="reference")
    toy = simulate(wanted, engine="reference")
    for k, level in enumerate(wanted.loss_levels):
        np.testing.assert_array_equal(heads["crossing_step"].values[..., k], toy["crossing_step"].values[..., k])
        np.testing.assert_allclose(
            heads["hard_share"].values[..., k], metrics.share_at_level(toy, wanted, level), rtol=1e-10
        )
    np.testing.assert_allclose(heads["loss"].values, toy["loss"].values, rtol=1e-10)


def test_the_first_step_gains_on_the_easy_feature_beyond_c7_s_radius() -> None:
    # a(0) = 0.4: N = sqrt2 0.4 sqrt(5) = 1.265, so that N = N* at rho = N / 3 = 0.4216 when p = 1.
    values = {"mu_easy": MU[0], "mu_hard": MU[1], "jitter": 0.0, "eta": 1e-3, "init": 0.4, "steps": 2}
    wanted = sweep(axes={"p": [1.0], "rho": [0.41, 0.43]}, values=values, seeds=1)
    gain = train_heads(table(), wanted, 0.5, engine="reference")["first_gain"].values.reshape(-1)
    assert gain[0] < 0 < gain[1]


def test_a_parameter_that_is_measured_is_no_axis() -> None:
    with pytest.raises(ValueError, match="axis mu_hard; allowed: rho, p, init"):
        train_heads(table(), sweep(axes={"mu_hard": [0.5, 0.9]}, values={"mu_easy": 2.0}), 0.5)
    with pytest.raises(ValueError, match="data='redundant'; allowed: 'spurious'"):
        train_heads(table(), sweep(data=redundant()), 0.5)


def test_batches_do_not_change_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    few = sweep(values={"mu_easy": MU[0], "mu_hard": MU[1], "steps": 60, "eta": 0.3}, seeds=1)
    whole = train_heads(table(noise=0.5), few, 0.5, engine="reference")
    monkeypatch.setattr("realdata.features.heads.MEMORY_BYTES", 1)
    parts = train_heads(table(noise=0.5), few, 0.5, engine="reference")
    for name in MEASURES:
        np.testing.assert_allclose(parts[name].values, whole[name].values, rtol=1e-9)


# --- measures ---------------------------------------------------------------------------------------------------------


def heads_of(kind: str, count: int = 5, width: int = 4) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    if kind == "diagonal":
        return tuple(rng.uniform(0.1, 0.8, (count, width)) for _ in range(2))
    return rng.standard_normal((count, 6, width)), rng.standard_normal((count, 6))


@pytest.mark.parametrize("kind", ["diagonal", "linear", "relu"])
def test_probing_error_is_the_error_of_a_probe_on_noisy_hidden_features(kind: str) -> None:
    data, noise = table((12, 8, 9, 10), noise=0.8, width=4), 0.6
    images, layers = ProbeImages.of(data), heads_of(kind)
    found = measure_heads(network(kind), layers, images, noise)
    rng = np.random.default_rng(7)
    for run in range(2):
        expected = np.zeros(2)
        for half in (0, 1):
            (x, sign, weights), (other, other_sign, other_weights) = images.part(half), images.part(1 - half)
            one = tuple(layer[run : run + 1] for layer in layers)
            # The noisy images written out: many draws of the noise, an ordinary weighted least squares, its error.
            draws = 2000
            phi = np.repeat(hidden_features(network(kind), one, x)[0], draws, axis=0)
            phi = np.c_[phi + noise * rng.standard_normal(phi.shape), np.ones(len(phi))]
            root = np.sqrt(np.repeat(weights, draws))[:, None]
            beta = np.linalg.lstsq(root * phi, root * np.repeat(sign, draws, axis=0), rcond=None)[0]
            phi = np.repeat(hidden_features(network(kind), one, other)[0], draws, axis=0)
            phi = np.c_[phi + noise * rng.standard_normal(phi.shape), np.ones(len(phi))]
            wrong = (phi @ beta) * np.repeat(other_sign, draws, axis=0) < 0
            expected += np.repeat(other_weights, draws) / draws @ wrong / 2
        got = [found[f"{name}_probing_error"][run] for name in ("easy", "hard")]
        # Three standard errors of some 40 000 effective draws, and the probe's own scatter.
        np.testing.assert_allclose(got, expected, atol=0.01)


def test_on_the_theory_s_data_the_probe_is_the_toy_s_closed_form() -> None:
    layers = (np.array([[0.5, 0.3, 0.2]]), np.array([[0.5, 0.3, 0.2]]))
    found = measure_heads(network("diagonal"), layers, ProbeImages.of(table()), 0.5)
    for k, name in enumerate(("easy", "hard")):
        closed = probing_error(network("diagonal"), layers, ProbeData(np.array([MU])), 0.5, name)
        assert found[f"{name}_probing_error"] == pytest.approx(closed)
        assert found[f"{name}_probing_error"] == pytest.approx(norm.cdf(-MU[k] * layers[0][0, k] / 0.5))
    u = layers[0][0] ** 2
    assert found["hard_share"] == pytest.approx(MU[1] * u[1] / (MU[0] * u[0] + MU[1] * u[1]))


@pytest.mark.parametrize("kind", ["diagonal", "linear", "relu"])
def test_accuracy_is_that_of_the_worst_group(kind: str) -> None:
    data = table((12, 8, 9, 10), noise=2.0, width=4)
    images, layers = ProbeImages.of(data), heads_of(kind)
    output = np.einsum("bnm,bm->bn", hidden_features(network(kind), layers, images.features), layers[-1])
    # An output of exactly zero (no ReLU neuron is on) is a guess.
    right = np.where(output == 0, 0.5, output * images.label > 0)
    expected = np.min([right[:, images.group == g].mean(axis=1) for g in range(4)], axis=0)
    np.testing.assert_allclose(measure_heads(network(kind), layers, images, 0.5)["worst_group_accuracy"], expected)


def test_a_linear_head_written_as_a_relu_pair_measures_the_same_outputs() -> None:
    images = ProbeImages.of(table((12, 8, 9, 10), noise=0.8, width=4))
    first, last = heads_of("linear")
    pair = np.concatenate([first, -first], axis=1), np.concatenate([last, -last], axis=1)
    linear, relu = (measure_heads(network(k), x, images, 0.5) for k, x in (("linear", (first, last)), ("relu", pair)))
    for name in ("hard_share", "worst_group_accuracy"):
        np.testing.assert_allclose(relu[name], linear[name], rtol=1e-9)


def test_heads_that_are_not_finite_have_no_measure_and_leave_the_others_alone() -> None:
    images, layers = ProbeImages.of(table((3, 3, 3, 3), noise=0.8, width=4)), heads_of("diagonal")
    broken = tuple(layer.copy() for layer in layers)
    broken[1][2] = np.nan
    found, whole = (measure_heads(network("diagonal"), x, images, 0.5) for x in (broken, layers))
    for name in MEASURES:
        assert np.isnan(found[name][2])
        np.testing.assert_allclose(np.delete(found[name], 2), np.delete(whole[name], 2), rtol=1e-12)


def test_noise_of_zero_and_groups_of_one_image_are_refused() -> None:
    with pytest.raises(ValueError, match=r"noise=0\.0; allowed: > 0"):
        measure_heads(network("diagonal"), heads_of("diagonal", width=3), ProbeImages.of(table()), 0.0)
    with pytest.raises(ValueError, match=r"1 image\(s\) of a group to measure on"):
        ProbeImages.of(table((2, 1, 2, 2)))


# --- strengths --------------------------------------------------------------------------------------------------------


def test_strengths_and_noise_are_measured_free_of_correlation() -> None:
    # Groups of very different sizes: an average over images would see the easy attribute in the hard one's strength.
    found = measured_strengths(table((4000, 300, 200, 5000), noise=0.5, width=5), FIT)
    assert (found.mu_easy, found.mu_hard) == pytest.approx(MU, abs=0.06)
    assert (found.noise_easy, found.noise_hard, found.noise_extra) == pytest.approx((0.5, 0.5, 0.5), abs=0.03)
    assert (found.noise_features, found.smallest_group) == (3, 200)
    assert found.hidden < 0.06


def test_directions_are_those_of_equally_weighted_groups() -> None:
    # Easy and hard attribute agree in nearly all images: over images, either direction would hold half of the other.
    data = table((4000, 200, 200, 5000), noise=0.5, width=5)
    renamed = dataclasses.replace(data, names=tuple(f"PC {k}" for k in range(5)))
    np.testing.assert_allclose(directions(renamed), np.eye(2, 5), atol=0.06)


def test_a_rotation_of_the_features_changes_no_strength() -> None:
    data = table((400, 300, 200, 500), noise=0.5, width=5)
    # In that basis the two directions are found from the means, orthogonal to one another; make them so here as well.
    renamed = dataclasses.replace(data, names=tuple(f"PC {k}" for k in range(5)))
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]
    turned = dataclasses.replace(renamed, features=data.features @ turn)
    for name in ("mu_easy", "mu_hard", "noise_easy", "noise_hard", "noise_extra"):
        of = [getattr(measured_strengths(each, FIT), name) for each in (renamed, turned)]
        assert of[0] == pytest.approx(of[1], rel=1e-9)
    np.testing.assert_allclose(directions(turned) @ directions(turned).T, np.eye(2), atol=1e-12)


def test_the_toy_s_data_have_the_strengths_of_each_part() -> None:
    data = table((900, 800, 700, 1000), noise=0.5, width=5)
    data.features[data.rows(EVALUATE), 1] *= 0.5
    toy = gaussian_table(data, seed=3)
    np.testing.assert_array_equal(toy.group, data.group)
    for part in (FIT, EVALUATE):
        of_toy, of_data = (dataclasses.asdict(measured_strengths(each, part)) for each in (toy, data))
        for name in ("mu_easy", "mu_hard", "noise_easy", "noise_hard", "noise_extra"):
            assert of_toy[name] == pytest.approx(of_data[name], abs=0.05)
    assert not np.array_equal(gaussian_table(data, seed=4).features, toy.features)


def test_fewer_examples_are_spread_over_the_groups() -> None:
    data = fewer_examples(table((50, 3, 20, 60), noise=1.0), 43)
    for part in (FIT, EVALUATE):
        count = np.bincount(data.group[data.rows(part)], minlength=4)
        assert count.sum() == 43
        assert count[1] == 3
        assert np.ptp(count[[0, 2, 3]]) <= 1
    np.testing.assert_allclose(group_weights(data, data.rows(FIT)).sum(), 1.0)


def test_data_without_an_easy_attribute_and_too_few_features_are_refused() -> None:
    data = table(noise=0.5)
    with pytest.raises(ValueError, match="made up has no easy attribute"):
        signs(dataclasses.replace(data, easy=None), data.rows(FIT))
    narrow = dataclasses.replace(data, features=data.features[:, :2], names=data.names[:2])
    with pytest.raises(ValueError, match="features has 2 columns; allowed: 3 or more"):
        measured_strengths(narrow, FIT)
    assert isinstance(measured_strengths(data, FIT), Strengths)
