"""What SAM is given: names of parameters, groups, and errors that say what is allowed."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kernels import SAM
from support import sam_oracle as oracle
from support.sam_models import assert_at, closure_of

# --- names ------------------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """A normalisation after the classifier, so that the last layer is not simply the last module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        self.norm = nn.LayerNorm(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.head(self.body(x)))


@pytest.mark.parametrize(
    "params",
    [
        lambda m: {"params": m},
        lambda m: {"params": m.parameters(), "model": m},
        lambda m: {"params": m.named_parameters()},
        lambda m: {"params": nn.DataParallel(m)},
        lambda m: {"params": torch.compile(m)},
        lambda m: {"params": [{"params": list(m.parameters())[3:]}, {"params": list(m.parameters())[:3]}], "model": m},
    ],
    ids=["module", "model", "named", "data_parallel", "compiled", "groups_in_another_order"],
)
def test_the_last_layer_is_found(params: Any) -> None:
    model = Classifier()
    optimizer = SAM(**params(model), perturb="last-layer")
    names = {n for n, p in model.named_parameters() if any(p is q for q in optimizer._selected)}
    assert names == {n for n, _ in model.named_parameters() if n.startswith("head.")}
    assert len(names) == 3


def test_a_predicate_sees_names_and_parameters() -> None:
    model = oracle.network(3, 5, 3)
    seen: dict[str, Any] = {}

    def predicate(name: str, parameter: Tensor) -> bool:
        seen[name] = tuple(parameter.shape)
        return True

    SAM(nn.DataParallel(model), perturb=predicate)
    assert seen == {"0.weight": (5, 3), "0.bias": (5,), "2.weight": (3, 5), "2.bias": (3,)}
    seen.clear()
    SAM(model.parameters(), perturb=predicate)
    assert list(seen) == [f"param_groups[0][{i}]" for i in range(4)]


def test_an_added_group_is_perturbed_and_gets_the_defaults() -> None:
    model = oracle.network(3, 5, 3)
    optimizer = SAM(model[0].parameters(), rho=0.2, lr=0.3, momentum=0.5)
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.1})
    assert optimizer.param_groups[1]["rho"] == 0.2
    assert optimizer.param_groups[1]["momentum"] == 0.5
    assert optimizer.base.param_groups is optimizer.param_groups
    inputs, labels = oracle.labelled(samples=7, features=3, classes=3)
    before = oracle.point_of(model)
    gradient = oracle.sharp_gradient(
        model, before, inputs, lambda z: cross_entropy(z, labels), rho=0.2, moved=list(before)
    )
    optimizer.step(closure_of(model, inputs, labels))
    assert_at(model, {n: w - (0.3 if n.startswith("0.") else 0.1) * gradient[n] for n, w in before.items()})


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "norm='l1' is not known; allowed: l2, linf, adaptive, none"),
        ({"effect": "half"}, "effect='half'"),
        ({"perturb": "first"}, "perturb='first'; allowed: 'all', 'last-layer' or a function"),
        ({"perturb": lambda name, p: False}, "selects none of the 4 parameters"),
        ({"rho": -0.1}, r"param_groups\[0\]\['rho'\]=-0.1; allowed: a finite number >= 0"),
        ({"rho": math.nan}, "rho'\\]=nan"),
        ({"eta": -1.0}, "eta=-1.0"),
        ({"backend": "cuda"}, "backend='cuda'"),
        ({"maximize": True}, "maximize"),
        ({"base": torch.optim.LBFGS}, "LBFGS"),
        ({"base": torch.optim.SGD([torch.zeros(1)])}, "allowed: a class such as"),
        ({"base": torch.optim.Rprop, "decay_in_perturbation": True}, "Rprop has no weight_decay"),
        ({"process_perturbation": "none"}, "process_perturbation='none'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM(oracle.network(3, 5, 3), **options)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (lambda: iter(()), "params is empty"),
        (lambda: torch.zeros(2), "single tensor"),
        (lambda: ["weight"], "is a str, not a parameter"),
        (lambda: [nn.Parameter(torch.zeros(2, dtype=torch.complex64))], "complex"),
        (lambda: nn.LazyLinear(3), "weight has no shape yet"),
    ],
    ids=["empty", "tensor", "string", "complex", "lazy"],
)
def test_wrong_parameters_are_named(params: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM(params())


def test_the_last_layer_needs_names() -> None:
    with pytest.raises(ValueError, match="needs names"):
        SAM(oracle.network(3, 5, 3).parameters(), perturb="last-layer")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), {}), "loss.backward"),
        (((lambda: None,), {}), "returned None"),
        (((lambda: torch.zeros(()),), {}), "no parameter has a gradient"),
        (((lambda: torch.zeros(3),), {}), r"shape \(3,\)"),
        ((([],), {}), "one or more closures"),
        (((), {"forward": lambda: None}), "both forward= and loss="),
        (((), {"forward": lambda b: None, "loss": lambda z, b: z, "batches": []}), "batches is empty"),
        (((lambda: 0.0,), {"loss": lambda z: z}), "either a closure"),
    ],
    ids=["nothing", "none", "no_backward", "vector", "empty_list", "no_loss", "no_batches", "both"],
)
def test_wrong_calls_of_step_are_answered_with_an_example(arguments: Any, message: str) -> None:
    positional, named = arguments
    with pytest.raises(ValueError, match=message):
        SAM(oracle.network(3, 5, 3)).step(*positional, **named)


def test_isolated_effects_ask_for_forward_and_loss() -> None:
    model = oracle.network(3, 5, 3)
    inputs, labels = oracle.labelled(samples=4, features=3, classes=3)
    before = oracle.point_of(model)
    for effect in ("weights", "jacobian"):
        optimizer = SAM(model, effect=effect)
        with pytest.raises(ValueError, match="forward=lambda: model"):
            optimizer.step(closure_of(model, inputs, labels))
        with pytest.raises(ValueError, match="must return one tensor"):
            optimizer.step(forward=lambda: (model(inputs), None), loss=lambda z: cross_entropy(z[0], labels))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_rho_made_negative_later_is_named() -> None:
    model = oracle.network(3, 5, 3)
    optimizer = SAM(model)
    optimizer.param_groups[0]["rho"] = -1.0
    with pytest.raises(ValueError, match="rho"):
        optimizer.step(closure_of(model, *oracle.labelled(4, 3, 3)))


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, kernels; assert 'torch' not in sys.modules; kernels.SAM; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
