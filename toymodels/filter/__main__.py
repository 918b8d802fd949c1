"""Draw SAM as a filter of feature strengths (claim C22): log-gain over strength, by simulation and in closed form.

    python -m toymodels.filter
    python -m toymodels.filter --features 128 --rho 0,0.1,0.2 --init 0.02
    python -m toymodels.filter --level 0.5 --level 0.1

The command trains one diagonal network with K redundant features by GD and by SAM. Under GD the log-gain
ln a_k(t)/a_k(0) is a straight line in the feature's strength mu_k. Under SAM it is a downward parabola, and its top mu*
moves up during training. The command writes filter.png, .pdf, .nc and summary.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sambalance_tools.command_line import module_parser, number_list, run_command
from toymodels.command_line import add_engine_options

if TYPE_CHECKING:
    from toymodels.filter.study import FilterRun

DEFAULT_RHO = "0,0.1,0.15"
DEFAULT_LEVELS = (0.6, 0.3, 0.1)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = module_parser("toymodels.filter", __doc__)
    made.add_argument("--features", type=int, default=64, metavar="K", help="number of features (default 64)")
    made.add_argument(
        "--strengths", default="0.1:2", metavar="LOW:HIGH", help="evenly spaced strengths (default 0.1:2)"
    )
    made.add_argument("--rho", default=DEFAULT_RHO, metavar="R1,R2,...", help=f"radii (default {DEFAULT_RHO})")
    made.add_argument(
        "--init", type=float, default=0.02, metavar="A", help="initial weight of every feature (default 0.02)"
    )
    made.add_argument("--eta", type=float, default=1e-3, metavar="X", help="learning rate (default 0.001)")
    made.add_argument(
        "--level", type=float, action="append", metavar="L",
        help="training-loss level at which gains are shown; may be repeated "
        f"(default {', '.join(map(str, DEFAULT_LEVELS))})",
    )  # fmt: skip
    add_engine_options(made)
    made.add_argument("--out", default="out/filter", metavar="DIR", help="output folder (default out/filter)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    started = time.perf_counter()
    options = parser().parse_args(arguments)
    from sambalance_tools.files import writable_directory, write_json
    from sambalance_tools.progress import ProgressBar
    from toymodels.filter.figures import filter_figure
    from toymodels.filter.study import run_filter
    from toymodels.plots import save_figure
    from toymodels.simulation import save_dataset

    directory = writable_directory(options.out)
    low, high = _range(options.strengths)
    with ProgressBar("simulating") as bar:
        found: FilterRun = run_filter(
            features=options.features,
            strengths=(low, high),
            rho=number_list(options.rho, "--rho"),
            init=options.init,
            eta=options.eta,
            levels=tuple(options.level or DEFAULT_LEVELS),
            engine=options.engine,
            progress=bar,
        )
    paths = save_figure(filter_figure(found), directory / "filter")
    save_dataset(found.dataset(), directory / "filter.nc")
    write_json(directory / "summary.json", found.summary(time.perf_counter() - started))
    print(found.table())
    for path in [*paths, directory / "filter.nc", directory / "summary.json"]:
        print(f"  {path}")


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--strengths {text!r}; allowed: LOW:HIGH, two numbers") from None
    return low, high


if __name__ == "__main__":
    run_command(main)
