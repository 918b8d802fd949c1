"""Tables of images: CSV files, CelebA's space-separated files, and what CelebA and Waterbirds have in common."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdata.datasets.base import EVALUATE, FIT, IMAGENET_MEAN, IMAGENET_STD, SPLIT_NAMES, TEST, UNUSED, VALIDATION
from realdata.datasets.folders import MISSING, count_words, require_inside, stamps_of
from realdata.datasets.specification import DataProblem, list_names


@dataclass(frozen=True)
class Table:
    """Columns of a table by name, as text."""

    path: Path
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def text(self, *names: str) -> list[str]:
        """The first of the named columns that exists."""
        for name in names:
            if name in self.columns:
                return self.columns[name]
        raise DataProblem(
            f"{self.path} has no column {names[0]!r} (it has {list_names(list(self.columns))})",
            f"give a table with {' or '.join(names)}",
        )

    def whole(self, allowed: Sequence[int], *names: str) -> NDArray[np.int64]:
        """A column of whole numbers; a ValueError names the first row with anything else."""
        texts = self.text(*names)
        known = {str(number): number for number in allowed}
        out = np.empty(len(texts), np.int64)
        for row, text in enumerate(texts):
            number = known[text] if text in known else _whole(text)
            if number is None or number not in allowed:
                raise DataProblem(
                    f"{self.path}, row {row + 1} of the data: {names[0]} is {text!r}",
                    f"correct it; allowed: {', '.join(map(str, allowed))}",
                )
            out[row] = number
        return out


def _whole(text: str) -> int | None:
    # Tools that went through pandas write 1.0 and True.
    try:
        number = float({"true": "1", "false": "0"}.get(text.strip().lower(), text))
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number == int(number) else None


def read_table(path: Path, wanted: Sequence[str] | None = None) -> Table:
    """A CSV file, or one of CelebA's .txt files (columns separated by spaces; the first line counts the rows).

    Args:
        wanted: columns to keep; None keeps all.

    Raises:
        ValueError: the file cannot be read, is empty, or a row has too few or too many cells.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataProblem(f"{path} cannot be read ({error})", "it has to be a text file with a table") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataProblem(f"{path}, line {line}: a zero byte", "copy the whole file again: it has to be a text file")
    rows = (line.split() for line in text.splitlines()) if path.suffix == ".txt" else csv.reader(io.StringIO(text))
    cells: list[list[str]] = []
    try:
        for found in rows:
            if found:
                cells.append(found)
    except csv.Error as error:
        raise DataProblem(
            f"{path}, row {max(len(cells), 1)} of the data: {error}",
            "correct it: a cell that long is usually a quotation mark without its partner",
        ) from None
    if path.suffix == ".txt" and len(cells) > 1 and len(cells[0]) == 1:
        cells = [["image_id", *cells[1]], *cells[2:]]  # The names of the attributes, without one for the file.
    elif path.suffix == ".txt":
        cells = [["image_id", "partition"], *cells]
    if len(cells) < 2:
        raise DataProblem(f"{path} holds no rows", "it needs a header and one row for each image")
    header = [name.strip() for name in cells[0]]
    for row, values in enumerate(cells[1:]):
        if len(values) != len(header):
            raise DataProblem(
                f"{path}, row {row + 1} of the data: {count_words(len(values), 'cell')} for {len(header)} columns",
                "copy the whole file again (this one may be truncated)",
            )
    kept = [place for place, name in enumerate(header) if wanted is None or name in wanted]
    return Table(path, {header[place]: [row[place] for row in cells[1:]] for place in kept} or {header[0]: []})


def image_base(names: Sequence[str], bases: Sequence[Path]) -> Path:
    """The first of these folders that contains one of the first images; the first folder if none does."""
    for base in bases:
        if any((base / name).is_file() for name in names[:50]):
            return base
    for base in bases:
        if any((base / name).is_file() for name in names):
            return base
    return bases[0]


def find_files(base: Path, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Stamps of files, and which of them exist.

    Raises:
        ValueError: a name leads out of ``base``, see :data:`~realdata.configuration.ALLOW_OUTSIDE`.
    """
    require_inside(base, names)
    stamps = stamps_of(base, names)
    return stamps, stamps[:, 0] != MISSING


def probe_split_of(split: NDArray[np.int8]) -> NDArray[np.int8]:
    """Probe split for a split: probes are fitted on validation images and measured on test images."""
    return np.select([split == VALIDATION, split == TEST], [FIT, EVALUATE], UNUSED).astype(np.int8)


def label_and_attribute(
    label: NDArray[np.int64],
    attribute: NDArray[np.int64],
    split: NDArray[np.int8],
    label_names: tuple[str, str],
    attribute_names: tuple[str, str],
    join: str,
) -> dict[str, Any]:
    """Fields of a :class:`~realdata.datasets.specification.Contents` for photographs with one environment.

    The hard attribute is the label and the easy one ``attribute``; the group is 2 label + attribute. Group names are
    both names with ``join`` between them.
    """
    return {
        "label": label,
        "hard": label,
        "easy": attribute,
        "group": 2 * label + attribute,
        "split": split,
        "probe_split": probe_split_of(split),
        "environment": np.zeros(len(label), np.int64),
        "label_names": label_names,
        "hard_names": label_names,
        "easy_names": attribute_names,
        "group_names": tuple(f"{one}{join}{other}" for one in label_names for other in attribute_names),
        "environment_names": ("all",),
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "flip": True,
    }


def require_splits(split: NDArray[np.int8], path: Path) -> None:
    """Raise a ValueError unless there are images to train on, to validate on and to test on."""
    missing = [name for code, name in enumerate(SPLIT_NAMES) if not (split == code).any()]
    if missing:
        raise DataProblem(
            f"none of the images that {path} assigns to {' or '.join(missing)} exists",
            "images of all three splits are needed",
        )
