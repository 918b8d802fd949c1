"""What a sweep needs at least, counted before anything of it is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sambalance_tools.arrays import FloatArray
from sambalance_tools.memory import require_memory
from toymodels.networks import Diagonal, Network, Patches
from toymodels.parameters import STRUCTURAL, parameter

RUN_BYTES, LEVEL_BYTES = 290, 90
"""What a run needs in the arrays of all runs (parameters, results), and per loss level; measured on a million runs."""


def require_sweep_memory(
    network: Network,
    values: Mapping[str, float],
    axes: Mapping[str, Sequence[float] | FloatArray],
    seeds: int,
    levels: int,
    records: int,
) -> None:
    """Raise a ValueError, with what would fit, if a sweep has too many runs, or a single run is too large.

    Args:
        network, values, axes: those of the sweep, checked.
        seeds, levels, records: how many seeds, loss levels and record steps it has.
    """
    cells = math.prod(len(axis) for axis in axes.values())
    shape = " x ".join([*(f"{name} {len(axis):,}" for name, axis in axes.items()), f"seeds {seeds:,}"])
    require_memory(shape, cells * seeds, RUN_BYTES + LEVEL_BYTES * levels + 24 * records, "runs")

    def most(name: str) -> int:
        return int(max(axes[name]) if name in axes else values.get(name, parameter(name).default))

    largest = {name: most(name) for name in STRUCTURAL}
    features = 2 + largest["noise_features"]
    patches = 1
    if isinstance(network, Patches):
        patches = 2 * largest["copies"] + largest["noise_patches"]
        # A patch has a direction for each feature and each noise.
        weights = largest["width"] * (features + patches)
        fixed = patches * features * 2
    elif isinstance(network, Diagonal):
        weights, fixed = features * largest["depth"], 0
    else:
        weights, fixed = (features + 1) * largest["width"], 0
    noises = ["noise_features", "noise_easy", "noise_hard", *["noise_patches"] * isinstance(network, Patches)]
    noisy = any((max(axes[name]) if name in axes else values.get(name, 0)) > 0 for name in noises)
    samples = largest["samples"] if noisy else 2 * largest["slabs"] + 1
    # Start, weights, gradient and phantom point of a run; the samples, and what they are made from.
    numbers = 4 * weights + 2 * samples * features * patches + fixed
    if numbers * 8 > 1 << 28:  # else one run is nothing
        names = [name for name in STRUCTURAL if largest[name] != parameter(name).default]
        shown = ", ".join(f"{name}={largest[name]}" for name in names)
        require_memory(f"{shown or network.name}", numbers, 8, "numbers of one run")
