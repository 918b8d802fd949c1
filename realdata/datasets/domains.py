"""Data sets of several environments, in DomainBed's layout: train on all but one, test and probe on that one.

Four fifths of each source environment are used for training and one fifth for validation. The target is the test set.
Probes are fitted on four fifths of it and measured on the rest (DomainBed also holds out a fifth). The split of an
environment does not depend on which one is the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from realdata.datasets.base import (
    COPY,
    EVALUATE,
    FIT,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SUBSET,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    Card,
)
from realdata.datasets.folders import count_images, count_words, image_names, stamps_of, subfolders
from realdata.datasets.sources import FileSource
from realdata.datasets.specification import (
    Contents,
    DataProblem,
    DataSetSpec,
    as_codes,
    list_names,
)
from realdata.datasets.transforms import AUTO, TRANSFORMS, Presets, canonical_name
from sambalance_tools.checks import require_choice, require_whole

TRANSFORM_HELP = f"how a file becomes pixels: {', '.join(TRANSFORMS)}; auto: domainbed from 128 pixels on"

PRESETS = Presets({}, "domainbed")


def require_share(name: str, value: float) -> None:
    """Raise a ValueError unless ``value`` is strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name}={value!r}; allowed: a number > 0 and < 1")


def target_splits(
    environment: NDArray[np.int64], names: Sequence[str], target: str, holdout: float, seed: int
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Split and probe split [N] of images of several environments."""
    split = np.full(len(environment), TRAIN, np.int8)
    probe_split = np.full(len(environment), UNUSED, np.int8)
    for place, name in enumerate(names):
        rows = np.flatnonzero(environment == place)
        held = np.random.default_rng([seed, place]).permutation(rows)[: int(len(rows) * holdout)]
        if name == target:
            split[rows] = TEST
            probe_split[rows] = FIT
            probe_split[held] = EVALUATE
        else:
            split[held] = VALIDATION
    return split, probe_split


def deal_environments(generator: np.random.Generator, images: int, environments: int) -> NDArray[np.int64]:
    """Environment of each image [N] when all are shuffled and environment i takes every ``environments``-th from i."""
    environment = np.empty(images, np.int64)
    environment[generator.permutation(images)] = np.arange(images) % environments
    return environment


@dataclass(frozen=True)
class Folders:
    """A data set in folders ``environment/class/image``.

    Attributes:
        folder: usual name of its folder. others: other names.
        environments, classes: names of the folders. Classes None: those that all environments have in common.
        class_count: number of published classes. images: number of published images (several numbers if there are
            several versions).
        published_size: (height, width) of all published images; None if they differ.
        spellings: other names of the environments' folders in copies of the data set.
    """

    name: str
    title: str
    folder: str
    others: tuple[str, ...]
    environments: tuple[str, ...]
    classes: tuple[str, ...] | None
    class_count: int
    images: tuple[int, ...]
    published_size: tuple[int, int] | None = None
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def inspect(self, root: Path, options: Any) -> Contents:
        """Contents of the folders; a ValueError names what is missing."""
        base = self._base(root)
        folders = {name: self._folder_of(base, name) for name in self.environments}
        classes, remarks = self._classes(base, folders)
        left_out = frozenset(_duplicates(base, options))
        names: list[str] = []
        label: list[int] = []
        environment: list[int] = []
        dropped = 0
        for place, name in enumerate(self.environments):
            for number, one in enumerate(classes):
                below = f"{folders[name]}/{one}"
                files = [f"{below}/{file}" for file in image_names(base / below)]
                kept = [file for file in files if file not in left_out]
                if not kept:
                    raise DataProblem(
                        f"{base / below} holds no images", "every class folder of every environment needs images"
                    )
                dropped += len(files) - len(kept)
                names += kept
                label += [number] * len(kept)
                environment += [place] * len(kept)
        source = FileSource(base, tuple(names), stamps_of(base, names), PRESETS, options.transform)
        if left_out:
            remarks.append(f"{count_words(dropped, 'image')} left out as duplicates by DomainBed's list")
        environments, classified = as_codes(environment), as_codes(label)
        split, probe_split = target_splits(
            environments, self.environments, options.target, options.holdout, options.seed
        )
        notes = self._notes(len(names), source)
        return Contents(
            title=self.title + (f" ({', '.join(notes.values())})" if notes else ""),
            differences=tuple(notes),
            source=source,
            label=classified,
            hard=classified,
            easy=None,
            group=environments * len(classes) + classified,
            split=split,
            probe_split=probe_split,
            environment=environments,
            label_names=classes,
            hard_names=classes,
            easy_names=(),
            group_names=tuple(f"{name}, {one}" for name in self.environments for one in classes),
            environment_names=self.environments,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            flip=True,
            found=(("folder", str(base)), ("images", f"{len(names):,} in {len(classes)} classes")),
            remarks=tuple(remarks),
        )

    def _base(self, root: Path) -> Path:
        # The root may hold a folder of an environment's name by chance, so the one that holds the most is it.
        folders = [root, *(root / name for name in (self.folder, *self.others))]
        base = min((folder for folder in folders if folder.is_dir()), key=lambda folder: len(self._missing(folder)))
        missing = self._missing(base)
        if len(missing) == len(self.environments):
            raise DataProblem(
                f"root={str(root)!r} holds no environment of {self.title}",
                f"give a folder with {', '.join(self.environments)}",
            )
        if missing:
            raise DataProblem(
                f"environment {list_names(missing)} is missing in {base}",
                f"all of these are needed: {', '.join(self.environments)}",
            )
        return base

    def _missing(self, base: Path) -> list[str]:
        return [name for name in self.environments if not (base / self._folder_of(base, name)).is_dir()]

    def _classes(self, base: Path, folders: Mapping[str, str]) -> tuple[tuple[str, ...], list[str]]:
        """The classes, and remarks on folders that are not used."""
        found = {name: subfolders(base / below) for name, below in folders.items()}
        classes = self.classes
        if classes is None:
            classes = tuple(sorted(set.intersection(*(set(names) for names in found.values()))))
            if len(classes) < 2:
                raise DataProblem(
                    f"the environments in {base} have {count_words(len(classes), 'class folder')} in common",
                    f"each needs the same class folders ({self.class_count} were published)",
                )
        for name, present in found.items():
            missing = [one for one in classes if one not in present]
            if missing:
                raise DataProblem(
                    f"class folder {list_names(missing)} is missing in {base / folders[name]}",
                    f"each environment needs a folder with images for each of the {len(classes)} classes",
                )
        remarks = [
            f"unexpected class folder {base / folders[name] / one}"
            f" ({count_words(count_images(base / folders[name] / one), 'image')}) is not used"
            for name, present in found.items()
            for one in present
            if one not in classes
        ]
        remarks += [
            f"unexpected environment folder {base / name}"
            f" ({count_words(count_images(base / name), 'image')}) is not used"
            for name in subfolders(base)
            if name not in folders.values()
        ]
        return classes, remarks

    def _notes(self, count: int, source: FileSource) -> dict[str, str]:
        """How the images differ from the published ones, with the words for the title."""
        notes = {} if count in self.images else {SUBSET: f"{count:,} of {self.images[0]:,} images"}
        own = source.own_size()
        if self.published_size is not None and own is not None and own != self.published_size:
            notes[COPY] = f"copy at {own[1]}x{own[0]} pixels"
        return notes

    def _folder_of(self, base: Path, environment: str) -> str:
        """Name of the environment's folder in this copy."""
        spellings = (environment, *self.spellings.get(environment, ()))
        return next((name for name in spellings if (base / name).is_dir()), environment)

    @property
    def tree(self) -> str:
        """The expected files."""
        lines = [f"{self.folder}/, or the root itself:"]
        classes = " ".join(self.classes) if self.classes and len(self.classes) <= 10 else f"{self.class_count} classes"
        lines += [f"    {name}/CLASS/*.jpg" for name in self.environments]
        return "\n".join([*lines, f"CLASS: {classes}"])


def _duplicates(base: Path, options: Any) -> list[str]:
    given = getattr(options, "duplicates", None)
    if given is None:
        return []
    path = base / "domain_net_duplicates.txt" if given == AUTO else Path(given).expanduser()
    if given == AUTO and not path.is_file():
        return []
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"duplicates={given!r} cannot be read ({error}); allowed: a text file with one path per line"
        ) from None


def options_help(environments: Sequence[str], kind: str = "", drawn: str = "") -> dict[str, str]:
    """Help texts of the options of :class:`TargetOptions`.

    Args:
        environments: names of the environments.
        kind: what they are, if the names do not show it.
        drawn: what the seed determines besides the split of each environment.
    """
    one = f"{kind}, one of" if kind else "one of"
    return {
        "target": f"the environment that is not trained on: {one} {', '.join(environments)}",
        "holdout": "share of each source environment for validation, and of the target to measure the probe on",
        "seed": f"seed of {drawn} and of the split of each environment"
        if drawn
        else "seed of the split of each environment",
    }


@dataclass(frozen=True)
class TargetOptions:
    """Target environment and split; subclasses name the environments."""

    ENVIRONMENTS: ClassVar[tuple[str, ...]]
    target: str
    holdout: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("target", self.target, self.ENVIRONMENTS)
        require_share("holdout", self.holdout)
        require_whole("seed", self.seed, 0)


@dataclass(frozen=True)
class DomainOptions(TargetOptions):
    """Target environment, split and transform, see :func:`options_help`."""

    transform: str = AUTO

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "transform", canonical_name(self.transform))


def domain_spec(folders: Folders, options: type[DomainOptions], card: Card, source_of_files: str) -> DataSetSpec:
    """The specification of a data set in folders."""
    return DataSetSpec(
        name=folders.name,
        options=options,
        options_help={**options_help(folders.environments), "transform": TRANSFORM_HELP},
        tree=folders.tree,
        card=card,
        inspect=folders.inspect,
        source_of_files=source_of_files,
        environments=folders.environments,
        has_easy=False,
    )
