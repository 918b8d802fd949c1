"""Results of one base setting in the form that the predictions use: by update rule, seed, level and checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from realdata.configuration import RunConfiguration
from realdata.predictions.intervals import MATCH, mean_per_seed, paired_differences
from realdata.predictions.runs import Design, ceiling, trainings, with_rule
from realdata.results.parquet import setting_of_values
from realdata.results.summary import SGD, Measure, Panel, Rule, Values, losses_match, panels, values_of
from realdata.sweeps.jobs import WAITING

if TYPE_CHECKING:
    import pandas as pd

    from realdata.predictions.filter_evidence import FilterEvidence


class NumberName(NamedTuple):
    """The columns of ``results.parquet`` that identify a number of a checkpoint."""

    split: str
    metric: str
    attribute: str
    group: str


@dataclass(frozen=True)
class At:
    """A checkpoint of a run with its numbers, see ``value``."""

    level: float | None
    training_loss: float
    step: int
    numbers: Mapping[NumberName, float]

    def value(self, metric: str, attribute: str = "", split: str = "train", group: str = "") -> float | None:
        """A number; None if it was not measured or has no value."""
        return self.numbers.get(NumberName(split, metric, attribute, group))

    def groups(self, metric: str, split: str, attribute: str = "") -> dict[str, float]:
        """The number of each group."""
        wanted = (split, metric, attribute)
        return {name.group: value for name, value in self.numbers.items() if name[:3] == wanted and name.group}


@dataclass(frozen=True)
class PredictionData:
    """All runs of one base setting.

    Attributes:
        base: configuration with SGD and seed 0. design: which further runs are trained.
        title: title of the data. setting: name of the base setting, as in ``results.parquet``.
        panel: runs of the base setting. tuned: runs with other pairs of learning rate and weight decay.
        runs: entries of ``results.json`` by hash; missing planned runs are "waiting".
        filter: measurement of R7; if it is None, ``filter_reason`` says why.
    """

    base: RunConfiguration
    design: Design
    title: str
    setting: str
    panel: Panel
    tuned: Mapping[tuple[float, float], Panel]
    runs: Mapping[str, Mapping[str, Any]]
    filter: FilterEvidence | None = None
    filter_reason: str = "not measured"
    _checkpoints: Mapping[str, Sequence[At]] = field(default_factory=dict, repr=False)
    _cache: dict[tuple[str, str, str, str], Values] = field(default_factory=dict, repr=False, compare=False)

    @property
    def target(self) -> str:
        """Target environment; empty if the data set has none."""
        return str(self.base.data_options.get("target") or "")

    @property
    def name(self) -> str:
        """Title of the data, and the target where there is one."""
        return f"{self.title}, target {self.target}" if self.target else self.title

    @property
    def has_easy(self) -> bool:
        """Whether an easy attribute was measured at any checkpoint."""
        return any(name.attribute == "easy" for found in self._checkpoints.values() for name in found[0].numbers)

    def checkpoints(self, rule: Rule, seed: int) -> Sequence[At]:
        """Checkpoints of a run without duplicates: a steep loss can pass several levels at one step."""
        found = self._stages(with_rule(self.base, rule, seed))
        return list({at.step: at for at in found if at.step}.values())

    def untrained(self, rule: Rule, seed: int) -> At | None:
        """The network of a run before its first step; None if it was not measured."""
        return next((at for at in self._stages(with_rule(self.base, rule, seed)) if not at.step), None)

    def ceiling(self, attribute: str, seed: int) -> At | None:
        """The final checkpoint of the network trained on one attribute alone; None if there is none."""
        trained = ceiling(self.base, attribute, seed)
        return self._end(trained) if trained is not None else None

    def final(self, rule: Rule, seed: int) -> At | None:
        """The final checkpoint of a run; None if it has none."""
        return self._end(with_rule(self.base, rule, seed))

    def at_end(
        self,
        configurations: Callable[[int], RunConfiguration],
        metric: str,
        attribute: str = "",
        split: str = "probe",
    ) -> dict[int, float]:
        """A number at the end of training, by seed, for runs that are no plain update rule of the base setting.

        Args:
            configurations: the run of a seed.
        """
        found = {}
        for seed in range(self.design.seeds):
            end = self._end(configurations(seed))
            number = end.value(metric, attribute, split) if end is not None else None
            if number is not None:
                found[seed] = number
        return found

    def _stages(self, configuration: RunConfiguration) -> Sequence[At]:
        return self._checkpoints.get(configuration.hash, ())

    def _end(self, configuration: RunConfiguration) -> At | None:
        # The untrained network has no level either, and step 0.
        return next((at for at in self._stages(configuration) if at.level is None and at.step), None)

    def status(self, rule: Rule, seed: int) -> tuple[str, str]:
        """Status and reason of a run."""
        run = self.runs.get(with_rule(self.base, rule, seed).hash, {"status": "waiting", "reason": "not run yet"})
        return str(run["status"]), str(run.get("reason") or "")

    def values(
        self, metric: str, attribute: str = "", split: str = "probe", pair: tuple[float, float] | None = None
    ) -> Values:  # fmt: skip
        """A measure by update rule, level and seed, for the base setting or for another pair."""
        panel = self.panel if pair is None or pair == (self.base.lr, self.base.weight_decay) else self.tuned[pair]
        key = (panel.setting, metric, attribute, split)
        if key not in self._cache:
            self._cache[key] = values_of(panel, Measure(metric, attribute, split, ""))
        return self._cache[key]

    def at(self, values: Values, rule: Rule, level: float | None) -> dict[int, float]:
        """Numbers of a cell by seed, for the planned seeds."""
        found = values.found.get((rule, self.target, level), {})
        return {seed: found[seed] for seed in sorted(found) if seed < self.design.seeds}

    def difference(self, values: Values, rule: Rule, level: float | None, to: Rule = SGD) -> dict[int, float]:
        """Paired differences from SGD by seed."""
        return paired_differences(self.at(values, rule, level), self.at(values, to, level))

    def matched_levels(self, values: Values, rules: Collection[Rule]) -> list[float]:
        """Levels at which the mean training losses of all rules match, over the seeds that all rules have."""
        return [level for level in self.panel.levels if level is not None and self._match(values, rules, level)]

    def _match(self, values: Values, rules: Collection[Rule], level: float) -> bool:
        losses = [values.loss.get((rule, self.target, level), {}) for rule in rules]
        shared = set.intersection(*(set(each) for each in losses)) & set(range(self.design.seeds))
        if not shared:
            return False
        means = [math.fsum(each[seed] for seed in shared) / len(shared) for each in losses]
        return losses_match(min(means), max(means), MATCH)

    def difference_at_levels(self, values: Values, rule: Rule, levels: Iterable[float]) -> dict[int, float]:
        """For each seed, the mean difference from SGD over the levels that both runs have."""
        found: dict[int, list[float]] = {}
        for level in levels:
            for seed, number in self.difference(values, rule, level).items():
                found.setdefault(seed, []).append(number)
        return mean_per_seed(found)

    def why_no_level(self, values: Values, rules: Collection[Rule]) -> str:
        """Reason why no level is matched: the mean losses at each level."""
        words = []
        for level in self.panel.levels:
            losses = [values.mean_loss((rule, self.target, level)) for rule in rules]
            if level is not None and all(loss is not None for loss in losses):
                words.append(f"{level:g}: " + " against ".join(f"{loss:.3g}" for loss in losses))
        if not words:
            return "no training-loss level that all methods reached"
        return f"no level at which the training losses lie within {MATCH - 1:.0%} of each other ({'; '.join(words)})"


def prediction_data(
    base: RunConfiguration,
    design: Design,
    rows: pd.DataFrame,
    runs: Mapping[str, Mapping[str, Any]],
    filter_evidence: FilterEvidence | None = None,
    filter_reason: str = "not measured",
) -> PredictionData:
    """Gather the runs of one base setting.

    Args:
        rows: result of :func:`realdata.results.parquet.read_results`.
        runs: entries of ``results.json`` by hash; missing planned runs count as not run yet.
    """
    planned = trainings(base, design)
    mine = {each.hash: runs.get(each.hash, _waiting(each)) for each in planned}
    own = rows[rows["run"].isin(list(mine))]
    by_setting = {panel.setting: panel for panel in panels(own, mine)}
    setting = setting_of_values(base.as_dict())
    tuning = {setting_of_values(each.as_dict()) for each in trainings(base, design, {"tuning"})}
    tuned = {
        (panel.configuration["lr"], panel.configuration["weight_decay"]): panel
        for name, panel in by_setting.items()
        if name in tuning
    }
    titles = [str(run["title"]) for run in mine.values() if run.get("title")]
    return PredictionData(
        base, design, titles[0] if titles else base.data, setting, by_setting[setting], tuned, mine, filter_evidence,
        filter_reason, _by_run(own),
    )  # fmt: skip


def _waiting(configuration: RunConfiguration) -> dict[str, Any]:
    return {"configuration": configuration.as_dict(), "status": WAITING, "reason": "not run yet"}


def _by_run(rows: pd.DataFrame) -> dict[str, list[At]]:
    """Checkpoints of each run in the order of their steps."""
    found: dict[str, dict[str, At]] = {}
    numbers: dict[tuple[str, str], dict[NumberName, float]] = {}
    columns = ("run", "checkpoint", "level", "training_loss", "step", "split", "metric", "attribute", "group", "value")
    for run, name, level, loss, step, *words, value in zip(*(rows[column] for column in columns), strict=True):
        if (run, name) not in numbers:
            numbers[run, name] = {}
            where = None if math.isnan(level) else float(level)
            found.setdefault(run, {})[name] = At(where, float(loss), int(step), numbers[run, name])
        if math.isfinite(value):
            numbers[run, name][NumberName(*words)] = float(value)
    return {run: sorted(each.values(), key=lambda at: at.step) for run, each in found.items()}
