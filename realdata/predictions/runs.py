"""Which trainings the predictions need: from a base setting per data set to update rules, radii, seeds and pairs of
learning rate and weight decay.

A *base setting* contains all settings of a training except update rule and seed. For each one, there are

``main``     SGD and SAM at the main radius, with all seeds;
``effects``  SAM that keeps one of its two effects, at the main radius, with all seeds;
``scan``     SAM at further radii, with the seeds of the scan;
``tuning``   SGD and SAM at the main radius with other learning rates and weight decays, with the seeds of the scan;
``heads``    SGD and SAM at the main radius, and LSAM if it has a radius, with the heads ``flatten`` and ``pooled``,
             with all seeds, for networks that have both;
``halves``   SAM at the main radius in the first half of the epochs only, and in the second half only, with all seeds;
             and
``ceiling``  SGD on the hard attribute alone and on the easy one alone (:mod:`realdata.datasets.ceiling`), with the
             seeds of the scan. A data set without an easy attribute has no such part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from realdata.configuration import RunConfiguration
from realdata.datasets.ceiling import EASY, HARD
from realdata.models.options import READOUTS, options, stored_options
from realdata.results.parquet import CEILING
from realdata.results.summary import SGD, Rule
from realdata.settings.completion import data_option_names
from realdata.settings.plan import CONFIGURATION_BYTES, SHARED, grids_of, make_plan, mapping, option_for
from realdata.values import convert_value
from sambalance_tools.memory import require_memory

PARTS = ("main", "effects", "scan", "tuning", "ceiling", "heads", "halves")
"""Parts of the trainings, in the order in which they are done."""

SCAN_FACTORS = (0.3, 3.0, 10.0)
"""Further radii of the scan, in units of the main one."""

HEADS = ("flatten", "pooled")
"""The heads that ``heads`` compares: one that knows the places of features, one that averages over them (C38)."""

TUNING_FACTORS = ((2.0, 1.0), (1.0, 10.0))
"""Further (learning rate, weight decay), in units of the base setting's; a weight decay of 0 becomes WEIGHT_DECAY."""

WEIGHT_DECAY = 5e-4

GENERAL: dict[str, Any] = {
    "model": "small_cnn", "weight_decay": WEIGHT_DECAY, "levels": [0.5, 0.3, 0.2, 0.1, 0.05, 0.02], "epochs": 10,
    "evaluations_per_epoch": 8, "evaluation_examples": 1000,
}  # fmt: skip
"""Settings of data sets that have no settings of their own below."""

PHOTOGRAPHS: dict[str, Any] = {"size": 32, "augmentation": "flip", "epochs": 6}

OWN: dict[str, dict[str, Any]] = {
    "cifar_mnist": {"epochs": 5},
    # Few images and a long training: the items are hard to learn beside the digits, and there is room to learn them.
    "fmnist_mnist": {
        "size": 16,
        "model": "paper_cnn",
        "lr": 0.1,
        "epochs": 40,
        "evaluations_per_epoch": 1,
        "data_options": {"classes": 10, "examples_per_class": 300},
    },
    "celeba": PHOTOGRAPHS,
    "waterbirds": {"size": 48, "augmentation": "flip", "epochs": 10},
    "pacs": {**PHOTOGRAPHS, "data_options": {"target": "sketch"}},
    "vlcs": {**PHOTOGRAPHS, "data_options": {"target": "SUN09"}},
    "office_home": {**PHOTOGRAPHS, "data_options": {"target": "Clipart"}},
    "terra_incognita": {**PHOTOGRAPHS, "data_options": {"target": "location_38"}},
    "domain_net": {**PHOTOGRAPHS, "data_options": {"target": "sketch"}},
    "colored_mnist": {"epochs": 5, "data_options": {"target": "-90%"}},
    "rotated_mnist": {"epochs": 3, "data_options": {"target": "75"}},
}
"""Settings of each data set, small enough for a CPU; flags and files override them."""

QUICK_REQUEST: dict[str, Any] = {"predictions": ["R8", "R13"], "seeds": 3, "scan_seeds": 3}
"""What a first look that takes minutes asks for: too few seeds for a result to publish."""

QUICK: dict[str, Any] = {
    "size": 16, "model": "paper_cnn", "lr": 0.1, "epochs": 25, "evaluations_per_epoch": 1, "levels": [0.001],
    "augmentation": "none",
}  # fmt: skip
"""Settings of a first look: too short a training for a result to publish."""

QUICK_IMAGES: dict[str, Any] = {"examples_per_class": 200, "validation": 0.03}
"""Images of a first look, for data sets that have these options."""

TAKEN = ("method", "effect", "rho", "seed", "seeds", "sam_from", "sam_until")
"""Settings that predict sets itself, so they are not allowed in a base setting."""


@dataclass(frozen=True)
class Design:
    """Radii and numbers of seeds to train for each base setting.

    Attributes:
        rho: main radius > 0. radii: further radii > 0. seeds: number of seeds of ``main`` and ``effects``, >= 1.
        scan_seeds: number of seeds of ``scan``, ``tuning`` and ``ceiling``, >= 1.
        lsam_rho: radius > 0 of last-layer SAM in ``heads``; None: it is not trained.

    Raises:
        ValueError: names the argument, its value and what is allowed.
    """

    rho: float = 0.1
    radii: tuple[float, ...] = ()
    seeds: int = 5
    scan_seeds: int = 3
    lsam_rho: float | None = None

    def __post_init__(self) -> None:
        own = [("rho", self.rho), *([] if self.lsam_rho is None else [("lsam_rho", self.lsam_rho)])]
        for name, value in (*own, *(("radii", radius) for radius in self.radii)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}={value!r}; allowed: finite numbers > 0")
        for name in ("seeds", "scan_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; allowed: a whole number >= 1")
            require_memory(f"{name}={getattr(self, name)}", getattr(self, name), 4 * CONFIGURATION_BYTES, "seeds")
        radii = self.radii or tuple(_rounded(factor * self.rho) for factor in SCAN_FACTORS)
        object.__setattr__(self, "radii", tuple(sorted({float(radius) for radius in radii} - {float(self.rho)})))

    @property
    def sam(self) -> Rule:
        """SAM at the main radius."""
        return "sam", "full", float(self.rho)

    @property
    def lsam(self) -> Rule | None:
        """Last-layer SAM, if it has a radius."""
        return None if self.lsam_rho is None else ("lsam", "full", float(self.lsam_rho))

    @property
    def effects(self) -> dict[str, Rule]:
        """Update rules of SAM's isolated effects at the main radius, by name."""
        return {effect: ("sam", effect, float(self.rho)) for effect in ("weights", "jacobian")}

    @property
    def all_radii(self) -> tuple[float, ...]:
        """All radii in ascending order, including 0 (SGD)."""
        return tuple(sorted({0.0, float(self.rho), *self.radii}))


def radius_rule(rho: float) -> Rule:
    """SGD for 0, SAM otherwise."""
    return ("sam", "full", rho) if rho else SGD


def tuning_pairs(base: RunConfiguration) -> tuple[tuple[float, float], ...]:
    """(Learning rate, weight decay), the base setting's first."""
    pairs = [(base.lr, base.weight_decay)]
    for rate, decay in TUNING_FACTORS:
        other = _rounded(decay * base.weight_decay) if base.weight_decay or decay == 1 else WEIGHT_DECAY
        pairs.append((_rounded(rate * base.lr), other))
    return tuple(dict.fromkeys(pairs))


def _rounded(value: float) -> float:
    """0.03 for 0.3 * 0.1, whose last bit differs."""
    return float(f"{value:.9g}")


def trainings(base: RunConfiguration, design: Design, parts: Collection[str] = PARTS) -> list[RunConfiguration]:
    """The trainings of one base setting, each once, in the order of their parts."""
    found: dict[str, RunConfiguration] = {}
    for part in PARTS:
        if part in parts:
            for configuration in _of_part(part, base, design):
                found.setdefault(configuration.hash, configuration)
    return list(found.values())


def _of_part(part: str, base: RunConfiguration, design: Design) -> list[RunConfiguration]:
    few, all_seeds = range(design.scan_seeds), range(design.seeds)
    if part == "main":
        return [with_rule(base, rule, seed) for seed in all_seeds for rule in (SGD, design.sam)]
    if part == "effects":
        return [with_rule(base, rule, seed) for seed in all_seeds for rule in design.effects.values()]
    if part == "scan":
        return [with_rule(base, radius_rule(radius), seed) for seed in few for radius in design.radii]
    if part == "heads":
        rules = [SGD, design.sam, *([] if design.lsam is None else [design.lsam])]
        return [
            with_rule(with_head(base, head), rule, seed)
            for seed in all_seeds
            for head in (HEADS if has_heads(base) else ())
            for rule in rules
        ]
    if part == "halves":
        sam = [with_rule(base, design.sam, seed) for seed in all_seeds]
        return [half for each in sam for half in (first_half(each), second_half(each))]
    if part == "ceiling":
        found = [ceiling(base, attribute, seed) for seed in few for attribute in (HARD, EASY)]
        return [configuration for configuration in found if configuration is not None]
    return [
        with_rule(base.replace(lr=rate, weight_decay=decay), rule, seed)
        for seed in few
        for rate, decay in tuning_pairs(base)[1:]
        for rule in (SGD, design.sam)
    ]


def ceiling(base: RunConfiguration, attribute: str, seed: int) -> RunConfiguration | None:
    """The base setting trained by SGD on one attribute alone, ``"hard"`` or ``"easy"``; None if the data set has none
    such."""
    if CEILING not in data_option_names(base.data):
        return None
    return with_rule(base.replace(data_options={**base.data_options, CEILING: attribute}), SGD, seed)


def with_rule(base: RunConfiguration, rule: Rule, seed: int) -> RunConfiguration:
    """The base setting with this update rule and seed."""
    method, effect, rho = rule
    return base.replace(method=method, effect=effect, rho=rho, seed=seed)


def has_heads(base: RunConfiguration) -> bool:
    """Whether the network of a base setting can have each of :data:`HEADS`."""
    head = options(base.model).get("head")
    return head in READOUTS


def with_head(base: RunConfiguration, head: str) -> RunConfiguration:
    """The base setting with another head."""
    if base.model_options.get("head", options(base.model)["head"]) == head:
        return base
    return base.replace(model_options=stored_options(base.model, {**base.model_options, "head": head}))


def first_half(sam: RunConfiguration) -> RunConfiguration:
    """SAM until half of the epochs, then plain training."""
    return sam.replace(sam_until=sam.epochs / 2)


def second_half(sam: RunConfiguration) -> RunConfiguration:
    """Plain training until half of the epochs, then SAM."""
    return sam.replace(sam_from=sam.epochs / 2)


def base_settings(settings: Mapping[str, Any], *, quick: bool = False) -> list[RunConfiguration]:
    """Base settings from a file or flags, as configurations with SGD and seed 0.

    Defaults are in :data:`OWN` and :data:`GENERAL`.

    Args:
        settings: as for :func:`realdata.settings.plan.make_plan`. A list is an axis; each combination is a base
            setting.
        quick: use the defaults of a first look, :data:`QUICK`.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    grids = grids_of(settings)
    shared = {name: value for name, value in settings.items() if name != "grids" and name not in SHARED}
    found: dict[str, RunConfiguration] = {}
    for grid in grids:
        for name in TAKEN:
            if name in shared or name in grid:
                raise ValueError(
                    f"setting {name!r} of a base setting is set by predict; allowed: rho and seeds outside of grids"
                )
        given = {**shared, **grid}
        for data in _names(given.get("data")):
            options = {
                name: _merged(name, data, quick, given, shared, grid) for name in ("data_options", "model_options")
            }
            own = _own(data, quick)
            complete = {**GENERAL, **own, **given, **options, "data": data, "seed": [0]}
            for configuration in make_plan({"grids": [complete]}).configurations:
                found.setdefault(configuration.hash, configuration)
    return list(found.values())


def _names(data: Any) -> Sequence[str]:
    if not data or not isinstance(data, (str, list)):
        raise ValueError(f"data={data!r}; allowed: the name of a data set, or a list of them")
    return [data] if isinstance(data, str) else data


def _own(data: str, quick: bool) -> dict[str, Any]:
    """Default settings of a data set; those of a quick look go before."""
    own = dict(OWN.get(data, {}))
    if quick:
        known = data_option_names(data)
        images = {name: value for name, value in QUICK_IMAGES.items() if name in known}
        own |= {**QUICK, "data_options": {**own.get("data_options", {}), **images}}
    return own


def _merged(
    name: str, data: str, quick: bool, given: Mapping[str, Any], shared: Mapping[str, Any], grid: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """Options for one of several data sets, overriding its defaults."""
    found = dict(_own(data, quick).get(name, {}))
    for part in (shared, grid):
        for key, value in mapping(name, part.get(name) or {}).items():
            option = option_for(data, key, _names(given["data"])) if name == "data_options" else key
            if option is not None:
                found[option] = value
    return found


def design_of(settings: dict[str, Any]) -> Design:
    """The design given by settings, which are removed from ``settings``."""
    values: dict[str, Any] = {}
    for name, kind in (("rho", float), ("seeds", int), ("scan_seeds", int), ("lsam_rho", float)):
        if settings.get(name) is not None:
            values[name] = convert_value(name, settings[name], kind)
        settings.pop(name, None)
    radii = settings.pop("radii", None)
    if radii is not None:
        listed = radii if isinstance(radii, (list, tuple)) else [radii]
        values["radii"] = tuple(convert_value("radii", radius, float) for radius in listed)
    return Design(**values)
