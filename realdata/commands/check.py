"""Check whether a data set is complete and readable: its files, the images in each group, and broken files.

    python -m realdata check waterbirds --root ~/data
    python -m realdata check pacs --root ~/data --target sketch --on-decode-error skip

Prints the expected files, the files that were found, the number of images in each split and group, and the first
problem with a way to fix it. Every image is decoded, unless --quick is given. Nothing is written. The exit status is 0
if the data set can be used and 2 if not.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.configuration import ON_DECODE_ERROR
from realdata.datasets.base import SPLIT_NAMES, UNUSED
from realdata.settings.flags import add_root_flag, root_folder
from sambalance_tools.command_line import OneLineParser, add_former_flag, module_parser
from sambalance_tools.tables import text_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from realdata.datasets.specification import Contents, DataSetSpec

MANY_GROUPS = 40
NAMED = 100
"""How many broken files are listed by name; the others are only counted."""
INDENT = "    "


def main(argv: Sequence[str] | None = None) -> None:
    """Check a data set (see the module). SystemExit(2) if it cannot be used, ValueError for bad arguments."""
    from realdata import datasets

    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    declared = datasets.spec(name) if name is not None else None
    parsed = parser(datasets.names(), declared).parse_args(arguments)
    if declared is None:
        raise ValueError(f"the name of the data set comes first; allowed: {', '.join(datasets.names())}")
    root = datasets.root_folder(root_folder(parsed.root))
    options, note = chosen_options(declared, vars(parsed))
    if not report(declared, root, options, note, quick=parsed.quick, skip=parsed.on_decode_error == "skip"):
        raise SystemExit(2)


def parser(names: Sequence[str], declared: DataSetSpec | None) -> OneLineParser:
    """The command line, with the options of the data set if it is known."""
    made = module_parser("realdata check", __doc__)
    made.add_argument("name", metavar="NAME", help=", ".join(names))
    add_root_flag(made)
    made.add_argument(
        "--on-decode-error", choices=ON_DECODE_ERROR, default="fatal",
        help="skip: the data set counts as usable even if some images cannot be decoded (default fatal)",
    )  # fmt: skip
    add_former_flag(made, "--broken", "--on-decode-error", choices=ON_DECODE_ERROR)
    made.add_argument("--quick", action="store_true", help="do not decode the images")
    if declared is not None:
        add_options(made, declared)
    return made


def add_options(made: argparse.ArgumentParser, declared: DataSetSpec) -> None:
    """Add a flag for each option of the data set; flags that are not given stay None."""
    group = made.add_argument_group(f"options of {declared.name}")
    for name, text in declared.options_help.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, dest=f"option_{name}", metavar="X", help=text.replace("%", "%%"))


def chosen_options(declared: DataSetSpec, given: Mapping[str, Any]) -> tuple[Any, str]:
    """The options that were given, and a note if the target environment was chosen as an example."""
    named = {name: given[f"option_{name}"] for name in declared.options_help if given[f"option_{name}"] is not None}
    if not declared.environments or "target" in named:
        return declared.make_options(named), ""
    first = declared.environments[0]
    return declared.make_options({**named, "target": first}), f"with target {first}, as an example (--target)"


def report(declared: DataSetSpec, root: Path, options: Any, note: str, *, quick: bool, skip: bool) -> bool:
    """Print the whole check; return whether the data set can be used."""
    from realdata.datasets.specification import DataProblem

    print(f"{declared.name} in {root}\n\nexpected")
    print(textwrap.indent(declared.tree, INDENT))
    try:
        contents = declared.inspect(root, options)
    except DataProblem as error:
        return unusable(error.problem, error.remedy, declared)
    print("\nfound")
    width = max(len(what) for what, _ in contents.found)
    for what, value in contents.found:
        print(f"{INDENT}{what:{width}}  {value}")
    print(f"{INDENT}{'title':{width}}  {contents.title}")
    for remark in contents.remarks:
        print(f"{INDENT}note: {remark}")
    print_counts(contents, note)
    problem = None if quick else decode_everything(contents, skip)
    if problem is not None:
        return unusable(*problem, declared)
    print("\nusable")
    return True


def unusable(problem: str, remedy: str, declared: DataSetSpec) -> bool:
    """Print the problem and its remedy; return False."""
    print(f"\nproblem\n{INDENT}{problem}\nremedy\n{INDENT}{remedy}")
    print(f"\nnot usable (files are available from: {declared.source_of_files})")
    return False


def print_counts(contents: Contents, note: str) -> None:
    """Print tables of the images by split and by group."""
    import numpy as np

    groups, environments, labels = (
        len(names) for names in (contents.group_names, contents.environment_names, contents.label_names)
    )
    used = contents.split != UNUSED
    split, environment, group, label = (
        values[used].astype(np.int64)
        for values in (contents.split, contents.environment, contents.group, contents.label)
    )
    if environments > 1:
        by_split = cross_tabulate(environment, environments, split, len(SPLIT_NAMES))
        print_table(
            f"images by environment and split {note}".rstrip(), contents.environment_names, SPLIT_NAMES, by_split
        )
        rows, names = group, contents.group_names
        if groups == environments * labels:
            rows, names = label, contents.label_names
        title, columns = "images by {} and environment", contents.environment_names
        table = cross_tabulate(rows, len(names), environment, environments)
    else:
        rows, names, title, columns = group, contents.group_names, "images by {} and split", SPLIT_NAMES
        table = cross_tabulate(rows, groups, split, len(SPLIT_NAMES))
    kind = "class" if names is contents.label_names else "group"
    if len(names) <= MANY_GROUPS:
        print_table(title.format(kind), names, columns, table)
    else:
        sizes = table.sum(0)
        print(f"\n{title.format(kind)}: {len(names)} are too many to list; smallest and largest")
        for column, name in enumerate(columns):
            least, most = int(table[:, column].argmin()), int(table[:, column].argmax())
            print(
                f"{INDENT}{name}: {sizes[column]:,} images, {table[least, column]:,} ({names[least]})"
                f" to {table[most, column]:,} ({names[most]})"
            )
    fit, measured = (int((contents.probe_split == part).sum()) for part in (0, 1))
    print(f"\nprobes are fitted on {fit:,} images and measured on {measured:,}")


def cross_tabulate(rows: NDArray[np.int64], height: int, columns: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """How often each pair occurs, [height, width]."""
    import numpy as np

    return np.bincount(rows * width + columns, minlength=height * width).reshape(height, width)


def print_table(title: str, names: Sequence[str], columns: Sequence[str], table: NDArray[np.int64]) -> None:
    """Print a table of counts with the sums of its rows and columns."""
    rows = [[name, *(f"{count:,}" for count in (*row, row.sum()))] for name, row in zip(names, table, strict=True)]
    rows.append(["all", *(f"{count:,}" for count in (*table.sum(0), table.sum()))])
    header = ["", *columns, "all"]
    print(f"\n{title}")
    print(textwrap.indent(text_table(rows, header, right=range(1, len(header))), INDENT))


def decode_everything(contents: Contents, skip: bool) -> tuple[str, str] | None:
    """Decode every image file. Returns the problem and its remedy if files are broken and may not be skipped."""
    from realdata.datasets.decoding import decode_all
    from sambalance_tools.progress import ProgressBar

    started = time.monotonic()
    total, broken, sizes = 0, [], Counter[str]()
    for source in contents.source.files():
        transform = source.resolved(None)
        sizes[f"{transform.width}x{transform.height} pixels by {transform.name!r}"] += len(source)
        with ProgressBar("decoding images") as bar:
            faults = decode_all(source.paths, transform, None, bar)
        total += len(source)
        broken += [f"{source.base / source.names[row]}: {reason}" for row, reason in faults.items()]
    if not total:
        print("\nno image files to decode: the images were read and have the right sizes")
        return None
    print(f"\ndecoded {total:,} image files in {time.monotonic() - started:.1f} s, to {', '.join(sizes)}")
    if not broken:
        return None
    print(f"\nbroken image files: {len(broken):,}")
    for line in broken[:NAMED]:
        print(INDENT + line)
    if len(broken) > NAMED:
        print(f"{INDENT}and {len(broken) - NAMED:,} more")
    if skip:
        print(f"{INDENT}left out (--on-decode-error skip); the tables above still count them")
        return None
    return f"{len(broken):,} of {total:,} image files cannot be decoded", (
        "copy these again, or leave them out with --on-decode-error skip"
    )
