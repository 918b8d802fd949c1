"""The batched integrator against SciPy's solve_ivp: states, samples, events, stalls, one end per run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.integrate import RK45, solve_ivp

from sambalance_tools.arrays import FloatArray
from toymodels.flows import dormand_prince
from toymodels.flows import integrate as module
from toymodels.flows.integrate import integrate


@dataclass(frozen=True)
class Oscillators:
    """y'' = -k y - 0.1 y' per run; events: the first zero of y, the first speed below -0.5, and one long past."""

    k: FloatArray
    stop_at_zero: bool = False

    def take(self, rows: np.ndarray) -> Oscillators:
        return Oscillators(self.k[rows], self.stop_at_zero)

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return np.stack([y[1], -self.k * y[0] - 0.1 * y[1] + 0.2 * np.sin(x)])

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return np.stack([y[0], y[1] + 0.5, y[0] - 10.0, x + 1.0])

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        return happened[0] if self.stop_at_zero else np.zeros(y.shape[1], dtype=bool)


K = np.linspace(0.3, 8.0, 7)
START = np.stack([np.ones(7), np.linspace(-0.2, 0.3, 7)])
ENDS = np.linspace(2.0, 9.0, 7)
POINTS = np.array([0.0, 0.5, 1.7, 4.0, 8.5, 9.0])
"""Both ends are samples too: every run's start, and the end of the last run."""


def oracle(run: int, points: FloatArray | None = None):  # type: ignore[no-untyped-def]
    system = Oscillators(K[run : run + 1])

    def zero(x: float, y: FloatArray) -> float:
        return float(y[0])

    def fast(x: float, y: FloatArray) -> float:
        return float(y[1] + 0.5)

    zero.direction = fast.direction = -1  # type: ignore[attr-defined]
    return solve_ivp(
        lambda x, y: system.rates(np.array([x]), y[:, None])[:, 0], (0, ENDS[run]), START[:, run],
        method="DOP853", rtol=1e-12, atol=1e-13, t_eval=points, events=(zero, fast),
    )  # fmt: skip


def test_states_samples_and_events_are_scipys() -> None:
    found = integrate(Oscillators(K), START, ENDS, rtol=1e-9, atol=1e-11, sample_x=POINTS)
    # The error per step is bounded by 1e-9; some hundred steps accumulate to less than 1e-6 (quartic samples likewise).
    np.testing.assert_array_equal(found.x, ENDS)
    assert not found.stalled.any()
    assert found.samples is not None
    crossed = 0
    for run in range(len(K)):
        inside = ENDS[run] >= POINTS
        exact = oracle(run, np.union1d(POINTS[inside], ENDS[run]))
        np.testing.assert_allclose(found.y[:, run], exact.y[:, -1], atol=1e-6)
        np.testing.assert_allclose(found.samples[inside][:, :, run], exact.y[:, : inside.sum()].T, atol=1e-6)
        assert np.isnan(found.samples[~inside][:, :, run]).all()
        for event in range(2):
            if len(exact.t_events[event]):
                crossed += 1
                assert found.event_x[event, run] == pytest.approx(exact.t_events[event][0], abs=1e-6)
                np.testing.assert_allclose(found.event_y[event, :, run], exact.y_events[event][0], atol=1e-6)
            else:
                assert np.isnan(found.event_x[event, run])
    assert crossed > len(K), "most runs cross"
    np.testing.assert_array_equal(found.event_x[2], 0.0)
    np.testing.assert_array_equal(found.event_y[2], START)
    assert np.isnan(found.event_x[3]).all()
    assert np.isnan(found.event_y[3]).all()


def test_an_event_is_located_to_rounding_of_the_interpolant() -> None:
    found = integrate(Oscillators(K), START, 9.0)
    happened = ~np.isnan(found.event_x[0])
    assert happened.all()
    np.testing.assert_allclose(found.event_y[0, 0], 0, atol=1e-12)
    np.testing.assert_allclose(found.event_y[1, 1][~np.isnan(found.event_x[1])], -0.5, atol=1e-12)


def test_a_run_stops_when_it_is_finished_and_its_samples_end_there() -> None:
    points = np.linspace(0, 9, 91)
    found = integrate(Oscillators(K, stop_at_zero=True), START, 9.0, sample_x=points)
    free = integrate(Oscillators(K), START, 9.0, sample_x=points)
    np.testing.assert_array_equal(found.event_x[0], free.event_x[0])
    assert (found.x >= found.event_x[0]).all()
    assert (found.x < 9.0).all()
    assert found.samples is not None
    assert free.samples is not None
    for run in range(len(K)):
        before = points <= found.x[run]
        np.testing.assert_array_equal(found.samples[before, :, run], free.samples[before, :, run])
        assert np.isnan(found.samples[~before, :, run]).all()


def test_the_order_is_five() -> None:
    """Work grows as tolerance^(-1/5): a thousandth of the tolerance costs about four times the steps."""
    counts = []
    for rtol in (1e-5, 1e-8):
        system = CountingOscillators(np.array([2.0]))
        system.calls.clear()
        integrate(system, np.array([[1.0], [0.0]]), 20.0, rtol=rtol, atol=rtol * 1e-3)
        counts.append(len(system.calls))
    assert 3.0 < counts[1] / counts[0] < 5.0  # 1000^(1/5) = 3.98


class CountingOscillators(Oscillators):
    calls: list[int] = []  # noqa: RUF012

    def take(self, rows: np.ndarray) -> CountingOscillators:
        return CountingOscillators(self.k[rows])

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        self.calls.append(1)
        return super().rates(x, y)


@dataclass(frozen=True)
class BlowUp:
    """y' = y^2, which reaches infinity at x = 1/y(0)."""

    def take(self, rows: np.ndarray) -> BlowUp:
        return self

    def rates(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return np.minimum(y**2, 1e100)  # so that a trial step beyond the singularity does not overflow

    def events(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return 1e3 - y

    def finished(self, y: FloatArray, happened: np.ndarray) -> np.ndarray:
        return np.zeros(y.shape[1], dtype=bool)


def test_a_singularity_stalls_its_own_run_only() -> None:
    found = integrate(BlowUp(), np.array([[1.0, 2.0, 0.1, -3.0]]), 2.0)
    np.testing.assert_array_equal(found.stalled, [True, True, False, False])
    np.testing.assert_allclose(found.x, [1.0, 0.5, 2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found.y[0, 2:], [0.1 / 0.8, -3 / 7], rtol=1e-6)
    np.testing.assert_allclose(found.event_x[0], [1 - 1e-3, 0.5 - 1e-3, np.nan, np.nan], rtol=1e-6)


def test_a_run_that_uses_up_its_steps_is_stalled_where_it_is() -> None:
    found = integrate(Oscillators(K), START, ENDS, max_steps=3)
    assert found.stalled.all()
    assert ((found.x > 0) & (found.x < ENDS)).all()


def test_results_do_not_depend_on_the_other_runs_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = integrate(Oscillators(K), START, ENDS, sample_x=POINTS)
    monkeypatch.setattr(module, "CHUNK", 3)
    seen: list[tuple[int, int]] = []
    parts = integrate(Oscillators(K), START, ENDS, sample_x=POINTS, progress=lambda *now: seen.append(now))
    for name in ("x", "y", "event_x", "event_y", "stalled", "samples"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_no_runs_and_no_time_are_allowed() -> None:
    none = integrate(Oscillators(np.zeros(0)), np.zeros((2, 0)), 1.0)
    assert none.x.shape == (0,)
    assert none.y.shape == (2, 0)
    still = integrate(Oscillators(K), START, 0.0)
    np.testing.assert_array_equal(still.y, START)
    assert not still.stalled.any()


@pytest.mark.parametrize("name", ["C", "A", "B", "E", "P"])
def test_the_tableau_is_scipys(name: str) -> None:
    np.testing.assert_array_equal(getattr(dormand_prince, name), getattr(RK45, name))
