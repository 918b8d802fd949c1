"""SAM follows its rule: against a loop written by hand, the project's reference engine, and another package."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from kernels import SAM
from kernels.names import EFFECTS
from kernels.problem import TrainingProblem
from kernels.reference import train
from support import sam_oracle as oracle
from support.problems import random_problem
from support.sam_models import TOLERANCE, assert_at, closure_of

SELECTIONS: dict[str, Any] = {
    "all": ("all", ["0.weight", "0.bias", "2.weight", "2.bias"]),
    "last-layer": ("last-layer", ["2.weight", "2.bias"]),
    "predicate": (lambda name, p: p.ndim == 2 and name.startswith("0."), ["0.weight"]),
}


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("norm", ["l2", "linf", "adaptive", None])
@pytest.mark.parametrize("perturb", SELECTIONS)
def test_equals_a_loop_written_by_hand(perturb: str, norm: str | None, effect: str) -> None:
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    chosen, moved = SELECTIONS[perturb]
    rho, lr, momentum, decay = 0.1 if norm != "linf" else 0.02, 0.3, 0.9, 0.01
    optimizer = SAM(
        model, rho=rho, perturb=chosen, norm=norm, effect=effect, lr=lr, momentum=momentum, weight_decay=decay
    )
    point, velocity = oracle.point_of(model), None
    for _ in range(10):
        before = cross_entropy(oracle.output(model, point, inputs), labels)
        gradient = oracle.sharp_gradient(
            model, point, inputs, lambda z: cross_entropy(z, labels), rho=rho, moved=moved, norm=norm, effect=effect
        )
        point, velocity = oracle.descend(point, gradient, velocity, lr, momentum, decay)
        loss = optimizer.step(forward=lambda: model(inputs), loss=lambda z: cross_entropy(z, labels))
        torch.testing.assert_close(loss, before.detach(), rtol=TOLERANCE, atol=0)
    assert_at(model, point)


def test_the_three_effects_differ() -> None:
    """Else the comparison above could not tell them apart."""
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    weights = []
    for effect in EFFECTS:
        model = oracle.network(3, 5, 3)
        SAM(model, rho=0.1, effect=effect, lr=1.0).step(
            forward=lambda model=model: model(inputs), loss=lambda z: cross_entropy(z, labels)
        )
        weights.append(next(model.parameters()).detach().clone())
    differences = [(weights[i] - weights[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(differences) > 1e-4


@pytest.mark.parametrize("form", ["closure", "forward"])
def test_both_forms_of_step_are_one_rule(form: str) -> None:
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    model, other = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    by_closure = SAM(model, rho=0.1, lr=0.3)
    by_parts = SAM(other, rho=0.1, lr=0.3)
    by_closure.step(closure_of(model, inputs, labels))
    by_parts.step(forward=lambda: other(inputs), loss=lambda z: cross_entropy(z, labels))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


class TwoLayer(nn.Module):
    """One run of a two-layer problem of the reference engine."""

    def __init__(self, problem: TrainingProblem, run: int) -> None:
        super().__init__()
        first, last = (torch.tensor(layer[run]) for layer in problem.layers)
        self.first, self.last = nn.Linear(first.shape[1], len(first), bias=False), nn.Linear(len(first), 1, bias=False)
        self.double()
        self.first.weight.data, self.last.weight.data = first, last[None]
        self.relu = problem.activation == "relu"

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(hidden.relu() if self.relu else hidden)[:, 0]


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("norm", ["l2", "linf", "none"])
@pytest.mark.parametrize("perturb", ["all", "last", "first"])
def test_equals_the_reference_engine(perturb: str, norm: str, effect: str, rng: np.random.Generator) -> None:
    problem = random_problem(
        rng, network="two_layer", activation="relu", runs=2, norm=norm, perturb=perturb, effect=effect,
        momentum=True, decay=True, steps=8,
    )  # fmt: skip
    result = train(problem)
    features = np.broadcast_to(
        problem.features * problem.feature_scale[:, None, :], (2, problem.samples, problem.dimension)
    )
    labels = np.broadcast_to(problem.labels, (2, problem.samples))
    weights = np.broadcast_to(problem.sample_weights, (2, problem.samples))
    for run in range(2):
        x, y, pi = (torch.tensor(a[run].copy()) for a in (features, labels, weights))
        rho, eta = float(problem.rho[run]), float(problem.eta[run])
        decay, momentum = float(problem.weight_decay[run]), float(problem.momentum[run])
        model = TwoLayer(problem, run)
        chosen: Any = {"all": "all", "last": "last-layer", "first": lambda name, p: name == "first.weight"}[perturb]
        optimizer = SAM(
            model, rho=rho, perturb=chosen, norm=norm, effect=effect, lr=eta, momentum=momentum, weight_decay=decay
        )
        for _ in range(problem.steps):
            optimizer.step(
                forward=lambda model=model, x=x: model(x), loss=lambda f, y=y, pi=pi: (pi * softplus(-y * f)).sum()
            )
        for got, wanted in zip(model.parameters(), result.layers, strict=True):
            np.testing.assert_allclose(got.detach().reshape(wanted[run].shape), wanted[run], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, True], ids=["l2", "adaptive"])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW], ids=["sgd", "adamw"])
def test_equals_the_package_pytorch_optimizer(base: Any, adaptive: bool) -> None:
    other = pytest.importorskip("pytorch_optimizer")
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    ours, theirs = oracle.network(3, 5, 3), oracle.network(3, 5, 3)

    def groups(model: nn.Sequential) -> list[dict[str, Any]]:
        return [{"params": list(model[0].parameters()), "rho": 0.02}, {"params": list(model[2].parameters())}]

    options = {"lr": 0.1, "weight_decay": 0.01, **({"momentum": 0.9} if base is torch.optim.SGD else {})}
    mine = SAM(groups(ours), base, rho=0.1, norm="adaptive" if adaptive else "l2", eta=0.0, **options)
    reference = other.SAM(groups(theirs), base, rho=0.1, adaptive=adaptive, **options)
    for _ in range(10):
        mine.step(closure_of(ours, inputs, labels))
        reference.zero_grad()
        closure_of(theirs, inputs, labels)()
        reference.step(closure_of(theirs, inputs, labels))
    # That package rounds the norm to float32: 6e-8 of a perturbation of 0.1, in each of ten steps.
    assert_at(ours, oracle.point_of(theirs), tolerance=1e-7)


def test_the_norm_runs_over_all_groups_and_each_has_its_radius() -> None:
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    seen: list[oracle.Point] = []

    def closure() -> Tensor:
        seen.append(oracle.point_of(model))
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    groups = [{"params": model[0].parameters(), "rho": 0.3}, {"params": model[2].parameters(), "rho": 0.0}]
    SAM(groups, lr=0.1).step(closure)
    weights = oracle.example_weights(model, seen[0], inputs, lambda z: cross_entropy(z, labels))
    gradient = oracle.pulled_back(model, seen[0], inputs, weights)
    length = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
    for name, g in gradient.items():
        radius = 0.3 if name.startswith("0.") else 0.0
        torch.testing.assert_close(seen[1][name], seen[0][name] + radius * g / length, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("norm", ["l2", "linf", "adaptive", None])
def test_weight_decay_inside_the_ascent_gradient(norm: str | None) -> None:
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    model, outside = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    point = oracle.point_of(model)
    gradient = oracle.sharp_gradient(
        model, point, inputs, lambda z: cross_entropy(z, labels), rho=0.1, moved=list(point), norm=norm, decay=0.2
    )
    point, _ = oracle.descend(point, gradient, None, 0.3, 0.0, 0.2)
    SAM(model, rho=0.1, norm=norm, decay_in_perturbation=True, lr=0.3, weight_decay=0.2).step(
        closure_of(model, inputs, labels)
    )
    SAM(outside, rho=0.1, norm=norm, lr=0.3, weight_decay=0.2).step(closure_of(outside, inputs, labels))
    assert_at(model, point)
    assert any((p - q).abs().max() > 1e-5 for p, q in zip(model.parameters(), outside.parameters(), strict=True))


# --- bits -------------------------------------------------------------------------------------------------------------


def test_rho_zero_is_the_base_optimizer_bit_for_bit() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    models = []
    for make in (lambda m: SAM(m, rho=0.0, lr=0.1, momentum=0.9), lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.9)):
        torch.manual_seed(0)
        layers = [nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3)]
        model = nn.Sequential(*layers).double()
        optimizer = make(model)
        closure = closure_of(model, inputs, labels)
        for _ in range(5):
            if isinstance(optimizer, SAM):
                optimizer.step(closure)
            else:
                optimizer.zero_grad()
                closure()
                optimizer.step()
        models.append(model.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", ["l2", "linf", "adaptive", None])
def test_the_weights_return_bit_for_bit(norm: str | None, precision: torch.dtype) -> None:
    inputs, labels = oracle.labelled(samples=8, features=30, classes=3)
    model = oracle.network(30, 50, 3).to(precision)
    before = oracle.point_of(model)
    seen = []

    def closure() -> Tensor:
        seen.append(oracle.point_of(model))
        loss = cross_entropy(model(inputs.to(precision)), labels)
        loss.backward()
        return loss

    SAM(model, rho=0.7, norm=norm, lr=0.0).step(closure)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(not torch.equal(seen[1][name], before[name]) for name in before)


def test_the_weights_return_if_the_second_pass_raises() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    before = oracle.point_of(model)
    passes = []

    def closure() -> Tensor:
        passes.append(len(passes))
        if len(passes) == 2:
            raise KeyboardInterrupt
        return closure_of(model, inputs, labels)()

    optimizer = SAM(model, rho=0.7, lr=0.1)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    optimizer.step(closure_of(model, inputs, labels))


# --- gradients out of the ordinary ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l2", "linf", "adaptive", None])
def test_a_zero_gradient_perturbs_nothing(norm: str | None) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    seen = []

    def closure() -> Tensor:
        seen.append(weight.detach().clone())
        loss = (weight * 0.0).sum()
        loss.backward()
        return loss

    optimizer = SAM([weight], norm=norm, lr=0.1)
    optimizer.step(closure)
    assert len(seen) == 2
    assert torch.equal(seen[1], torch.tensor([1.0, -2.0]))
    assert torch.equal(weight.detach(), torch.tensor([1.0, -2.0]))
    assert not optimizer.last_step_skipped


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_norms_neither_underflow_nor_overflow(size: float) -> None:
    """In float32 the squares of these gradients do."""
    weight = nn.Parameter(torch.zeros(2))
    seen = []

    def closure() -> Tensor:
        seen.append(weight.detach().clone())
        weight.grad = torch.tensor([3.0 * size, 4.0 * size])
        return weight.detach().sum()

    optimizer = SAM([weight], rho=0.5, lr=0.0)
    optimizer.step(closure)
    assert not optimizer.last_step_skipped
    # 1e-40 is subnormal in float32: four digits are left.
    torch.testing.assert_close(seen[1], torch.tensor([0.3, 0.4]), rtol=1e-3 if size < 1e-38 else 1e-6, atol=0)


def test_frozen_and_unused_parameters_stay() -> None:
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    model[0].weight.requires_grad_(False)
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    before = oracle.point_of(model)
    moved = ["0.bias", "2.weight", "2.bias"]
    gradient = oracle.sharp_gradient(model, before, inputs, lambda z: cross_entropy(z, labels), rho=0.1, moved=moved)
    SAM([*model.parameters(), unused], rho=0.1, lr=0.3).step(closure_of(model, inputs, labels))
    assert torch.equal(unused.detach(), torch.ones(2, dtype=torch.float64))
    assert_at(model, {n: w - 0.3 * gradient[n] if n in moved else w for n, w in before.items()})


@pytest.mark.parametrize("norm", ["l2", "linf", "adaptive", None])
def test_sparse_gradients_are_those_of_the_dense_layer(norm: str | None) -> None:
    """But for rows that no sample touches, which have no gradient."""
    words = torch.tensor([[0, 3], [3, 5], [1, 3]])
    labels = torch.tensor([0, 1, 1])
    tables = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table, head = nn.Embedding(8, 4, sparse=sparse).double(), nn.Linear(4, 2).double()
        optimizer = SAM([*table.parameters(), *head.parameters()], rho=0.1, norm=norm, lr=0.2)
        for _ in range(3):
            optimizer.step(
                forward=lambda table=table, head=head: head(table(words).mean(1).tanh()),
                loss=lambda z: cross_entropy(z, labels),
            )
        tables.append(table.weight.detach())
    torch.testing.assert_close(tables[0], tables[1], rtol=TOLERANCE, atol=TOLERANCE)
