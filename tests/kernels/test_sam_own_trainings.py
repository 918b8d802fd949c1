"""SAM in a training loop of one's own: gradients that are not SAM's, copies, exceptions, loops for other packages."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kernels import SAM
from support import sam_oracle as oracle
from support.sam_models import assert_at, assert_same_bits, closure_of, halves, normalized, scaled_closure

# --- gradients that are not SAM's -------------------------------------------------------------------------------------


def test_gradients_accumulated_before_a_step_are_refused_and_stay() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    first, second = halves(inputs, labels)
    model = oracle.network(3, 5, 3)
    before = oracle.point_of(model)
    optimizer = SAM(model, lr=0.1)
    closure_of(model, *first)()
    kept = [p.grad.clone() for p in model.parameters()]
    for call in (optimizer.step, optimizer.accumulate):
        with pytest.raises(
            ValueError, match=r"4 parameters \(0.weight, ...\) already have a gradient.*step\(\[closure"
        ):
            call(closure_of(model, *second))
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), kept, strict=True))
    assert_at(model, before, tolerance=0.0)
    optimizer.zero_grad()
    optimizer.step(closure_of(model, *second))


@pytest.mark.parametrize("skip", [False, True], ids=["", "after_a_skipped_step"])
def test_gradients_that_are_added_to_those_of_the_last_step_are_refused(skip: bool) -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    optimizer = SAM(model, lr=0.1)
    closure = closure_of(model, inputs, labels)
    if skip:
        with pytest.warns(UserWarning, match="skipped"):
            optimizer.step(lambda: closure() * torch.nan)
    optimizer.step(closure)
    optimizer.step(closure)  # its own gradients are no reason to refuse
    closure()
    with pytest.raises(ValueError, match="already have a gradient"):
        optimizer.step(closure)


@pytest.mark.parametrize(
    "clear",
    [
        lambda model, optimizer: model.zero_grad(),
        lambda model, optimizer: model.zero_grad(set_to_none=False),
        lambda model, optimizer: optimizer.zero_grad(),
        lambda model, optimizer: None,
    ],
    ids=["module", "module_zeros", "optimizer", "no_clearing"],
)
def test_cleared_and_left_gradients_are_no_reason_to_refuse(clear: Callable[[nn.Module, SAM], None]) -> None:
    model = oracle.network(3, 5, 3)
    closure = closure_of(model, *oracle.labelled(8, 3, 3))
    optimizer = SAM(model, lr=0.1)
    for _ in range(3):
        optimizer.step(closure)
        clear(model, optimizer)
    another = SAM(model, lr=0.1)  # what was there before it was not meant for it
    another.step(closure)


def test_several_accumulated_gradients_are_those_of_local_micro_batches() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model, other = normalized("batch"), normalized("batch")
    optimizer = SAM(model, rho=0.2, lr=0.1, momentum=0.9)
    together = SAM(other, rho=0.2, lr=0.1, momentum=0.9, micro_batch_perturbation="local", accumulate="sum")
    for _ in range(3):
        losses = [optimizer.accumulate(closure_of(model, *half)) for half in halves(inputs, labels)]
        at_once = together.step([closure_of(other, *half) for half in halves(inputs, labels)])
        torch.testing.assert_close(optimizer.step(), sum(losses), rtol=0, atol=0)
        torch.testing.assert_close(at_once, sum(losses), rtol=1e-14, atol=0)
    assert_same_bits(model, other)
    with pytest.raises(ValueError, match="needs a closure"):
        optimizer.step()


def test_a_step_takes_what_was_accumulated_and_zero_grad_drops_it() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    first, second = halves(inputs, labels)
    model, other, third = (oracle.network(3, 5, 3) for _ in range(3))
    optimizer, sums, alone = (SAM(m, rho=0.2, lr=0.1) for m in (model, other, third))
    optimizer.accumulate(closure_of(model, *first))
    optimizer.step(closure_of(model, *second))
    for half in (first, second):
        sums.accumulate(closure_of(other, *half))
    sums.step()
    assert_same_bits(model, other)
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), third.parameters(), strict=True))
    alone.accumulate(closure_of(third, *first))
    alone.zero_grad()
    with pytest.raises(ValueError, match="needs a closure"):
        alone.step()


def test_accumulated_gradients_can_be_clipped_and_are_free_of_the_scale() -> None:
    inputs, labels = oracle.labelled(samples=8, features=3, classes=3)
    model = oracle.network(3, 5, 3)
    point = oracle.point_of(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = SAM(model, rho=0.2, scaler=scaler, lr=0.3)
    optimizer.accumulate(scaled_closure(model, inputs, labels, scaler))
    assert_at(model, point, tolerance=0.0)
    gradient = oracle.sharp_gradient(
        model, point, inputs, lambda z: cross_entropy(z, labels), rho=0.2, moved=list(point)
    )
    length = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01))
    optimizer.step()
    assert length == pytest.approx(sum(float((g**2).sum()) for g in gradient.values()) ** 0.5, rel=1e-12)
    assert_at(model, {n: w - 0.3 * gradient[n] * 0.01 / (length + 1e-6) for n, w in point.items()})


def test_one_accumulated_gradient_that_is_not_finite_skips_the_step() -> None:
    model = normalized("batch")
    before = copy.deepcopy(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = SAM(model, scaler=scaler, lr=0.1)
    closure = scaled_closure(model, *oracle.labelled(8, 3, 3), scaler)
    optimizer.accumulate(lambda: closure() * torch.nan)
    optimizer.accumulate(closure)
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert scaler.get_scale() == 4.0
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_a_copy_goes_on_as_the_original_and_apart_from_it(way: Callable[[Any], Any], base: Any) -> None:
    model = normalized("batch")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    data = oracle.labelled(8, 3, 3)
    optimizer = SAM(model, base, rho=0.1, perturb="last-layer", norm="adaptive", scaler=scaler, lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)  # it replaces the step of the instance
    for _ in range(2):
        optimizer.step(scaled_closure(model, *data, scaler))
        schedule.step()
    middle = copy.deepcopy(model.state_dict())
    other, its, its_scaler = way((model, optimizer, scaler))
    assert its.base.param_groups is its.param_groups
    assert its.base.state is its.state
    for _ in range(3):
        its.step(scaled_closure(other, *data, its_scaler))
    assert_same_bits(model, middle)
    for _ in range(3):
        optimizer.step(scaled_closure(model, *data, scaler))
    assert_same_bits(model, other)
    its.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def test_a_copy_has_everything_that_is_sams_own() -> None:
    """An attribute added later and forgotten here would fail at the copy's next step."""
    optimizer = SAM(oracle.network(3, 5, 3))
    of_torch = vars(torch.optim.SGD([torch.zeros(1)])).keys()
    assert vars(copy.deepcopy(optimizer)).keys() >= vars(optimizer).keys() - of_torch


# --- exceptions -------------------------------------------------------------------------------------------------------


class Stopped(BaseException):
    """Of no ordinary kind, as KeyboardInterrupt and SystemExit are."""


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, Stopped])
@pytest.mark.parametrize("bad_pass", [0, 1, 2, 3])
@pytest.mark.parametrize("known", [True, False], ids=["module_given", "parameters_given"])
@pytest.mark.parametrize("perturbation", ["global", "local"])
def test_an_exception_in_a_closure_changes_nothing(
    kind: type[BaseException], bad_pass: int, known: bool, perturbation: str
) -> None:
    model = normalized("batch")
    optimizer = SAM(
        model if known else model.parameters(), rho=0.3, lr=0.1, momentum=0.9, micro_batch_perturbation=perturbation
    )
    plain = [closure_of(model, *half) for half in halves(*oracle.labelled(12, 3, 3))]
    optimizer.step(plain)
    before = copy.deepcopy(model.state_dict())
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    passes = 0

    def spoiled(closure: Callable[[], Tensor]) -> Tensor:
        nonlocal passes
        loss = closure()  # raises after the norm layers have seen the batch
        passes += 1
        if passes - 1 == bad_pass:
            raise kind
        return loss

    with pytest.raises(kind):
        optimizer.step([lambda c=c: spoiled(c) for c in plain])
    assert_same_bits(model, before)
    for p, m in zip(model.parameters(), momenta, strict=True):
        assert torch.equal(optimizer.state[p]["momentum_buffer"], m)
    optimizer.step(plain)


def test_a_closure_without_backward_changes_no_running_statistics() -> None:
    model = normalized("batch")
    before = copy.deepcopy(model.state_dict())
    inputs, labels = oracle.labelled(8, 3, 3)
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        SAM(model).step(lambda: cross_entropy(model(inputs), labels))
    assert_same_bits(model, before)


# --- as other packages spell it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["module_given", "parameters_given"])
@pytest.mark.parametrize("norm", ["l2", "adaptive"])
def test_first_and_second_step_are_one_step(norm: str, known: bool) -> None:
    inputs, labels = oracle.labelled(8, 3, 3)
    model, other = normalized("batch"), normalized("batch")
    optimizer = SAM(model if known else model.parameters(), rho=0.2, norm=norm, lr=0.1, momentum=0.9)
    usual = SAM(other, rho=0.2, norm=norm, lr=0.1, momentum=0.9)
    closure = closure_of(model, inputs, labels)
    for _ in range(3):
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        optimizer.second_step(zero_grad=True)
        usual.step(closure_of(other, inputs, labels))
    assert_same_bits(model, other)


def test_second_step_skips_what_is_not_finite() -> None:
    model = oracle.network(3, 5, 3)
    before = oracle.point_of(model)
    optimizer = SAM(model, rho=0.2, lr=0.1)
    closure = closure_of(model, *oracle.labelled(8, 3, 3))
    closure()
    next(model.parameters()).grad.fill_(torch.nan)
    optimizer.first_step()
    closure()
    with pytest.warns(UserWarning, match="skipped"):
        optimizer.second_step()
    assert_at(model, before, tolerance=0.0)


def test_first_and_second_step_out_of_order_are_named() -> None:
    model = oracle.network(3, 5, 3)
    before = oracle.point_of(model)
    closure = closure_of(model, *oracle.labelled(8, 3, 3))
    optimizer = SAM(model)
    with pytest.raises(ValueError, match="without first_step"):
        optimizer.second_step()
    with pytest.raises(ValueError, match="before backward"):
        optimizer.first_step()
    closure()
    optimizer.first_step()
    for wrong in (optimizer.first_step, lambda: optimizer.step(closure)):
        with pytest.raises(ValueError, match="phantom point of first_step"):
            wrong()
    with pytest.raises(ValueError, match="at the phantom point"):
        optimizer.second_step()
    assert_at(model, before, tolerance=0.0)
    with pytest.raises(ValueError, match="use step"):
        SAM(model, same_noise=True).first_step()


def test_options_of_other_packages_are_understood() -> None:
    data = oracle.labelled(8, 3, 3)
    model, other = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    theirs = SAM(model.parameters(), base_optimizer=torch.optim.AdamW, adaptive=True, rho=0.2, lr=0.1)
    ours = SAM(other, torch.optim.AdamW, norm="adaptive", eta=0.0, rho=0.2, lr=0.1)
    for _ in range(3):
        theirs.step(closure_of(model, *data))
        ours.step(closure_of(other, *data))
    assert_same_bits(model, other)
    assert theirs.base_optimizer is theirs.base
    assert isinstance(theirs.base, torch.optim.AdamW)


def test_a_scaler_that_steps_sam_is_refused_with_the_remedy() -> None:
    model = oracle.network(3, 5, 3)
    before = oracle.point_of(model)
    scaler = torch.amp.GradScaler("cpu")
    optimizer = SAM(model, lr=0.1)
    closure = scaled_closure(model, *oracle.labelled(8, 3, 3), scaler)
    closure()
    for arguments in ((), (closure,)):
        with pytest.raises(ValueError, match=r"SAM\(..., scaler=scaler\) and optimizer.step\(closure\)"):
            scaler.step(optimizer, *arguments)
    assert_at(model, before, tolerance=0.0)


def test_a_scaler_that_is_switched_off_may_step_sam() -> None:
    model, other = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    data = oracle.labelled(8, 3, 3)
    torch.amp.GradScaler("cpu", enabled=False).step(SAM(model, lr=0.1), closure_of(model, *data))
    SAM(other, lr=0.1).step(closure_of(other, *data))
    assert_same_bits(model, other)


# --- small ones -------------------------------------------------------------------------------------------------------


def test_an_empty_group_is_accepted_as_in_torch() -> None:
    model, other = oracle.network(3, 5, 3), oracle.network(3, 5, 3)
    data = oracle.labelled(8, 3, 3)
    optimizer = SAM([{"params": []}, {"params": model.parameters(), "rho": 0.3}], lr=0.1)
    optimizer.step(closure_of(model, *data))
    SAM(other, rho=0.3, lr=0.1).step(closure_of(other, *data))
    assert_same_bits(model, other)
    with pytest.raises(ValueError, match="no parameter in 2 groups"):
        SAM([{"params": []}, {"params": []}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": "0.05"}, r"\['rho'\]='0.05'; allowed: a finite number"),
        ({"rho": None}, r"\['rho'\]=None"),
        ({"rho": True}, r"\['rho'\]=True"),
        ({"rho": 3e200}, r"\['rho'\]=3e\+200; allowed: 0 to 1.34e\+154"),
        ({"scaler": 5}, "scaler=5; allowed: a torch.amp.GradScaler or None"),
        ({"model": 5}, "model=5; allowed: a torch.nn.Module or None"),
        ({"autocast": "float16"}, "autocast='float16'; allowed: torch.bfloat16, torch.float16 or None"),
        ({"autocast": torch.int8}, "autocast=torch.int8"),
        ({"same_noise": "x"}, "same_noise='x'; allowed: True, False"),
        ({"decay_in_perturbation": 1}, "decay_in_perturbation=1"),
        ({"eta": "x"}, "eta='x'"),
        ({"eta": float("inf")}, "eta=inf"),
        ({"adaptive": 1}, "adaptive=1; allowed: True, False"),
        ({"adaptive": True, "norm": "linf"}, "adaptive=True and norm='linf'"),
        ({"perturb_eps": 1e-12}, "perturb_eps=1e-12; allowed: leave it out"),
        ({"base": torch.optim.Adam, "base_optimizer": torch.optim.SGD}, "allowed: one of them"),
        ({"base_optimizer": torch.optim.SGD([torch.zeros(1)])}, "allowed: a class such as"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM(oracle.network(3, 5, 3), **options)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([{"lr": 0.1}], r"param_groups\[0\] has no 'params', only \['lr'\]"),
        ([{"params": [nn.Parameter(torch.zeros(1))]}, 5], r"param_groups\[1\]=5; allowed: a dictionary"),
        ([{"params": [nn.Parameter(torch.zeros(1))], "adaptive": True}], r"\['adaptive'\]=True; allowed: norm="),
    ],
    ids=["no_params", "no_dictionary", "adaptive"],
)
def test_wrong_groups_are_named(params: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAM(params)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float32])
def test_a_radius_beyond_the_precision_is_named_and_the_largest_is_not(precision: torch.dtype) -> None:
    most = torch.finfo(precision).max ** 0.5
    weight = nn.Parameter(torch.zeros(2, dtype=precision))
    with pytest.raises(ValueError, match="beyond which the moved weights overflow"):
        SAM([weight], rho=1.01 * most)

    def closure() -> float:
        weight.grad = torch.tensor([0.0, 1e-5], dtype=precision)  # rho over this norm is no number of the precision
        return 0.0

    optimizer = SAM([weight], rho=0.99 * most, lr=0.1)
    optimizer.step(closure)
    assert optimizer.skipped_steps == 0


@pytest.mark.parametrize("state", [None, 5, {}, {"state": {}}], ids=str)
def test_a_state_that_is_none_is_named(state: Any) -> None:
    with pytest.raises(ValueError, match=r"load_state_dict got .*allowed: what state_dict"):
        SAM(oracle.network(3, 5, 3)).load_state_dict(state)


def test_without_torch_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try:\n    from kernels import SAM\n"
        "except ImportError as error:\n    assert 'sambalance[gpu]' in str(error), error\n"
        "else:\n    raise AssertionError('imported')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
