"""What SAM is given: checks with one clear error each, and the spellings of other packages."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

PRECISIONS = (torch.bfloat16, torch.float16)
ETA = 0.01


def require_flag(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}; allowed: True, False")


def require_kind(name: str, value: Any, kind: type, allowed: str) -> None:
    """Raise a ValueError unless ``value`` is None or a ``kind``."""
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name}={value!r}; allowed: {allowed} or None")


def require_precision(autocast: Any) -> None:
    """Raise a ValueError unless ``autocast`` is None or a precision that torch.autocast takes."""
    if autocast is not None and autocast not in PRECISIONS:
        allowed = ", ".join(map(str, PRECISIONS))
        raise ValueError(f"autocast={autocast!r}; allowed: {allowed} or None")


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number (or a tensor of one), not a truth value."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def largest_rho(parameters: list[Tensor]) -> float:
    """The radius above which squares of the moved weights overflow: the root of their precision's largest number."""
    return min((math.sqrt(torch.finfo(p.dtype).max) for p in parameters if p.is_floating_point()), default=math.inf)


def require_rho(name: str, rho: Any, parameters: list[Tensor]) -> None:
    """Raise a ValueError unless ``rho`` is a radius that the precision of ``parameters`` can hold."""
    if not is_number(rho) or not (math.isfinite(float(rho)) and float(rho) >= 0):
        raise ValueError(f"{name}={rho!r}; allowed: a finite number >= 0")
    if float(rho) > (most := largest_rho(parameters)):
        raise ValueError(f"{name}={rho!r}; allowed: 0 to {most:.3g}, beyond which the moved weights overflow")


def require_strength(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is a finite number >= 0."""
    if not is_number(value) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value!r}; allowed: a finite number >= 0")


def require_state(state_dict: Any) -> None:
    """Raise a ValueError unless ``state_dict`` looks like an optimizer's."""
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
        found = f"keys {sorted(map(str, state_dict))}" if isinstance(state_dict, Mapping) else repr(state_dict)
        raise ValueError(
            f"load_state_dict got {found}; allowed: what state_dict() of SAM or of its base optimizer returned, with "
            "the keys 'state' and 'param_groups'"
        )


def spelled_elsewhere(
    options: dict[str, Any], base: Any, norm: str, eta: float | None
) -> tuple[Callable[..., torch.optim.Optimizer], str, float]:
    """``base``, ``norm`` and ``eta``, where they may be spelled as in davda54/sam and pytorch_optimizer.

    ``base_optimizer=`` is ``base``. ``adaptive=True`` is ``norm="adaptive"`` with ``eta=0``: they have no eta.
    What was understood is taken out of ``options``.
    """
    if "base_optimizer" in options:
        if base is not torch.optim.SGD:
            raise ValueError(
                f"base={base!r} and base_optimizer={options['base_optimizer']!r}; allowed: one of them, base="
            )
        base = options.pop("base_optimizer")
    if "adaptive" in options:
        adaptive = options.pop("adaptive")
        require_flag("adaptive", adaptive)
        if adaptive and norm not in ("l2", "adaptive"):
            raise ValueError(f"adaptive=True and norm={norm!r}; allowed: norm='adaptive' alone")
        if adaptive:
            norm, eta = "adaptive", 0.0 if eta is None else eta
    if "perturb_eps" in options:
        raise ValueError(
            f"perturb_eps={options['perturb_eps']!r}; allowed: leave it out. SAM's norms neither over- nor "
            "underflow, and a zero gradient perturbs nothing"
        )
    eta = ETA if eta is None else eta
    require_strength("eta", eta)
    if isinstance(base, torch.optim.Optimizer) or not callable(base):
        raise ValueError(f"base={base!r}; allowed: a class such as torch.optim.SGD, its options as further arguments")
    return base, norm, eta


def require_model(model: Any) -> None:
    """Raise a ValueError unless ``model`` is None or a module."""
    require_kind("model", model, nn.Module, "a torch.nn.Module")
