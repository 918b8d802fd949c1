"""Data sets by name: images with a label, an easy and a hard attribute, groups and splits.

Each data set is a module with a ``SPEC``, imported on first use. Nothing is downloaded here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path

from realdata.configuration import ON_DECODE_ERROR, Scalar
from realdata.datasets.base import ImageData
from realdata.datasets.own import from_arrays
from realdata.datasets.specification import DataSetSpec
from sambalance_tools.checks import require_choice, require_whole

__all__ = ["from_arrays", "from_table", "load", "names", "root_folder", "spec"]

_NAMES = (
    "celeba",
    "waterbirds",
    "cifar_mnist",
    "fmnist_mnist",
    "colored_mnist",
    "rotated_mnist",
    "pacs",
    "vlcs",
    "office_home",
    "terra_incognita",
    "domain_net",
    "table",
    "folder",
)


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return _NAMES


def spec(name: str) -> DataSetSpec:
    """Specification of a data set; for an unknown name, a ValueError lists the names."""
    require_choice("data", name, _NAMES)
    declared: DataSetSpec = importlib.import_module(f"realdata.datasets.{name}").SPEC
    return declared


def load(
    name: str,
    root: str | os.PathLike[str],
    options: Mapping[str, Scalar] | None = None,
    *,
    size: int | None = None,
    on_decode_error: str = "fatal",
    cache: str | os.PathLike[str] | None = None,
    lazy: bool | None = None,
    progress: bool = False,
) -> ImageData:
    """Read a data set from files that are on disk.

    Args:
        name: one of :func:`names`. root: the folder of the data set, or its usual parent folder.
        options: options of the data set, see its specification. The option ``target``, if it exists, has no default.
        size: side of the images in pixels; None keeps their own size (large photographs: 224, see ``transform``).
        on_decode_error: ``"fatal"``: a file that cannot be decoded is an error; ``"skip"``: it is left out with a
            warning and listed in ``skipped``.
        cache: folder of decoded images; None: see :func:`realdata.datasets.cache.default_cache`.
        lazy: decode files on every access instead of caching decoded images. None: only if the decoded images would
            fill more than half of the free disk space.
        progress: whether to show a progress bar on a terminal while images are decoded.

    Raises:
        ValueError: if an argument is not allowed, or files cannot be used; the message says how to fix it.

    Example:
        >>> data = load("cifar_mnist", "~/data", {"correlation": 0.9})  # doctest: +SKIP
        >>> data.images[data.rows(TRAIN)[:8]].shape  # doctest: +SKIP
        (8, 3, 64, 32)
    """
    from realdata.datasets.cache import default_cache
    from realdata.datasets.sources import Reader

    declared = spec(name)
    require_choice("on_decode_error", on_decode_error, ON_DECODE_ERROR)
    if size is not None:
        require_whole("size", size, 1)
    folder = root_folder(root)
    reader = Reader(size, default_cache() if cache is None else Path(cache), lazy, progress=progress)
    return declared.load(folder, declared.make_options(options or {}), reader=reader, on_decode_error=on_decode_error)


def from_table(file: str | os.PathLike[str], *, size: int | None = None, **options: Scalar) -> ImageData:
    """Images of one's own in a CSV or Parquet table, see :mod:`realdata.datasets.table`.

    Args:
        file: the table. options: ``image``, ``label``, ``easy``, ``hard``, ``split`` (names of its columns), ``seed``,
            ``title``, ``transform``.

    Raises:
        ValueError: names the file, and the row where there is one.
    """
    path = Path(file).expanduser()
    return load("table", path.parent, {"file": path.name, **options}, size=size)


def root_folder(root: str | os.PathLike[str]) -> Path:
    """Path of the data folder; a ValueError if it is not a folder."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"root={str(root)!r} is not a folder; allowed: the folder that holds the data set")
    return folder
