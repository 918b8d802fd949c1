"""Dominoes: a digit above a photograph, correlated in training; the easy and the hard feature of one image.

CIFAR-MNIST stacks an MNIST digit (the easy feature) on a CIFAR-10 photograph (the hard one). The option ``correlation``
sets how often they agree in training; by default always, so that either of them is enough to fit the labels. In
validation and test they are independent, with the same number of images for each pair of classes, so that neither
attribute predicts the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from realdata.datasets.base import Card
from realdata.datasets.ceiling import NONE
from realdata.datasets.dominoes import PAIRING_HELP, check_pairing, paired, read_block
from realdata.datasets.labelled import CIFAR_TREE, CLASSES, FASHION_TREE, MNIST_TREE
from realdata.datasets.specification import Contents, DataSetSpec
from sambalance_tools.checks import require_choice

AUTO_CLASSES = {"cifar10": "automobile,truck", "fashion_mnist": "coat,dress", "mnist": "7,9"}

OPTIONS_HELP = {
    "classes": "classes of the photograph, separated by commas, or 'all'; 'auto': automobile,truck (coat,dress for"
    " fashion_mnist, 7,9 for mnist)",
    "digits": "classes of the upper block, one for each class, or 'all'; 'auto': the first ones (0,1 for two classes)",
    "top": "images of the upper block: mnist or fashion_mnist",
    "bottom": "images of the lower block: cifar10, fashion_mnist or mnist",
    **PAIRING_HELP,
}


@dataclass(frozen=True)
class Options:
    """Classes, correlation and split, see ``OPTIONS_HELP``; a ValueError names what is not allowed."""

    classes: str = "auto"
    digits: str = "auto"
    top: str = "mnist"
    bottom: str = "cifar10"
    correlation: float = 1.0
    validation: float = 0.1
    examples_per_class: int | None = None
    partners: int = 1
    ceiling: str = NONE
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("top", self.top, ("mnist", "fashion_mnist"))
        require_choice("bottom", self.bottom, ("cifar10", "fashion_mnist", "mnist"))
        check_pairing(self)
        if len(self.top_classes) != len(self.bottom_classes):
            raise ValueError(
                f"digits={self.digits!r} has {len(self.top_classes)} entries for {len(self.bottom_classes)} classes"
                f" ({self.classes!r}); allowed: one for each class"
            )

    @property
    def bottom_classes(self) -> tuple[str, ...]:
        """Names of the classes of the lower block."""
        text = AUTO_CLASSES[self.bottom] if self.classes == "auto" else self.classes
        return _chosen("classes", text, CLASSES[self.bottom])

    @property
    def top_classes(self) -> tuple[str, ...]:
        """Names of the classes of the upper block."""
        known = CLASSES[self.top]
        if self.digits == "auto":
            return known[: len(self.bottom_classes)]
        return _chosen("digits", self.digits, known)


def _chosen(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text == "all":
        return known
    chosen = tuple(part.strip().lower() for part in text.split(","))
    # Fashion-MNIST's classes may be given by number, too.
    chosen = tuple(known[int(part)] if part.isdigit() and int(part) < len(known) else part for part in chosen)
    if len(set(chosen)) < 2 or len(set(chosen)) < len(chosen) or set(chosen) - set(known):
        raise ValueError(f"{option}={text!r}; allowed: 'all', 'auto', or two or more of {','.join(known)}, each once")
    return chosen


def inspect(root: Path, options: Options) -> Contents:
    """The dominoes that can be made from the files in ``root``."""
    bottom = read_block(options.bottom, root, options.bottom_classes)
    return paired(bottom, read_block(options.top, root, options.top_classes), options)


SPEC = DataSetSpec(
    name="cifar_mnist",
    options=Options,
    options_help=OPTIONS_HELP,
    tree=f"{CIFAR_TREE}\nand\n{MNIST_TREE}\nand, for top=fashion_mnist or bottom=fashion_mnist,\n{FASHION_TREE}",
    card=Card(
        meaning="label and hard attribute: class of the photograph below; easy attribute: class of the digit above;"
        " groups: every pair of them; evaluated where the two are independent",
        citation="Shah, Tamuly, Raghunathan, Jain, Netrapalli: The Pitfalls of Simplicity Bias in Neural Networks,"
        " NeurIPS 2020; CIFAR-10: Krizhevsky 2009; MNIST: LeCun, Cortes, Burges",
        licence="CIFAR-10: no formal licence, citation asked; MNIST: CC BY-SA 3.0; Fashion-MNIST: MIT",
    ),
    inspect=inspect,
    source_of_files="python -m realdata download cifar10, mnist and fashion_mnist",
)
