"""One micro-batch of a step: its loss and gradient, and separately its example weights and its Jacobian.

A closure gives only loss and gradient. SAM's two effects are the two factors of the gradient ``sum_n J_n^T lambda_n``,
with ``lambda_n = d loss / d output_n``. To separate them, SAM needs the network's output: hence ``forward=, loss=``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from kernels.sam.loss_scaling import LossScaling

Loss = Tensor | float
Closure = Callable[[], Loss]

CLOSURE_EXAMPLE = """
    def closure():
        loss = loss_function(model(inputs), targets)
        loss.backward()
        return loss

    optimizer.step(closure)"""
FORWARD_EXAMPLE = """
    optimizer.step(forward=lambda: model(inputs), loss=lambda outputs: loss_function(outputs, targets))"""


class Noise:
    """The state of torch's random generators (CPU and CUDA) when this was made; :meth:`replay` goes back to it."""

    def __init__(self) -> None:
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cpu = torch.get_rng_state()
        self._gpus = torch.cuda.get_rng_state_all() if on_gpu else []

    def replay(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._gpus:
            torch.cuda.set_rng_state_all(self._gpus)


class MicroBatch(ABC):
    """One micro-batch of a step."""

    @abstractmethod
    def gradient(self, inputs: Sequence[Tensor] | None = None) -> Loss:
        """Add d loss / d parameters to the gradients (of ``inputs`` only, where that saves work); the loss."""


class ClosureBatch(MicroBatch):
    """A closure that does forward, loss and backward once."""

    def __init__(self, closure: Closure, scaling: LossScaling) -> None:
        self._closure = closure
        self._scaling = scaling

    def gradient(self, inputs: Sequence[Tensor] | None = None) -> Loss:
        with torch.enable_grad(), self._scaling.required():
            loss = self._closure()
        if loss is None:
            raise ValueError(f"the closure returned None; allowed: its loss, as in\n{CLOSURE_EXAMPLE}")
        return require_scalar(loss, "the closure")


class ForwardBatch(MicroBatch):
    """``forward()`` gives the outputs, ``loss(outputs)`` a scalar; SAM does the backward pass.

    Args:
        autocast: makes the context that both run in.
    """

    def __init__(
        self,
        forward: Callable[[], Any],
        loss: Callable[[Any], Tensor],
        scaling: LossScaling,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._forward = forward
        self._loss = loss
        self._scaling = scaling
        self._autocast = autocast

    def gradient(self, inputs: Sequence[Tensor] | None = None) -> Loss:
        with torch.enable_grad():
            with self._autocast():
                loss = self._scalar(self._loss(self._forward()))
            self._scaling.scale(loss).backward(inputs=inputs)  # type: ignore[no-untyped-call]
        return loss.detach()

    def example_weights(self) -> tuple[Tensor, Tensor]:
        """lambda = d loss / d outputs (times the loss scale), and the loss; one forward pass without a graph."""
        with torch.no_grad(), self._autocast():
            outputs = self._tensor(self._forward())
        return self._weights_of(outputs)

    def gradient_and_weights(self, inputs: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`gradient`, the example weights as well: (loss, lambda)."""
        with torch.enable_grad():
            with self._autocast():
                outputs = self._tensor(self._forward())
            weights, loss = self._weights_of(outputs)
            outputs.backward(weights, inputs=inputs)  # type: ignore[no-untyped-call]
        return loss, weights

    def vjp(self, weights: Tensor) -> None:
        """Add J^T ``weights`` to the gradients, with the Jacobian J of the outputs at the present parameters."""
        with torch.enable_grad():
            with self._autocast():
                outputs = self._tensor(self._forward())
            outputs.backward(weights)  # type: ignore[no-untyped-call]

    def _weights_of(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            with self._autocast():
                loss = self._scalar(self._loss(leaf))
            (weights,) = torch.autograd.grad(self._scaling.scale(loss), leaf)
        return weights, loss.detach()

    @staticmethod
    def _scalar(loss: Tensor) -> Tensor:
        if not isinstance(loss, Tensor):
            raise ValueError(f"loss(outputs) is a {type(loss).__name__}; allowed: a tensor with one element")
        require_scalar(loss, "loss(outputs)")
        return loss

    @staticmethod
    def _tensor(outputs: Any) -> Tensor:
        if not isinstance(outputs, Tensor):
            raise ValueError(
                f"forward() returned a {type(outputs).__name__}; with effect='weights' or 'jacobian' it must return "
                "one tensor, on which alone the loss depends"
            )
        return outputs


def require_scalar(loss: Loss, source: str) -> Loss:
    """The loss without its graph; raises a ValueError unless it is one number."""
    if not isinstance(loss, Tensor):
        return loss
    if loss.numel() != 1:
        raise ValueError(
            f"{source} has shape {tuple(loss.shape)}; allowed: one element. Reduce it by .mean() or .sum()"
        )
    return loss.detach()


def micro_batches(
    closure: Closure | Iterable[Closure] | None,
    forward: Callable[..., Any] | None,
    loss: Callable[..., Tensor] | None,
    batches: Iterable[Any] | None,
    scaling: LossScaling,
    autocast: Callable[[], AbstractContextManager[Any]] | None,
) -> list[MicroBatch]:
    """The arguments of ``step`` as micro-batches. ``autocast`` is None if the user did not set it.

    Raises:
        ValueError: with an example of a correct call.
    """
    if closure is None and forward is None and loss is None:
        raise ValueError(
            "step() needs a closure, because SAM evaluates the loss twice. The closure does forward, loss and backward "
            f"once and returns the loss:\n{CLOSURE_EXAMPLE}\n\nor, without a backward of your own:\n{FORWARD_EXAMPLE}\n"
            "\nWith Hugging Face's Trainer, use kernels.sam.hugging_face.SAMTrainer"
        )
    if closure is not None:
        if forward is not None or loss is not None or batches is not None:
            raise ValueError("step() takes either a closure (or a list of closures) or forward=, loss= and batches=")
        if autocast is not None:
            raise ValueError("autocast= belongs to forward= and loss=; in a closure, use torch.autocast around both")
        closures = [closure] if callable(closure) else list(closure)
        if not closures or not all(callable(c) for c in closures):
            raise ValueError(f"step({closures!r}): allowed: a closure, or a list of one or more closures")
        return [ClosureBatch(c, scaling) for c in closures]
    if forward is None or loss is None:
        raise ValueError(f"step() needs both forward= and loss=, as in\n{FORWARD_EXAMPLE}")
    context = nullcontext if autocast is None else autocast
    if batches is None:
        return [ForwardBatch(forward, loss, scaling, context)]
    f, criterion = forward, loss

    def of(batch: Any) -> ForwardBatch:
        return ForwardBatch(lambda: f(batch), lambda outputs: criterion(outputs, batch), scaling, context)

    made: list[MicroBatch] = [of(batch) for batch in batches]
    if not made:
        raise ValueError("batches is empty; allowed: one or more micro-batches")
    return made
