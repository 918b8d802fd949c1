"""Data of one's own: tables of groups and samples with any number of features, from the sweep to the map."""

from __future__ import annotations

import numpy as np
import pytest

from toymodels import Diagram, FeatureData, Report, diagram_sweep, groups, network, rule, share_at_level, simulate
from toymodels.prediction import boundaries, predict
from toymodels.sweep import Sweep

FOUR = groups([("all", 1, 1, 1, 1, 1)], strengths=(2.0, 1.5, 1.0, 0.7))


def samples(count: int = 40, features: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and features of falling strength that agree with them up to noise."""
    rng = np.random.default_rng(1)
    y = np.sign(rng.standard_normal(count))
    size = 2.0 ** -np.arange(features)
    return y[:, None] * size + 0.3 * size * rng.standard_normal((count, features)), y


# --- tables and samples -----------------------------------------------------------------------------------------------


def test_samples_are_trained_on_as_they_are() -> None:
    X, y = samples()
    data = FeatureData.from_samples(X, y)
    table = data.atoms()
    assert data.features == ("easy", "hard", "feature_3")
    assert table.weights.sum() == pytest.approx(1)
    rebuilt = table.labels[:, None] * table.signs * np.array(data.strengths)
    np.testing.assert_allclose(np.sort(rebuilt, axis=0), np.sort(X, axis=0))
    # One step of gradient descent from the engine is the one of the loss of X and y.
    sweep = Sweep(data=data, rule="gd", values={"steps": 1, "jitter": 0.0, "eta": 0.1, "init": 0.4}, seeds=1)
    found = simulate(sweep, engine="reference", precision="float64")["coefficient"].values[0]
    margin = y * (X @ np.full(3, 0.16))
    drive = (y[:, None] * X / (1 + np.exp(margin))[:, None]).mean(0)
    # The engine's coefficients are in 1/feature, with features in units of their strength.
    np.testing.assert_allclose(found, (0.4 + 0.1 * drive * 0.4) ** 2, rtol=1e-12)


def test_equal_samples_become_one_of_their_joint_weight_and_columns_can_be_chosen() -> None:
    data = FeatureData.from_samples([[1, 2, 5], [1, 2, 5], [-1, -2, 5]], [True, True, False], [1, 1, 2], easy=2, hard=1)
    assert data.strengths == pytest.approx((5.0, 2.0, 1.0))
    table = data.atoms()
    assert table.weights.tolist() == [0.5, 0.5]
    assert table.labels.tolist() == [-1.0, 1.0]
    assert table.signs.tolist() == [[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert not table.symmetric


@pytest.mark.parametrize("data", [FOUR, FeatureData.from_samples(*samples())], ids=["groups", "samples"])
def test_a_stored_configuration_of_own_data_gives_the_same_runs(data: FeatureData) -> None:
    sweep = Sweep(data=data, axes={"rho": [0.0, 0.2]}, values={"steps": 30}, seeds=2)
    again = Sweep.from_config(sweep.config())
    assert again.data == data
    assert again.strengths().tolist() == sweep.strengths().tolist()
    one, other = (simulate(each, engine="reference") for each in (sweep, again))
    np.testing.assert_array_equal(one["coefficient"].values, other["coefficient"].values)
    assert list(one["feature"].values) == list(data.features)


def test_parameters_replace_the_first_two_strengths_only() -> None:
    sweep = Sweep(data=FOUR, axes={"mu_easy": [2.0, 3.0]}, values={"ratio": 0.5}, seeds=1)
    np.testing.assert_allclose(sweep.strengths(), [[2.0, 1.0, 1.0, 0.7], [3.0, 1.5, 1.0, 0.7]])


BAD = {
    "no signs": (lambda: groups([("a", 1, 1)]), "a name, a weight and at least two signs"),
    "unequal rows": (lambda: groups([("a", 1, 1, 1), ("b", 1, 1, 1, 1)]), r"rows have \[2, 3\] signs"),
    "not numbers": (lambda: groups([("a", 1, "x", 1)]), r"groups row \('a', 1, 'x', 1\); allowed"),
    "weights": (lambda: groups([("a", 0.5, 1, 1), ("b", 0.4, 1, 1)]), r"sum to 0\.9; allowed: weights that sum to 1"),
    "no strengths": (lambda: groups([("a", 1, 1, 1, 1)]), r"strengths=\[\] for 3 features"),
    "few strengths": (lambda: groups([("a", 1, 1, 1, 1)], (2, 1)), "for 3 features"),
    "negative strength": (lambda: groups([("a", 1, 1, 1)], (2, -1)), "strengths=.*finite numbers > 0"),
    "bare kind": (lambda: FeatureData("groups"), r"data='groups' without a table; allowed: groups\(table\)"),
    "X of one dimension": (lambda: FeatureData.from_samples([1, 2], [1, 1]), r"X has shape \(2,\)"),
    "X of text": (lambda: FeatureData.from_samples([["a", "b"]], [1]), "X=.*is not numeric"),
    "NaN": (lambda: FeatureData.from_samples([[1, np.nan]], [1]), "X holds NaN"),
    "y too short": (lambda: FeatureData.from_samples([[1, 2], [3, 4]], [1]), r"y has shape \(1,\)"),
    "three classes": (lambda: FeatureData.from_samples([[1, 2], [3, 4], [1, 1]], [0, 1, 2]), "y holds 0; allowed: two"),
    "weights of samples": (lambda: FeatureData.from_samples([[1, 2]], [1], [-1]), "sample_weight; allowed"),
    "column": (lambda: FeatureData.from_samples([[1, 2]], [1], easy=2), "easy=2; allowed: a column of X, 0 to 1"),
    "one column": (lambda: FeatureData.from_samples([[1, 2]], [1], easy=1), "easy=1 and hard=1 are one column"),
    "zero column": (lambda: FeatureData.from_samples([[1, 0]], [1]), "only zeros in column 1"),
    "weak easy": (lambda: Sweep(data=FeatureData.from_samples([[1, 2]], [1])), "mu_hard=2 exceeds mu_easy=1"),
    "patches": (lambda: Sweep(data=FOUR, network="patches"), "4 features: a patches network has two patterns"),
    "probe": (lambda: Sweep(data=FOUR, probe_noise=0.1), "4 features: the probe knows two attributes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused_by_name(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make()


# --- theory -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def map_of_four() -> Report:
    sweep = diagram_sweep(
        x=("rho", np.linspace(0.0, 1.2, 9)), y=("init", np.linspace(0.1, 0.6, 7)), values={"eta": 0.04, "steps": 1500},
        network=network("diagonal"), data=FOUR, rule=rule("sam"), seeds=1,
    )  # fmt: skip
    return Report.of(Diagram.simulate(sweep, engine="reference"), "phase", 0.1)


def test_a_map_of_four_features_has_the_filter_laws_lines(map_of_four: Report) -> None:
    lines = {line.key: line for line in map_of_four.boundaries}
    assert {key: line.claim for key, line in lines.items()} == {
        "collapse": "C22", "n_star": "C7", "share_0.4": "C22", "share_0.5": "C22", "share_0.6": "C22",
    }  # fmt: skip
    errors = dict(zip(lines, map_of_four.boundary_errors, strict=True))
    assert all(error is not None and error < 0.5 for error in errors.values()), errors
    assert map_of_four.agreement.share > 0.98
    assert len({int(phase) for phase in map_of_four.phases.reshape(-1)}) >= 3, "the map shows something"


@pytest.mark.parametrize("name", ["diagonal", "linear"])
def test_own_samples_follow_their_flow(name: str) -> None:
    sweep = Sweep(
        data=FeatureData.from_samples(*samples(12)), network=name, axes={"rho": [0.0, 0.1, 0.2]},
        values={"init": 0.3, "jitter": 0.0, "eta": 0.01, "steps": 4000, "width": 6}, seeds=2, loss_levels=(0.2,),
    )  # fmt: skip
    found = share_at_level(simulate(sweep, precision="float64"), sweep, 0.2).reshape(-1)
    flow = predict(sweep, 0.2)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, flow.share, atol=0.01)
    assert np.ptp(found) > 0.005, "radius or seed matters"


def test_two_given_strengths_are_those_of_the_parameters() -> None:
    values = {"mu_easy": 2.0, "mu_hard": 1.0}
    table = [("all", 1, 1, 1)]
    sweeps = [
        Sweep(data=data, values=more, axes={"rho": [0.1, 0.5, 0.9], "init": [0.2, 0.4]}, seeds=1)
        for data, more in ((groups(table, (2, 1)), {}), (groups(table), values), ("redundant", values))
    ]
    fields = [[line.field for line in boundaries(each, predict(each, 0.1), 0.1)] for each in sweeps]
    for other in fields[1:]:
        for mine, theirs in zip(fields[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
