"""How a problem is laid out on a GPU: threads per run, runs per program, warps. Pure Python, needs no GPU.

The table is keyed by the shape of the network (m, d), the number of samples and the architecture. Its entries follow
from counting registers; ``benchmarks/compile_matrix.py`` compiles every one of them and reports spills, and
``benchmarks/roofline.py`` is a static model of their speed.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.problem import TrainingProblem

WARP = 32
MOST_LANES = 1024
"""Threads of the largest program."""


@dataclass(frozen=True)
class Launch:
    """How a program is laid out."""

    lanes: int
    """Threads that share a run."""
    rows: int
    """Runs per program."""
    tiles: int
    """Neurons (two layers) or features (diagonal) per thread."""
    warps: int
    unroll: int
    """Samples whose work is interleaved."""


TILES_OF = {"diagonal": 32, "linear": 16, "relu": 32}
"""Parameters per thread (of W, for two layers) that leave room for phantom weights, gradients and data in the 255
registers of a thread, and several warps per multiprocessor to hide latency. The fewest threads that hold a run so are
the fastest: what threads of a run have in common (margin, loss, sums) is computed by each of them."""
MOST_TILES = 64
"""What a thread of a full warp may hold: more threads would mean sums across warps, through shared memory."""


def choose(problem: TrainingProblem, precision: str = "float32", interpreted: bool = False) -> Launch:
    """The layout for a problem.

    Raises:
        ValueError: no layout holds it in registers; see :func:`fits`.
    """
    launch = _layout(problem, precision)
    if launch is None:
        raise ValueError(f"a network of width {problem.width} and {problem.dimension} features does not fit")
    if interpreted:
        # The interpreter's cost is per program and per operation, not per run or thread.
        rows = min(1024, 1 << (problem.runs - 1).bit_length())
        lanes = 1 << (problem.width - 1).bit_length()
        if lanes <= WARP:
            return Launch(lanes, rows, 1, 1, 1)
        return Launch(launch.lanes, rows, launch.tiles, launch.warps, 1)
    return launch


def fits(problem: TrainingProblem) -> bool:
    """Whether a thread's share of the problem fits into registers."""
    return _layout(problem, "float32") is not None


def _layout(problem: TrainingProblem, precision: str) -> Launch | None:
    diagonal = problem.network == "diagonal"
    kind = "diagonal" if diagonal else problem.activation
    each = problem.depth if diagonal else problem.dimension  # parameters that come with a feature or a neuron
    comfortable = 3 / 4 if problem.array("momentum").any() else 1.0
    if precision == "float64":
        comfortable /= 2
    # Where not even the most threads have room for all, some registers spill into the first-level cache.
    for room in (comfortable, 1.0):
        lanes = 1
        while lanes <= MOST_LANES:
            most = MOST_TILES if lanes >= WARP else TILES_OF[kind]
            tiles = -(-problem.width // lanes)
            if tiles * each <= most * room:
                # Two samples abreast hide each other's latency; drawn ones have to wait for their numbers anyway.
                abreast = problem.samples > 1 and problem.batch_size is None and tiles * each <= TILES_OF[kind]
                unroll = 2 if abreast else 1
                return Launch(lanes, max(1, WARP // lanes), tiles, max(1, lanes // WARP), unroll)
            lanes *= 2
    return None
