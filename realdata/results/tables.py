"""Tables of a report: a measure by update rule and training-loss level, and its difference from SGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from realdata.results.radius_table import radius_table
from realdata.results.summary import (
    ALL_TARGETS,
    MEASURES,
    SGD,
    Cell,
    Key,
    Measure,
    Panel,
    Values,
    baselines,
    losses_match,
    plain_key,
    rule_name,
    values_of,
)
from realdata.results.text_table import TableCell, TextTable

OVERSHOOT = 0.5
"""Checkpoints with a training loss below this share of their level are marked as far from the level."""

MISMATCH = 1.5
"""A difference between checkpoints whose training losses differ by more than this factor is marked."""

NO_LEVEL = "one number, which stands in the last column: a network that is not trained reaches no level"

EVALUATE_MORE = "see the table of training losses; more evaluations per epoch bring it closer"


@dataclass(frozen=True)
class NamedTable:
    """A table, the stem of its file name, and whether it is for a single one of several targets."""

    stem: str
    table: TextTable
    detail: bool = False


def panel_tables(panel: Panel, measures: Sequence[Measure] = MEASURES) -> list[NamedTable]:
    """One table per measure of the panel, first for the mean over targets, then for each target; then the radii."""
    values = {measure: values_of(panel, measure) for measure in measures}
    present = {measure: found for measure, found in values.items() if found.found}
    if not present:
        return [NamedTable("missing", _nothing(panel, next(iter(values.values()))))]
    several = len(panel.targets) > 1
    made: list[NamedTable] = []
    for target in (*([ALL_TARGETS] if several else []), *panel.targets):
        detail = several and target != ALL_TARGETS
        word = target.lower().replace(" ", "_")
        for measure, found in present.items():
            stem = "-".join(part for part in (measure.metric, measure.attribute, word) if part)
            made.append(NamedTable(stem, _measure_table(panel, measure, found, target), detail))
            if _has_other_rules(panel):
                difference = _difference_table(panel, measure, found, target)
                made.append(NamedTable(f"{stem}-difference", difference, detail))
        hardness = hardness_table(panel, target)
        if hardness is not None:
            made.append(
                NamedTable("-".join(part for part in ("which_attribute_is_hard", word) if part), hardness, detail)
            )
        losses = _loss_table(panel, next(iter(present.values())), target)
        made.append(NamedTable("-".join(part for part in ("training_loss", word) if part), losses, detail))
    radii = radius_table(panel, what_it_is(panel))
    return made if radii is None else [*made, NamedTable("relative_radius", radii)]


def hardness_table(panel: Panel, target: str) -> TextTable | None:
    """Which attribute is hard, as measured: the probing errors of both. None if only one was probed.

    The data set's card calls one attribute hard and the other easy; these numbers may say otherwise.
    """
    measures = {attribute: Measure("probing_error", attribute, "probe", "") for attribute in ("hard", "easy")}
    lines: dict[str, list[Cell]] = {}
    for attribute, measure in measures.items():
        values = values_of(panel, measure)
        if not values.found:
            return None
        trained = [values.cell((SGD, target, level)) for level in panel.levels]
        reached = next((cell for cell in trained[:-1] if cell.mean is not None), Cell(None, None, 0, 0))
        beside = list(baselines(panel, measure).items())
        of = {name.split()[0]: found.cell((SGD, target, None)) for name, found in beside}
        nothing = Cell(None, None, 0, 0)
        lines[attribute] = [of.get("untrained", nothing), reached, trained[-1], of.get("SGD", nothing)]
    notes: list[str] = []
    rows = []
    for attribute, cells in lines.items():
        row = [TableCell(f"called {attribute}")]
        for cell in cells:
            numbers = () if cell.mean is not None else (_note(notes, "not measured"),)
            row.append(TableCell(format_cell(cell), numbers))
        rows.append(row)
    pairs = list(zip(lines["hard"], lines["easy"], strict=True))
    signs = [one.mean > other.mean for one, other in pairs if one.mean is not None and other.mean is not None]
    if not signs:
        return None
    said = (
        "the attribute called hard" if all(signs) else "the attribute called easy" if not any(signs) else "not settled"
    )
    caption = (
        f"Which attribute is hard, as measured: probing errors, larger is harder. {what_it_is(panel, target)}; mean ±"
        f" half width of the 95 % t-interval over seeds. Harder in every column: {said}"
    )
    headings = ["", "untrained", "SGD at the first level", "SGD at the end", "trained on it alone"]
    return TextTable(caption, headings, rows, notes)


def _has_other_rules(panel: Panel) -> bool:
    plain = [rule for rule in panel.rules if rule[0] == "sgd"]
    return bool(plain) and len(panel.rules) > len(plain)


def what_it_is(panel: Panel, target: str = "") -> str:
    """Start of every caption: title of the data, target, number of seeds."""
    aim = f", target {target}" if target and target != ALL_TARGETS else ""
    aim = f", mean of {len(panel.targets)} targets" if target == ALL_TARGETS else aim
    count = panel.seeds
    return f"{panel.title}{aim}, {count} seed{'s' if count != 1 else ''}"


def _measure_table(panel: Panel, measure: Measure, values: Values, target: str) -> TextTable:
    better = "lower is better" if measure.lower_is_better else "higher is better"
    better = "" if measure.metric.startswith("gini") else f" ({better})"
    caption = (
        f"{measure.title}{better}. {what_it_is(panel, target)}; mean ± half width of the 95 % t-interval over seeds"
    )
    table = _table(panel, values, target, caption, values.cell, signed=False)
    return _with_baselines(table, panel, measure, target)


def _with_baselines(table: TextTable, panel: Panel, measure: Measure, target: str) -> TextTable:
    """A table with further rows: the untrained network, and what training on the attribute alone reaches."""
    rows, notes = list(table.rows), list(table.notes)
    for name, values in baselines(panel, measure).items():
        row = [TableCell(name)]
        for level in panel.levels:
            key: Key = SGD, target, level
            cell = values.cell(key)
            remarks = _remarks(cell, values, key, signed=False)
            if cell.mean is None and not remarks:
                remarks = [NO_LEVEL]
            row.append(TableCell(format_cell(cell), tuple(_note(notes, remark) for remark in remarks)))
        rows.append(row)
    return replace(table, rows=rows, notes=notes)


def _difference_table(panel: Panel, measure: Measure, values: Values, target: str) -> TextTable:
    caption = f"{measure.title}: difference to SGD at the same seed. {what_it_is(panel, target)}; "
    caption += "mean ± half width of the 95 % t-interval over seeds, bold where it excludes 0"
    return _table(panel, values, target, caption, values.difference, signed=True)


def _table(
    panel: Panel, values: Values, target: str, caption: str, cell_of: Callable[[Key], Cell], *, signed: bool
) -> TextTable:  # fmt: skip
    notes: list[str] = []
    rows = []
    for rule in panel.rules:
        if signed and rule[0] == "sgd":
            continue
        row = [TableCell(rule_name(rule))]
        for level in panel.levels:
            key: Key = rule, target, level
            cell = cell_of(key)
            numbers = tuple(_note(notes, remark) for remark in _remarks(cell, values, key, signed=signed))
            row.append(TableCell(format_cell(cell, signed=signed), numbers, bold=signed and excludes_zero(cell)))
        rows.append(row)
    return TextTable(caption, ["", *map(level_name, panel.levels)], rows, notes)


def level_name(level: float | None) -> str:
    """Heading of a column."""
    return "at the end" if level is None else f"at loss {level:g}"


def _remarks(cell: Cell, values: Values, key: Key, *, signed: bool) -> list[str]:
    """Notes on missing seeds and on losses that do not match."""
    remarks, (_, _, level) = list(cell.reasons), key
    loss, plain = values.mean_loss(key), values.mean_loss(plain_key(key))
    if level is None or cell.mean is None or loss is None:
        return remarks
    if not signed and loss < OVERSHOOT * level:
        remarks.append(f"measured far below this level ({EVALUATE_MORE})")
    if signed and plain is not None and not losses_match(loss, plain, MISMATCH):
        remarks.append(f"the training losses of the two differ by more than a factor of {MISMATCH:g} ({EVALUATE_MORE})")
    return remarks


def _note(notes: list[str], text: str) -> int:
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def format_cell(cell: Cell, *, signed: bool = False) -> str:
    """``0.348 ± 0.012``; with a sign for differences.

    If seeds are missing, their number follows: ``(3 of 5)``.
    """
    if cell.mean is None:
        return "—"
    text = f"{cell.mean:+.3f}".replace("-", "−") if signed else f"{cell.mean:.3f}".replace("-", "−")
    if cell.half is not None:
        text += f" ± {cell.half:.3f}"
    if cell.n < cell.planned:
        text += f" ({cell.n} of {cell.planned})"
    return text


def excludes_zero(cell: Cell) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    return cell.mean is not None and cell.half is not None and abs(cell.mean) > cell.half


def _loss_table(panel: Panel, values: Values, target: str) -> TextTable:
    """Training loss at which the numbers of a column were measured: how well the losses match."""
    rows = []
    for rule in panel.rules:
        losses = [values.mean_loss((rule, target, level)) for level in panel.levels]
        texts = [rule_name(rule), *("—" if loss is None else f"{loss:.3g}" for loss in losses)]
        rows.append([TableCell(text) for text in texts])
    caption = f"Training loss at the checkpoints. {what_it_is(panel, target)}; mean over seeds"
    return TextTable(caption, ["", *map(level_name, panel.levels)], rows)


def _nothing(panel: Panel, values: Values) -> TextTable:
    """Table for a panel without numbers: its runs and the reasons."""
    rows, notes = [], list[str]()
    for (rule, target, level), missing in values.missing.items():
        if level is None and target != ALL_TARGETS:
            for seed, reason in sorted(missing.items()):
                words = [TableCell(text) for text in (rule_name(rule), target or "-", str(seed))]
                rows.append([*words, TableCell("—", (_note(notes, reason),))])
    return TextTable(f"{what_it_is(panel)}: no results", ["", "target", "seed", "result"], rows, notes)
