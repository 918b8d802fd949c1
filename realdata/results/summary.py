"""Content of tables and figures: means over seeds, differences from SGD at the same seed, reasons for empty cells.

A *panel* is all runs that differ only in the update rule, the seed and the target environment. Runs are compared at the
first crossing of a training-loss level (matched loss) and at the end of training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from realdata.configuration import METHODS, STORED_NAMES
from realdata.datasets.base import DIFFERENCES
from realdata.results.parquet import CEILING, setting_of_values
from realdata.training.checkpoints import UNTRAINED
from sambalance_tools.statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd

DEFAULTS_SHOWN = ("model", "epochs", "base", "lr", "momentum", "weight_decay", "batch_size", "schedule", "augmentation")
"""Settings that the heading of a panel always contains; others appear only if they differ from the default."""

ALL_TARGETS = "mean of targets"

Rule = tuple[str, str, float]
"""Method, effect, rho."""

SGD: Rule = ("sgd", "full", 0.0)

Key = tuple[Rule, str, float | None]
"""A cell: update rule, target, training-loss level (None: the end)."""


@dataclass(frozen=True)
class Measure:
    """A measure to compare: metric, attribute and split of the results, a title, and whether larger is better."""

    metric: str
    attribute: str
    split: str
    title: str
    lower_is_better: bool = True


MEASURES = (
    Measure("probing_error", "hard", "probe", "Hard probing error"),
    Measure("probing_error", "easy", "probe", "Easy probing error"),
    Measure("worst_group_probing_error", "hard", "probe", "Hard probing error, worst group"),
    Measure("worst_group_accuracy", "", "test", "Worst-group accuracy", lower_is_better=False),
    Measure("accuracy", "", "test", "Accuracy", lower_is_better=False),
    Measure("gini_real", "", "train", "Gini coefficient of the example weights"),
    Measure("gini_phantom", "", "train", "Gini coefficient at the phantom point"),
    Measure("probing_log_loss", "hard", "probe", "Hard probing log loss (nats)"),
    Measure("probing_log_loss", "easy", "probe", "Easy probing log loss (nats)"),
)


@dataclass(frozen=True)
class Cell:
    """A mean over seeds.

    Attributes:
        mean: None if there is no value. half: half width of the 95 % t-interval; None with fewer than two seeds.
        n: number of seeds. planned: number of planned seeds. reasons: why seeds are missing, one line per reason.
    """

    mean: float | None
    half: float | None
    n: int
    planned: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """All runs of one setting.

    Attributes:
        title: title of the data. differences: differences from the published images (:mod:`realdata.datasets.base`);
            None if the runs are of an earlier version.
        setting: name of the setting. configuration: configuration of one of its runs.
        rows: results of its runs. untrained: the same of their networks before the first step.
        runs: entries of ``results.json`` by run.
        ceilings: for "hard" and "easy", as far as planned, the panel of the runs that are trained on this attribute
            alone (:mod:`realdata.datasets.ceiling`).
        rules, targets, levels: those of the planned runs, in order; the last level is None, the end of training.
    """

    title: str
    differences: tuple[str, ...] | None
    setting: str
    configuration: Mapping[str, Any]
    rows: pd.DataFrame
    untrained: pd.DataFrame
    runs: Mapping[str, Mapping[str, Any]]
    rules: tuple[Rule, ...]
    targets: tuple[str, ...]
    levels: tuple[float | None, ...]
    ceilings: Mapping[str, Panel] = field(default_factory=dict)

    @property
    def seeds(self) -> int:
        """Number of seeds among the planned runs."""
        return len({run["configuration"]["seed"] for run in self.runs.values()})


def rule_of(values: Mapping[str, Any]) -> Rule:
    """The update rule of a configuration or of a row."""
    return str(values["method"]), str(values["effect"]), float(values["rho"])


def rule_name(rule: Rule) -> str:
    """``SAM, rho = 0.1``."""
    method, effect, rho = rule
    names = {"linf_sam": "SAM (max norm)"}
    words = [names.get(method, method.upper())]
    words += [f"{effect} only"] if effect != "full" else []
    words += [f"rho = {rho:g}"] if rho else []
    return ", ".join(words)


def panels(rows: pd.DataFrame, runs: Mapping[str, Mapping[str, Any]]) -> list[Panel]:
    """Panels in the order of their data and setting; ``runs`` as in ``results.json``."""
    by_setting: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for name, run in runs.items():
        values = run["configuration"]
        by_setting.setdefault((values["data"], setting_of_values(values)), {})[name] = run
    return [_whole_panel(setting, members, rows) for (_, setting), members in sorted(by_setting.items())]


def _whole_panel(setting: str, members: Mapping[str, Mapping[str, Any]], rows: pd.DataFrame) -> Panel:
    """The panel with those of its ceilings; a ceiling stands alone if nothing else was planned."""
    parts: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, run in members.items():
        parts.setdefault(ceiling_of(run["configuration"]), {})[name] = run
    own = parts.pop("", None) or parts.pop(min(parts))
    ceilings = {attribute: _panel(setting, runs, rows) for attribute, runs in sorted(parts.items())}
    return replace(_panel(setting, own, rows), ceilings=ceilings)


def ceiling_of(configuration: Mapping[str, Any]) -> str:
    """The attribute on which a run is trained alone; empty for other runs."""
    return str(configuration["data_options"].get(CEILING) or "")


def _panel(setting: str, runs: Mapping[str, Mapping[str, Any]], rows: pd.DataFrame) -> Panel:
    configurations = [run["configuration"] for run in runs.values()]
    titles = sorted({run["title"] for run in runs.values() if run.get("title")})
    levels = sorted({float(level) for values in configurations for level in values["levels"]}, reverse=True)
    own = rows[rows["run"].isin(list(runs))]
    return Panel(
        title=" / ".join(titles) or configurations[0]["data"],
        differences=_differences(runs),
        setting=setting,
        configuration=configurations[0],
        rows=own[own["checkpoint"] != UNTRAINED],
        untrained=own[own["checkpoint"] == UNTRAINED],
        runs=runs,
        rules=tuple(sorted({rule_of(values) for values in configurations}, key=_rule_order)),
        targets=tuple(sorted({str(values["data_options"].get("target") or "") for values in configurations})),
        levels=(*levels, None),
    )


def _differences(runs: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...] | None:
    known = [run["differences"] for run in runs.values() if "differences" in run]
    if not known and any(run.get("title") for run in runs.values()):
        return None
    return tuple(each for each in DIFFERENCES if any(each in found for found in known))


def _rule_order(rule: Rule) -> tuple[int, str, float]:
    method, effect, rho = rule
    return METHODS.index(method), effect, rho


@dataclass(frozen=True)
class Values:
    """One number per cell and seed.

    Attributes:
        found: the numbers. missing: reasons for planned runs without a number.
        loss: training loss at which each number was measured.
    """

    found: Mapping[Key, Mapping[int, float]]
    missing: Mapping[Key, Mapping[int, str]]
    loss: Mapping[Key, Mapping[int, float]]

    def cell(self, key: Key) -> Cell:
        """Mean over seeds."""
        values, missing = self.found.get(key, {}), self.missing.get(key, {})
        return _cell(list(values.values()), len(values) + len(missing), _grouped(missing))

    def difference(self, key: Key) -> Cell:
        """Mean difference from SGD at the same seed, target and level."""
        values, plain = self.found.get(key, {}), self.found.get(plain_key(key), {})
        pairs = [values[seed] - plain[seed] for seed in sorted(values) if seed in plain]
        planned = len(values) + len(self.missing.get(key, {}))
        alone = {seed: "no SGD run of this seed to compare with" for seed in values if seed not in plain}
        return _cell(pairs, planned, _grouped({**self.missing.get(key, {}), **alone}))

    def mean_loss(self, key: Key) -> float | None:
        """Training loss at the cell, averaged over seeds."""
        losses = list(self.loss.get(key, {}).values())
        return sum(losses) / len(losses) if losses else None


def losses_match(first: float, second: float, factor: float) -> bool:
    """Whether two training losses (> 0) differ by at most this factor, so that measures there can be compared."""
    return max(first, second) <= factor * min(first, second)


def plain_key(key: Key) -> Key:
    """The cell of SGD with which a cell is compared."""
    return SGD, key[1], key[2]


def values_of(panel: Panel, measure: Measure) -> Values:
    """All numbers of a measure in a panel; with several targets also their mean, for seeds that have all of them."""
    rows = panel.rows
    chosen = rows[
        (rows["metric"] == measure.metric) & (rows["attribute"] == measure.attribute)
        & (rows["split"] == measure.split) & (rows["group"] == "")
    ]  # fmt: skip
    by_run: dict[str, dict[float | None, tuple[float, float]]] = {}
    for row in chosen.itertuples():
        level = None if math.isnan(row.level) else float(row.level)
        by_run.setdefault(row.run, {})[level] = (float(row.value), float(row.training_loss))
    measured = set(chosen["run"])
    found: dict[Key, dict[int, float]] = {}
    missing: dict[Key, dict[int, str]] = {}
    loss: dict[Key, dict[int, float]] = {}
    for name, run in panel.runs.items():
        values = run["configuration"]
        seed, target = int(values["seed"]), str(values["data_options"].get("target") or "")
        for level in panel.levels:
            key = rule_of(values), target, level
            number, at = by_run.get(name, {}).get(level, (math.nan, math.nan))
            if math.isfinite(number):
                found.setdefault(key, {})[seed] = number
                loss.setdefault(key, {})[seed] = at
            else:
                reason = _why(run, level, level in by_run.get(name, {}), name in measured)
                missing.setdefault(key, {})[seed] = reason
    if len(panel.targets) > 1:
        _add_mean_of_targets(panel, found, missing, loss)
    return Values(found, missing, loss)


def baselines(panel: Panel, measure: Measure) -> dict[str, Values]:
    """Numbers with which a probing measure is compared, by name, under the keys of SGD: those of the untrained network
    (at the end alone) and of the network trained on the measure's attribute alone, as far as they were measured."""
    if not measure.split.startswith("probe"):
        return {}
    found = {"untrained network": values_of(_untrained_panel(panel), measure)}
    if measure.attribute in panel.ceilings:
        ceiling = values_of(panel.ceilings[measure.attribute], measure)
        found[f"SGD on the {measure.attribute} attribute alone"] = ceiling
    return {name: values for name, values in found.items() if values.found}


def _untrained_panel(panel: Panel) -> Panel:
    """The untrained networks as runs of SGD, one per seed and target, because all update rules start from the same."""
    measured = set(panel.untrained["run"])
    runs: dict[tuple[int, str], tuple[str, Mapping[str, Any]]] = {}
    for name, run in panel.runs.items():
        values = run["configuration"]
        if name in measured:
            as_sgd = {**values, "method": SGD[0], "effect": SGD[1], "rho": SGD[2]}
            place = int(values["seed"]), str(values["data_options"].get("target") or "")
            runs.setdefault(place, (name, {**run, "configuration": as_sgd}))
    return replace(panel, rows=panel.untrained, runs=dict(runs.values()), rules=(SGD,), levels=(None,))


def _why(run: Mapping[str, Any], level: float | None, undefined: bool, measured: bool) -> str:
    """Why a planned run has no number.

    Args:
        undefined: whether it was measured there without a value. measured: whether it was measured at other
            checkpoints.
    """
    if undefined:
        return "not defined on this data (a group without images)"
    if run["status"] == "diverged":
        return "the training diverged before" if level is not None else "the training diverged"
    if run["status"] != "done":
        return str(run["reason"] or run["status"])
    if measured and level is not None:
        return "training ended above this loss"
    return "not measured on this data"


def _add_mean_of_targets(
    panel: Panel, found: dict[Key, dict[int, float]], missing: dict[Key, dict[int, str]],
    loss: dict[Key, dict[int, float]],
) -> None:  # fmt: skip
    for rule in panel.rules:
        for level in panel.levels:
            keys = [(rule, target, level) for target in panel.targets]
            seeds = sorted({seed for key in keys for seed in (*found.get(key, {}), *missing.get(key, {}))})
            whole: Key = (rule, ALL_TARGETS, level)
            for seed in seeds:
                lacking = [key[1] for key in keys if seed not in found.get(key, {})]
                if lacking:
                    missing.setdefault(whole, {})[seed] = f"no value for target {', '.join(lacking)}"
                else:
                    found.setdefault(whole, {})[seed] = sum(found[key][seed] for key in keys) / len(keys)
                    loss.setdefault(whole, {})[seed] = sum(loss[key][seed] for key in keys) / len(keys)


def _cell(values: Sequence[float], planned: int, reasons: tuple[str, ...]) -> Cell:
    if not values:
        return Cell(None, None, 0, planned, reasons)
    mean, half = t_interval(values)
    return Cell(mean, half, len(values), planned, reasons)


def _grouped(missing: Mapping[int, str]) -> tuple[str, ...]:
    by_reason: dict[str, list[int]] = {}
    for seed, reason in sorted(missing.items()):
        by_reason.setdefault(reason, []).append(seed)
    return tuple(
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {reason}"
        for reason, seeds in by_reason.items()
    )


def describe_setting(configuration: Mapping[str, Any]) -> str:
    """The setting that a panel's runs share, in one paragraph."""
    from realdata.results.parquet import RULE
    from realdata.settings.completion import DEFAULTS

    defaults = {STORED_NAMES.get(name, name): value for name, value in DEFAULTS.items()}
    words = []
    for name, value in configuration.items():
        if name in (*RULE, "data", "data_options", "model_options", "levels"):
            continue
        if name in DEFAULTS_SHOWN or value != defaults[name]:
            words.append(f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else _words(name, value))
    options = {**configuration["data_options"], **configuration["model_options"]}
    options = {name: value for name, value in options.items() if name != "target"}
    words += [_words(name, value) for name, value in options.items()]
    return "Setting: " + ", ".join(words) + "."


def _words(name: str, value: Any) -> str:
    return f"{name.replace('_', ' ')} {'none' if value is None else value}"


def versions_of(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Versions with which runs were computed, one line per set of versions."""
    found = sorted({json.dumps(run["versions"], sort_keys=True) for run in runs.values() if "versions" in run})
    return [", ".join(f"{name} {version}" for name, version in json.loads(each).items()) for each in found]
