"""Data sets by name: images with a label, an easy and a hard attribute, groups and splits.

A data set is one module with a ``SPEC``; it is imported when it is asked for. Nothing is ever downloaded from here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path

from realdata.configuration import ON_DECODE_ERROR, Scalar
from realdata.datasets.base import ImageData
from realdata.datasets.specification import DataSetSpec
from sambalance_tools.checks import require_choice, require_whole

_NAMES = (
    "celeba",
    "waterbirds",
    "cifar_mnist",
    "colored_mnist",
    "rotated_mnist",
    "pacs",
    "vlcs",
    "office_home",
    "terra_incognita",
    "domain_net",
)


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return _NAMES


def spec(name: str) -> DataSetSpec:
    """What a data set expects and offers; a ValueError lists the names."""
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
        name: one of :func:`names`. root: the folder that holds it (or its usual parent folder).
        options: of the data set, as its specification declares them; ``target`` has no default where it exists.
        size: side of the images in pixels; None keeps their own size (large photographs: 224, see ``transform``).
        on_decode_error: ``"fatal"``: a file that cannot be decoded is an error; ``"skip"``: it is left out, with a
            warning, and named in ``skipped``.
        cache: folder of decoded images; None: see :func:`realdata.datasets.cache.default_cache`.
        lazy: decode files whenever they are asked for instead of caching all of them decoded; None: only where the
            decoded images would take more than half of the free disk.
        progress: whether a terminal sees a bar while images are decoded.

    Raises:
        ValueError: an argument that is not allowed, or files that cannot be used: which, and the remedy.

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


def root_folder(root: str | os.PathLike[str]) -> Path:
    """The folder of the files; a ValueError if it is none."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ValueError(f"root={str(root)!r} is not a folder; allowed: the folder that holds the data set")
    return folder
