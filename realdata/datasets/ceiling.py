"""Training sets on which a network can learn one attribute as well as it is able to: the ceiling of a probing error.

The attribute is the label, and in the training images it is independent of the other one, which therefore helps
nothing. For dominoes, other pairs are made, as many as before. For photographs, the training images are cut down to as
many of each pair of attributes as the rarest pair has, so that a ceiling is learned from fewer images than the rest.
Validation and test images are the same. Data sets without an easy attribute have no ceiling: their label is the hard
attribute, and nothing stands in for it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from realdata.datasets.base import TRAIN, UNUSED
from realdata.datasets.specification import Contents, DataProblem
from sambalance_tools.checks import require_choice

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE, HARD, EASY = CEILINGS = ("none", "hard", "easy")

CEILING_HELP = (
    "hard or easy: train on this attribute alone, with training images in which the two are independent; none: on the"
    " label of the data set"
)


def require_ceiling(value: str) -> None:
    """Raise a ValueError unless ``value`` is one of :data:`CEILINGS`."""
    require_choice("ceiling", value, CEILINGS)


def relabelled(contents: Contents, attribute: str) -> Contents:
    """The data set with this attribute, ``"hard"`` or ``"easy"``, for its label; unchanged for ``"none"``."""
    if attribute == NONE:
        return contents
    values, names = getattr(contents, attribute), getattr(contents, f"{attribute}_names")
    return dataclasses.replace(contents, label=values, label_names=names)


def with_ceiling(contents: Contents, attribute: str, seed: int = 0) -> Contents:
    """The data set with this attribute for its label and as many training images of each pair of attributes.

    Args:
        attribute: one of :data:`CEILINGS`; ``"none"`` changes nothing. seed: seed of the images that are kept.

    Raises:
        DataProblem: if the training images lack a pair of attributes.
    """
    if attribute == NONE:
        return contents
    assert contents.easy is not None
    pair = contents.hard * len(contents.easy_names) + contents.easy
    train = np.random.default_rng([seed, 0xCE]).permutation(np.flatnonzero(contents.split == TRAIN))
    count = np.bincount(pair[train], minlength=len(contents.hard_names) * len(contents.easy_names))
    if not count.all():
        raise DataProblem(
            f"no training image is {_named(contents.hard_names, contents.easy_names, int(count.argmin()))}, so the two"
            " attributes cannot be independent, as a ceiling needs it",
            "leave out ceiling, or give images of every pair of attributes",
        )
    split = contents.split.copy()
    split[train] = UNUSED
    for each in range(len(count)):
        split[train[pair[train] == each][: count.min()]] = TRAIN
    return relabelled(dataclasses.replace(contents, split=split), attribute)


def _named(hard: Sequence[str], easy: Sequence[str], pair: int) -> str:
    return f"both {hard[pair // len(easy)]} and {easy[pair % len(easy)]}"
