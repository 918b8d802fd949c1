"""The top of the page: question, data, answer, number of trainings, caveats; and trainings without a result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from realdata.html.verdicts import Verdicts, difference_words, number_of
from realdata.predictions.prediction import ABSENT, CONTRADICTED, HOLDS, NO_RANGE, REVERSED
from realdata.results.summary import ALL_TARGETS, MEASURES, Panel, ceiling_of, rule_name, rule_of, values_of
from realdata.results.tables import excludes_zero
from realdata.sweeps.jobs import DIVERGED, DONE, FAILURE

MANY_MISSING = 0.05
"""If the share of trainings without a result is larger, this is the first caveat."""

FEW_SEEDS = 5

STATES = {DONE: "done", DIVERGED: "diverged", FAILURE: "failed", "missing": "missing"}
"""Possible states of a training. One that is neither done, diverged nor failed is unfinished and counts as missing."""

Runs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Lost:
    """Trainings of one update rule without a result, for the same reason."""

    data: str
    rule: str
    seeds: str
    state: str
    reason: str


@dataclass(frozen=True)
class Group:
    """A panel with its name: title, targets, and the settings that differ from panels with the same title."""

    panel: Panel
    name: str
    differs: str


def state_of(run: Mapping[str, Any]) -> str:
    """State of a training, one of :data:`STATES`."""
    return str(run["status"]) if run["status"] in STATES else "missing"


def counts(runs: Runs) -> dict[str, int]:
    """Number of trainings in each state."""
    states = [state_of(run) for run in runs.values()]
    return {state: states.count(state) for state in STATES}


def count_words(found: Mapping[str, int]) -> str:
    """``188 trainings: 180 done, 3 diverged, 2 failed, 3 missing``."""
    total = sum(found.values())
    words = ", ".join(f"{count} {STATES[state]}" for state, count in found.items())
    return f"{total} training{'s' if total != 1 else ''}: {words}"


def groups(panels: Sequence[Panel], first: Iterable[str] = ()) -> list[Group]:
    """Panels with their names; panels with the settings in ``first`` come first."""
    wanted = list(first)
    made = []
    for panel in sorted(panels, key=lambda panel: panel.setting not in wanted):
        data = panel.configuration["data"]
        same = [other for other in panels if other.configuration["data"] == data]
        # A panel without results has the name of its data set for a title.
        titles = {other.title for other in same if other.title != data}
        title = titles.pop() if panel.title == data and len(titles) == 1 else panel.title
        aims = ", ".join(target for target in panel.targets if target)
        made.append(Group(panel, title + (f", target {aims}" if aims else ""), _differs(panel, same)))
    return made


def _differs(panel: Panel, others: Sequence[Panel]) -> str:
    flat = [_flat(other.configuration) for other in others]
    words = []
    for name, value in _flat(panel.configuration).items():
        if name not in ("method", "effect", "rho", "seed", "target") and any(
            other.get(name) != value for other in flat
        ):
            words.append(f"{name.replace('_', ' ')} {'none' if value is None else value}")
    return ", ".join(words)


def _flat(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the options of data and model at the same level."""
    plain = {name: value for name, value in configuration.items() if not isinstance(value, Mapping)}
    return {**plain, **configuration.get("data_options", {}), **configuration.get("model_options", {})}


def settings_of(configuration: Mapping[str, Any]) -> list[tuple[str, str]]:
    """All settings except update rule and seed, as text."""
    found = []
    for name, value in configuration.items():
        if name in ("method", "effect", "rho", "seed"):
            continue
        pairs = value.items() if isinstance(value, Mapping) else [("", value)]
        found += [(" ".join(f"{name} {option}".split()).replace("_", " "), _written(each)) for option, each in pairs]
    return found


def _written(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_written, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def lost_runs(found: Sequence[Group]) -> list[Lost]:
    """Trainings without a result; those with the same rule and reason share a line."""
    seeds: dict[tuple[str, str, str, str], list[int]] = {}
    for group in found:
        several = len(group.panel.targets) > 1
        alone = [run for panel in group.panel.ceilings.values() for run in panel.runs.values()]
        for run in (*group.panel.runs.values(), *alone):
            state = state_of(run)
            if state == DONE:
                continue
            values = run["configuration"]
            place = group.name if not several else f"{group.panel.title}, target {values['data_options'].get('target')}"
            place += f" ({group.differs})" if group.differs else ""
            reason = str(run.get("reason") or "")
            if state == DIVERGED and not reason:
                reason = "loss or weights were no longer finite; levels reached before are measured"
            attribute = ceiling_of(values)
            rule = rule_name(rule_of(values)) + (f" on the {attribute} attribute alone" if attribute else "")
            seeds.setdefault((place, rule, state, reason), []).append(int(values["seed"]))
    return [
        Lost(data, rule, ", ".join(map(str, sorted(numbers))), STATES[state], reason or "no reason was recorded")
        for (data, rule, state, reason), numbers in seeds.items()
    ]


@dataclass(frozen=True)
class Top:
    """The five lines at the top, and the caveats. The first caveat is the most important one and is the fifth line."""

    asked: str
    data: str
    answer: str
    runs: str
    caveats: tuple[str, ...]


def top_of(verdicts: Verdicts | None, found: Sequence[Group], runs: Runs) -> Top:
    """The top of the page."""
    sets = verdicts.places if verdicts else [group.panel for group in found]
    differences = {each.title: difference_words(each.differences) for each in sets}
    titles = list(differences)
    data = f"{len(titles)} data set{'s' if len(titles) != 1 else ''}: {'; '.join(titles)}."
    if verdicts is None:
        asked = "What does SAM change against SGD at the same seed? No predictions were judged in this folder."
        answer = _answer_without_verdicts(found)
    else:
        names = [each.name for each in verdicts.predicted]
        span = f"prediction {names[0]}" if len(names) == 1 else f"predictions {_in_spans(names)}"
        asked = (
            f"{'Does' if len(names) == 1 else 'Do'} the theory's {span} of what SAM does to easy and hard features hold"
            " for networks trained on real images?"
        )
        answer = _answer(verdicts)
    return Top(
        asked, data, answer, count_words(counts(runs)) + ".", tuple(_caveats(verdicts, found, runs, differences))
    )


FURTHER = {REVERSED: "are reversed", ABSENT: "are absent", NO_RANGE: "have no dynamic range"}
"""Words for verdicts that are only mentioned where they are given."""


def _in_spans(names: Sequence[str]) -> str:
    """``R1 to R8, R12, R13``."""
    spans: list[list[str]] = []
    for name in names:
        if spans and number_of(name) == number_of(spans[-1][-1]) + 1:
            spans[-1].append(name)
        else:
            spans.append([name])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(span) for span in spans)


def _answer(verdicts: Verdicts) -> str:
    c = verdicts.counts
    total = len(verdicts.all_found)
    further = "".join(f", {c[word]} {words}" for word, words in FURTHER.items() if c[word])
    text = f"Of {total} verdicts {c['holds']} hold, {c['fails']} fail{further} and {c['undecided']} are undecided."
    kinds: dict[str, list[str]] = {f"{kind} wherever decided": [] for kind in ("Holds", "Contradicted")}
    kinds |= {"Mixed": [], "Decided nowhere": []}
    for each in verdicts.predicted:
        holds, fails = each.counts["holds"], sum(each.counts[word] for word in CONTRADICTED)
        if holds and fails:
            kinds["Mixed"].append(f"{each.name} (holds on {holds}, contradicted on {fails})")
        elif holds or fails:
            kind = "Holds wherever decided" if holds else "Contradicted wherever decided"
            kinds[kind].append(f"{each.name} (on {holds or fails} of {len(each.found)})")
        else:
            kinds["Decided nowhere"].append(each.name)
    return " ".join([text, *(f"{kind}: {', '.join(names)}." for kind, names in kinds.items() if names)])


def _answer_without_verdicts(found: Sequence[Group]) -> str:
    """Sentence: how many differences in hard probing error at the end have an interval that excludes 0."""
    below = above = total = 0
    for group in found:
        panel = group.panel
        target = ALL_TARGETS if len(panel.targets) > 1 else panel.targets[0]
        values = values_of(panel, MEASURES[0])
        cells = [values.difference((rule, target, None)) for rule in panel.rules if rule[0] != "sgd"]
        for cell in cells:
            total += cell.mean is not None
            if excludes_zero(cell) and cell.mean is not None:
                below, above = below + (cell.mean < 0), above + (cell.mean > 0)
    if not total:
        return "There is no difference of hard probing errors at the end of training to report."
    return (
        f"Of {total} differences of the hard probing error at the end of training, {below} lie below 0 with their whole"
        f" interval (lower is better), {above} above, {total - below - above} on neither side."
    )


def _caveats(
    verdicts: Verdicts | None, found: Sequence[Group], runs: Runs, differences: Mapping[str, str]
) -> Iterable[str]:  # fmt: skip
    """Caveats, the most important first. ``differences``: differences from the published data, by title."""
    c = counts(runs)
    lost = c["missing"] + c[FAILURE]
    missing = f"{lost} of {len(runs)} trainings have no result; verdicts and means that need them may still change"
    if lost > MANY_MISSING * len(runs):
        yield missing + " (see where it failed)."
    base = {place.key[1] for place in verdicts.places} if verdicts else set()
    judged = [group for group in found if not base or group.panel.setting in base]
    seeds = sorted({group.panel.seeds for group in judged})
    if seeds and seeds[0] < 3:
        yield f"Some intervals rest on {seeds[0]} seed{'s' if seeds[0] > 1 else ''}; below 3 nothing can be decided."
    other = {title: words for title, words in differences.items() if words}
    if other:
        yield (
            f"{len(other)} of {len(differences)} data sets {'is' if len(other) == 1 else 'are'} not the published one"
            f"{'' if len(other) == 1 else 's'}: {'; '.join(f'{title} is {words}' for title, words in other.items())}."
            " What is seen there need not hold for the published data."
        )
    scale = _scale(judged)
    if scale:
        yield f"Scale: {scale}. Larger networks, images and budgets may behave differently."
    if seeds and seeds[0] <= FEW_SEEDS:
        span = f"{seeds[0]}" if seeds[0] == seeds[-1] else f"{seeds[0]} to {seeds[-1]}"
        yield f"Intervals are Student's over {span} seeds, which assumes that the seeds' numbers are about normal."
    decided = sum(verdicts.counts[word] for word in (HOLDS, *CONTRADICTED)) if verdicts else 0
    if verdicts and verdicts.corrected:
        yield (
            "p-values are corrected over the parts and data sets of each prediction, but not over the predictions; the"
            " verdicts of R4 and R7 rest on intervals that are not corrected."
        )
    elif decided:
        yield (
            f"Each verdict rests on its own interval; nothing is corrected for their number ({decided} decided): of"
            " twenty intervals about one misses by chance alone."
        )
    elif verdicts is None:
        yield "Differences are many, and of twenty intervals about one excludes 0 by chance alone."
    if 0 < lost <= MANY_MISSING * len(runs):
        yield missing + "."
    if c[DIVERGED]:
        yield f"{c[DIVERGED]} training{'s' if c[DIVERGED] > 1 else ''} diverged; only what was reached before counts."


def _scale(found: Sequence[Group]) -> str:
    """Description of the models, image sizes and epochs."""
    configurations = [group.panel.configuration for group in found]
    models = sorted({re.sub(r"_", " ", str(each["model"])) for each in configurations})
    sizes = sorted({int(each["size"]) for each in configurations if each.get("size")})
    epochs = sorted({int(each["epochs"]) for each in configurations})
    if not models:
        return ""
    words = [f"{', '.join(models)}"]
    words += [f"images of {' or '.join(map(str, sizes))} pixels"] if sizes else []
    words += [f"{epochs[0]} epochs" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]} epochs"]
    return ", ".join(words)
