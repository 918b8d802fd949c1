"""report.md: tables and figures of every setting in a folder of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.results.parquet import read_settings
from realdata.results.summary import describe_setting, versions_of
from realdata.results.text_table import escaped_markdown
from sambalance_tools.files import write_text

if TYPE_CHECKING:
    from realdata.results.summary import Panel


def write_report(out: Path, to: Path, *, latex: bool = True, figures: bool = True) -> list[Path]:
    """Write the report of a folder of jobs.

    Raises:
        ValueError: if there are neither jobs nor results in ``out``.
    """
    from realdata.results.parquet import read_results, write_results
    from realdata.results.summary import panels

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
    """Write the section of one panel and its files."""
    from realdata.results.tables import panel_tables, what_it_is

    title, setting = escaped_markdown(what_it_is(panel)), escaped_markdown(describe_setting(panel.configuration))
    text = [f"## {title}\n\n{setting}\n"]
    paths: list[Path] = []
    tables = panel_tables(panel)
    text += [each.table.markdown() for each in tables if not each.detail]
    if figures:
        from realdata.results.figures import panel_figures
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


def _counts(runs: Mapping[str, Mapping[str, Any]]) -> str:
    states: dict[str, int] = {}
    for run in runs.values():
        states[run["status"]] = states.get(run["status"], 0) + 1
    words = ", ".join(f"{count} {'not finished' if name == 'waiting' else name}" for name, count in states.items())
    return f"{len(runs)} runs: {words}. An empty cell has a note that says why."


def _folder_names(panels: Sequence[tuple[str, str]]) -> list[str]:
    """Folder of each panel: name of the data set, followed by the setting's digits if there are several settings."""
    data = [name for name, _ in panels]
    return [name if data.count(name) == 1 else f"{name}-{setting}" for name, setting in panels]


def _versions(runs: Mapping[str, Mapping[str, Any]]) -> str:
    lines = versions_of(runs)
    return "Computed with " + "; and with ".join(lines) + ".\n" if lines else ""
