"""The results of a folder of jobs as one Parquet table, one row per run, checkpoint and measure; and its exact setting.

    from realdata import read_results
    table = read_results("out/sweep/results.parquet")

``results.json`` beside it holds per run the configuration, status (with the reason where there is no result), versions
and fingerprint of the data, and which runs were planned. Nothing in either file names a machine or a folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realdata.configuration import RunConfiguration
from realdata.sweeps.jobs import WAITING, read_failure, read_rows
from realdata.sweeps.work import read_plan_file
from sambalance_tools.files import atomic_path, write_text

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: dict[str, str] = {
    "run": "string", "data": "string", "title": "string", "model": "string", "method": "string", "effect": "string",
    "rho": "float64", "lr": "float64", "weight_decay": "float64", "batch_size": "int64", "epochs": "int64",
    "seed": "int64", "target": "string", "setting": "string", "checkpoint": "string", "level": "float64",
    "training_loss": "float64", "step": "int64", "epoch": "float64", "split": "string", "metric": "string",
    "attribute": "string", "group": "string", "value": "float64", "low": "float64", "high": "float64", "n": "Int64",
}  # fmt: skip
"""Columns and types of the table.

``run`` is the hash of the configuration; ``setting`` the hash of all of it but method, effect, rho, seed, target
environment and ceiling, so that runs of one setting differ in these alone. ``level`` is NaN for
the final checkpoint and for the untrained network (checkpoint ``untrained``, step 0); ``target``, ``split``,
``attribute`` and ``group`` are empty where they do not apply; ``low`` and ``high`` bound the interval that the
evaluation states (over images, not over seeds) and ``n`` counts the images.
"""

RULE = ("method", "effect", "rho", "seed")
"""Settings that differ between runs of one setting, besides the target environment and the ceiling."""

CEILING = "ceiling"
"""Option of data sets, see :mod:`realdata.datasets.ceiling`."""


def setting_of_values(configuration: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that identify all settings except update rule, seed, target environment and ceiling."""
    values = {name: value for name, value in configuration.items() if name not in RULE}
    options = values["data_options"].items()
    values["data_options"] = {name: value for name, value in options if name not in ("target", CEILING)}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def collect(out: str | Path) -> pd.DataFrame:
    """The table of all evaluated jobs in ``out/runs``, finished or diverged."""
    import pandas as pd

    found = [row for stored in _stored(Path(out)) for row in _rows(stored)]
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype(COLUMNS)
    return table.sort_values(
        ["data", "target", "setting", "method", "effect", "rho", "seed", "step"], kind="stable", ignore_index=True
    )


def _stored(out: Path) -> Iterator[dict[str, Any]]:
    for directory in sorted((out / "runs").glob("*")):
        stored = read_rows(directory)
        if stored is not None and stored["status"] != "partial":
            yield stored


def _rows(stored: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    configuration = RunConfiguration.from_dict(stored["configuration"])
    common: dict[str, Any] = {
        name: getattr(configuration, name)
        for name in ("data", "model", "method", "effect", "rho", "lr", "weight_decay", "batch_size", "epochs", "seed")
    }
    common |= {
        "run": stored["hash"], "title": stored["title"], "setting": setting_of_values(configuration.as_dict()),
        "target": configuration.data_options.get("target") or "",
    }  # fmt: skip
    for name, checkpoint in stored["checkpoints"].items():
        at = {key: checkpoint[key] for key in ("level", "training_loss", "step", "epoch")}
        for row in checkpoint["rows"]:
            measured = {key: row.get(key) for key in ("value", "low", "high", "n")}
            words = {key: str(_given(row.get(key))) for key in ("split", "metric", "attribute", "group")}
            yield {**common, "checkpoint": name, **at, **words, **measured}


def _given(value: Any) -> Any:
    return "" if value is None else value


def collect_settings(out: str | Path) -> dict[str, Any]:
    """Content of ``results.json``: configuration, status, reason, title, versions and evaluation of each run."""
    out = Path(out)
    plan = out / "plan.json"
    runs: dict[str, dict[str, Any]] = {}
    if plan.exists():
        for name, configuration in read_plan_file(plan).items():
            runs[name] = {"configuration": configuration, "status": WAITING, "reason": "not run yet"}
    for directory in sorted((out / "runs").glob("*")):
        stored, failure = read_rows(directory), read_failure(directory)
        if stored is not None and stored["status"] != "partial":
            kept = (
                "configuration", "status", "title", "differences", "fingerprint", "skipped_files", "evaluation",
                "versions",
            )  # fmt: skip
            # Runs of earlier versions do not say how their images differ from the published ones.
            runs[directory.name] = {name: stored[name] for name in kept if name in stored} | {"reason": ""}
        elif failure is not None:
            reason = {"status": "failed", "reason": failure["reason"]}
            runs[directory.name] = {"configuration": failure["configuration"], **reason}
        elif stored is not None:
            runs[directory.name] = {
                "configuration": stored["configuration"], "status": WAITING,
                "reason": f"interrupted after evaluating {len(stored['checkpoints'])} checkpoints",
            }  # fmt: skip
    return {"format": 1, "runs": dict(sorted(runs.items()))}


def write_results(out: str | Path) -> list[Path]:
    """Write ``results.parquet`` and ``results.json`` into a folder of jobs, each completely or not at all."""
    out = Path(out)
    table, settings = collect(out), collect_settings(out)
    paths = [out / "results.parquet", out / "results.json"]
    with atomic_path(paths[0]) as partial:
        table.to_parquet(partial, index=False)
    write_text(paths[1], json.dumps(settings, indent=1, sort_keys=True))
    return paths


def read_results(path: str | Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        ValueError: if there is none, or it lacks columns.
    """
    return read_columns(path, COLUMNS, "a results.parquet that a sweep has written", "a table written by a sweep")


def read_columns(
    path: str | Path, columns: Mapping[str, str], file: str, table: str, optional: Collection[str] = ()
) -> pd.DataFrame:  # fmt: skip
    """Columns of a Parquet file, with their types.

    Args:
        file, table: text of the error for what is allowed, if the file is missing or lacks columns.
        optional: columns that may be missing, and are then empty.

    Raises:
        ValueError: if there is none, or it lacks columns.
    """
    import pandas as pd

    try:
        found = pd.read_parquet(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; allowed: {file}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a Parquet file: {' '.join(str(error).split())}") from None
    missing = [name for name in columns if name not in found.columns and name not in optional]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; allowed: {table}")
    return found.reindex(columns=list(columns)).astype(dict(columns))


def read_settings(path: Path) -> dict[str, Any]:
    """Entries of ``results.json`` by run; a ValueError if it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["runs"])
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; allowed: results.json beside results.parquet") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not what a sweep writes; allowed: results.json of a sweep") from None
