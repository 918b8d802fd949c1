"""Train one configuration, evaluate its checkpoints, print a table.

    python -m realdata run cifar_mnist --root data --rho 0.1 --seed 0
    python -m realdata run pacs --root data --target sketch --model resnet18 --epochs 30
    python -m realdata run waterbirds --root data --method lsam --rho 0.2 --model-option width=32

The training lies in OUT/runs/HASH, named by everything that changes its result. The same command again shows the
table of what is there; after an interruption it goes on where it stopped. `python -m realdata run NAME --help` lists
the options of a data set too.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realdata.jobs import DIVERGED, ELSEWHERE, FAILURE, Job, do
from realdata.options import (
    HELP,
    add_configuration_flags,
    add_option_flags,
    complete,
    flag,
    option_types,
    single,
    typed,
)
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory

ROOT_VARIABLE = "SAMBALANCE_DATA"
DEFAULT_OUT = "out/realdata"


def parser(data: str | None = None) -> OneLineParser:
    """The command line; with the name of a data set, its options are flags too."""
    made = module_parser("realdata run", __doc__)
    made.add_argument("data", help="name of the data set (python -m realdata check lists them)")
    add_job_flags(made)
    made.add_argument(
        "--out", default=DEFAULT_OUT, metavar="DIR", help=f"folder of the results (default {DEFAULT_OUT})"
    )
    made.add_argument("--all", action="store_true", help="print every metric of every checkpoint")
    if data is not None:
        _add_data_flags(made, data)
    add_configuration_flags(made, many=False)
    add_option_flags(made, many=False)
    return made


def add_job_flags(made: argparse.ArgumentParser) -> None:
    """Where the data lie, what computes, and how the probe works: what ``run`` and ``sweep`` share."""
    made.add_argument("--root", metavar="DIR", help=f"folder that holds the data sets (default: ${ROOT_VARIABLE})")
    made.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, ... (default auto)")
    made.add_argument("--protocol", metavar="NAME", help="of probing: fast or dfr (default fast)")
    made.add_argument(
        "--probe-option", action="append", default=[], metavar="KEY=VALUE",
        help="what differs from the protocol, see docs/how-to/probing.md",
    )  # fmt: skip
    made.add_argument("--evaluation-seed", type=int, metavar="N", help="of the probe's halves (default 0)")


def _add_data_flags(made: argparse.ArgumentParser, data: str) -> None:
    from realdata import datasets

    declared = datasets.spec(data)
    group = made.add_argument_group(f"options of {data}")
    for entry in dataclasses.fields(declared.options):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        shown = "required" if required else f"default {entry.default}"
        text = f"{declared.options_help.get(entry.name, entry.name)} ({shown})"
        group.add_argument(data_flag(entry.name), dest=f"data_option_{entry.name}", metavar="X", help=_escaped(text))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def data_flag(option: str) -> str:
    """``--target``, or ``--data-seed`` where a flag of the training has the name already."""
    taken = {*HELP, "data", "root", "device", "out", "all", "help"}
    return flag(f"data_{option}" if option in taken else option)


def probe_options(protocol: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from a probing protocol, typed as :class:`realdata.probe.Protocol` declares it, and checked."""
    from realdata import probe

    kinds = option_types(probe.Protocol)
    for name in given:
        if name not in kinds:
            raise ValueError(f"probe option {name!r} is unknown; allowed: {', '.join(kinds)}")
    options = {name: typed(f"probe option {name}", value, kinds[name]) for name, value in given.items()}
    probe.protocol(protocol).replace(**options)
    return options


def root_folder(given: str | None) -> str:
    """Folder that holds the data sets, as a flag or the environment gives it; a ValueError if it is none."""
    root = given or os.environ.get(ROOT_VARIABLE)
    if root is None:
        raise ValueError(f"--root is not given; allowed: the folder that holds the data set, or ${ROOT_VARIABLE}")
    if not Path(root).is_dir():
        raise ValueError(f"--root={root!r} is not a folder; allowed: the folder that holds the data set")
    return root


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The name of the data set has to be known before its options can be flags.
    named = given[0] if given and not given[0].startswith("-") else None
    options = parser(named).parse_args(given)
    root = root_folder(options.root)
    configuration = complete(_settings(options))
    out = writable_directory(options.out)
    directory = out / "runs" / configuration.hash
    protocol = options.protocol or "fast"
    job = Job(
        configuration.as_dict(), os.path.abspath(root), str(directory.resolve()), options.device or "auto", protocol,
        probe_options(protocol, single(options.probe_option, "--probe-option")), options.evaluation_seed or 0,
        progress=True,
    )  # fmt: skip
    outcome = do(job)
    if outcome.status == ELSEWHERE:
        raise ValueError(f"{directory} is locked: {outcome.reason}; allowed: wait for it, or another --out")
    if outcome.status == FAILURE:
        raise ValueError(f"{outcome.reason} (traceback in {directory / 'failed.json'})")
    from realdata.run_table import print_run

    print_run(directory, every_metric=options.all)
    if outcome.status == DIVERGED:
        print(f"diverged: {outcome.reason}; a smaller --lr or --rho may help")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What was set, by the names of :class:`RunConfiguration`."""
    values = {name: getattr(options, name) for name in HELP if getattr(options, name) is not None}
    data_options: dict[str, Any] = single(options.data_option, "--data-option")
    for name, value in vars(options).items():
        option = name.removeprefix("data_option_")
        if option == name or value is None:
            continue
        if option in data_options:
            raise ValueError(f"{data_flag(option)} and --data-option {option}= are both given; allowed: one of them")
        data_options[option] = value
    model_options = single(options.model_option, "--model-option")
    return {"data": options.data, **values, "data_options": data_options, "model_options": model_options}
