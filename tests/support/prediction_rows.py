"""Results that never were trained, in the form of real ones: numbers that are a plain function of rule, seed, level."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realdata.configuration import RunConfiguration
from realdata.predictions import Design, PredictionData, prediction_data, trainings
from realdata.results.parquet import read_results, read_settings, write_results

LEVELS = (0.5, 0.2, 0.1)
HARD, EASY = ("cat", "dog"), ("day", "night")


@dataclasses.dataclass(frozen=True)
class World:
    """What is true of made-up networks; ``hard`` of SAM is its difference to SGD, ``untrained`` the error at step 0,
    ``ceiling`` that of networks trained on the hard attribute alone."""

    sgd_hard: float = 0.30
    sam_hard: float = -0.05
    sam_easy: float = 0.0
    effects: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"weights": 0.0, "jacobian": -0.05})
    by_rho: Mapping[float, float] = dataclasses.field(default_factory=lambda: {0.03: -0.02, 0.3: -0.08, 1.0: 0.1})
    noise: float = 0.004
    gini_phantom: float = -0.2
    gini_sam: float = -0.1
    suppression: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"hard": 0.9, "easy": 0.7})
    response: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"hard": 0.5, "easy": 2.0})
    slope: float = 1.0
    scatter: float = 0.0
    association: float = 1.0
    loss_of_sam: float = 1.0
    diverged: tuple[float, ...] = ()
    collapsed: tuple[float, ...] = ()
    has_easy: bool = True
    tuned: Mapping[tuple[float, float], float] = dataclasses.field(default_factory=dict)
    gradient_scale: float = 2.0
    untrained: float | None = None
    sam_by_head: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sam_by_half: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"first": -0.04, "second": -0.01})
    ceiling: float | None = None


def row(split: str, metric: str, value: float | None, attribute: str = "", group: str = "") -> dict[str, Any]:
    return {"split": split, "metric": metric, "attribute": attribute, "group": group, "value": value} | {
        "low": None, "high": None, "n": 100
    }  # fmt: skip


def rows_of(world: World, configuration: RunConfiguration, level: float | None) -> list[dict[str, Any]]:
    c = configuration
    variant = [int(c.model_options.get("head") == "flatten"), int(10 * c.sam_from), int(10 * (c.sam_until or 0))]
    rng = np.random.default_rng(
        [c.seed, int(1000 * (level or 0)), int(1e4 * c.rho), len(c.effect)] + variant * any(variant)
    )
    alone = c.data_options.get("ceiling")
    own = world.noise * rng.standard_normal()
    shared = 0.01 * c.seed + 0.1 * (level or 0.0)
    if c.method == "sgd":
        change = 0.0 if alone is None else (world.ceiling or 0.0) - world.sgd_hard
    elif c.effect != "full":
        change = world.effects[c.effect]
    elif c.sam_until is not None or c.sam_from:
        change = world.sam_by_half["second" if c.sam_from else "first"]
    else:
        head = str(c.model_options.get("head", "pooled"))
        change = world.sam_by_head.get(head, world.by_rho.get(c.rho, world.sam_hard))
    hard = world.sgd_hard + shared + change + own
    easy = 0.02 + (world.sam_easy if c.method == "sam" else 0.0) + 0.1 * own
    gini = 0.8 + (world.gini_sam if c.method == "sam" else 0.0) + own
    collapsed = c.rho in world.collapsed and level is None
    accuracy = world.tuned.get((c.lr, c.weight_decay), 0.7)
    groups = [f"{h}, {e}" for h in HARD for e in EASY] if world.has_easy else list(HARD)
    found = [
        row("probe", "mean_group_probing_error", hard, "hard"),
        row("probe_placed", "mean_group_probing_error", hard, "hard"),
        *(row("probe", "group_probing_error", hard, "hard", group) for group in groups),
        row("train", "most_predicted_share", 1.0 if collapsed else 0.6),
        row("validation", "adjusted_accuracy", accuracy),
        row("validation", "adjusted_loss", 1 - accuracy),
        # On images without the training's correlation the order is another one.
        row("validation", "accuracy", 1 - accuracy),
        row("validation", "loss", accuracy),
        row("train", "gini_real", gini),
        row("train", "gini_phantom", gini + world.gini_phantom * (1 + 0.1 * rng.standard_normal())),
        row("train", "head_response_real", world.response["hard"], "hard"),
        row("train", "head_suppression", world.suppression["hard"] + own, "hard"),
        row("train", "gradient_scale", world.gradient_scale),
    ]
    found += [
        row("train", f"lorenz_{point}", share**power, group=f"{share:g}")
        for point, power in (("real", 4), ("phantom", 2))
        for share in (0.25, 0.5, 0.75)
    ]
    if not world.has_easy:
        return found
    found += [
        row("probe", "mean_group_probing_error", easy, "easy"),
        row("train", "head_response_real", world.response["easy"], "easy"),
        row("train", "head_suppression", world.suppression["easy"] + own, "easy"),
        row("train", "easy_association", world.association, "easy"),
        row("train", "chi_v", 0.8, "easy"),
        row("train", "chi_w", 0.9, "easy"),
    ]
    for k, label in enumerate(HARD):
        gap, factor = 2.0 + k + rng.standard_normal(), 0.7 + 0.02 * rng.standard_normal()
        drop = world.slope * (1 - factor) * gap + world.scatter * rng.standard_normal()
        values = {
            "weight_logit_gap_real": gap, "weight_logit_gap_last_layer": gap - drop,
            "weight_logit_gap_phantom": gap * 0.72, "easy_suppression_last_layer": factor,
        }  # fmt: skip
        found += [row("evaluate", name, value, group=f"label={label}") for name, value in values.items()]
    return found


def store(out: Path, world: World, configuration: RunConfiguration, title: str = "Made up") -> None:
    """Write the job's folder of one run."""
    c = configuration
    stages: dict[str, Any] = {}
    if world.untrained is not None:
        start = [each for each in rows_of(world, c, None) if each["metric"] != "mean_group_probing_error"]
        start.append(row("probe", "mean_group_probing_error", world.untrained + 0.001 * c.seed, "hard"))
        stages["untrained"] = {"level": None, "step": 0, "epoch": 0.0, "training_loss": 3.0, "rows": start}
    for step, level in enumerate((*LEVELS, None), 1):
        diverged = c.rho in world.diverged
        if diverged and level is None:
            continue
        loss = (0.9 * level if level else 0.01) * (world.loss_of_sam if c.method == "sam" else 1.0)
        stages["final" if level is None else f"loss-{level:g}"] = {
            "level": level, "step": step, "epoch": 1.0, "training_loss": loss, "rows": rows_of(world, c, level)
        }  # fmt: skip
    stored = {
        "configuration": c.as_dict(), "hash": c.hash, "title": title, "fingerprint": "f0",
        "differences": [], "skipped_files": 0,
        "evaluation": {"protocol": "fast"}, "seconds": {"training": 1.0, "evaluation": 1.0}, "versions": {"torch": "2"},
        "checkpoints": stages, "status": "diverged" if c.rho in world.diverged else "done",
    }  # fmt: skip
    directory = out / "runs" / c.hash
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rows.json").write_text(json.dumps(stored))


def base(**changes: Any) -> RunConfiguration:
    return RunConfiguration(**{"data": "cifar_mnist", "levels": LEVELS, "weight_decay": 5e-4, **changes})


def made(out: Path, world: World | None = None, design: Design | None = None, **changes: Any) -> PredictionData:
    """All trainings of one base setting in a world, stored and read back as real ones are."""
    world, design, setting = world or World(), design or Design(), base(**changes)
    for configuration in trainings(setting, design):
        if configuration.data_options.get("ceiling") and world.ceiling is None:
            continue
        store(out, world, configuration)
    return gathered(out, setting, design)


def gathered(out: Path, setting: RunConfiguration, design: Design, **evidence: Any) -> PredictionData:
    """What lies in a folder of runs, as predictions see it."""
    paths = write_results(out)
    return prediction_data(setting, design, read_results(paths[0]), read_settings(paths[1]), **evidence)
