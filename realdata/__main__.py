"""Train with SGD and SAM on real images, probe what was learned.

    python -m realdata check cifar_mnist --root data          what is there, and what is missing
    python -m realdata run cifar_mnist --root data --rho 0.1  one training and its table
    python -m realdata sweep plan.yaml                        many trainings, one table of results
    python -m realdata report --out out/sweep                 tables and figures from it
    python -m realdata predict --data celeba --root data      verdicts on the theory's predictions R1 to R7
    python -m realdata phase_plane --out out/predict          real networks in the phase plane of the theory
    python -m realdata phase_diagram --data celeba            heads on real features, cell by cell, beside the toy
    python -m realdata download mnist --root data             only data sets with a checksum

Each command has a --help of its own.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from sambalance_tools.command_line import run_command

COMMANDS = ("check", "run", "sweep", "report", "predict", "phase_plane", "phase_diagram", "download")
"""Each is the function ``main`` of its module in :mod:`realdata.commands`, imported when it is called."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand over to a command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(__doc__.strip())
        if not given:
            raise ValueError(f"no command; allowed: {', '.join(COMMANDS)}")
        return
    if given[0] not in COMMANDS:
        raise ValueError(f"command {given[0]!r} is unknown; allowed: {', '.join(COMMANDS)}")
    importlib.import_module(f"realdata.commands.{given[0]}").main(given[1:])


if __name__ == "__main__":
    run_command(main)
