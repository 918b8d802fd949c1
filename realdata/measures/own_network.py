"""Measure a network of one's own: probing errors, example weights, the toy's quantities, accuracies. No training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from realdata.configuration import RunConfiguration
from realdata.datasets.base import UNUSED, ImageData
from realdata.measures.evaluate import evaluate
from realdata.measures.protocols import Protocol
from realdata.measures.protocols import protocol as protocol_by_name
from realdata.measures.rows import Row
from sambalance_tools.checks import require_whole

if TYPE_CHECKING:
    from torch import nn


def probe_network(
    model: nn.Module,
    data: ImageData,
    *,
    head: str | None = None,
    method: str = "sam",
    rho: float = 0.05,
    protocol: Protocol | str = "fast",
    images: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """All measures of a network that was trained elsewhere, see :func:`realdata.measures.evaluate.evaluate`.

    Args:
        model: from normalised images [n, C, H, W] (normalised as ``data.mean`` and ``data.std`` say) to logits
            [n, classes], with a linear last layer. Its weights do not change.
        head: name of that layer; None takes the last ``nn.Linear``.
        method, rho: which phantom parameters the example weights are measured at.
        images: measure at most this many images of each split and of each part of the probe, a random part; None: all.
        seed: seed of the evaluation.

    Raises:
        ValueError: if the network has no linear head, changes its logits, or has another number of classes.
    """
    import torch

    from realdata.measures.extraction import batches_of
    from realdata.models.own import OwnNetwork, wrap

    wrapped = wrap(model, head)
    classes = wrapped.head.out_features
    if classes != len(data.label_names):
        raise ValueError(f"the head has {classes} classes, {data.title} has {len(data.label_names)}; allowed: as many")
    if images is not None:
        data = part_of(data, images, seed)
    if isinstance(wrapped, OwnNetwork):
        first = next(batches_of(data, np.flatnonzero(data.probe_split != UNUSED)[:2], 2, wrapped))
        with torch.no_grad():
            wrapped.require_last(first)
    configuration = RunConfiguration(data.name, model=type(model).__name__, method=method, rho=rho)
    training = model.training
    try:
        return evaluate(wrapped.eval(), data, configuration, protocol=protocol_by_name(protocol), seed=seed)
    finally:
        model.train(training)


def part_of(data: ImageData, images: int, seed: int = 0) -> ImageData:
    """The data set with at most so many images of each split and of each part of the probe, drawn at random."""
    require_whole("images", images, 8)
    random = np.random.default_rng([seed, 0xFE])
    split, probe = np.full_like(data.split, UNUSED), np.full_like(data.probe_split, UNUSED)
    for part, whole in ((split, data.split), (probe, data.probe_split)):
        for code in np.unique(whole[whole != UNUSED]):
            kept = random.permutation(np.flatnonzero(whole == code))[:images]
            part[kept] = code
    return dataclasses.replace(data, split=split, probe_split=probe)
