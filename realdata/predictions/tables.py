"""Verdicts as rows, as a Parquet file with its JSON, and as the tables of verdict.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.predictions.correction import corrected
from realdata.predictions.data import PredictionData
from realdata.predictions.intervals import format_interval
from realdata.predictions.prediction import (
    ABSENT,
    ALPHA,
    FAILS,
    HOLDS,
    NO_RANGE,
    REVERSED,
    UNDECIDED,
    Evidence,
    Finding,
    PartSpec,
    RealPrediction,
    combine,
)
from realdata.results.parquet import read_columns
from realdata.results.text_table import TableCell, TextTable
from sambalance_tools.files import atomic_path, write_text
from sambalance_tools.statistics import CONFIDENCE

if TYPE_CHECKING:
    import pandas as pd

SYMBOLS = {HOLDS: "✓", REVERSED: "✗", FAILS: "✗", ABSENT: "∅", NO_RANGE: "□", UNDECIDED: "○"}

ALL_DATA = "all"
"""Used instead of a data set for parts that compare data sets."""

COLUMNS: dict[str, str] = {
    "data": "string", "title": "string", "setting": "string", "target": "string", "prediction": "string",
    "part": "string", "statement": "string", "verdict": "string", "estimate": "float64", "low": "float64",
    "high": "float64", "unit": "string", "n": "Int64", "confidence": "float64", "rule": "string", "reason": "string",
    "p": "float64", "p_corrected": "float64", "p_absent": "float64", "p_absent_corrected": "float64",
    "detectable": "float64",
}  # fmt: skip
"""Columns and types of predictions.parquet; ``part`` is empty for the verdict itself."""

TESTS = ("p", "p_corrected", "p_absent", "p_absent_corrected", "detectable")
"""Columns that files of earlier versions lack, see :class:`realdata.predictions.prediction.Finding`."""


@dataclass(frozen=True)
class Judged:
    """Evidence and verdict of each prediction on one base setting."""

    data: PredictionData
    evidence: Mapping[str, Evidence]
    verdicts: Mapping[str, Finding]


def judge_settings(data: Sequence[PredictionData], predictions: Sequence[RealPrediction]) -> list[Judged]:
    """Judge all predictions on all base settings, with p-values corrected over parts and settings."""
    evidence = {each.name: corrected(each, [each.judge(one) for one in data]) for each in predictions}
    judged = []
    for place, one in enumerate(data):
        own = {name: found[place] for name, found in evidence.items()}
        verdicts = {each.name: combine(each.parts, own[each.name].findings) for each in predictions}
        judged.append(Judged(one, own, verdicts))
    return judged


def judge_setting(data: PredictionData, predictions: Sequence[RealPrediction]) -> Judged:
    """Judge all predictions on one base setting alone."""
    return judge_settings([data], predictions)[0]


def verdict_rows(found: Sequence[Judged], predictions: Sequence[RealPrediction]) -> list[dict[str, Any]]:
    """One row per base setting, prediction and part, the verdict first; then the parts that compare data sets."""
    rows: list[dict[str, Any]] = []
    for one in found:
        where = {
            "data": one.data.base.data, "title": one.data.title, "setting": one.data.setting, "target": one.data.target,
        }  # fmt: skip
        for each in predictions:
            first = next(spec for spec in each.parts if spec.counts)
            whole = PartSpec("", each.statement, each.rule, first.unit)
            rows.append(where | _row(each, whole, one.verdicts[each.name]))
            parts = [spec for spec in each.parts if spec.name]
            rows += [where | _row(each, spec, one.evidence[each.name].findings[spec.name]) for spec in parts]
    for each in predictions:
        if each.across is not None:
            spec, judge = each.across
            finding = judge([(one.data, one.evidence[each.name]) for one in found])
            everywhere = {"data": ALL_DATA, "title": "all data sets", "setting": "", "target": ""}
            rows.append(everywhere | _row(each, spec, finding))
    return rows


def _row(prediction: RealPrediction, spec: PartSpec, finding: Finding) -> dict[str, Any]:
    interval = finding.interval
    return {
        "prediction": prediction.name, "part": spec.name, "statement": spec.statement, "verdict": finding.verdict,
        "estimate": interval.mean if interval else None, "low": interval.low if interval else None,
        "high": interval.high if interval else None, "unit": spec.unit, "n": interval.n if interval else None,
        "confidence": interval.confidence if interval else CONFIDENCE, "rule": spec.rule, "reason": finding.reason,
        **{name: getattr(finding, name) for name in TESTS},
    }  # fmt: skip


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows with the types of :data:`COLUMNS`."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(COLUMNS)


def write_predictions(
    out: Path, rows: Sequence[Mapping[str, Any]], predictions: Sequence[RealPrediction], details: Mapping[str, Any]
) -> list[Path]:
    """Write predictions.parquet, predictions.json and verdict.md into ``out``, each completely or not at all.

    Args:
        details: content of predictions.json besides the predictions: plan, data, versions, date.
    """
    paths = [out / name for name in ("predictions.parquet", "predictions.json", "verdict.md")]
    with atomic_path(paths[0]) as partial:
        table_of(rows).to_parquet(partial, index=False)
    content = {"format": 1, **details, "predictions": {each.name: _described(each) for each in predictions}}
    write_text(paths[1], json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False))
    write_text(paths[2], verdict_text(rows, predictions))
    return paths


def _described(prediction: RealPrediction) -> dict[str, Any]:
    specs = [*prediction.parts, *([prediction.across[0]] if prediction.across else [])]
    return {
        "title": prediction.title, "statement": prediction.statement, "claim": prediction.claim,
        "estimator": prediction.estimator, "rule": prediction.rule,
        "parts": {spec.name: {"statement": spec.statement, "rule": spec.rule, "unit": spec.unit, "counts": spec.counts}
                  for spec in specs if spec.name},
    }  # fmt: skip


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read predictions.parquet.

    Raises:
        ValueError: if there is none, or it lacks columns.
    """
    allowed = "what python -m realdata predict has written", "what predict has written"
    return read_columns(path, COLUMNS, *allowed, optional=TESTS)


def verdict_text(rows: Sequence[Mapping[str, Any]], predictions: Sequence[RealPrediction]) -> str:
    """Text of verdict.md: verdicts, estimates, reasons and predictions."""
    parts = [
        verdict_summary(rows, predictions),
        reason_list(rows),
        "## What was predicted\n",
        *(
            f"- **{p.name} {p.title}**{f' ({p.claim})' if p.claim else ''}: {p.statement}. Rule: {p.rule}."
            for p in predictions
        ),
    ]
    return "\n".join(parts) + "\n"


def verdict_summary(rows: Sequence[Mapping[str, Any]], predictions: Sequence[RealPrediction]) -> str:
    """The first part of verdict.md: verdicts and estimates."""
    tables = verdict_table(rows, predictions), estimate_table(rows)
    return "\n".join(["# Predictions on real data\n", *(table.markdown() for table in tables)])


def verdict_table(rows: Sequence[Mapping[str, Any]], predictions: Sequence[RealPrediction]) -> TextTable:
    """Table of verdicts, data sets by predictions."""
    names = {_place(row): name_of(row) for row in rows if row["data"] != ALL_DATA}
    verdicts = {(_place(row), row["prediction"]): row for row in rows if row["part"] == ""}
    lines = [
        [TableCell(name), *(_verdict_cell(verdicts.get((place, each.name))) for each in predictions)]
        for place, name in names.items()
    ]
    caption = (
        "Verdicts. ✓ holds; ✗ reversed, or fails: outside the range; ∅ absent; □ no dynamic range; ○ undecided."
        " Bold: decided by p-values after Holm's correction over the prediction's parts and all data sets"
    )
    return TextTable(caption, ["", *(f"{each.name} {each.title.lower()}" for each in predictions)], lines)


def _verdict_cell(row: Mapping[str, Any] | None) -> TableCell:
    if row is None:
        return TableCell("—")
    return TableCell(f"{SYMBOLS[row['verdict']]} {row['verdict']}", bold=is_corrected(row))


def is_corrected(row: Mapping[str, Any]) -> bool:
    """Whether corrected p-values decide the verdict of a row."""
    if row["verdict"] in (UNDECIDED, NO_RANGE):
        return False
    p = row.get("p_absent_corrected" if row["verdict"] == ABSENT else "p_corrected")
    return p is not None and p < ALPHA


def estimate_table(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """Table of every part with its estimate and interval."""
    names = {(row["data"], row["prediction"]) for row in rows if row["part"]}
    lines = []
    for row in rows:
        # The verdict of several parts has no number of its own.
        if not row["part"] and (row["data"], row["prediction"]) in names:
            continue
        text = format_interval(row["estimate"], row["low"], row["high"])
        part = f"{row['prediction']}{row['part']}"
        count = "" if row["n"] is None else f"{row['n']}"
        cells = [name_of(row), part, row["verdict"], text, row["unit"], count]
        cells += [_p_text(row.get(name)) for name in TESTS]
        lines.append([TableCell(cell, bold=at == 2 and is_corrected(row)) for at, cell in enumerate(cells)])
    caption = (
        "Estimates with their intervals (95 %, R5a corrected for its radii); n counts seeds, of R7 draws; p of no"
        " difference, and of a predicted effect that is large enough to count (absent if small), each with Holm's"
        " correction; the effect that is found with a power of 80 %"
    )
    header = ["data", "part", "verdict", "estimate", "unit", "n", "p", "p (Holm)", "p absent", "p absent (Holm)"]
    return TextTable(caption, [*header, "detectable"], lines)


def _p_text(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def reason_list(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per part with the reason for its verdict."""
    text, last = ["## Reasons\n"], None
    for row in rows:
        if _place(row) != last:
            last = _place(row)
            text.append(f"\n### {name_of(row)}\n")
        text.append(f"- {row['prediction']}{row['part']} {row['verdict']}: {row['reason']}")
    return "\n".join(text) + "\n"


def _place(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["data"], row["setting"], row["target"]


def name_of(row: Mapping[str, Any]) -> str:
    """Title of the data, and the target where there is one."""
    return f"{row['title']}, target {row['target']}" if row["target"] else str(row["title"])
