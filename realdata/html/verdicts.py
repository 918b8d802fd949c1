"""Verdicts in an output folder of ``python -m realdata predict``, arranged for a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realdata.datasets.base import COPY, LIKENESS, SUBSET
from realdata.predictions.intervals import format_interval
from realdata.predictions.prediction import CONTRADICTED
from realdata.predictions.tables import ALL_DATA, SYMBOLS, name_of, read_predictions
from toymodels.theory.claims import IN_SHORT

DIFFERENCE_WORDS = {
    LIKENESS: "a likeness, not the published data set",
    SUBSET: "a subset of the published data set",
    COPY: "a copy of the published data set that is not identical to it",
}


def difference_words(differences: Sequence[str] | None) -> str:
    """Words for how a data set differs from the published one; empty if it does not.

    Args:
        differences: see :class:`realdata.datasets.base.Description`; None if unknown.
    """
    if differences is None:
        return "not known to be the published data set (its runs are of an earlier version)"
    return " and ".join(DIFFERENCE_WORDS[each] for each in differences)


def number_of(prediction: str) -> int:
    """12 for "R12", so that it comes after "R2"."""
    return int("".join(filter(str.isdigit, prediction)) or 0)


@dataclass(frozen=True)
class Line:
    """One number of a finding: for a part of a prediction, or for the whole prediction if it has no parts.

    Attributes:
        part: "a", "b", ...; "" for the whole. counts: whether it goes into the verdict.
        estimate, interval: as text; a dash if there is none. n: how many numbers the interval is computed from.
    """

    part: str
    statement: str
    verdict: str
    estimate: str
    interval: str
    unit: str
    n: str
    rule: str
    reason: str
    counts: bool = True


@dataclass(frozen=True)
class Place:
    """A data set in one setting, on which predictions are judged.

    Attributes:
        key: (data, setting, target) of the table. anchor: its id in the page. name: title and target.
        title: title of the data. details: its entry in predictions.json.
    """

    key: tuple[str, str, str]
    anchor: str
    name: str
    title: str
    details: Mapping[str, Any]

    @property
    def differences(self) -> tuple[str, ...] | None:
        """Differences from the published images; None if predictions.json does not contain them."""
        found = self.details.get("differences")
        return None if found is None else tuple(found)


@dataclass(frozen=True)
class Found:
    """A prediction on one data set: verdict, reason and numbers."""

    anchor: str
    place: Place
    verdict: str
    reason: str
    lines: tuple[Line, ...]

    @property
    def contradicted(self) -> bool:
        """Whether the data contradict the prediction."""
        return self.verdict in CONTRADICTED


@dataclass(frozen=True)
class Predicted:
    """A prediction with its findings; ``claims`` are pairs of number and sentence, ``across`` compares data sets."""

    name: str
    title: str
    statement: str
    estimator: str
    rule: str
    claims: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, Mapping[str, Any]], ...]
    found: tuple[Found, ...]
    across: tuple[Line, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How often each verdict is given."""
        return _counts(self.found)

    def at(self, place: Place) -> Found | None:
        """The finding on a data set."""
        return next((each for each in self.found if each.place is place), None)


@dataclass(frozen=True)
class Verdicts:
    """All verdicts; ``details`` is predictions.json: plan, date, versions; ``corrected``: p-values were corrected."""

    places: tuple[Place, ...]
    predicted: tuple[Predicted, ...]
    details: Mapping[str, Any]
    corrected: bool = False

    @property
    def all_found(self) -> list[Found]:
        """All findings, ordered by prediction."""
        return [found for each in self.predicted for found in each.found]

    @property
    def counts(self) -> dict[str, int]:
        """How often each verdict is given."""
        return _counts(self.all_found)

    @property
    def contradicted(self) -> bool:
        """Whether a prediction is contradicted on any data set."""
        return any(found.contradicted for found in self.all_found)


def _counts(found: Iterable[Found]) -> dict[str, int]:
    verdicts = [each.verdict for each in found]
    return {verdict: verdicts.count(verdict) for verdict in SYMBOLS}


def read_verdicts(out: Path) -> Verdicts | None:
    """Read the verdicts in ``out``; None if there are none.

    Raises:
        ValueError: if one of the two files is missing or not what predict writes, or they contradict each other.
    """
    table, described = out / "predictions.parquet", out / "predictions.json"
    if not table.exists() and not described.exists():
        return None
    rows = [_plain(row) for row in read_predictions(table).to_dict("records")]
    details = _read_details(described)
    unknown = sorted({row["prediction"] for row in rows} - set(details["predictions"]))
    if unknown:
        raise ValueError(
            f"{described} lacks {', '.join(unknown)}, which {table.name} has; allowed: files of one predict"
        )
    wrong = sorted({row["verdict"] for row in rows} - set(SYMBOLS))
    if wrong:
        raise ValueError(f"verdict={wrong[0]!r} in {table}; allowed: {', '.join(SYMBOLS)}")
    places = _places([row for row in rows if row["data"] != ALL_DATA], details.get("data", []))
    predicted = tuple(
        _predicted(name, each, [row for row in rows if row["prediction"] == name], places)
        for name, each in sorted(details["predictions"].items(), key=lambda entry: number_of(entry[0]))
    )
    return Verdicts(places, predicted, details, any(row["p_corrected"] is not None for row in rows))


def _read_details(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for each in found["predictions"].values():
            if missing := {"title", "statement", "claim", "estimator", "rule"} - set(each):
                raise KeyError(*missing)
        return dict(found)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; allowed: predictions.json beside predictions.parquet") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not what predict writes; allowed: predictions.json of a predict") from None


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A value of the table, with missing values as None."""
    import pandas as pd

    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["data"], row["setting"] or "", row["target"] or ""


def _places(rows: Sequence[Mapping[str, Any]], described: Sequence[Mapping[str, Any]]) -> tuple[Place, ...]:
    details = {_key(each): each for each in described}
    first: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(_key(row), row)
    names = [name_of(row) for row in first.values()]
    made = []
    for number, ((key, row), name) in enumerate(zip(first.items(), names, strict=True), 1):
        # Two settings of one data set have one title.
        full = name if names.count(name) == 1 else f"{name}, setting {key[1]}"
        made.append(Place(key, f"data-{number}", full, str(row["title"]), details.get(key, {})))
    return tuple(made)


def _predicted(
    name: str, described: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], places: Sequence[Place]
) -> Predicted:  # fmt: skip
    parts = described.get("parts") or {}
    found = []
    for place in places:
        own = [row for row in rows if _key(row) == place.key]
        whole = next((row for row in own if not row["part"]), None)
        if whole is not None:
            lines = tuple(_line(row, parts) for row in own if row["part"]) or (_line(whole, parts),)
            anchor = f"{name}-{place.anchor}"
            found.append(Found(anchor, place, whole["verdict"], str(whole["reason"] or ""), lines))
    keys = {place.key for place in places}
    claims = [each.strip() for each in str(described["claim"]).split(",")]
    return Predicted(
        name, described["title"], described["statement"], described["estimator"], described["rule"],
        tuple((claim, IN_SHORT.get(claim, "")) for claim in claims if claim),
        tuple(sorted(parts.items())), tuple(found),
        tuple(_line(row, parts) for row in rows if _key(row) not in keys),
    )  # fmt: skip


def _line(row: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> Line:
    estimate, low, high = row["estimate"], row["low"], row["high"]
    interval = "—"
    if low is not None and high is not None:
        interval = f"[{format_interval(low, None, None)}, {format_interval(high, None, None)}]"
        if row["confidence"] is not None and abs(row["confidence"] - 0.95) > 1e-9:
            interval += f" at {100 * row['confidence']:.4g} %"
    return Line(
        str(row["part"] or ""), str(row["statement"]), row["verdict"], format_interval(estimate, None, None), interval,
        str(row["unit"] or ""), "—" if row["n"] is None else str(int(row["n"])), str(row["rule"]),
        str(row["reason"] or ""), bool(parts.get(row["part"], {}).get("counts", True)),
    )  # fmt: skip
