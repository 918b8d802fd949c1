"""The probe's closed form against sampling, its invariances, and hand-computed cases."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.special import ndtr

from toymodels import probe
from toymodels.data import slabs as slab_data
from toymodels.networks import Diagonal, Network, Patches, PatchLayout, network
from toymodels.probe import ProbeData, attribute_margins, probing_error
from toymodels.simulation import simulate
from toymodels.sweep import Sweep

MU = np.array([[2.0, 1.0]])


def two_layer(rng: np.random.Generator, runs: int = 4, width: int = 6, dimension: int = 2):
    return 0.4 * rng.standard_normal((runs, width, dimension)), rng.standard_normal((runs, width))


def strengths(runs: int) -> np.ndarray:
    return np.repeat(MU, runs, axis=0)


def fitted_error(kind: Network, layers, run: int, sigma: np.ndarray, noise: float, rng, column: int, half: int = 0):
    """Least squares on 200,000 drawn examples, tested on as many: the definition, by brute force."""
    count = 400_000
    attributes = rng.choice([-1.0, 1.0], size=(count, 2))
    inputs = attributes * MU[0]
    if half:
        atoms = slab_data().atoms(slabs=half)
        index = rng.choice(len(atoms.weights), size=count, p=atoms.weights)
        attributes[:, 1], inputs[:, 1] = atoms.labels[index], (atoms.labels * atoms.signs[:, 1])[index] * MU[0, 1]
    first = layers[0][run] if not isinstance(kind, Diagonal) else np.diag(layers[0][run])
    inputs = np.pad(inputs, [(0, 0), (0, len(sigma) - 2)]) + sigma * rng.standard_normal((count, len(sigma)))
    hidden = inputs @ first.T
    if kind.name == "relu":
        hidden = np.maximum(hidden, 0)
    hidden = np.c_[hidden + noise * rng.standard_normal(hidden.shape), np.ones(count)]
    train, test = slice(None, count // 2), slice(count // 2, None)
    beta = np.linalg.lstsq(hidden[train], attributes[train, column], rcond=None)[0]
    return np.mean(np.sign(hidden[test] @ beta) != attributes[test, column])


@pytest.mark.parametrize("attribute", ["easy", "hard"])
@pytest.mark.parametrize("name", ["diagonal", "linear", "relu"])
def test_error_is_that_of_a_probe_fitted_to_many_examples(name, attribute, rng):
    kind = network(name)
    layers = two_layer(rng) if name != "diagonal" else (rng.uniform(0.1, 0.6, (4, 2)), np.ones((4, 2)))
    expected = probing_error(kind, layers, ProbeData(strengths(4)), 0.4, attribute)
    column = ["easy", "hard"].index(attribute)
    for run in range(2):
        drawn = fitted_error(kind, layers, run, np.zeros(2), 0.4, rng, column)
        # Four standard errors of a share of 200,000.
        assert abs(drawn - expected[run]) < 4 * np.sqrt(expected[run] / 2e5) + 1e-5


def test_closed_form_with_feature_noise_and_pure_noise_features_matches_a_fitted_probe(rng):
    kind, sigma = network("linear"), np.array([0.5, 0.3, 0.8])
    layers = two_layer(rng, dimension=3)
    expected = probing_error(kind, layers, ProbeData(strengths(4), np.tile(sigma, (4, 1))), 0.3)
    for run in range(2):
        drawn = fitted_error(kind, layers, run, sigma, 0.3, rng, 1)
        assert abs(drawn - expected[run]) < 4 * np.sqrt(expected[run] / 2e5)


def test_sampled_feature_noise_on_a_relu_network_matches_a_fitted_probe(rng):
    kind, sigma = network("relu"), np.array([0.5, 0.5])
    layers = two_layer(rng)
    expected = probing_error(kind, layers, ProbeData(strengths(4), np.tile(sigma, (4, 1))), 0.3)
    for run in range(4):
        # 512 points fit and 512 test the probe; the hidden noise is exact, so the points' spread is what remains.
        assert abs(fitted_error(kind, layers, run, sigma, 0.3, rng, 1) - expected[run]) < 0.02


def test_slab_attribute_is_read_off_relu_features_as_a_fitted_probe_does(rng):
    kind = network("relu")
    layers = two_layer(rng, width=8)
    expected = probing_error(kind, layers, ProbeData(strengths(4), slabs=1), 0.2)
    assert abs(fitted_error(kind, layers, 0, np.zeros(2), 0.2, rng, 1, half=1) - expected[0]) < 0.004


def test_diagonal_error_by_hand():
    # mu_h w_h = 0.5 against noise sqrt(0.3^2 + 0.4^2 * 0.5^2); with one hidden feature per attribute no other term.
    layers = (np.array([[0.9, 0.5]]), np.array([[1.0, 1.0]]))
    data = ProbeData(MU, np.array([[0.7, 0.4]]))
    assert probing_error(Diagonal(), layers, data, 0.3)[0] == pytest.approx(ndtr(-0.5 / np.hypot(0.3, 0.2)), rel=1e-12)


def test_one_shared_direction_by_hand():
    # One hidden unit phi = x_e + x_h = 2 a_e + a_h: beta > 0, so a_h is read with means (1 + 2) and (1 - 2).
    layers = (np.array([[[1.0, 1.0]]]), np.ones((1, 1)))
    expected = 0.5 * (ndtr(-3 / 0.5) + ndtr(1 / 0.5))
    assert probing_error(network("linear"), layers, ProbeData(MU), 0.5)[0] == pytest.approx(expected, rel=1e-12)


def test_depth_three_probes_what_the_last_layer_sees():
    layers = (np.array([[0.5, 0.5]]), np.array([[0.5, 0.4]]), np.array([[9.0, 9.0]]))
    assert probing_error(Diagonal(), layers, ProbeData(MU), 0.1)[0] == pytest.approx(ndtr(-0.2 / 0.1), rel=1e-12)


def test_an_unseen_attribute_is_guessed():
    layers = (np.array([[[0.5, 0.0], [0.2, 0.0]]]), np.ones((1, 2)))
    for name in ("linear", "relu"):
        assert probing_error(network(name), layers, ProbeData(MU), 0.3)[0] == pytest.approx(0.5, abs=1e-9)
    zero = (np.array([[0.5, 0.0]]), np.array([[0.5, 0.0]]))
    assert probing_error(Diagonal(), zero, ProbeData(MU), 0.3)[0] == pytest.approx(0.5, abs=1e-9)


def test_rotating_the_hidden_units_of_a_linear_network_changes_nothing(rng):
    first, last = two_layer(rng)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    turned = (np.einsum("mn,bnd->bmd", rotation, first), last @ rotation.T)
    errors = [probing_error(network("linear"), x, ProbeData(strengths(4)), 0.3) for x in ((first, last), turned)]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-9)


@pytest.mark.parametrize("name", ["linear", "relu"])
def test_scaling_hidden_features_and_their_noise_together_changes_nothing(name, rng):
    first, last = two_layer(rng)
    errors = [probing_error(network(name), (c * first, last), ProbeData(strengths(4)), c * 0.3) for c in (1.0, 7.0)]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-9)


def test_error_rises_with_the_noise_and_falls_with_the_weight():
    weights = np.linspace(0.1, 1.0, 10)
    layers = (np.stack([np.full(10, 0.8), weights], axis=1),) * 2
    errors = np.stack([probing_error(Diagonal(), layers, ProbeData(strengths(10)), s) for s in (0.1, 0.3, 1.0, 3.0)])
    assert (np.diff(errors, axis=0) > 0).all()
    assert (np.diff(errors, axis=1) < 0).all()


@pytest.mark.parametrize(("name", "bias", "half"), [("diagonal", False, 0), ("linear", False, 1), ("relu", True, 2)])
def test_a_batch_equals_its_runs_one_at_a_time_and_keeps_middle_axes(name, bias, half, rng):
    kind = network(name, bias)
    if name == "diagonal":
        layers = tuple(rng.uniform(0.1, 0.7, (3, 2, 2)) for _ in range(2))
    else:
        layers = (rng.standard_normal((3, 2, 5, 2 + bias)), rng.standard_normal((3, 2, 5)))
    layers[0][1, 1] = np.nan
    mu = np.array([[2.0, 1.0], [1.5, 1.0], [2.0, 0.5]])
    together = probing_error(kind, layers, ProbeData(mu, slabs=half), 0.3)
    margins = attribute_margins(kind, layers, ProbeData(mu, slabs=half))
    assert together.shape == (3, 2)
    assert np.isnan(together[1, 1])
    for run in range(3):
        for k in range(2):
            one = tuple(layer[run : run + 1, k] for layer in layers)
            data = ProbeData(mu[run : run + 1], slabs=half)
            alone = probing_error(kind, one, data, 0.3)
            np.testing.assert_allclose(together[run, k], alone[0], rtol=1e-9)
            np.testing.assert_allclose(
                margins[run, k],
                attribute_margins(kind, one, data)[0],
                rtol=0,
                atol=margin_rounding(kind, one, mu[run], half),
            )


def margin_rounding(kind: Network, layers, mu: np.ndarray, half: int) -> float:
    """How far two evaluations of one run's attribute margins may differ that add up the same terms in another order.

    A margin averages hidden features times last weights over the probe's atoms. The terms may cancel, even to zero, so
    rounding is a share of their size and not of the margin. A sum of n products is off by at most n eps sum |terms|
    (Higham, Accuracy and Stability, section 3.1); here three sums are nested: over input features, hidden units, atoms.
    No atom lies further out than mu.
    """
    inputs = np.append(mu, 1.0) if kind.bias else mu
    first = np.abs(layers[0][0])
    reach = first * inputs if first.ndim == 1 else first @ inputs
    atoms = 2 * (2 * half + 1 if half else 2)
    additions = len(inputs) + reach.size + atoms
    return 2 * additions * float(np.finfo(float).eps) * float(np.abs(layers[-1][0]) @ reach)


def test_attribute_margins_are_mu_times_the_coefficients(rng):
    first, last = two_layer(rng)
    coefficients = np.einsum("bmd,bm->bd", first, last)
    data = ProbeData(strengths(4))
    np.testing.assert_allclose(attribute_margins(network("linear"), (first, last), data), coefficients * MU, rtol=1e-12)
    # (f(x) - f(-x))/2 = v . W x / 2 for ReLU, and the probe data are symmetric.
    relu = attribute_margins(network("relu"), (first, last), data)
    np.testing.assert_allclose(relu, coefficients * MU / 2, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"noise": 0.0}, "noise"),
        ({"ridge": -1.0}, "ridge"),
        ({"attribute": "x"}, "attribute"),
    ],
)
def test_bad_arguments_are_named(options, named):
    layers = (np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match=named):
        probing_error(Diagonal(), layers, ProbeData(MU), **{"noise": 0.1, **options})


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_memory_is_bounded_also_for_many_patches(activation, rng, monkeypatch):
    kind, layout = Patches("local", activation), PatchLayout(copies=8, noise_patches=4)
    arrangement = layout.arrangement(np.array([0.3]))
    runs, width, bound = 64, 40, 1 << 20
    layers = (rng.standard_normal((runs, width, 2)), rng.standard_normal((runs, layout.patches, width)))
    data = ProbeData(strengths(runs), None, 0, arrangement)
    whole = probing_error(kind, layers, data, 0.3)
    monkeypatch.setattr(probe, "CHUNK_BYTES", bound)
    tracemalloc.start()
    try:
        in_chunks = probing_error(kind, layers, data, 0.3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(in_chunks, whole, rtol=1e-9)
    # The bound counts one copy of the hidden features; a few more exist on the way to the probe.
    assert peak < 6 * bound


def test_simulate_probes_the_crossings_and_the_end():
    sweep = Sweep(axes={"rho": [0.0, 0.4]}, seeds=2, loss_levels=(0.1,), probe_noise=0.5)
    found = simulate(sweep)
    assert found["crossing_probing_error"].dims == ("rho", "seed", "level", "attribute")
    hidden = np.sqrt(found["crossing_coefficient"].sel(feature="hard").values)
    expected = ndtr(-hidden / 0.5)
    # Balanced starts stay balanced, up to float32.
    np.testing.assert_allclose(found["crossing_probing_error"].sel(attribute="hard").values, expected, rtol=1e-4)
    again = Sweep.from_config(sweep.config())
    assert again.probe_noise == 0.5
    with pytest.raises(ValueError, match="probe_noise"):
        Sweep(probe_noise=-1.0)
