"""An evaluation measures what its rows say, on the images they say, and leaves the network as it was."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from realdata.configuration import METHODS, SAM_OPTIONS
from realdata.datasets.base import EVALUATE, FIT, TEST, TRAIN, UNUSED
from realdata.measures.evaluate import evaluate
from realdata.measures.phantom import PHANTOMS, Phantom, batch_logits, phantom_logits
from realdata.measures.probe import probe
from realdata.measures.protocols import PROTOCOLS

torch = pytest.importorskip("torch")

from realdata.measures.extraction import batches_of, extract  # noqa: E402
from support.made_up_images import CONFIGURATION, QUICK, Measured, made_up, trained  # noqa: E402


@pytest.fixture(scope="module")
def measured() -> Measured:
    data = made_up()
    model = trained(data)
    return Measured(data, model, evaluate(model, data, CONFIGURATION, protocol=QUICK))


def test_rows_are_unique_valid_json_and_complete(measured: Measured) -> None:
    json.dumps(measured.rows, allow_nan=False)
    names = [(r["split"], r["metric"], r["attribute"], r["group"]) for r in measured.rows]
    assert len(set(names)) == len(names)
    assert all(set(r) == {"split", "metric", "attribute", "group", "value", "low", "high", "n"} for r in measured.rows)
    for r in measured.rows:
        if r["low"] is not None:
            assert r["low"] <= r["value"] <= r["high"]


def test_accuracies_and_loss_are_those_of_the_network(measured: Measured) -> None:
    data = measured.data
    rows = data.rows(TEST)
    [inputs] = batches_of(data, rows, len(rows), measured.model)
    with torch.no_grad():
        logits = measured.model(inputs)
    label = torch.as_tensor(data.label[rows])
    right = (logits.argmax(1) == label).numpy()
    groups = [right[data.group[rows] == g].mean() for g in range(4)]
    assert measured.value("accuracy", split="test") == pytest.approx(right.mean())
    assert measured.value("mean_group_accuracy", split="test") == pytest.approx(np.mean(groups))
    assert measured.value("worst_group_accuracy", split="test") == pytest.approx(min(groups))
    # In training only the groups exist in which the attributes agree.
    share = np.bincount(data.group[data.rows(TRAIN)], minlength=4) / len(data.rows(TRAIN))
    assert measured.value("adjusted_accuracy", split="test") == pytest.approx(share @ groups)
    assert measured.value("group_accuracy", group="truck, zero", split="test") == pytest.approx(groups[2])
    loss = float(torch.nn.functional.cross_entropy(logits, label))
    assert measured.value("loss", split="test") == pytest.approx(loss, rel=1e-5)


def test_the_probe_reads_the_bright_attribute_better_than_the_faint_one(measured: Measured) -> None:
    assert measured.value("probing_error", "easy") < 0.05
    assert measured.value("probing_error", "hard") > 0.2


def test_probing_errors_are_those_of_the_probe_on_its_own_images(measured: Measured) -> None:
    data = measured.data
    parts = [data.probe_rows(FIT), data.probe_rows(EVALUATE)]
    features = [extract(measured.model, data, rows).features for rows in parts]
    group = data.attribute_group
    found = probe(
        features[0], data.hard[parts[0]], group[parts[0]], features[1], data.hard[parts[1]], group[parts[1]], QUICK
    )
    assert measured.value("probing_error", "hard") == found.error.value
    assert measured.value("worst_group_probing_error", "hard") == found.worst_group_error.value
    assert measured.value("probe_strength", "hard") == found.inverse_penalty
    assert measured.value("group_probing_error", "hard", "car, one") == found.group_errors[1].value


def test_the_training_loss_of_the_checkpoint_is_passed_on(measured: Measured) -> None:
    checkpoint = dataclasses.make_dataclass("Checkpoint", ["training_loss"])(0.123)
    rows = evaluate(measured.model, measured.data, CONFIGURATION, checkpoint, protocol=QUICK)  # type: ignore[arg-type]
    assert [r["value"] for r in rows if r["metric"] == "training_loss"] == [0.123]


def test_the_full_protocol_runs_and_agrees() -> None:
    data = made_up(validation=400, test=400)
    model = trained(data, steps=10)
    dfr = PROTOCOLS["dfr"].replace(inverse_penalties=(1.0, 0.1), repeats=5, draws=50)
    fast, full = (Measured(data, model, evaluate(model, data, CONFIGURATION, protocol=p)) for p in ("fast", dfr))
    # Same images, two estimates of one border: they differ by far less than the binomial deviation of 0.025.
    assert abs(fast.value("probing_error", "hard") - full.value("probing_error", "hard")) < 0.05


@pytest.mark.parametrize("model_name", ["mlp", "small_cnn"])
@pytest.mark.parametrize("training", [True, False], ids=["was training", "was evaluating"])
def test_the_network_is_the_same_afterwards(model_name: str, training: bool) -> None:
    data = made_up()
    options = {"depth": 2, "width": 4, "norm": "batch"} if model_name == "small_cnn" else {"width": 5}
    configuration = CONFIGURATION.replace(model=model_name, model_options=options)
    model = trained(data, 2, configuration)
    model.train(training)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, data, configuration, protocol=QUICK)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.training == training
    assert all(bool((p.grad == 7).all()) for p in model.parameters())


def test_lsam_has_the_same_phantom_point_by_law_and_by_perturbed_forward_pass(measured: Measured) -> None:
    configuration = CONFIGURATION.replace(method="lsam", rho=0.4)
    found = Measured(
        measured.data, measured.model, evaluate(measured.model, measured.data, configuration, protocol=QUICK)
    )
    assert found.value("phantom_rho") == 0.4
    # The pass is in single precision, the law in double: rounding of logits of order 1 to 10.
    for metric in ("gini", "mean_weight", "weight_logit"):
        group = "" if metric == "gini" else "truck, one"
        by_pass, by_law = (
            found.value(f"{metric}_phantom", group=group),
            found.value(f"{metric}_last_layer", group=group),
        )
        assert by_pass == pytest.approx(by_law, rel=1e-4)
        assert abs(by_pass - found.value(f"{metric}_real", group=group)) > 1e-2 * abs(by_pass)


@pytest.mark.parametrize("method", METHODS)
def test_the_phantom_point_is_that_of_the_optimizer(method: str) -> None:
    from kernels import SAM

    data = made_up(train=60)
    model = trained(data, steps=5)
    rows, rho = data.rows(TRAIN), 0.2
    label = torch.as_tensor(data.label[rows])
    [inputs] = batches_of(data, rows, len(rows), model)
    chosen = PHANTOMS[method]
    phantom = Phantom(chosen.norm, chosen.perturb, rho)
    ours = batch_logits(model, inputs, data.label[rows], phantom)
    seen = []
    # What training does; plain training has the phantom point of SAM.
    optimizer = SAM(model, torch.optim.SGD, rho=rho, lr=0.0, **SAM_OPTIONS.get(method, {}))

    def closure() -> Any:
        logits = model(inputs)
        seen.append(logits.detach().double().numpy())
        loss = torch.nn.functional.cross_entropy(logits, label)
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(ours, seen[1], rtol=1e-5, atol=1e-5)
    assert np.abs(seen[1] - seen[0]).max() > 0.01


def test_each_batch_of_a_network_has_a_phantom_point_of_its_own() -> None:
    data = made_up(train=70)
    model = trained(data, steps=5)
    rows = data.rows(TRAIN)
    together = phantom_logits(model, data, rows, Phantom(rho=0.3), 32)
    alone = phantom_logits(model, data, rows[32:64], Phantom(rho=0.3), 32)
    np.testing.assert_allclose(together[32:64], alone, rtol=1e-6, atol=1e-6)
    assert np.abs(together - phantom_logits(model, data, rows, Phantom(rho=0.3), 70)).max() > 1e-3


def test_the_lorenz_curve_is_convex_below_the_diagonal_and_has_the_gini_coefficient(measured: Measured) -> None:
    curve = [r for r in measured.rows if r["metric"] == "lorenz_real"]
    share = np.array([0.0, *(float(r["group"]) for r in curve), 1.0])
    height = np.array([0.0, *(r["value"] for r in curve), 1.0])
    assert (height <= share).all()
    assert (np.diff(height, 2) >= -1e-12).all()
    area = np.trapezoid(height, share) if hasattr(np, "trapezoid") else np.trapz(height, share)  # noqa: NPY201
    # The trapezoid on 20 pieces misses little of a smooth curve.
    assert 1 - 2 * area == pytest.approx(measured.value("gini_real"), abs=0.02)


def test_a_target_environment_has_no_adjusted_accuracy_and_says_so() -> None:
    data = made_up()
    moved = dataclasses.replace(
        data, easy=None, easy_names=(), group=data.label + 2 * (data.split == TEST),
        group_names=("source, car", "source, truck", "target, car", "target, truck"),
    )  # fmt: skip
    model = trained(moved, steps=5)
    found = Measured(moved, model, evaluate(model, moved, CONFIGURATION, protocol=QUICK))
    [row] = [r for r in found.rows if (r["split"], r["metric"]) == ("test", "adjusted_accuracy")]
    assert (row["value"], row["n"]) == (None, 0)
    [empty] = [r for r in found.rows if r["metric"] == "group_accuracy" and r["group"] == "target, car"
               and r["split"] == "validation"]  # fmt: skip
    assert (empty["value"], empty["n"]) == (None, 0)
    assert {r["attribute"] for r in found.rows} == {"", "hard"}


def test_all_runs_are_measured_on_the_same_training_images() -> None:
    data = made_up()
    seeds = [evaluate(trained(data, 1), data, CONFIGURATION.replace(seed=s), protocol=QUICK, seed=3) for s in (0, 0, 1)]
    assert seeds[0] == seeds[1]
    counts = [[r["n"] for r in rows if r["metric"] == "mean_weight_real"] for rows in seeds]
    assert counts[0] == counts[2]


def test_data_without_images_for_the_probe_are_refused() -> None:
    data = made_up()
    bare = dataclasses.replace(data, probe_split=np.full(len(data), UNUSED, dtype=np.int8))
    with pytest.raises(ValueError, match="Made up has no images to fit a probe on"):
        evaluate(trained(data, 1), bare, CONFIGURATION, protocol=QUICK)


def test_the_adjusted_loss_weights_groups_as_training_does() -> None:
    """Groups with mean losses 1 and 3; nine of ten training images are of the first; a third is not measured."""
    from realdata.measures.evaluate import adjusted_loss

    losses, group = np.array([0.5, 1.5, 3.0]), np.array([0, 0, 1])
    assert adjusted_loss(losses, group, np.array([9, 1, 5])) == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert adjusted_loss(losses, group, np.array([0, 0, 5])) is None
