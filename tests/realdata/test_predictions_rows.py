"""What the predictions need to be told of the data and the network: association of the attributes, collapse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from realdata.datasets.base import TRAIN
from realdata.measures.evaluate import cramers_v, evaluate
from support.made_up_images import CONFIGURATION, QUICK, Measured, made_up, trained

torch = pytest.importorskip("torch")


def test_association_is_one_where_the_attributes_agree_and_less_where_they_do_not() -> None:
    data = made_up()
    model = trained(data, 1)
    assert Measured(data, model, evaluate(model, data, CONFIGURATION, protocol=QUICK)).value(
        "easy_association", "easy"
    ) == pytest.approx(1.0)
    train = data.rows(TRAIN)
    easy = data.easy.copy()  # type: ignore[union-attr]
    easy[train[:50]] = 1 - easy[train[:50]]
    mixed = dataclasses.replace(data, easy=easy)
    found = Measured(mixed, model, evaluate(model, mixed, CONFIGURATION, protocol=QUICK))
    # Of two binary attributes, V is the absolute correlation, of the training images alone.
    expected = abs(np.corrcoef(data.label[train], easy[train])[0, 1])
    assert found.value("easy_association", "easy") == pytest.approx(expected)
    assert 0.3 < expected < 0.7


def test_an_attribute_that_does_not_vary_has_no_association() -> None:
    assert cramers_v(np.array([[3.0, 0.0], [5.0, 0.0]])) is None
    assert cramers_v(np.array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 4.0]])) == pytest.approx(1.0)
    assert cramers_v(np.full((2, 3), 4.0)) == pytest.approx(0.0)


def test_a_network_that_predicts_one_class_is_seen() -> None:
    data = made_up()
    model = trained(data)
    share = Measured(data, model, evaluate(model, data, CONFIGURATION, protocol=QUICK)).value(
        "most_predicted_share", split="train"
    )
    assert 0.5 <= share < 0.7
    with torch.no_grad():
        model.head.weight.zero_()
    collapsed = Measured(data, model, evaluate(model, data, CONFIGURATION, protocol=QUICK))
    assert collapsed.value("most_predicted_share", split="train") == 1.0
