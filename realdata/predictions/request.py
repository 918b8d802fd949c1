"""A request to ``predict``: base settings, design, predictions and the plan of all trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from realdata import datasets
from realdata.configuration import RunConfiguration
from realdata.predictions import PREDICTIONS, runs
from realdata.predictions.runs import Design
from realdata.settings.plan import Plan, make_plan

PLANNED = ("root", "roots", "out", "protocol", "evaluation_seed")
"""Settings that are passed to the plan unchanged."""

TRAIN_EXAMPLES = 1024
"""Number of training images on which a checkpoint is measured: half of the protocol's, to save time."""


PROBING: dict[str, Any] = {
    "train_examples": TRAIN_EXAMPLES,
    "readouts": ["placed"],
    "inverse_penalties": [1.0, 0.1, 0.01, 0.001, 0.0001],
    "patience": 1,
}
"""Options of the probing protocol that differ from its own."""


@dataclass(frozen=True)
class Request:
    """A request to ``predict``.

    Attributes:
        bases: base settings. design: what is trained for each of them. predictions: names, in order.
        plan: all trainings, folders of data and results, evaluation. embedding: embedding for the features of R7.
        untestable: predictions that need an easy attribute, by data set that has none.
    """

    bases: tuple[RunConfiguration, ...]
    design: Design
    predictions: tuple[str, ...]
    plan: Plan
    embedding: str
    untestable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def request_of(settings: Mapping[str, Any]) -> Request:
    """The request described by settings.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    given = dict(settings)
    quick = bool(given.pop("quick", False))
    if quick:
        given = {**runs.QUICK_REQUEST, **given}
    rho = given.get("rho")
    if isinstance(rho, list):
        raise ValueError(f"rho={rho!r}; allowed: one main radius (further ones belong to radii)")
    names = _chosen(given.pop("predictions", None))
    embedding = str(given.pop("embedding", None) or "pixels")
    if embedding != "pixels" and not embedding.startswith("frozen:"):
        raise ValueError(f"embedding={embedding!r}; allowed: pixels, or frozen:NAME")
    design = runs.design_of(given)
    bases = tuple(runs.base_settings(given, quick=quick))
    untestable = _untestable(bases, names)
    # Part after part, so that the comparison that most predictions need is there first.
    found: dict[str, RunConfiguration] = {}
    for part in runs.PARTS:
        for base in bases:
            tested = [name for name in names if name not in untestable.get(base.data, ())]
            needs = {need for name in tested for need in PREDICTIONS[name].needs}
            for each in runs.trainings(base, design, {part} & needs):
                found.setdefault(each.hash, each)
    shared: dict[str, Any] = {name: given[name] for name in PLANNED if name in given}
    # SGD's checkpoints are measured at SAM's radius, and few images are enough for a mean.
    probing = {**PROBING, "rho": design.rho, **(given.get("probe_options") or {})}
    first: dict[str, Any] = {"data": bases[0].data, "data_options": bases[0].data_options}
    plan = make_plan({**first, **shared, "probe_options": probing})
    plan = dataclasses.replace(plan, configurations=tuple(found.values()))
    return Request(bases, design, names, plan, embedding, untestable)


def _untestable(bases: Sequence[RunConfiguration], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each data set without an easy attribute, the predictions that need one.

    Raises:
        ValueError: if no data set can test any prediction, so that nothing is trained for nothing.
    """
    lacking = dict.fromkeys(base.data for base in bases if not datasets.spec(base.data).gives_easy(base.data_options))
    needing = tuple(name for name in names if PREDICTIONS[name].needs_easy)
    if needing == tuple(names) and len(lacking) == len({base.data for base in bases}):
        raise ValueError(
            f"predictions={','.join(names)} need an easy attribute, which {', '.join(lacking)} has not; allowed: "
            f"{', '.join(name for name, each in PREDICTIONS.items() if not each.needs_easy)}, or other data"
        )
    return {data: needing for data in lacking if needing}


def _chosen(names: Any) -> tuple[str, ...]:
    known = tuple(PREDICTIONS)
    if names is None:
        return known
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if name not in known:
            raise ValueError(f"predictions={name!r}; allowed: {', '.join(known)}")
    if not listed:
        raise ValueError(f"predictions is empty; allowed: {', '.join(known)}")
    return tuple(name for name in known if name in listed)
