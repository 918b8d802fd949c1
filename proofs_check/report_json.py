"""The results as JSON, one object per claim."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from proofs_check.claim import CheckedClaim, Claim


def record(claim: Claim, outcome: CheckedClaim) -> dict[str, Any]:
    """The fields of one claim; a number that could not be computed is null."""
    simulation = outcome.simulation
    error = outcome.witness_max_error
    return {
        "claim": claim.id,
        "title": claim.title,
        "statement": claim.statement,
        "status": outcome.status,
        "method": outcome.method,
        "negative_control": [{"error": r.error, "rejected": r.rejected, "found": r.found} for r in outcome.rejections],
        "witness_max_error": error if math.isfinite(error) else None,
        "simulation_error": simulation.error if simulation else None,
        "simulation_bound": simulation.bound if simulation else None,
        "simulation_bound_reason": simulation.reason if simulation else None,
        "seconds": round(outcome.seconds, 3),
        "assumptions": list(claim.assumptions),
        "remark": claim.remark,
        "source": claim.source,
        "functions": outcome.functions,
        "failures": outcome.failures,
    }


def json_report(claims: Sequence[Claim], outcomes: Sequence[CheckedClaim]) -> str:
    """A JSON array with one :func:`record` per claim."""
    rows = [record(claim, outcome) for claim, outcome in zip(claims, outcomes, strict=True)]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
