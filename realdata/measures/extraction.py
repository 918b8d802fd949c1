"""Penultimate features and logits of a trained model on rows of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from realdata.datasets.base import ImageData
from realdata.datasets.batches import Normalization, Rows, RowSource, chunks_of, in_memory
from realdata.models.classifier import Classifier
from realdata.models.own import wrap
from realdata.models.small import GlobalMean, HalfMeans


@dataclass(frozen=True)
class Extracted:
    """``features`` float32 [n, D] and ``logits`` float32 [n, classes], in the order of the rows that were asked for.

    ``readouts`` float32 [n, ...]: further readings of the last feature maps by name, as far as the network has them.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    readouts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def batches_of(data: ImageData, rows: Rows, size: int, model: Classifier | None = None) -> Iterator[Tensor]:
    """Inputs of a model for these rows, in order, without augmentation, at most ``size`` at a time.

    Args:
        model: determines the device and whether its inputs are images or embeddings; None: images on the CPU.

    Returns:
        Normalised images float32 [n, C, H, W] (embeddings float32 [n, D] of a frozen model).
    """
    device = torch.device("cpu") if model is None else model.device
    array = data.images if model is None else model.inputs(data)
    normalization = Normalization(data, device)
    # Each row is needed once: nothing is gained by moving all of them to the device first.
    source = RowSource(array, rows, device, resident=in_memory(array, device))
    for batch in source.batches(chunks_of(np.asarray(rows, dtype=np.int64), size)):
        yield normalization(batch)


@torch.no_grad()
def extract(
    model: nn.Module, data: ImageData, rows: Rows, *, batch_size: int = 128, readouts: Sequence[str] = ()
) -> Extracted:
    """Features and logits of rows, in evaluation mode, on the device of the model, in float32.

    Args:
        model: a :class:`Classifier`, or any module with a linear last layer, see :func:`realdata.models.own.wrap`.
        rows: int64 [n].
        batch_size: images per forward pass; changes the result only by rounding.
        readouts: some of :data:`realdata.measures.protocols.READOUTS`, computed in the same forward pass.
    """
    model = wrap(model)
    was_training = model.training
    model.eval()
    features, logits = [], []
    readings: dict[str, list[Tensor]] = {}
    try:
        for batch in batches_of(data, rows, batch_size, model):
            of_batch, places = model.features_and_places(batch) if readouts else (model.features(batch), None)
            for name, reading in ({} if places is None else read_places(places, readouts)).items():
                readings.setdefault(name, []).append(reading.float().cpu())
            features.append(of_batch.float().cpu())
            logits.append(model.head(of_batch).float().cpu())
    finally:
        model.train(was_training)
    if not features:
        head = model.head
        return Extracted(
            np.zeros((0, head.in_features), dtype=np.float32), np.zeros((0, head.out_features), dtype=np.float32)
        )
    joined = {name: torch.cat(parts).numpy() for name, parts in readings.items()}
    return Extracted(torch.cat(features).numpy(), torch.cat(logits).numpy(), joined)


def read_places(places: Tensor, readouts: Sequence[str]) -> dict[str, Tensor]:
    """Readings [n, ...] of channels at places [n, C, H, W], see :data:`realdata.measures.protocols.READOUTS`.

    The halves are missing if there is one row of places.
    """
    found = {"pooled": GlobalMean()(places)}
    if places.shape[2] > 1:
        found["placed"] = HalfMeans()(places)
        found["upper"], found["lower"] = found["placed"].chunk(2, dim=1)
    return {name: found[name] for name in readouts if name in found}
