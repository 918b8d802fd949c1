"""Networks that were trained elsewhere are measured with their own head and weights, and nothing of them changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from realdata import __main__ as entry  # noqa: E402
from realdata import extract, probe_network  # noqa: E402
from realdata.configuration import RunConfiguration  # noqa: E402
from realdata.datasets.batches import Normalization  # noqa: E402
from realdata.measures.evaluate import evaluate  # noqa: E402
from realdata.measures.own_network import part_of  # noqa: E402
from realdata.models.build import build  # noqa: E402
from realdata.models.own import from_checkpoint, read_state, wrap  # noqa: E402
from support import standins  # noqa: E402
from support.toy_images import toy  # noqa: E402

FACTORY = """
from torch import nn
def build(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
def softmax(classes):
    return nn.Sequential(build(classes), nn.Softmax(1))
"""


def plain(classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def test_a_plain_network_gets_the_rows_of_one_of_ours() -> None:
    """The same weights as a network of ours: the same numbers, and neither weights nor mode change."""
    data = toy()
    configuration = RunConfiguration(
        "toy", model="small_cnn", model_options={"width": 4, "depth": 1}, method="sam", rho=0.05
    )
    ours = build(configuration, data).eval()
    theirs = nn.Sequential(*ours.body, ours.head).train()
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    rows = probe_network(theirs, data, rho=0.05)
    assert rows == evaluate(ours, data, configuration)
    assert theirs.training
    assert all(torch.equal(before[name], value) for name, value in theirs.state_dict().items())
    measured = {(row["split"], row["metric"], row["attribute"]) for row in rows}
    assert {
        ("probe", "probing_error", "hard"),
        ("train", "gini_phantom", ""),
        ("test", "worst_group_accuracy", ""),
    } <= measured


def test_features_are_what_the_head_is_given() -> None:
    data, network = toy(), plain().eval()
    found = extract(network, data, np.arange(10))
    inputs = Normalization(data, torch.device("cpu"))(torch.from_numpy(data.images[:10]))
    with torch.no_grad():
        assert np.allclose(found.features, network[:-1](inputs), atol=1e-5)
        assert np.allclose(found.logits, network(inputs), atol=1e-5)


def test_a_part_of_the_images_is_drawn_from_every_split() -> None:
    data = toy()
    some = part_of(data, 9, seed=1)
    assert [len(some.rows(code)) for code in range(3)] == [9, 9, 9]
    assert set(some.rows(0)) <= set(data.rows(0))
    assert probe_network(plain(), data, images=12)


@pytest.mark.parametrize("form", ["plain", "state_dict", "module", "lightning"])
def test_checkpoints_are_read_in_the_forms_that_people_have(form: str, tmp_path: Path) -> None:
    weights = plain().state_dict()
    content = {
        "plain": weights,
        "state_dict": {"state_dict": weights, "epoch": 3},
        "module": {f"module.{name}": value for name, value in weights.items()},
        "lightning": {"state_dict": {f"model.module.{name}": value for name, value in weights.items()}},
    }[form]
    torch.save(content, tmp_path / "c.pt")
    state = read_state(tmp_path / "c.pt")
    assert {name: value.tolist() for name, value in state.items()} == {n: v.tolist() for n, v in weights.items()}


def test_bad_networks_and_checkpoints_are_one_error_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy()
    torch.save(plain(), tmp_path / "pickled.pt")
    torch.save({"weights": 1}, tmp_path / "empty.pt")
    (tmp_path / "own_factory.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    import own_factory  # type: ignore[import-not-found]

    torch.save(own_factory.build(5).state_dict(), tmp_path / "five.pt")
    make = "own_factory:build"
    for call, words in (
        (lambda: wrap(nn.ReLU()), "ReLU has no nn.Linear layer"),
        (lambda: wrap(plain(), "fc"), "head='fc'; allowed: 5"),
        (lambda: probe_network(nn.Sequential(plain(), nn.Softmax(1)), data), "changes the head's logits"),
        (lambda: probe_network(plain(5), data), "the head has 5 classes, Toy images has 2"),
        (lambda: probe_network(plain(), data, images=2), "images=2"),
        (lambda: from_checkpoint(data, tmp_path / "five.pt", factory=make), "has 5 classes, Toy images has 2"),
        (lambda: from_checkpoint(data, tmp_path / "pickled.pt", factory=make), "pickled objects"),
        (lambda: from_checkpoint(data, tmp_path / "empty.pt", factory=make), "holds no weights by name"),
        (lambda: from_checkpoint(data, tmp_path / "none.pt", factory=make), "cannot be read"),
        (lambda: from_checkpoint(data, tmp_path / "five.pt"), "allowed: one of them"),
        (
            lambda: from_checkpoint(data, tmp_path / "five.pt", model="torchvision:resnet5"),
            "allowed after 'torchvision:'",
        ),
        (lambda: from_checkpoint(data, tmp_path / "five.pt", model="resnet18"), "a factory of your own"),
        (lambda: from_checkpoint(data, tmp_path / "five.pt", factory="own_factory:other"), "module:function"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_the_command_measures_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    standins.write_waterbirds(tmp_path / "data")
    (tmp_path / "own_net.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import own_net  # type: ignore[import-not-found]

    torch.save(own_net.build(2).state_dict(), "mine.pt")
    given = ["probe", "waterbirds", "--factory", "own_net:build", "--checkpoint", "mine.pt", "--root", "data"]
    entry.main([*given, "--size", "16", "--out", "out"])
    said = capsys.readouterr().out
    assert "worst-group accuracy" in said
    stored = json.loads(Path("out/probe.json").read_text())
    assert stored["network"] == "own_net:build"
    assert any(row["metric"] == "gini_real" for row in stored["rows"])
    with pytest.raises(ValueError, match=r"other\.pt does not exist"):
        entry.main([*given[:4], "--checkpoint", "other.pt", "--root", "data"])
