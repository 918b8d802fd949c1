"""CIFAR-10, MNIST and Fashion-MNIST on disk: sources of images with class and partition."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdata.datasets.base import SUBSET
from realdata.datasets.folders import (
    count_images,
    count_words,
    first_folder,
    image_names,
    read_bytes,
    stamps_of,
    subfolders,
)
from realdata.datasets.sources import ColourSource, FileSource, GreySource, ImageSource
from realdata.datasets.specification import DataProblem, as_codes
from realdata.datasets.transforms import PLAIN, Presets

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS = tuple("0123456789")
FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CLASSES = {"cifar10": CIFAR_CLASSES, "mnist": DIGITS, "fashion_mnist": FASHION_CLASSES}
TITLES = {"cifar10": "CIFAR", "mnist": "MNIST", "fashion_mnist": "FashionMNIST"}

CIFAR_TREE = """\
cifar10/ (or CIFAR-10-images/), or the root itself:
    train/CLASS/*.jpg, test/CLASS/*.jpg             CLASS: airplane automobile bird cat deer dog frog horse ship truck
or the standard files:
cifar-10-batches-py/data_batch_1 ... data_batch_5, test_batch"""

MNIST_TREE = """\
MNIST/raw/ (or MNIST/, raw/, the root itself), each file plain or with .gz:
    train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"""

FASHION_TREE = MNIST_TREE.replace("MNIST/raw/ (or MNIST/, ", "FashionMNIST/raw/ (or FashionMNIST/, fashion-mnist/, ")

MNIST_IMAGES = 70_000
"""Number of images of MNIST, and of Fashion-MNIST, in both partitions."""

MOST_BYTES = 1 << 30
"""More pixels than any file of this kind has; that of MNIST's training images has 47 million."""

BORDER = 2
"""Border that pads images from 28 to 32 pixels."""


@dataclass(frozen=True)
class Labelled:
    """Images of some classes.

    Attributes:
        label: int64 [N], index among the requested classes. test: bool [N], whether from the test partition.
        lossy: whether the files are JPEG copies. complete: whether all published images of these classes exist.
    """

    source: ImageSource
    label: NDArray[np.int64]
    test: NDArray[np.bool_]
    found: tuple[str, str]
    remarks: tuple[str, ...] = ()
    lossy: bool = False
    complete: bool = True


def read_labelled(name: str, root: Path, classes: Sequence[str]) -> Labelled:
    """Images of ``classes`` of ``"cifar10"``, ``"mnist"`` or ``"fashion_mnist"``, both partitions.

    Raises:
        ValueError: if files are missing or damaged; the message names them and says how to fix it.
    """
    if name == "cifar10":
        return cifar10(root, classes)
    images, label, test, folder = idx_partitions(root, fashion=name == "fashion_mnist")
    wanted = as_codes([CLASSES[name].index(one) for one in classes])
    place = np.full(256, -1, np.int64)
    place[wanted] = np.arange(len(wanted))
    chosen = np.flatnonzero(place[label] >= 0)
    return Labelled(
        GreySource(images[chosen], BORDER),
        place[label[chosen]],
        test[chosen],
        (TITLES[name], f"{folder}: {int((~test).sum()):,} + {count_words(int(test.sum()), 'image')}"),
        complete=len(label) == MNIST_IMAGES,
    )


def title_of_digits(name: str, images: int) -> tuple[str, tuple[str, ...]]:
    """Title of a data set made from MNIST, and how it differs from the published one."""
    return (name, ()) if images == MNIST_IMAGES else (f"{name} (subset: {images:,} images)", (SUBSET,))


def cifar10(root: Path, classes: Sequence[str]) -> Labelled:
    """CIFAR-10 from class folders or from the standard batches."""
    batches = first_folder(root, ("cifar-10-batches-py",), lambda folder: (folder / "data_batch_1").is_file())
    if batches is not None:
        return _cifar_batches(batches, classes)
    folder = first_folder(
        root,
        ("cifar10", "CIFAR10", "CIFAR-10-images", "cifar-10-images", "CIFAR-10", "cifar-10"),
        lambda folder: (folder / "train").is_dir() and bool(set(subfolders(folder / "train")) & set(CIFAR_CLASSES)),
    )
    if folder is None:
        raise DataProblem(
            f"root={str(root)!r} holds no CIFAR-10",
            "give a folder with cifar10/train/CLASS or cifar-10-batches-py (download cifar10 gets the latter)",
        )
    names: list[str] = []
    label: list[int] = []
    for partition in ("train", "test"):
        for place, one in enumerate(classes):
            below = folder / partition / one
            files = image_names(below) if below.is_dir() else []
            if not files:
                raise DataProblem(
                    f"{below} holds no images" if below.is_dir() else f"class folder {below} is missing",
                    "train/CLASS and test/CLASS need images for each class",
                )
            names += [f"{partition}/{one}/{file}" for file in files]
            label += [place] * len(files)
    test = np.array([name.startswith("test/") for name in names])
    remarks = tuple(
        f"unexpected class folder {folder / partition / extra}"
        f" ({count_words(count_images(folder / partition / extra), 'image')}) is not used"
        for partition in ("train", "test")
        for extra in subfolders(folder / partition)
        if extra not in CIFAR_CLASSES
    )
    source = FileSource(folder, tuple(names), stamps_of(folder, names), Presets({}, PLAIN), PLAIN)
    per_class = np.bincount(as_codes(label)[~test], minlength=len(classes)), np.bincount(as_codes(label)[test])
    return Labelled(
        source,
        as_codes(label),
        test,
        (
            "CIFAR-10",
            f"class folders in {folder}: {int((~test).sum()):,} + {count_words(int(test.sum()), 'image')}"
            " of these classes",
        ),
        remarks,
        lossy=any(name.lower().endswith((".jpg", ".jpeg", ".webp")) for name in names),
        complete=bool((per_class[0] == 5000).all() and (per_class[1] == 1000).all()),
    )


def _cifar_batches(folder: Path, classes: Sequence[str]) -> Labelled:
    pixels, label, test = [], [], []
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        if not (folder / name).is_file():
            raise DataProblem(f"{folder / name} is missing", "copy data_batch_1 to data_batch_5 and test_batch again")
        batch = _unpickle(folder / name)
        pixels.append(batch[0])
        label.append(batch[1])
        test.append(np.full(len(batch[1]), name == "test_batch"))
    every, in_test = np.concatenate(label), np.concatenate(test)
    place = np.full(len(CIFAR_CLASSES), -1, np.int64)
    place[[CIFAR_CLASSES.index(one) for one in classes]] = np.arange(len(classes))
    chosen = np.flatnonzero(place[every] >= 0)
    return Labelled(
        ColourSource(np.concatenate(pixels)[chosen].reshape(-1, 3, 32, 32)),
        place[every[chosen]],
        in_test[chosen],
        ("CIFAR-10", f"batches in {folder}: {int((~in_test).sum()):,} + {count_words(int(in_test.sum()), 'image')}"),
        complete=len(every) == 60_000,
    )


class _ArraysOnly(pickle.Unpickler):
    """Unpickler for CIFAR's batches that allows only arrays, so that no code can run."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self.ALLOWED:
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of images")


def _unpickle(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _ArraysOnly(io.BytesIO(read_bytes(path)), encoding="latin1").load()
        pixels, label = np.asarray(batch["data"]), as_codes(batch["labels"])
        if pixels.dtype != np.uint8 or pixels.shape != (len(label), 3072) or not ((label >= 0) & (label < 10)).all():
            raise ValueError(f"data of shape {pixels.shape} with {len(label)} labels")
    except DataProblem:
        raise
    except Exception as error:  # A damaged pickle raises nearly anything.
        raise DataProblem(f"{path} is damaged ({error})", "copy the file again") from None
    return pixels, label


def idx_partitions(
    root: Path, *, fashion: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], Path]:
    """Both partitions of MNIST or Fashion-MNIST: images [N, 28, 28], label [N], test flag [N], and the folder."""
    folder = idx_folder(root, fashion=fashion)
    parts = []
    for name in ("train", "t10k"):
        images = read_idx(_required(folder, f"{name}-images-idx3-ubyte"), 3)
        label = read_idx(_required(folder, f"{name}-labels-idx1-ubyte"), 1)
        if len(images) != len(label) or images.shape[1:] != (28, 28) or (label > 9).any():
            raise DataProblem(
                f"{name} files in {folder} do not fit: images {images.shape}, {len(label):,} labels",
                "copy the four files of one data set again",
            )
        parts.append((images, label))
    test = np.repeat([False, True], [len(parts[0][1]), len(parts[1][1])])
    images, label = (np.concatenate([parts[0][item], parts[1][item]]) for item in (0, 1))
    return images, label.astype(np.int64), test, folder


def idx_folder(root: Path, *, fashion: bool) -> Path:
    """Folder of the files of MNIST or Fashion-MNIST; a :class:`DataProblem` if there is none.

    Beside torchvision's names, ``fashion-mnist`` is where Debian's package dataset-fashion-mnist puts them.
    """
    own = ("FashionMNIST", "fashion_mnist", "fashion-mnist") if fashion else ("MNIST", "mnist")
    candidates = [f"{name}{below}" for name in own for below in ("/raw", "")] + ["raw"]
    folder = first_folder(root, candidates, lambda folder: _idx_file(folder, "train-labels-idx1-ubyte") is not None)
    if folder is None:
        title = "Fashion-MNIST" if fashion else "MNIST"
        raise DataProblem(
            f"root={str(root)!r} holds no {title}",
            f"give a folder with {own[0]}/raw/train-labels-idx1-ubyte and the other three, plain or with .gz",
        )
    return folder


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, plain or compressed."""
    header = 4 + 4 * dimensions
    expected = bytes((0, 0, 8, dimensions))
    content = _idx_content(path, header, expected)
    if len(content) < header or content[:4] != expected:
        raise DataProblem(
            f"{path} begins with {content[:4].hex() or 'nothing'}, not {expected.hex()}",
            "it has to be an idx file of unsigned bytes: copy it again",
        )
    shape = _idx_shape(content, header)
    if len(content) - header != math.prod(shape):
        found = f"{len(content) - header:,} bytes"
        raise DataProblem(
            f"{path} is truncated: {found} for shape {shape}"
            if len(content) - header < math.prod(shape)
            else f"{path} is longer than its header says: shape {shape}",
            "copy the file again",
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _idx_content(path: Path, header: int, expected: bytes) -> bytes:
    """What the header promises and at most one byte more: a small compressed file may unpack to any size."""
    if path.suffix != ".gz":
        return read_bytes(path)
    try:
        with gzip.open(path) as packed:
            start = packed.read(header)
            if len(start) < header or start[:4] != expected:
                return start
            promised = math.prod(_idx_shape(start, header))
            if promised > MOST_BYTES:
                raise DataProblem(
                    f"{path} promises {promised:,} bytes, shape {_idx_shape(start, header)}",
                    f"copy the file again; allowed: up to {MOST_BYTES:,} bytes",
                )
            return start + packed.read(promised + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataProblem(f"{path} is damaged ({error})", "copy the file again") from None


def _idx_shape(content: bytes, header: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(content[place : place + 4], "big") for place in range(4, header, 4))


def _idx_file(folder: Path, name: str) -> Path | None:
    # Some tools write "train-images.idx3-ubyte".
    for spelled in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (folder / (spelled + suffix)).is_file():
                return folder / (spelled + suffix)
    return None


def _required(folder: Path, name: str) -> Path:
    path = _idx_file(folder, name)
    if path is None:
        raise DataProblem(f"{folder / name} is missing", "put all four idx files there, plain or with .gz")
    return path
