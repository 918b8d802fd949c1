"""SAM through a training: mixed precision, skipped steps, the returned loss, schedules, resuming."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kernels import SAM
from support import sam_oracle as oracle
from support.sam_models import Closure, assert_same_bits, closure_of, halves, normalized, scaled_closure

# --- mixed precision and passes that are not finite -------------------------------------------------------------------


@pytest.mark.parametrize("perturbation", ["global", "local"])
@pytest.mark.parametrize("effect", ["full", "weights", "jacobian"])
@pytest.mark.parametrize("norm", ["l2", "linf", None])
def test_a_loss_scale_changes_no_bit(norm: str | None, effect: str, perturbation: str) -> None:
    """Scales are powers of two, and nothing here comes near the ends of float64."""
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    models = []
    for scaled in (True, False):
        model = oracle.network(3, 5, 3)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2, enabled=scaled)
        optimizer = SAM(
            model, rho=0.1, norm=norm, effect=effect, scaler=scaler, micro_batch_perturbation=perturbation, lr=0.3
        )
        for _ in range(5):
            optimizer.step(
                forward=lambda b, m=model: m(b[0]),
                loss=lambda z, b: cross_entropy(z, b[1]),
                batches=halves(inputs, labels),
            )
        assert scaler.get_scale() == (2.0**12 if scaled else 1.0)
        models.append(model)
    assert_same_bits(models[0], models[1])


def test_a_closure_scales_its_loss_by_the_scaler() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model, plain = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    scaler = torch.amp.GradScaler("cpu")
    optimizer = SAM(model, rho=0.1, scaler=scaler, lr=0.3, momentum=0.9)
    other = SAM(plain, rho=0.1, lr=0.3, momentum=0.9)
    for _ in range(3):
        loss = optimizer.step(scaled_closure(model, inputs, labels, scaler))
        assert loss == other.step(closure_of(plain, inputs, labels))
    assert_same_bits(model, plain)
    with pytest.raises(ValueError, match=r"scaler.scale\(loss\).backward\(\)"):
        optimizer.step(closure_of(model, inputs, labels))
    with pytest.raises(ValueError, match="float16 parameters"):
        SAM(oracle.network(3, 5, 3).half(), scaler=scaler)


@pytest.mark.parametrize("perturbation", ["global", "local"])
@pytest.mark.parametrize("bad_pass", [0, 1, 2, 3])
@pytest.mark.parametrize("what", ["nan gradient", "inf gradient", "nan loss"])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaler", "no_scaler"])
def test_a_step_with_a_pass_that_is_not_finite_changes_nothing(
    scaled: bool, what: str, bad_pass: int, perturbation: str
) -> None:
    model = normalized("batch")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=scaled)
    options: dict[str, Any] = {"micro_batch_perturbation": perturbation, "lr": 0.3, "momentum": 0.9}
    optimizer = SAM(model, torch.optim.SGD, rho=0.1, scaler=scaler, **options)
    good = [scaled_closure(model, *oracle.labelled(6, 3, 3, seed=s), scaler) for s in (0, 1)]
    optimizer.step(good)
    before = copy.deepcopy(model.state_dict())
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    passes = 0

    def spoiled(closure: Closure) -> Tensor:
        nonlocal passes
        passes += 1
        loss = closure()
        if passes - 1 == bad_pass:
            if what == "nan loss":
                return loss * torch.nan
            model[0].weight.grad[0, 0] = torch.nan if what == "nan gradient" else torch.inf
            model[1].running_mean.fill_(torch.nan)
        return loss

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if scaled else "default")
        warned = pytest.warns(UserWarning, match="skipped a step") if not scaled else warnings.catch_warnings()
        with warned:
            optimizer.step([lambda c=c: spoiled(c) for c in good])
    assert passes > bad_pass
    assert optimizer.last_step_skipped
    assert optimizer.skipped_steps == 1
    assert_same_bits(model, before)
    assert all(
        torch.equal(optimizer.state[p]["momentum_buffer"], m) for p, m in zip(model.parameters(), momenta, strict=True)
    )
    assert scaler.get_scale() == (4.0 if scaled else 1.0)
    optimizer.step(good)
    assert not optimizer.last_step_skipped
    assert optimizer.skipped_steps == 1


def test_bfloat16_by_autocast_follows_the_float32_rule() -> None:
    inputs, labels = (t.float() if t.is_floating_point() else t for t in oracle.labelled(32, 8, 3))
    weights = []
    for autocast in (None, torch.bfloat16):
        model = oracle.network(8, 16, 3).float()
        optimizer = SAM(model, rho=0.2, autocast=autocast, lr=0.5)
        for _ in range(3):
            optimizer.step(forward=lambda m=model: m(inputs), loss=lambda z: cross_entropy(z.float(), labels))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    # Three steps of 0.5 with gradients below 0.5 whose entries are good to about 2^-7.
    assert 0 < (weights[0] - weights[1]).abs().max() < 5e-3


def test_an_autocast_around_the_step_does_not_reuse_the_real_weights() -> None:
    """autocast caches the weights it casts until its context ends; here both passes lie in one context."""
    inputs, labels = (t.float() if t.is_floating_point() else t for t in oracle.labelled(32, 8, 3))
    model = oracle.network(8, 16, 3).float()
    losses = []

    def closure() -> Tensor:
        loss = cross_entropy(model(inputs).float(), labels)
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    with torch.autocast("cpu", torch.bfloat16):
        SAM(model, rho=1.0, lr=0.1).step(closure)
    assert losses[1] > losses[0] + 0.05


# --- returned loss, schedules, resuming -------------------------------------------------------------------------------


def test_the_returned_loss_is_that_of_the_real_weights_without_graph() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    expected = cross_entropy(model(inputs), labels).detach()
    loss = SAM(model, rho=1.0, lr=0.3).step(closure_of(model, inputs, labels))
    assert isinstance(loss, Tensor)
    assert torch.equal(loss, expected)
    assert not loss.requires_grad
    number = SAM(model, lr=0.3).step(lambda: closure_of(model, inputs, labels)().item())
    assert isinstance(number, float)


def test_schedulers_change_the_groups_that_the_base_optimizer_uses() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    point = oracle.point_of(model)
    optimizer = SAM(model, rho=0.1, lr=0.4)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    lr, rho = 0.4, 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            gradient = oracle.sharp_gradient(
                model, point, inputs, lambda z: cross_entropy(z, labels), rho=rho, moved=list(point)
            )
            point, _ = oracle.descend(point, gradient, None, lr, 0.0, 0.0)
            optimizer.step(closure_of(model, inputs, labels))
            schedule.step()
            lr, rho = lr * 0.5, rho * 2
            optimizer.param_groups[0]["rho"] = rho
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), point[name], rtol=1e-12, atol=1e-12)
    torch.optim.lr_scheduler.OneCycleLR(SAM(model, momentum=0.9), max_lr=0.1, total_steps=5)  # finds the momentum


@pytest.mark.parametrize(
    ("base", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"foreach": True}),
        (torch.optim.RMSprop, {"momentum": 0.5, "centered": True}),
    ],
    ids=["sgd", "adam", "adamw", "rmsprop"],
)
def test_a_resumed_training_has_the_same_bits(base: Any, options: dict[str, Any], tmp_path: Any) -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)

    def parts() -> tuple[nn.Module, SAM, Any, torch.amp.GradScaler]:
        model = normalized("batch")
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3)
        groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "rho": 0.3, "lr": 0.02}]
        optimizer = SAM(groups, base, rho=0.1, model=model, scaler=scaler, lr=0.01, **options)
        return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20), scaler

    def train(model: nn.Module, optimizer: SAM, schedule: Any, scaler: torch.amp.GradScaler, steps: int) -> None:
        for _ in range(steps):
            optimizer.step(scaled_closure(model, inputs, labels, scaler))
            schedule.step()

    model, optimizer, schedule, scaler = parts()
    train(model, optimizer, schedule, scaler, 4)
    optimizer.skipped_steps = 2
    checkpoint = {"model": model.state_dict(), "sam": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    train(model, optimizer, schedule, scaler, 5)

    resumed, other, its_schedule, its_scaler = parts()
    loaded = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    resumed.load_state_dict(loaded["model"])
    other.load_state_dict(loaded["sam"])
    its_schedule.load_state_dict(loaded["schedule"])
    train(resumed, other, its_schedule, its_scaler, 5)
    assert_same_bits(resumed, model)
    assert other.skipped_steps == 2
    assert its_scaler.get_scale() == scaler.get_scale() == 32.0
    assert other.base.param_groups is other.param_groups
    assert other.base.state is other.state


def test_the_state_of_the_base_optimizer_alone_can_be_loaded() -> None:
    model = oracle.network(3, 5, 3)
    plain = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    closure_of(model, *oracle.labelled(8, 3, 3))()
    plain.step()
    optimizer = SAM(model, rho=0.2, lr=0.1, momentum=0.5)
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["rho"] == 0.2
    assert optimizer.param_groups[0]["lr"] == 0.3
    first = next(model.parameters())
    assert torch.equal(optimizer.state[first]["momentum_buffer"], plain.state[first]["momentum_buffer"])
    assert math.isfinite(float(optimizer.step(closure_of(model, *oracle.labelled(8, 3, 3)))))
