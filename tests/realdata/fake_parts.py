"""Stand-ins for the other parts of ``realdata``, quick and exact, for tests of what runs jobs.

``install()`` puts them where the real modules would be imported from. The subprocesses of a sweep do the same when
``sitecustomize.py`` of a folder on their PYTHONPATH calls it (:func:`site_folder`). What they do is told by the options
of the made-up data set ``fake``:

    stall     training waits this many seconds, in steps that a kill can interrupt; the state is kept at each
    fault     raise | loading | kill | diverge | evaluate
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

STEPS = 5


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
class FakeProtocol:
    repeats: int = 20
    strengths: tuple[float, ...] = (1.0, 0.1)

    def replace(self, **changes: Any) -> FakeProtocol:
        return dataclasses.replace(self, **changes)


def protocol(name: str) -> FakeProtocol:
    if name not in ("fast", "dfr"):
        raise ValueError(f"protocol={name!r}; allowed: fast, dfr")
    return FakeProtocol()


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    name: str
    path: Path
    level: float | None
    step: int
    epoch: float
    training_loss: float


def spec(name: str) -> Any:
    found = {"fake": FakeOptions, "other": OtherOptions}
    if name not in found:
        raise ValueError(f"data set {name!r} is unknown; allowed: fake, other")

    def make_options(given: Any) -> Any:
        from realdata.options import option_types, typed

        kinds = option_types(found[name])
        for key in given:
            if key not in kinds:
                raise ValueError(f"option {key!r} is unknown to {name}; allowed: {', '.join(kinds)}")
        return found[name](**{key: typed(key, value, kinds[key]) for key, value in given.items()})

    return types.SimpleNamespace(
        name=name, options=found[name], make_options=make_options, options_help={"seed": "of the pairing"}
    )


def load(
    name: str, root: str, options: Any, *, size: int | None = None, broken: str = "fatal", progress: bool = False
) -> Any:
    if options.get("fault") == "loading":
        raise ValueError("attributes.csv is missing; allowed: a folder with attributes.csv")
    return types.SimpleNamespace(name=name, title=f"{name} (stand-in)", options=options, fingerprint="f00", skipped=())


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
    return read_run(directory, configuration, diverged=fault == "diverge")


def read_run(directory: Path, configuration: Any, diverged: bool = False) -> Any:
    levels = configuration.levels[:2]
    points = [
        Checkpoint(f"loss-{level:g}", directory / f"{level:g}.pt", level, k + 1, float(k), level * 0.9)
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


def install() -> None:
    """Put the stand-ins where ``from realdata import ...`` finds them."""

    def module(name: str, **contents: Any) -> None:
        made = types.ModuleType(f"realdata.{name}")
        made.__dict__.update(contents)
        sys.modules[made.__name__] = made
        if "realdata" in sys.modules:
            setattr(sys.modules["realdata"], name, made)

    module("datasets", spec=spec, load=load, names=lambda: ("fake", "other"))
    module("train", train=train)
    module("checkpoints", load=lambda checkpoint, configuration, data: None)
    module("evaluate", evaluate=evaluate)
    module("probe", Protocol=FakeProtocol, protocol=protocol)


def site_folder(folder: Path) -> Path:
    """Make a folder that, on PYTHONPATH, gives every Python the stand-ins."""
    here = str(Path(__file__).parent)
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({here!r})\nimport fake_parts\nfake_parts.install()\n"
    )
    return folder
