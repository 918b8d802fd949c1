"""SAM written out by hand, in float64, on a dictionary of parameters: what :class:`kernels.SAM` is compared with.

Everything is a pure function of the parameters (``torch.func.functional_call`` and ``torch.autograd.grad``), so nothing
is moved, restored or accumulated in place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Point = dict[str, Tensor]
Loss = Callable[[Tensor], Tensor]


def network(*widths: int, seed: int = 0) -> nn.Sequential:
    """A tanh network in float64: smooth, so that rounding errors stay rounding errors."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def labelled(samples: int, features: int, classes: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random inputs ``[samples, features]`` and labels ``[samples]``."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, features, dtype=torch.float64, generator=generator)
    return inputs, torch.randint(classes, (samples,), generator=generator)


def point_of(model: nn.Module) -> Point:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def output(model: nn.Module, point: Point, inputs: Tensor) -> Tensor:
    return torch.func.functional_call(model, point, (inputs,))


def example_weights(model: nn.Module, point: Point, inputs: Tensor, loss: Loss) -> Tensor:
    """d loss / d output at ``point``."""
    outputs = output(model, point, inputs).detach().requires_grad_()
    return torch.autograd.grad(loss(outputs), outputs)[0]


def pulled_back(model: nn.Module, point: Point, inputs: Tensor, weights: Tensor) -> Point:
    """J^T weights, with the Jacobian at ``point``."""
    leaves = {name: p.detach().requires_grad_() for name, p in point.items()}
    total = (weights * output(model, leaves, inputs)).sum()
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def direction(norm: str | None, g: Point, w: Point, eta: float = 0.01) -> Point:
    """e / rho."""
    if norm is None:
        return g
    if norm == "linf":
        return {n: g[n].sign() for n in g}
    scale = {n: (w[n].abs() + eta if norm == "adaptive" else torch.ones_like(w[n])) for n in g}
    length = sum(((scale[n] * g[n]) ** 2).sum() for n in g) ** 0.5
    return {n: scale[n] ** 2 * g[n] / length for n in g}


def sharp_gradient(
    model: nn.Module,
    point: Point,
    inputs: Tensor,
    loss: Loss,
    *,
    rho: float,
    moved: Sequence[str],
    norm: str | None = "l2",
    effect: str = "full",
    decay: float = 0.0,
) -> Point:
    """The gradient that SAM follows; ``decay``: weight decay inside the ascent gradient."""
    weights = example_weights(model, point, inputs, loss)
    gradient = pulled_back(model, point, inputs, weights)
    ascent = {n: gradient[n] + decay * point[n] for n in moved}
    step = direction(norm, ascent, point)
    phantom = {n: w + rho * step[n] if n in moved else w for n, w in point.items()}
    if effect != "jacobian":
        weights = example_weights(model, phantom, inputs, loss)
    return pulled_back(model, point if effect == "weights" else phantom, inputs, weights)


def descend(
    point: Point, gradient: Point, velocity: Point | None, lr: float, momentum: float, decay: float
) -> tuple[Point, Point]:
    """A step of gradient descent with momentum and weight decay: (point, velocity)."""
    now = {n: gradient[n] + decay * point[n] for n in point}
    if velocity is not None:
        now = {n: momentum * velocity[n] + now[n] for n in point}
    return {n: point[n] - lr * now[n] for n in point}, now
