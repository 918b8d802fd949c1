"""C20: every rule converges to its flow at first order in the learning rate."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import reference
from support.trainings import REDUNDANT, SPURIOUS, problem
from toymodels.flows.layers import trajectories
from toymodels.flows.problem import FlowProblem
from toymodels.rules import UpdateRule, rule

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
