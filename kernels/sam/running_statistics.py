"""Running statistics of norm layers see the real weights only.

Whatever passes follow the one at the real weights, the buffers of every layer that keeps running statistics are put
back to what that pass left. A layer counts if it owns a buffer whose name starts with ``running_``: batch norm,
synchronised batch norm, instance norm, and layers of one's own that follow torch's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

Snapshot = dict[nn.Module, dict[str, Tensor]]
"""Copies of the buffers of layers, by their names."""


def keeps_running_statistics(layer: nn.Module) -> bool:
    """Whether a layer owns a buffer whose name starts with ``running_`` (not None)."""
    return any(name.startswith("running_") and buffer is not None for name, buffer in layer._buffers.items())


class RunningStatistics:
    """Snapshots of the norm layers of ``model``, or, without a model, of those seen at work during a step.

    Without a model the layers are found by a hook on all modules; compiled modules do not call it.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self._before: Snapshot = {}

    @contextmanager
    def observed(self) -> Iterator[None]:
        """A whole step: remembers how the statistics were before it."""
        if self._model is not None:
            self._before = _snapshot(m for m in self._model.modules() if keeps_running_statistics(m))
            try:
                yield
            finally:
                self._before = {}
            return

        def see(layer: nn.Module, inputs: Any) -> None:
            if layer not in self._before and keeps_running_statistics(layer):
                self._before.update(_snapshot([layer]))

        hook = register_module_forward_pre_hook(see)
        try:
            yield
        finally:
            hook.remove()
            self._before = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Afterwards the statistics are again what they are now."""
        held = _snapshot(self._before)
        try:
            yield
        finally:
            _put_back({layer: held.get(layer, before) for layer, before in self._before.items()})

    def roll_back(self) -> None:
        """Back to what they were before the step."""
        _put_back(self._before)


def _snapshot(layers: Iterable[nn.Module]) -> Snapshot:
    kept: Snapshot = {}
    current: list[Tensor] = []
    copies: list[Tensor] = []
    for layer in layers:
        of_layer = kept[layer] = {}
        for name, buffer in layer._buffers.items():
            if buffer is None:
                continue
            if nn.parameter.is_lazy(buffer):
                raise ValueError(
                    f"{type(layer).__name__} has no shape yet; run the lazy module once before the first step"
                )
            of_layer[name] = torch.empty_like(buffer)
            current.append(buffer)
            copies.append(of_layer[name])
    _copy(copies, current)
    return kept


def _put_back(snapshot: Snapshot) -> None:
    # A layer may have replaced a buffer meanwhile: it is the present one that is written to.
    current = [layer._buffers[name] for layer, copies in snapshot.items() for name in copies]
    _copy(current, [copy for copies in snapshot.values() for copy in copies.values()])


@torch.no_grad()
def _copy(targets: list[Any], sources: list[Tensor]) -> None:
    """Copies by kind of number: a list of one kind is copied in one launch on a GPU."""
    kinds: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        kind = target.dtype, target.device
        if kind not in kinds:
            kinds[kind] = ([], [])
        into, out_of = kinds[kind]
        into.append(target)
        out_of.append(source)
    for into, out_of in kinds.values():
        torch._foreach_copy_(into, out_of)
