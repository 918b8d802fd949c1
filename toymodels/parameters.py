"""Every number of a toy experiment that can be set or swept: its symbol, default, allowed range and what it does.

One table serves the Python API, the command lines, the axis labels and the error messages.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """One sweepable number."""

    name: str
    symbol: str
    """Mathtext for axis labels."""
    title: str
    """A few words for axis labels."""
    default: float
    low: float
    high: float
    whole: bool
    meaning: str

    def check(self, value: float) -> float:
        """``value`` if it is allowed, else a ValueError that names the parameter, the value and the range."""
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise ValueError(f"{self.name}={value!r}; allowed: a number ({self.meaning})")
        if not math.isfinite(value) or not self.low <= value <= self.high or (self.whole and value != int(value)):
            kind = "a whole number" if self.whole else "a number"
            span = f">= {self.low:g}" if math.isinf(self.high) else f"in [{self.low:g}, {self.high:g}]"
            raise ValueError(f"{self.name}={value!r}; allowed: {kind} {span} ({self.meaning})")
        return int(value) if self.whole else float(value)


def _real(name: str, symbol: str, title: str, default: float, low: float, high: float, meaning: str) -> Parameter:
    return Parameter(name, symbol, title, default, low, high, False, meaning)


_MOST = 10**9
"""Largest whole number: shapes and step counts beyond it do not fit any machine."""


def _whole(name: str, symbol: str, title: str, default: int, low: int, meaning: str) -> Parameter:
    return Parameter(name, symbol, title, default, low, _MOST, True, meaning)


_TINY = 1e-12

PROBE_NOISE = 0.5
"""Noise on the hidden features that probes read, in studies and maps (:mod:`toymodels.probe`)."""

PARAMETERS: dict[str, Parameter] = {
    p.name: p
    for p in (
        _real(
            "rho",
            r"$\rho$",
            "Perturbation radius",
            0.3,
            0,
            math.inf,
            "radius of SAM's perturbation; 0 is gradient descent",
        ),
        _real(
            "mu_easy", r"$\mu_e$", "Strength of the easy feature", 2.0, _TINY, math.inf, "strength of the easy feature"
        ),
        _real(
            "mu_hard",
            r"$\mu_h$",
            "Strength of the hard feature",
            1.0,
            _TINY,
            math.inf,
            "strength of the hard feature, at most mu_easy",
        ),
        _real(
            "ratio", r"$\mu_h/\mu_e$", "Strength ratio hard / easy", 0.5, _TINY, 1, "mu_hard / mu_easy; sets mu_hard"
        ),
        _real(
            "p",
            r"$p$",
            "Correlation of the easy feature",
            0.9,
            0,
            1,
            "spurious data: probability that the easy feature agrees with the label",
        ),
        _real(
            "q",
            r"$q$",
            "Share of examples without the easy feature",
            0.3,
            0,
            1,
            "missing data: probability that the easy feature is missing",
        ),
        _real(
            "spread",
            r"$\delta_s$",
            "Spread of feature sizes",
            0.5,
            0,
            1,
            "uneven data: sizes 1 + spread and 1 - spread",
        ),
        _real("flip", r"$p_{flip}$", "Label noise", 0.1, 0, 0.5, "label_noise data: probability of a flipped label"),
        _real("init", r"$a(0)$", "Initial scale", 0.4, _TINY, math.inf, "scale of the initial weights"),
        _real(
            "imbalance",
            r"$\delta$",
            "Initial layer imbalance",
            0.0,
            -20,
            20,
            "start with v = a e^delta, w = a e^-delta (diagonal, patches)",
        ),
        _real(
            "jitter",
            r"$\sigma_0$",
            "Spread of the starts",
            0.02,
            0,
            10,
            "diagonal: seeds start at init * exp(jitter * normal), per feature; patches: 0 is the wide limit's start",
        ),
        _real("eta", r"$\eta$", "Learning rate", 0.02, _TINY, math.inf, "learning rate"),
        _real("weight_decay", r"$\omega$", "Weight decay", 0.0, 0, math.inf, "weight decay at the real weights"),
        _real("momentum", r"$\beta$", "Momentum", 0.0, 0, 1 - 1e-9, "heavy-ball momentum"),
        _real(
            "noise_easy",
            r"$\sigma_e$",
            "Noise on the easy feature",
            0.0,
            0,
            math.inf,
            "standard deviation of noise on the easy feature",
        ),
        _real(
            "noise_hard",
            r"$\sigma_h$",
            "Noise on the hard feature",
            0.0,
            0,
            math.inf,
            "standard deviation of noise on the hard feature",
        ),
        _real(
            "noise_extra",
            r"$\sigma_x$",
            "Size of the pure-noise features",
            1.0,
            0,
            math.inf,
            "standard deviation of the pure-noise features",
        ),
        _real(
            "relative_radius",
            r"$r$",
            "Relative radius",
            0.0,
            0,
            math.inf,
            "rho over the norm of the initial weights; sets rho",
        ),
        _real(
            "cosine",
            r"$c$",
            "Cosine of the two patterns",
            0.0,
            0,
            1,
            "patches: cosine of the patterns of the easy and the hard feature",
        ),
        _whole(
            "copies", r"$n_c$", "Patches of each feature", 1, 1, "patches: number of patches that hold each feature"
        ),
        _whole("noise_patches", r"$P_x$", "Pure-noise patches", 0, 0, "patches: number of patches of pure noise"),
        _whole("sam_from", r"$t_{from}$", "First step of SAM", 0, 0, "step at which SAM begins; GD before"),
        _whole(
            "sam_until", r"$t_{until}$", "Step at which SAM ends", _MOST, 0, "step at which SAM ends; GD from there"
        ),
        _whole("noise_features", r"$d_x$", "Pure-noise features", 0, 0, "number of pure-noise features"),
        _whole("samples", r"$S$", "Training samples", 64, 1, "training samples drawn when there is noise"),
        _whole(
            "slabs",
            r"$j$",
            "Slabs of the hard feature",
            1,
            0,
            "slabs data: the class alternates over 2j+1 slabs of the hard feature",
        ),
        _whole(
            "width", r"$m$", "Width", 16, 1, "hidden neurons of a two-layer network, or filters of a patches network"
        ),
        _whole("depth", r"$L$", "Depth", 2, 2, "layers of a diagonal network"),
        _whole("batch", r"$b$", "Mini-batch size", 0, 0, "mini-batch size; 0 trains on all samples at every step"),
        _whole("steps", r"$T$", "Updates", 3000, 1, "number of updates"),
    )
}

STRUCTURAL = ("copies", "noise_patches", "noise_features", "samples", "slabs", "width", "depth", "batch", "steps")
"""Parameters that change array shapes or the length of a training: one engine call per value."""


PATCHES_ONLY = ("cosine", "copies", "noise_patches")
"""Parameters that only a patches network has."""


def parameter(name: str) -> Parameter:
    """Look up a parameter; an unknown name is a ValueError that lists the known ones."""
    if name not in PARAMETERS:
        raise ValueError(f"parameter {name!r} is not known; allowed: {', '.join(PARAMETERS)}")
    return PARAMETERS[name]
