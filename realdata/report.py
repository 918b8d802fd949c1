"""Tables and figures from the results of a sweep, and the verdicts of a predict as a page.

    python -m realdata report --out out/sweep
    python -m realdata report --out out/sweep --to docs/results --no-latex
    python -m realdata report --html --out out/predict --with out/phase_diagram

Reads OUT/results.parquet and OUT/results.json, brought up to date from OUT/runs first. Writes into OUT/report (or the
folder --to) report.md, and per setting a folder with the tables in LaTeX and the figures as PNG and PDF. With --html it
writes report.html instead: one page with all of it inside, and the verdicts where OUT is the folder of a predict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sambalance_tools.command_line import OneLineParser, module_parser
from sambalance_tools.files import writable_directory, write_text

if TYPE_CHECKING:
    from realdata.summary import Panel

DEFAULTS_SHOWN = ("model", "epochs", "base", "lr", "momentum", "weight_decay", "batch_size", "schedule", "augmentation")
"""Settings that the heading of a panel always names; others only where they differ from the default."""


def parser() -> OneLineParser:
    """The command line."""
    made = module_parser("realdata report", __doc__)
    made.add_argument("--out", default="out/sweep", metavar="DIR", help="folder of the sweep (default out/sweep)")
    made.add_argument("--to", metavar="DIR", help="folder of the report (default OUT/report)")
    made.add_argument("--no-latex", action="store_true", help="write no .tex files")
    made.add_argument("--no-figures", action="store_true", help="write no figures")
    made.add_argument("--html", action="store_true", help="write one self-contained page instead, report.html")
    made.add_argument(
        "--with", action="append", default=[], dest="beside", metavar="DIR",
        help="with --html: include the folder of a phase diagram (again for more of them)",
    )  # fmt: skip
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    out = Path(options.out)
    if not out.is_dir():
        raise ValueError(f"--out={options.out!r} is not a folder; allowed: the folder of a sweep")
    if options.beside and not options.html:
        raise ValueError(f"--with={options.beside[0]!r} without --html; allowed: with --html")
    to = writable_directory(options.to or out / "report")
    if options.html:
        from realdata.html_report import write_html

        print(f"  {write_html(out, to, [Path(each) for each in options.beside], figures=not options.no_figures)}")
        return
    paths = write_report(out, to, latex=not options.no_latex, figures=not options.no_figures)
    print(f"  {paths[0]}")
    count = {suffix: sum(path.suffix == suffix for path in paths) for suffix in (".tex", ".png")}
    print(f"  beside it {count['.tex']} tables in LaTeX, {count['.png']} figures as PNG and PDF")


def write_report(out: Path, to: Path, *, latex: bool = True, figures: bool = True) -> list[Path]:
    """Write the report of a folder of jobs.

    Raises:
        ValueError: if there are neither jobs nor results in ``out``.
    """
    from realdata.results import read_results, write_results
    from realdata.summary import panels

    if (out / "runs").is_dir():
        write_results(out)
    rows = read_results(out / "results.parquet")
    runs = read_settings(out / "results.json")
    found = panels(rows, runs)
    if not found:
        raise ValueError(f"{out} has no runs; allowed: the folder of a sweep")
    text, paths = [f"# Results\n\n{_counts(runs)}\n"], []
    names = _folder_names([(panel.configuration["data"], panel.setting) for panel in found])
    for panel, name in zip(found, names, strict=True):
        (to / name).mkdir(exist_ok=True)
        lines, written = _write_panel(panel, to / name, latex=latex, figures=figures)
        text += lines
        paths += written
    text.append(_versions(runs))
    write_text(to / "report.md", "\n".join(text))
    return [to / "report.md", *paths]


def _write_panel(panel: Panel, folder: Path, *, latex: bool, figures: bool) -> tuple[list[str], list[Path]]:
    """Parts of the report for one panel, and the files beside it."""
    from realdata.tables import panel_tables, what_it_is

    text = [f"## {what_it_is(panel)}\n\n{describe(panel.configuration)}\n"]
    paths: list[Path] = []
    tables = panel_tables(panel)
    text += [each.table.markdown() for each in tables if not each.detail]
    if figures:
        from realdata.figures import panel_figures
        from toymodels.plots import save_figure

        for stem, figure in panel_figures(panel):
            written = save_figure(figure, folder / stem)
            paths += written
            text.append(f"![{stem.replace('_', ' ')}]({folder.name}/{written[0].name})\n")
    details = [each.table.markdown() for each in tables if each.detail]
    if details:
        text += ["<details><summary>Each target</summary>\n", *details, "</details>\n"]
    if latex:
        for each in tables:
            paths.append(folder / f"{each.stem}.tex")
            write_text(paths[-1], each.table.latex())
    return text, paths


def read_settings(path: Path) -> dict[str, Any]:
    """Per run what ``results.json`` says; a ValueError if it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["runs"])
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; allowed: results.json beside results.parquet") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not what a sweep writes; allowed: results.json of a sweep") from None


def _counts(runs: Mapping[str, Mapping[str, Any]]) -> str:
    states: dict[str, int] = {}
    for run in runs.values():
        states[run["status"]] = states.get(run["status"], 0) + 1
    words = ", ".join(f"{count} {'not finished' if name == 'waiting' else name}" for name, count in states.items())
    return f"{len(runs)} runs: {words}. An empty cell has a note that says why."


def _folder_names(panels: Sequence[tuple[str, str]]) -> list[str]:
    """The data set's name where it has one setting, otherwise the setting's digits after it."""
    data = [name for name, _ in panels]
    return [name if data.count(name) == 1 else f"{name}-{setting}" for name, setting in panels]


def describe(configuration: Mapping[str, Any]) -> str:
    """The setting that a panel's runs share, in one paragraph."""
    from realdata.options import DEFAULTS
    from realdata.results import RULE

    words = []
    for name, value in configuration.items():
        if name in (*RULE, "data", "data_options", "model_options", "levels"):
            continue
        if name in DEFAULTS_SHOWN or value != DEFAULTS[name]:
            words.append(f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else _words(name, value))
    options = {**configuration["data_options"], **configuration["model_options"]}
    options = {name: value for name, value in options.items() if name != "target"}
    words += [_words(name, value) for name, value in options.items()]
    return "Setting: " + ", ".join(words) + "."


def _words(name: str, value: Any) -> str:
    return f"{name.replace('_', ' ')} {'none' if value is None else value}"


def versions_of(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The versions with which runs were computed, a line for each set of them."""
    found = sorted({json.dumps(run["versions"], sort_keys=True) for run in runs.values() if "versions" in run})
    return [", ".join(f"{name} {version}" for name, version in json.loads(each).items()) for each in found]


def _versions(runs: Mapping[str, Mapping[str, Any]]) -> str:
    lines = versions_of(runs)
    return "Computed with " + "; and with ".join(lines) + ".\n" if lines else ""
