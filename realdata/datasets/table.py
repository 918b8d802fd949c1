"""Images of one's own in a table: a CSV or Parquet file with one row per image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from realdata.datasets.folders import count_words
from realdata.datasets.own import CARD, PRESETS, SHARED_HELP, OwnOptions, described, split_codes
from realdata.datasets.sources import FileSource
from realdata.datasets.specification import Contents, DataProblem, DataSetSpec, list_names
from realdata.datasets.tables import Table, find_files, image_base, read_table

COLUMNS = ("image", "label", "easy", "hard", "split")

OPTIONS_HELP = {
    "file": "the table, a .csv or .parquet file, relative to the root",
    "image": "column with the image files, relative to the table's folder or to the root",
    "label": "column with the class to predict",
    "easy": "column with the easy attribute; none: there is none",
    "hard": "column with the hard attribute; none: the label",
    "split": "column with train, validation and test; none: drawn at random",
    **SHARED_HELP,
}


@dataclass(frozen=True)
class Options(OwnOptions):
    """The table and its columns, see ``OPTIONS_HELP``."""

    file: str = "metadata.csv"
    image: str = "image"
    label: str = "label"
    easy: str | None = None
    hard: str | None = None
    split: str | None = None


def inspect(root: Path, options: Options) -> Contents:
    """Contents of the table, and which of its images exist."""
    path = root / options.file
    table = _read(path)
    values = {name: getattr(options, name) for name in COLUMNS}
    columns = {name: table.text(column) for name, column in values.items() if column is not None}
    for name, texts in columns.items():
        empty = next((row for row, text in enumerate(texts) if not text.strip()), None)
        if empty is not None:
            raise DataProblem(
                f"{path}, row {empty + 1} of the data: {values[name]} is empty", "fill it in or delete it"
            )
    names = columns["image"]
    base = image_base(names, (path.parent, root))
    stamps, there = find_files(base, names)
    if not there.all():
        absent = [name for name, found in zip(names, there, strict=True) if not found]
        raise DataProblem(
            f"{len(absent):,} of {len(names):,} images named in {path} are missing in {base}: {list_names(absent)}",
            "copy them there, or delete their rows to leave them out",
        )
    split = split_codes(columns["split"], path) if "split" in columns else None
    fields = described(columns["label"], columns.get("easy"), columns.get("hard"), split, options.seed, path)
    return options.contents(
        path,
        FileSource(base, tuple(names), stamps, PRESETS, options.transform),
        fields,
        (("table", f"{path}: {count_words(len(names), 'row')}"), ("images", f"{len(names):,} in {base}")),
        None if split is not None else "no column with splits is named",
    )


def _read(path: Path) -> Table:
    if not path.is_file():
        raise DataProblem(f"{path} is missing", "name the table: --data-option file=..., relative to --root")
    if path.suffix.lower() not in (".parquet", ".pq"):
        return read_table(path)
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataProblem(f"{path} cannot be read ({str(error).splitlines()[0]})", "give a Parquet file") from None
    if frame.empty:
        raise DataProblem(f"{path} holds no rows", "it needs one row for each image")
    columns = {
        str(name): [
            "" if missing else str(value) for value, missing in zip(frame[name], frame[name].isna(), strict=True)
        ]
        for name in frame.columns
    }
    return Table(path, columns)


SPEC = DataSetSpec(
    name="table",
    options=Options,
    options_help=OPTIONS_HELP,
    tree="""\
FILE (below the root)        a .csv or .parquet table with one row per image and columns for
    image                    the file, relative to the table's folder or to the root
    label                    its class: any number of classes, any names
    easy, hard               its attributes, if there are any
    split                    train, validation or test; without it, splits are drawn""",
    card=CARD,
    inspect=inspect,
    source_of_files="the user's own",
)
