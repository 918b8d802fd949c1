"""Sweeps: axes are the dimensions, columns follow them, a stored configuration gives the same runs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from toymodels.data import groups, redundant, slabs, spurious
from toymodels.networks import Diagonal, Network, Patches, TwoLayer, network
from toymodels.parameters import PARAMETERS, parameter
from toymodels.rules import rule
from toymodels.sweep import Sweep

AXES = {"rho": [0.0, 0.3, 0.5], "ratio": [0.25, 1.0]}


def test_axes_are_dimensions_and_columns_run_in_their_order() -> None:
    sweep = Sweep(axes=AXES, values={"mu_easy": 3.0}, seeds=(7, 4))
    assert sweep.dims == ("rho", "ratio", "seed")
    assert sweep.shape == (3, 2, 2)
    assert sweep.runs == 12
    rho, ratio, seed = np.meshgrid(AXES["rho"], AXES["ratio"], [7, 4], indexing="ij")
    np.testing.assert_array_equal(sweep.column("rho"), rho.ravel())
    np.testing.assert_array_equal(sweep.column("ratio"), ratio.ravel())
    np.testing.assert_array_equal(sweep.column("seed"), seed.ravel())
    np.testing.assert_array_equal(sweep.column("mu_hard"), 3.0 * ratio.ravel())
    np.testing.assert_array_equal(sweep.column("mu_easy"), np.full(12, 3.0))
    np.testing.assert_array_equal(sweep.column("eta"), np.full(12, PARAMETERS["eta"].default))


def test_the_ratio_follows_from_the_strengths_and_the_reverse() -> None:
    np.testing.assert_allclose(Sweep(axes={"mu_hard": [0.5, 1.5]}, seeds=1).column("ratio"), [0.25, 0.75])
    np.testing.assert_allclose(Sweep(values={"ratio": 0.3}, seeds=1).column("mu_hard"), 0.6)
    np.testing.assert_allclose(Sweep(seeds=1).column("mu_hard"), 1.0)


def test_gd_has_no_rho_and_its_twin_no_axis_over_it() -> None:
    sweep = Sweep(axes=AXES, seeds=2, rule=rule("lsam"))
    twin = sweep.gd_baseline()
    assert twin.rule.name == "gd"
    assert twin.shape == (1, 2, 2)
    np.testing.assert_array_equal(twin.column("rho"), 0)
    np.testing.assert_array_equal(twin.column("ratio"), sweep.column("ratio").reshape(3, 4)[0])
    np.testing.assert_array_equal(Sweep(rule=rule("gd"), values={"rho": 0.4}).column("rho"), 0)


NORM_CASES: dict[str, tuple[Network, dict[str, float]]] = {
    "diagonal": (Diagonal(), {"jitter": 0.3, "imbalance": 0.2}),
    "deep": (Diagonal(), {"depth": 4}),
    "relu": (TwoLayer("relu", bias=True), {"width": 3}),
    "patches": (Patches("local"), {"copies": 2, "width": 5}),
    "nominal patches": (Patches("pooled"), {"jitter": 0.0}),
}


@pytest.mark.parametrize("name", NORM_CASES)
def test_a_relative_radius_is_a_share_of_the_initial_norm(name: str) -> None:
    network, values = NORM_CASES[name]
    relative = Sweep(network=network, axes={"relative_radius": [0.0, 0.1, 0.5], "init": [0.2, 0.4]}, values=values)
    layers = relative.initial_layers(np.arange(relative.runs))
    norm = np.linalg.norm(np.concatenate([layer.reshape(relative.runs, -1) for layer in layers], axis=1), axis=1)
    np.testing.assert_allclose(relative.initial_norm(), norm, rtol=1e-14)
    np.testing.assert_allclose(relative.column("rho"), relative.column("relative_radius") * norm, rtol=1e-14)
    absolute = Sweep(network=network, axes={"rho": [0.0, 0.3], "init": [0.2, 0.4]}, values=values)
    np.testing.assert_allclose(
        absolute.column("relative_radius") * absolute.initial_norm(), absolute.column("rho"), rtol=1e-14
    )


def test_the_norm_follows_structural_axes() -> None:
    sweep = Sweep(network=Patches("local"), axes={"copies": [1, 3], "width": [2, 9]}, seeds=3, values={"jitter": 0.0})
    norm = sweep.initial_norm().reshape(sweep.shape)
    # d + q orthogonal vectors of norm init where they fit, with q = 2 copies.
    np.testing.assert_allclose(norm[0, 1], 0.4 * np.sqrt(2 + 2), rtol=1e-12)
    np.testing.assert_allclose(norm[1, 1], 0.4 * np.sqrt(2 + 6), rtol=1e-12)
    assert norm[0, 0].std() > 0.01


def test_gd_has_no_relative_radius_either() -> None:
    axes = {"ratio": [0.25, 1.0], "relative_radius": [0.0, 0.1, 0.2]}
    for sweep in (Sweep(axes=axes), Sweep(axes={"ratio": [0.25, 1.0]}, values={"relative_radius": 0.1})):
        twin = sweep.gd_baseline()
        assert twin.shape == ((2, 1, 4) if len(sweep.axes) == 2 else (2, 4))
        for name in ("rho", "relative_radius"):
            np.testing.assert_array_equal(twin.column(name), 0)
    nominal = Sweep(network=Patches(), axes=axes).nominal()
    np.testing.assert_allclose(nominal.column("rho")[-1], 0.2 * 0.4 * 2, rtol=1e-12)


SWEEPS = {
    "plain": Sweep(),
    "axes": Sweep(axes=AXES, values={"mu_easy": 3.0, "init": 0.2}, seeds=(5, 1), loss_levels=(0.05, 0.3)),
    "groups": Sweep(data=groups([("a", 2, 1, 1), ("b", 1, -1, 0.5)]), rule=rule("usam", "weights"), loss="squared"),
    "relu": Sweep(
        network=TwoLayer("relu", bias=True), data=spurious(), axes={"width": [2, 4], "p": [0.6, 0.9]},
        record_steps=(0, 3, 9), group_accuracy=True, collapse_threshold=1e-3, values={"steps": 9},
    ),
    "patches": Sweep(
        network=Patches(2, "relu"), data=spurious(), axes={"cosine": [0.0, 0.5], "relative_radius": [0.0, 0.1]},
        values={"copies": 2, "noise_patches": 2, "init": 0.3, "sam_from": 5, "sam_until": 9},
        rule=rule("sam_per_layer"), suppression=True, probe_noise=0.2,
    ),
    "relative": Sweep(network=TwoLayer("linear"), values={"relative_radius": 0.2}, axes={"width": [2, 4]}),
    "hard": Sweep(data=slabs(), axes={"mu_hard": [0.1, 0.2]}, values={"momentum": 0.9, "batch": 4}),
}  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_a_stored_configuration_gives_the_same_runs(name: str) -> None:
    sweep = SWEEPS[name]
    again = Sweep.from_config(json.dumps(sweep.config()))
    assert again.dims == sweep.dims
    assert again.shape == sweep.shape
    for column in (*PARAMETERS, "seed"):
        np.testing.assert_array_equal(again.column(column), sweep.column(column), err_msg=column)
    for attribute in (
        "network",
        "data",
        "rule",
        "loss",
        "loss_levels",
        "record_steps",
        "group_accuracy",
        "suppression",
    ):
        assert getattr(again, attribute) == getattr(sweep, attribute)
    assert again.collapse_threshold == sweep.collapse_threshold
    third = Sweep.from_config(again.config())
    assert third.config() == again.config()


def test_a_stored_configuration_outlives_a_change_of_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    stored = json.dumps(Sweep(seeds=1).config())
    monkeypatch.setitem(PARAMETERS, "eta", replace(PARAMETERS["eta"], default=0.7))
    assert Sweep(seeds=1).column("eta")[0] == 0.7
    assert Sweep.from_config(stored).column("eta")[0] == 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": {"rho": -0.1}}, r"rho=-0\.1; allowed: a number >= 0"),
        ({"values": {"rho": float("nan")}}, "rho=nan"),
        ({"values": {"width": 2.5}}, "width=2.5; allowed: a whole number"),
        ({"values": {"colour": 1}}, "'colour' is not known; allowed: rho"),
        ({"axes": {"colour": [1]}}, "'colour' is not known"),
        ({"axes": {"rho": []}}, "axis rho has shape"),
        ({"axes": {"rho": [[0.1]]}}, "axis rho has shape"),
        ({"axes": {"rho": [0.1, 0.1]}}, "not increasing"),
        ({"axes": {"rho": [0.1, float("inf")]}}, "rho=inf"),
        ({"axes": {"rho": ["a"]}}, "not numeric"),
        ({"axes": {"rho": [0.1]}, "values": {"rho": 0.1}}, "both as a value"),
        ({"axes": {"ratio": [0.1]}, "values": {"mu_hard": 0.1}}, "ratio and mu_hard"),
        ({"axes": {"rho": [0.1]}, "values": {"relative_radius": 0.1}}, "rho and relative_radius are both given"),
        ({"values": {"rho": 0.1, "relative_radius": 0.1}}, r"allowed: one of them \(rho = r \* initial norm\)"),
        ({"values": {"relative_radius": -0.1}}, r"relative_radius=-0\.1; allowed: a number >= 0"),
        ({"values": {"mu_hard": 3.0}}, "mu_hard=3 exceeds mu_easy=2"),
        ({"axes": {"mu_easy": [0.5, 2.0]}}, "mu_hard=1 exceeds mu_easy=0.5"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": (1, 1)}, "distinct seeds"),
        ({"seeds": (-1,)}, "seeds >= 0"),
        ({"seeds": ()}, "allowed"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"loss_levels": (0.0,)}, "distinct numbers > 0"),
        ({"loss_levels": (0.1, 0.1)}, "distinct numbers > 0"),
        ({"axes": {"steps": [5, 10]}, "record_steps": (1,)}, "record_steps"),
        ({"axes": {"slabs": [0, 1]}, "data": slabs(), "group_accuracy": True}, "slabs"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_sweeps_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sweep(**options)  # type: ignore[arg-type]


def test_equal_strengths_are_allowed_up_to_rounding() -> None:
    assert Sweep(values={"mu_easy": 0.3, "mu_hard": 0.1 + 0.2}).runs == 4


def test_structural_parameters_are_whole_numbers_per_run() -> None:
    names, values = Sweep(network=TwoLayer("relu"), axes={"width": [2, 8]}, seeds=2).structure()
    assert values.dtype.kind == "i"
    np.testing.assert_array_equal(values[:, names.index("width")], [2, 2, 8, 8])


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_default_is_allowed_and_every_lower_bound_guarded(name: str) -> None:
    known = parameter(name)
    assert known.check(known.default) == known.default
    with pytest.raises(ValueError, match=name):
        known.check(known.low - 1)
    with pytest.raises(ValueError, match=name):
        known.check(float("nan"))


def test_the_default_experiment_is_the_documented_one() -> None:
    sweep = Sweep()
    assert isinstance(sweep.network, Diagonal)
    assert sweep.data == redundant()
    assert sweep.rule.name == "sam"


def test_names_stand_for_network_data_and_rule() -> None:
    sweep = Sweep(network="relu", data="spurious", rule="lsam")
    assert sweep == Sweep(network=network("relu"), data=spurious(), rule=rule("lsam"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": 5}, "axes=5; allowed: a mapping"),
        ({"values": [1]}, r"values=\[1\]; allowed: a mapping"),
        ({"values": {"rho": None}}, "rho=None; allowed: a number"),
        ({"network": "mlp"}, "network='mlp' is not known; allowed: diagonal"),
        ({"network": 3}, "network=3; allowed: a name"),
        ({"data": "images"}, "data='images' is not known; allowed: redundant"),
        ({"data": "groups"}, "data='groups' is not known"),
        ({"data": [[1, 2]]}, "data=.*allowed: a name"),
        ({"rule": "adam"}, "rule='adam' is not known; allowed: gd, sam"),
        ({"rule": None}, "rule=None; allowed: a name"),
        ({"seeds": [1.9]}, r"seeds=\[1\.9\]; allowed: a number >= 1, or distinct seeds >= 0"),
        ({"seeds": [2**64]}, r"seeds=.*whole numbers below 2\*\*53"),
        ({"seeds": [True]}, r"seeds=\[True\]"),
        ({"seeds": 10**19}, "seeds=10000000000000000000; allowed: a number from 1 to"),
        ({"seeds": "ab"}, "seeds='ab'"),
        ({"seeds": 1.5}, r"seeds=1\.5"),
        ({"record_steps": [1.5]}, r"record_steps=\[1\.5\]; allowed: whole numbers >= 0"),
        ({"record_steps": [-1]}, r"record_steps=\[-1\]"),
        ({"record_steps": 5}, "record_steps=5; allowed: numbers"),
        ({"loss_levels": "low"}, "loss_levels='low'"),
        ({"loss_levels": 0.1}, r"loss_levels=0\.1; allowed: numbers"),
        ({"probe_noise": "much"}, "probe_noise"),
        ({"collapse_threshold": -1.0}, r"collapse_threshold=-1\.0; allowed: a number >= 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_arguments_of_the_wrong_kind_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sweep(**options)  # type: ignore[arg-type]


def test_a_finer_sweep_is_the_same_time_in_smaller_steps() -> None:
    sweep = Sweep(axes={"steps": [100, 200], "rho": [0.1, 0.2]}, values={"eta": 0.1, "sam_from": 5}, seeds=1)
    finer = sweep.finer(4)
    np.testing.assert_allclose(finer.column("eta") * finer.column("steps"), sweep.column("eta") * sweep.column("steps"))
    assert finer.column("steps").tolist() == [400, 400, 800, 800]
    assert set(finer.column("sam_from")) == {20}
    assert (finer.column("sam_until") >= finer.column("steps")).all()
    assert replace(Sweep(seeds=1), record_steps=(0, 3)).finer(2).record_steps == (0, 6)
