"""Tables of bad command lines, one per command; see support/bad_input_cases.py for the notation."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from sambalance_tools.command_line import run_command
from support.bad_input_cases import Case, Content, rows, words

COMMANDS = {
    "toymodels.phase_diagram": "toymodels.phase_diagram.__main__",
    "toymodels.trajectories": "toymodels.trajectories.__main__",
    "toymodels.filter": "toymodels.filter.__main__",
    "toymodels.validate": "toymodels.validate.__main__",
    "toymodels.beyond": "toymodels.beyond.__main__",
    "proofs_check": "proofs_check.cli",
    "realdata": "realdata.__main__",
}

# What the commands import when they need it: imported once, here.
for module in (
    *COMMANDS.values(),
    *(f"realdata.commands.{name}" for name in
      ("check", "run", "sweep", "report", "predict", "phase_plane", "phase_diagram", "download")),
    "kernels", "kernels.engine", "kernels.sam.optimizer", "matplotlib.backends.backend_agg", "matplotlib.pyplot",
    "pandas", "pyarrow.parquet", "h5netcdf", "xarray", "yaml", "sklearn.linear_model", "torch", "torchvision",
    "toymodels.phase_diagram.report", "toymodels.phase_diagram.study", "toymodels.trajectories.study",
    "toymodels.trajectories.linear_networks", "toymodels.filter.study", "toymodels.validate.study",
    "toymodels.beyond.study", "proofs_check.registry", "realdata.predictions.request", "realdata.predictions.judging",
    "realdata.results.report", "realdata.html.page", "realdata.sweeps.estimate", "realdata.training.train",
    "realdata.measures.evaluate", "realdata.results.phase_plane_figure",
):  # fmt: skip
    importlib.import_module(module)


def _action(command: str, arguments: str) -> Callable[[], object]:
    main = importlib.import_module(COMMANDS[command.split()[0]]).main
    given = [*command.split()[1:], *words(arguments)]
    return lambda: run_command(main, given)


def lines(
    command: str, table: str, *, files: Mapping[str, Content] | None = None,
    variables: Mapping[str, str] | None = None, written: Sequence[str] = (), on_stdout: bool = False,
) -> Iterator[Case]:  # fmt: skip
    """Cases of a command from a table; the other arguments are those of :class:`Case`."""
    for text, expected in rows(table):
        yield Case(
            f"{command} {text}", _action(command, text), expected, files or {}, variables or {}, written, on_stdout
        )


def family(command: str, flags: str, messages: Mapping[str, str], before: str = "") -> Iterator[Case]:
    """Every flag with every value.

    Args:
        command: a command. before: arguments in front of the flag.
        flags: separated by blanks.
        messages: by value, how the message begins; ``{flag}`` and ``{name}`` (``weight_decay``) stand for the flag.
    """
    for flag in flags.split():
        name = flag.removeprefix("--").replace("-", "_")
        for value, message in messages.items():
            text = f"{before} {flag}={value}".strip()
            yield Case(f"{command} {text}", _action(command, text), message.format(flag=flag, name=name))


def not_a_number(span: str, *, low: str = "-1", shown_low: str = "-1.0") -> dict[str, str]:
    """What the toy's parameters say to values that none of them takes, and to one below the least, ``low``."""
    return {
        "nan": f"argument {{flag}}: {{name}}=nan; allowed: {span} (",
        "1e999": f"argument {{flag}}: {{name}}=inf; allowed: {span} (",
        low: f"argument {{flag}}: {{name}}={shown_low}; allowed: {span} (",
        "x": "argument {flag}: 'x' is not a number",
    }


TOY_PARAMETERS = {
    "--rho --weight-decay --noise-easy --noise-hard --noise-extra --relative-radius": not_a_number("a number >= 0"),
    "--mu-easy --mu-hard --init --eta": not_a_number("a number >= 1e-12"),
    "--ratio": not_a_number("a number in [1e-12, 1]"),
    "--p --q --spread --cosine": not_a_number("a number in [0, 1]"),
    "--flip": not_a_number("a number in [0, 0.5]"),
    "--imbalance": not_a_number("a number in [-20, 20]", low="-21", shown_low="-21.0"),
    "--jitter": not_a_number("a number in [0, 10]"),
    "--momentum": not_a_number("a number in [0, 1]"),
    "--noise-patches --sam-from --sam-until --noise-features --slabs --batch": not_a_number(
        "a whole number in [0, 1e+09]"
    ),
    "--copies --samples --width --steps": not_a_number("a whole number in [1, 1e+09]"),
    "--depth": not_a_number("a whole number in [2, 1e+09]", low="1", shown_low="1.0"),
}

PHASE_DIAGRAM = """
"""


def cases() -> list[Case]:
    """All of them."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    for flags, messages in TOY_PARAMETERS.items():
        yield from family("toymodels.phase_diagram", flags, messages)
        yield from family("toymodels.trajectories", flags, {"1e999": messages["1e999"]})
    yield from lines("toymodels.phase_diagram", PHASE_DIAGRAM)
