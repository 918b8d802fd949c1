"""Rows of the toy's quantities: what is there, what is absent, and R4's gaps by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from realdata.configuration import RunConfiguration
from realdata.datasets.base import EVALUATE, FIT, TRAIN, UNUSED
from realdata.measures.evaluate import evaluate
from realdata.measures.example_weights import weight_logits
from realdata.measures.rows import Row

torch = pytest.importorskip("torch")

from realdata.measures.extraction import extract  # noqa: E402
from tests.realdata.test_evaluate import CONFIGURATION, QUICK, made_up, trained  # noqa: E402

OF_FEATURE = {"mu", "drive", "response_v", "response_w", "imbalance", "chi_v", "chi_w"}
OF_NETWORK = {
    "gradient_norm",
    "mean_weight_all",
    "gradient_scale",
    "gradient_share",
    "drive_cosine",
    "direction_cosine",
}


LINEAR = CONFIGURATION.replace(model="linear", model_options={})


def rows_of(data: Any, network: Any = None, configuration: RunConfiguration = CONFIGURATION) -> list[Row]:
    return evaluate(network or trained(data, 10, configuration), data, configuration, protocol=QUICK)


def named(rows: list[Row], attribute: str, split: str) -> dict[str, float]:
    return {r["metric"]: r["value"] for r in rows if (r["attribute"], r["split"]) == (attribute, split)}


def test_both_attributes_are_measured_on_training_batches() -> None:
    rows = rows_of(made_up())
    for attribute in ("easy", "hard"):
        found = named(rows, attribute, "train")
        assert found.keys() >= OF_FEATURE
        assert found["drive"] > 0
        assert found["mu"] * named(rows, "", "train")["mean_weight_all"] == pytest.approx(found["drive"])
    whole = named(rows, "", "train")
    assert whole.keys() >= OF_NETWORK
    assert whole["gradient_scale"] == pytest.approx(whole["gradient_norm"] / whole["mean_weight_all"])
    [n] = {r["n"] for r in rows if r["metric"] == "gradient_scale"}
    assert n == 2 * CONFIGURATION.batch_size


def test_the_gradient_norm_is_that_of_the_runs_batches() -> None:
    from realdata.measures.extraction import batches_of

    data = made_up()
    model = trained(data, 10)
    rows = np.random.default_rng([0, 0]).permutation(data.rows(TRAIN))[: QUICK.train_examples][:64]
    norms = []
    for start in (0, 32):
        chosen = rows[start : start + 32]
        [inputs] = batches_of(data, chosen, 32, model)
        loss = torch.nn.functional.cross_entropy(model(inputs), torch.as_tensor(data.label[chosen]))
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        norms.append(float(torch.sqrt(sum((s**2).sum() for s in slopes))))
    assert named(rows_of(data, model), "", "train")["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-5)


def test_gaps_are_those_of_the_held_out_images() -> None:
    data = made_up()
    model = trained(data, 10)
    rows = rows_of(data, model)
    held_out = data.probe_rows(EVALUATE)
    logit = weight_logits(extract(model, data, held_out).logits, data.label[held_out])
    label, easy = data.label[held_out], data.easy[held_out]
    for y, name in enumerate(data.label_names):
        expected = logit[(label == y) & (easy != y)].mean() - logit[(label == y) & (easy == y)].mean()
        found = {r["metric"]: r["value"] for r in rows if (r["split"], r["group"]) == ("evaluate", f"label={name}")}
        assert found["weight_logit_gap_real"] == pytest.approx(expected, rel=1e-5)
        assert found["weight_logit_gap_real"] > 0
        # The easy attribute is learned and suppressed: both phantom points bring the values together.
        assert found["weight_logit_gap_last_layer"] < found["weight_logit_gap_real"]
        assert found["weight_logit_gap_phantom"] < found["weight_logit_gap_real"]
        assert 0 < found["easy_suppression_last_layer"] < 1


def test_the_change_at_the_phantom_point_is_the_same_on_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random half of 160 images: the gap itself would be off by far more than its change is."""
    data = made_up()
    model = trained(data, 10)

    def change() -> list[float]:
        rows = {(r["metric"], r["group"]): r["value"] for r in rows_of(data, model)}
        gap = "weight_logit_gap"
        return [rows[f"{gap}_phantom", f"label={y}"] / rows[f"{gap}_real", f"label={y}"] for y in data.label_names]

    full = change()
    monkeypatch.setattr("realdata.measures.toy_quantity_rows.PHANTOM_IMAGES", 80)
    assert change() == pytest.approx(full, abs=0.02)
    assert change() != full


def test_the_last_layers_gap_is_the_suppressed_one_where_the_features_are_the_attributes() -> None:
    """C11 for the last layer: features that are the easy direction and the hard one, noise-free."""
    data = made_up()
    plain = data.images.copy()
    plain[:, :, :, :4] = (100 + 60 * data.easy)[:, None, None, None]
    plain[:, :, :, 4:] = (120 + 20 * data.hard)[:, None, None, None]
    data = dataclasses.replace(data, images=plain)
    rows = rows_of(data, configuration=LINEAR.replace(rho=0.2, method="lsam"))
    for name in data.label_names:
        found = {r["metric"]: r["value"] for r in rows if r["group"] == f"label={name}"}
        drop = found["weight_logit_gap_real"] - found["weight_logit_gap_last_layer"]
        predicted = (1 - found["easy_suppression_last_layer"]) * found["weight_logit_gap_real"]
        assert drop == pytest.approx(predicted, rel=1e-3)
        assert drop > 0.05


def test_what_there_is_not_has_no_rows() -> None:
    data = made_up()
    no_easy = dataclasses.replace(data, easy=None, easy_names=(), group=data.label, group_names=data.label_names)
    rows = rows_of(no_easy)
    assert named(rows, "", "evaluate") == {}
    assert named(rows, "hard", "train").keys() >= OF_FEATURE
    assert not named(rows, "", "train").keys() & {"direction_cosine", "drive_cosine"}
    three = dataclasses.replace(data, label_names=("car", "truck", "boat"))
    assert not {r["metric"] for r in rows_of(three)} & (OF_FEATURE | OF_NETWORK)
    only = dataclasses.replace(data, easy=np.where(data.probe_split == EVALUATE, data.label, data.easy))
    assert named(rows_of(only), "", "evaluate") == {}
    kept = (data.probe_split == FIT) | (data.easy == 1) | (data.label == 1)
    one = dataclasses.replace(data, probe_split=np.where(kept, data.probe_split, UNUSED).astype(np.int8))
    groups = {r["group"] for r in rows_of(one) if r["split"] == "evaluate"}
    assert groups == {"label=truck"}


def test_a_network_without_a_trained_body_has_no_strengths() -> None:
    rows = rows_of(made_up(), configuration=LINEAR)
    assert not named(rows, "easy", "train").keys() & {"mu", "drive", "response_w", "imbalance", "chi_w"}
    assert named(rows, "easy", "train").keys() >= {"response_v", "chi_v"}
    assert all(r["value"] is not None for r in rows if r["metric"] in OF_FEATURE | OF_NETWORK)


def test_a_dead_network_has_no_rows_and_no_error() -> None:
    data = made_up()
    model = trained(data, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    rows = rows_of(data, model)
    assert not {r["metric"] for r in rows} & OF_FEATURE
