"""The plan of a sweep: settings from a file or flags, expanded into all configurations."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realdata.configuration import MOST_SEED, RunConfiguration
from realdata.settings.completion import FORMER_NAMES, TYPES, complete, data_option_names
from realdata.values import convert_value
from sambalance_tools.checks import require_whole
from sambalance_tools.memory import require_memory

SHARED = ("root", "roots", "out", "seeds", "grids", "protocol", "probe_options", "evaluation_seed")
"""Settings of a file in addition to those of :class:`RunConfiguration`."""


CONFIGURATION_BYTES = 4096
"""Memory of a training in a plan."""


@dataclass(frozen=True)
class Plan:
    """A sweep.

    Attributes:
        configurations: the trainings, in order. All trainings of seed 0 come first, so that an interrupted sweep has
            complete comparisons.
        root: folder of the data. roots: folders of single data sets that are stored elsewhere.
        out: folder of the results.
        protocol: name of a probing protocol. probe_options: changes to it. evaluation_seed: seed of the evaluation.
    """

    configurations: tuple[RunConfiguration, ...]
    root: str | None
    roots: Mapping[str, str]
    out: str
    protocol: str = "fast"
    probe_options: Mapping[str, Any] = field(default_factory=dict)
    evaluation_seed: int = 0

    def root_of(self, data: str) -> str:
        """Absolute path of a data set's folder; a ValueError if it is not given or does not exist."""
        root = self.roots.get(data, self.root)
        if root is None:
            raise ValueError(f"root of {data} is not given; allowed: --root DIR, or root: DIR in the file")
        # In a file no shell has written the home folder out.
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise ValueError(f"root={root!r} of {data} is not a folder; allowed: the folder that contains the data set")
        return str(folder.absolute())


def read_plan(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ValueError: if it cannot be read, is not YAML or not a mapping, or has an unknown setting.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; allowed: a YAML file with the settings of a sweep") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply; allowed: settings, one 'name: value' per line") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} contains {type(found).__name__}; allowed: settings, one 'name: value' per line")
    return with_names_of_today(found, str(path))


def with_names_of_today(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings, including those of grids, with former names replaced; a warning lists those found in ``where``."""
    today = {former: name for name, former in FORMER_NAMES.items()}
    for name in settings:
        if name in today:
            print(f"warning: setting {name!r} in {where} is now called {today[name]!r}", file=sys.stderr)
    found = {today.get(name, name): value for name, value in settings.items()}
    if isinstance(found.get("grids"), list):
        found["grids"] = [
            with_names_of_today(each, where) if isinstance(each, dict) else each for each in found["grids"]
        ]
    return found


def make_plan(settings: Mapping[str, Any]) -> Plan:
    """Make a plan from settings in the form of a file.

    Each setting of :class:`RunConfiguration`, and each data or model option, is a value or a list of values. A list is
    an axis. ``seeds: 5`` means ``seed: [0, 1, 2, 3, 4]``. ``grids`` is a list of settings that add to the shared ones
    or override them; the plan is the union of the grids.

    Only useful pairs of method and radius are trained: radius 0 is plain SGD, trained once for all methods.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    grids = grids_of(settings)
    shared = {name: value for name, value in settings.items() if name != "grids"}
    roots = mapping("roots", settings.get("roots"))
    for name, path in (("root", settings.get("root")), ("out", settings.get("out", "")), *roots.items()):
        if not isinstance(path, (str, Path, type(None))) or (name == "out" and path is None):
            shown = f"roots: {name}" if name in roots else name
            raise ValueError(f"{shown}={path!r}; allowed: the path of a folder")
    found: dict[str, RunConfiguration] = {}
    for grid in grids:
        for name in grid:
            if name in SHARED and name != "seeds":
                raise ValueError(f"setting {name!r} is inside a grid; allowed: only outside of grids")
        # A grid's seeds stand for shared ones in either spelling.
        base = {k: v for k, v in shared.items() if k not in ("seed", "seeds") or not {"seed", "seeds"} & grid.keys()}
        merged = {**base, **grid}
        for name in ("data_options", "model_options"):
            merged[name] = {**mapping(name, shared.get(name)), **mapping(name, grid.get(name))}
        for configuration in _multiply(merged):
            found.setdefault(configuration.hash, configuration)
    ordered = sorted(found.values(), key=lambda configuration: configuration.seed)
    evaluation_seed = convert_value("evaluation_seed", settings.get("evaluation_seed", 0), int)
    require_whole("evaluation_seed", evaluation_seed, 0, MOST_SEED)
    return Plan(
        configurations=tuple(ordered),
        root=settings.get("root"),
        roots=roots,
        out=str(Path(settings.get("out", "out/sweep")).expanduser()),
        protocol=str(settings.get("protocol", "fast")),
        probe_options=mapping("probe_options", settings.get("probe_options")),
        evaluation_seed=evaluation_seed,
    )


def grids_of(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The grids of the settings; one empty grid if there are none. ValueError if they are not a list of settings."""
    grids = settings.get("grids", [{}])
    if not isinstance(grids, list) or not grids or not all(isinstance(grid, dict) for grid in grids):
        raise ValueError(f"grids={grids!r}; allowed: a list of settings")
    return grids


def mapping(name: str, value: Any) -> dict[str, Any]:
    """A setting that contains settings, as a dictionary; empty for None. ValueError if it is not a mapping."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r}; allowed: settings, one 'name: value' per line")
    return dict(value)


def _multiply(settings: dict[str, Any]) -> list[RunConfiguration]:
    for name in settings:
        if name not in TYPES and name not in SHARED:
            raise ValueError(f"setting {name!r} is unknown; allowed: {', '.join((*TYPES, *SHARED))}")
    if not settings.get("data"):
        raise ValueError("setting 'data' is not given; allowed: the name of a data set, or a list of them")
    axes: dict[str, list[Any]] = {}
    for name in TYPES:
        if name in ("data_options", "model_options", "seed") or name not in settings:
            continue
        value = settings[name]
        # The levels of one training are a list themselves: only a list of lists is an axis.
        listed = isinstance(value, list) and (name != "levels" or any(isinstance(part, list) for part in value))
        axes[name] = _values(name, value) if listed else [value]
    axes["seed"] = _seeds(settings)
    options = {
        (kind, key): _values(key, value) if isinstance(value, list) else [value]
        for kind in ("data_options", "model_options")
        for key, value in settings[kind].items()
    }
    methods, radii = axes.pop("method", None), axes.pop("rho", [0.0])
    effects = axes.pop("effect", ["full"])
    made = []
    count = math.prod(map(len, (*axes.values(), *options.values()))) * (len(methods or "1") * len(radii) * len(effects))
    require_memory(f"this plan, seed {len(axes['seed']):,} values", count, CONFIGURATION_BYTES, "trainings")
    for method, rho, effect in _rules(methods, radii, effects):
        for values in itertools.product(*axes.values()):
            for chosen in itertools.product(*options.values()):
                one: dict[str, Any] = dict(zip(axes, values, strict=True))
                one |= {"method": method, "rho": rho, "effect": effect, "data_options": {}, "model_options": {}}
                for (kind, key), value in zip(options, chosen, strict=True):
                    option = option_for(one["data"], key, axes["data"]) if kind == "data_options" else key
                    if option is not None:
                        one[kind][option] = value
                made.append(complete(one))
    return made


def option_for(data: str, key: str, all_data: Sequence[str]) -> str | None:
    """Name of an option for one of several data sets: ``KEY`` sets it for all that have it, ``DATA.KEY`` for one."""
    scope, dot, name = key.rpartition(".")
    if dot and scope not in all_data:
        raise ValueError(f"data option {key!r} is for {scope!r}; allowed here: {', '.join(all_data)}")
    if dot:
        return name if scope == data else None
    if len(all_data) == 1:
        return key  # an unknown one is refused with the rest
    owners = [other for other in all_data if key in data_option_names(other)]
    if not owners:
        raise ValueError(f"data option {key!r} is unknown to {', '.join(all_data)}")
    return key if data in owners else None


def _values(name: str, values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError(f"{name}=[]; allowed: at least one value")
    return values


def _seeds(settings: Mapping[str, Any]) -> list[int]:
    if "seeds" in settings and "seed" in settings:
        raise ValueError("both seeds and seed are given; allowed: one of them (seeds: 3 is seed: [0, 1, 2])")
    if "seeds" in settings:
        count = settings["seeds"]
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"seeds={count!r}; allowed: a whole number >= 1 (seeds: 3 is seed: [0, 1, 2])")
        require_memory(f"seeds={count}", count, CONFIGURATION_BYTES, "trainings")
        return list(range(count))
    seed = settings.get("seed", 0)
    return _values("seed", seed) if isinstance(seed, list) else [seed]


def _rules(methods: Sequence[str] | None, radii: Sequence[Any], effects: Sequence[str]) -> list[tuple[str, float, str]]:
    """(method, rho, effect) of every useful update rule; plain SGD occurs once."""
    try:
        numbers = [float(rho) for rho in radii]
    except (TypeError, ValueError):
        raise ValueError(f"rho={list(radii)!r}; allowed: numbers >= 0") from None
    if methods is None:
        methods = ["sam"] if any(numbers) else ["sgd"]
    found: list[tuple[str, float, str]] = []
    if "sgd" in methods or 0.0 in numbers:
        found.append(("sgd", 0.0, "full"))
    found += [
        (method, rho, effect)
        for method in methods
        if method != "sgd"
        for rho in numbers
        if rho != 0
        for effect in effects
    ]
    lonely = [method for method in methods if method != "sgd" and not any(numbers)]
    if lonely:
        raise ValueError(f"rho={list(radii)!r} with method {lonely[0]!r}; allowed: at least one radius > 0")
    if list(methods) == ["sgd"] and any(numbers):
        raise ValueError(f"rho={list(radii)!r} with method 'sgd' alone; allowed: 0, or further methods")
    return found
