"""C20: every rule converges to its flow at first order in the learning rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels import reference
from support.trainings import REDUNDANT, SPURIOUS, problem
from toymodels import Diagram, Report, data_kind, diagram_sweep, network
from toymodels.flows.layers import trajectories
from toymodels.flows.problem import FlowProblem
from toymodels.rules import UpdateRule, rule
from toymodels.step_size import StepSize, choose_eta, measure
from toymodels.sweep import Sweep

ETAS = np.array([0.04, 0.02, 0.01, 0.005])
TIME = 1.2
"""Short enough that linf-SAM on spurious data meets no zero drive, where its field jumps."""
MU = (2.0, 1.0)
START = (0.5, 0.4)

RULES = {
    "sam": rule("sam"),
    "lsam": rule("lsam"),
    "usam": rule("usam"),
    "linf_sam": rule("linf_sam"),
    "jacobian": rule("sam", "jacobian"),
    "weights": rule("sam", "weights"),
}
DATA = {"redundant": (REDUNDANT, (1.0,)), "spurious": (SPURIOUS, (0.9, 0.1))}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("update", RULES)
def test_the_error_falls_in_proportion_to_the_learning_rate(update: str, data: str) -> None:
    signs, weights = DATA[data]
    chosen: UpdateRule = RULES[update]
    start, rho = np.array([START]), 0.2
    flow = FlowProblem(
        mu=np.array(MU)[:, None],
        signs=np.array(signs),
        weights=np.array(weights)[:, None],
        v=start.T,
        w=start.T,
        rho=np.array([rho]),
        rule=chosen,
        time=np.array([TIME]),
        levels=(),
    )
    # The smallest difference is of order 1e-3, so a flow to 1e-9 is exact here.
    v, w = trajectories(flow, np.array([TIME]), rtol=1e-9)
    exact = (v * w)[0, :, 0]
    errors = []
    for eta in ETAS:
        made = problem(
            MU, (start, start), signs=signs, weights=weights, rho=rho, update=chosen, eta=eta, steps=round(TIME / eta)
        )
        errors.append(np.linalg.norm(reference.train(made).coefficients[0] - exact))
    assert 1e-4 < errors[-1] < errors[0] < 0.2
    # The next order changes the slope by about eta, a few hundredths at the larger learning rates.
    slope = np.polyfit(np.log(ETAS), np.log(errors), 1)[0]
    assert abs(slope - 1) < 0.1, f"fitted slope {slope:.3f}"


# --- the learning rate of a map ---------------------------------------------------------------------------------------

SEEN = {"mu_easy": 3.0, "mu_hard": 1.0}
"""Last-layer SAM hops over its collapse at the default learning rate."""


def lsam_map(**values: float) -> Sweep:
    return diagram_sweep(
        x=("rho", np.linspace(0, 0.9, 8)), y=("init", np.linspace(0.1, 0.8, 8)), values={**SEEN, **values},
        network=network("diagonal"), data=data_kind("redundant"), rule=rule("lsam"), seeds=1, level=0.05,
    )  # fmt: skip


def test_a_learning_rate_that_hides_a_collapse_is_lowered_at_the_same_time() -> None:
    sweep = lsam_map()
    chosen, found = choose_eta(sweep, 0.05)
    assert found is not None
    assert found.lowered_from == 0.02
    assert found.is_fine
    assert chosen.column("eta")[0] == found.eta < 0.02
    np.testing.assert_allclose(
        chosen.column("eta") * chosen.column("steps"), sweep.column("eta") * sweep.column("steps")
    )
    assert chosen.record_steps == (0, 1)
    report = Report.of(Diagram.simulate(chosen, step_size=found), "phase", 0.05)
    assert report.note is None
    assert report.agreement.share > 0.98
    assert report.summary(0.0)["phases"]["collapse"] > 0.05


def test_a_theory_line_that_is_wrong_says_so(tmp_path: Path) -> None:
    sweep = lsam_map(eta=0.02)
    Diagram.simulate(sweep, step_size=measure(sweep, 0.05)).save(tmp_path / "map.nc")
    report = Report.of(Diagram.load(tmp_path / "map.nc"), "phase", 0.05)  # what was measured is stored
    assert report.note is not None
    assert "easy first for collapse" in report.note
    assert "eta = 0.02 is too large; try --eta 0.0" in report.note
    assert report.summary(0.0)["theory_note"] == report.note
    assert report.note in report.table()
    assert "only one of theory and simulation has this line" in report.table()
    assert "too large" in report.figure().axes[0].get_title().replace("\n", " ")


def test_a_learning_rate_that_is_fine_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = diagram_sweep(
        x=("rho", np.linspace(0, 1, 6)), y=("ratio", np.linspace(0.1, 0.9, 6)), values={}, network=network("diagonal"),
        data=data_kind("redundant"), rule=rule("sam"), seeds=1,
    )  # fmt: skip
    chosen, found = choose_eta(sweep, 0.1)
    assert chosen is sweep
    assert found is not None
    assert (found.is_fine, found.enough, found.lowered_from) == (True, 1, None)
    # Approximate lines are so at any learning rate: nothing is trained for them.
    monkeypatch.setattr("toymodels.step_size.simulate", lambda *_, **__: pytest.fail("it simulated"))
    assert measure(replace(sweep, network=network("relu")), 0.1) is None


def test_a_low_agreement_is_not_put_down_to_a_step_size_that_is_fine() -> None:
    sweep = lsam_map(eta=0.02)
    report = Report.of(Diagram.simulate(sweep, step_size=StepSize(0.02, 0.0, 1)), "phase", 0.05)
    assert report.note is not None
    assert "not because of the step size" in report.note
    assert StepSize(0.02, 0.3, None).advice(sweep).startswith("no eta down to 0.00125 is small enough")
