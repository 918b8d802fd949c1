"""Models by name: a body that makes penultimate features, and a linear head.

========================  ======================================================================================
name                      what it is
========================  ======================================================================================
``small_cnn``             a few convolutions; the default
``two_towers``            one ``small_cnn`` for the upper half of the image and one for the lower half: for dominoes, a
                          network whose features share no parameters, as in the theory (C18)
``small_resnet``          a few residual blocks, for 32 to 96 px
``resnet18``              ResNet-18 with a 3 x 3 stem and without pooling after it, for 28 to 96 px
``mlp``, ``linear``       fully connected on the pixels; a linear classifier
``torchvision:NAME``      any classifier of torchvision, option ``weights``: none, ``imagenet``, or a file
``timm:NAME``             any model of timm, if it is installed; the same option
``frozen:NAME``           the embeddings of one of these with weights (or of ``efficientnet_lite0``), computed once and
                          cached; only a head is trained on them, see :mod:`realdata.embeddings`
========================  ======================================================================================

What ``model_options`` each takes is listed in :mod:`realdata.model_options`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from realdata import small_models
from realdata.configuration import RunConfiguration
from realdata.datasets.base import ImageData
from realdata.model_options import checked_options


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

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def inputs(self, data: ImageData) -> Any:
        """What the model is fed: an array over all rows of the data, uint8 images or float32 embeddings."""
        return data.images

    @property
    def device(self) -> torch.device:
        return self.head.weight.device


def build(configuration: RunConfiguration, data: ImageData, *, pretrained: bool = True) -> Classifier:
    """The model of a configuration, for these images and classes, initialised from its seed, on the CPU.

    Args:
        pretrained: False leaves out weights that will be overwritten (by those of a checkpoint).

    Raises:
        ValueError: names the model or option and what is allowed.
    """
    name, classes = configuration.model, len(data.label_names)
    chosen = checked_options(name, configuration.model_options)
    family, _, member = name.partition(":")

    def make() -> Classifier:
        if family == "frozen":
            from realdata.embeddings import frozen_classifier

            return frozen_classifier(member, chosen, data)
        if family in ("torchvision", "timm"):
            from realdata.pretrained import backbone

            body, width = backbone(name, chosen["weights"] if pretrained else None, data)
        else:
            body, width = _small(name, chosen, data)
        return Classifier(body, nn.Linear(width, classes))

    model = small_models.seeded(make, configuration.seed)
    assert isinstance(model, Classifier)
    return model


def _small(name: str, chosen: dict[str, Any], data: ImageData) -> tuple[nn.Module, int]:
    channels, height, width = data.images.shape[1:]
    body: small_models.SmallCNN | small_models.TwoTowers | small_models.ResNet | small_models.MLP
    if name in ("small_cnn", "two_towers"):
        if name == "two_towers":
            height //= 2
        if min(height, width) >> chosen["depth"] == 0:
            raise ValueError(
                f"model_options['depth']={chosen['depth']} halves images of {height} x {width} px to nothing; "
                f"allowed: at most {max(min(height, width).bit_length() - 1, 0)}"
            )
        cnn = small_models.SmallCNN if name == "small_cnn" else small_models.TwoTowers
        body = cnn(channels, **chosen)
    elif name == "small_resnet":
        body = small_models.ResNet(channels, **chosen)
    elif name == "resnet18":
        body = small_models.ResNet(channels, stages=4, blocks=2, **chosen)
    else:
        body = small_models.MLP(channels * height * width, **({"width": 1, "depth": 0} if name == "linear" else chosen))
    small_models.initialize(body)
    return body, body.width
