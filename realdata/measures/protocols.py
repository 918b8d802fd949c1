"""Probing protocols by name: how a probe is tuned, fitted and measured. Needs no torch, for fast command lines.

Two protocols are named in :data:`PROTOCOLS`, any other is a :class:`Protocol` of its own.

``"dfr"``   deep feature reweighting (Kirichenko, Izmailov, Wilson 2023, arXiv 2204.02937), as published: the images to
            fit on are shuffled and halved; one half is cut down to its smallest group, standardised, and an l1 logistic
            regression (liblinear) fitted for each inverse penalty C; the best worst-group accuracy on the other half
            wins (of equal ones the first). Then 20 random subsamples, balanced by group, of all images to fit on, each
            fitted with that C; coefficients and intercepts are averaged. Features are standardised there by the
            training set.
``"fast"``  the default, for sweeps: the same idea with one multinomial ridge regression. Instead of discarding
            examples of large groups it weights them by (smallest group / own group), the expectation of that
            subsampling; C is chosen in two folds by the mean over groups of the log loss, which is smooth, where the
            accuracy of a few dozen images ties and jumps from seed to seed. Of more than 512 features, it sees the 256
            leading principal axes.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from realdata.measures.group_accuracy import BOOTSTRAP_DRAWS
from realdata.values import convert_value, option_types
from sambalance_tools.checks import require_choice, require_whole
from sambalance_tools.statistics import CONFIDENCE

FORMER_NAMES = {"strengths": "inverse_penalties"}
"""Former names of protocol options, which are still used in the files of jobs."""

SOLVERS = ("multinomial", "liblinear")
BALANCES = ("weights", "subsample")
SCALERS = ("fit", "train", "none")
SELECTIONS = ("loss", "worst", "mean", "raw")
TUNINGS = ("half", "two_folds")
READOUTS = ("pooled", "placed", "upper", "lower")
"""Readings of a convolutional network's last feature maps that can be probed besides the features that its head sees:
the mean over all places; the means over the upper and over the lower half, side by side; one of these two alone. Head
and dimension of the features then do not go together."""
FINALS = ("none", "dfr")

WIDE = 512
"""Features with more dimensions are projected on ``Protocol.axes`` principal axes before the probe is fitted."""


@dataclass(frozen=True)
class Protocol:
    """How a probe is tuned, fitted and measured, and further options of an evaluation.

    Attributes:
        solver: ``"multinomial"`` (ridge) or ``"liblinear"`` (l1; one classifier against the rest for each class).
        inverse_penalties: values of C to choose from, in the order in which ties are broken.
        balance: ``"weights"`` (one fit, examples weighted) or ``"subsample"`` (``repeats`` fits, averaged).
        repeats: number of balanced subsamples in the final fit.
        scaler: images on which the features of the final fit are standardised: those to ``"fit"`` on, or ``"train"``;
            ``"none"``: features are used as they are.
        selection: criterion for C: the mean over groups of the log ``"loss"``, or an average of group accuracies.
        tuning: ``"half"``: fit on one random half, choose on the other. ``"two_folds"``: both ways, halves stratified
            by group.
        confidence, draws: confidence level and bootstrap draws, see :mod:`realdata.measures.group_accuracy`.
        train_examples: size of the random part of the training set on which an evaluation measures accuracy, example
            weights and, if asked for, the scaler; None takes all.
        rho: radius of the phantom parameters for runs without a radius (plain training).
        axes: features with more than ``WIDE`` dimensions are standardised and projected on this many leading principal
            axes, see :mod:`realdata.measures.principal_axes`; None: never.
        patience: larger C are not tried after this many in a row did worse than the best one; None: all are tried.
        readouts: further readings of the last feature maps that are probed, some of ``READOUTS``.
        final: ``"dfr"``: final checkpoints are also probed by the protocol of this name.

    Raises:
        ValueError: names the argument, its value and what is allowed.
    """

    solver: str = "multinomial"
    inverse_penalties: tuple[float, ...] = (10.0, 1.0, 0.1, 0.01, 0.001)
    balance: str = "weights"
    repeats: int = 1
    scaler: str = "fit"
    selection: str = "loss"
    tuning: str = "two_folds"
    confidence: float = CONFIDENCE
    draws: int = BOOTSTRAP_DRAWS
    train_examples: int | None = 2048
    rho: float = 0.05
    axes: int | None = None
    patience: int | None = None
    readouts: tuple[str, ...] = ()
    final: str = "none"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("solver", SOLVERS),
            ("balance", BALANCES),
            ("scaler", SCALERS),
            ("selection", SELECTIONS),
            ("tuning", TUNINGS),
            ("final", FINALS),
        ):
            require_choice(name, getattr(self, name), allowed)
        for name in ("repeats", "draws"):
            require_whole(name, getattr(self, name), 1)
        for name in ("train_examples", "axes", "patience"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1)
        for readout in self.readouts:
            require_choice("readouts", readout, READOUTS)
        if not self.inverse_penalties or not all(math.isfinite(c) and c > 0 for c in self.inverse_penalties):
            raise ValueError(f"inverse_penalties={self.inverse_penalties!r}; allowed: one or more finite numbers > 0")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence={self.confidence!r}; allowed: a number in (0, 1)")
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise ValueError(f"rho={self.rho!r}; allowed: a finite number > 0")
        if self.selection == "loss" and self.solver != "multinomial":
            raise ValueError(f"selection='loss' with solver={self.solver!r}; allowed: solver='multinomial'")
        if self.balance == "weights" and self.repeats != 1:
            raise ValueError(f"repeats={self.repeats!r} with balance='weights'; allowed: 1, or balance='subsample'")

    def replace(self, **changes: object) -> Protocol:
        """A copy with some values changed, checked anew."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


PROTOCOLS = {
    "fast": Protocol(axes=256),
    "dfr": Protocol(
        solver="liblinear",
        inverse_penalties=(1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01),
        balance="subsample",
        repeats=20,
        scaler="train",
        selection="worst",
        tuning="half",
    ),
}


def protocol(name: str | Protocol) -> Protocol:
    """A protocol by name (one of :data:`PROTOCOLS`); a protocol is returned as it is."""
    if isinstance(name, Protocol):
        return name
    require_choice("protocol", name, tuple(PROTOCOLS))
    return PROTOCOLS[name]


def probe_options(base: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Changes to a protocol, converted to the types that :class:`Protocol` declares, and checked."""
    kinds = option_types(Protocol)
    for former in FORMER_NAMES.keys() & given.keys():
        print(f"warning: probe option {former!r} is now called {FORMER_NAMES[former]!r}", file=sys.stderr)
    given = {FORMER_NAMES.get(name, name): value for name, value in given.items()}
    for name in given:
        if name not in kinds:
            raise ValueError(f"probe option {name!r} is unknown; allowed: {', '.join(kinds)}")
    options = {name: convert_value(f"probe option {name}", value, kinds[name]) for name, value in given.items()}
    protocol(base).replace(**options)
    return options


def stored_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a protocol as stored in files: plain values under their original names."""
    stored = {name: former for former, name in FORMER_NAMES.items()}
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {stored.get(name, name): value for name, value in values.items()}
