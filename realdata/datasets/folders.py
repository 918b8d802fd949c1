"""Folders of images: find a data set in a root folder, and list its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realdata.configuration import ALLOW_OUTSIDE
from realdata.datasets.decoding import SUFFIXES
from realdata.datasets.specification import DataProblem

MISSING = -1
"""Size recorded for a missing file."""


def first_folder(root: Path, candidates: Iterable[str], holds: Callable[[Path], bool]) -> Path | None:
    """The root, or the first of these folders in it, for which ``holds`` is true."""
    for name in (".", *candidates):
        folder = root / name if name != "." else root
        if folder.is_dir() and holds(folder):
            return folder
    return None


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def image_names(folder: Path) -> list[str]:
    """Sorted names of the image files in a folder, without hidden ones."""
    return sorted(entry.name for entry in _entries(folder) if entry.name.lower().endswith(SUFFIXES) and entry.is_file())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataProblem(f"folder {folder} cannot be read ({error.strerror})", "make it readable") from None


def count_images(folder: Path) -> int:
    """Number of image files in a folder and its subfolders."""
    return sum(
        name.lower().endswith(SUFFIXES) and not name.startswith(".")
        for _, _, files in os.walk(folder)
        for name in files
    )


def require_inside(base: Path, names: Sequence[str]) -> None:
    """Raise a ValueError if a name in a table leads out of ``base``: by ``..``, as an absolute path or by a link.

    A table may come from somebody else, and a name in it could make any file of this machine part of the data.
    """
    if os.environ.get(ALLOW_OUTSIDE):
        return
    real = os.path.realpath(base)
    inside: dict[str, bool] = {}
    for row, name in enumerate(names):
        path = os.path.join(base, name)
        folder = os.path.dirname(path)
        if folder not in inside:
            inside[folder] = _is_below(os.path.realpath(folder), real)
        if not inside[folder] or (os.path.islink(path) and not _is_below(os.path.realpath(path), real)):
            raise DataProblem(
                f"row {row + 1} of the table names {name!r}, which leads out of {base}",
                "correct the row, or add --allow-outside if you trust the table",
            )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def stamps_of(base: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """int64 [N, 2]: size in bytes and modification time in nanoseconds; (MISSING, MISSING) for missing files."""
    out = np.full((len(names), 2), MISSING, np.int64)
    prefix = str(base) + os.sep
    for row, name in enumerate(names):
        try:
            status = os.stat(prefix + name)
        except OSError:
            continue
        out[row] = status.st_size, status.st_mtime_ns
    return out


def read_bytes(path: Path) -> bytes:
    """Content of a file; a ValueError names the file if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataProblem(f"{path} cannot be read ({error.strerror})", "make it readable") from None


def count_words(number: int, what: str) -> str:
    """``1 image``, ``2 images``, ``10,000 images``."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
