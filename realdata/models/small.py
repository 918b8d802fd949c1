"""Networks for small images (28 to 96 px) and for vectors, small enough to train on a laptop's CPU.

All return their penultimate features [n, D]; the last linear layer is added by :mod:`realdata.models.build`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from realdata.models.classifier import Readout


def norm_layer(name: str, channels: int) -> nn.Module:
    """Batch norm, group norm with groups of four channels or more (at most eight groups), or nothing."""
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        return nn.GroupNorm(math.gcd(8, max(channels // 4, 1)), channels)
    return nn.Identity()


class Flattened(Readout):
    """[n, C, H, W] to [n, C H W]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class GlobalMean(Readout):
    """[n, C, H, W] to [n, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class HalfMeans(Readout):
    """[n, C, H, W] to [n, 2 C]: the mean of the upper half of the places and the mean of the lower half."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < 2:
            raise ValueError(
                "model_options['head']='windows' with one row of places before the head; allowed: larger images, or"
                " flatten, pooled"
            )
        return torch.cat([half.mean((2, 3)) for half in x.tensor_split(2, dim=2)], dim=1)


def readout(head: str) -> Readout:
    """What makes features [n, D] of channels at places [n, C, H, W]: ``flatten``, ``pooled`` or ``windows``."""
    return {"flatten": Flattened, "pooled": GlobalMean, "windows": HalfMeans}[head]()


class SmallCNN(nn.Sequential):
    """``depth`` stages of ``blocks`` 3 x 3 convolutions; each stage doubles the channels and halves the image.

    The pooling comes directly after the convolution, so that norm and ReLU work on a quarter of the pixels. (ReLU and
    the maximum commute; a norm does not, but trains as well there and is a third of the time of a step on a CPU.)

    Args:
        channels: channels of the images. width: channels of the first stage. head: see :func:`readout`.
    """

    def __init__(
        self,
        channels: int,
        width: int = 16,
        depth: int = 3,
        blocks: int = 1,
        norm: str = "batch",
        head: str = "pooled",
    ) -> None:
        layers: list[nn.Module] = []
        for stage in range(depth):
            outputs = width << stage
            for block in range(blocks):
                layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=norm == "none"))
                if block == 0:
                    layers.append(nn.MaxPool2d(2))
                layers += [norm_layer(norm, outputs), nn.ReLU(inplace=True)]
                channels = outputs
        super().__init__(*layers, readout(head))
        self.width = channels


class PaperCNN(nn.Sequential):
    """Three convolutions with ReLU and stride 2: 5 x 5, 3 x 3 and 3 x 3, with 1, 2 and 4 times ``width`` channels.

    They have biases and no norms, and are padded so that each halves the image (rounded up).

    Args:
        channels: channels of the images. head: see :func:`readout`.
    """

    def __init__(self, channels: int, width: int = 32, head: str = "flatten") -> None:
        layers: list[nn.Module] = []
        for stage, kernel in enumerate((5, 3, 3)):
            outputs = width << stage
            layers += [nn.Conv2d(channels, outputs, kernel, 2, kernel // 2), nn.ReLU(inplace=True)]
            channels = outputs
        super().__init__(*layers, readout(head))
        self.width = channels


class TwoTowers(nn.Module):
    """A :class:`SmallCNN` for the upper half of the image and another for the lower half, features side by side.

    On dominoes each of the two features then has parameters of its own, which is what the theory of SAM's balancing
    assumes (C18); in one network for the whole image they share all filters.

    Args:
        channels: channels of the images. options: options of each :class:`SmallCNN`.
    """

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__()
        self.upper = SmallCNN(channels, **options)
        self.lower = SmallCNN(channels, **options)
        self.width = self.upper.width + self.lower.width

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = x.tensor_split(2, dim=2)
        return torch.cat([self.upper(upper), self.lower(lower)], dim=1)


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al. 2016), a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        biased = norm == "none"
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=biased)
        self.first_norm = norm_layer(norm, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=biased)
        self.second_norm = norm_layer(norm, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=biased), norm_layer(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        hidden = relu(self.first_norm(self.first(x)), inplace=True)
        return relu(self.second_norm(self.second(hidden)) + self.shortcut(x), inplace=True)


class ResNet(nn.Sequential):
    """Stages of residual blocks; each stage but the first halves the image and doubles the channels.

    ``stages=4, blocks=2, width=64`` without pooling is ResNet-18 with the 3 x 3 stem that is usual for CIFAR.

    Args:
        stem_pooling: halve the image once more after the first convolution, which quarters the time of a step.
        head: see :func:`readout`.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stages: int,
        blocks: int,
        norm: str,
        stem_pooling: bool = False,
        head: str = "pooled",
    ) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none")]
        if stem_pooling:
            layers.append(nn.MaxPool2d(2))
        layers += [norm_layer(norm, width), nn.ReLU(inplace=True)]
        inputs = width
        for stage in range(stages):
            for block in range(blocks):
                outputs = width << stage
                layers.append(Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1, norm))
                inputs = outputs
        super().__init__(*layers, readout(head))
        self.width = inputs


class MLP(nn.Sequential):
    """Fully connected ReLU layers on the pixels (or on embeddings); ``depth=0`` gives the pixels themselves."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
            inputs = width
        super().__init__(*layers)
        self.width = inputs


Body = SmallCNN | TwoTowers | PaperCNN | ResNet | MLP
"""The networks of this module; ``width`` is the number of their last channels."""


def features_of(body: Body, shape: tuple[int, ...]) -> int:
    """Number of features of an image [C, H, W]: the last channels, once per place or half that the head sees."""
    if isinstance(body, (TwoTowers, MLP)) or isinstance(body[-1], GlobalMean):
        return body.width
    training = body.training
    with torch.no_grad():
        features: Tensor = body.eval()(torch.zeros(1, *shape))
    body.train(training)
    return features.shape[1]


def initialize(module: nn.Module) -> None:
    """He's normal initialisation of convolutions and hidden linear layers, in the mode that keeps the backward pass's
    variance for convolutions (He et al. 2015); norms start as the identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call ``make`` with torch's random numbers seeded by ``seed``; the global generators do not change.

    Runs on the CPU, so that all devices start from the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
