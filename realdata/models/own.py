"""Networks of one's own as classifiers: any module whose last layer is linear, with its own head and weights.

model = wrap(torchvision.models.resnet50())           the last nn.Linear is the head
model = wrap(network, head="classifier.1")            or the one with this name
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from realdata.datasets.base import ImageData
from realdata.models.classifier import Classifier
from realdata.models.pretrained import IMAGENET, Adapted, last_linear, names_like
from realdata.models.weights_file import first_line

PREFIXES = ("module.", "model.", "net.", "network.", "_orig_mod.")
"""What data-parallel training, Lightning and ``torch.compile`` put before the names of weights."""
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
"""Names under which checkpoints keep the weights."""


class OwnNetwork(Classifier):
    """Any module as a :class:`Classifier`; the features are what its head is given.

    Attributes:
        network: images, normalised, to logits. head: its last layer.
    """

    def __init__(self, network: nn.Module, head: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.network = network
        self.head = head
        self.training = network.training  # so that whoever restores the mode restores the network's

    def features(self, x: Tensor) -> Tensor:
        """What the head is given, [n, D]."""
        return self._run(x)[0]

    def features_and_places(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features; the places of a foreign network are not known."""
        return self.features(x), None

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.network(x)
        return logits

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of one forward pass."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits: Tensor = self.network(x)
        finally:
            hook.remove()
        if len(seen) != 1 or seen[0].ndim != 2:
            how = f"used {len(seen)} times" if len(seen) != 1 else f"given features of shape {tuple(seen[0].shape)}"
            raise ValueError(f"head is {how} in a forward pass; allowed: a last layer that is used once, on [n, D]")
        return seen[0], logits

    def require_last(self, x: Tensor) -> None:
        """Raise a ValueError if the network does something with its logits after the head."""
        training = self.training
        with torch.no_grad():
            features, logits = self.eval()._run(x)
            expected = self.head(features)
        self.train(training)
        if logits.shape != expected.shape or not torch.allclose(logits, expected, rtol=1e-4, atol=1e-5):
            raise ValueError("the network changes the head's logits; allowed: a network whose last layer is its head")


def wrap(network: nn.Module, head: str | None = None) -> Classifier:
    """A module as a classifier; a :class:`Classifier` stays what it is.

    Args:
        network: from normalised images [n, C, H, W] to logits [n, classes].
        head: name of its last layer, an ``nn.Linear``; None takes the last one that is registered.

    Raises:
        ValueError: if there is no such layer.
    """
    if isinstance(network, Classifier) and head is None:
        return network
    return OwnNetwork(network, _layer(network, head_name(network, head)))


def head_name(network: nn.Module, head: str | None = None) -> str:
    """Name of the last layer; arguments and errors as in :func:`wrap`."""
    name = last_linear(network) if head is None else head
    if name is None:
        raise ValueError(f"{type(network).__name__} has no nn.Linear layer; allowed: a network with a linear head")
    linear = [each for each, module in network.named_modules() if isinstance(module, nn.Linear)]
    if name not in linear:
        raise ValueError(f"head={head!r}; allowed: {', '.join(linear[-8:]) or 'none, there is no nn.Linear layer'}")
    return name


def _layer(network: nn.Module, name: str) -> nn.Linear:
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def from_checkpoint(
    data: ImageData,
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    factory: str | None = None,
    head: str | None = None,
    resolution: int | None = None,
) -> Classifier:
    """A network with the weights of a checkpoint, for the images of a data set.

    Args:
        path: file of a state dict, alone or in a dictionary under one of :data:`CONTAINERS`.
        model: ``torchvision:NAME`` or ``timm:NAME``, given images in ImageNet's normalisation; the number of classes is
            the checkpoint's.
        factory: ``module:function`` that makes the network, with the number of classes as its argument if it has one;
            given images in the normalisation of the data set.
        head: name of the last layer. resolution: images are resized to it, for torchvision and timm.

    Raises:
        ValueError: names the argument, its value and what is allowed.
    """
    if (model is None) == (factory is None):
        raise ValueError(f"model={model!r} and factory={factory!r}; allowed: one of them")
    state = read_state(path)
    make = _of_family(str(model)) if factory is None else _of_factory(factory)
    network = make(len(data.label_names))
    last = head_name(network, head)
    if f"{last}.weight" in state:
        classes = len(state[f"{last}.weight"])
        if classes != len(data.label_names):
            raise ValueError(
                f"checkpoint {path} has {classes} classes, {data.title} has {len(data.label_names)}"
                f" ({', '.join(data.label_names)}); allowed: as many"
            )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(f"checkpoint {path} does not fit {model or factory}: {' '.join(lines[1:3])}") from None
    if model is None:
        return wrap(network, head)
    return OwnNetwork(Adapted(data, network, IMAGENET, resolution), _layer(network, last))


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights in a file, by their names in the network."""
    import pickle

    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"checkpoint {path} holds pickled objects, which could run any code; allowed: a file of weights alone,"
            " torch.save(model.state_dict(), path)"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, AttributeError) as error:
        raise ValueError(f"checkpoint {path} cannot be read ({first_line(error)})") from None
    for name in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not content or not all(torch.is_tensor(v) for v in content.values()):
        raise ValueError(f"checkpoint {path} holds no weights by name; allowed: torch.save(model.state_dict(), path)")
    state = dict(content)
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
                stripped = True
    return state


def _of_family(name: str) -> Callable[[int], nn.Module]:
    family, _, member = name.partition(":")
    if family == "torchvision" and member:
        from torchvision import models

        known = models.list_models(module=models)
        if member not in known:
            raise ValueError(f"model={name!r}; allowed after 'torchvision:' {names_like(member, known)}")
        return lambda classes: models.get_model(member, weights=None, num_classes=classes)
    if family == "timm" and member:
        try:
            import timm
        except ImportError:
            raise ValueError(f"model={name!r} needs the package timm; pip install timm") from None
        if not timm.is_model(member):
            raise ValueError(f"model={name!r}; allowed after 'timm:' a name that timm.list_models() lists")
        return lambda classes: timm.create_model(member, num_classes=classes)
    raise ValueError(f"model={name!r}; allowed: torchvision:NAME, timm:NAME, or a factory of your own")


def _of_factory(name: str) -> Callable[[int], nn.Module]:
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"factory={name!r} ({first_line(error)}); allowed: module:function") from None
    takes = len(inspect.signature(make).parameters) > 0

    def made(classes: int) -> nn.Module:
        network = make(classes) if takes else make()
        if not isinstance(network, nn.Module):
            raise ValueError(f"factory={name!r} returned {type(network).__name__}; allowed: a torch.nn.Module")
        return network

    return made
