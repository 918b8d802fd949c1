"""Log-gains of a diagonal head: the filter law where it is exact, and its intervals on noisy features."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from realdata.datasets.base import EVALUATE, FIT
from realdata.features.filter_gains import START_MARGIN, FilterGains, filter_gains, quadratic_fit
from realdata.predictions.filter_runs import evidence_of
from toymodels import theory
from toymodels.filter.study import run_filter

MU = np.linspace(0.2, 2.0, 8)
ETA_ERROR = 0.0025
"""First-order error of a step, relative to the slope: RATE times the weight 1/2, halved."""


def table(features: np.ndarray, label: np.ndarray, split: np.ndarray | None = None) -> Any:
    """What filter_gains reads of a feature table."""
    count = features.shape[1]
    return SimpleNamespace(
        features=features, label=label.astype(np.float64), names=tuple(f"PC {k}" for k in range(1, count + 1)),
        split=np.full(len(label), FIT, dtype=np.int8) if split is None else split, title="Made up",
        embedding="pixels", basis="pca",
    )  # fmt: skip


def one_atom(count: int = 20) -> Any:
    """y x_nk = mu_k for every example, every second feature with its sign turned."""
    label = np.resize([1.0, -1.0], count)
    return table(label[:, None] * MU * np.resize([1.0, -1.0], len(MU)), label)


def noisy(count: int = 600, noise: float = 1.0, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    label = np.resize([1.0, -1.0], count)
    return table(label[:, None] * MU / 2 + noise * rng.standard_normal((count, len(MU))), label)


@pytest.fixture(scope="module")
def exact() -> FilterGains:
    return filter_gains(one_atom(), draws=3)


def test_one_atom_obeys_the_filter_law(exact: FilterGains) -> None:
    np.testing.assert_allclose(exact.mu, MU, rtol=1e-12)
    for found, predicted in ((exact.log_gain_gd, exact.predicted_gd), (exact.log_gain_sam, exact.predicted_sam)):
        np.testing.assert_allclose(found, predicted, atol=ETA_ERROR * predicted.max())
    assert exact.bend.value < ETA_ERROR
    assert exact.ratio.value == pytest.approx(1.0, abs=0.01)
    assert min(exact.fit_gd.r2, exact.fit_sam.r2) > 1 - 1e-6
    assert exact.log_gain_gd.max() > 1  # the gains are not small numbers that would agree with anything


def test_one_atom_agrees_with_the_toy_that_is_trained_to_a_loss(exact: FilterGains) -> None:
    """A weight of 0.45 is a loss of -ln 0.55 on one atom."""
    run = run_filter(len(MU), (MU[0], MU[-1]), (0.0, exact.rho), exact.start, 1e-3, (-np.log(0.55),))
    assert exact.suppression_time == pytest.approx(run.suppression_time[1, 0], rel=5e-3)
    assert [exact.tau_gd, exact.tau] == pytest.approx(run.tau[:, 0], rel=5e-3)
    np.testing.assert_allclose(exact.log_gain_gd, run.simulated[0, 0], atol=5e-3)
    np.testing.assert_allclose(exact.log_gain_sam, run.simulated[1, 0], atol=5e-3)


def test_time_runs_by_the_weights_at_the_phantom_point() -> None:
    """Late, at a weight of 0.1, the phantom weights are visibly larger: the law's tau is theirs."""
    late = filter_gains(one_atom(), draws=2, target=0.1)
    np.testing.assert_allclose(late.log_gain_sam, late.predicted_sam, atol=ETA_ERROR * late.predicted_sam.max())
    np.testing.assert_allclose(late.log_gain_gd, late.predicted_gd, atol=ETA_ERROR * late.predicted_gd.max())


def test_the_radius_suppresses_the_strongest_feature_by_half_and_none_shrinks(exact: FilterGains) -> None:
    scale = theory.balanced_gradient_scale(tuple(MU), (exact.start,) * len(MU))
    assert theory.one_atom_suppression_factor(exact.rho, MU[-1], scale) == pytest.approx(0.5)
    assert MU.sum() * exact.start**2 == pytest.approx(START_MARGIN)
    assert (exact.log_gain_sam > 0).all()
    given = filter_gains(one_atom(), rho=exact.rho / 4, draws=2)
    assert given.rho == exact.rho / 4
    assert abs(given.predicted_curvature) < abs(exact.predicted_curvature)
    assert given.ratio.value == pytest.approx(1.0, abs=0.02)


def test_one_atom_has_no_spread_and_noise_has_some(exact: FilterGains) -> None:
    assert exact.ratio.high - exact.ratio.low < 1e-9
    found = filter_gains(noisy(), draws=40)
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert 0.01 < found.ratio.high - found.ratio.low < 1
    # The curvature is the law's with noise, too: it bends GD's run and SAM's alike.
    assert found.ratio.value == pytest.approx(1.0, abs=0.25)
    repeated = filter_gains(noisy(), draws=40)
    assert dataclasses.asdict(repeated)["ratio"] == dataclasses.asdict(found)["ratio"]
    assert filter_gains(noisy(), seed=1, draws=40).ratio != found.ratio


def test_draws_are_bootstrap_samples_of_the_examples() -> None:
    """The interval of a mean: mu of one feature decides the bend, whose spread shrinks like one over the root of n."""
    few, many = (filter_gains(noisy(count), draws=60, examples=10_000) for count in (200, 3200))
    shrink = (few.ratio.high - few.ratio.low) / (many.ratio.high - many.ratio.low)
    assert 2 < shrink < 8


def test_features_with_much_variance_bend_gds_line() -> None:
    """What the law leaves out: a strong feature whose variance holds it back."""
    data = noisy()
    data.features[:, -1] += 8 * np.random.default_rng(1).standard_normal(len(data.label))
    bent = filter_gains(data, draws=2)
    assert bent.bend.value > 5 * filter_gains(noisy(), draws=2).bend.value


def test_only_examples_to_fit_on_are_trained_on_and_no_more_than_asked_for() -> None:
    data = noisy()
    split = np.where(np.arange(len(data.label)) < 300, FIT, EVALUATE).astype(np.int8)
    half = table(data.features, data.label, split)
    half.features[300:] = np.nan
    assert filter_gains(half, draws=2).examples == 300
    assert filter_gains(half, draws=2, examples=50).examples == 50


def test_a_quadratic_is_fitted_whatever_its_units() -> None:
    mu = np.array([0.1, 0.4, 0.5, 0.9]) * 1e-4
    fit = quadratic_fit(mu, 3.0 - 2e4 * mu + 5e8 * mu**2)
    assert fit.coefficients == pytest.approx((3.0, -2e4, 5e8))
    assert fit.r2 == pytest.approx(1.0)


def test_features_that_cannot_tell_the_classes_apart_are_an_error_in_words() -> None:
    with pytest.raises(ValueError, match=r"mean example weight is still 0\.4.*above the target 0\.4"):
        filter_gains(noisy(200, noise=30.0), draws=2, target=0.4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rho": 0.0}, "rho=0.0; allowed: a finite number > 0"),
        ({"target": 0.5}, r"target=0.5; allowed: a number in \(0, 0.5\)"),
        ({"draws": 1}, "draws=1; allowed: a whole number >= 2"),
        ({"examples": 1}, "examples=1; allowed: a whole number >= 2"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        filter_gains(one_atom(), **changes)


def test_the_verdict_reads_the_same_numbers(exact: FilterGains) -> None:
    found = evidence_of(exact)
    assert found.ratio == (exact.ratio.value, exact.ratio.low, exact.ratio.high)
    assert found.bend == (exact.bend.value, exact.bend.low, exact.bend.high)
    assert found.gain_sam == tuple(exact.log_gain_sam) != found.gain_gd == tuple(exact.log_gain_gd)
    assert found.predicted_sam == tuple(exact.predicted_sam) != found.predicted_gd == tuple(exact.predicted_gd)
    assert (found.fit_gd, found.fit_sam) == (exact.fit_gd.coefficients, exact.fit_sam.coefficients)
    assert found.features == "Made up: pixels, pca, 8 features"


def test_tables_that_carry_no_parabola_are_refused() -> None:
    data = one_atom()
    with pytest.raises(ValueError, match="features has 3 columns; allowed: 4 or more"):
        filter_gains(table(data.features[:, :3], data.label))
    with pytest.raises(ValueError, match=r"label has 1 class\(es\) to fit on; allowed: 2"):
        filter_gains(table(data.features, np.ones(len(data.label))))
    with pytest.raises(ValueError, match=r"all have the strength \|E\[y x\]\| = 1; allowed: different strengths"):
        filter_gains(table(data.features / MU, data.label))
