"""What a study says: estimates over seeds with intervals, beside the predictions, and a verdict on each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sambalance_tools.arrays import FloatArray
from sambalance_tools.statistics import t_interval
from sambalance_tools.tables import text_table
from toymodels.beyond.study import REFERENCE_RADIUS

if TYPE_CHECKING:
    import xarray as xr

ADVANTAGE_TOLERANCE = 0.005
"""A prediction of an advantage holds within this beside the interval over seeds, or within a tenth of itself."""

RADIUS_TOLERANCE = 0.05
"""The same for radii: one cell of the grid of radii."""

CLEAR_PEAK = 0.01
"""A largest advantage below this has no place worth naming."""


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds with its 95 % t-interval; ``n`` seeds had a value. NaN where there are too few."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: FloatArray) -> SeedMean:
        """Mean and interval of one value per seed; NaN values are ignored."""
        known = np.asarray(values)[np.isfinite(values)]
        if len(known) == 0:
            return UNKNOWN
        mean, half = t_interval(known)
        half = np.nan if half is None else half
        return cls(mean, mean - half, mean + half, len(known))

    def verdict(self, predicted: float, tolerance: float) -> str:
        """Verdict on a prediction: ``holds``, ``rough`` (right sign, within a factor of 2) or ``breaks``.

        Without a decision: ``undecided`` (the prediction fits, but the interval is wider than half of it),
        ``no prediction`` or ``no data``. A predicted infinity means that the value does not exist, such as a radius of
        collapse for runs that never collapse.
        """
        if np.isnan(predicted):
            return "no prediction"
        if np.isinf(predicted):
            return "breaks" if self.n else "holds"
        if self.n < 2:
            return "no data"
        slack = max(tolerance, 0.1 * abs(predicted))
        if self.low - slack <= predicted <= self.high + slack:
            wide = self.high - self.low > max(2 * tolerance, 0.5 * abs(predicted))
            return "undecided" if wide else "holds"
        return "rough" if predicted and 0.5 <= self.mean / predicted <= 2 else "breaks"


UNKNOWN = SeedMean(np.nan, np.nan, np.nan, 0)


@dataclass(frozen=True)
class Quantity:
    """One measured quantity of one case beside the diagonal network's prediction and the case's own law.

    ``law`` is the own law's mean over seeds, ``law_error`` the paired difference measured - law, seed by seed.
    """

    measured: SeedMean
    diagonal: float
    law: float
    law_error: SeedMean
    tolerance: float
    absence_counts: bool = False
    """Whether having no value in any seed is an outcome (a radius of collapse) and not missing data."""

    @property
    def verdict(self) -> str:
        """On the diagonal network's prediction."""
        return self._verdict(self.diagonal)

    @property
    def law_verdict(self) -> str:
        """On the case's own law."""
        return self._verdict(self.law) if self.law_error.n < 2 else self.law_error.verdict(0.0, self.tolerance)

    def _verdict(self, predicted: float) -> str:
        if self.absence_counts and self.measured.n == 0 and np.isfinite(predicted):
            return "breaks"
        return self.measured.verdict(predicted, self.tolerance)

    def summary(self) -> dict[str, Any]:
        """All values for JSON; NaN becomes None."""
        error = self.law_error
        law = {"law": self.law, "law_error_low": error.low, "law_error_high": error.high}
        values: dict[str, Any] = {**asdict(self.measured), "diagonal": self.diagonal, **law}
        known = {key: None if isinstance(x, float) and not np.isfinite(x) else x for key, x in values.items()}
        return {**known, "verdict": self.verdict, "law_verdict": self.law_verdict}


@dataclass(frozen=True)
class CaseResult:
    """All quantities of one case."""

    label: str
    family: str
    tick: str
    panel: str
    quantities: dict[str, Quantity]
    """``advantage`` and ``probing_advantage`` at the reference radius, ``critical_radius``, ``peak_advantage``,
    ``peak_radius``."""


def results(study: xr.Dataset) -> list[CaseResult]:
    """The quantities of every case of a study's dataset."""
    found = []
    radii = study["radius"].values
    reference = int(np.argmin(np.abs(radii - REFERENCE_RADIUS)))
    for label in study["case"].values:
        case = study.sel(case=label)
        values = {name: case[name].values for name in case.data_vars}
        gain = _over_gd(values["share"])
        diagonal_gain, law_gain = _over_gd(values["diagonal_share"]), _over_gd(values["law_share"])
        probing = -_over_gd(values["hard_error"])
        diagonal_probing = -_over_gd(values["diagonal_hard_error"])
        peak, peak_radius = _peak(gain, radii)
        diagonal_peak, diagonal_peak_radius = _peak(diagonal_gain[:, None], radii)
        law_peak, law_peak_radius = _peak(law_gain, radii)
        critical = critical_radii(values["collapsed"], radii)
        diagonal_critical = critical_radii(values["diagonal_collapsed"][:, None], radii)
        law_critical = critical_radii(values["law_collapsed"], radii)
        known, law_known = (np.isfinite(values[name][0]).any() for name in ("diagonal_share", "law_share"))
        quantities = {
            "advantage": Quantity(
                SeedMean.of(gain[reference]),
                diagonal_gain[reference],
                _mean(law_gain[reference]),
                SeedMean.of(gain[reference] - law_gain[reference]),
                ADVANTAGE_TOLERANCE,
            ),
            "probing_advantage": Quantity(
                SeedMean.of(probing[reference]), diagonal_probing[reference], np.nan, UNKNOWN, ADVANTAGE_TOLERANCE
            ),
            "critical_radius": Quantity(
                SeedMean.of(critical),
                _mean(diagonal_critical, np.inf) if known else np.nan,
                _mean(law_critical, np.inf) if law_known else np.nan,
                SeedMean.of(critical - law_critical) if law_known else UNKNOWN,
                RADIUS_TOLERANCE,
                absence_counts=True,
            ),
            "peak_advantage": Quantity(
                SeedMean.of(peak), float(diagonal_peak[0]), _mean(law_peak), SeedMean.of(peak - law_peak), 0.05
            ),
            "peak_radius": Quantity(
                SeedMean.of(peak_radius),
                float(diagonal_peak_radius[0]),
                _mean(law_peak_radius),
                SeedMean.of(peak_radius - law_peak_radius),
                RADIUS_TOLERANCE,
            ),
        }  # fmt: skip
        family, tick, panel = (str(case[name].values) for name in ("family", "tick", "panel"))
        found.append(CaseResult(str(label), family, tick, panel, quantities))
    return found


def critical_radii(collapsed: np.ndarray, radii: FloatArray) -> FloatArray:
    """``[seed]`` middle of the cell where a run begins to collapse, from ``[radius, seed]``; NaN if it never does."""
    first = collapsed.argmax(axis=0)
    lower = radii[np.maximum(first - 1, 0)]
    return np.where(collapsed.any(axis=0), 0.5 * (radii[first] + lower), np.nan)


def _over_gd(values: FloatArray) -> FloatArray:
    return values - values[:1]


def _peak(gain: FloatArray, radii: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Largest advantage over the radii and where it lies, per seed; the place is NaN for a peak that is not clear."""
    usable = np.where(np.isfinite(gain), gain, -np.inf)
    best = usable.max(axis=0)
    place = np.where(best > CLEAR_PEAK, radii[usable.argmax(axis=0)], np.nan)
    return np.where(np.isfinite(best), best, np.nan), place


def _mean(values: FloatArray, otherwise: float = np.nan) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else otherwise


def table(name: str, cases: list[CaseResult]) -> str:
    """Text table: measured [interval] (diagonal's prediction; own law) verdict, for the three main quantities."""
    header = ("case", "share advantage", "probing advantage", "critical radius")
    rows = [
        [case.label, *[_cell(case.quantities[q]) for q in ("advantage", "probing_advantage", "critical_radius")]]
        for case in cases
    ]
    return text_table(rows, header, title=name)


def _cell(quantity: Quantity) -> str:
    measured = quantity.measured
    mean = f"{measured.mean:+.3f}" if measured.n else "none"
    interval = f" [{measured.low:+.3f}, {measured.high:+.3f}]" if measured.n > 1 else ""
    own = "" if np.isnan(quantity.law) else f"; {_short(quantity.law)}"
    return f"{mean}{interval} ({_short(quantity.diagonal)}{own}) {quantity.verdict}"


def _short(value: float) -> str:
    return "?" if np.isnan(value) else "none" if np.isinf(value) else f"{value:+.3f}"
