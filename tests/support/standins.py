"""Tiny stand-ins for the real data sets, in the layouts that users have on disk: patterns, not photographs.

Class k of a photograph is a colour, class k of a digit a bright row, each with noise: learned in a few steps. Sizes are
small enough that a folder is written in milliseconds.
"""

from __future__ import annotations

import colorsys
import csv
import gzip
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realdata.datasets.labelled import CIFAR_CLASSES


def photograph(kind: int, kinds: int, size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A noisy area of the colour of a class, uint8 [H, W, 3]; size is (height, width)."""
    colour = 200 * np.array(colorsys.hsv_to_rgb(kind / kinds, 0.8, 0.9))
    return (colour + generator.integers(0, 56, (*size, 3))).astype(np.uint8)


def digit(kind: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A noisy image with a bright bar where the digit says, uint8 [28, 28]."""
    image = generator.integers(0, 40, (28, 28)).astype(np.uint8)
    image[2 * kind + 4 : 2 * kind + 6, 4:24] = 255
    return image


def write_image(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """An image file of the suffix's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def truncate(path: Path, share: float = 0.5) -> None:
    """Cut a file's end off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def write_cifar_folders(root: Path, train: int = 20, test: int = 10, suffix: str = "jpg") -> Path:
    """``cifar10/{train,test}/CLASS/NNNNN.jpg`` with ``train`` and ``test`` images of each class; the folder."""
    generator = np.random.default_rng(1)
    for partition, count in (("train", train), ("test", test)):
        for kind, name in enumerate(CIFAR_CLASSES):
            for number in range(count):
                pixels = photograph(kind, 10, (32, 32), generator)
                write_image(root / "cifar10" / partition / name / f"{number:05d}.{suffix}", pixels)
    return root / "cifar10"


def write_cifar_batches(root: Path, train: int = 20, test: int = 10) -> Path:
    """``cifar-10-batches-py`` with ``train`` (a multiple of 5) and ``test`` images of each class; the folder."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(2)
    for name, count in (*((f"data_batch_{number}", train // 5) for number in range(1, 6)), ("test_batch", test)):
        labels = [kind for _ in range(count) for kind in range(10)]
        images = [photograph(kind, 10, (32, 32), generator).transpose(2, 0, 1).reshape(-1) for kind in labels]
        # As published: pickled by Python 2, names as byte strings.
        (folder / name).write_bytes(pickle.dumps({"data": np.array(images), "labels": labels}, protocol=2))
    return folder


def write_mnist(
    root: Path, train: int = 20, test: int = 10, *, fashion: bool = False, compressed: bool = False
) -> Path:
    """``MNIST/raw`` or ``FashionMNIST/raw`` with ``train`` and ``test`` images of each class; the folder."""
    folder = root / ("FashionMNIST" if fashion else "MNIST") / "raw"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3 + fashion)
    for name, count in (("train", train), ("t10k", test)):
        labels = np.tile(np.arange(10, dtype=np.uint8), count)
        images = np.stack([digit(int(kind), generator) for kind in labels])
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes((0, 0, 8, array.ndim)) + b"".join(side.to_bytes(4, "big") for side in array.shape)
            content = header + array.tobytes()
            path = folder / f"{name}-{kind}-ubyte"
            if compressed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, 1))
            else:
                path.write_bytes(content)
    return folder


def write_cifar_mnist(root: Path, train: int = 20, test: int = 10) -> Path:
    """What ``cifar_mnist`` needs, with ``train`` and ``test`` images of each class; the root."""
    write_cifar_folders(root, train, test)
    write_mnist(root, train, test)
    return root


def write_fmnist_mnist(root: Path, train: int = 50, test: int = 25) -> Path:
    """What ``fmnist_mnist`` needs, with ``train`` and ``test`` images of each class; the root."""
    write_mnist(root, train, test)
    write_mnist(root, train, test, fashion=True, compressed=True)
    return root


GROUPED_SPLITS = ((8, 2, 2, 6), (3, 3, 3, 3), (4, 4, 4, 4))
"""Images of each group 2 label + attribute, in training, validation and test."""


def _grouped() -> list[tuple[int, int, int]]:
    """(split, label, attribute) of every image of a set with two labels and two attributes."""
    return [
        (split, group // 2, group % 2)
        for split, counts in enumerate(GROUPED_SPLITS)
        for group, count in enumerate(counts)
        for _ in range(count)
    ]


def _grouped_pixels(
    label: int, attribute: int, size: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.uint8]:
    pixels = photograph(2 * attribute, 4, size, generator)
    pixels[: size[0] // 2] = photograph(2 * label + 1, 4, (size[0] // 2, size[1]), generator)
    return pixels


def write_celeba(root: Path, layout: str = "csv", size: tuple[int, int] = (24, 20)) -> Path:
    """CelebA as ``csv`` (group_DRO, WILDS), ``txt`` (torchvision), ``subpopbench`` or ``dfr``; the folder."""
    folder = root / "celeba"
    generator = np.random.default_rng(4)
    rows = _grouped()
    names = [f"{number + 1:06d}.jpg" for number in range(len(rows))]
    for name, (_, label, attribute) in zip(names, rows, strict=True):
        write_image(folder / "img_align_celeba" / name, _grouped_pixels(label, attribute, size, generator))
    signed = [(2 * label - 1, 2 * attribute - 1, 1) for _, label, attribute in rows]
    splits = [split for split, _, _ in rows]
    if layout == "csv":
        attributes = ("image_id", "Blond_Hair", "Male", "Young")
        write_table(folder / "list_attr_celeba.csv", attributes, zip(names, *zip(*signed, strict=True), strict=True))
        write_table(folder / "list_eval_partition.csv", ("image_id", "partition"), zip(names, splits, strict=True))
    elif layout == "txt":
        lines = [f"{name}  {' '.join(map(str, values))}" for name, values in zip(names, signed, strict=True)]
        (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(names)), "Blond_Hair Male Young", *lines, ""]))
        partition = "".join(f"{name} {split}\n" for name, split in zip(names, splits, strict=True))
        (folder / "list_eval_partition.txt").write_text(partition)
    elif layout == "subpopbench":
        table = [(number, name, *row) for number, (name, row) in enumerate(zip(names, rows, strict=True))]
        write_table(folder / "metadata_celeba.csv", ("id", "filename", "split", "y", "a"), table)
    elif layout == "dfr":
        table = [(name, label, split, attribute) for name, (split, label, attribute) in zip(names, rows, strict=True)]
        write_table(folder / "metadata.csv", ("img_filename", "y", "split", "place"), table)
    else:
        raise ValueError(layout)
    return folder


def write_waterbirds(root: Path, layout: str = "group_dro", size: tuple[int, int] = (24, 28)) -> Path:
    """Waterbirds as ``group_dro`` or ``subpopbench``; the folder of the images."""
    generator = np.random.default_rng(5)
    rows = _grouped()
    folder = root / "waterbird_complete95_forest2water2"
    if layout == "subpopbench":
        folder = root / "waterbirds" / "waterbird_complete95_forest2water2"
    names = [f"{number % 7:03d}.Bird/{number:04d}.jpg" for number in range(len(rows))]
    for name, (_, label, attribute) in zip(names, rows, strict=True):
        write_image(folder / name, _grouped_pixels(label, attribute, size, generator))
    numbered = list(enumerate(zip(names, rows, strict=True)))
    if layout == "subpopbench":
        table = [(number, name, *row) for number, (name, row) in numbered]
        write_table(folder.parent / "metadata_waterbirds.csv", ("id", "filename", "split", "y", "a"), table)
    else:
        header = ("img_id", "img_filename", "y", "split", "place", "place_filename")
        places = [(number, name, y, split, place, "a.jpg") for number, (name, (split, y, place)) in numbered]
        write_table(folder / "metadata.csv", header, places)
    return folder


def write_domains(
    root: Path,
    folder: str,
    environments: Sequence[str],
    classes: Sequence[str],
    each: int = 5,
    size: tuple[int, int] = (16, 16),
) -> Path:
    """``folder/environment/class/N.jpg`` with ``each`` images of each class; the folder."""
    generator = np.random.default_rng(6)
    for place, environment in enumerate(environments):
        for kind, name in enumerate(classes):
            for number in range(each):
                pixels = photograph(kind, len(classes), size, generator) // (1 + place % 2)
                write_image(root / folder / environment / name / f"{number}.jpg", pixels)
    return root / folder


PACS_ENVIRONMENTS = ("art_painting", "cartoon", "photo", "sketch")
PACS_CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")


def write_pacs(root: Path, each: int = 5) -> Path:
    """PACS with ``each`` images of each class in each environment; the folder."""
    return write_domains(root, "PACS", PACS_ENVIRONMENTS, PACS_CLASSES, each)


OWN_CLASSES = ("cat", "dog", "red fox")
OWN_PLACES = ("indoors", "outdoors")


def write_own_table(root: Path, each: int = 10, split: bool = False) -> Path:
    """``animals.csv`` with ``each`` images of three classes at two places, and the images; the table."""
    generator = np.random.default_rng(5)
    rows = []
    for number in range(6 * each):
        kind, place = number % 3, number // 3 % 2
        name = f"pictures/{number:03}.png"
        pixels = photograph(2 * kind + place, 6, (12, 14), generator)
        write_image(root / name, pixels)
        part = [("train", "val", "test")[number // 6 % 3]] if split else []
        rows.append([name, OWN_CLASSES[kind], OWN_PLACES[place], *part])
    return write_table(root / "animals.csv", ["image", "animal", "place", *["part"] * split], rows)


def write_own_folders(root: Path, each: int = 6, splits: Sequence[str] = ("train", "val", "test")) -> Path:
    """``SPLIT/CLASS/N.png``, or ``CLASS/N.png`` without splits; the root."""
    generator = np.random.default_rng(6)
    for part in splits or ("",):
        for kind, name in enumerate(OWN_CLASSES):
            for number in range(each):
                write_image(root / part / name / f"{number}.png", photograph(kind, 3, (12, 12), generator))
    return root
