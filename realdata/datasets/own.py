"""Images of one's own: what tables, folders and arrays of them have in common, and data sets made of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from realdata.datasets.base import IMAGENET_MEAN, IMAGENET_STD, SPLIT_NAMES, Card, ImageData
from realdata.datasets.cache import digest
from realdata.datasets.sources import FileSource
from realdata.datasets.specification import Contents, DataProblem
from realdata.datasets.tables import probe_split_of, require_splits
from realdata.datasets.transforms import AUTO, TRANSFORMS, Presets, canonical_name
from sambalance_tools.checks import require_whole

SPLIT_WORDS = {
    "train": 0, "training": 0, "0": 0,
    "validation": 1, "valid": 1, "val": 1, "dev": 1, "1": 1,
    "test": 2, "testing": 2, "2": 2,
}  # fmt: skip
"""How tables and folders spell the splits."""
SHARES = (0.6, 0.2, 0.2)
"""Shares of training, validation and test images where the splits are not given."""

PRESETS = Presets({}, "domainbed")

SHARED_HELP = {
    "seed": "seed of the split, where it is drawn",
    "title": "name of the data set in tables; none: the name of its file or folder",
    "transform": f"how a file becomes pixels: {', '.join(TRANSFORMS)}",
}


@dataclass(frozen=True)
class OwnOptions:
    """Options that tables and folders share, see ``SHARED_HELP``; a ValueError names what is not allowed."""

    seed: int = 0
    title: str | None = None
    transform: str = AUTO

    def __post_init__(self) -> None:
        require_whole("seed", self.seed, 0)
        object.__setattr__(self, "transform", canonical_name(self.transform))

    def contents(
        self,
        path: Path,
        source: FileSource,
        fields: Mapping[str, Any],
        found: tuple[tuple[str, str], ...],
        not_given: str | None,
    ) -> Contents:
        """Photographs with the ``fields`` of :func:`described`.

        Args:
            path: file or folder that they are from. not_given: if the splits were drawn, what would have given them.
        """
        shares = ", ".join(f"{share:.0%}" for share in SHARES)
        return Contents(
            title=self.title or (path.name if path.is_dir() else path.stem),
            differences=(),
            source=source,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            flip=True,
            found=found,
            remarks=() if not_given is None else (f"{not_given}: {shares} are drawn of each group",),
            **fields,
        )


CARD = Card("as its owner says", "the data set is the user's own", "the user's own")


def coded(values: Sequence[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes [N] and names of values: numbers in their order, anything else in the order of the alphabet.

    A comma in a name becomes a semicolon, because names of groups are joined by commas.
    """
    texts = [str(value).strip() for value in values]
    unique = sorted(set(texts), key=lambda text: (0, float(text), text) if _is_number(text) else (1, 0.0, text))
    place = {text: code for code, text in enumerate(unique)}
    return np.array([place[text] for text in texts], np.int64), tuple(text.replace(", ", "; ") for text in unique)


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)  # not NaN
    except ValueError:
        return False


def drawn_split(group: NDArray[np.int64], seed: int) -> NDArray[np.int8]:
    """A random split [N] in the proportions :data:`SHARES`, the same in each group."""
    split = np.empty(len(group), np.int8)
    random = np.random.default_rng([seed, 0x51])
    for code in np.unique(group):
        rows = random.permutation(np.flatnonzero(group == code))
        # Half a place further, so that groups of a few images fall into different splits.
        ends = np.cumsum(SHARES)[:-1]
        split[rows] = np.searchsorted(ends, (np.arange(len(rows)) + 0.5) / len(rows))
    return split


def described(
    label: Sequence[Any],
    easy: Sequence[Any] | None,
    hard: Sequence[Any] | None,
    split: NDArray[np.int8] | None,
    seed: int,
    where: Path | str,
) -> dict[str, Any]:
    """Fields of a :class:`~realdata.datasets.base.Description` for images with these values.

    Args:
        label: class of each image. easy, hard: attributes; no hard one: the label. split: codes; None: drawn by seed.
        where: what errors name.

    Raises:
        ValueError: for one class only, or a split without images.
    """
    labels, label_names = coded(label)
    if len(label_names) < 2:
        raise DataProblem(f"{where} has one class only ({label_names[0]})", "give images of two classes or more")
    hards, hard_names = (labels, label_names) if hard is None else coded(hard)
    easies, easy_names = (None, ()) if easy is None else coded(easy)
    for what, names in (("hard", hard_names), ("easy", easy_names)):
        if len(names) == 1:
            raise DataProblem(f"{where}: the {what} attribute is always {names[0]}", "name another column")
    group, group_names = labels, label_names
    if easies is not None:
        group = labels * len(easy_names) + easies
        group_names = tuple(f"{one}, {other}" for one in label_names for other in easy_names)
    codes = drawn_split(group, seed) if split is None else split
    require_splits(codes, Path(where))
    return {
        "label": labels, "hard": hards, "easy": easies, "group": group, "split": codes,
        "probe_split": probe_split_of(codes), "environment": np.zeros(len(labels), np.int64),
        "label_names": label_names, "hard_names": hard_names, "easy_names": easy_names, "group_names": group_names,
        "environment_names": ("all",),
    }  # fmt: skip


def split_codes(texts: Sequence[Any], where: Path | str) -> NDArray[np.int8]:
    """Codes [N] of splits as :data:`SPLIT_WORDS` spells them; a ValueError names the first row with anything else."""
    codes = np.empty(len(texts), np.int8)
    for row, text in enumerate(texts):
        word = str(text).strip().lower()
        if word not in SPLIT_WORDS:
            raise DataProblem(
                f"{where}, row {row + 1} of the data: split is {str(text)!r}",
                f"write {', '.join(SPLIT_NAMES)} or 0, 1, 2",
            )
        codes[row] = SPLIT_WORDS[word]
    return codes


def from_arrays(
    images: ArrayLike,
    label: Sequence[Any],
    *,
    easy: Sequence[Any] | None = None,
    hard: Sequence[Any] | None = None,
    split: Sequence[Any] | None = None,
    seed: int = 0,
    title: str = "own images",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    flip: bool = True,
) -> ImageData:
    """A data set of arrays in memory, for :func:`realdata.train`, ``evaluate`` and ``probe_network``.

    Args:
        images: uint8 [N, C, H, W] or [N, H, W, C], C of 1 to 4.
        label: [N], class of each image, of any type. easy, hard: [N], attributes; no hard one: the label.
        split: [N], train, validation and test (or 0, 1, 2); None draws 60, 20 and 20 % of each group by ``seed``.
        title: name in tables.
        mean, std: normalisation of pixels in [0, 1], one number a channel; default: ImageNet's for three channels,
            else 0.5 and 0.25.
        flip: whether a mirrored image is as good as the image, for augmentation.

    Raises:
        ValueError: names the argument, its value and what is allowed.

    Example:
        >>> pixels = np.zeros((60, 8, 8, 3), np.uint8)
        >>> data = from_arrays(pixels, ["cat", "dog", "cow"] * 20, easy=["day", "night"] * 30)
        >>> data.group_names[:3], len(data.rows(0))
        (('cat, day', 'cat, night', 'cow, day'), 36)
    """
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 4:
        raise ValueError(f"images of type {array.dtype} and shape {array.shape}; allowed: uint8 [N, C, H, W]")
    if array.shape[1] > 4 and array.shape[3] <= 4:
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    count, channels = array.shape[:2]
    if not 1 <= channels <= 4:
        raise ValueError(f"images of shape {array.shape}; allowed: [N, C, H, W] or [N, H, W, C], C of 1 to 4")
    for name, values in (("label", label), ("easy", easy), ("hard", hard), ("split", split)):
        if values is not None and len(values) != count:
            raise ValueError(f"{name} has {len(values)} values for {count} images; allowed: one for each")
    codes = None if split is None else split_codes(split, "split")
    fields = described(label, easy, hard, codes, seed, title)
    colour = channels == 3
    middle = tuple(mean) if mean is not None else IMAGENET_MEAN if colour else (0.5,) * channels
    spread = tuple(std) if std is not None else IMAGENET_STD if colour else (0.25,) * channels
    for name, numbers in (("mean", middle), ("std", spread)):
        if len(numbers) != channels or not np.isfinite(numbers).all() or (name == "std" and min(numbers) <= 0):
            raise ValueError(f"{name}={numbers!r}; allowed: {channels} finite numbers{' > 0' * (name == 'std')}")
    arrays = [value for value in fields.values() if isinstance(value, np.ndarray)]
    names = [value for value in fields.values() if isinstance(value, tuple)]
    return ImageData(
        name="arrays", title=title, images=array, card=CARD, differences=(), mean=middle, std=spread, flip=flip,
        fingerprint=digest("arrays", array, *arrays, *names, middle, spread), **fields,
    )  # fmt: skip
