"""Train one configuration, evaluate its checkpoints and print a table.

    python -m realdata run cifar_mnist --root data --rho 0.1 --seed 0
    python -m realdata run pacs --root data --target sketch --model resnet18 --epochs 30
    python -m realdata run waterbirds --root data --method lsam --rho 0.2 --model-option width=32

The run is stored in OUT/runs/HASH. The hash is computed from every setting that changes the result. If you repeat the
command, it prints the table of the finished run; after an interruption, it resumes the training. The options of a data
set are listed by `python -m realdata run NAME --help`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from realdata.configuration import MOST_SEED
from realdata.settings.completion import complete
from realdata.settings.flags import (
    HELP,
    add_configuration_flags,
    add_data_flags,
    add_job_flags,
    add_option_flags,
    data_flag,
    root_folder,
)
from realdata.sweeps.jobs import DIVERGED, ELSEWHERE, FAILED, FAILURE, Job, run_job
from realdata.sweeps.work import require_device
from realdata.values import single_values
from sambalance_tools.checks import require_whole
from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory

DEFAULT_OUT = "out/realdata"


def parser(data: str | None = None) -> OneLineParser:
    """The command line. If the data set is known, its options are flags, too."""
    made = module_parser("realdata run", __doc__)
    made.add_argument("data", help="name of the data set (listed by python -m realdata check --help)")
    add_job_flags(made)
    made.add_argument(
        "--out", default=DEFAULT_OUT, metavar="DIR", help=f"folder of the results (default {DEFAULT_OUT})"
    )
    made.add_argument("--all", action="store_true", help="print all metrics of all checkpoints")
    if data is not None:
        add_data_flags(made, data)
    add_configuration_flags(made, many=False)
    add_option_flags(made, many=False)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The name of the data set has to be known before its options can be flags.
    named = given[0] if given and not given[0].startswith("-") else None
    options = parser(named).parse_args(given)
    root = root_folder(options.root)
    configuration = complete(settings_of(options))
    require_device(options.device or "auto")
    require_whole("evaluation_seed", options.evaluation_seed or 0, 0, MOST_SEED)
    out = writable_directory(options.out)
    directory = out / "runs" / configuration.hash
    from realdata.measures.protocols import probe_options

    protocol = options.protocol or "fast"
    job = Job(
        configuration.as_dict(), os.path.abspath(root), str(directory.resolve()), options.device or "auto", protocol,
        probe_options(protocol, single_values(options.probe_option, "--probe-option")), options.evaluation_seed or 0,
        progress=True,
    )  # fmt: skip
    outcome = run_job(job)
    if outcome.status == ELSEWHERE:
        raise ValueError(f"{directory} is locked: {outcome.reason}; wait until it has finished, or use another --out")
    if outcome.status == FAILURE:
        written = f" (traceback in {directory / FAILED})" if (directory / FAILED).exists() else ""
        raise ValueError(outcome.reason + written)
    from realdata.results.run_table import print_run

    print_run(directory, every_metric=options.all)
    if outcome.status == DIVERGED:
        print(f"diverged: {outcome.reason}; a smaller --lr or --rho may help")


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, by the names of :class:`RunConfiguration`."""
    values = {name: getattr(options, name) for name in HELP if getattr(options, name, None) is not None}
    data_options: dict[str, Any] = single_values(options.data_option, "--data-option")
    for name, value in vars(options).items():
        option = name.removeprefix("data_option_")
        if option == name or value is None:
            continue
        if option in data_options:
            raise ValueError(f"{data_flag(option)} and --data-option {option}= are both given; allowed: one of them")
        data_options[option] = value
    model_options = single_values(options.model_option, "--model-option")
    return {"data": options.data, **values, "data_options": data_options, "model_options": model_options}
