"""The recipes of docs/how-to/sam-recipes.md train as a loop written by hand does.

A recipe is skipped if its package is not installed. All but the first few import large packages or compile, hence slow.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from kernels import SAM

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "sam-recipes.md"
BLOCK = re.compile(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES: dict[str, str] = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
BATCHES = 4
RHO, LR, MOMENTUM, CLIP = 0.05, 0.1, 0.9, 0.1
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False,
}  # fmt: skip


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 3, generator=generator), torch.randint(3, (6,), generator=generator)) for _ in range(BATCHES)
    ]


def by_hand(
    model: nn.Sequential,
    steps: list[list[tuple[Tensor, Tensor]]],
    *,
    clip: float = math.inf,
    each: bool = False,
    decay: float = 0.0,
    rate: Callable[[int], float] = lambda step: LR,
    after: Callable[[], None] = lambda: None,
) -> nn.Sequential:
    """Train with SGD on SAM's gradient, micro-batches in a list; ``each``: with a phantom point of its own."""
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]

    def gradient(parts: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        loss = sum(cross_entropy(model(x), y) for x, y in parts) / len(parts)
        return list(torch.autograd.grad(loss, parameters))

    def sharp(parts: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        first = gradient(parts)
        statistics = {n: b.clone() for n, b in model.named_buffers()}
        kept = [p.detach().clone() for p in parameters]
        length = math.sqrt(sum(float((g**2).sum()) for g in first))
        with torch.no_grad():
            for p, g in zip(parameters, first, strict=True):
                p.add_(g, alpha=RHO / length)
        second = gradient(parts)
        with torch.no_grad():
            for p, w in zip(parameters, kept, strict=True):
                p.copy_(w)
        model.load_state_dict(statistics, strict=False)
        return second

    for number, parts in enumerate(steps):
        found = [sharp([part]) for part in parts] if each else [sharp(parts)]
        mean = [sum(gs) / len(found) for gs in zip(*found, strict=True)]
        length = math.sqrt(sum(float((g**2).sum()) for g in mean))
        with torch.no_grad():
            for p, v, g in zip(parameters, velocity, mean, strict=True):
                v.mul_(MOMENTUM).add_(g * min(1.0, clip / (length + 1e-6)) + (decay * p if p.ndim > 1 else 0.0))
                p.sub_(rate(number) * v)
        after()
    return model


def run(recipe: str, model: nn.Module, **given: Any) -> dict[str, Any]:
    """What a recipe leaves behind."""
    namespace = {
        "torch": torch,
        "model": model,
        "loader": DataLoader(batches(), batch_size=None),
        "quiet": QUIET,
        **given,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages
        exec(compile(RECIPES[recipe], f"{PAGE.name}: {recipe}", "exec"), namespace)
    return namespace


def assert_close(model: nn.Module, expected: nn.Module, tolerance: float = 1e-6) -> None:
    """Float32 and a few steps: rounding is some 1e-7 of weights below one, four steps of it."""
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


def singly() -> list[list[tuple[Tensor, Tensor]]]:
    return [[batch] for batch in batches()]


def in_pairs() -> list[list[tuple[Tensor, Tensor]]]:
    found = batches()
    return [found[i : i + 2] for i in range(0, BATCHES, 2)]


def test_every_recipe_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert len(RECIPES) == PAGE.read_text(encoding="utf-8").count("```py")
    assert [name for name in RECIPES if f'run("{name}"' not in source and f'"{name}",' not in source] == []


def test_the_loop_by_hand_notices_clipping_and_shared_phantom_points() -> None:
    plain = by_hand(network(), in_pairs())
    for other in (by_hand(network(), in_pairs(), clip=CLIP), by_hand(network(), in_pairs(), each=True)):
        with pytest.raises(AssertionError):
            assert_close(plain, other)


@pytest.mark.parametrize("recipe", ["Clipping", "Clipping with a scaler",])  # fmt: skip
def test_clipping(recipe: str) -> None:
    model = network()
    run(recipe, model)
    assert_close(model, by_hand(network(), singly(), clip=CLIP))


def test_a_loop_written_for_another_sam() -> None:
    model = network()
    run("A loop written for another SAM", model)
    assert_close(model, by_hand(network(), singly()))


@pytest.mark.slow
def test_compiled_networks() -> None:
    model = network()
    try:
        run("Compiled networks", model)
    except Exception as error:
        if "compiler" in str(error).lower():
            pytest.skip(f"torch.compile does not work here: {error}")
        raise
    assert_close(model, by_hand(network(), singly()))


# --- Lightning --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lightning() -> None:
    pytest.importorskip("pytorch_lightning")
    model = network()
    run("Lightning", model)
    assert_close(model, by_hand(network(), singly(), clip=CLIP))


@pytest.mark.slow
def test_lightning_in_bfloat16() -> None:
    pytest.importorskip("pytorch_lightning")
    model, exact = network(), by_hand(network(), singly(), clip=CLIP)
    run("Lightning", model, quiet={**QUIET, "precision": "bf16-mixed"})
    assert_close(model, exact, tolerance=1e-2)
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), exact.parameters(), strict=True))


@pytest.mark.slow
def test_lightning_with_accumulation() -> None:
    pytest.importorskip("pytorch_lightning")
    model = network()
    found = run("Lightning with gradient accumulation", model)
    assert_close(model, by_hand(network(), in_pairs(), clip=CLIP))
    assert found["trainer"].global_step == BATCHES // 2


@pytest.mark.slow
def test_lightning_is_refused_what_it_would_get_wrong() -> None:
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.plugins.precision import MixedPrecision

    with pytest.raises(ValueError, match="accumulate_grad_batches=1"):
        run("Lightning", network(), quiet={**QUIET, "accumulate_grad_batches": 2})
    # Lightning makes bfloat16 of "16-mixed" on a CPU, unless it is given the plugin.
    half = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match="bfloat16 needs no scaler"):
        run("Lightning", network(), quiet={**QUIET, "plugins": [half]})


# --- Hugging Face -----------------------------------------------------------------------------------------------------


class WithLoss(nn.Module):
    """A network as the Trainer wants it: it returns its loss."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": cross_entropy(self.inner(inputs), labels)}


def trainer_arguments(folder: Path, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=1, per_device_train_batch_size=6, learning_rate=LR, optim="sgd",
        optim_args=f"momentum={MOMENTUM}", lr_scheduler_type="constant", report_to=[], save_strategy="no",
        disable_tqdm=True, use_cpu=True, train_sampling_strategy="sequential", **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_hugging_face_trainer(accumulate: int, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    arguments = trainer_arguments(tmp_path, max_grad_norm=CLIP, gradient_accumulation_steps=accumulate)
    data = [{"inputs": x[i], "labels": y[i]} for x, y in batches() for i in range(len(x))]
    model = network()
    found = run("Hugging Face Trainer", WithLoss(model), arguments=arguments, data=data)
    assert found["trainer"].state.global_step == BATCHES // accumulate
    momentum = found["trainer"].optimizer.param_groups[0]["momentum"]
    assert momentum == MOMENTUM
    steps = singly() if accumulate == 1 else in_pairs()
    assert_close(model, by_hand(network(), steps, clip=CLIP, each=True))


@pytest.mark.slow
def test_hugging_face_trainer_names_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from kernels.sam.hugging_face import SAMTrainer

    model = WithLoss(network())
    with pytest.raises(ValueError, match="effect"):
        SAMTrainer(model, trainer_arguments(tmp_path), sam={"effect": "weights"})
    with pytest.raises(ValueError, match=r"optimizers=\(SGD"):
        SAMTrainer(model, trainer_arguments(tmp_path), optimizers=(torch.optim.SGD(model.parameters()), None))
    arguments = trainer_arguments(tmp_path, gradient_accumulation_steps=2)
    monkeypatch.setattr(type(arguments), "world_size", 2)
    with pytest.raises(ValueError, match="gradient_accumulation_steps=2 on 2 processes; allowed: 1"):
        SAMTrainer(model, arguments)


# --- accelerate, timm -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_accelerate() -> None:
    pytest.importorskip("accelerate")
    model = network()
    run("accelerate", model)
    assert_close(model, by_hand(network(), in_pairs()))


@pytest.mark.slow
def test_timm() -> None:
    pytest.importorskip("timm")
    model, plain = network(), network()
    found = run("timm", model)
    average = {name: value.clone() for name, value in plain.state_dict().items()}
    step = 0

    def update() -> None:
        nonlocal step
        decay = found["average"].get_decay(step)
        for name, value in plain.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1.0 - decay)
        step += 1

    by_hand(plain, singly(), decay=0.01, rate=lambda k: LR * 0.5 * (1 + math.cos(math.pi * k / 10)), after=update)
    assert_close(model, plain)
    for name, value in found["average"].module.named_parameters():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-6)


def test_the_optimizer_of_a_recipe_is_ours() -> None:
    assert isinstance(run("Clipping", network())["optimizer"], SAM)
