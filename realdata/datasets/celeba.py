"""CelebA: blond hair or not, which is correlated with gender in training.

Reads the files of the official release as CSV (group_DRO, WILDS) or text (torchvision), and the tables of SubpopBench
and DFR. Copies with only a part of the images are allowed, and their title says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realdata.datasets.base import SUBSET, TEST, TRAIN, VALIDATION, Card
from realdata.datasets.ceiling import CEILING_HELP, NONE, require_ceiling, with_ceiling
from realdata.datasets.folders import count_words, first_folder
from realdata.datasets.sources import FileSource
from realdata.datasets.specification import Contents, DataProblem, DataSetSpec, as_codes
from realdata.datasets.tables import Table, find_files, image_base, label_and_attribute, read_table, require_splits
from realdata.datasets.transforms import AUTO, RESIZE_THEN_CROP, SQUARE_THEN_RESIZE, TRANSFORMS, Presets, canonical_name

PUBLISHED = 202_599
PRESETS = Presets(
    {"group_dro": SQUARE_THEN_RESIZE, "subpopbench": SQUARE_THEN_RESIZE, "dfr": RESIZE_THEN_CROP}, "group_dro"
)
IMAGES = "img_align_celeba"
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
METADATA = ("metadata_celeba.csv", "metadata.csv")
FOLDERS = ("celeba", "celebA/data", "celebA", "celebA_v1.0", "CelebA", "data")
OPTIONS_HELP = {
    "label": "attribute to classify (hard): any of the 40, if the table contains it",
    "attribute": "attribute correlated with the label (easy): any of the 40, if the table contains it",
    "transform": f"how a file becomes pixels: {', '.join(TRANSFORMS)}; auto: group_dro from 128 pixels on",
    "ceiling": CEILING_HELP,
}
SPLITS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class Options:
    """Attributes and transform, see ``OPTIONS_HELP``."""

    label: str = "Blond_Hair"
    attribute: str = "Male"
    transform: str = AUTO
    ceiling: str = NONE

    def __post_init__(self) -> None:
        object.__setattr__(self, "transform", canonical_name(self.transform))
        require_ceiling(self.ceiling)
        if self.label == self.attribute:
            raise ValueError(f"attribute={self.attribute!r} is also the label; allowed: two different attributes")


@dataclass(frozen=True)
class _Rows:
    names: list[str]
    label: NDArray[np.int64]
    attribute: NDArray[np.int64]
    split: NDArray[np.int8]
    path: Path


def inspect(root: Path, options: Options) -> Contents:
    """Contents of the tables, and which of their images exist."""
    folder = first_folder(
        root, FOLDERS, lambda folder: _attributes(folder) is not None or _metadata(folder) is not None
    )
    if folder is None:
        near = first_folder(root, FOLDERS, lambda folder: (folder / IMAGES).is_dir()) or root
        raise DataProblem(
            f"{near / ATTRIBUTES}.csv is missing (and so are its .txt form, {METADATA[0]} and {METADATA[1]})",
            f"give a folder with {ATTRIBUTES}.csv, {PARTITION}.csv and {IMAGES}/",
        )
    rows = _from_attributes(folder, options) if _attributes(folder) is not None else _from_metadata(folder, options)
    base = image_base(rows.names, (folder / IMAGES, folder, folder / IMAGES / IMAGES, folder.parent / IMAGES))
    stamps, there = find_files(base, rows.names)
    if not there.any():
        raise DataProblem(
            f"none of the {len(rows.names):,} images named in {rows.path} is in {base}",
            f"put the images into {IMAGES}/ beside the tables",
        )
    names = tuple(name for name, found in zip(rows.names, there, strict=True) if found)
    label, attribute, split = rows.label[there], rows.attribute[there], rows.split[there]
    require_splits(split, rows.path)
    contents = Contents(
        title="CelebA" if len(names) == PUBLISHED else f"CelebA subset ({len(names):,} images)",
        differences=() if len(names) == PUBLISHED else (SUBSET,),
        source=FileSource(base, names, stamps[there], PRESETS, options.transform),
        **label_and_attribute(label, attribute, split, _spoken(options.label), _spoken(options.attribute), " "),
        found=(
            ("table", f"{rows.path}: {count_words(len(rows.names), 'row')}"),
            ("images", f"{len(names):,} in {base}, of {PUBLISHED:,} in CelebA"),
        ),
        remarks=()
        if there.all() or len(rows.names) == PUBLISHED
        else (f"{count_words(int((~there).sum()), 'image')} named in {rows.path} are missing and left out",),
    )
    return with_ceiling(contents, options.ceiling)


def _spoken(attribute: str) -> tuple[str, str]:
    known = {"Blond_Hair": ("not blond", "blond"), "Male": ("female", "male")}
    return known.get(attribute, (f"not {attribute}", attribute))


def _either(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.csv", folder / f"{stem}.txt") if path.is_file()), None)


def _attributes(folder: Path) -> Path | None:
    return _either(folder, ATTRIBUTES)


def _metadata(folder: Path) -> Path | None:
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def _from_attributes(folder: Path, options: Options) -> _Rows:
    path, partition = _attributes(folder), _either(folder, PARTITION)
    if path is None or partition is None:
        raise DataProblem(
            f"{folder / PARTITION}.csv is missing (and so is its .txt form)",
            f"put {PARTITION}.csv beside {ATTRIBUTES}.csv; its columns are image_id,partition",
        )
    table = read_table(path)
    names = table.text("image_id")
    splits = read_table(partition)
    of_split = dict(
        zip(splits.text("image_id"), splits.whole(SPLITS, "partition").astype(np.int8).tolist(), strict=True)
    )
    unknown = [name for name in names if name not in of_split]
    if unknown:
        raise DataProblem(
            f"{partition} has no row for {count_words(len(unknown), 'image')} of {path.name}, first {unknown[0]}",
            "copy the whole file again (this one may be truncated)",
        )
    label, attribute = (_binary(table, option, value) for option, value in _asked(options))
    return _Rows(names, label, attribute, np.array([of_split[name] for name in names], np.int8), path)


def _asked(options: Options) -> tuple[tuple[str, str], ...]:
    return ("label", options.label), ("attribute", options.attribute)


def _binary(table: Table, option: str, name: str) -> NDArray[np.int64]:
    if name not in table.columns or name == "image_id":
        attributes = [column for column in table.columns if column != "image_id"]
        raise ValueError(f"{option}={name!r} is not a column of {table.path}; allowed: {', '.join(attributes)}")
    return (table.whole((-1, 0, 1), name) > 0).astype(np.int64)


def _from_metadata(folder: Path, options: Options) -> _Rows:
    path = _metadata(folder)
    if path is None:
        raise DataProblem(f"{folder / METADATA[0]} is missing", "give a table of the images")
    if (options.label, options.attribute) != ("Blond_Hair", "Male"):
        raise ValueError(
            f"label={options.label!r}, attribute={options.attribute!r} cannot be read from {path}, which has only one"
            f" of each; allowed: the defaults, or {ATTRIBUTES}.csv beside it"
        )
    table = read_table(path)
    return _Rows(
        table.text("filename", "img_filename", "image_id"),
        table.whole((0, 1), "y"),
        table.whole((0, 1), "a", "place"),
        as_codes(table.whole(SPLITS, "split")).astype(np.int8),
        path,
    )


SPEC = DataSetSpec(
    name="celeba",
    options=Options,
    options_help=OPTIONS_HELP,
    tree=f"""\
celeba/, celebA/data/, celebA_v1.0/, or the root itself:
    {ATTRIBUTES}.csv       image_id and 40 attributes, -1 or 1 (or torchvision's .txt)
    {PARTITION}.csv    image_id,partition with 0 train, 1 validation, 2 test (or torchvision's .txt)
    {IMAGES}/000001.jpg ...
or one table instead of the two:
    metadata_celeba.csv        id,filename,split,y,a             (SubpopBench)
    metadata.csv               img_filename,y,split,place        (DFR)""",
    card=Card(
        meaning="label and hard attribute: blond hair; easy attribute: gender as annotated; groups: 2 blond + male, of"
        " which blond men are the minority",
        citation="Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015; groups: Sagawa et al.,"
        " ICLR 2020",
        licence="non-commercial research only; no redistribution",
    ),
    inspect=inspect,
    source_of_files="the authors' page, under their terms",
)
