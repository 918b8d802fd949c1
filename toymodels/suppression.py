"""How far SAM's phantom point suppresses each feature of a trained network: chi_k, measured (C2, C38).

Feature k contributes E[a_k f(x)] to the margin (:func:`toymodels.probe.attribute_margins`). chi_k is the share of it
that is left when the last perturbed layer goes to the phantom point and the other layers stay:

    diagonal network            v~_k / v_k, for balanced weights 1 - rho D_k / R (C2), on one atom kind 1 - rho mu_k / N
    patches, local head         the same with vectors v_k = w_k, where the patterns are orthogonal (C38)
    pooled, fully connected     one number for both features, once the network has learned one direction (C36)

chi = 1 is no suppression, and below 0 a feature shrinks (C8). First-layer SAM leaves the last layer alone, so its chi
is that of the first layer. The phantom point is that of the rule with the gradient on all samples, also for
mini-batches.
"""

from __future__ import annotations

import numpy as np

from kernels.problem import Layers, TrainingProblem
from kernels.reference import Model, phantom_point
from sambalance_tools.arrays import FloatArray, batches_of_rows
from toymodels.networks import Network
from toymodels.probe import CHUNK_BYTES, ProbeData, attribute_margins


def suppression_factors(
    network: Network, problem: TrainingProblem, layers: Layers, rho: FloatArray, data: ProbeData
) -> FloatArray:
    """Suppression factor of the easy and of the hard feature of trained networks.

    Args:
        network: the kind of network.
        problem: what the runs were trained on: its samples, loss and rule count, its start and radii do not.
        layers: parameters ``[B, T, *layer]`` at T moments of each run.
        rho: ``[B, T]`` radius of the perturbation there, >= 0; 0: no perturbation, chi = 1.
        data: the probe data of each run.

    Returns:
        ``[B, T, 2]`` (easy, hard); NaN where the parameters are NaN, or the feature contributes nothing.
    """
    moved = problem.perturbed_layers[-1]
    at_phantom = np.full_like(layers[moved], np.nan)
    for runs in batches_of_rows(np.arange(problem.runs), _bytes_per_run(problem), CHUNK_BYTES):
        part = problem.select(slice(int(runs[0]), int(runs[-1]) + 1))
        model = Model.of(part)
        for moment in range(rho.shape[1]):
            real = tuple(layer[runs, moment] for layer in layers)
            with np.errstate(over="ignore", invalid="ignore"):  # of a run that diverged or never came this far
                gradient = model.gradient(real, model.weights_at(real))
                at_phantom[runs, moment] = phantom_point(part, real, gradient, rho[runs, moment])[moved]
    whole = attribute_margins(network, layers, data)
    left = attribute_margins(network, (*layers[:moved], at_phantom, *layers[moved + 1 :]), data)
    return np.divide(left, whole, out=np.full_like(whole, np.nan), where=whole != 0)


def _bytes_per_run(problem: TrainingProblem) -> int:
    """Features, hidden layer, its slope and their product, in float64."""
    hidden = 0 if problem.network == "diagonal" else problem.patches * problem.width
    return 8 * problem.samples * (2 * problem.dimension + 3 * hidden)
