"""Stand-ins for the other parts of ``realdata``, quick and exact, for tests of what runs jobs.

``install()`` puts them in the place of the real ones. The subprocesses of a sweep do the same when
``sitecustomize.py`` of a folder on their PYTHONPATH calls it (:func:`site_folder`). What they do is told by the options
of the made-up data set ``fake``:

    stall     training waits this many seconds, in steps that a kill can interrupt; the state is kept at each
    fault     raise | loading | kill | diverge | evaluate; steep: the first evaluation is below every level
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 5
ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class FakeOptions:
    correlation: float = 1.0
    classes: str = "automobile,truck"
    target: str = ""
    stall: float = 0.0
    fault: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.correlation <= 1:
            raise ValueError(f"correlation={self.correlation!r}; allowed: a number in [0, 1]")


@dataclasses.dataclass(frozen=True)
class OtherOptions:
    angle: float = 0.0


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    name: str
    path: Path
    level: float | None
    step: int
    epoch: float
    training_loss: float


OPTIONS = {"fake": FakeOptions, "other": OtherOptions, "tiny": OtherOptions}


def spec(name: str) -> Any:
    found = OPTIONS
    if name not in found:
        raise ValueError(f"data set {name!r} is unknown; allowed: {', '.join(OPTIONS)}")

    def make_options(given: Any) -> Any:
        from realdata.values import convert_value, option_types

        kinds = option_types(found[name])
        for key in given:
            if key not in kinds:
                raise ValueError(f"option {key!r} is unknown to {name}; allowed: {', '.join(kinds)}")
        return found[name](**{key: convert_value(key, value, kinds[key]) for key, value in given.items()})

    return types.SimpleNamespace(
        gives_easy=lambda given: True,
        name=name,
        options=found[name],
        make_options=make_options,
        options_help={"seed": "of the pairing"},
    )


def load(
    name: str,
    root: str,
    options: Any,
    *,
    size: int | None = None,
    on_decode_error: str = "fatal",
    progress: bool = False,
) -> Any:
    if name == "tiny":
        return tiny()
    if options.get("fault") == "loading":
        raise ValueError("attributes.csv is missing; allowed: a folder with attributes.csv")
    return types.SimpleNamespace(
        name=name, title=f"{name} (stand-in)", options=options, fingerprint="f00", skipped=(), differences=()
    )


def tiny(n: int = 240, side: int = 8) -> Any:
    """Images in memory: brightness of the upper half is the easy feature, stripes of the lower half the hard one."""
    import numpy as np

    from realdata.datasets.base import Card, ImageData

    rng = np.random.default_rng(0)
    split = np.repeat(np.array([0, 1, 2], np.int8), n // 3)
    hard = rng.integers(0, 2, n)
    easy = np.where(split == 0, hard, rng.integers(0, 2, n))
    images = rng.integers(90, 130, (n, 3, side, side))
    images[:, :, : side // 2] += 60 * easy[:, None, None, None]
    images[:, :, side // 2 :, ::2] += 25 * hard[:, None, None, None]
    names = ("no", "yes")
    return ImageData(
        name="tiny", title="tiny (made up)", images=images.astype(np.uint8), label=hard, hard=hard, easy=easy,
        group=2 * hard + easy, split=split, probe_split=np.where(split == 0, -1, split - 1).astype(np.int8),
        environment=np.zeros(n, np.int64), label_names=names, hard_names=names, easy_names=names,
        group_names=("00", "01", "10", "11"), environment_names=("all",), mean=(0.5,) * 3, std=(0.25,) * 3, flip=False,
        card=Card("", "", ""), fingerprint="tiny",
    )  # fmt: skip


def train(configuration: Any, data: Any, directory: Path, *, device: str = "auto", progress: bool = True) -> Any:
    """STEPS steps; each adds a line to trained.log and updates the state, so that a resumed one goes on."""
    log, fault = directory / "trained.log", data.options.get("fault")
    (directory / "config.json").write_text(json.dumps(configuration.as_dict()))
    done = len(log.read_text().splitlines()) if log.exists() else 0
    for step in range(done, STEPS):
        time.sleep(data.options.get("stall", 0.0) / STEPS)
        if fault == "raise" and step == 2:
            raise RuntimeError("no device\nhas memory left")
        if fault == "kill" and step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        with log.open("a") as file:
            file.write(f"{os.getpid()} {step}\n")
    return read_run(directory, configuration, diverged=fault == "diverge", steep=fault == "steep")


def read_run(directory: Path, configuration: Any, *, diverged: bool = False, steep: bool = False) -> Any:
    levels = configuration.levels[:2]
    points = [
        Checkpoint(f"loss-{level:g}", directory / f"{level:g}.pt", level, 1 if steep else k + 1, float(k), level * 0.9)
        for k, level in enumerate(levels)
    ]
    if not diverged:
        points.append(Checkpoint("final", directory / "final.pt", None, STEPS, float(configuration.epochs), 0.001))
    return types.SimpleNamespace(
        directory=directory, status="diverged" if diverged else "done", checkpoints=tuple(points)
    )  # fmt: skip


def evaluate(model: Any, data: Any, configuration: Any, checkpoint: Any, *, protocol: Any, seed: int) -> list[Any]:
    """Numbers that are a plain function of method, rho, seed and checkpoint."""
    if data.options.get("fault") == "evaluate" and checkpoint.name == "final":
        raise RuntimeError("probe did not converge")
    hard = 0.35 - 0.2 * configuration.rho + 0.01 * (configuration.seed % 3) + 0.1 * checkpoint.training_loss
    easy = 0.02 + 0.001 * configuration.seed
    worst = 0.6 - 0.5 * hard
    measured = [
        ("probing_error", "hard", hard, hard - 0.02, hard + 0.02),
        ("probing_error", "easy", easy, None, float("nan")),
        ("worst_group_accuracy", "", worst, 0.4, 0.7),
    ]
    rows = [
        {
            "metric": metric,
            "attribute": attribute,
            "group": "",
            "split": "test",
            "value": value,
            "low": low,
            "high": high,
        }
        | {"n": 400}
        for metric, attribute, value, low, high in measured
    ]
    with (checkpoint.path.parent / "evaluated.log").open("a") as file:
        file.write(f"{checkpoint.name} {protocol.repeats} {seed}\n")
    return rows


def measure_untrained(configuration: Any, data: Any, *, device: str, protocol: Any, seed: int) -> list[Any]:
    """Numbers that depend on the seed alone; the training has no ``metrics.jsonl`` with the loss at step 0."""
    numbers = [("probe", "probing_error", "hard", 0.5 + 0.01 * configuration.seed), ("train", "loss", "", 0.7)]
    names = ("split", "metric", "attribute", "value")
    return [{**dict(zip(names, each, strict=True)), "group": "", "low": None, "high": None, "n": 9} for each in numbers]


def install(set_attribute: Callable[[Any, str, Any], None] = setattr, *, training: bool = True) -> None:
    """Put the stand-ins in the place of the data sets, and of the steps of a job.

    Args:
        set_attribute: how; a test gives ``monkeypatch.setattr``, which undoes it.
        training: False leaves all but the data sets as they are; train the data set ``tiny`` then.
    """
    from realdata import datasets
    from realdata.sweeps import jobs

    for name, stand_in in (("spec", spec), ("load", load), ("names", lambda: tuple(OPTIONS))):
        set_attribute(datasets, name, stand_in)
    if training:
        steps = jobs.Steps(train, lambda checkpoint, configuration, data, device: None, evaluate, measure_untrained)
        set_attribute(jobs, "steps_of_a_job", lambda: steps)


def site_folder(folder: Path, *, training: bool = True) -> Path:
    """Make a folder that, on PYTHONPATH, gives every Python the stand-ins."""
    tests = str(Path(__file__).parents[1])
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({tests!r})\n"
        f"from support import fake_parts\nfake_parts.install(training={training})\n"
    )
    return folder
