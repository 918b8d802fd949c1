"""A few small images in memory, with a label that can be learned in seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from realdata.configuration import RunConfiguration
from realdata.datasets.base import EVALUATE, FIT, TEST, TRAIN, UNUSED, VALIDATION, Card, ImageData


def toy(
    count: int = 120, channels: int = 3, height: int = 8, width: int = 8, classes: int = 2, **changes: Any
) -> ImageData:
    """Noise, brighter in the upper half by the easy attribute and in every second column by the label.

    The first 60 % are for training, the rest is halved into validation and test.
    """
    random = np.random.default_rng(0)
    label = random.integers(0, classes, count)
    easy = np.where(random.random(count) < 0.9, label % 2, 1 - label % 2)
    images = random.integers(0, 60, (count, channels, height, width), dtype=np.uint8)
    images[:, :, : height // 2] += (60 * easy[:, None, None, None]).astype(np.uint8)
    images[:, :, :, ::2] += (40 * label[:, None, None, None]).astype(np.uint8)
    split = np.repeat([TRAIN, VALIDATION, TEST], [count - 2 * (count // 5), count // 5, count // 5]).astype(np.int8)
    names = tuple(f"class {i}" for i in range(classes))
    values: dict[str, Any] = {
        "name": "toy",
        "title": "Toy images",
        "images": images,
        "label": label,
        "hard": label,
        "easy": easy,
        "group": 2 * label + easy,
        "split": split,
        "probe_split": np.array([UNUSED, FIT, EVALUATE], dtype=np.int8)[split],
        "environment": np.zeros(count, dtype=np.int64),
        "label_names": names,
        "hard_names": names,
        "easy_names": ("dark", "bright"),
        "group_names": tuple(f"{name}, {easy}" for name in names for easy in ("dark", "bright")),
        "environment_names": ("all",),
        "mean": (0.2, 0.3, 0.4)[:channels],
        "std": (0.2, 0.25, 0.3)[:channels],
        "flip": True,
        "card": Card("none", "none", "none"),
        "fingerprint": f"toy-{count}-{channels}-{height}-{width}-{classes}",
        **changes,
    }
    return ImageData(**values)


def configuration(**changes: Any) -> RunConfiguration:
    """Two epochs of a tiny network: nine steps of eight images in each."""
    values: dict[str, Any] = {
        "data": "toy", "model_options": {"width": 4, "depth": 2}, "batch_size": 8, "epochs": 2, "lr": 0.1
    }  # fmt: skip
    return RunConfiguration(**{**values, **changes})
