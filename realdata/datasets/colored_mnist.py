"""ColoredMNIST as in DomainBed: colour predicts a noisy label better than shape, except in one environment.

All 70,000 digits are shuffled; environment i of three takes every third. The label is whether the digit is below 5,
flipped with probability 0.25. The colour is the label, flipped with probability 0.1, 0.2 or 0.9, depending on the
environment. Images have two channels of 28 x 28 pixels, one of which is black.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realdata.datasets.base import Card, Images
from realdata.datasets.cache import digest
from realdata.datasets.ceiling import CEILING_HELP, NONE, require_ceiling, with_ceiling
from realdata.datasets.domains import TargetOptions, deal_environments, options_help, target_splits
from realdata.datasets.labelled import MNIST_TREE, idx_partitions, title_of_digits
from realdata.datasets.sources import FileSource, GreySource, ImageSource, Opened, Reader, Rows, rows_of
from realdata.datasets.specification import Contents, DataSetSpec

ENVIRONMENTS = ("+90%", "+80%", "-90%")
COLOUR_NOISE = (0.1, 0.2, 0.9)
LABEL_NOISE = 0.25
SHAPES, COLOURS = ("digit 5-9", "digit 0-4"), ("red", "green")

OPTIONS_HELP = {**options_help(ENVIRONMENTS, drawn="the noise"), "ceiling": CEILING_HELP}


@dataclass(frozen=True)
class Options(TargetOptions):
    """Target environment, split and ceiling, see ``OPTIONS_HELP``."""

    ENVIRONMENTS = ENVIRONMENTS
    ceiling: str = NONE

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ceiling(self.ceiling)


@dataclass(frozen=True)
class Coloured:
    """Grey images, each in one of two channels."""

    grey: ImageSource
    channel: Rows

    def __len__(self) -> int:
        return len(self.channel)

    def files(self) -> Iterator[FileSource]:
        """Image files of the grey images."""
        return self.grey.files()

    def open(self, reader: Reader) -> Opened:
        """uint8 [N, 2, H, W]."""
        opened = self.grey.open(reader)
        return Opened(ColouredImages(opened.images, self.channel), digest(opened.digest, self.channel), opened.broken)


@dataclass(frozen=True)
class ColouredImages:
    """uint8 [N, 2, H, W], put together when read."""

    grey: Images
    channel: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 2, H, W)."""
        return len(self.channel), 2, *self.grey.shape[2:]

    def __getitem__(self, index: Rows) -> NDArray[np.uint8]:
        rows = rows_of(index, len(self.channel))
        out = np.zeros((len(rows), 2, *self.grey.shape[2:]), np.uint8)
        out[np.arange(len(rows)), self.channel[rows]] = self.grey[rows][:, 0]
        return out


def inspect(root: Path, options: Options) -> Contents:
    """The three environments, from MNIST's files."""
    images, digit, _, folder = idx_partitions(root, fashion=False)
    generator = np.random.default_rng([options.seed, 0xC0])
    environment = deal_environments(generator, len(digit), len(ENVIRONMENTS))
    shape = (digit < 5).astype(np.int64)
    label = shape ^ (generator.random(len(digit)) < LABEL_NOISE)
    colour = label ^ (generator.random(len(digit)) < np.array(COLOUR_NOISE)[environment])
    split, probe_split = target_splits(environment, ENVIRONMENTS, options.target, options.holdout, options.seed)
    title, differences = title_of_digits("ColoredMNIST", len(digit))
    contents = Contents(
        title=title,
        differences=differences,
        source=Coloured(GreySource(images), colour),
        label=label,
        hard=shape,
        easy=colour,
        group=label * 2 + colour,
        split=split,
        probe_split=probe_split,
        environment=environment,
        label_names=("label 0", "label 1"),
        hard_names=SHAPES,
        easy_names=COLOURS,
        group_names=tuple(f"label {label}, {colour}" for label in (0, 1) for colour in COLOURS),
        environment_names=ENVIRONMENTS,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        flip=False,
        found=(("MNIST", f"{folder}: {len(digit):,} images"),),
    )
    return with_ceiling(contents, options.ceiling, options.seed)


SPEC = DataSetSpec(
    name="colored_mnist",
    options=Options,
    options_help=OPTIONS_HELP,
    tree=MNIST_TREE,
    card=Card(
        meaning="label: whether the digit is below 5, flipped for a quarter of the images; hard attribute: the shape,"
        " without that noise; easy attribute: the colour; groups: label times colour; environments: how often colour"
        " and label agree",
        citation="Arjovsky, Bottou, Gulrajani, Lopez-Paz: Invariant Risk Minimization, 2019; Gulrajani, Lopez-Paz:"
        " In Search of Lost Domain Generalization, ICLR 2021",
        licence="MNIST: CC BY-SA 3.0",
    ),
    inspect=inspect,
    source_of_files="python -m realdata download mnist",
    environments=ENVIRONMENTS,
)
