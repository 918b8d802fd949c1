"""What the tests of SAM share: closures, networks with a norm layer, comparisons."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from support import sam_oracle as oracle

Closure = Callable[[], Tensor]
TOLERANCE = 1e-12
"""Networks are smooth and small; ten steps in float64 differ from the hand-written loop by rounding alone, some 1e3
operations of 1e-16 each on numbers of order one: this is an order of magnitude more than was ever seen."""


def closure_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> Closure:
    def closure() -> Tensor:
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    return closure


def scaled_closure(model: nn.Module, inputs: Tensor, labels: Tensor, scaler: torch.amp.GradScaler) -> Closure:
    def closure() -> Tensor:
        loss = cross_entropy(model(inputs), labels)
        scaler.scale(loss).backward()
        return loss

    return closure


def halves(inputs: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(inputs.chunk(2), labels.chunk(2), strict=True))


def assert_at(model: nn.Module, point: oracle.Point, tolerance: float = TOLERANCE) -> None:
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), point[name], rtol=tolerance, atol=tolerance)


def assert_same_bits(model: nn.Module, other: nn.Module | dict[str, Tensor]) -> None:
    state = other.state_dict() if isinstance(other, nn.Module) else other
    different = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])]
    assert not different


class RunningPeak(nn.Module):
    """A norm layer of somebody's own, which replaces its buffer instead of writing into it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_peak", torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_peak = 0.9 * self.running_peak + 0.1 * x.detach().abs().max()
        return x / x.detach().abs().max()


NORM_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch": lambda: nn.BatchNorm1d(4),
    "cumulative": lambda: nn.BatchNorm1d(4, momentum=None),
    "not_affine": lambda: nn.BatchNorm1d(4, affine=False),
    "no_statistics": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "instance": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()
    ),
    "own": RunningPeak,
}


def normalized(layer: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), NORM_LAYERS[layer](), nn.Tanh(), nn.Linear(4, 3)).double()
