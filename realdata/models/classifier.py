"""Base class of all models: a body that computes features, and a linear head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from realdata.datasets.base import ImageData


class Readout(nn.Module):
    """The last layer of a convolutional body: features [n, D] of channels at places [n, C, H, W]."""


class Classifier(nn.Module):
    """A network whose last layer is linear: ``forward(x) = head(features(x))``.

    Attributes:
        body: images [n, C, H, W], normalised, to features [n, D].
        head: the last layer, [n, D] to logits [n, classes]. Registered last, so that ``perturb="last-layer"`` means it.
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features [n, D]."""
        features: Tensor = self.body(x)
        return features

    def features_and_places(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Penultimate features [n, D], and the channels at places [n, C, H, W] of which the body's readout makes them;
        None instead of the latter for a body without a readout."""
        layers = list(self.body) if isinstance(self.body, nn.Sequential) else []
        if not layers or not isinstance(layers[-1], Readout):
            return self.features(x), None
        for layer in layers[:-1]:
            x = layer(x)
        features: Tensor = layers[-1](x)
        return features, x

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def inputs(self, data: ImageData) -> Any:
        """Inputs of the model for all rows of the data: uint8 images or float32 embeddings."""
        return data.images

    @property
    def device(self) -> torch.device:
        return self.head.weight.device
