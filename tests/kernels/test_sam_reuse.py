"""SAM with an ascent in every k-th step only (LookSAM)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kernels import SAM
from support import sam_oracle as oracle
from support.sam_models import assert_at, assert_same_bits, closure_of, halves, normalized, scaled_closure

EVERY, STRENGTH, RHO, LR = 3, 0.6, 0.2, 0.3


def product(a: oracle.Point, b: oracle.Point) -> float:
    return sum(float((a[n] * b[n]).sum()) for n in a)


@pytest.mark.parametrize("norm", ["l2", "linf", "adaptive"])
@pytest.mark.parametrize("form", ["one", "micro_batches", "scaler"])
def test_equals_a_loop_written_by_hand(form: str, norm: str) -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    rho = RHO if norm != "linf" else 0.02
    model = oracle.network(3, 5, 3)
    point, velocity, across = oracle.point_of(model), None, {}
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=form == "scaler")
    optimizer = SAM(
        model, rho=rho, norm=norm, ascent_every=EVERY, reuse_strength=STRENGTH, scaler=scaler, lr=LR, momentum=0.9
    )
    passes = 0

    def counted(closure: Any) -> Any:
        def closure_() -> Tensor:
            nonlocal passes
            passes += 1
            return closure()

        return closure_

    parts = halves(inputs, labels) if form == "micro_batches" else [(inputs, labels)]
    for step in range(7):
        weights = oracle.example_weights(model, point, inputs, lambda z: cross_entropy(z, labels))
        plain = oracle.pulled_back(model, point, inputs, weights)
        if step % EVERY == 0:
            gradient = oracle.sharp_gradient(
                model, point, inputs, lambda z: cross_entropy(z, labels), rho=rho, moved=list(point), norm=norm
            )
            share = product(gradient, plain) / product(plain, plain)
            across = {n: gradient[n] - share * plain[n] for n in gradient}
        else:
            factor = STRENGTH * (product(plain, plain) / product(across, across)) ** 0.5
            gradient = {n: plain[n] + factor * across[n] for n in plain}
        point, velocity = oracle.descend(point, gradient, velocity, LR, 0.9, 0.0)
        before = passes
        optimizer.step([counted(scaled_closure(model, *part, scaler)) for part in parts])
        assert passes - before == (2 if step % EVERY == 0 else 1) * len(parts)
    assert_at(model, point)


def test_every_step_is_sam() -> None:
    data = oracle.labelled(8, 3, 3)
    model, other = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    ours, usual = SAM(model, ascent_every=1, lr=0.1), SAM(other, lr=0.1)
    for _ in range(3):
        ours.step(closure_of(model, *data))
        usual.step(closure_of(other, *data))
    assert_same_bits(model, other)
    assert ours.state_dict()["sam"].keys() == {"skipped_steps", "scaler"}


def test_rho_zero_is_the_base_optimizer() -> None:
    data = oracle.labelled(8, 3, 3)
    model, other = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    ours, usual = SAM(model, rho=0.0, ascent_every=2, lr=0.1), torch.optim.SGD(other.parameters(), lr=0.1)
    for _ in range(3):
        ours.step(closure_of(model, *data))
        usual.zero_grad()
        closure_of(other, *data)()
        usual.step()
    assert_same_bits(model, other)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_copies_and_checkpoints_go_on_where_they_were(at: int) -> None:
    data = oracle.labelled(8, 3, 3)
    model = normalized("batch")
    optimizer = SAM(model, rho=RHO, ascent_every=EVERY, lr=0.1, momentum=0.9)
    for _ in range(at):
        optimizer.step(closure_of(model, *data))
    copied, its = copy.deepcopy((model, optimizer))
    loaded = normalized("batch")
    loaded.load_state_dict(model.state_dict())
    resumed = SAM(loaded, rho=RHO, ascent_every=EVERY, lr=0.1, momentum=0.9)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(4):
        for network, sam in ((model, optimizer), (copied, its), (loaded, resumed)):
            sam.step(closure_of(network, *data))
    assert_same_bits(model, copied)
    assert_same_bits(model, loaded)


@pytest.mark.parametrize("bad_step", [0, 1, EVERY])
def test_a_skipped_step_does_not_count(bad_step: int) -> None:
    data = oracle.labelled(8, 3, 3)
    models = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    for model, skips in zip(models, (True, False), strict=True):
        optimizer = SAM(model, rho=RHO, ascent_every=EVERY, lr=0.1)
        closure = closure_of(model, *data)
        for step in range(6):
            if step == bad_step and skips:
                with pytest.warns(UserWarning, match="skipped"):
                    optimizer.step(lambda closure=closure: closure() * torch.nan)
            optimizer.step(closure)
    assert_same_bits(*models)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ascent_every": 0}, "ascent_every=0; allowed: a whole number >= 1"),
        ({"ascent_every": 2.5}, "ascent_every=2.5"),
        ({"ascent_every": 2, "reuse_strength": -1.0}, "reuse_strength=-1.0"),
        ({"ascent_every": 2, "effect": "weights"}, "ascent_every=2; allowed: 1 with"),
        ({"ascent_every": 2, "perturb": "last-layer"}, "ascent_every=2; allowed: 1 with"),
        ({"ascent_every": 2, "micro_batch_perturbation": "local"}, "ascent_every=2; allowed: 1 with"),
    ],
    ids=str,
)
def test_what_cannot_be_reused_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM(oracle.network(3, 5, 3), **options)


def test_gradients_of_several_calls_cannot_be_reused() -> None:
    model = oracle.network(3, 5, 3)
    optimizer = SAM(model, ascent_every=2)
    closure = closure_of(model, *oracle.labelled(8, 3, 3))
    optimizer.accumulate(closure)
    with pytest.raises(ValueError, match="twice with ascent_every"):
        optimizer.accumulate(closure)
