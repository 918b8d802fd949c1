"""Train networks on real images with SGD and SAM, and measure which features they learn.

    python -m realdata check cifar_mnist --root data          check that the files of a data set are complete
    python -m realdata run cifar_mnist --root data --rho 0.1  train once and print the results
    python -m realdata sweep plan.yaml                        train many times, write one table of results
    python -m realdata report --out out/sweep                 make tables and figures from a sweep
    python -m realdata predict --data celeba --root data      test the theory's predictions
    python -m realdata probe celeba --checkpoint my.pt ...    measure a network of your own, trained elsewhere
    python -m realdata phase_plane --out out/predict          draw real networks in the theory's phase plane
    python -m realdata phase_diagram --data celeba            draw a phase diagram of heads on real features
    python -m realdata download mnist --root data             download MNIST, Fashion-MNIST or CIFAR-10

For the options of a command: python -m realdata COMMAND --help.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from sambalance_tools.command_line import run_command

COMMANDS = ("check", "run", "sweep", "report", "predict", "probe", "phase_plane", "phase_diagram", "download")
"""Each command is the function ``main`` of its module in :mod:`realdata.commands`, imported when it is called."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(__doc__.strip())
        if not given:
            raise ValueError(f"no command is given; allowed: {', '.join(COMMANDS)}")
        return
    if given[0] not in COMMANDS:
        raise ValueError(f"command {given[0]!r} is unknown; allowed: {', '.join(COMMANDS)}")
    importlib.import_module(f"realdata.commands.{given[0]}").main(given[1:])


if __name__ == "__main__":
    run_command(main)
