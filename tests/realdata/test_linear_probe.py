"""The fast linear classifier is scikit-learn's, and ends where its docstring says."""

from __future__ import annotations

import numpy as np
import pytest

from realdata.measures.linear_probe import LinearClassifier, fit_l1, fit_path

linear_model = pytest.importorskip("sklearn.linear_model")

torch = pytest.importorskip("torch")

INVERSE_PENALTIES = (10.0, 0.1, 0.001)
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def correlated(samples: int, features: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Relu-like features with a decaying spectrum, standardised, and classes that overlap."""
    rng = np.random.default_rng(seed)
    target = np.concatenate([np.arange(classes), rng.integers(classes, size=samples - classes)])
    mixing = rng.standard_normal((features, features)) * np.exp(-np.arange(features) / (features / 4))
    x = (0.4 * rng.standard_normal((classes, features))[target] + rng.standard_normal((samples, features))) @ mixing.T
    x = np.maximum(x, 0)
    return (x - x.mean(0)) / (x.std(0) + 1e-9), target


def centred(model: linear_model.LogisticRegression) -> LinearClassifier:
    """Scikit-learn's coefficients in our form: one row per class, biases of mean zero."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return LinearClassifier(weight, bias - bias.mean())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal weights", "weighted"])
@pytest.mark.parametrize(
    ("samples", "features", "classes"), [(200, 7, 2), (301, 11, 3), (60, 90, 2), (70, 80, 5)], ids=str
)
def test_coefficients_are_those_of_scikit_learn(
    samples: int, features: int, classes: int, weighted: bool, device: str
) -> None:
    x, y = correlated(samples, features, classes)
    weights = np.random.default_rng(1).uniform(0.1, 3, samples) if weighted else None
    for inverse_penalty, ours in zip(
        INVERSE_PENALTIES, fit_path(x, y, classes, INVERSE_PENALTIES, weights, device=device), strict=True
    ):
        # To the limit: scikit-learn stops at a gradient, and a weak penalty leaves flat directions.
        reference = linear_model.LogisticRegression(C=inverse_penalty, tol=1e-9, max_iter=20000, solver="newton-cg")
        theirs = centred(reference.fit(x, y, sample_weight=weights))
        np.testing.assert_allclose(ours.weight, theirs.weight, atol=1e-4)
        np.testing.assert_allclose(ours.bias, theirs.bias, atol=1e-4)


def test_the_gradient_at_the_end_is_as_small_as_promised() -> None:
    x, y = correlated(150, 20, 4)
    [ours] = fit_path(x, y, 4, [3.0], tolerance=1e-6)
    weight = torch.tensor(ours.weight, requires_grad=True)
    bias = torch.tensor(ours.bias, requires_grad=True)
    logits = torch.tensor(x) @ weight.T + bias
    loss = 3.0 * torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="sum") + weight.square().sum() / 2
    slopes = torch.autograd.grad(loss, [weight, bias])
    size = float(torch.sqrt(sum((s**2).sum() for s in slopes)))
    assert size < 1e-6 * max(1.0, np.linalg.norm(ours.weight)) * 1.01


def test_strengths_come_back_in_the_order_asked_for() -> None:
    x, y = correlated(100, 5, 3)
    together = fit_path(x, y, 3, [0.01, 10.0, 0.1], tolerance=1e-9)
    for inverse_penalty, ours in zip([0.01, 10.0, 0.1], together, strict=True):
        [alone] = fit_path(x, y, 3, [inverse_penalty], tolerance=1e-9)
        np.testing.assert_allclose(ours.weight, alone.weight, atol=1e-8)
    sizes = [np.linalg.norm(c.weight) for c in together]
    assert sizes[0] < sizes[2] < sizes[1]


def test_separable_classes_with_almost_no_penalty_are_fitted_without_error() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=90)
    x = 5 * np.eye(3)[y] + 0.1 * rng.standard_normal((90, 3))
    [ours] = fit_path(x, y, 3, [1e6])
    assert np.isfinite(ours.weight).all()
    assert (ours.predict(x) == y).all()


def test_features_that_are_constant_or_copies_change_no_prediction() -> None:
    x, y = correlated(120, 4, 3)
    [plain] = fit_path(x, y, 3, [0.1], tolerance=1e-9)
    [copied] = fit_path(np.c_[x / np.sqrt(2), x / np.sqrt(2), np.zeros(120)], y, 3, [0.1], tolerance=1e-9)
    np.testing.assert_allclose(
        copied.scores(np.c_[x / np.sqrt(2), x / np.sqrt(2), np.zeros(120)]), plain.scores(x), atol=1e-7
    )


@pytest.mark.parametrize("fit", [fit_path, lambda *a: fit_l1(*a)[0]], ids=["ridge", "l1"])
def test_a_class_without_examples_is_never_predicted(fit: object) -> None:
    x, y = correlated(100, 5, 2)
    [ours] = fit(x, 2 * y, 4, [1.0])  # type: ignore[operator]
    assert set(ours.predict(100 * x)) == {0, 2}


def test_two_classes_with_an_l1_penalty_are_liblinears() -> None:
    x, y = correlated(150, 10, 2)
    fits, unconverged = fit_l1(x, y, 2, [1.0, 0.05])
    for inverse_penalty, ours in zip([1.0, 0.05], fits, strict=True):
        theirs = liblinear(inverse_penalty).fit(x, y)
        np.testing.assert_allclose(ours.weight[1] - ours.weight[0], theirs.coef_[0])
        np.testing.assert_allclose(ours.bias[1] - ours.bias[0], theirs.intercept_[0])
        assert (ours.predict(x) == theirs.predict(x)).all()
    assert unconverged == 0
    assert (fits[1].weight == 0).sum() > (fits[0].weight == 0).sum()


def test_more_classes_with_an_l1_penalty_are_one_against_the_rest() -> None:
    from sklearn.multiclass import OneVsRestClassifier

    x, y = correlated(150, 10, 4)
    [ours], _ = fit_l1(x, y, 4, [0.3])
    theirs = OneVsRestClassifier(liblinear(0.3)).fit(x, y)
    np.testing.assert_allclose(ours.scores(x), theirs.decision_function(x), atol=1e-10)


def test_fits_that_end_at_the_limit_of_iterations_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partialmethod

    original = linear_model.LogisticRegression.__init__
    monkeypatch.setattr(linear_model.LogisticRegression, "__init__", partialmethod(original, max_iter=1))
    x, y = correlated(150, 10, 2)
    assert fit_l1(x, y, 2, [1.0, 10.0])[1] == 2


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"features": np.zeros((3, 2))}, r"features \(3, 2\)"),
        ({"features": np.full((4, 2), np.nan)}, "features contains"),
        ({"target": np.array([0, 1, 2, 1])}, r"target contains 0\.\.2"),
        ({"target": np.zeros(4, dtype=int)}, "target contains 1 class"),
        ({"inverse_penalties": []}, r"inverse_penalties=\(\)"),
        ({"inverse_penalties": [0.0]}, "inverse_penalties="),
        ({"sample_weight": np.array([1.0, -1, 1, 1])}, "sample_weight contains -1"),
    ],
    ids=[
        "lengths",
        "nan",
        "unknown class",
        "one class",
        "no penalty",
        "infinite penalty",
        "negative weight",
    ],
)
def test_bad_input_is_one_error_that_says_what_is_allowed(changed: dict[str, object], named: str) -> None:
    good: dict[str, object] = {
        "features": np.eye(4)[:, :2], "target": np.array([0, 1, 0, 1]), "classes": 2, "inverse_penalties": [1.0],
    }  # fmt: skip
    with pytest.raises(ValueError, match=named):
        fit_path(**{**good, **changed})  # type: ignore[arg-type]


def liblinear(inverse_penalty: float) -> linear_model.LogisticRegression:
    """The published protocol's classifier, in the words of whichever scikit-learn is installed."""
    old = linear_model.LogisticRegression().get_params().get("penalty") == "l2"
    penalty = {"penalty": "l1"} if old else {"l1_ratio": 1.0}
    return linear_model.LogisticRegression(C=inverse_penalty, solver="liblinear", random_state=0, **penalty)
