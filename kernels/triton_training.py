"""The kernel: a whole training of a tile of runs, its parameters in registers from the first step to the last.

    theta~ = theta + rho direction(g(theta)),   b <- momentum b + g(theta~) + decay theta,   theta <- theta - eta b

Forward, backward, norm, perturbation, second pass and update follow each other without leaving the kernel; states that
are to be kept are written on the way. One launch does the steps ``begin`` to ``stop``, so that the host can report
progress and be interrupted between launches; the state between launches is on the device.
"""

# What follows is Triton's language, not Python: it knows no types, and of tuples only +.
# mypy: ignore-errors
# ruff: noqa: RUF005, RUF059, B007, SIM102
from __future__ import annotations

import triton
import triton.language as tl

from kernels.triton_common import (
    any_of,
    draw_minibatch,
    moved,
    run_squares,
    updated,
)
from kernels.triton_diagonal import diagonal_coefficients, diagonal_pull_back, linear_gradient
from kernels.triton_two_layer import linear_pull_back, relu_gradient, relu_pull_back, two_layer_coefficients

STEPS_BETWEEN_LOOKS = tl.constexpr(64)
"""How often a tile looks whether any of its runs is still alive."""

# ``nothing`` is a zero in memory. Added to the thread's number where a state is stored, it keeps the compiler from
# computing the addresses of all parameters once and holding them in registers through the whole training.


@triton.jit
def parameter_indices(
    lane, dimension, width, NETWORK: tl.constexpr, DEPTH: tl.constexpr, TILES: tl.constexpr,
    DIMENSION: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """For each tile of a run's parameters: its number among them, and whether there is such a parameter."""
    indices = ()
    exists = ()
    if NETWORK == "diagonal":
        for layer in tl.static_range(DEPTH):
            for k in tl.static_range(TILES):
                feature = lane + LANES * k
                indices = indices + (feature + layer * dimension,)
                exists = exists + (feature < dimension,)
    else:
        for j in tl.static_range(TILES):
            for k in tl.static_range(DIMENSION):
                neuron = lane + LANES * j
                indices = indices + (neuron * DIMENSION + k,)
                exists = exists + (neuron < width,)
        for j in tl.static_range(TILES):
            neuron = lane + LANES * j
            indices = indices + (neuron + width * DIMENSION,)
            exists = exists + (neuron < width,)
    return indices, exists


@triton.jit
def load_tiles(
    base, lane, dimension, width, runs, NETWORK: tl.constexpr, DEPTH: tl.constexpr, TILES: tl.constexpr,
    DIMENSION: tl.constexpr, LANES: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """A run's parameters ``[P, runs]``; zeros where a thread has fewer than others, and zeros they stay."""
    indices, exists = parameter_indices(lane, dimension, width, NETWORK, DEPTH, TILES, DIMENSION, LANES)
    out = ()
    for i in tl.static_range(COUNT):
        out = out + (tl.load(base + indices[i] * runs, mask=exists[i], other=0.0),)
    return out


@triton.jit
def store_tiles(
    base, tiles, kept, lane, dimension, width, runs, NETWORK: tl.constexpr, DEPTH: tl.constexpr, TILES: tl.constexpr,
    DIMENSION: tl.constexpr, LANES: tl.constexpr, COUNT: tl.constexpr,
):  # fmt: skip
    """The parameters of the runs in ``kept`` back to ``[P, runs]``."""
    indices, exists = parameter_indices(lane, dimension, width, NETWORK, DEPTH, TILES, DIMENSION, LANES)
    for i in tl.static_range(COUNT):
        tl.store(base + indices[i] * runs, tiles[i], mask=kept & exists[i])


@triton.jit
def feature_offsets(lane, dimension, NETWORK: tl.constexpr, TILES: tl.constexpr, LANES: tl.constexpr):
    """The features of a thread of a diagonal network; where there are none left, the last one (times a zero weight)."""
    out = ()
    for k in tl.static_range(TILES):
        if LANES == 1 or NETWORK != "diagonal":
            out = out + (k,)
        else:
            out = out + (tl.minimum(lane + LANES * k, dimension - 1),)
    return out


@triton.jit
def gradient_at(
    at_weights, at_jacobian, features, labels, weights, scale, offsets, draws, batch_weight, count, dimension, lane,
    run, runs, NETWORK: tl.constexpr, DEPTH: tl.constexpr, TILES: tl.constexpr, DIMENSION: tl.constexpr,
    LANES: tl.constexpr, SAME: tl.constexpr, LOSS: tl.constexpr, WANT_LOSS: tl.constexpr, DRAWN: tl.constexpr,
    FEATURES_SHARED: tl.constexpr, LABELS_SHARED: tl.constexpr, WEIGHTS_SHARED: tl.constexpr, SCALED: tl.constexpr,
    UNROLL: tl.constexpr,
):  # fmt: skip
    """(gradient, loss) with the example weights taken at one point and the Jacobian at another."""
    if NETWORK == "diagonal":
        u = diagonal_coefficients(at_weights, DEPTH, TILES)
        by_coefficient, loss = linear_gradient(
            u, features, labels, weights, scale, offsets, draws, batch_weight, count, dimension, lane, run, runs,
            TILES, LANES, False, LOSS, WANT_LOSS, DRAWN, FEATURES_SHARED, LABELS_SHARED, WEIGHTS_SHARED, SCALED, UNROLL,
        )  # fmt: skip
        return diagonal_pull_back(at_jacobian, by_coefficient, DEPTH, TILES), loss
    elif NETWORK == "linear":
        u = two_layer_coefficients(at_weights, TILES, DIMENSION, LANES, False)
        by_coefficient, loss = linear_gradient(
            u, features, labels, weights, scale, offsets, draws, batch_weight, count, dimension, lane, run, runs,
            DIMENSION, LANES, True, LOSS, WANT_LOSS, DRAWN, FEATURES_SHARED, LABELS_SHARED, WEIGHTS_SHARED, SCALED,
            UNROLL,
        )  # fmt: skip
        return linear_pull_back(at_jacobian, by_coefficient, TILES, DIMENSION), loss
    else:
        gated, loss = relu_gradient(
            at_weights, at_jacobian, features, labels, weights, scale, draws, batch_weight, count, run, runs,
            TILES, DIMENSION, LANES, SAME, LOSS, WANT_LOSS, DRAWN, FEATURES_SHARED, LABELS_SHARED, WEIGHTS_SHARED,
            SCALED, UNROLL,
        )  # fmt: skip
        return relu_pull_back(at_jacobian, gated, TILES, DIMENSION), loss


@triton.jit
def keep_state(
    row, theta, kept, coefficient_rows, layer_rows, lane, dimension, width, run, runs, parameters, nothing,
    NETWORK: tl.constexpr, DEPTH: tl.constexpr, TILES: tl.constexpr, DIMENSION: tl.constexpr, LANES: tl.constexpr,
    COUNT: tl.constexpr, LAYERS: tl.constexpr,
):  # fmt: skip
    """Write the end-to-end coefficients and, if they are kept, the parameters of the runs in ``kept`` to a row."""
    row = tl.cast(row, tl.int64)
    lane = lane + tl.load(nothing)
    base = coefficient_rows + row * dimension * runs + run
    if NETWORK == "diagonal":
        u = diagonal_coefficients(theta, DEPTH, TILES)
        for k in tl.static_range(TILES):
            feature = lane + LANES * k
            tl.store(base + feature * runs, u[k], mask=kept & (feature < dimension))
    else:
        u = two_layer_coefficients(theta, TILES, DIMENSION, LANES, NETWORK == "relu")
        for k in tl.static_range(DIMENSION):
            tl.store(base + tl.cast(k, tl.int64) * runs, u[k], mask=kept & (lane == 0))
    if LAYERS:
        base = layer_rows + row * parameters * runs + run
        store_tiles(base, theta, kept, lane, dimension, width, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT)


@triton.jit
def keep_crossings(
    step, loss, theta, alive, next_level, levels, level_count, crossing_step, crossing_loss, crossing_coefficients,
    crossing_layers, lane, dimension, width, run, runs, parameters, nothing,
    NETWORK: tl.constexpr, DEPTH: tl.constexpr, TILES: tl.constexpr, DIMENSION: tl.constexpr, LANES: tl.constexpr,
    COUNT: tl.constexpr, LAYERS: tl.constexpr,
):  # fmt: skip
    """Keep the states of runs whose loss reached levels for the first time; returns the highest level left.

    A run has crossed exactly the levels above ``next_level``, so that nothing needs to be read back.
    """
    crossed = alive & (loss <= next_level)
    if any_of(crossed):
        left = next_level * 0.0 - 1.0
        for k in range(level_count):
            level = tl.load(levels + k)
            kept = crossed & (loss <= level) & (level <= next_level)
            place = tl.cast(k, tl.int64) * runs + run
            tl.store(crossing_step + place, next_level.to(tl.int64) * 0 + step, mask=kept & (lane == 0))
            tl.store(crossing_loss + place, loss, mask=kept & (lane == 0))
            keep_state(
                k, theta, kept, crossing_coefficients, crossing_layers, lane, dimension, width, run, runs, parameters,
                nothing, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT, LAYERS,
            )  # fmt: skip
            left = tl.maximum(left, tl.where(loss <= level, -1.0, level))
        next_level = tl.where(crossed, left, next_level)
    return next_level


# Numbers that differ from launch to launch or from problem to problem must not lead to another compilation.
NUMBERS = (
    "begin", "stop", "steps", "first_row", "end_row", "final_row", "samples", "batch_size", "dimension", "width",
    "parameters", "runs", "level_count",
)  # fmt: skip


@triton.jit(do_not_specialize=NUMBERS)
def train_kernel(
    features, labels, weights, scale, eta, rho, decay, momentum, seeds, thresholds, batch_weight,
    theta_state, buffer_state, stopped_state, level_state, draws, nothing,
    targets, levels, record_coefficients, record_loss, record_norm, record_layers,
    crossing_step, crossing_coefficients, crossing_loss, crossing_layers,
    begin, stop, steps, first_row, end_row, final_row,
    samples, batch_size, dimension, width, parameters, runs, level_count,
    NETWORK: tl.constexpr, DEPTH: tl.constexpr, TILES: tl.constexpr, DIMENSION: tl.constexpr, COUNT: tl.constexpr,
    FIRST: tl.constexpr, END: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, UNROLL: tl.constexpr,
    LOSS: tl.constexpr, NORM: tl.constexpr, EFFECT: tl.constexpr, PERTURBED: tl.constexpr, DECAY: tl.constexpr,
    MOMENTUM: tl.constexpr, DRAWN: tl.constexpr, WATCHED: tl.constexpr, LAYERS: tl.constexpr,
    FEATURES_SHARED: tl.constexpr, LABELS_SHARED: tl.constexpr, WEIGHTS_SHARED: tl.constexpr,
    THRESHOLDS_SHARED: tl.constexpr, SCALED: tl.constexpr, SCALE_SHARED: tl.constexpr, SEARCH_STEPS: tl.constexpr,
):  # fmt: skip
    """Steps ``begin`` to ``stop`` of ROWS runs, each held by LANES threads; triton_host makes the arguments."""
    runs = tl.cast(runs, tl.int64)
    parameters = tl.cast(parameters, tl.int64)
    rows = tl.cast(tl.program_id(0), tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    lane = tl.arange(0, LANES)[None, :].to(tl.int64) + rows * 0
    mine = rows + lane * 0 < runs
    # Rows beyond the last run repeat it; nothing of theirs is written.
    run = tl.minimum(rows + lane * 0, runs - 1)

    theta = load_tiles(
        theta_state + run, lane, dimension, width, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT
    )  # fmt: skip
    buffer = ()
    if MOMENTUM:
        buffer = load_tiles(
            buffer_state + run, lane, dimension, width, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT
        )  # fmt: skip
    stopped = tl.load(stopped_state + run)
    alive = mine & (stopped == steps)
    next_level = tl.zeros_like(theta[0])
    if WATCHED:
        next_level = tl.load(level_state + run)
    eta_run = tl.load(eta + run)
    rho_run = tl.load(rho + run)
    decay_run = eta_run
    momentum_run = eta_run
    if DECAY:
        decay_run = tl.load(decay + run)
    if MOMENTUM:
        momentum_run = tl.load(momentum + run)
    seed_low = tl.zeros_like(run).to(tl.uint32)
    seed_high = seed_low
    batch_pi = tl.load(batch_weight)
    if DRAWN:
        seed_low = tl.load(seeds + run)
        seed_high = tl.load(seeds + runs + run)
    FEATURE_TILES: tl.constexpr = TILES if NETWORK == "diagonal" else DIMENSION
    offsets = feature_offsets(lane, dimension, NETWORK, FEATURE_TILES, LANES)
    scales = ()
    if SCALED:
        for k in tl.static_range(FEATURE_TILES):
            at = scale + offsets[k]
            if not SCALE_SHARED:
                at = scale + offsets[k] * runs + run
            scales = scales + (tl.load(at),)
    seen_count = samples
    if DRAWN:
        seen_count = batch_size

    # Triton before 3.8 loses values that loops carry but use only as bounds of inner loops, so these loops carry no step:
    # a row starts where the one before it ended, a look at its number times the steps between looks.
    for row in range(first_row, end_row + 1):
        target = tl.minimum(tl.load(targets + row), stop)
        before = tl.minimum(tl.load(targets + tl.maximum(row - 1, 0)), stop)
        start = tl.where(row > first_row, before, begin)
        # A tile whose runs are all finished does no more steps: it looks here and, less often than it steps, under way.
        looks = tl.where(any_of(alive), (target - start + STEPS_BETWEEN_LOOKS - 1) // STEPS_BETWEEN_LOOKS, 0)
        for look in range(0, looks):
            step = start + look * STEPS_BETWEEN_LOOKS
            pause = tl.where(any_of(alive), tl.minimum(step + STEPS_BETWEEN_LOOKS, target), step)
            for now in range(step, pause):
                if DRAWN:
                    if WATCHED:
                        unused, loss = gradient_at(
                            theta, theta, features, labels, weights, scales, offsets, draws, batch_pi, samples,
                            dimension, lane, run, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES, True, LOSS, True,
                            False, FEATURES_SHARED, LABELS_SHARED, WEIGHTS_SHARED, SCALED, UNROLL,
                        )  # fmt: skip
                        next_level = keep_crossings(
                            now, loss, theta, alive, next_level, levels, level_count, crossing_step, crossing_loss,
                            crossing_coefficients, crossing_layers, lane, dimension, width, run, runs, parameters,
                            nothing, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT, LAYERS,
                        )  # fmt: skip
                    draw_minibatch(
                        draws, thresholds, seed_low, seed_high, now, batch_size, samples, run, runs, THRESHOLDS_SHARED,
                        SEARCH_STEPS,
                    )  # fmt: skip
                gradient, loss = gradient_at(
                    theta, theta, features, labels, weights, scales, offsets, draws, batch_pi, seen_count, dimension,
                    lane, run, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES, True, LOSS, WATCHED and not DRAWN, DRAWN,
                    FEATURES_SHARED, LABELS_SHARED, WEIGHTS_SHARED, SCALED, UNROLL,
                )  # fmt: skip
                if WATCHED and not DRAWN:
                    next_level = keep_crossings(
                        now, loss, theta, alive, next_level, levels, level_count, crossing_step, crossing_loss,
                        crossing_coefficients, crossing_layers, lane, dimension, width, run, runs, parameters,
                        nothing, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT, LAYERS,
                    )  # fmt: skip
                if PERTURBED:
                    phantom = moved(theta, gradient, rho_run, FIRST, END, COUNT, NORM, LANES)
                    at_weights = theta if EFFECT == "jacobian" else phantom
                    at_jacobian = theta if EFFECT == "weights" else phantom
                    gradient, unused_loss = gradient_at(
                        at_weights, at_jacobian, features, labels, weights, scales, offsets, draws, batch_pi,
                        seen_count, dimension, lane, run, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES,
                        EFFECT == "full", LOSS, False, DRAWN, FEATURES_SHARED, LABELS_SHARED, WEIGHTS_SHARED, SCALED,
                        UNROLL,
                    )  # fmt: skip
                was_alive = alive
                theta, buffer, alive = updated(
                    theta, buffer, gradient, alive, eta_run, decay_run, momentum_run, COUNT, DECAY, MOMENTUM, LANES
                )  # fmt: skip
                stopped = tl.where(was_alive & (alive == 0), now, stopped)
        if row < end_row:
            gradient, loss = gradient_at(
                theta, theta, features, labels, weights, scales, offsets, draws, batch_pi, samples, dimension, lane,
                run, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES, True, LOSS, True, False, FEATURES_SHARED,
                LABELS_SHARED, WEIGHTS_SHARED, SCALED, UNROLL,
            )  # fmt: skip
            square, factor = run_squares(gradient, 0, COUNT, LANES)
            kept = alive | (mine & (run * 0 + row == final_row))
            place = tl.cast(row, tl.int64) * runs + run
            tl.store(record_loss + place, loss, mask=kept & (lane == 0))
            tl.store(record_norm + place, tl.sqrt(square) / factor, mask=kept & (lane == 0))
            keep_state(
                row, theta, kept, record_coefficients, record_layers, lane, dimension, width, run, runs, parameters,
                nothing, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT, LAYERS,
            )  # fmt: skip
            if WATCHED:
                if row == final_row:
                    next_level = keep_crossings(
                        target, loss, theta, alive, next_level, levels, level_count, crossing_step, crossing_loss,
                        crossing_coefficients, crossing_layers, lane, dimension, width, run, runs, parameters,
                        nothing, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT, LAYERS,
                    )  # fmt: skip

    later = lane + tl.load(nothing)
    store_tiles(
        theta_state + run, theta, mine, later, dimension, width, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES, COUNT
    )  # fmt: skip
    if MOMENTUM:
        store_tiles(
            buffer_state + run, buffer, mine, later, dimension, width, runs, NETWORK, DEPTH, TILES, DIMENSION, LANES,
            COUNT,
        )  # fmt: skip
    tl.store(stopped_state + run, stopped, mask=mine & (lane == 0))
    if WATCHED:
        tl.store(level_state + run, next_level, mask=mine & (lane == 0))
