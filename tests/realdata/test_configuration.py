"""A configuration is checked once, and its hash names the training whatever way it was written."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from realdata.configuration import RunConfiguration


def test_every_setting_changes_the_hash():
    base = RunConfiguration(data="cifar_mnist")
    changes = {
        "data": "pacs",
        "data_options": {"correlation": 0.9},
        "size": 16,
        "on_decode_error": "skip",
        "augmentation": "flip",
        "model": "small_resnet",
        "model_options": {"width": 8},
        "base": "adam",
        "lr": 0.1,
        "momentum": 0.5,
        "weight_decay": 1e-4,
        "batch_size": 64,
        "epochs": 3,
        "schedule": "step",
        "warmup_epochs": 1.0,
        "levels": (0.3,),
        "stop_level": 0.1,
        "evaluations_per_epoch": 2,
        "evaluation_examples": 100,
        "seed": 1,
        "precision": "bfloat16",
    }
    hashes = {base.replace(**{name: value}).hash for name, value in changes.items()}
    hashes |= {base.replace(method=method, rho=0.1).hash for method in ("sam", "lsam", "asam")}
    hashes |= {base.replace(method="sam", rho=0.1, effect=effect).hash for effect in ("weights", "jacobian")}
    assert len(hashes | {base.hash}) == len(changes) + 3 + 2 + 1
    sam = base.replace(method="sam", rho=0.1)
    assert len({sam.hash, sam.replace(sam_from=2).hash, sam.replace(sam_until=2).hash}) == 3
    assert set(changes) | {"method", "effect", "rho", "sam_from", "sam_until"} == {
        entry.name for entry in dataclasses.fields(base)
    }


def test_hashes_stay_what_they_were_when_runs_were_first_kept():
    """A field may get another name; the folders of finished runs have to be found all the same."""
    assert RunConfiguration("cifar_mnist").hash == "30626cb8f53c04c0"
    other = RunConfiguration(
        "celeba", {"seed": 3}, on_decode_error="skip", method="lsam", rho=0.05, levels=(0.2,), seed=7
    )  # fmt: skip
    assert other.hash == "835a549ef4eea5f8"
    assert other.as_dict()["broken"] == "skip"
    assert RunConfiguration.from_dict(other.as_dict()) == other


def test_equal_settings_have_one_hash_however_they_were_written():
    one = RunConfiguration("pacs", {"target": "photo", "seed": 1}, lr=1, weight_decay=0, levels=(0.1, 0.4, 0.4))
    two = RunConfiguration("pacs", {"seed": 1, "target": "photo"}, lr=1.0, weight_decay=0.0, levels=(0.4, 0.1))
    assert one.hash == two.hash
    assert one == two


def test_survives_json_and_a_new_process():
    configuration = RunConfiguration("celeba", {"seed": 3}, method="lsam", rho=0.05, levels=(0.2,), seed=7)
    text = json.dumps(configuration.as_dict())
    assert RunConfiguration.from_dict(json.loads(text)) == configuration
    program = (
        "import json, sys; from realdata.configuration import RunConfiguration;"
        "print(RunConfiguration.from_dict(json.loads(sys.argv[1])).hash)"
    )
    other = subprocess.run([sys.executable, "-c", program, text], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == configuration.hash


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"method": "sgdm"}, "method='sgdm'.*lsam"),
        ({"method": "sam", "rho": -0.1}, "rho=-0.1.*>= 0"),
        ({"method": "sam", "rho": float("nan")}, "rho=nan"),
        ({"method": "sam"}, "rho=0 with method='sam'"),
        ({"rho": 0.1}, "rho=0.1 with method='sgd'.*sam"),
        ({"effect": "weights"}, "effect='weights' with method='sgd'"),
        ({"lr": 0.0}, "lr=0.0.*> 0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"epochs": 0}, "epochs=0.*>= 1"),
        ({"epochs": 2.5}, "epochs=2.5"),
        ({"size": True}, "size=True"),
        ({"seed": -1}, "seed=-1"),
        ({"levels": (0.1, 0.0)}, "levels=0.0"),
        ({"stop_level": 0.0}, "stop_level=0.0"),
        ({"precision": "fp8"}, "precision='fp8'.*bfloat16"),
    ],
)
def test_names_what_is_wrong_and_what_is_allowed(changes, names):
    with pytest.raises(ValueError, match=names):
        RunConfiguration("cifar_mnist", **changes)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match=r"setting='learning_rate' is not known.*lr"):
        RunConfiguration.from_dict({"data": "pacs", "learning_rate": 0.1})


def test_a_schedule_of_sam_is_checked_and_its_default_leaves_the_hash_alone():
    sam = RunConfiguration("cifar_mnist", method="sam", rho=0.1, epochs=4)
    assert not {"sam_from", "sam_until"} & set(sam.as_dict())
    half = sam.replace(sam_from=2, sam_until=3.5)
    assert RunConfiguration.from_dict(half.as_dict()) == half
    for changes, words in (
        ({"sam_from": 4}, "sam_from=4 with epochs=4"),
        ({"sam_until": 0}, "sam_until=0; allowed: a finite number above sam_from"),
        ({"sam_from": -1}, "sam_from=-1"),
        ({"sam_from": 1, "method": "sgd", "rho": 0}, "methods with a perturbation"),
    ):
        with pytest.raises(ValueError, match=words):
            sam.replace(**changes)
