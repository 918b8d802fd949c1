"""Training follows the rule that was asked for, keeps what was asked for, and survives being killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from realdata.datasets.base import TEST, TRAIN, VALIDATION  # noqa: E402
from realdata.datasets.batches import Normalization  # noqa: E402
from realdata.measures.extraction import extract  # noqa: E402
from realdata.models.build import build  # noqa: E402
from realdata.models.weights_file import read_weights  # noqa: E402
from realdata.training import checkpoints  # noqa: E402
from realdata.training import train as training  # noqa: E402
from realdata.training.augmentation import ORDER, Augmentation, generator  # noqa: E402
from realdata.training.loading import load_checkpoint  # noqa: E402
from realdata.training.monitoring import Monitor, monitored_per_group  # noqa: E402
from realdata.training.optimization import TrainingStep, learning_rate, radius  # noqa: E402
from realdata.training.train import train  # noqa: E402
from support.killed_training import INTERRUPTED  # noqa: E402
from support.toy_images import configuration, toy  # noqa: E402

CPU = torch.device("cpu")


def weights(run: checkpoints.TrainedRun, name: str = "final") -> dict[str, torch.Tensor]:
    path = next(c.path for c in run.checkpoints if c.name == name)
    return read_weights(path)["model"]


def metrics(directory: Path) -> list[dict[str, Any]]:
    """Without the one number that depends on the clock."""
    rows = checkpoints.read_metrics(directory)
    return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in rows]


def assert_same_run(left: Path, right: Path) -> None:
    first, second = checkpoints.read_run(left), checkpoints.read_run(right)
    assert metrics(left) == metrics(right)
    assert [(c.name, c.step, c.training_loss) for c in first.checkpoints] == [
        (c.name, c.step, c.training_loss) for c in second.checkpoints
    ]
    for checkpoint in first.checkpoints:
        ours, theirs = weights(first, checkpoint.name), weights(second, checkpoint.name)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- the rule ---------------------------------------------------------------------------------------------------------


def test_training_is_a_plain_loop_written_by_hand(tmp_path: Path) -> None:
    data = toy()
    settings = configuration(augmentation="crop_flip", weight_decay=0.01, schedule="cosine")
    run = train(settings, data, tmp_path, progress=False)
    model = build(settings, data).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    normalize = Normalization(data, CPU)
    for epoch in range(2):
        order = generator(0, epoch, ORDER).permutation(data.rows(TRAIN))
        change = Augmentation.of_epoch("crop_flip", data, len(order), 0, epoch)
        for step in range(9):
            positions = np.arange(8 * step, 8 * step + 8)
            rows = order[positions]
            images = normalize(change(torch.from_numpy(data.images[rows]), positions))
            optimizer.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * (9 * epoch + step) / 18))
            optimizer.zero_grad()
            cross_entropy(model(images), torch.from_numpy(data.label[rows])).backward()
            optimizer.step()
    for name, value in weights(run).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def perturbations(method: str, parameters: list[Any], gradients: list[Any], rho: float) -> list[Any]:
    """``e`` of each method, from its definition."""
    if method == "usam":
        return [rho * g for g in gradients]
    if method == "linf_sam":
        return [rho * g.sign() for g in gradients]
    if method == "asam":
        scales = [p.detach().abs() + 0.01 for p in parameters]
        norm = sum(float((t * g).square().sum()) for t, g in zip(scales, gradients, strict=True)) ** 0.5
        return [rho * t * t * g / norm for t, g in zip(scales, gradients, strict=True)]
    moved = gradients[-2:] if method == "lsam" else gradients
    norm = sum(float(g.square().sum()) for g in moved) ** 0.5
    return [rho * g / norm if method == "sam" or i >= len(gradients) - 2 else 0 * g for i, g in enumerate(gradients)]


@pytest.mark.parametrize("method", ["sam", "lsam", "asam", "usam", "linf_sam"])
def test_each_method_steps_from_the_gradient_at_its_phantom_point(method: str) -> None:
    data = toy()
    settings = configuration(model="mlp", model_options={"width": 6}, method=method, rho=0.07, momentum=0.0)
    model = build(settings, data).double()
    images = Normalization(data, CPU)(torch.from_numpy(data.images[:16])).double()
    labels = torch.from_numpy(data.label[:16])
    parameters = list(model.parameters())
    start = [p.detach().clone() for p in parameters]
    gradients = torch.autograd.grad(cross_entropy(model(images), labels), parameters)
    with torch.no_grad():
        for p, e in zip(parameters, perturbations(method, parameters, list(gradients), 0.07), strict=True):
            p.add_(e)
    phantom = torch.autograd.grad(cross_entropy(model(images), labels), parameters)
    with torch.no_grad():
        for p, w in zip(parameters, start, strict=True):
            p.copy_(w)
    TrainingStep(settings, model, CPU).step(images, labels, 0.3)
    for p, w, g in zip(parameters, start, phantom, strict=True):
        # cross_entropy is taken in float32, as under mixed precision: seven digits.
        torch.testing.assert_close(p.detach(), w - 0.3 * g, rtol=0, atol=1e-6)


def test_sam_may_be_on_in_a_part_of_the_training_only(tmp_path: Path) -> None:
    """Before its part the losses are those of plain training, and without a part they are those of SAM."""
    data = toy()
    shared = {"model": "mlp", "model_options": {"width": 6}, "epochs": 4, "evaluations_per_epoch": 1}
    sam = configuration(**shared, method="sam", rho=0.3)
    runs = {"sgd": configuration(**shared), "sam": sam}
    runs |= {"first": sam.replace(sam_until=2), "second": sam.replace(sam_from=2)}
    losses = {}
    for name, each in runs.items():
        train(each, data, tmp_path / name, device="cpu", progress=False)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = [json.loads(line)["training_loss"] for line in lines]
    assert losses["second"][:3] == losses["sgd"][:3]
    assert losses["first"][:3] == losses["sam"][:3]
    assert losses["second"][3:] != losses["sgd"][3:]
    assert losses["first"][3:] != losses["sam"][3:]
    steps = [radius(sam.replace(sam_from=0.5, sam_until=1.5), step, 4) for step in range(8)]
    assert steps == [0, 0, 0.3, 0.3, 0.3, 0.3, 0, 0]


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, [1.0] * 8),
        ("cosine", 0.0, [0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]),
        ("step", 0.0, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("constant", 1.5, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("cosine", 1.0, [1 / 3, 2 / 3, *(0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6))]),
    ],
)
def test_learning_rates(schedule: str, warmup: float, expected: list[float]) -> None:
    settings = configuration(lr=2.0, schedule=schedule, warmup_epochs=warmup, epochs=4)
    assert [learning_rate(settings, step, 2) / 2 for step in range(8)] == pytest.approx(expected)


def test_runs_that_share_a_seed_see_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Any]] = {}
    real_step = TrainingStep.step

    def step(self: TrainingStep, inputs: Any, labels: Any, lr: float, rho: float) -> Any:
        seen[key].append((inputs.clone(), labels.clone()))
        return real_step(self, inputs, labels, lr, rho)

    monkeypatch.setattr(TrainingStep, "step", step)
    for key, changes in {
        "sgd": {}, "sam": {"method": "sam", "rho": 0.1, "lr": 0.01}, "other seed": {"seed": 1}
    }.items():  # fmt: skip
        seen[key] = []
        train(configuration(augmentation="crop_flip", **changes), toy(), tmp_path / key, progress=False)
    assert len(seen["sgd"]) == 18
    pairs = zip(seen["sgd"], seen["sam"], strict=True)
    assert all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)
    assert not torch.equal(seen["sgd"][0][0], seen["other seed"][0][0])
    assert not torch.equal(seen["sgd"][0][0], seen["sgd"][9][0])


@pytest.mark.parametrize("base", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("effect", ["full", "weights", "jacobian"])
def test_every_base_and_effect_learns(base: str, effect: str, tmp_path: Path) -> None:
    lr = 0.1 if base == "sgd" else 0.02
    settings = configuration(method="sam", rho=0.02, base=base, effect=effect, lr=lr, epochs=4, levels=())
    run = train(settings, toy(), tmp_path, progress=False)
    assert metrics(tmp_path)[-1]["training_loss"] < 0.8 * metrics(tmp_path)[0]["training_loss"]
    assert [c.name for c in run.checkpoints] == ["final"]


def test_bfloat16_trains_float32_weights(tmp_path: Path) -> None:
    settings = configuration(precision="bfloat16", method="sam", rho=0.02, epochs=4)
    run = train(settings, toy(), tmp_path, progress=False)
    assert metrics(tmp_path)[-1]["training_loss"] < 0.8 * metrics(tmp_path)[0]["training_loss"]
    assert all(value.dtype != torch.bfloat16 for value in weights(run).values())
    # The bits of the inputs were rounded: this is not the float32 run.
    train(settings.replace(precision="float32"), toy(), tmp_path / "float32", progress=False)
    assert metrics(tmp_path)[-1]["training_loss"] != metrics(tmp_path / "float32")[-1]["training_loss"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("method", ["sgd", "sam"])
def test_training_on_a_gpu(precision: str, method: str, tmp_path: Path) -> None:
    settings = configuration(precision=precision, method=method, rho=0.02 if method == "sam" else 0.0, epochs=4)
    run = train(settings, toy(), tmp_path / "gpu", device="cuda", progress=False)
    train(settings.replace(precision="float32"), toy(), tmp_path / "cpu", device="cpu", progress=False)
    there, here = metrics(tmp_path / "gpu"), metrics(tmp_path / "cpu")
    assert there[1]["training_loss"] == pytest.approx(here[1]["training_loss"], rel=0.3)
    model = load_checkpoint(run.checkpoints[-1], settings, toy(), "cuda")
    assert extract(model, toy(), np.arange(5)).features.shape == (5, 8)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_checkpoints_are_the_first_evaluations_at_or_below_each_level(tmp_path: Path) -> None:
    settings = configuration(epochs=6, evaluations_per_epoch=3, levels=(0.6, 0.5, 0.3, 0.2, 1e-9))
    run = train(settings, toy(), tmp_path, progress=False)
    rows = metrics(tmp_path)
    assert [row["step"] for row in rows] == list(range(0, 55, 3))
    assert [row["epoch"] for row in rows] == pytest.approx([step / 9 for step in range(0, 55, 3)])
    expected = {}
    for level in settings.levels:
        below = [row for row in rows if row["training_loss"] <= level]
        if below:
            expected[f"loss-{level:g}"] = (below[0]["step"], below[0]["training_loss"], level)
    assert len(expected) >= 2
    found = {c.name: (c.step, c.training_loss, c.level) for c in run.checkpoints if c.level is not None}
    assert found == expected
    final = run.checkpoints[-1]
    assert (final.name, final.step, final.level, final.epoch) == ("final", 54, None, 6.0)
    assert checkpoints.read_run(tmp_path) == run


def test_a_checkpoint_s_loss_is_the_mean_over_the_training_set_in_evaluation_mode(tmp_path: Path) -> None:
    data = toy()
    settings = configuration(epochs=3, augmentation="crop_flip")
    for checkpoint in train(settings, data, tmp_path, progress=False).checkpoints:
        model = load_checkpoint(checkpoint, settings, data)
        assert not model.training
        rows = data.rows(TRAIN)
        logits = torch.from_numpy(extract(model, data, rows).logits)
        loss = float(cross_entropy(logits, torch.from_numpy(data.label[rows])))
        assert checkpoint.training_loss == pytest.approx(loss, rel=1e-5)


def test_accuracies_of_groups_are_those_of_the_model(tmp_path: Path) -> None:
    data = toy()
    run = train(configuration(), data, tmp_path, progress=False)
    model = load_checkpoint(run.checkpoints[-1], configuration(), data)
    last = metrics(tmp_path)[-1]
    for split, name in ((0, "training"), (1, "validation"), (2, "test")):
        rows = data.rows(split)
        right = extract(model, data, rows).logits.argmax(1) == data.label[rows]
        if name == "training":
            assert last["training_accuracy"] == pytest.approx(right.mean())
            continue
        group = data.group[rows]
        expected = {data.group_names[g]: right[group == g].mean() for g in np.unique(group)}
        assert last[f"{name}_group_accuracy"] == pytest.approx(expected)
        assert last[f"{name}_worst_group_accuracy"] == pytest.approx(min(expected.values()))


def test_the_images_measured_during_training_are_limited_in_total(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [monitored_per_group(groups) for groups in (1, 4, 25, 100)] == [1024, 1024, 163, 40]
    assert monitored_per_group(4, training=400) == 100
    monkeypatch.setattr("realdata.training.monitoring.MONITORED", 8)
    monkeypatch.setattr("realdata.training.monitoring.MONITORED_PER_GROUP", (1, 1024))
    data = toy()
    found = Monitor.of(configuration(), data).rows
    for code, split in ((VALIDATION, "validation"), (TEST, "test")):
        there = np.bincount(data.group[data.rows(code)], minlength=4)
        assert np.array_equal(np.bincount(data.group[found[split]], minlength=4), np.minimum(there, 2))
        assert there.max() > 2
    assert len(found["training"]) == len(data.rows(TRAIN))


def test_the_training_loss_can_be_measured_on_a_fixed_part(tmp_path: Path) -> None:
    data = toy()
    settings = configuration(evaluation_examples=20, lr=1e-12, momentum=0.0, epochs=3, model_options={"norm": "none"})
    train(settings, data, tmp_path / "part", progress=False)
    train(settings.replace(evaluation_examples=None), data, tmp_path / "all", progress=False)
    part, everything = metrics(tmp_path / "part"), metrics(tmp_path / "all")
    # The weights hardly move, so a part that changed would change the loss.
    assert [row["training_loss"] for row in part] == pytest.approx([part[0]["training_loss"]] * 4, rel=1e-6)
    assert part[0]["training_loss"] != pytest.approx(everything[0]["training_loss"], rel=1e-6)


def test_training_ends_at_the_stop_level(tmp_path: Path) -> None:
    run = train(configuration(epochs=50, stop_level=0.3, levels=(0.5,)), toy(), tmp_path, progress=False)
    rows = metrics(tmp_path)
    assert rows[-1]["training_loss"] <= 0.3 < rows[-2]["training_loss"]
    assert run.status == "done"
    assert run.checkpoints[-1].step == rows[-1]["step"] < 450


@pytest.mark.parametrize("method", ["sgd", "sam"])
def test_a_run_that_diverges_says_so_and_keeps_no_broken_weights(method: str, tmp_path: Path) -> None:
    settings = configuration(
        lr=1e20, method=method, rho=0.1 if method == "sam" else 0.0, levels=(5.0,), model_options={"norm": "none"}
    )
    with pytest.warns(UserWarning, match="skipped a step") if method == "sam" else _no_warning():
        run = train(settings, toy(), tmp_path, progress=False)
    assert run.status == "diverged"
    assert [c.name for c in run.checkpoints] == ["loss-5"]
    assert all(value.isfinite().all() for value in weights(run, "loss-5").values())

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    done = json.loads((tmp_path / "done").read_text(), parse_constant=refuse)
    assert "not finite" in done["reason"]
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert not (tmp_path / "resume.pt").exists()


def _no_warning() -> Any:
    import warnings

    return warnings.catch_warnings()


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(configuration(**INTERRUPTED), toy(), whole, progress=False)
    command = [sys.executable, "-m", "support.killed_training", str(killed), str(torch.get_num_threads())]
    # The folder of the checkout may not be the current one.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    result = subprocess.run(command, timeout=100, env=environment, check=False)
    assert result.returncode == -signal.SIGKILL
    assert [row["step"] for row in metrics(killed)] == [0, 5, 9]
    with pytest.raises(ValueError, match="holds a run that is not finished"):
        checkpoints.read_run(killed)
    train(configuration(**INTERRUPTED), toy(), killed, progress=False)
    assert_same_run(whole, killed)


@pytest.mark.parametrize("place", ["step", "checkpoint", "metrics", "resume"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_run_can_stop_anywhere(place: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C just before or after each kind of writing."""
    owner, name = {
        "step": (TrainingStep, "step"),
        "checkpoint": (checkpoints, "save"),
        "metrics": (training._Training, "_append_metrics"),
        "resume": (training._Training, "_write_resume"),
    }[place]
    real, calls = getattr(owner, name), [0]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == after:
            raise KeyboardInterrupt
        result = real(*arguments, **options)
        if calls[0] == after + 2:
            raise KeyboardInterrupt
        return result

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = configuration(**{**INTERRUPTED, "epochs": 2, "levels": (0.8, 0.6)})
    train(settings, toy(), whole, progress=False)
    monkeypatch.setattr(owner, name, interrupted)
    stops = 0
    for _ in range(3):
        try:
            train(settings, toy(), stopped, progress=False)
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 1
    assert_same_run(whole, stopped)
    assert not [path.name for path in stopped.rglob("*") if path.name.startswith(".")]


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(configuration(), toy(), tmp_path, progress=False)
    monkeypatch.setattr(training, "_Training", None)
    assert train(configuration(), toy(), tmp_path, progress=False) == run


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_directory_holds_one_run(tmp_path: Path) -> None:
    train(configuration(epochs=1), toy(), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"holds another run \(lr, seed differ\)"):
        train(configuration(epochs=1, lr=0.2, seed=3), toy(), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"holds a run on other data, fingerprint toy-120.*not new"):
        train(configuration(epochs=1), toy(fingerprint="new"), tmp_path, progress=False)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"precision": "float16"}, {"device": "cpu"}, "precision='float16' on a CPU"),
        ({}, {"device": "gpu"}, "device='gpu' cannot be used.*allowed: auto, cpu"),
        ({}, {"device": "cuda:99"}, "device='cuda:99' cannot be used"),
        ({"augmentation": "domainbed"}, {"channels": 1}, "augmentation='domainbed' with images of 1 channels"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_error(
    changes: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = toy(channels=options.pop("channels", 3))
    with pytest.raises(ValueError, match=message):
        train(configuration(**changes), data, tmp_path, progress=False, **options)


def test_data_without_training_images_are_an_error(tmp_path: Path) -> None:
    data = toy(split=np.ones(120, dtype=np.int8))
    with pytest.raises(ValueError, match="Toy images has no training images"):
        train(configuration(), data, tmp_path, progress=False)


def test_fewer_images_than_a_batch_are_one_batch(tmp_path: Path) -> None:
    train(configuration(batch_size=500), toy(), tmp_path, progress=False)
    assert [row["step"] for row in metrics(tmp_path)] == [0, 1, 2]


def test_a_checkpoint_that_does_not_fit_is_one_clear_error(tmp_path: Path) -> None:
    run = train(configuration(epochs=1), toy(), tmp_path, progress=False)
    final = run.checkpoints[-1]
    with pytest.raises(ValueError, match=r"final.pt does not belong to model 'small_cnn' with model_options="):
        load_checkpoint(final, configuration(model_options={"width": 8}), toy())
    final.path.write_bytes(final.path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"final.pt cannot be read"):
        load_checkpoint(final, configuration(), toy())
    final.path.unlink()
    with pytest.raises(ValueError, match=r"final.pt cannot be read"):
        load_checkpoint(final, configuration(), toy())
    with pytest.raises(ValueError, match="holds no run"):
        checkpoints.read_run(tmp_path / "elsewhere")


def test_dropout_is_the_same_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose forward pass draws random numbers resumes bit for bit too."""
    real_build, real_resume, calls = training.build, training._Training._write_resume, [0]

    def with_dropout(*arguments: Any) -> Any:
        model = real_build(*arguments)
        model.body.append(nn.Dropout(0.5))
        return model

    def stopping(self: Any, length: int) -> None:
        real_resume(self, length)
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "build", with_dropout)
    train(configuration(), toy(), tmp_path / "whole", progress=False)
    monkeypatch.setattr(training._Training, "_write_resume", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(configuration(), toy(), tmp_path / "stopped", progress=False)
    torch.rand(7)
    train(configuration(), toy(), tmp_path / "stopped", progress=False)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
