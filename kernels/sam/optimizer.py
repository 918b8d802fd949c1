"""Sharpness-Aware Minimization for any torch module: one optimizer, one ``step(closure)``.

    model = ...
    optimizer = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)

    def closure():
        loss = loss_function(model(inputs), targets)
        loss.backward()
        return loss

    loss = optimizer.step(closure)

A step evaluates the gradient at the weights ``w``, moves them to the phantom point ``w + e`` (Foret et al. 2021, eq. 2;
the formulas of ``e`` are in :mod:`kernels.sam.perturbation`), evaluates the gradient there, puts the weights back
bit for bit, and lets the base optimizer step with that second gradient.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kernels.names import EFFECTS
from kernels.sam import leftovers
from kernels.sam.arguments import (
    require_flag,
    require_kind,
    require_model,
    require_precision,
    require_rho,
    require_state,
    require_strength,
    spelled_elsewhere,
)
from kernels.sam.distributed import Distributed, combine_losses, warn_of_skipped_step
from kernels.sam.loss_scaling import LossScaling
from kernels.sam.micro_batches import (
    CLOSURE_EXAMPLE,
    FORWARD_EXAMPLE,
    Closure,
    ForwardBatch,
    Loss,
    MicroBatch,
    Noise,
    micro_batches,
)
from kernels.sam.parameters import (
    Parameters,
    Predicate,
    add_gradients,
    all_finite,
    scale_gradients,
    values,
    with_gradient,
)
from kernels.sam.perturbation import BACKENDS, NORMS, Ascent, Perturbation
from kernels.sam.reuse import ReusedAscent
from kernels.sam.running_statistics import RunningStatistics
from sambalance_tools.checks import require_choice

_OWN_ATTRIBUTES = (
    "base", "skipped_steps", "last_step_skipped", "_parameters", "_perturb", "_selected", "_scaling", "_autocast",
    "_effect", "_decay_in_perturbation", "_one_phantom", "_mean", "_same_noise", "_perturbation", "_statistics",
    "_distributed", "_reuse", "_micro_batches_under_way", "_accumulated", "_accumulated_finite",
    "_at_phantom",
)  # fmt: skip
"""What a copy of SAM needs besides what torch copies of an optimizer."""


class SAM(torch.optim.Optimizer):
    """SAM around a base optimizer.

    Args:
        params: a module, or parameters, (name, parameter) pairs, or groups of either, as for any torch optimizer. A
            group may have its own ``rho``; schedules change ``param_groups[i]["rho"]`` as they change ``"lr"``.
        base: class (or function) that makes the base optimizer from parameter groups; ``base_kwargs`` go to it.
        rho: radius of the perturbation, >= 0. With 0 in all groups the step is that of the base optimizer, in one pass.
        perturb: which parameters the perturbation moves *and* which gradient enters its norm, over all groups:
            ``"all"``; ``"last-layer"``, the layer that owns the last trainable parameter with two or more dimensions,
            in the module's order; or a function of (name, parameter).
        norm: ``"l2"``, ``"linf"``, ``"adaptive"`` (ASAM) or None, no normalisation.
        effect: which part of the gradient ``sum_n J_n^T lambda_n``, with example weights ``lambda_n = d loss / d
            output_n`` and Jacobian ``J_n``, is taken at the phantom point: ``"full"`` both, ``"weights"`` lambda only,
            ``"jacobian"`` J only. The latter two need ``step(forward=, loss=)``.
        model: the module, where ``params`` is not one; gives names, and finds norm layers and DDP.
        eta: of ``norm="adaptive"``; None is 0.01.
        decay_in_perturbation: whether the ascent gradient contains each group's ``weight_decay`` times the weights.
        micro_batch_perturbation: with several micro-batches, one phantom point for all (``"global"``), or one for each
            (``"local"``, m-SAM).
        process_perturbation: under ``DistributedDataParallel``, one phantom point from the averaged gradient
            (``"global"``), or one for each process from its own (``"local"``).
        accumulate: the gradient and loss of several micro-batches are their ``"mean"`` or ``"sum"``.
        same_noise: let the second pass draw the same random numbers (dropout masks) as the first. The isolated effects
            always do: they compare one function at two points.
        scaler: a ``torch.amp.GradScaler`` that SAM drives. The closure calls ``scaler.scale(loss).backward()``; do not
            call ``unscale_``, ``step`` or ``update``.
        autocast: ``torch.bfloat16`` or ``torch.float16`` for ``forward=`` and ``loss=``.
        backend: ``"auto"``, ``"foreach"`` or ``"triton"``, see :class:`kernels.sam.perturbation.Perturbation`.
        ascent_every: k > 1 is LookSAM (Liu et al. 2022): only every k-th step takes two passes, the others reuse what
            it found (:mod:`kernels.sam.reuse`). Needs memory for one more copy of the gradients, and for two in steps
            with an ascent.
        reuse_strength: of what is reused, >= 0; alpha in LookSAM.
        base_kwargs: options of the base optimizer. The spellings of davda54/sam and pytorch_optimizer are understood as
            well: ``base_optimizer=`` is ``base``, and ``adaptive=True`` is ``norm="adaptive"`` with ``eta=0``.

    Attributes:
        base: the base optimizer; shares ``param_groups`` and ``state``. Also called ``base_optimizer``.
        skipped_steps: number of steps that were skipped because a pass was not finite.
        last_step_skipped: whether the last one was.

    Raises:
        ValueError: names the argument, the offending value and what is allowed.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(3, 1)
        >>> inputs, targets = torch.randn(8, 3), torch.randn(8, 1)
        >>> optimizer = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1)
        >>> def closure():
        ...     loss = torch.nn.functional.mse_loss(model(inputs), targets)
        ...     loss.backward()
        ...     return loss
        >>> losses = [float(optimizer.step(closure)) for _ in range(100)]
        >>> losses[-1] < losses[0]
        True
    """

    def __init__(
        self,
        params: Any,
        base: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
        rho: float = 0.05,
        *,
        perturb: str | Predicate = "all",
        norm: str | None = "l2",
        effect: str = "full",
        model: nn.Module | None = None,
        eta: float | None = None,
        decay_in_perturbation: bool = False,
        micro_batch_perturbation: str = "global",
        process_perturbation: str = "global",
        accumulate: str = "mean",
        same_noise: bool = False,
        scaler: torch.amp.GradScaler | None = None,
        autocast: torch.dtype | None = None,
        backend: str = "auto",
        ascent_every: int = 1,
        reuse_strength: float = 0.7,
        **base_kwargs: Any,
    ) -> None:
        norm = "none" if norm is None else norm
        require_choice("norm", norm, NORMS)
        require_choice("effect", effect, EFFECTS)
        require_choice("micro_batch_perturbation", micro_batch_perturbation, ("global", "local"))
        require_choice("process_perturbation", process_perturbation, ("global", "local"))
        require_choice("accumulate", accumulate, ("mean", "sum"))
        require_choice("backend", backend, BACKENDS)
        base, norm, eta = spelled_elsewhere(base_kwargs, base, norm, eta)
        require_flag("decay_in_perturbation", decay_in_perturbation)
        require_flag("same_noise", same_noise)
        require_kind("scaler", scaler, torch.amp.GradScaler, "a torch.amp.GradScaler")
        require_model(model)
        require_precision(autocast)
        require_strength("reuse_strength", reuse_strength)
        self._reuse = ReusedAscent(ascent_every, reuse_strength)
        local = micro_batch_perturbation == "local" or process_perturbation == "local"
        if self._reuse.active and (effect != "full" or perturb != "all" or local):
            raise ValueError(
                f"ascent_every={ascent_every!r}; allowed: 1 with an isolated effect, perturb other than 'all', "
                "or micro_batch_perturbation or process_perturbation 'local'"
            )
        model = params if model is None and isinstance(params, nn.Module) else model
        self._parameters = Parameters(model)
        self._perturb = perturb
        super().__init__(self._parameters.groups(params), {"rho": rho})
        self.base = base(self.param_groups, **base_kwargs)
        if isinstance(self.base, torch.optim.LBFGS):
            raise ValueError("base=LBFGS evaluates the loss itself; allowed: optimizers that step from one gradient")
        self.defaults = {**self.base.defaults, "rho": rho}
        self.param_groups, self.state = self.base.param_groups, self.base.state
        self._check_groups(decay_in_perturbation)
        self._selected = self._parameters.selected(perturb)

        first = self._all()[0]
        self._scaling = LossScaling(scaler, first.device)
        if self._scaling.enabled and any(p.dtype == torch.float16 for p in self._all()):
            raise ValueError(
                "scaler= with float16 parameters; allowed: float32 parameters, and float16 by torch.autocast"
            )
        self._autocast = None if autocast is None else partial(torch.autocast, first.device.type, dtype=autocast)
        self._effect = effect
        self._decay_in_perturbation = decay_in_perturbation
        self._one_phantom = micro_batch_perturbation == "global"
        self._mean = accumulate == "mean"
        self._same_noise = same_noise or effect != "full"
        self._statistics = RunningStatistics(model)
        self._distributed = Distributed(model, process_perturbation, first.device, self._all())
        if self._distributed.sharded and effect == "weights":
            # fully_shard keeps the gathered weights of a forward pass that no backward pass follows.
            raise ValueError("effect='weights' with sharded parameters; allowed: 'full', 'jacobian'")
        if self._distributed.sharded and self._reuse.active:
            raise ValueError(f"ascent_every={ascent_every!r} with sharded parameters; allowed: 1")
        over_shards = self._distributed.norm_over_shards if self._distributed.sharded else None
        self._perturbation = Perturbation(norm, eta, backend, over_shards)
        self._micro_batches_under_way = 0
        leftovers.remember(self._all())  # what is there before SAM is was not computed for it
        self._accumulated: list[Loss] = []
        self._accumulated_finite = True
        self._at_phantom: ExitStack | None = None
        self.skipped_steps = 0
        self.last_step_skipped = False

    # --- torch.optim.Optimizer ----------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, in SAM's forms of parameters. ``perturb`` is applied to all parameters anew."""
        if "base" not in self.__dict__:  # called by Optimizer.__init__
            super().add_param_group(param_group)
            return
        super().add_param_group(self._parameters.group(param_group, len(self.param_groups)))
        leftovers.remember(self.param_groups[-1]["params"])
        self._check_groups(self._decay_in_perturbation)
        self._selected = self._parameters.selected(self._perturb)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch. ``step`` does it itself; a closure need not (and of several, none may)."""
        if self._micro_batches_under_way > 1:
            raise ValueError("zero_grad() in one of several closures would lose the gradients of the others; remove it")
        super().zero_grad(set_to_none)
        if not self._micro_batches_under_way:
            self._forget_accumulated()

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state and all groups, as in torch, and under ``"sam"`` the counter and the scaler."""
        own: dict[str, Any] = {"skipped_steps": self.skipped_steps, "scaler": self._scaling.state_dict()}
        if self._reuse.active:
            own["reuse"] = self._reuse.state_dict(self._all())
        return {**super().state_dict(), "sam": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned, or the state of the base optimizer alone."""
        require_state(state_dict)
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "sam"})
        for group in self.param_groups:
            group.setdefault("rho", self.defaults["rho"])
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        self.param_groups, self.state = self.base.param_groups, self.base.state
        own = state_dict.get("sam", {})
        self.skipped_steps = own.get("skipped_steps", 0)
        self._scaling.load_state_dict(own.get("scaler"))
        self._reuse.load_state_dict(own.get("reuse"), self._all())

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: as torch does it, without hooks, and what is SAM's own."""
        own = {name: self.__dict__[name] for name in _OWN_ATTRIBUTES}
        return {**super().__getstate__(), **own, "_accumulated": [], "_accumulated_finite": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        leftovers.remember(self._all())

    @torch.no_grad()
    def step(  # type: ignore[override]
        self,
        closure: Closure | Iterable[Closure] | None = None,
        *,
        forward: Callable[..., Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
        batches: Iterable[Any] | None = None,
    ) -> Loss:
        """One step, by one of

            step(closure)                             closure() does forward, loss and backward once, returns the loss
            step([closure, ...])                      one closure per micro-batch
            step(forward=f, loss=l)                   outputs = f(), loss = l(outputs); SAM does the backward pass
            step(forward=f, loss=l, batches=[b, ...]) outputs = f(b), loss = l(outputs, b) for each micro-batch b

            step()                                    what :meth:`accumulate` has gathered since the last step

        Each is called once at the real weights and then once at the phantom point (of ``effect="weights"``: ``forward``
        once more at the real weights). SAM clears the gradients itself. A step with a pass whose loss or gradient is
        not finite changes nothing: neither weights, nor the base optimizer's state, nor running statistics. Nor does
        one whose closure raises, whatever it raises.

        Returns:
            The loss at the real weights, without graph; of ``step()`` the sum of what :meth:`accumulate` returned.

        Raises:
            ValueError: if nothing to evaluate is given, or it does not keep the contract; with an example. Also if
                there are gradients that SAM did not compute, because it would have to drop them.
        """
        nothing = closure is None and forward is None and loss is None and batches is None
        if nothing and self._accumulated:
            total: Loss = sum(self._accumulated[1:], start=self._accumulated[0])
        else:
            total = self.accumulate(closure, forward=forward, loss=loss, batches=batches)
        self._descend()
        return total

    @torch.no_grad()
    def accumulate(
        self,
        closure: Closure | Iterable[Closure] | None = None,
        *,
        forward: Callable[..., Any] | None = None,
        loss: Callable[..., Tensor] | None = None,
        batches: Iterable[Any] | None = None,
    ) -> Loss:
        """Add SAM's gradient to ``grad`` and change no weight; takes and returns what :meth:`step` does.

        The gradients of several calls add up, as those of ``backward`` do. Each call has its own phantom point (m-SAM).
        They are free of the loss scale. Clip them if you like; then ``step()``, without arguments, takes the step:

            optimizer.accumulate(closure)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        """
        micro = micro_batches(closure, forward, loss, batches, self._scaling, self._autocast)
        if self._effect != "full" and not isinstance(micro[0], ForwardBatch):
            raise ValueError(
                f"effect={self._effect!r} needs the network's outputs apart from the loss:\n{FORWARD_EXAMPLE}"
            )
        self._require_valid_rho()
        self._require_no_open_step()
        leftovers.require_no_others(self._parameters.names)
        if self._reuse.active and self._accumulated:
            raise ValueError("accumulate() twice with ascent_every > 1; allowed: accumulate([closure, closure, ...])")
        earlier = self._set_gradients_aside() if self._accumulated else {}
        if self._distributed.several:  # they may be views of DDP's buckets, which the next backward pass fills anew
            earlier = {p: gradient.clone() for p, gradient in earlier.items()}
        super().zero_grad()
        self._micro_batches_under_way = len(micro)
        try:
            with self._statistics.observed():
                losses, finite = self._evaluate(micro)
        except BaseException:
            for parameter in self._all():
                parameter.grad = earlier.get(parameter)
            leftovers.remember(self._all())
            raise
        finally:
            self._micro_batches_under_way = 0
        add_gradients(earlier)
        leftovers.remember(self._all())
        total = combine_losses(losses[: len(micro)], self._mean)
        self._accumulated.append(total)
        self._accumulated_finite &= finite
        return total

    def _evaluate(self, micro: list[MicroBatch]) -> tuple[list[Loss], bool]:
        """Leave the gradient in ``grad``; the losses and if all is finite. If not, statistics are what they were."""
        try:
            ascends = self._ascends()
            losses, finite = self._accumulate(micro, ascends)
            scale_gradients(self._all(), self._undo(len(micro)))
            if self._reuse.active and self._has_radius():
                self._reuse.learn() if ascends else self._reuse.apply(self._all())
            finite = finite and self._distributed.all_agree(self._finite(losses, self._all()))
            if finite and not with_gradient(self._all()):
                raise ValueError(f"no parameter has a gradient; the closure calls backward:\n{CLOSURE_EXAMPLE}")
        except BaseException:
            self._statistics.roll_back()
            raise
        if not finite:
            self._statistics.roll_back()
        return losses, finite

    def _descend(self) -> None:
        """Let the base optimizer step with the gradients that were gathered, if they are finite."""
        finite = self._accumulated_finite
        self._forget_accumulated()
        self._scaling.update(finite)
        self._reuse.finish(finite)
        self.last_step_skipped = not finite
        if finite:
            self.base.step()
        else:
            self.skipped_steps += 1
            if not self._scaling.enabled:
                warn_of_skipped_step()
        leftovers.remember(self._all())

    def _forget_accumulated(self) -> None:
        self._accumulated, self._accumulated_finite = [], True

    # --- as other packages spell it -----------------------------------------------------------------------------------

    @property
    def base_optimizer(self) -> torch.optim.Optimizer:
        """The base optimizer, as davda54/sam calls it."""
        return self.base

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Go to the phantom point of the gradients that are in ``grad``, for loops written for davda54/sam:

            loss_function(model(inputs), targets).backward()
            optimizer.first_step(zero_grad=True)
            loss_function(model(inputs), targets).backward()
            optimizer.second_step(zero_grad=True)

        The gradients are used up and cleared, whatever ``zero_grad`` says. Running statistics are those of the first
        pass. :meth:`step` can do more: it also puts the weights back when a pass raises, and drives a scaler.

        Raises:
            ValueError: with options that need ``step(closure)``, without gradients, or twice in a row.
        """
        self._require_no_open_step()
        self._require_valid_rho()
        special = self._effect != "full" or self._same_noise or self._reuse.active
        if special or self._scaling.enabled or not self._distributed.shares_phantom:
            raise ValueError(
                "first_step() cannot keep effect, same_noise, ascent_every, scaler or process_perturbation='local'; "
                "use step:"
                f"\n{CLOSURE_EXAMPLE}"
            )
        if not with_gradient(self._all()):
            raise ValueError(
                f"first_step() before backward(): no parameter has a gradient. Or use step:\n{CLOSURE_EXAMPLE}"
            )
        self._forget_accumulated()
        scale_gradients(self._all(), 1.0)
        self._accumulated_finite = self._distributed.all_agree(self._finite([], self._all()))
        with ExitStack() as opened:
            opened.enter_context(self._statistics.observed())
            opened.callback(self._statistics.roll_back)
            opened.callback(self._perturbation.restore)
            if self._accumulated_finite:
                self._accumulated_finite = math.isfinite(self._perturbation.move(self._ascents(1.0)))
            super().zero_grad()
            self._at_phantom = opened.pop_all()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Put weights and running statistics back, and let the base optimizer step; see :meth:`first_step`."""
        if self._at_phantom is None:
            raise ValueError(
                "second_step() without first_step() before it; allowed: first_step(), backward(), second_step()"
            )
        opened, self._at_phantom = self._at_phantom, None
        opened.close()
        if not with_gradient(self._all()):
            raise ValueError("second_step() before backward(): no parameter has a gradient at the phantom point")
        scale_gradients(self._all(), 1.0)
        self._accumulated_finite &= self._distributed.all_agree(self._finite([], self._all()))
        self._descend()
        if zero_grad:
            self.zero_grad()

    def _require_no_open_step(self) -> None:
        if self._at_phantom is not None:
            raise ValueError("the weights are at the phantom point of first_step(); allowed: backward(), second_step()")

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Asked by ``GradScaler.step`` before it touches a gradient: the one place where SAM can refuse it."""
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None
        if caller is not None and isinstance(caller.f_locals.get("self"), torch.amp.GradScaler):
            raise ValueError(
                "scaler.step(optimizer) cannot step SAM, which needs two passes with one scale; allowed: "
                "SAM(..., scaler=scaler) and optimizer.step(closure); the closure calls scaler.scale(loss).backward(). "
                "SAM unscales and updates. bfloat16 needs no scaler"
            )
        return False

    # --- the passes ---------------------------------------------------------------------------------------------------

    def _has_radius(self) -> bool:
        return any(group["rho"] != 0 for group in self.param_groups)

    def _ascends(self) -> bool:
        """Whether the step has a phantom point."""
        return self._has_radius() and (not self._reuse.active or self._reuse.due)

    def _accumulate(self, micro: list[MicroBatch], ascends: bool) -> tuple[list[Loss], bool]:
        """Leave the summed gradient in ``grad``; the losses, first those at the real weights, and if all is finite."""
        if not ascends:
            return [self._run(b.gradient, b is micro[-1]) for b in micro], True
        real: list[Loss] = []
        phantom: list[Loss] = []
        for shared in [micro] if self._one_phantom else [[b] for b in micro]:
            finite = self._add_sharp_gradient(shared, shared[-1] is micro[-1], real, phantom)
            if not finite:
                return real, False
        return real + phantom, True

    def _add_sharp_gradient(self, shared: list[MicroBatch], last: bool, real: list[Loss], phantom: list[Loss]) -> bool:
        """Add the gradient that the rule follows, of micro-batches that share a phantom point; if all is finite.

        ``last``: no further micro-batches follow, so that processes now average the gradients.
        """
        aside = self._set_gradients_aside()
        noise = Noise() if self._same_noise else None
        weights = self._real_pass(shared, real)
        with self._statistics.held():
            try:
                # Nothing may hold the first gradients any longer than this: their memory is what the second pass needs.
                ascents = self._ascents(self._undo(len(shared)))
                if self._reuse.active:
                    self._reuse.keep(self._all())
                norm = self._perturbation.move(ascents)
                del ascents
                for parameter in self._all():
                    parameter.grad = aside.get(parameter)
                losses = real[-len(shared) :]
                if not self._distributed.all_agree(math.isfinite(norm) and self._finite(losses, [])):
                    return False
                self._phantom_pass(shared, weights, last, phantom, noise)
            finally:
                self._perturbation.restore()
        return True

    def _real_pass(self, shared: list[MicroBatch], losses: list[Loss]) -> list[Tensor]:
        """Gradients at the real weights; the example weights there, if the effect needs them."""
        weights = []
        inputs = self._needed_at_real_weights()
        for batch in shared:
            sync = self._distributed.average_real_gradients and batch is shared[-1]
            if self._effect == "jacobian":
                assert isinstance(batch, ForwardBatch)
                loss, of_batch = self._run(partial(batch.gradient_and_weights, inputs), sync)
                weights.append(of_batch)
            else:
                loss = self._run(partial(batch.gradient, inputs), sync)
            losses.append(loss)
        return weights

    def _phantom_pass(
        self, shared: list[MicroBatch], weights: list[Tensor], last: bool, losses: list[Loss], noise: Noise | None
    ) -> None:
        """Add the gradient of the effect; ``weights`` are the example weights at the real weights, if it needs them."""
        if noise is not None:
            noise.replay()
        if self._effect == "full":
            losses += [self._run(b.gradient, last and b is shared[-1]) for b in shared]
            return
        forwards = [b for b in shared if isinstance(b, ForwardBatch)]
        if self._effect == "weights":
            for batch in forwards:
                of_batch, loss = self._run(batch.example_weights, sync=False)
                weights.append(of_batch)
                losses.append(loss)
            self._perturbation.restore()
            if noise is not None:
                noise.replay()
        for batch, of_batch in zip(forwards, weights, strict=True):
            self._run(partial(batch.vjp, of_batch), last and batch is shared[-1])

    def _run(self, work: Callable[[], Any], sync: bool) -> Any:
        """Call ``work``; ``sync``: processes average their gradients in its backward pass."""
        context: AbstractContextManager[Any] = nullcontext() if sync else self._distributed.no_sync()
        with context:
            return work()

    # --- gradients ----------------------------------------------------------------------------------------------------

    def _all(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _set_gradients_aside(self) -> dict[Tensor, Tensor]:
        aside = {p: p.grad for p in with_gradient(self._all()) if p.grad is not None}
        for parameter in aside:
            parameter.grad = None
        return aside

    def _needed_at_real_weights(self) -> list[Tensor] | None:
        """The parameters whose gradient the first pass needs; None for all."""
        everything = len(self._selected) == len(self._all())
        if everything or (self._distributed.average_real_gradients and self._distributed.several):
            return None
        return [p for p in self._all() if p in self._selected and p.requires_grad] or None

    def _ascents(self, factor: float) -> list[Ascent]:
        """The selected parameters with a gradient, by group, their gradients multiplied by ``factor``."""
        groups = []
        for group in self.param_groups:
            chosen = with_gradient(p for p in group["params"] if p in self._selected)
            scale_gradients(chosen, factor)
            decay = group["weight_decay"] if self._decay_in_perturbation else 0.0
            groups.append(Ascent(chosen, float(group["rho"]), float(decay)))
        return groups

    def _undo(self, count: int) -> float:
        """What gradients summed over ``count`` micro-batches are multiplied by: mean, and no loss scale."""
        return self._scaling.factor / (count if self._mean else 1)

    def _finite(self, losses: list[Loss], parameters: list[Tensor]) -> bool:
        if not all(math.isfinite(float(loss)) for loss in losses):
            return False
        return all_finite([values(p.grad) for p in parameters if p.grad is not None])

    # --- checks -------------------------------------------------------------------------------------------------------

    def _require_valid_rho(self) -> None:
        for index, group in enumerate(self.param_groups):
            require_rho(f"param_groups[{index}]['rho']", group["rho"], group["params"])

    def _check_groups(self, decay_in_perturbation: bool) -> None:
        self._require_valid_rho()
        for index, group in enumerate(self.param_groups):
            if group.get("maximize"):
                raise ValueError(f"param_groups[{index}]['maximize']=True; allowed: False. Return the negative loss")
            if group.get("adaptive"):
                raise ValueError(
                    f"param_groups[{index}]['adaptive']={group['adaptive']!r}; allowed: norm='adaptive' of SAM"
                )
            if decay_in_perturbation and "weight_decay" not in group:
                raise ValueError(f"decay_in_perturbation=True, but {type(self.base).__name__} has no weight_decay")
