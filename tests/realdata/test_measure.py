"""The toy's quantities of a network: exact on a diagonal one, and SAM's own phantom point on any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from realdata.measures.example_weights import association
from realdata.measures.toy_quantities import measure_toy_quantities, probe_direction
from toymodels import theory

torch = pytest.importorskip("torch")

MU, V, W = np.array([2.0, 1.0]), np.array([0.5, 0.3]), np.array([0.4, 0.6])
AXES = {"easy": np.array([1.0, 0.0, 0.0]), "hard": np.array([0.0, 1.0, 0.0])}
RHO = 0.2
ROOT = np.sqrt(2)


class Diagonal(torch.nn.Module):
    """f(x) = sum_k v_k w_k x_k as a body ``w * x`` and a softmax of two logits; a third feature has no weight."""

    def __init__(self, bias: float | None = None, shift: float = 0.0) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([*W, 0.0], dtype=torch.float64))
        self.head = torch.nn.Linear(3, 2, bias=bias is not None).double()
        row = torch.tensor([*V, 0.0], dtype=torch.float64) / ROOT
        with torch.no_grad():
            # The shift of both rows changes no probability.
            self.head.weight.copy_(torch.stack([shift - row, shift + row]))
            if bias is not None:
                self.head.bias.copy_(torch.tensor([-bias / 2, bias / 2]))

    def features(self, x: Any) -> Any:
        return x * self.w

    def forward(self, x: Any) -> Any:
        return self.head(self.features(x))


def atoms(signs: np.ndarray, count: np.ndarray) -> tuple[Any, np.ndarray]:
    """(inputs, label) of atoms y s_nk mu_k / sqrt2, each ``count`` times with either label."""
    sign = np.repeat([1.0, -1.0], count.sum())
    rows = np.tile(np.repeat(signs, count, axis=0), (2, 1)) * MU / ROOT * sign[:, None]
    inputs = np.c_[rows, np.zeros(len(rows))]
    return torch.as_tensor(inputs), (sign > 0).astype(np.int64)


KINDS = {
    "redundant": (np.array([[1.0, 1.0]]), np.array([8])),
    "spurious": (np.array([[1.0, 1.0], [-1.0, 1.0]]), np.array([18, 2])),
    "uneven": (np.array([[1.5, 0.5], [0.2, 1.0], [-0.3, 1.3]]), np.array([5, 3, 2])),
}


@pytest.mark.parametrize("bias", [None, 0.0], ids=["no bias", "bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_diagonal_network_gives_back_the_toy(kind: str, bias: float | None) -> None:
    """mu_k is D_k / mean lambda: the toy's mu_k on one atom kind, its weighted mean of s_nk mu_k on more."""
    signs, count = KINDS[kind]
    found = measure_toy_quantities(Diagonal(bias, shift=0.7), [atoms(signs, count)], AXES, RHO)
    pi = count / count.sum()
    lam = 1 / (1 + np.exp([theory.margin(V * W, s, MU) for s in signs]))
    drives = np.array([theory.drive(MU[k], signs[:, k], pi, lam) for k in range(2)])
    norm = theory.gradient_norm(drives, V, W)
    assert found is not None
    assert found.mean_weight == pytest.approx(pi @ lam, rel=1e-12)
    assert found.gradient_norm == pytest.approx(norm, rel=1e-12)
    assert found.gradient_share == pytest.approx(1.0, rel=1e-12)
    assert found.drive_cosine == pytest.approx(0.0, abs=1e-12)
    assert found.examples == 2 * count.sum()
    for k, name in enumerate(AXES):
        feature, ratio = found.features[name], theory.perturbation_ratio(RHO, drives[k], norm)
        v, w = theory.phantom_layers(V[k], W[k], ratio)
        assert (feature.v, feature.w) == pytest.approx((V[k], W[k]), rel=1e-12)
        assert (feature.drive, feature.mu) == pytest.approx((drives[k], drives[k] / (pi @ lam)), rel=1e-12)
        assert (feature.chi_v, feature.chi_w) == pytest.approx((v / V[k], w / W[k]), rel=1e-12)
        assert feature.imbalance == pytest.approx(np.log(V[k] / W[k]), rel=1e-12)
    if kind == "redundant":
        assert [found.features[name].mu for name in AXES] == pytest.approx(MU, rel=1e-12)
        assert found.gradient_scale == pytest.approx(theory.gradient_scale(MU, V, W), rel=1e-12)


def test_balanced_weights_have_the_suppression_factor_of_one_atom_kind() -> None:
    model = Diagonal()
    with torch.no_grad():
        model.w[:2] = torch.tensor(V)
    found = measure_toy_quantities(model, [atoms(*KINDS["redundant"])], AXES, RHO)
    assert found is not None
    for k, feature in enumerate(found.features.values()):
        chi = theory.one_atom_suppression_factor(RHO, MU[k], found.gradient_scale)
        assert (feature.chi_v, feature.chi_w, feature.imbalance) == pytest.approx((chi, chi, 0.0), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [None, 0.4], ids=["no bias", "bias"])
def test_the_suppression_is_that_of_sams_second_point(bias: float | None, kind: str) -> None:
    from kernels import SAM

    model, seen = Diagonal(bias), []
    inputs, label = atoms(*KINDS[kind])
    inputs, label = inputs[:-3], label[:-3]  # more of one class, so that a bias has a gradient
    found = measure_toy_quantities(model, [(inputs, label)], AXES, RHO)
    optimizer = SAM(model, torch.optim.SGD, rho=RHO, lr=0.0)

    def closure() -> Any:
        weight = model.head.weight.detach().clone()
        seen.append(((weight[1] - weight[0]).numpy() / ROOT, model.w.detach().clone().numpy()))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), torch.as_tensor(label))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert found is not None
    for k, feature in enumerate(found.features.values()):
        v, w = seen[1][0][k] / seen[0][0][k], seen[1][1][k] / seen[0][1][k]
        assert (feature.chi_v, feature.chi_w) == pytest.approx((v, w), rel=1e-9)
        assert abs(v - 1) > 0.02


def test_directions_need_not_be_axes_and_share_what_they_share() -> None:
    """The sum of both features, read along the diagonal: D, v, w and a cosine by hand."""
    slanted = {"easy": AXES["easy"], "hard": np.array([1.0, 1.0, 0.0]) / ROOT}
    found = measure_toy_quantities(Diagonal(), [atoms(*KINDS["redundant"])], slanted, RHO)
    assert found is not None
    feature = found.features["hard"]
    assert feature.v == pytest.approx(V.sum() / ROOT)
    assert feature.mu == pytest.approx(np.hypot(*MU) / ROOT)
    assert feature.w == pytest.approx((MU @ W / ROOT) / (np.hypot(*MU) / ROOT))
    assert found.drive_cosine == pytest.approx(MU[0] / np.hypot(*MU))


def test_batches_are_averaged_as_gradients_and_as_moves() -> None:
    """Two batches with features in opposite directions: no gradient of the head is left, the drives do not cancel."""
    inputs, label = atoms(*KINDS["redundant"])
    found = measure_toy_quantities(Diagonal(), [(inputs, label), (-inputs, label)], AXES, RHO)
    alone = [measure_toy_quantities(Diagonal(), [(sign * inputs, label)], AXES, RHO) for sign in (1, -1)]
    assert found is not None
    assert found.examples == 2 * len(label)
    for name, feature in found.features.items():
        parts = [each.features[name] for each in alone if each is not None]
        assert feature.drive == pytest.approx(np.mean([p.drive for p in parts]))
        assert feature.chi_v == pytest.approx(np.mean([p.chi_v for p in parts]))
        assert feature.w == pytest.approx(np.mean([p.w * p.drive for p in parts]) / feature.drive)


def test_weights_that_single_precision_cannot_square_are_measured() -> None:
    """At a margin of 120 the weight is 1e-52: a gradient by it would be 0 in float32, N is what it always is."""
    model = Diagonal().float()
    inputs, label = atoms(np.array([[300.0, 300.0]]), np.array([4]))
    found = measure_toy_quantities(model, [(inputs.float(), label)], AXES, RHO)
    assert found is not None
    assert found.mean_weight < 1e-45
    assert found.gradient_scale == pytest.approx(300 * theory.gradient_scale(MU, V, W), rel=1e-5)
    assert measure_toy_quantities(model, [(1e3 * inputs.float(), label)], AXES, RHO) is None


def test_a_body_that_is_not_trained_has_no_weights() -> None:
    model = Diagonal()
    model.w.requires_grad_(False)
    found = measure_toy_quantities(model, [atoms(*KINDS["redundant"])], AXES, RHO)
    assert found is not None
    assert found.features["easy"].drive == 0
    assert found.gradient_scale == pytest.approx(np.hypot(*(MU * W)))
    assert found.features["easy"].chi_v == pytest.approx(1 - RHO * MU[0] * W[0] / V[0] / np.hypot(*(MU * W)))


def test_directions_point_to_the_value_that_goes_with_label_one() -> None:
    rows = np.array([[1.0, 2.0], [4.0, 6.0]])
    label = np.array([0, 0, 1, 1])
    for attribute, sign in ((label, 1), (1 - label, -1), (np.array([0, 1, 0, 1]), 1)):
        found = probe_direction(rows, association(label, attribute, 2, 2))
        np.testing.assert_allclose(found, sign * np.array([0.6, 0.8]))


def test_bad_input_is_one_error_that_says_what_is_allowed() -> None:
    model, batch = Diagonal(), [atoms(*KINDS["redundant"])]
    with pytest.raises(ValueError, match=r"rho=-0\.1; allowed: a finite number >= 0"):
        measure_toy_quantities(model, batch, AXES, -0.1)
    with pytest.raises(ValueError, match="batches is empty; allowed: one batch or more"):
        measure_toy_quantities(model, [], AXES, RHO)
    with pytest.raises(ValueError, match=r"directions \(3, 2\) and tied \(2, 2\); allowed: \[2, D\] and \[2, 2\]"):
        probe_direction(np.zeros((3, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"length 0\.0; allowed: a finite length > 0"):
        probe_direction(np.ones((2, 3)), np.zeros((2, 2)))
    model.head = torch.nn.Linear(3, 4).double()
    with pytest.raises(ValueError, match="the head has 4 logits; allowed: 2"):
        measure_toy_quantities(model, batch, AXES, RHO)
