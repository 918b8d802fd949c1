"""The flow of the diagonal network, by the scalar filter law C22 where it applies, else layer by layer; other linear
networks by the products of their weights."""

from __future__ import annotations

import numpy as np

from toymodels.flows.filter_law import FilterSystem, solve_filter
from toymodels.flows.layers import RTOL, solve_layers
from toymodels.flows.linear_network import LinearNetworkFlow, solve_linear_network
from toymodels.flows.problem import FlowProblem, FlowResult


def solve(problem: FlowProblem | LinearNetworkFlow, rtol: float = RTOL) -> FlowResult:
    """Integrate the flows until every level is reached, the run has collapsed, or time is up.

    A flow can also come to rest where its gradient vanishes at a positive loss (spurious data without the hard
    feature): there the normalised direction flips for ever, and the run is stopped after
    :data:`toymodels.flows.layers.MAX_STEPS` steps.
    """
    # A flow that collapses divides by its vanishing gradient, and one from huge weights leaves float64: both end as
    # NaN, which the result shows.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if isinstance(problem, LinearNetworkFlow):
            return solve_linear_network(problem, rtol)
        if FilterSystem.applies(problem):
            return solve_filter(problem, rtol)
        return solve_layers(problem, rtol)
