"""C38 to C43 against small trainings: patches, norms per feature, adaptive SAM, and gains foretold from runs of GD.

Trainings have float64 and a small eta, so that the flow's laws hold to about a hundredth; what is of
first order in rho is held to a part of itself that shrinks with rho.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from kernels import train
from kernels.problem import TrainingProblem
from sambalance_tools.arrays import FloatArray
from toymodels import forecast, theory

MU = np.array([2.0, 1.0])
MARGIN_AT_LOSS_TENTH = -np.log(np.expm1(0.1))


def patterns(cosine: float) -> FloatArray:
    """x_k = mu_k p_k, the two patches of the only atom."""
    return MU[:, None] * np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])


def train_patches(
    cosine: float,
    W: FloatArray,
    V: FloatArray,
    rho: ArrayLike,
    *,
    eta: float = 0.005,
    steps: int = 2000,
    every: int = 20,
) -> tuple[FloatArray, FloatArray]:
    """(W [B, R, m, 2], V [B, R, 2, m]) of runs from one start with a local head, or a pooled one where V is [m]."""
    result = train(
        TrainingProblem(
            features=patterns(cosine)[None, None],
            labels=np.ones((1, 1)),
            network="patches",
            initial_layers=(W[None], V[None]),
            eta=eta,
            rho=rho,
            steps=steps,
            record_steps=np.arange(0, steps + 1, every),
            record_layers=True,
        ),
        precision="float64",
    )
    assert result.records.layers is not None
    first, last = result.records.layers
    return first, last if last.ndim == 4 else np.repeat(last[:, :, None], 2, axis=2)


def train_balanced(mu: FloatArray, start: FloatArray, rho: ArrayLike, **options: object) -> FloatArray:
    """End-to-end coefficients ``[B, R, K]`` at every tenth step."""
    settings: dict[str, object] = {"eta": 0.002, "steps": 2000, **options}
    steps = int(settings["steps"])  # type: ignore[call-overload]
    result = train(
        TrainingProblem(
            features=mu[None, None],
            labels=np.ones((1, 1)),
            initial_layers=(np.atleast_2d(start),) * 2,
            rho=rho,
            record_steps=np.arange(0, steps + 1, 10),
            **settings,  # type: ignore[arg-type]
        ),
        precision="float64",
    )
    return result.records.coefficients


def feature_margins(cosine: float, W: FloatArray, V: FloatArray) -> FloatArray:
    """m_k = v_k . W x_k, on the last axis."""
    return np.einsum("...km,...md,kd->...k", V, W, patterns(cosine))


def hard_share_at(margins: FloatArray, level: float) -> float:
    """Hard share where the margin of a run ``[R, 2]`` reaches ``level``."""
    total = margins.sum(axis=1)
    assert total[0] < level < total[-1]
    return float(np.interp(level, total, margins[:, 1]) / level)


def hard_at(u: FloatArray, easy: float) -> float:
    """u_h where the easy coefficient of a run ``[R, K]`` reaches ``easy``."""
    assert u[0, 0] < easy < u[-1, 0]
    return float(np.interp(easy, u[:, 0], u[:, 1]))


def random_filters(rng: np.random.Generator, width: int = 32, norm: float = 0.4) -> tuple[FloatArray, FloatArray]:
    """(W, V) of a local head from a random start of this norm."""
    W, V = rng.normal(size=(width, 2)), rng.normal(size=(2, width))
    factor = norm / np.sqrt((W**2).sum() + (V**2).sum())
    return W * factor, V * factor


# --- C38: local and pooled heads --------------------------------------------------------------------------------------


def test_c38_a_local_head_balances_and_a_pooled_one_does_not(rng: np.random.Generator) -> None:
    W, V = random_filters(rng)
    W_path, V_path = train_patches(0.0, W, V, np.array([0.0, 0.1, 0.2]))
    local = [hard_share_at(m, MARGIN_AT_LOSS_TENTH) for m in feature_margins(0.0, W_path, V_path)]
    W_path, V_path = train_patches(0.0, W, V[0], np.array([0.0, 0.1, 0.2]))
    pooled = [hard_share_at(m, MARGIN_AT_LOSS_TENTH) for m in feature_margins(0.0, W_path, V_path)]
    assert local[2] > local[1] + 0.01 > local[0] + 0.02
    # What the filters have across X does not move and is small at this loss.
    np.testing.assert_allclose(pooled, theory.pooled_hard_share(*MU, 0.0), atol=0.03)
    assert np.ptp(pooled) < 0.003


@pytest.mark.parametrize("cosine", [0.0, 0.6])
def test_c38_the_pooled_share_is_that_of_the_sum_of_the_patches(cosine: float) -> None:
    X = patterns(cosine).sum(axis=0)
    strength = theory.pooled_strength(*MU, cosine)
    W, V = 0.3 * X[None] / strength, np.array([0.2])
    m = feature_margins(cosine, *train_patches(cosine, W, V, np.array([0.0, 0.1])))
    np.testing.assert_allclose(m[..., 1] / m.sum(axis=-1), theory.pooled_hard_share(*MU, cosine), rtol=1e-12)


def test_c38_the_better_aligned_easy_feature_gives_sam_the_larger_share_at_every_loss(rng: np.random.Generator) -> None:
    checked = 0
    for _ in range(10):
        W, V = random_filters(rng, width=3)
        kappa = 2 * (V * W.T).sum(axis=1) / ((V**2).sum(axis=1) + (W.T**2).sum(axis=1))
        if kappa[0] < max(kappa[1], 0):
            continue
        gd, sam = feature_margins(0.0, *train_patches(0.0, W, V, np.array([0.0, 0.05])))
        if (np.diff(sam.sum(axis=1)) <= 0).any():
            continue  # a margin that falls first meets GD's levels twice
        levels = np.linspace(sam[0].sum(), min(gd[-1].sum(), sam[-1].sum()), 22)[1:-1]
        assert all(hard_share_at(sam, level) > hard_share_at(gd, level) for level in levels)
        checked += 1
    assert checked >= 2


def test_c38_a_badly_aligned_easy_feature_loses_less_at_first_than_a_well_aligned_hard_one() -> None:
    v, w = np.array([1.0, 0.4]), np.array([0.1, 0.4])
    kappa = 2 * v * w / (v**2 + w**2)
    assert theory.aligned_gain_rate(*MU, *kappa, 1.0) < 0
    gd, sam = feature_margins(0.0, *train_patches(0.0, np.diag(w), np.diag(v), np.array([0.0, 0.05]), every=1))
    level = gd[0].sum() + 0.05
    assert hard_share_at(sam, level) < hard_share_at(gd, level)
    assert hard_share_at(sam, 3.0) > hard_share_at(gd, 3.0)


# --- C39: only a shared norm balances ---------------------------------------------------------------------------------


def test_c39_a_norm_per_feature_makes_the_hard_feature_lose_and_a_shared_one_makes_it_gain() -> None:
    start = np.array([0.5, 0.5])
    plain = train_balanced(MU, start, 0.0)[0]
    shared = train_balanced(MU, start, 0.2)[0]
    alone = train_balanced(MU, start, 0.2, norm_over="feature")[0]
    easy = 1.2
    hard = [hard_at(u, easy) for u in (alone, plain, shared)]
    assert hard[0] < hard[1] < hard[2]
    claimed = theory.per_feature_hard_weight(np.sqrt(easy), *start, *MU, 0.2) ** 2
    np.testing.assert_allclose(hard[0], claimed, rtol=2e-3)


def test_c39_a_hard_feature_far_enough_ahead_gains_under_a_norm_per_feature() -> None:
    start = np.array([0.3, 0.9])
    plain, alone = (train_balanced(MU, start, r, norm_over="feature")[0] for r in (0.0, 0.1))
    for growth in (1.2, 1.8):
        easy = (0.3 * growth) ** 2
        assert theory.per_feature_hard_change(growth, 0.5, 3.0) > 0
        assert hard_at(alone, easy) > hard_at(plain, easy)


# --- C40: adaptive SAM ------------------------------------------------------------------------------------------------

ADAPTIVE = {"norm": "adaptive", "adaptive_eta": 0.0}


@pytest.mark.parametrize("rho", [1.0, 1.2, 1.9])
def test_c40_the_share_goes_to_its_limit_from_both_sides(rho: float) -> None:
    odds = theory.asam_late_odds(*MU, rho)
    starts = np.sqrt(np.array([[1.0, 0.5], [1.0, 2.0]]) * np.array([1e-4, 1e-4 * odds * MU[0] / MU[1]]))
    u = train_balanced(MU, starts, rho, eta=0.05, steps=4000, **ADAPTIVE)
    x = MU[1] * u[..., 1] / (MU[0] * u[..., 0])
    assert (np.diff(x[0]) > -1e-12).all()
    assert (np.diff(x[1]) < 1e-12).all()
    assert abs(np.log(x[:, -1] / odds)).max() < abs(np.log(x[:, 0] / odds)).min() / 2
    np.testing.assert_allclose(theory.asam_odds_rate(odds, *MU, rho), 0, atol=1e-12)


def test_c40_below_the_threshold_the_share_falls_and_above_it_does_not() -> None:
    threshold = theory.asam_threshold(*MU)
    assert threshold == pytest.approx(1 / np.sqrt(2))
    start = np.array([1e-2, 1e-4])
    u = train_balanced(MU, start, np.array([threshold - 0.05, threshold + 0.05]), eta=0.05, steps=1500, **ADAPTIVE)
    ratio = u[..., 1] / u[..., 0]
    assert (np.diff(ratio[0]) < 0).all()
    assert (np.diff(ratio[1]) > 0).all()


def test_c40_two_features_collapse_above_two_and_not_below() -> None:
    assert theory.asam_collapse_radius(2) == 2.0
    assert theory.asam_collapse_radius(1) == pytest.approx(np.sqrt(2))
    u = train_balanced(MU, np.array([1.0, 0.5]), np.array([1.9, 2.1]), eta=0.05, steps=4000, **ADAPTIVE)
    assert u[0, -1].min() > 1
    assert u[1, -1].max() < 1e-3


# --- C41, C42: foretold from a run of GD ------------------------------------------------------------------------------


def recorded_gd(mu: FloatArray, u: FloatArray, eta: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(step, N, lambda) at the records of a balanced GD run ``[R, K]``."""
    scale = theory.balanced_gradient_scale(mu, np.sqrt(u.T))
    return np.arange(len(u)) * 10, scale, 1 / (1 + np.exp(u @ mu))


@pytest.mark.parametrize("bystanders", [0, 8])
def test_c41_the_gain_is_foretold_from_gd_within_the_bounds(bystanders: int) -> None:
    mu, eta = np.array([2.0, 1.0, *[1.5] * bystanders]), 0.002
    start = np.full(len(mu), 0.2 if bystanders else 0.4)
    radii = np.array([0.0, 0.01, 0.02, 0.1])
    u = train_balanced(mu, start, radii, eta=eta, steps=4000)
    step, scale, lam = recorded_gd(mu, u[0], eta)
    end = np.argmax(u[0] @ mu > MARGIN_AT_LOSS_TENTH)
    ratios = []
    for run, rho in zip(u[1:], radii[1:], strict=True):
        foretold = forecast.forecast_hard_gain(step, scale, lam, eta=eta, rho=rho, mu_easy=2.0, mu_hard=1.0)[end]
        measured = np.interp(u[0, end, 0], run[:, 0], np.log(run[:, 1])) - np.log(u[0, end, 1])
        ratios.append(measured / foretold - 1)
        if not bystanders:
            low, high = theory.forecast_bounds(foretold, theory.one_atom_suppression_factor(rho, 2.0, scale[0]))
            assert low - 1e-4 < measured < high + 1e-4
    assert abs(ratios[0]) < 0.03
    # The rest is of second order in rho: twice the radius, twice the relative error, beside a little of eta's.
    assert ratios[1] == pytest.approx(2 * ratios[0], abs=0.01)


def test_c41_the_share_at_matched_loss_is_foretold() -> None:
    eta, rho = 0.002, 0.01
    gd, sam = train_balanced(MU, np.array([0.4, 0.4]), np.array([0.0, rho]), eta=eta, steps=4000)
    step, scale, lam = recorded_gd(MU, gd, eta)
    integral = forecast.inverse_scale_integral(forecast.rescaled_time(step, lam, eta), scale)
    for level in (1.0, 2.0, 3.0):
        before, after = (hard_share_at(u * MU, level) for u in (gd, sam))
        claimed = theory.share_logit_forecast(np.interp(level, gd @ MU, integral), *MU, before, rho)
        measured = np.log(after / (1 - after)) - np.log(before / (1 - before))
        assert measured == pytest.approx(claimed, rel=0.05)


def test_c41_relative_terms_are_those_of_c2_and_c7() -> None:
    v, w = np.array([0.5, 0.2]), np.array([0.3, 0.7])
    norm, scale = np.sqrt((v**2).sum() + (w**2).sum()), theory.gradient_scale(MU, v, w)
    r, rms = theory.relative_radius(0.1, norm), theory.rms_strength(scale, norm)
    assert MU[1] < rms < MU[0]
    for mu in MU:
        assert theory.relative_suppression_factor(r, mu, rms) == pytest.approx(
            theory.one_atom_suppression_factor(0.1, mu, scale)
        )
    assert theory.relative_turning_point(r, rms, *MU) == pytest.approx(scale / theory.balance_threshold(0.1, *MU))
    low, high = theory.turning_radii(*MU)
    assert theory.relative_turning_point(low, MU[1], *MU) == pytest.approx(1)
    assert theory.relative_turning_point(high, MU[0], *MU) == pytest.approx(1)


def test_c42_the_early_window_keeps_most_and_the_windows_add_up() -> None:
    eta, rho, steps, half = 0.002, 0.02, 2000, 1000
    begin, until = np.array([0, 0, half, 0]), np.array([0, half, steps, steps])
    u = train_balanced(MU, np.array([0.4, 0.4]), rho, eta=eta, steps=steps, sam_from=begin, sam_until=until)
    step, scale, lam = recorded_gd(MU, u[0], eta)
    clock = forecast.rescaled_time(step, lam, eta)
    at = min(u[:, -1, 0])
    gains = [np.interp(at, x[:, 0], np.log(x[:, 1])) - np.interp(at, u[0, :, 0], np.log(u[0, :, 1])) for x in u[1:]]
    assert gains[0] > 2 * gains[1] > 0
    assert gains[0] + gains[1] == pytest.approx(gains[2], rel=0.02)
    middle, end = clock[half // 10], np.interp(at, u[0, :, 0], clock)
    keep = forecast.kept_share(clock[clock <= end], scale[clock <= end], 0.0, middle)
    assert keep == pytest.approx(gains[0] / gains[2], abs=0.02)
    low, high = theory.kept_gain_bounds(middle, clock[clock <= end][-1], *MU)
    assert middle / end < low < keep < high


def test_c42_the_scale_of_gd_is_that_of_its_weights() -> None:
    start = np.array([0.4, 0.3])
    expected = theory.balanced_gradient_scale(MU, start * np.exp(MU * 0.7))
    assert theory.gd_gradient_scale(0.7, MU, start) == pytest.approx(expected)


# --- C43: patterns that overlap ---------------------------------------------------------------------------------------


def flat(W: FloatArray, V: FloatArray) -> FloatArray:
    return np.concatenate([V.ravel(), W.ravel()])


def hessian(cosine: float, width: int, feature: int | None = None) -> FloatArray:
    """B of the margin theta.B theta / 2 (of one feature's part of it), parameters as :func:`flat` orders them."""
    x, count = patterns(cosine), 2 * width
    B = np.zeros((2 * count, 2 * count))
    for k in range(2) if feature is None else (feature,):
        for i in range(width):
            for d in range(2):
                B[k * width + i, count + 2 * i + d] = B[count + 2 * i + d, k * width + i] = x[k, d]
    return B


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.7])
def test_c43_the_change_of_the_hard_margin_at_matched_loss_is_foretold_from_gd(
    cosine: float, rng: np.random.Generator
) -> None:
    W, V = random_filters(rng, width=6, norm=0.8)
    radii = np.array([0.0, 0.01, 0.02])
    W_path, V_path = train_patches(cosine, W, V, radii, eta=0.002, steps=4000, every=4)
    m = feature_margins(cosine, W_path, V_path)
    end = int(np.argmax(m[0].sum(axis=1) > MARGIN_AT_LOSS_TENTH))
    B, hard = hessian(cosine, 6), hessian(cosine, 6, feature=1)
    thetas = np.array([flat(w, v) for w, v in zip(W_path[0, : end + 1], V_path[0, : end + 1], strict=True)])
    lam = 1 / (1 + np.exp(m[0, : end + 1].sum(axis=1)))
    clock = forecast.rescaled_time(np.arange(end + 1) * 4, lam, 0.002)
    integral = forecast.inverse_scale_integral(clock, np.linalg.norm(thetas @ B, axis=1))[-1]
    theta, level = thetas[-1], m[0, end].sum()
    errors = []
    for run, rho in zip(m[1:], radii[1:], strict=True):
        claimed = forecast.forecast_matched_change(B, theta, hard @ theta, B @ theta, integral, rho)
        measured = np.interp(level, run.sum(axis=1), run[:, 1]) - m[0, end, 1]
        errors.append(measured / claimed - 1)
    assert abs(errors[0]) < 0.05
    assert errors[1] == pytest.approx(2 * errors[0], abs=0.02)


@pytest.mark.parametrize("cosine", [0.2, 0.6, 0.9])
def test_c43_balanced_modes_in_closed_form(cosine: float) -> None:
    sigma = np.array(theory.overlap_strengths(*MU, cosine))
    floor, double = theory.overlap_mixing(*MU, cosine)
    cos, sin = np.sqrt(floor + double), np.sqrt(floor)
    U = np.array([[cos, -sin], [sin, cos]])
    Q = patterns(cosine).T @ U / sigma
    np.testing.assert_allclose(Q.T @ Q, np.eye(2), atol=1e-12)
    a = 0.3 * np.eye(2)  # modes j, filters m: in two orthogonal directions
    radii, eta = np.array([0.0, 0.01]), 0.002
    W_path, V_path = train_patches(cosine, a @ Q.T, U @ a, radii, eta=eta, steps=4000, every=4)
    gd, sam = feature_margins(cosine, W_path, V_path)
    modes = sigma * np.einsum("rmk,rmk->rk", np.swapaxes(V_path[0], 1, 2) @ U, W_path[0] @ Q)
    weak = modes[:, 1] / modes.sum(axis=1)
    np.testing.assert_allclose(gd[:, 1] / gd.sum(axis=1), theory.overlap_hard_share(weak, *MU, cosine), rtol=1e-9)
    clock = forecast.rescaled_time(np.arange(len(gd)) * 4, 1 / (1 + np.exp(gd.sum(axis=1))), eta)
    scale = theory.balanced_gradient_scale(sigma, np.sqrt(modes.T / sigma[:, None]))
    integral = forecast.inverse_scale_integral(clock, scale)
    for level in (1.0, 2.0):
        j, h = (np.interp(level, gd.sum(axis=1), x) for x in (integral, weak))
        gained = hard_share_at(sam, level) - hard_share_at(gd, level)
        assert gained == pytest.approx(theory.overlap_share_gain(j, h, *MU, cosine, 0.01), rel=0.08)


# --- The functions themselves -----------------------------------------------------------------------------------------


def test_integrals_are_exact_where_the_trapezoid_is_and_work_on_batches() -> None:
    step, lam = np.array([0, 10, 30]), np.array([[0.5, 0.5, 0.5], [0.5, 0.3, 0.1]])
    clock = forecast.rescaled_time(step, lam, 0.1)
    np.testing.assert_allclose(clock, [[0, 0.5, 1.5], [0, 0.4, 0.8]])
    integral = forecast.inverse_scale_integral(clock, np.full((2, 3), 2.0))
    np.testing.assert_allclose(integral, clock / 2)
    np.testing.assert_allclose(forecast.kept_share(clock, np.full((2, 3), 2.0), 0.0, 0.5), [1 / 3, 5 / 8])
    assert forecast.kept_share(clock[0], np.full(3, 2.0), 0.5, 9.0) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="3 and 2 records"):
        forecast.rescaled_time(step, lam[:, :2], 0.1)
    with pytest.raises(ValueError, match="order of time"):
        forecast.rescaled_time([0, 10, 10], lam, 0.1)
    with pytest.raises(ValueError, match="all must be positive"):
        forecast.inverse_scale_integral(clock, np.zeros((2, 3)))
