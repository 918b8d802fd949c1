"""Waterbirds: birds pasted on backgrounds; in training, the background matches the kind of bird in 95 % of the images.

Reads group_DRO's metadata.csv and SubpopBench's metadata_waterbirds.csv from the folders that the usual tools use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realdata.datasets.base import LIKENESS, TEST, TRAIN, VALIDATION, Card
from realdata.datasets.ceiling import CEILING_HELP, NONE, require_ceiling, with_ceiling
from realdata.datasets.folders import count_words, first_folder
from realdata.datasets.sources import FileSource
from realdata.datasets.specification import Contents, DataProblem, DataSetSpec, list_names
from realdata.datasets.tables import find_files, image_base, label_and_attribute, read_table, require_splits
from realdata.datasets.transforms import AUTO, RESIZE_THEN_CROP, TRANSFORMS, Presets, canonical_name

BIRDS, PLACES = ("landbird", "waterbird"), ("land", "water")
PUBLISHED = {TRAIN: (3498, 184, 56, 1057), VALIDATION: (467, 466, 133, 133), TEST: (2255, 2255, 642, 642)}
"""Images in each group by split (Sagawa et al. 2020); WILDS weights its adjusted average by the first row."""

PRESETS = Presets({name: RESIZE_THEN_CROP for name in ("group_dro", "dfr", "subpopbench")}, "group_dro")
IMAGES = "waterbird_complete95_forest2water2"
TABLES = ("metadata.csv", "metadata_waterbirds.csv")
FOLDERS = (
    IMAGES,
    "waterbirds_v1.0",
    "waterbirds",
    f"cub/data/{IMAGES}",
    f"data/{IMAGES}",
    f"waterbirds/{IMAGES}",
    "waterbirds_like",
)
OPTIONS_HELP = {
    "transform": f"how a file becomes pixels: {', '.join(TRANSFORMS)}; auto: group_dro from 128 pixels on",
    "ceiling": CEILING_HELP,
}


@dataclass(frozen=True)
class Options:
    """Transform and ceiling, see ``OPTIONS_HELP``."""

    transform: str = AUTO
    ceiling: str = NONE

    def __post_init__(self) -> None:
        require_ceiling(self.ceiling)
        object.__setattr__(self, "transform", canonical_name(self.transform))


def inspect(root: Path, options: Options) -> Contents:
    """Contents of the table, and which of its images exist."""
    folder = first_folder(root, FOLDERS, lambda folder: any((folder / name).is_file() for name in TABLES))
    if folder is None:
        near = first_folder(root, FOLDERS, lambda folder: folder != root) or root
        raise DataProblem(
            f"{near / TABLES[0]} is missing (and so is SubpopBench's {TABLES[1]})",
            f"give a folder with {TABLES[0]} and the images it names",
        )
    table = read_table(next(folder / name for name in TABLES if (folder / name).is_file()))
    names = table.text("img_filename", "filename")
    label = table.whole((0, 1), "y")
    place = table.whole((0, 1), "place", "a")
    split = table.whole((TRAIN, VALIDATION, TEST), "split").astype(np.int8)
    base = image_base(names, (folder, folder / IMAGES, folder / "waterbirds" / IMAGES, folder.parent))
    stamps, there = find_files(base, names)
    if not there.all():
        absent = [name for name, found in zip(names, there, strict=True) if not found]
        raise DataProblem(
            f"{len(absent):,} of {len(names):,} images named in {table.path} are missing in {base}:"
            f" {list_names(absent)}",
            "copy them there, or delete their rows to leave them out",
        )
    require_splits(split, table.path)
    described = label_and_attribute(label, place, split, BIRDS, PLACES, " on ")
    counts = {code: tuple(np.bincount(described["group"][split == code], minlength=4).tolist()) for code in PUBLISHED}
    contents = Contents(
        title="Waterbirds" if counts == PUBLISHED else "Waterbirds-like (not the published set)",
        differences=() if counts == PUBLISHED else (LIKENESS,),
        source=FileSource(base, tuple(names), stamps, PRESETS, options.transform),
        **described,
        found=(("table", f"{table.path}: {count_words(len(names), 'row')}"), ("images", f"{len(names):,} in {base}")),
    )
    return with_ceiling(contents, options.ceiling)


SPEC = DataSetSpec(
    name="waterbirds",
    options=Options,
    options_help=OPTIONS_HELP,
    tree=f"""\
{IMAGES}/ (below the root, cub/data/, waterbirds/), waterbirds_v1.0/, or the root itself:
    metadata.csv                 img_id,img_filename,y,split,place,place_filename
    SPECIES/*.jpg                named in img_filename
or, for SubpopBench:
waterbirds/metadata_waterbirds.csv        id,filename,split,y,a
y 0 landbird, 1 waterbird; place (a) 0 land, 1 water; split 0 train, 1 validation, 2 test""",
    card=Card(
        meaning="label and hard attribute: kind of bird; easy attribute: background; groups: 2 bird + background;"
        " in training 95 % of the birds are where they belong",
        citation="Sagawa, Koh, Hashimoto, Liang: Distributionally Robust Neural Networks, ICLR 2020; birds:"
        " CUB-200-2011 (Wah et al. 2011); backgrounds: Places (Zhou et al. 2017)",
        licence="CUB and Places: non-commercial research and education",
    ),
    inspect=inspect,
    source_of_files="WILDS or group_DRO's page, under the terms of CUB and Places",
)
