"""What all data sets look like to the rest of the package: images, label, easy and hard attribute, group, split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of :attr:`Description.split`."""
SPLIT_NAMES = ("train", "validation", "test")
"""In the order of their codes."""

UNUSED, FIT, EVALUATE = -1, 0, 1
"""Codes of :attr:`Description.probe_split`."""


class Images(Protocol):
    """uint8 images [N, C, H, W]: an array, a memory-mapped file, or files that are decoded when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of these rows, [n, C, H, W]."""


@dataclass(frozen=True)
class Card:
    """What a data set is: meaning of its labels and attributes, who to cite, terms of use."""

    meaning: str
    citation: str
    licence: str


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pixels of ImageNet, in [0, 1]: how photographs are normalised."""

DIFFERENCES = LIKENESS, SUBSET, COPY = "likeness", "subset", "copy"
"""How images can differ from the published ones: others of the same kind; some of them; changed by size or encoding."""


@dataclass(frozen=True)
class Description:
    """What is known of images without looking at them.

    Attributes:
        title: what tables call the data set (says so if it is a subset, a copy or a likeness).
        differences: from the published images, some of ``DIFFERENCES``.
        label: int64 [N], the class that is trained, one of ``label_names``.
        hard: int64 [N], the attribute that a network with simplicity bias neglects (one of ``hard_names``).
        easy: int64 [N], the attribute it learns first (one of ``easy_names``); None where the data set has none.
        group: int64 [N], groups of the worst-group accuracy, one of ``group_names``.
        split: int8 [N], ``TRAIN``, ``VALIDATION`` or ``TEST``.
        probe_split: int8 [N], which images a probe is tuned and fitted on (``FIT``) and which measure it
            (``EVALUATE``). For most data sets those are validation and test; with a target environment, two parts of
            the target.
        environment: int64 [N], one of ``environment_names``.
        mean, std: float [C], of the normalisation (in units of [0, 1] pixels).
        flip: whether a mirrored image is still a valid one (no for digits).
    """

    title: str
    label: NDArray[np.int64]
    hard: NDArray[np.int64]
    easy: NDArray[np.int64] | None
    group: NDArray[np.int64]
    split: NDArray[np.int8]
    probe_split: NDArray[np.int8]
    environment: NDArray[np.int64]
    label_names: tuple[str, ...]
    hard_names: tuple[str, ...]
    easy_names: tuple[str, ...]
    group_names: tuple[str, ...]
    environment_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    differences: tuple[str, ...] = field(default=(), kw_only=True)


ARRAYS = ("label", "hard", "easy", "group", "split", "probe_split", "environment")
"""Attributes of a :class:`Description` with an entry for each image."""


@dataclass(frozen=True)
class ImageData(Description):
    """A data set in memory, or ready to be read.

    Attributes:
        name: name of the loader.
        images: uint8 [N, C, H, W].
        card: meaning, citation, licence.
        fingerprint: hash of the content and the options that made it.
        skipped: files that could not be decoded and were left out.
    """

    name: str
    images: Images
    card: Card
    fingerprint: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    @property
    def attribute_group(self) -> NDArray[np.int64]:
        """int64 [N], hard attribute times easy attribute: what a probe is balanced over."""
        return self.hard if self.easy is None else self.hard * len(self.easy_names) + self.easy

    def rows(self, split: int) -> NDArray[np.int64]:
        """Rows of a split, in order."""
        return np.flatnonzero(self.split == split)

    def probe_rows(self, part: int) -> NDArray[np.int64]:
        """Rows that a probe is fitted on or measured on, in order."""
        return np.flatnonzero(self.probe_split == part)
