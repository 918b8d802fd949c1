"""Metrics of one function, and maps in figures of one's own."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from toymodels import Diagram, Report, diagram_sweep, map_metric, network, redundant, rule
from toymodels.phase_diagram import own_metrics
from toymodels.phase_diagram.own_metrics import OWN_METRICS


@pytest.fixture(scope="module")
def diagram() -> Diagram:
    sweep = diagram_sweep(
        x=("rho", [0.0, 0.3, 0.6]), y=("ratio", [0.3, 0.6]), values={"steps": 400, "eta": 0.1},
        network=network("diagonal"), data=redundant(), rule=rule("sam"), seeds=2,
    )  # fmt: skip
    return Diagram.simulate(sweep, engine="reference")


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_metrics, "OWN_METRICS", OWN_METRICS)
    for name in list(OWN_METRICS):
        monkeypatch.delitem(OWN_METRICS, name)


def test_one_function_is_a_metric(diagram: Diagram) -> None:
    @map_metric("easy", "Easy coefficient", limits=(0.0, 3.0))
    def easy(given: Diagram, level: float) -> np.ndarray:
        assert level == 0.1
        return given.dataset["coefficient"].values[..., 0]

    report = Report.of(diagram, "easy", 0.1)
    assert report.summary(0.0)["metric"] == "easy"
    np.testing.assert_allclose(
        diagram.values("easy", 0.1), diagram.dataset["coefficient"].values[..., 0].mean(-1), rtol=1e-12
    )
    labels = [axes.get_ylabel() for axes in report.figure().axes]
    assert "Easy coefficient" in labels, "the colour bar"


def test_a_metric_may_have_one_value_a_cell_and_no_other_shape(diagram: Diagram) -> None:
    map_metric("cell", "a cell")(lambda given, level: np.full(given.sweep.shape[:-1], level))
    assert (diagram.values("cell", 0.2) == 0.2).all()
    map_metric("cell", "a cell")(lambda given, level: np.zeros(5))
    with pytest.raises(ValueError, match=r"returned shape \(5,\); allowed: \(2, 3, 2\) or \(2, 3\)"):
        diagram.values("cell", 0.2)


def test_names_that_are_taken_or_unknown_are_refused(diagram: Diagram) -> None:
    with pytest.raises(ValueError, match="name='steps'; allowed: a name other than"):
        map_metric("steps", "mine")
    with pytest.raises(ValueError, match="metric='mine' is not known"):
        Report.of(diagram, "mine", 0.1)


@pytest.mark.parametrize("metric", ["phase", "hard_share"])
def test_a_map_is_drawn_into_axes_of_ones_own(diagram: Diagram, metric: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert Report.of(diagram, metric, 0.1).figure(ax=left) is figure
    assert left.collections
    assert "Diagonal network" in left.get_title()
    assert not right.collections
    assert figure.get_suptitle() == ""


def test_the_example_runs() -> None:
    assert doctest.testmod(own_metrics).failed == 0
