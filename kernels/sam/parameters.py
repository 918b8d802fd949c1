"""Which parameters there are, what they are called, and which of them the perturbation moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Predicate = Callable[[str, Tensor], bool]
PERTURBED_SETS = ("all", "last-layer")


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile``, whose names have no
    prefix."""
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


class Parameters:
    """Names of the optimized parameters, in the module's order where the module is known.

    ``params`` is what :class:`kernels.SAM` takes: a module, or an iterable of parameters, of (name, parameter) pairs
    or of groups (dictionaries) of either. Names come from the module if there is one, else from the pairs; a parameter
    without a name is called ``param_groups[i][j]``.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self.names: dict[Tensor, str] = {}
        self.named = model is not None
        self._of_model: dict[Tensor, str] = {}
        if model is not None:
            self._of_model = {p: name for name, p in unwrapped(model).named_parameters()}

    def groups(self, params: Any) -> list[dict[str, Any]]:
        """``params`` as new dictionaries with plain parameters; their names are kept here."""
        if isinstance(params, Tensor):
            raise ValueError(
                "params is a single tensor; allowed: a module, parameters, (name, parameter) pairs or groups"
            )
        if isinstance(params, nn.Module):
            params = list(unwrapped(params).named_parameters())
        entries = list(params)
        if not entries:
            raise ValueError("params is empty; was it an iterator that something else has already used up?")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        plain = [self.group(group, index) for index, group in enumerate(groups)]
        if not self.names:
            raise ValueError(f"params: no parameter in {len(plain)} groups; allowed: at least one, in any group")
        return plain

    def group(self, group: Mapping[str, Any], index: int) -> dict[str, Any]:
        """One group as a new dictionary with plain parameters."""
        if not isinstance(group, Mapping):
            raise ValueError(f"param_groups[{index}]={group!r}; allowed: a dictionary with 'params'")
        if "params" not in group:
            raise ValueError(
                f"param_groups[{index}] has no 'params', only {sorted(map(str, group))}; allowed: 'params' and options"
            )
        entries = group["params"]
        if isinstance(entries, nn.Module):
            entries = list(unwrapped(entries).named_parameters())
        plain: list[Tensor] = []
        for position, entry in enumerate([entries] if isinstance(entries, Tensor) else entries):
            name, parameter = entry if isinstance(entry, tuple) else (None, entry)
            if not isinstance(parameter, Tensor):
                raise ValueError(f"param_groups[{index}][{position}] is a {type(parameter).__name__}, not a parameter")
            self.named = self.named or name is not None
            name = self._of_model.get(parameter, name) or f"param_groups[{index}][{position}]"
            _require_supported(name, parameter)
            self.names[parameter] = name
            plain.append(parameter)
        return {**group, "params": plain}

    def in_order(self) -> list[tuple[str, Tensor]]:
        """(name, parameter): in the module's order, then those that the module does not have, as they came."""
        ordered: list[Tensor] = [p for p in self._of_model if p in self.names]
        ordered += [p for p in self.names if p not in self._of_model]
        return [(self.names[p], p) for p in ordered]

    def selected(self, perturb: str | Predicate) -> frozenset[Tensor]:
        """The parameters that the perturbation moves and whose gradient enters its norm."""
        if callable(perturb):
            chosen = [p for name, p in self.in_order() if perturb(name, p)]
        elif perturb == "all":
            chosen = list(self.names)
        elif perturb == "last-layer":
            chosen = self._last_layer()
        else:
            allowed = ", ".join(map(repr, PERTURBED_SETS))
            raise ValueError(f"perturb={perturb!r}; allowed: {allowed} or a function of (name, parameter)")
        if not chosen:
            raise ValueError(f"perturb={perturb!r} selects none of the {len(self.names)} parameters")
        return frozenset(chosen)

    def _last_layer(self) -> list[Tensor]:
        if not self.named:
            raise ValueError(
                "perturb='last-layer' needs names: SAM(model, ...), SAM(params, model=model) or "
                "SAM(model.named_parameters(), ...)"
            )
        matrices = [name for name, p in self.in_order() if p.ndim >= 2 and p.requires_grad]
        if not matrices:
            raise ValueError("perturb='last-layer' finds no trainable parameter with two or more dimensions")
        return [p for name, p in self.in_order() if _layer(name) == _layer(matrices[-1])]


def _layer(name: str) -> str:
    """``fc`` of ``fc.weight`` and of ``fc.parametrizations.weight.original0``."""
    return name.split("parametrizations.")[0].rstrip(".") if "parametrizations." in name else name.rpartition(".")[0]


def _require_supported(name: str, parameter: Tensor) -> None:
    if nn.parameter.is_lazy(parameter):
        raise ValueError(f"parameter {name} has no shape yet; run the lazy module once before SAM is built")
    if parameter.is_complex():
        raise ValueError(f"parameter {name} is complex; allowed: real ones. Keep torch.view_as_real of it as parameter")
    if is_sharded(parameter):
        placements: Any = parameter.placements  # type: ignore[attr-defined]
        if not all(placement.is_shard() for placement in placements):
            raise ValueError(
                f"parameter {name} is a DTensor placed as {placements}; allowed: shards alone, as fully_shard over one "
                "dimension of processes makes them"
            )


def with_gradient(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those of ``parameters`` that have a gradient."""
    return [p for p in parameters if p.grad is not None]


def is_sharded(parameter: Tensor) -> bool:
    """Whether a parameter is a DTensor, of which this process has a part."""
    return hasattr(parameter, "_local_tensor")


def own_part(tensor: Tensor) -> Tensor:
    """A tensor, or this process's part of it; writing to the part writes to the tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def values(gradient: Tensor) -> Tensor:
    """The numbers of a gradient (this process's part of it), which may be sparse; a sparse one must be coalesced."""
    gradient = own_part(gradient)
    return gradient.values() if gradient.is_sparse else gradient


@torch.no_grad()
def scale_gradients(parameters: Iterable[Tensor], factor: float) -> None:
    """Coalesce the sparse gradients and multiply all of them by ``factor``."""
    gradients = []
    for parameter in with_gradient(parameters):
        assert parameter.grad is not None
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
        gradients.append(values(parameter.grad))
    if factor != 1.0 and gradients:
        torch._foreach_mul_(gradients, factor)


@torch.no_grad()
def add_gradients(gradients: Mapping[Tensor, Tensor]) -> None:
    """Add to the gradient of each parameter its entry of ``gradients``."""
    for parameter, gradient in gradients.items():
        parameter.grad = gradient if parameter.grad is None else (parameter.grad + gradient)
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()


def norm_of(tensors: list[Tensor]) -> float:
    """l2 norm of all tensors together; inf or NaN if an entry is, and inf if the sum of squares overflows.

    Half precision is summed in float32. Parameters may lie on several devices. One host synchronisation a device.
    """
    wide = [t for t in tensors if t.dtype in (torch.float32, torch.float64)]
    narrow = [t for t in tensors if t.dtype not in (torch.float32, torch.float64)]
    norms = list(torch._foreach_norm(wide)) if wide else []
    norms += [torch.linalg.vector_norm(t, dtype=torch.float32) for t in narrow]
    alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for norm in norms:
        alike.setdefault((norm.device, norm.dtype), []).append(norm)
    return math.sqrt(sum(float(torch.stack(group).double().square().sum()) for group in alike.values()))


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether no entry is infinite or NaN."""
    # The norm is the fast test. It may overflow without an infinite entry.
    return math.isfinite(norm_of(tensors)) or all(bool(t.isfinite().all()) for t in tensors)
