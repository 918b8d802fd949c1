"""Measured suppression against C2 and C38, by hand, and where both features share one direction (C36)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels.engine import train
from kernels.problem import TrainingProblem
from toymodels import metrics, suppression, theory
from toymodels.data import missing, redundant, spurious
from toymodels.networks import Diagonal, Network, Patches, TwoLayer
from toymodels.parameters import PARAMETERS
from toymodels.phase_diagram.study import Diagram, diagram_sweep
from toymodels.probe import ProbeData
from toymodels.rules import rule
from toymodels.simulation import build_problem, simulate
from toymodels.suppression import suppression_factors
from toymodels.sweep import Sweep

LEVEL = 0.3


def measured(network: Network, name: str = "sam", data: Any = None, **values: float) -> Any:
    """(sweep, dataset) over three radii."""
    sweep = Sweep(
        network=network, data=data or redundant(), rule=rule(name), axes={"rho": [0.0, 0.15, 0.3]}, seeds=2,
        values={"eta": 0.1, "steps": 200, "width": 8, **values}, loss_levels=(LEVEL,), suppression=True,
    )  # fmt: skip
    return sweep, simulate(sweep, engine="reference")


def test_diagonal_network_has_the_factor_of_c2() -> None:
    sweep, found = measured(Diagonal())
    u = np.moveaxis(found["crossing_coefficient"].values[..., 0, :], -1, 0)
    rho, mu = sweep.column("rho").reshape(sweep.shape), (2.0, 1.0)
    scale = theory.balanced_gradient_scale(mu, np.sqrt(u))
    for feature, strength in zip(("easy", "hard"), mu, strict=True):
        expected = theory.one_atom_suppression_factor(rho, strength, scale)
        chi = metrics.suppression(found, sweep, LEVEL, feature)
        assert chi.shape == sweep.shape
        np.testing.assert_allclose(chi, expected, rtol=1e-9)
    assert (expected[1:] < 0.95).all()


@pytest.mark.parametrize("name", ["sam", "lsam", "fsam", "usam", "asam", "linf_sam", "sam_per_feature"])
def test_it_is_the_phantom_weight_over_the_weight_of_the_last_perturbed_layer(name: str) -> None:
    w, v, rho = np.array([0.7, 0.3]), np.array([0.5, 0.6]), 0.2
    problem = TrainingProblem(
        features=np.array([[[2.0, 1.0], [2.0, -1.0]]]), labels=np.array([[1.0, 1.0]]),
        sample_weights=np.array([[0.7, 0.3]]), initial_layers=(w[None], v[None]), perturb=rule(name).perturb,
        norm=rule(name).norm, norm_over=rule(name).norm_over, adaptive_eta=0.0,
    )  # fmt: skip
    layers = (w[None, None], v[None, None])
    found = suppression_factors(Diagonal(), problem, layers, np.array([[rho]]), ProbeData(np.array([[2.0, 1.0]])))
    margins = np.array([[2.0, 1.0], [2.0, -1.0]]) @ (v * w)
    lam = 1 / (1 + np.exp(margins))
    drive = np.array([0.7, 0.3]) * lam @ np.array([[2.0, 1.0], [2.0, -1.0]])
    down = {"w": drive * v, "v": drive * w}
    whole = np.concatenate([down["w"], down["v"]])
    weight, slope = (w, down["w"]) if name == "fsam" else (v, down["v"])
    moved = {
        "sam": slope / np.linalg.norm(whole),
        "lsam": slope / np.linalg.norm(slope),
        "fsam": slope / np.linalg.norm(slope),
        "usam": slope,
        "linf_sam": np.sign(slope),
        "asam": weight**2 * slope / np.linalg.norm(np.concatenate([w, v]) * whole),
        "sam_per_feature": slope / np.hypot(down["w"], down["v"]),
    }[name]
    np.testing.assert_allclose(found[0, 0], 1 - rho * moved / weight, rtol=1e-12)


def test_patches_with_a_local_head_have_the_factor_of_c38() -> None:
    # The wide limit's start (jitter 0) is orthogonal; at a low loss v_k and w_k are parallel and of one length.
    sweep, found = measured(Patches("local"), jitter=0.0, init=0.3, steps=400)
    sweep = sweep.nominal()
    u = np.moveaxis(found["crossing_coefficient"].values[:, 0, 0, :], -1, 0)
    for feature, strength in (("easy", 2.0), ("hard", 1.0)):
        chi = found["crossing_suppression"].sel(attribute=feature).values[:, 0, 0]
        scale = theory.balanced_gradient_scale((2.0, 1.0), np.sqrt(u))
        expected = theory.one_atom_suppression_factor(sweep.column("rho"), strength, scale)
        np.testing.assert_allclose(chi, expected, atol=0.03)
        assert (np.diff(chi) < 0).all()


@pytest.mark.parametrize("network", [Patches("pooled"), TwoLayer("linear")], ids=str)
def test_where_features_share_one_direction_both_have_one_factor(network: Network) -> None:
    def gap(which: Network) -> np.ndarray:
        _, found = measured(which, width=64)
        easy, hard = (found["crossing_suppression"].sel(attribute=name).values[1:] for name in ("easy", "hard"))
        assert (easy < 0.95).all()
        return hard - easy

    assert (np.abs(gap(network)) < 0.02).all()
    assert (gap(Patches("local")) > 0.04).all()


@pytest.mark.parametrize("network", [Patches("local", "relu"), TwoLayer("relu", bias=True), Patches(1)], ids=str)
@pytest.mark.parametrize("data", [spurious(), missing()], ids=["spurious", "missing"])
def test_blocks_of_runs_and_single_ones_agree(
    network: Network, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    sweep, found = measured(network, data=data, noise_hard=0.2, samples=8, steps=30)
    monkeypatch.setattr(suppression, "CHUNK_BYTES", 1)
    again = simulate(sweep, engine="reference")
    for name in ("suppression", "crossing_suppression"):
        assert found[name].dims == again[name].dims
        np.testing.assert_allclose(again[name], found[name], rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(found["suppression"].sel(rho=0.0), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(
        np.isnan(found["crossing_suppression"].sel(attribute="hard")), np.isnan(found["crossing_loss"])
    )


def test_outside_the_steps_of_sam_nothing_is_suppressed() -> None:
    _, early = measured(Diagonal(), sam_until=3)
    np.testing.assert_array_equal(early["crossing_suppression"], 1.0)
    _, late = measured(Diagonal(), sam_from=3)
    assert (late["crossing_suppression"].sel(rho=0.3) < 0.95).all()


def test_the_first_step_moves_along_the_suppressed_weights() -> None:
    """One step from chi: w' = w + eta D~ v~ with v~ = chi_v v, on the engine that trains."""
    sweep = Sweep(axes={"rho": [0.3]}, seeds=1, values={"steps": 1, "eta": 0.01, "imbalance": 0.2}, suppression=True)
    columns = {name: sweep.column(name) for name in ("seed", *PARAMETERS)}
    problem = build_problem(sweep, columns, np.arange(1))[0]
    first, last = problem.layers
    data = ProbeData(np.array([[2.0, 1.0]]))
    start = tuple(layer[:, None] for layer in (first, last))
    chi_v = suppression_factors(Diagonal(), problem, start, problem.rho[:, None], data)[0, 0]
    stepped = train(problem, engine="reference").layers
    change_w, change_v = ((new - old)[0] for new, old in zip(stepped, (first, last), strict=True))
    phantom_v = chi_v * last[0]
    drive = change_w / phantom_v
    np.testing.assert_allclose(drive / drive[0], [1.0, 0.5], rtol=1e-9)  # mu_k times one example weight
    phantom_w = change_v / drive
    np.testing.assert_allclose((phantom_w - first[0]) / (phantom_v - last[0]), last[0] / first[0], rtol=1e-7)


def test_a_map_shows_easy_hard_and_gap() -> None:
    sweep = diagram_sweep(
        ("rho", [0.0, 0.2, 0.3]), ("ratio", [0.4, 0.8]), {"eta": 0.1, "steps": 200}, Patches("local"), redundant(),
        rule("sam"), seeds=3, level=LEVEL, metric="suppression",
    )  # fmt: skip
    drawn = Diagram.simulate(sweep, engine="reference")
    easy, hard, gap = (drawn.values(f"suppression{end}", LEVEL) for end in ("", "_hard", "_gap"))
    assert easy.shape == (2, 3)
    np.testing.assert_array_equal(easy[:, 0], 1.0)
    assert (easy[:, 1:] < hard[:, 1:]).all()
    chi = drawn.dataset["crossing_suppression"].sel(level=LEVEL).values
    np.testing.assert_allclose(gap, np.median(chi[..., 1] - chi[..., 0], axis=-1), rtol=1e-12)
    assert "suppression" not in drawn.nominal
