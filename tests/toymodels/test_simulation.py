"""Simulated sweeps: labelled results, chunks, structural axes, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from kernels import reference
from kernels.problem import Status
from support.trainings import problem
from toymodels.data import missing, slabs, spurious
from toymodels.metrics import advantage
from toymodels.networks import Diagonal, TwoLayer
from toymodels.rules import rule
from toymodels.simulation import save_dataset, simulate
from toymodels.sweep import Sweep

QUICK = {"steps": 40, "eta": 0.1}


def run(sweep: Sweep, **options: object) -> xr.Dataset:
    return simulate(sweep, engine="reference", **options)  # type: ignore[arg-type]


def assert_same_runs(one: xr.Dataset, other: xr.Dataset) -> None:
    """Bit for bit, apart from the timings in the attributes."""
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.data_vars:
        xr.testing.assert_equal(one[name], other[name])


def test_the_dataset_is_labelled_by_the_sweep() -> None:
    sweep = Sweep(
        data=spurious(), axes={"rho": [0.0, 0.3], "p": [0.6, 0.8, 0.9]}, seeds=(5, 2), values=QUICK,
        record_steps=(0, 10, 40), group_accuracy=True, loss_levels=(0.6, 0.4),
    )  # fmt: skip
    found = run(sweep)
    base = ("rho", "p", "seed")
    assert {name: found[name].dims for name in found.data_vars} == {
        "coefficient": (*base, "feature"),
        "loss": base,
        "gradient_norm": base,
        "status": base,
        "stopped_step": base,
        "crossing_step": (*base, "level"),
        "crossing_coefficient": (*base, "level", "feature"),
        "crossing_loss": (*base, "level"),
        "record_coefficient": (*base, "step", "feature"),
        "record_loss": (*base, "step"),
        "group_accuracy": (*base, "group"),
        "crossing_group_accuracy": (*base, "level", "group"),
    }
    assert {name: found[name].values.tolist() for name in found.coords} == {
        "rho": [0.0, 0.3], "p": [0.6, 0.8, 0.9], "seed": [5, 2], "feature": ["easy", "hard"], "level": [0.6, 0.4],
        "step": [0, 10, 40], "group": ["majority", "minority"],
    }  # fmt: skip
    assert all(found[name].attrs["long_name"] for name in found.data_vars)
    assert json.loads(found.attrs["config"]) == sweep.config()
    assert found.attrs["engine"] == "reference"
    assert found.attrs["precision"] == "float64"
    assert found.attrs["run_steps"] == 12 * 40
    assert found.attrs["simulation_seconds"] > 0


def test_a_cell_is_the_training_it_says_it_is() -> None:
    sweep = Sweep(
        data=spurious(), axes={"ratio": [0.3, 0.8], "rho": [0.1, 0.4], "p": [0.7, 0.9]}, seeds=(3,),
        values={**QUICK, "mu_easy": 1.5, "init": 0.5, "jitter": 0.2, "imbalance": 0.1}, rule=rule("lsam"),
    )  # fmt: skip
    cell = run(sweep).sel(ratio=0.8, rho=0.4, p=0.7, seed=3)
    w, v = Diagonal().initial_layers(np.array([3]), *(np.array([x]) for x in (0.5, 0.2, 0.1)), 2, 2)
    made = problem(
        (1.5, 1.2), (w, v), signs=((1, 1), (-1, 1)), weights=(0.7, 0.3), eta=0.1, rho=0.4, steps=40, update=rule("lsam")
    )
    expected = reference.train(made)
    # The strength 0.8 * 1.5 is rounded differently from 1.2, and 40 steps carry that along.
    np.testing.assert_allclose(cell["coefficient"], expected.coefficients[0], rtol=1e-12)
    np.testing.assert_allclose(cell["loss"], expected.loss[0], rtol=1e-12)


@pytest.mark.parametrize(("axis", "values"), [("width", [1, 3, 4]), ("steps", [5, 20, 40]), ("noise_features", [0, 2])])
def test_a_structural_axis_gives_what_separate_sweeps_give(axis: str, values: list[int]) -> None:
    fixed = {name: value for name, value in {**QUICK, "noise_hard": 0.5, "samples": 8}.items() if name != axis}
    common = {"network": TwoLayer("relu"), "data": spurious(), "seeds": 2, "group_accuracy": True}
    whole = run(Sweep(axes={"rho": [0.0, 0.3], axis: values}, values=fixed, **common))  # type: ignore[arg-type]
    for value in values:
        one = run(Sweep(axes={"rho": [0.0, 0.3]}, values={**fixed, axis: value}, **common))  # type: ignore[arg-type]
        for name in one.data_vars:
            np.testing.assert_array_equal(whole[name].sel({axis: value}), one[name], err_msg=name)
    assert whole.attrs["run_steps"] == 4 * (sum(values) if axis == "steps" else 40 * len(values))


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_results_do_not_depend_on_the_memory_bound(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(
        data=spurious(), axes={"rho": [0.0, 0.2, 0.4], "p": [0.6, 0.9]}, seeds=3, values={**QUICK, "noise_easy": noise},
        record_steps=(0, 40), group_accuracy=True,
    )  # fmt: skip
    whole = run(sweep)
    sizes = []
    real = reference.train

    def counted(made, progress=None):  # type: ignore[no-untyped-def]
        sizes.append(made.runs)
        return real(made, progress)

    monkeypatch.setattr(reference, "train", counted)
    assert_same_runs(whole, run(sweep, memory_bytes=1))
    assert sizes == [1] * 18
    sizes.clear()
    assert_same_runs(whole, run(sweep, memory_bytes=16_000))
    assert 1 < len(sizes) < 18
    assert sum(sizes) == 18


def test_progress_ends_at_all_run_steps() -> None:
    seen: list[tuple[int, int]] = []
    sweep = Sweep(axes={"steps": [10, 20]}, seeds=2, values={"eta": 0.1})
    run(sweep, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (60, 60)
    assert {total for _, total in seen} == {60}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_levels_that_were_not_reached_are_marked() -> None:
    found = run(Sweep(axes={"rho": [0.0, 5.0]}, seeds=1, values={"steps": 400, "eta": 0.05}, loss_levels=(0.2, 1e-9)))
    reached = found["crossing_step"].values[:, 0] >= 0
    np.testing.assert_array_equal(reached, [[True, False], [False, False]])
    np.testing.assert_array_equal(np.isnan(found["crossing_coefficient"].values[:, 0]).all(-1), ~reached)
    assert found["crossing_loss"].values[0, 0, 0] <= 0.2
    assert found["status"].values[:, 0].tolist()[0] == Status.OK


@pytest.mark.parametrize("half", [0, 1, 2])
def test_slabs_of_any_number_have_their_groups(half: int) -> None:
    sweep = Sweep(
        network=TwoLayer("relu", bias=True), data=slabs(), values={**QUICK, "slabs": half}, seeds=2, group_accuracy=True
    )
    found = run(sweep)
    assert found["group"].size == 2 * half + 1
    assert list(found["group"].values) == list(slabs().atoms(slabs=half).names)


def test_a_network_that_is_not_odd_trains_on_both_mirror_images() -> None:
    """One ReLU neuron can serve only one of the two images; the loss of the other keeps at log 2."""
    losses = [
        run(Sweep(network=TwoLayer(activation), rule=rule("gd"), values={"width": 1, "steps": 500, "eta": 0.2}))["loss"]
        for activation in ("relu", "linear")
    ]
    assert (losses[0] > 0.34).all(), "half of log 2 = 0.347 stays"
    assert (losses[1] < 0.1).all()


def test_a_dataset_survives_its_file_with_its_groups(tmp_path: Path) -> None:
    sweep = Sweep(data=missing(), axes={"q": [0.1, 0.5]}, seeds=2, values=QUICK, group_accuracy=True)
    found, twin = run(sweep), run(sweep.gd_baseline())
    path = tmp_path / "runs.nc"
    save_dataset(found, path, {"gd": twin})
    for group, expected in (("/", found), ("gd", twin)):
        with xr.open_dataset(path, group=group, engine="h5netcdf") as stored:
            xr.testing.assert_identical(stored.load(), expected)
    again = Sweep.from_config(found.attrs["config"])
    assert_same_runs(run(again), found)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.nc"]


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.nc"
    path.write_bytes(b"old")
    found = run(Sweep(seeds=1, values=QUICK))

    def fail(self: xr.Dataset, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(KeyboardInterrupt):
        save_dataset(found, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["runs.nc"]


@pytest.mark.parametrize("bytes_", [-5, 0, 1.5, True, None])
def test_a_memory_bound_is_a_positive_whole_number(bytes_: object) -> None:
    with pytest.raises(ValueError, match=r"memory_bytes=.*allowed: a whole number >= 1"):
        simulate(Sweep(), memory_bytes=bytes_)  # type: ignore[arg-type]


def test_only_a_sweep_is_simulated() -> None:
    with pytest.raises(ValueError, match=r"sweep=5; allowed: a toymodels\.Sweep"):
        simulate(5)  # type: ignore[arg-type]


def test_an_advantage_needs_its_own_baseline() -> None:
    sweep = Sweep(axes={"rho": [0.1, 0.2], "init": [0.3, 0.5]}, values={"steps": 20}, seeds=1, loss_levels=(0.6,))
    found, twin = simulate(sweep, engine="reference"), simulate(sweep.gd_baseline(), engine="reference")
    assert np.isfinite(advantage(found, twin, sweep, 0.6)).all()
    other = simulate(replace(sweep, seeds=3).gd_baseline(), engine="reference")
    with pytest.raises(ValueError, match=r"gd has runs of shape \(1, 2, 3\); allowed: \(1, 2, 1\), as simulate"):
        advantage(found, other, sweep, 0.6)
    with pytest.raises(ValueError, match=r"dataset has runs of shape \(1, 2, 1\)"):
        advantage(twin, twin, sweep, 0.6)
