"""Probes on several readings of the feature maps, wide features in their principal axes, and log losses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from realdata.measures.linear_probe import LinearClassifier
from realdata.measures.principal_axes import PrincipalAxes
from realdata.measures.probe import probe
from realdata.measures.protocols import PROTOCOLS, READOUTS, Protocol, probe_options

torch = pytest.importorskip("torch")

from realdata.measures.evaluate import evaluate  # noqa: E402
from realdata.measures.extraction import extract  # noqa: E402
from realdata.models.build import build  # noqa: E402
from support.made_up_images import CONFIGURATION, QUICK, Measured, made_up  # noqa: E402
from support.toy_images import configuration, toy  # noqa: E402

MODELS = {
    "small_cnn": {"width": 4, "depth": 2}, "paper_cnn": {"width": 4}, "small_resnet": {"width": 4, "stages": 2},
    "resnet18": {"width": 4},
}  # fmt: skip
ALL = QUICK.replace(readouts=READOUTS)


@pytest.mark.parametrize("name", list(MODELS))
def test_readings_are_means_of_the_last_feature_maps(name: str) -> None:
    data = toy(height=32, width=16)
    made = configuration(model=name, model_options={**MODELS[name], "head": "flatten"})
    model = build(made, data).eval()
    found = extract(model, data, np.arange(7), batch_size=3, readouts=READOUTS)
    plain = extract(model, data, np.arange(7), batch_size=3)
    np.testing.assert_array_equal(found.features, plain.features)
    np.testing.assert_array_equal(found.logits, plain.logits)
    assert not plain.readouts
    channels = found.readouts["pooled"].shape[1]
    width = {"small_cnn": 4, "paper_cnn": 2, "small_resnet": 4, "resnet18": 2}[name]
    maps = found.features.reshape(7, channels, -1, width)
    half = maps.shape[2] // 2
    upper, lower = maps[:, :, :half].mean((2, 3)), maps[:, :, half:].mean((2, 3))
    expected = {"pooled": maps.mean((2, 3)), "upper": upper, "lower": lower, "placed": np.hstack([upper, lower])}
    for readout, values in expected.items():
        np.testing.assert_allclose(found.readouts[readout], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("head", "same"), [("pooled", "probe_pooled"), ("windows", "probe_placed"), ("flatten", None)])
def test_every_reading_is_probed_and_the_head_s_own_one_once(
    head: str, same: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from realdata.measures import evaluate as module

    probed: list[str] = []
    monkeypatch.setattr(
        module, "probe_attribute", lambda *a, _of=module.probe_attribute: probed.append(a[3]) or _of(*a)
    )
    data = toy(height=16)
    made = configuration(model_options={"width": 4, "depth": 2, "head": head})
    rows = evaluate(build(made, data).eval(), data, made, protocol=ALL, weights=False)
    assert {row["split"] for row in rows if row["split"].startswith("probe")} == {
        "probe", *(f"probe_{readout}" for readout in READOUTS)
    }  # fmt: skip
    assert len(probed) == 2 * (4 if same else 5)
    if same:
        of = {split: [{**row, "split": ""} for row in rows if row["split"] == split] for split in ("probe", same)}
        assert of["probe"] == of[same]


def test_networks_without_places_and_single_rows_of_places_have_fewer_readings() -> None:
    data = toy()
    plain = configuration(model="mlp", model_options={"width": 4})
    assert not extract(build(plain, data).eval(), data, np.arange(3), readouts=READOUTS).readouts
    flat = configuration(model_options={"width": 4, "depth": 3})
    assert list(extract(build(flat, data).eval(), data, np.arange(3), readouts=READOUTS).readouts) == ["pooled"]


def test_without_readouts_the_rows_are_those_of_before() -> None:
    assert PROTOCOLS["fast"].readouts == ()
    assert probe_options("fast", {"readouts": "pooled,lower"}) == {"readouts": ("pooled", "lower")}
    with pytest.raises(ValueError, match="readouts='places' is not known; allowed: pooled, placed, upper, lower"):
        Protocol(readouts=("places",))
    with pytest.raises(ValueError, match="final='fast' is not known; allowed: none, dfr"):
        Protocol(final="fast")


# Wide features.


def wide(n: int = 300, features: int = 700, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of which twelve directions carry everything but noise, and an attribute in them."""
    rng = np.random.default_rng(seed)
    attribute = rng.integers(3, size=n)
    hidden = rng.standard_normal((n, 12))
    hidden[np.arange(n), attribute] += 2.5
    mixed = hidden @ np.random.default_rng(9).standard_normal((12, features)) + 0.02 * rng.standard_normal(
        (n, features)
    )
    mixed[:, 5] = 3.0
    return (mixed * np.linspace(0.1, 9, features)).astype(np.float32), attribute


@pytest.mark.parametrize("n", [300, 900])
def test_principal_axes_keep_what_varies(n: int) -> None:
    x, _ = wide(n)
    axes = PrincipalAxes.of(x, 12)
    projected = axes.project(x)
    assert projected.shape == (n, 12)
    standard = (x - x.mean(0)) / np.where(x.std(0) > 1e-4, x.std(0), 1)
    total, held = (standard**2).sum(), (projected.astype(float) ** 2).sum()
    assert 0.998 < held / total <= 1.0001
    # Orthogonal axes: the projection preserves distances in the span.
    np.testing.assert_allclose(
        np.linalg.norm(projected[0] - projected[1]), np.linalg.norm(standard[0] - standard[1]), rtol=0.01
    )
    classifier = LinearClassifier(np.random.default_rng(1).standard_normal((3, 12)), np.array([0.1, 0.0, -0.3]))
    np.testing.assert_allclose(axes.lift(classifier).scores(x), classifier.scores(projected), rtol=1e-3, atol=2e-2)
    with pytest.raises(ValueError, match="not finite"):
        PrincipalAxes.of(np.full((4, 600), np.inf, np.float32), 2)


def test_a_probe_of_wide_features_finds_what_the_exact_one_finds() -> None:
    from realdata.measures.evaluate import probe_attributes

    x, attribute = wide(900)
    data = dataclasses.replace(made_up(900, 0, 0), hard=attribute, hard_names=("a", "b", "c"), easy=None, easy_names=())
    parts = {"fit": np.arange(500), "evaluate": np.arange(500, 900), "train": np.arange(0)}
    features = {name: x[rows] for name, rows in parts.items()}
    exact, projected = (
        probe_attributes(data, parts, features, QUICK.replace(axes=axes), 0)["hard"] for axes in (None, 256)
    )
    assert projected.classifier.weight.shape == (3, 700)
    assert abs(projected.error.value - exact.error.value) < 0.02
    assert projected.error.value < 0.3
    # The lifted classifier is in the units of the features.
    assert (projected.classifier.predict(x[500:]) == projected.predicted).mean() > 0.99


# Patience and log losses.


def test_patience_leaves_out_penalties_that_come_after_the_best() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=400)
    x = np.c_[y + rng.standard_normal(400), rng.standard_normal((400, 60))]
    grid = (10.0, 1.0, 0.1, 0.01, 0.001)
    tried = [
        probe(x[:200], y[:200], y[:200], x[200:], y[200:], y[200:], Protocol(inverse_penalties=grid, patience=patience))
        for patience in (None, 1)
    ]
    assert set(tried[0].tuning) == set(grid)
    chosen = tried[0].inverse_penalty
    assert chosen < 10
    assert set(tried[1].tuning) == {c for c in grid if c <= chosen} | {min(c for c in grid if c > chosen)}
    assert tried[0].error == tried[1].error
    assert all(tried[1].tuning[c] == pytest.approx(tried[0].tuning[c]) for c in tried[1].tuning)


def test_log_losses_are_those_of_the_probe(tmp_path: object) -> None:
    data = made_up()
    model = build(CONFIGURATION, data).eval()
    measured = Measured(data, model, evaluate(model, data, CONFIGURATION, protocol=QUICK, weights=False))
    from realdata.datasets.base import EVALUATE, FIT
    from realdata.measures.evaluate import probe_attributes

    parts = {"fit": data.probe_rows(FIT), "evaluate": data.probe_rows(EVALUATE), "train": np.arange(0)}
    features = {name: extract(model, data, rows).features for name, rows in parts.items()}
    found = probe_attributes(data, parts, features, QUICK, 0)["hard"]
    scores = torch.as_tensor(found.classifier.scores(features["evaluate"]))
    target = torch.as_tensor(data.hard[parts["evaluate"]])
    losses = torch.nn.functional.cross_entropy(scores, target, reduction="none").numpy()
    assert measured.value("probing_log_loss", "hard") == pytest.approx(losses.mean())
    groups = [losses[data.group[parts["evaluate"]] == g].mean() for g in range(4)]
    assert measured.value("group_probing_log_loss", "hard", "truck, zero") == pytest.approx(groups[2])
    assert measured.value("mean_group_probing_log_loss", "hard") == pytest.approx(np.mean(groups))


def test_a_final_checkpoint_can_be_probed_by_the_published_protocol_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from realdata.measures import evaluate as module

    small = PROTOCOLS["dfr"].replace(inverse_penalties=(1.0, 0.1), repeats=2)
    monkeypatch.setitem(module.PROTOCOLS, "dfr", small)
    data = made_up()
    model = build(CONFIGURATION, data).eval()
    kind = dataclasses.make_dataclass("Checkpoint", ["name", "training_loss"])
    both, other = (
        evaluate(model, data, CONFIGURATION, kind(name, 0.5), protocol=QUICK.replace(final="dfr"), weights=False)
        for name in ("final", "loss-0.1")
    )
    exact = evaluate(model, data, CONFIGURATION, protocol=small.replace(draws=50, train_examples=100), weights=False)
    assert [row for row in both if row["split"] != "probe_dfr"] == other
    assert [{**row, "split": "probe"} for row in both if row["split"] == "probe_dfr"] == [
        row for row in exact if row["split"] == "probe"
    ]
