"""Dominoes of two grey pictures: an MNIST digit above a Fashion-MNIST item, from two classes to ten.

Item k belongs to digit k, and k is the label. The option ``correlation`` sets how often they agree in training; by
default always. In validation and test they are independent, as for ``cifar_mnist``, which can also make pairs of other
classes than the first ones (``bottom=fashion_mnist``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from realdata.datasets.base import Card
from realdata.datasets.ceiling import NONE
from realdata.datasets.dominoes import PAIRING_HELP, check_pairing, paired, read_block
from realdata.datasets.labelled import CLASSES, FASHION_TREE, MNIST_TREE, idx_folder
from realdata.datasets.specification import Contents, DataProblem, DataSetSpec

OPTIONS_HELP = {
    "classes": "number of classes, 2 to 10: the first ones of Fashion-MNIST, each with the digit of its number",
    "channels": "channels of the images: 1, or 3 equal ones for networks that expect colours",
    **PAIRING_HELP,
}


@dataclass(frozen=True)
class Options:
    """Classes, correlation and split, see ``OPTIONS_HELP``; a ValueError names what is not allowed."""

    classes: int = 5
    channels: int = 1
    correlation: float = 1.0
    validation: float = 0.1
    examples_per_class: int | None = None
    partners: int = 1
    ceiling: str = NONE
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= 10:
            raise ValueError(f"classes={self.classes!r}; allowed: a whole number from 2 to 10")
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels!r}; allowed: 1 or 3")
        check_pairing(self)


def inspect(root: Path, options: Options) -> Contents:
    """The dominoes that can be made from the files in ``root``."""
    folder = idx_folder(root, fashion=True)
    if idx_folder(root, fashion=False) == folder:
        raise DataProblem(
            f"{folder} would be both MNIST and Fashion-MNIST",
            "give a folder with MNIST/raw and FashionMNIST/raw in it",
        )
    bottom, top = (read_block(kind, root, CLASSES[kind][: options.classes]) for kind in ("fashion_mnist", "mnist"))
    return paired(bottom, top, options, options.channels)


SPEC = DataSetSpec(
    name="fmnist_mnist",
    options=Options,
    options_help=OPTIONS_HELP,
    tree=f"{FASHION_TREE}\nand\n{MNIST_TREE}",
    card=Card(
        meaning="label and hard attribute: Fashion-MNIST's item below; easy attribute: the digit above; groups: every"
        " pair of them; evaluated where the two are independent",
        citation="Fashion-MNIST: Xiao, Rasul, Vollgraf 2017; MNIST: LeCun, Cortes, Burges; dominoes: Shah, Tamuly,"
        " Raghunathan, Jain, Netrapalli: The Pitfalls of Simplicity Bias in Neural Networks, NeurIPS 2020",
        licence="MNIST: CC BY-SA 3.0; Fashion-MNIST: MIT",
    ),
    inspect=inspect,
    source_of_files="python -m realdata download fmnist_mnist",
)
