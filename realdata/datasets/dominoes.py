"""Dominoes: one image above another, correlated in training, independent in validation and test.

What the data sets made of two blocks share: pairing, splits, and images that are put together when read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from realdata.datasets.base import COPY, SPLIT_NAMES, SUBSET, TEST, TRAIN, VALIDATION, Images
from realdata.datasets.cache import digest
from realdata.datasets.ceiling import CEILING_HELP, NONE, relabelled, require_ceiling
from realdata.datasets.labelled import TITLES, Labelled, read_labelled
from realdata.datasets.sources import FileSource, ImageSource, Opened, Reader, Rows, rows_of
from realdata.datasets.specification import Contents, DataProblem
from realdata.datasets.tables import probe_split_of
from sambalance_tools.checks import require_whole

BLOCK = 32

PAIRING_HELP = {
    "correlation": "share of training images with the digit that belongs to their class, 0 to 1",
    "validation": "share of the training partitions that is held out for validation, in (0, 0.9]",
    "examples_per_class": "number of training images of each class; none: all",
    "partners": "number of different partners with which each image is paired in validation and test, 1 to the number"
    " of classes",
    "ceiling": f"{CEILING_HELP} (correlation does not count then)",
    "seed": "seed of the pairing and of the held-out part",
}


class Pairing(Protocol):
    """The options that all dominoes have, see ``PAIRING_HELP``."""

    @property
    def correlation(self) -> float: ...
    @property
    def validation(self) -> float: ...
    @property
    def examples_per_class(self) -> int | None: ...
    @property
    def partners(self) -> int: ...
    @property
    def ceiling(self) -> str: ...
    @property
    def seed(self) -> int: ...


def check_pairing(options: Pairing) -> None:
    """A ValueError names what is not allowed among the options of the pairing."""
    if not 0 <= options.correlation <= 1:
        raise ValueError(f"correlation={options.correlation!r}; allowed: a number from 0 to 1")
    if not 0 < options.validation <= 0.9:
        raise ValueError(f"validation={options.validation!r}; allowed: a number > 0 and <= 0.9")
    if options.examples_per_class is not None:
        require_whole("examples_per_class", options.examples_per_class, 1)
    require_whole("partners", options.partners, 1)
    require_ceiling(options.ceiling)
    require_whole("seed", options.seed, 0)


@dataclass(frozen=True)
class Block:
    """One of the two pictures: the data set it is from (a key of ``TITLES``), its classes, and their images."""

    kind: str
    names: tuple[str, ...]
    images: Labelled


def read_block(kind: str, root: Path, names: tuple[str, ...]) -> Block:
    """The images of these classes of ``"cifar10"``, ``"mnist"`` or ``"fashion_mnist"``."""
    return Block(kind, names, read_labelled(kind, root, names))


@dataclass(frozen=True)
class Dominoes:
    """Pairs of images, one above the other: row i is row ``top_rows[i]`` above row ``bottom_rows[i]``.

    ``channels`` is 3, or 1 if both blocks are grey.
    """

    top: ImageSource
    top_rows: Rows
    bottom: ImageSource
    bottom_rows: Rows
    channels: int = 3

    def __len__(self) -> int:
        return len(self.top_rows)

    def files(self) -> Iterator[FileSource]:
        """Image files of both blocks."""
        yield from self.top.files()
        yield from self.bottom.files()

    def open(self, reader: Reader) -> Opened:
        """Open both blocks at the reader's size (default 32); an image has 2 size x size pixels."""
        side = Reader(reader.size or BLOCK, reader.cache, reader.lazy, reader.verify, reader.progress)
        top, bottom = self.top.open(side), self.bottom.open(side)
        broken = {
            int(row): block.broken[int(rows[row])]
            for block, rows in ((top, self.top_rows), (bottom, self.bottom_rows))
            for row in np.flatnonzero(np.isin(rows, list(block.broken)))
        }
        images = DominoImages(
            top.images, self.top_rows, bottom.images, self.bottom_rows, reader.size or BLOCK, self.channels
        )
        return Opened(images, digest(top.digest, bottom.digest, self.top_rows, self.bottom_rows), broken)


@dataclass(frozen=True)
class DominoImages:
    """uint8 [N, channels, 2 side, side], put together when read, which takes little more time than a copy."""

    top: Images
    top_rows: Rows
    bottom: Images
    bottom_rows: Rows
    side: int
    channels: int = 3

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, channels, 2 side, side)."""
        return len(self.top_rows), self.channels, 2 * self.side, self.side

    def __getitem__(self, index: Rows) -> NDArray[np.uint8]:
        rows = rows_of(index, len(self.top_rows))
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        # A grey block has one channel, which is repeated.
        out[:, :, : self.side] = self.top[self.top_rows[rows]]
        out[:, :, self.side :] = self.bottom[self.bottom_rows[rows]]
        return out


def paired(bottom: Block, top: Block, options: Pairing, channels: int = 3) -> Contents:
    """The dominoes that can be made of two blocks of as many classes; class k below belongs to class k above.

    Label and hard attribute are the class of the lower block, the easy attribute is that of the upper one. With a
    ceiling, the pairs of the training part are independent, too.
    """
    below, above, count = bottom.names, top.names, len(bottom.names)
    if options.partners > count:
        raise ValueError(f"partners={options.partners!r} with {count} classes; allowed: at most one of each class")
    correlation = options.correlation if options.ceiling == NONE else 1 / count
    generator = np.random.default_rng([options.seed, 0xD0])
    parts = {"bottom": _partitions(bottom.images, count, options.validation, generator)}
    parts["top"] = _partitions(top.images, count, options.validation, generator)
    rows: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for split in (TRAIN, VALIDATION, TEST):
        available = size = min(len(images) for block in parts.values() for images in block[split])
        if split == TRAIN:
            size = min(size, options.examples_per_class or size)
            table = correlated_counts(size, count, correlation)
        else:
            size -= size % count
            table = np.full((count, count), size // count)
        if size < 1:
            raise DataProblem(
                f"too few images for {count} classes: the smallest class has {available} for {SPLIT_NAMES[split]}",
                f"give at least {1 if split == TRAIN else count} of each there (validation={options.validation})",
            )
        rows.append(_paired(table, parts["bottom"][split], parts["top"][split], generator))
        for shift in range(1, options.partners if split != TRAIN else 1):
            # The tables of evaluation are even: each image meets the next class in turn.
            turned = [np.roll(images[:size], shift * (size // count)) for images in parts["bottom"][split]]
            rows.append(_paired(table, turned, parts["top"][split], generator))
    bottom_rows = np.concatenate([pair[0] for pair in rows])
    top_rows = np.concatenate([pair[1] for pair in rows])
    times = [split for split in (TRAIN, VALIDATION, TEST) for _ in range(options.partners if split != TRAIN else 1)]
    splits = np.repeat(np.array(times, np.int8), [len(pair[0]) for pair in rows])
    hard, easy = bottom.images.label[bottom_rows], top.images.label[top_rows]
    name, notes = f"{TITLES[bottom.kind]}-{TITLES[top.kind]}", _notes(top.images, bottom.images)
    contents = Contents(
        title=f"{name} ({', '.join(notes.values())})" if notes else name,
        differences=tuple(notes),
        source=Dominoes(top.images.source, top_rows, bottom.images.source, bottom_rows, channels),
        label=hard,
        hard=hard,
        easy=easy,
        group=hard * count + easy,
        split=splits,
        probe_split=probe_split_of(splits),
        environment=np.zeros(len(hard), np.int64),
        label_names=below,
        hard_names=below,
        easy_names=above,
        group_names=tuple(f"{one}, {other}" for one in below for other in above),
        environment_names=("all",),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        flip=False,
        found=(bottom.images.found, top.images.found),
        remarks=bottom.images.remarks + top.images.remarks,
    )
    return relabelled(contents, options.ceiling)


def correlated_counts(size: int, classes: int, correlation: float) -> NDArray[np.int64]:
    """Number of training images of each pair, [class, digit]; every class and every digit has ``size`` images.

    A share ``correlation`` of each class has the digit of that class (rounded). The rest is spread over the other
    digits as evenly as possible. The table is circulant, so its columns sum to ``size`` like its rows.
    """
    own = round(correlation * size)
    share, more = divmod(size - own, classes - 1)
    row = np.array([own] + [share + (place < more) for place in range(classes - 1)], np.int64)
    return np.stack([np.roll(row, shift) for shift in range(classes)])


def _partitions(
    block: Labelled, classes: int, share: float, generator: np.random.Generator
) -> list[list[NDArray[np.int64]]]:
    """Shuffled rows of each class, by split: training part, held-out part and test partition."""
    train, held, test = [], [], []
    for place in range(classes):
        rows = generator.permutation(np.flatnonzero((block.label == place) & ~block.test))
        out = round(share * len(rows))
        held.append(rows[:out])
        train.append(rows[out:])
        test.append(generator.permutation(np.flatnonzero((block.label == place) & block.test)))
    return [train, held, test]


def _paired(
    table: NDArray[np.int64],
    bottom: list[NDArray[np.int64]],
    top: list[NDArray[np.int64]],
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the lower and the upper block in random order, each used at most once: ``table[class, digit]`` pairs."""
    below, above = [], []
    used = np.zeros(len(top), np.int64)
    for one, counts in enumerate(table):
        start = 0
        for other, count in enumerate(counts):
            below.append(bottom[one][start : start + count])
            above.append(top[other][used[other] : used[other] + count])
            start += count
            used[other] += count
    order = generator.permutation(int(table.sum()))
    return np.concatenate(below)[order], np.concatenate(above)[order]


def _notes(top: Labelled, bottom: Labelled) -> dict[str, str]:
    """How the images differ from the published ones, with the words for the title."""

    found = {COPY: "JPEG copy"} if bottom.lossy else {}
    return found if top.complete and bottom.complete else {**found, SUBSET: "subset"}
