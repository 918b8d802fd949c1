"""RotatedMNIST as in DomainBed: digits in six environments, each with its own angle of rotation.

All 70,000 digits are shuffled. Environment i of six takes every sixth digit and rotates it by 15 i degrees with
bilinear interpolation. Ten classes; one channel, 28 x 28 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realdata.datasets.base import Card
from realdata.datasets.cache import cached_array, digest
from realdata.datasets.domains import TargetOptions, deal_environments, options_help, target_splits
from realdata.datasets.labelled import DIGITS, MNIST_TREE, idx_partitions, title_of_digits
from realdata.datasets.sources import FileSource, GreySource, Opened, Reader
from realdata.datasets.specification import Contents, DataSetSpec

ENVIRONMENTS = ("0", "15", "30", "45", "60", "75")

OPTIONS_HELP = options_help(ENVIRONMENTS, "an angle in degrees", "the shuffling")


@dataclass(frozen=True)
class Options(TargetOptions):
    """Target environment and split, see ``OPTIONS_HELP``."""

    ENVIRONMENTS = ENVIRONMENTS


@dataclass(frozen=True)
class Rotated:
    """Grey images, each rotated counter-clockwise by its angle in degrees."""

    images: NDArray[np.uint8]
    degrees: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def files(self) -> Iterator[FileSource]:
        """An empty list: the images do not come from image files."""
        return iter(())

    def open(self, reader: Reader) -> Opened:
        """uint8 [N, 1, H, W], rotated once and cached."""
        key = digest(self.images, self.degrees)
        turned, _ = cached_array(reader.cache, f"rotated-{key}", self.images.shape, self._turn)
        return GreySource(turned).open(reader)

    def _turn(self, out: NDArray[np.uint8]) -> dict[str, object]:
        from PIL import Image

        for row, (image, angle) in enumerate(zip(self.images, self.degrees.tolist(), strict=True)):
            out[row] = np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))
        return {}


def inspect(root: Path, options: Options) -> Contents:
    """The six environments, from MNIST's files."""
    images, digit, _, folder = idx_partitions(root, fashion=False)
    environment = deal_environments(np.random.default_rng([options.seed, 0x40]), len(digit), len(ENVIRONMENTS))
    split, probe_split = target_splits(environment, ENVIRONMENTS, options.target, options.holdout, options.seed)
    title, differences = title_of_digits("RotatedMNIST", len(digit))
    return Contents(
        title=title,
        differences=differences,
        source=Rotated(images, np.array([int(name) for name in ENVIRONMENTS])[environment]),
        label=digit,
        hard=digit,
        easy=None,
        group=environment * len(DIGITS) + digit,
        split=split,
        probe_split=probe_split,
        environment=environment,
        label_names=DIGITS,
        hard_names=DIGITS,
        easy_names=(),
        group_names=tuple(f"{angle} degrees, {digit}" for angle in ENVIRONMENTS for digit in DIGITS),
        environment_names=ENVIRONMENTS,
        mean=(0.0,),
        std=(1.0,),
        flip=False,
        found=(("MNIST", f"{folder}: {len(digit):,} images"),),
    )


SPEC = DataSetSpec(
    name="rotated_mnist",
    options=Options,
    options_help=OPTIONS_HELP,
    tree=MNIST_TREE,
    card=Card(
        meaning="label and hard attribute: the digit; environment: the angle; groups: environment times label",
        citation="Ghifary, Kleijn, Zhang, Balduzzi: Domain Generalization for Object Recognition with Multi-task"
        " Autoencoders, ICCV 2015; as in Gulrajani, Lopez-Paz: In Search of Lost Domain Generalization, ICLR 2021",
        licence="MNIST: CC BY-SA 3.0",
    ),
    inspect=inspect,
    source_of_files="python -m realdata download mnist",
    environments=ENVIRONMENTS,
    has_easy=False,
)
