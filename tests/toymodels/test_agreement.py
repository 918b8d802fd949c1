"""The comparison of simulation and theory itself: shares of agreeing runs, distances between zero lines."""

from __future__ import annotations

import numpy as np
import pytest

from toymodels.phase_diagram.agreement import boundary_error_cells, near_change, phase_agreement, zero_lines
from toymodels.plots import cell_edges, is_logarithmic
from toymodels.prediction import Boundary, FlowPrediction

X, Y = np.meshgrid(np.arange(12.0), np.arange(10.0))


def boundary(field: np.ndarray) -> Boundary:
    return Boundary("b", "a line", "C0", field[..., None])


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.5])
def test_a_shifted_line_is_as_far_as_it_was_shifted(shift: float) -> None:
    assert boundary_error_cells((X - 4.2 - shift)[..., None], boundary(X - 4.2)) == pytest.approx(shift, abs=1e-9)
    slanted = boundary_error_cells((X - Y - shift)[..., None], boundary(X - Y))
    # Measured from one line to the other; at the rim the nearest point is the other line's end.
    assert shift / np.sqrt(2) - 1e-9 <= slanted <= shift + 1e-9


def test_a_line_that_only_one_side_has_is_infinitely_far() -> None:
    nowhere = np.ones_like(X)
    assert boundary_error_cells(nowhere[..., None], boundary(X - 4)) == float("inf")
    assert boundary_error_cells((X - 4)[..., None], boundary(nowhere)) == float("inf")
    assert boundary_error_cells(nowhere[..., None], boundary(nowhere)) is None


def test_an_extra_island_counts() -> None:
    island = X - 4.0
    island[5, 9] = -1.0
    found = boundary_error_cells(island[..., None], boundary(X - 4.0))
    assert found is not None
    assert 4 < found <= 6


def test_the_worst_seed_counts_and_places_without_meaning_do_not() -> None:
    pair = np.stack([X - 4.0, X - 5.5], axis=-1)
    line = Boundary("b", "a line", "C0", np.stack([X - 4.0, X - 4.0], axis=-1))
    assert boundary_error_cells(pair, line) == pytest.approx(1.5)
    bent = np.where(Y < 5, X - 4.0, X - 7.0)
    meaningless = np.where(Y < 6, X - 4.0, np.nan)
    found = boundary_error_cells(bent[..., None], boundary(meaningless))
    assert found is not None
    assert found < 3, "the rows without meaning are left out"


def test_zero_lines_lie_between_the_cells_that_differ() -> None:
    (line,) = zero_lines(np.where(X > 4, 0.5, -0.5))
    np.testing.assert_allclose(line[:, 0], 4.5)
    assert zero_lines(np.full((5, 5), np.nan)) == []
    assert zero_lines(np.ones((1, 5))) == []


def prediction(phase: np.ndarray, rows: np.ndarray | None = None) -> FlowPrediction:
    flat = phase.reshape(-1)
    rows = np.arange(flat.size) if rows is None else rows
    return FlowPrediction(rows, np.zeros(len(rows)), flat[rows], np.zeros(len(rows), dtype=bool))


def test_agreement_is_the_share_of_equal_phases_and_away_from_boundaries_leaves_out_their_cells() -> None:
    flow = np.where(X < 6, 1, 2)[..., None].repeat(2, axis=2)
    simulated = flow.copy()
    simulated[3, 6, 0] = 1  # at the boundary
    simulated[8, 1, 1] = 0  # far from it
    found = phase_agreement(simulated, prediction(flow))
    assert found.runs == 240
    assert found.share == pytest.approx(238 / 240)
    assert found.off_boundary_runs == 240 - 2 * 10 * 2
    assert found.off_boundary_share == pytest.approx(199 / 200)


def test_a_sample_has_no_neighbours() -> None:
    flow = np.ones((4, 5, 1), dtype=int)
    simulated = flow.copy()
    simulated[0, 0, 0] = 2
    found = phase_agreement(simulated, prediction(flow, np.array([0, 7, 9, 11])))
    assert (found.share, found.runs, found.off_boundary_share, found.off_boundary_runs) == (0.75, 4, None, 0)


def test_cells_near_a_change_touch_it_also_at_a_corner() -> None:
    values = np.zeros((5, 6, 1))
    values[2, 2] = 1
    near = near_change(values)[..., 0]
    expected = np.zeros((5, 6), dtype=bool)
    expected[1:4, 1:4] = True
    np.testing.assert_array_equal(near, expected)


def test_axes_are_drawn_as_they_are_spaced() -> None:
    linear, logarithmic = np.linspace(0.1, 1, 7), np.geomspace(0.01, 1, 9)
    assert not is_logarithmic(linear)
    assert is_logarithmic(logarithmic)
    assert not is_logarithmic(np.array([0.0, 1.0, 10.0]))
    np.testing.assert_allclose(cell_edges(linear), np.linspace(0.1 - 0.075, 1 + 0.075, 8))
    ratio = 10**0.25
    np.testing.assert_allclose(cell_edges(logarithmic), np.geomspace(0.01, 1, 9)[0] * ratio ** (np.arange(10) - 0.5))
