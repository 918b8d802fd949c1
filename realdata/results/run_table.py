"""The table that ``python -m realdata run`` prints: one line per checkpoint, the main measures in columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from realdata.sweeps.jobs import read_rows
from sambalance_tools.tables import text_table

MAIN = (
    ("probing_error", "hard", "hard probing error"),
    ("worst_group_probing_error", "hard", "worst group of it"),
    ("probing_error", "easy", "easy probing error"),
    ("worst_group_accuracy", "", "worst-group accuracy"),
    ("accuracy", "", "accuracy"),
    ("gini_real", "", "Gini of weights"),
    ("gini_phantom", "", "at the phantom point"),
)
"""Metric, attribute and heading of each column; columns without values are left out."""

PREFERRED_SPLITS = ("test", "probe", "train", "")


def main_row(rows: list[dict[str, Any]], metric: str, attribute: str) -> dict[str, Any] | None:
    """The row of a measure over all groups, on the preferred split; None if not measured."""
    found = [row for row in rows if row["metric"] == metric and (row.get("attribute") or "") == attribute]
    found = [row for row in found if not row.get("group")] or found
    found.sort(key=lambda row: _preference(row.get("split") or ""))
    return found[0] if found else None


def _preference(split: str) -> int:
    return PREFERRED_SPLITS.index(split) if split in PREFERRED_SPLITS else len(PREFERRED_SPLITS)


def shown(row: dict[str, Any] | None) -> str:
    """Value and interval of a row as text; a dash if there is none."""
    if row is None or row["value"] is None:
        return "-"
    if row.get("low") is None or row.get("high") is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def print_run(directory: Path, *, every_metric: bool = False) -> None:
    """Print the table of a finished run."""
    stored = read_rows(directory)
    assert stored is not None
    configuration = stored["configuration"]
    rule = configuration["method"] + (f", rho {configuration['rho']:g}" if configuration["rho"] else "")
    rule += _relative(stored)
    title = f"{stored['title']}: {configuration['model']}, {rule}, seed {configuration['seed']}"
    header, *rows = _every_metric(stored) if every_metric else _main(stored)
    print(text_table(rows, header, title))
    print(f"  {directory}")


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Print the main measures of one network, one a line."""
    lines = [(heading, main_row(rows, metric, attribute)) for metric, attribute, heading in MAIN]
    print(text_table([[heading, shown(row)] for heading, row in lines if row is not None], ["measure", "value"], title))


def _relative(stored: dict[str, Any]) -> str:
    """The relative radius of a run with a perturbation; runs of earlier versions have none."""
    rows = [row for each in stored["checkpoints"].values() for row in each["rows"]]
    found = main_row(rows, "relative_radius", "")
    return f" (relative radius {found['value']:.3g})" if found and found["value"] else ""


def _main(stored: dict[str, Any]) -> list[list[str]]:
    checkpoints = stored["checkpoints"]
    columns = [
        (metric, attribute, heading)
        for metric, attribute, heading in MAIN
        if any(main_row(each["rows"], metric, attribute) for each in checkpoints.values())
    ]
    lines = [["checkpoint", "epoch", "training loss", *(heading for *_, heading in columns)]]
    for name, each in checkpoints.items():
        values = [shown(main_row(each["rows"], metric, attribute)) for metric, attribute, _ in columns]
        loss = each["training_loss"]
        lines.append([name, f"{each['epoch']:g}", "-" if loss is None else f"{loss:.4f}", *values])
    return lines


def _every_metric(stored: dict[str, Any]) -> list[list[str]]:
    lines = [["checkpoint", "split", "metric", "attribute", "group", "value", "n"]]
    for name, each in stored["checkpoints"].items():
        lines += [
            [name, row.get("split") or "", row["metric"], row.get("attribute") or "", str(row.get("group") or ""),
             shown(row), str(row.get("n") or "")]
            for row in each["rows"]
        ]  # fmt: skip
    return lines
