"""What happens around SAM's rule: norm layers, micro-batches, randomness."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kernels import SAM
from support import sam_oracle as oracle
from support.sam_models import NORM_LAYERS, assert_same_bits, closure_of, halves, normalized

# --- running statistics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["module_given", "parameters_given"])
@pytest.mark.parametrize("effect", ["full", "weights", "jacobian"])
@pytest.mark.parametrize("layer", NORM_LAYERS)
def test_running_statistics_are_those_of_one_pass_at_the_real_weights(layer: str, effect: str, known: bool) -> None:
    model = normalized(layer)
    optimizer = SAM(model if known else model.parameters(), rho=0.5, effect=effect, lr=0.1)
    for step in range(3):
        inputs, labels = oracle.labelled(samples=6, features=3, classes=3, seed=step)
        once = copy.deepcopy(model)
        once(inputs)
        optimizer.step(forward=lambda x=inputs: model(x), loss=lambda z, y=labels: cross_entropy(z, y))
        buffers = dict(once.named_buffers())
        assert [n for n, b in model.named_buffers() if not torch.equal(b, buffers[n])] == []


def test_every_micro_batch_counts_once_in_the_running_statistics() -> None:
    for perturbation in ("global", "local"):
        model = normalized("batch")
        once = copy.deepcopy(model)
        parts = [oracle.labelled(samples=6, features=3, classes=3, seed=seed) for seed in range(3)]
        for inputs, _ in parts:
            once(inputs)
        SAM(model, rho=0.5, micro_batch_perturbation=perturbation, lr=0.0).step(
            [closure_of(model, *part) for part in parts]
        )
        assert_same_bits(model, once)


def test_evaluation_mode_stays() -> None:
    model = normalized("batch").eval()
    before = copy.deepcopy(model)
    SAM(model, lr=0.0).step(closure_of(model, *oracle.labelled(6, 3, 3)))
    assert_same_bits(model, before)
    assert not model[1].training


# --- micro-batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", ["mean", "sum"])
@pytest.mark.parametrize("norm", ["l2", "linf", "adaptive", None])
@pytest.mark.parametrize("effect", ["full", "weights", "jacobian"])
def test_micro_batches_with_one_phantom_point_are_the_joined_batch(
    effect: str, norm: str | None, accumulate: str
) -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model, joined = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    options: dict[str, Any] = {"rho": 0.05, "norm": norm, "effect": effect, "lr": 0.3, "momentum": 0.9}
    reduction = "mean" if accumulate == "mean" else "sum"
    optimizer = SAM(model, accumulate=accumulate, **options)
    whole = SAM(joined, **options)
    for _ in range(5):
        loss = optimizer.step(
            forward=lambda batch: model(batch[0]),
            loss=lambda z, batch: cross_entropy(z, batch[1], reduction=reduction),
            batches=iter(halves(inputs, labels)),
        )
        expected = whole.step(
            forward=lambda: joined(inputs), loss=lambda z: cross_entropy(z, labels, reduction=reduction)
        )
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-14)
    for p, q in zip(model.parameters(), joined.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("form", ["closures", "batches"])
def test_micro_batches_with_a_phantom_point_each(form: str) -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    point = oracle.point_of(model)
    gradients = [
        oracle.sharp_gradient(model, point, x, lambda z, y=y: cross_entropy(z, y), rho=0.2, moved=list(point))
        for x, y in halves(inputs, labels)
    ]
    optimizer = SAM(model, rho=0.2, micro_batch_perturbation="local", lr=0.3)
    if form == "closures":
        optimizer.step([closure_of(model, *half) for half in halves(inputs, labels)])
    else:
        optimizer.step(
            forward=lambda b: model(b[0]), loss=lambda z, b: cross_entropy(z, b[1]), batches=halves(inputs, labels)
        )
    for name, parameter in model.named_parameters():
        mean = (gradients[0][name] + gradients[1][name]) / 2
        torch.testing.assert_close(parameter.detach(), point[name] - 0.3 * mean, rtol=1e-12, atol=1e-12)


def test_zero_grad_in_one_of_several_closures_is_an_error_and_in_a_single_one_is_not() -> None:
    model = oracle.network(3, 5, 3)
    optimizer = SAM(model, lr=0.1)
    plain = closure_of(model, *oracle.labelled(4, 3, 3))

    def closure() -> Tensor:
        optimizer.zero_grad()
        return plain()

    optimizer.step(closure)
    with pytest.raises(ValueError, match="lose the gradients"):
        optimizer.step([closure, closure])
    optimizer.zero_grad()


# --- randomness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"same_noise": True}, {"effect": "jacobian"}, {"effect": "weights"}], ids=str)
def test_all_passes_can_draw_the_same_dropout_masks(options: dict[str, Any]) -> None:
    inputs, labels = oracle.labelled(samples=6, features=3, classes=3)
    torch.manual_seed(0)
    mask, model = nn.Dropout(0.5), nn.Linear(3, 3).double()
    seen: list[list[Tensor]] = [[], []]

    def forward(i: int) -> Tensor:
        kept = mask(torch.ones_like(inputs))
        seen[i].append(kept)
        return model(inputs * kept)

    torch.manual_seed(3)
    SAM(model, lr=0.1, **options).step(forward=forward, loss=lambda z, i: cross_entropy(z, labels), batches=[0, 1])
    after = torch.rand(())
    assert all(torch.equal(kept, masks[0]) for masks in seen for kept in masks)
    assert not torch.equal(seen[0][0], seen[1][0])
    torch.manual_seed(3)
    for _ in range(2):
        mask(torch.ones_like(inputs))
    assert torch.equal(after, torch.rand(()))  # a step uses up the numbers of one pass
