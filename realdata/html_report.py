"""One HTML page, with nothing beside it, from a folder of ``python -m realdata predict`` or of a sweep.

    python -m realdata report --html --out out/predict
    python -m realdata report --html --out out/predict --with out/phase_diagram

The page says what was predicted, what was seen, where it failed and why. Texts from the folder are escaped by the
template engine; a content security policy forbids it to load or run anything but its own styles and its own few lines
of script.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.html_figures import Picture, embedded, figures_named, picture_of_figure, picture_of_file
from realdata.html_summary import Group, count_words, counts, groups, lost_runs, settings_of, top_of
from realdata.html_verdicts import SYMBOLS, Predicted, Verdicts, likeness, read_verdicts
from toymodels.files import write_text

if TYPE_CHECKING:
    from realdata.tables import NamedTable

TEMPLATES = Path(__file__).parent / "html_templates"

MOST_NUMBERS = 60
"""Of a summary.json no more than this many numbers are shown."""

ALTERNATIVES = {
    "against_loss": "measures against the training loss, a line per update rule",
    "against_rho": "measures against the radius rho, with SGD as a horizontal band",
    "lorenz": "Lorenz curves of the example weights at the real and at the phantom parameters, a line per update rule",
}
"""What the figures of a panel show; the numbers stand in the tables beside them."""


@dataclass(frozen=True)
class Results:
    """The results of one panel: heading, setting, tables and pictures; ``base``: whether verdicts rest on it."""

    anchor: str
    group: Group
    setting: str
    tables: Sequence[NamedTable]
    pictures: Sequence[Picture]
    base: bool


@dataclass(frozen=True)
class Extra:
    """Pictures from elsewhere (phase planes, phase diagrams) with the numbers of the summary beside them."""

    anchor: str
    title: str
    pictures: Sequence[Picture]
    numbers: Sequence[tuple[str, str]]


def write_html(out: Path, to: Path, beside: Sequence[Path] = (), *, figures: bool = True) -> Path:
    """Write ``report.html`` into the folder ``to``, whole or not at all.

    Args:
        out: folder of a predict or of a sweep. beside: folders of phase diagrams to include, each with a summary.json.
        figures: whether the page has pictures.

    Raises:
        ValueError: if a file that the page needs is missing or not what the commands write.
    """
    if beside and not figures:
        raise ValueError(f"--with={str(beside[0])!r} with --no-figures; allowed: one of them")
    path = to / "report.html"
    write_text(path, page(out, to, beside, figures=figures))
    return path


def page(
    out: Path, to: Path, beside: Sequence[Path] = (), *, figures: bool = True, today: datetime.date | None = None
) -> str:
    """The page as text; ``today`` is the date that it bears. Other arguments and errors as :func:`write_html`."""
    from realdata.report import describe, read_settings
    from realdata.results import read_results, write_results
    from realdata.summary import panels

    if (out / "runs").is_dir():
        write_results(out)
    runs = read_settings(out / "results.json")
    verdicts = read_verdicts(out)
    rows = read_results(out / "results.parquet")
    base = {place.key[1] for place in verdicts.places} if verdicts else set()
    found = groups(panels(rows, runs), base)
    if not found and verdicts is None:
        raise ValueError(f"{out} has no runs; allowed: the folder of a sweep or of a predict")
    results = [
        _results(number, group, describe(group.panel.configuration), base, figures=figures)
        for number, group in enumerate(found, 1)
    ]
    predicted = _prediction_pictures(out, verdicts) if figures else {}
    extras = _extras(out, to, beside) if figures else []
    pictures = [*predicted.values(), *(p for each in extras for p in each.pictures)]
    pictures += [p for each in results for p in each.pictures]
    script, style = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.js", "style.css"))
    return _render(
        top=top_of(verdicts, found, runs), verdicts=verdicts, results=results, extras=extras,
        lost=lost_runs(found), run_words=count_words(counts(runs)), sources=_sources(runs), figures=figures,
        pictures=embedded(pictures), picture_of=predicted, today=(today or datetime.date.today()).isoformat(),
        computed=_versions(runs), plan=_plan(verdicts), script=script, style=style,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        symbols=SYMBOLS, likeness=likeness, settings_of=settings_of,
    )  # fmt: skip


def _render(**values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(**values)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _results(number: int, group: Group, setting: str, base: Iterable[str], *, figures: bool) -> Results:
    from realdata.tables import panel_tables

    tables = panel_tables(group.panel)
    used = not base or group.panel.setting in base
    pictures = []
    # Further settings (other learning rates, ...) have tables alone: their figures would double the page.
    if figures and used:
        from realdata.figures import panel_figures

        for stem, figure in panel_figures(group.panel):
            what = ALTERNATIVES.get(stem, stem.replace("_", " "))
            alt = f"{group.name}: {what}. The numbers are in the tables of this section."
            pictures.append(picture_of_figure(figure, alt, f"{group.name}: {what}"))
    return Results(f"results-{number}", group, setting, tables, pictures, used)


def _prediction_pictures(out: Path, verdicts: Verdicts | None) -> dict[str, Picture]:
    """Figure of each prediction that has one in OUT/figures."""
    found = {}
    for each in verdicts.predicted if verdicts else ():
        path = out / "figures" / f"{each.name}.png"
        if path.is_file():
            found[each.name] = picture_of_file(
                path, _alternative(each), f"{each.name} {each.title}, a panel per data set"
            )
    return found


def _alternative(predicted: Predicted) -> str:
    words = "; ".join(f"{found.place.name}: {found.verdict}" for found in predicted.found)
    return f"Figure of {predicted.name}, {predicted.title}. {words}. The numbers are in the tables below it."


def _extras(out: Path, to: Path, beside: Sequence[Path]) -> list[Extra]:
    """Phase planes and phase diagrams that lie in ``out``, and the folders ``beside``."""
    found: list[tuple[str, list[Path], Path | None]] = []
    for stem, name in (("phase_plane", "Phase plane"), ("phase_diagram", "Phase diagram")):
        by_folder: dict[Path, list[Path]] = {}
        for path in figures_named(out, stem, (to, *beside)):
            by_folder.setdefault(path.parent, []).append(path)
        for folder, paths in by_folder.items():
            where = folder.relative_to(out).as_posix()
            summary = folder / "summary.json"
            title = name if where == "." else f"{name}: {where}"
            found.append((title, paths, summary if summary.is_file() else None))
    for folder in beside:
        paths, summary = sorted(folder.glob("*.png")), folder / "summary.json"
        if not summary.is_file() or not paths:
            lacking = "summary.json" if paths else "figure (*.png)"
            raise ValueError(f"--with={str(folder)!r} has no {lacking}; allowed: the folder of a phase diagram")
        found.append((f"Phase diagram: {folder.resolve().name}", paths, summary))
    return [
        Extra(f"extra-{number}", title, [_extra_picture(path, title) for path in paths], _numbers(summary))
        for number, (title, paths, summary) in enumerate(found, 1)
    ]


def _extra_picture(path: Path, title: str) -> Picture:
    name = path.stem.replace("_", " ")
    return picture_of_file(path, f"{title}: {name}. Its numbers, where it has some, are listed below it.", name)


def _numbers(path: Path | None) -> list[tuple[str, str]]:
    """What a summary.json says: its numbers and words by their dotted names."""
    if path is None:
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is not JSON; allowed: what a phase diagram has written") from None
    return list(_flat("", found))[:MOST_NUMBERS]


def _flat(name: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), each)
    elif isinstance(value, list) and any(isinstance(each, (Mapping, list)) for each in value):
        for number, each in enumerate(value, 1):
            yield from _flat(f"{name} {number}", each)
    elif isinstance(value, list):
        shown = [_word(each) for each in value]
        few = len(shown) <= 8
        yield name, ", ".join(shown) if few else f"{shown[0]}, {shown[1]}, ... {shown[-1]} ({len(shown)} values)"
    elif value is not None:
        yield name, _word(value)


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sources(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Per data set the fingerprints of its files, and how many files were skipped as unreadable."""
    found: dict[str, list[str]] = {}
    for run in runs.values():
        if "fingerprint" in run:
            words = f"fingerprint {run['fingerprint']}"
            words += f", {run['skipped_files']} unreadable files skipped" if run.get("skipped_files") else ""
            known = found.setdefault(str(run["configuration"]["data"]), [])
            if words not in known:
                known.append(words)
    return found


def _versions(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Versions with which trainings were computed."""
    found = sorted({json.dumps(run["versions"], sort_keys=True) for run in runs.values() if "versions" in run})
    return [", ".join(f"{name} {version}" for name, version in json.loads(each).items()) for each in found]


def _plan(verdicts: Verdicts | None) -> list[tuple[str, str]]:
    if verdicts is None:
        return []
    pairs = _flat("", verdicts.details.get("plan", {}))
    return [(name.replace("_", " "), value) for name, value in pairs]
