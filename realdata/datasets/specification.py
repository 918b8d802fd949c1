"""The specification that each data set declares, and how its contents become :class:`ImageData`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdata.configuration import Scalar
from realdata.datasets.base import ARRAYS, Card, Description, ImageData
from realdata.datasets.cache import digest
from realdata.datasets.sources import ImageSource, Reader, SelectedImages

SHOWN = 5
"""How many file names one message lists."""


ADDED_LATER = {"ceiling": "none", "partners": 1}
"""Options that are younger than the first stored runs, with their defaults, at which they are not written into a
configuration, so that the hashes of finished runs stay what they are."""


class DataProblem(ValueError):
    """Files that cannot be used: the problem and a way to fix it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; remedy: {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[DataProblem], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)  # So that it survives the way out of a worker process.


@dataclass(frozen=True)
class Contents(Description):
    """A data set before its images are decoded.

    Attributes:
        source: source of the images.
        found: pairs of text for ``check``: the files that were used, and how much they contain.
        remarks: things that the user should know (folders that are not used, images left out).
    """

    source: ImageSource
    found: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()


NAMES = ("label_names", "hard_names", "easy_names", "group_names", "environment_names")


@dataclass(frozen=True)
class DataSetSpec:
    """A data set that can be loaded.

    Attributes:
        name: name of the loader.
        options: frozen dataclass of the data set's options. Each has a type and, except ``target``, a default; the
            class checks the values. ``options_help``: help text of each.
        tree: the expected files, as text.
        card: meaning, citation, licence.
        inspect: ``inspect(root, options)`` returns the contents without decoding; a ValueError if they are unusable.
        source_of_files: where the files are available.
        environments: environments that can be the ``target``; empty if the data set has none.
        has_easy: whether its images have an easy attribute beside the hard one.
    """

    name: str
    options: type[Any]
    options_help: Mapping[str, str]
    tree: str
    card: Card
    inspect: Callable[[Path, Any], Contents]
    source_of_files: str
    environments: tuple[str, ...] = ()
    has_easy: bool = True

    def make_options(self, given: Mapping[str, Scalar]) -> Any:
        """Options of the data set with these values; a ValueError names what is unknown, missing or not allowed."""
        from realdata.values import convert_value, option_types

        kinds = option_types(self.options)
        for name in given:
            if name not in kinds:
                raise ValueError(f"option {name!r} is unknown to {self.name}; allowed: {', '.join(kinds)}")
        values = {name: convert_value(name, value, kinds[name]) for name, value in given.items()}
        for entry in dataclasses.fields(self.options):
            if entry.name not in values and entry.default is dataclasses.MISSING:
                raise ValueError(f"option {entry.name} of {self.name} is not given; {self.options_help[entry.name]}")
        return self.options(**values)

    def gives_easy(self, options: Mapping[str, Scalar]) -> bool:
        """Whether its images have an easy attribute with these options."""
        return self.has_easy and options.get("easy", "") is not None

    def load(self, root: Path, options: Any, *, reader: Reader, on_decode_error: str) -> ImageData:
        """Load the data set, see :func:`realdata.datasets.load`."""
        contents = self.inspect(root, options)
        for remark in contents.remarks:
            warnings.warn(f"{self.name}: {remark}", stacklevel=3)
        opened = contents.source.open(dataclasses.replace(reader, verify=on_decode_error == "skip"))
        skipped = tuple(opened.broken[row] for row in sorted(opened.broken))
        total = len(contents.label)
        if skipped and on_decode_error == "fatal":
            raise DataProblem(
                f"{len(skipped):,} of {total:,} images cannot be decoded: {list_names(skipped)}",
                "copy them again, or leave them out with on_decode_error='skip'",
            )
        images, arrays = opened.images, {name: getattr(contents, name) for name in ARRAYS}
        if skipped:
            kept = np.setdiff1d(np.arange(total), np.array(list(opened.broken)))
            if not kept.size:
                raise DataProblem(
                    f"none of {total:,} images can be decoded: {list_names(skipped)}", "copy the files again"
                )
            warnings.warn(f"{self.name}: {len(skipped):,} broken images left out: {list_names(skipped)}", stacklevel=3)
            images = SelectedImages(images, kept)
            arrays = {name: None if array is None else array[kept] for name, array in arrays.items()}
        described = {entry.name: getattr(contents, entry.name) for entry in dataclasses.fields(Description)}
        names = [described[name] for name in NAMES]
        present = [array for array in arrays.values() if array is not None]
        return ImageData(
            name=self.name,
            images=images,
            card=self.card,
            fingerprint=digest(self.name, opened.digest, *present, *names, contents.mean, contents.std),
            skipped=skipped,
            **{**described, **arrays},
        )


def list_names(names: tuple[str, ...] | list[str]) -> str:
    """The first few names and the number of further ones."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def as_codes(values: object) -> NDArray[np.int64]:
    """Convert to an int64 array."""
    return np.asarray(values, dtype=np.int64)
