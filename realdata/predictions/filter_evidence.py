"""R7's measurement as the verdict and the figure need it, kept beside the results so that it is made once."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sambalance_tools.files import write_text


@dataclass(frozen=True)
class FilterEvidence:
    """Log-gains of a diagonal head on features of real images, by GD and by SAM.

    Attributes:
        strength: mu_k = |E[y x_k]| of each feature. gain_gd, gain_sam: ln a_k / a_k(0).
        fit_gd, fit_sam: coefficients (c0, c1, c2) of the quadratic fits in mu.
        predicted_gd, predicted_sam: log-gains that C22 gives.
        bend: |c2| mu_max / c1 of GD's fit; ratio: SAM's c2 minus GD's, over C22's: each (value, low, high).
        draws: of the bootstrap over examples. rho: radius. features: words for what the features are.
    """

    strength: tuple[float, ...]
    gain_gd: tuple[float, ...]
    gain_sam: tuple[float, ...]
    fit_gd: tuple[float, float, float]
    fit_sam: tuple[float, float, float]
    predicted_gd: tuple[float, ...]
    predicted_sam: tuple[float, ...]
    bend: tuple[float, float, float]
    ratio: tuple[float, float, float]
    draws: int
    rho: float
    features: str

    def write(self, path: Path) -> None:
        """As JSON; numbers that are not finite become null."""
        values = {k: _finite(v) for k, v in dataclasses.asdict(self).items()}
        write_text(path, json.dumps(values, indent=1, allow_nan=False))

    @classmethod
    def read(cls, path: Path) -> FilterEvidence | None:
        """The inverse of :meth:`write`; None where there is no such file or it is another version's."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            read: dict[str, Any] = {k: _tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**read)
        except (FileNotFoundError, TypeError, ValueError, AttributeError):
            return None


def _finite(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tuple(values: list[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else float(value) for value in values)
