"""Images of one's own in folders: one per class, below one per split or without splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from realdata.datasets.folders import image_names, stamps_of, subfolders
from realdata.datasets.own import CARD, PRESETS, SHARED_HELP, SPLIT_WORDS, OwnOptions, described, split_codes
from realdata.datasets.sources import FileSource
from realdata.datasets.specification import Contents, DataProblem, DataSetSpec

OPTIONS_HELP = {
    "path": "folder of the images, relative to the root",
    **SHARED_HELP,
}


@dataclass(frozen=True)
class Options(OwnOptions):
    """Where the images are, see ``OPTIONS_HELP``."""

    path: str = "."


def inspect(root: Path, options: Options) -> Contents:
    """The images of each class and split."""
    folder = (root / options.path).resolve()
    if not folder.is_dir():
        raise DataProblem(f"{folder} is not a folder", "name it: --data-option path=..., relative to --root")
    outer = subfolders(folder)
    splits = [name for name in outer if name.lower() in SPLIT_WORDS]
    if splits and len(splits) < len(outer):
        others = ", ".join(name for name in outer if name not in splits)
        raise DataProblem(
            f"{folder} has folders of splits ({', '.join(splits)}) and others ({others})", "keep one kind"
        )
    names: list[str] = []
    label: list[str] = []
    split: list[str] = []
    for part in splits or [""]:
        for kind in subfolders(folder / part):
            found = image_names(folder / part / kind)
            names += [f"{part}/{kind}/{name}".lstrip("/") for name in found]
            label += [kind] * len(found)
            split += [part] * len(found)
    if not names:
        raise DataProblem(
            f"{folder} has no images in folders of classes", "arrange them as CLASS/*.jpg or SPLIT/CLASS/*.jpg"
        )
    fields = described(label, None, None, split_codes(split, folder) if splits else None, options.seed, folder)
    return options.contents(
        folder,
        FileSource(folder, tuple(names), stamps_of(folder, names), PRESETS, options.transform),
        fields,
        (("images", f"{len(names):,} in {folder}"), ("classes", ", ".join(fields["label_names"]))),
        None if splits else "there are no folders of splits",
    )


SPEC = DataSetSpec(
    name="folder",
    options=Options,
    options_help=OPTIONS_HELP,
    tree="""\
SPLIT/CLASS/*.jpg            SPLIT: train, validation, test; or
CLASS/*.jpg                  without splits, which are drawn""",
    card=CARD,
    inspect=inspect,
    source_of_files="the user's own",
    has_easy=False,
)
