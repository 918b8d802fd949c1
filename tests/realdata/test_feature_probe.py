"""The probe keeps its protocol, reads what is there, and cannot be fooled by the other attribute."""

from __future__ import annotations

import numpy as np
import pytest

from realdata.measures.probe import _balanced, _Scaler, probe
from realdata.measures.protocols import PROTOCOLS, Protocol, protocol

linear_model = pytest.importorskip("sklearn.linear_model")

FAST, DFR = PROTOCOLS["fast"], PROTOCOLS["dfr"]
FEW = DFR.replace(inverse_penalties=(1.0, 0.1, 0.01), repeats=3)


def attributes(samples: int, agreement: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hard, easy, group) of two binary attributes that agree with this probability."""
    hard = rng.integers(2, size=samples)
    easy = np.where(rng.random(samples) < agreement, hard, 1 - hard)
    return hard, easy, 2 * hard + easy


def noisy(columns: list[tuple[np.ndarray, float]], rng: np.random.Generator, useless: int = 4) -> np.ndarray:
    """Features: each attribute as -1/+1 with its own noise, then columns of noise; scaled unevenly, off centre."""
    samples = len(columns[0][0])
    signal = [2.0 * values - 1 + noise * rng.standard_normal(samples) for values, noise in columns]
    features = np.stack([*signal, *rng.standard_normal((useless, samples))], axis=1)
    return (features * np.geomspace(0.1, 10, features.shape[1]) + 3).astype(np.float32)


def test_dfr_is_the_published_procedure() -> None:
    """Written out as in the authors' script (Kirichenko et al. 2023), drawing the same halves and subsamples."""
    rng = np.random.default_rng(0)
    fit_hard, fit_easy, fit_group = attributes(300, 0.8, rng)
    hard, easy, group = attributes(200, 0.5, rng)
    train = noisy([(np.zeros(100), 2.0), (np.zeros(100), 2.0)], rng)
    fit, evaluate = noisy([(fit_hard, 1.5), (fit_easy, 0.3)], rng), noisy([(hard, 1.5), (easy, 0.3)], rng)
    found = probe(fit, fit_hard, fit_group, evaluate, hard, group, FEW, seed=7, train_features=train)

    draws = np.random.default_rng(7)

    def balanced(rows: np.ndarray) -> np.ndarray:
        order = draws.permutation(len(rows))
        smallest = np.bincount(fit_group[rows], minlength=4).min()
        members = [order[fit_group[rows][order] == g][:smallest] for g in range(4)]
        return rows[np.sort(np.concatenate(members))]

    order = draws.permutation(300)
    chosen_on, half = order[:150], balanced(order[150:])
    best, best_worst = 0.0, -1.0
    for c in FEW.inverse_penalties:
        mean, std = fit[half].astype(float).mean(0), fit[half].astype(float).std(0)
        right = classifier(c).fit((fit[half] - mean) / std, fit_hard[half]).predict((fit[chosen_on] - mean) / std)
        right = right == fit_hard[chosen_on]
        worst = min(right[fit_group[chosen_on] == g].mean() for g in range(4))
        assert found.tuning[c] == pytest.approx(worst)
        if worst > best_worst:
            best, best_worst = c, worst
    mean, std = train.astype(float).mean(0), train.astype(float).std(0)
    fits = []
    for _ in range(3):
        rows = balanced(np.arange(300))
        fits.append(classifier(best).fit((fit[rows] - mean) / std, fit_hard[rows]))
    final = fits[0]
    final.coef_, final.intercept_ = np.mean([f.coef_ for f in fits], 0), np.mean([f.intercept_ for f in fits], 0)
    predicted = final.predict((evaluate - mean) / std)

    assert found.inverse_penalty == best
    np.testing.assert_array_equal(found.predicted, predicted)
    errors = [1 - (predicted == hard)[group == g].mean() for g in range(4)]
    assert [e.value for e in found.group_errors] == pytest.approx(errors)
    assert found.worst_group_error.value == pytest.approx(max(errors))
    assert found.group_mean_error.value == pytest.approx(np.mean(errors))
    assert found.error.value == pytest.approx((predicted != hard).mean())


def test_the_fast_protocol_chooses_by_the_balanced_log_loss_of_two_folds() -> None:
    """Written out with scikit-learn: every image is judged by the fit on the half of its group that it is not in."""
    rng = np.random.default_rng(0)
    hard, easy, group = attributes(200, 0.8, rng)
    x = noisy([(hard, 1.5), (easy, 0.3)], rng)
    found = probe(x, hard, group, x, hard, group, FAST, seed=7)
    order = np.random.default_rng(7).permutation(200)
    halves = [np.concatenate([order[group[order] == g] for g in range(4)])[start::2] for start in (0, 1)]
    loss = np.zeros((len(FAST.inverse_penalties), 200))
    for fit, check in (halves, halves[::-1]):
        mean, std = x[fit].astype(float).mean(0), x[fit].astype(float).std(0)
        count = np.bincount(group[fit])
        weights = count.min() / count[group[fit]]
        for k, c in enumerate(FAST.inverse_penalties):
            model = linear_model.LogisticRegression(C=c, tol=1e-9, max_iter=1000)
            model.fit((x[fit] - mean) / std, hard[fit], sample_weight=weights)
            loss[k, check] = -model.predict_log_proba((x[check] - mean) / std)[np.arange(len(check)), hard[check]]
    for k, c in enumerate(FAST.inverse_penalties):
        expected = np.mean([loss[k][group == g].mean() for g in range(4)])
        assert found.tuning[c] == pytest.approx(-expected, rel=1e-3)
    assert found.inverse_penalty == max(FAST.inverse_penalties, key=lambda c: found.tuning[c])
    assert len(set(found.tuning.values())) > 1


def test_an_attribute_value_that_one_half_lacks_does_not_decide() -> None:
    rng = np.random.default_rng(8)
    attribute = np.concatenate([[2], rng.integers(2, size=79)])
    x = noisy([(attribute == 1, 0.5), (attribute == 2, 0.1)], rng)
    found = probe(x, attribute, attribute, x, attribute, attribute)
    assert all(np.isfinite(merit) for merit in found.tuning.values())
    assert found.error.value < 0.1


@pytest.mark.parametrize("chosen", [FAST, FEW.replace(scaler="fit")], ids=["fast", "dfr"])
def test_the_easy_attribute_cannot_stand_in_for_the_hard_one(chosen: Protocol) -> None:
    rng = np.random.default_rng(1)
    fit_hard, fit_easy, fit_group = attributes(1500, 0.95, rng)
    hard, easy, group = attributes(1500, 0.95, rng)
    fit, evaluate = noisy([(fit_easy, 0.1)], rng), noisy([(easy, 0.1)], rng)
    fooled = probe(fit, fit_hard, np.zeros(1500, dtype=int), evaluate, hard, group, chosen)
    balanced = probe(fit, fit_hard, fit_group, evaluate, hard, group, chosen)
    assert fooled.error.value < 0.08
    # Nothing but noise is left: each group's error is about a half, whichever way the noise happens to lean.
    assert abs(balanced.group_mean_error.value - 0.5) < 0.1


def test_both_protocols_find_the_error_that_the_noise_allows() -> None:
    from scipy.special import ndtr

    rng = np.random.default_rng(2)
    fit_hard, fit_easy, fit_group = attributes(1200, 0.7, rng)
    hard, easy, group = attributes(2000, 0.5, rng)
    fit, evaluate = noisy([(fit_hard, 1.0), (fit_easy, 0.2)], rng), noisy([(hard, 1.0), (easy, 0.2)], rng)
    for chosen in (FAST, FEW.replace(scaler="fit")):
        found = probe(fit, fit_hard, fit_group, evaluate, hard, group, chosen)
        # Best possible: Phi(-1). Three binomial deviations of 2000 images, and one point for the fit.
        assert abs(found.error.value - ndtr(-1.0)) < 3 * 0.008 + 0.01
        assert found.error.low < ndtr(-1.0) + 0.01
        assert found.error.high > ndtr(-1.0)


@pytest.mark.parametrize("chosen", [FAST, FEW.replace(scaler="fit")], ids=["fast", "dfr"])
def test_more_than_two_classes(chosen: Protocol) -> None:
    rng = np.random.default_rng(3)
    fit_class, measured_class = rng.integers(5, size=600), rng.integers(5, size=300)
    centres = 3 * np.eye(5)
    fit = centres[fit_class] + 0.3 * rng.standard_normal((600, 5))
    evaluate = centres[measured_class] + 0.3 * rng.standard_normal((300, 5))
    found = probe(fit, fit_class, fit_class, evaluate, measured_class, measured_class, chosen)
    assert found.error.value < 0.02
    assert found.classifier.weight.shape == (5, 5)
    # The classifier takes the features as they were given, not as the probe scaled them.
    np.testing.assert_array_equal(found.classifier.predict(evaluate), found.predicted)


def test_weights_are_the_expectation_of_balanced_subsamples() -> None:
    rng = np.random.default_rng(4)
    group = np.repeat([0, 1, 3], [40, 10, 25])
    _, weights = _balanced(group, "weights", rng)
    taken = np.zeros(75)
    for _ in range(2000):
        rows, none = _balanced(group, "subsample", rng)
        assert none is None
        assert np.bincount(group[rows]).tolist() == [10, 10, 0, 10]
        taken[rows] += 1
    assert weights is not None
    np.testing.assert_allclose(taken / 2000, weights, atol=5 * 0.5 / 2000**0.5)


def test_a_group_without_images_to_measure_on_is_explicit() -> None:
    rng = np.random.default_rng(5)
    attribute = rng.integers(2, size=80)
    x = noisy([(attribute, 0.5)], rng)
    found = probe(x, attribute, attribute, x, attribute, attribute, groups=("a", "b", "c"))
    assert [e.n for e in found.group_errors] == [int((attribute == 0).sum()), int((attribute == 1).sum()), 0]
    assert np.isnan(found.group_errors[2].value)
    assert np.isfinite(found.worst_group_error.value)


def test_the_seed_decides_and_nothing_else_does() -> None:
    rng = np.random.default_rng(6)
    hard, easy, group = attributes(200, 0.6, rng)
    x = noisy([(hard, 1.5), (easy, 0.5)], rng)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (probe(x, hard, group, x, hard, group, FEW, seed=s, train_features=x) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.classifier.weight, again.classifier.weight)
    assert (first.classifier.weight != other.classifier.weight).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_a_feature_that_dies_on_some_images_does_no_harm() -> None:
    rng = np.random.default_rng(7)
    attribute = rng.integers(2, size=100)
    # The mean of a hundred times 0.1 is not quite 0.1, so the standard deviation is not quite zero.
    fit = np.c_[noisy([(attribute, 0.3)], rng).astype(np.float64), np.full(100, 0.1)]
    assert 0 < fit[:, -1].std() < 1e-15
    evaluate = fit.copy()
    evaluate[:, -1] += 0.05
    found = probe(fit, attribute, attribute, evaluate, attribute, attribute)
    assert found.error.value < 0.05
    assert np.abs(_Scaler.of(fit).transform(evaluate)[:, -1]).max() < 0.1


def test_unknown_settings_are_one_error_that_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="protocol='slow' is not known; allowed: fast, dfr"):
        protocol("slow")
    with pytest.raises(ValueError, match="solver='svm' is not known; allowed: multinomial, liblinear"):
        Protocol(solver="svm")
    with pytest.raises(ValueError, match=r"repeats=20 with balance='weights'"):
        FAST.replace(repeats=20)
    with pytest.raises(ValueError, match="selection='loss' with solver='liblinear'"):
        DFR.replace(selection="loss")
    with pytest.raises(ValueError, match=r"inverse_penalties=\(\)"):
        Protocol(inverse_penalties=())


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"eval_features": np.zeros((8, 3))}, r"eval_features \(8, 3\); allowed: \[n, 2\]"),
        ({"fit_group": np.zeros(7, dtype=int)}, r"fit_group \(7,\)"),
        ({"fit_attribute": np.zeros(8, dtype=int)}, r"target contains 1 class\(es\) of 2"),
        ({"eval_group": np.full(8, -1)}, "eval_group contains a negative"),
        ({"protocol": DFR}, r"train_features None with scaler='train'; allowed: \[n, 2\]"),
    ],
    ids=["dimension", "lengths", "one class", "negative", "no training features"],
)
def test_bad_input_is_one_error_that_says_what_is_allowed(changed: dict[str, object], named: str) -> None:
    x, y = np.random.default_rng(0).standard_normal((8, 2)), np.array([0, 1] * 4)
    good: dict[str, object] = {
        "fit_features": x, "fit_attribute": y, "fit_group": y, "eval_features": x, "eval_attribute": y, "eval_group": y,
    }  # fmt: skip
    with pytest.raises(ValueError, match=named):
        probe(**{**good, **changed})  # type: ignore[arg-type]


def classifier(inverse_penalty: float) -> linear_model.LogisticRegression:
    """The published protocol's classifier, in the words of whichever scikit-learn is installed."""
    old = linear_model.LogisticRegression().get_params().get("penalty") == "l2"
    penalty = {"penalty": "l1"} if old else {"l1_ratio": 1.0}
    return linear_model.LogisticRegression(C=inverse_penalty, solver="liblinear", random_state=7, **penalty)
