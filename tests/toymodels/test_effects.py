"""Maps of the two effects: C14 on redundant data, and where SAM hurts on spurious data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from toymodels import redundant, rule, spurious
from toymodels.networks import Diagonal
from toymodels.phase_diagram import __main__ as phase_diagram
from toymodels.phase_diagram.effects import EffectsMap
from toymodels.phase_diagram.study import diagram_sweep

X, Y = ("rho", np.linspace(0, 0.7, 8)), ("ratio", np.linspace(0.3, 0.95, 6))


def run(data, **values: float) -> EffectsMap:
    sweep = diagram_sweep(X, Y, {"eta": 0.01, "jitter": 0.02, **values}, Diagonal(), data, rule("sam"), seeds=2)
    return EffectsMap.simulate(sweep, level=0.1)


def test_on_redundant_data_weights_only_is_gd_and_jacobian_only_is_sam():
    found = run(redundant())
    # Crossings are read at whole steps, so losses match up to one step: a share moves by at most eta R^2 |dH/dL|.
    matched = 0.01 * 1.0 * 0.5
    assert np.nanmax(np.abs(found.advantage["sam_weights"])) < matched
    assert np.nanmax(np.abs(found.advantage["sam"] - found.advantage["sam_jacobian"])) < 2 * matched
    assert np.nanmax(found.advantage["sam"]) > 0.2
    assert np.nanmin(found.advantage["sam"]) > -matched


def test_on_spurious_data_sam_hurts_where_the_flows_say_so():
    found = run(spurious(), p=0.9)
    mean = found.advantage["sam"].mean(axis=-1)
    flow = found.flow_advantage["sam"]
    assert mean.shape == flow.shape
    both = np.isfinite(mean) & np.isfinite(flow) & (np.abs(flow) > 0.02)
    assert (np.sign(mean[both]) == np.sign(flow[both])).all()
    assert (flow[both] < 0).any()
    assert found.summary(0.0)["rules"]["sam"]["share_of_cells_hurt"] > 0.1
    # Seeds vary by 2 % around the nominal start of the flow.
    assert np.abs(mean[both] - flow[both]).max() < 0.1


def test_command_writes_panels_and_summary(tmp_path: Path):
    grid = ["--x", "rho=0:0.6:4", "--y", "p=0.7:0.95:3", "--seeds", "1", "--steps", "1500"]
    phase_diagram.main(
        ["--metric", "advantage", "--compare", "effects", "--data", "spurious", *grid, "--out", str(tmp_path)]
    )
    assert {path.name for path in tmp_path.iterdir()} == {"effects.png", "effects.pdf", "effects.nc", "summary.json"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["rules"]) == {"sam", "sam_weights", "sam_jacobian", "lsam"}


def test_comparison_refuses_a_rule_of_its_own(tmp_path: Path):
    with pytest.raises(ValueError, match="--compare effects"):
        phase_diagram.main(["--compare", "effects", "--rule", "lsam", "--out", str(tmp_path)])
