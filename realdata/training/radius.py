"""The relative radius r = rho / ||theta(0)||: how far a run's perturbation reaches, in a unit of its own network.

theta(0) are the parameters before the first step that the method perturbs: all that are trained, with biases and norm
layers, or for LSAM those of the last layer. Plain training perturbs none: its norm is that of all trained parameters,
and its r is 0. In the toys r is an axis and a number in every summary (``relative_radius``, over the norm of all
weights), so that toys and real networks can be compared, where the perturbation has length rho (SAM, LSAM).
"""

from __future__ import annotations

import torch
from torch import nn

from kernels.sam.parameters import Parameters, unwrapped
from realdata.configuration import SAM_OPTIONS, RunConfiguration


@torch.no_grad()
def starting_radius(configuration: RunConfiguration, model: nn.Module) -> dict[str, float]:
    """``initial_norm``, the l2 norm of the parameters that are perturbed, and ``relative_radius``, rho over it.

    Args:
        configuration: method and rho.
        model: the network before its first step. The radius is NaN if all of these parameters are 0.
    """
    parameters = Parameters(model)
    parameters.groups([(name, p) for name, p in unwrapped(model).named_parameters() if p.requires_grad])
    moved = parameters.selected(SAM_OPTIONS.get(configuration.method, {}).get("perturb", "all"))
    # In the module's order: the order of a set, and so the last bit of a sum, differs between processes.
    squares = [p.double().square().sum().cpu() for _, p in parameters.in_order() if p in moved]
    norm = float(torch.stack(squares).sum().sqrt())
    return {"initial_norm": norm, "relative_radius": configuration.rho / norm if norm else float("nan")}
