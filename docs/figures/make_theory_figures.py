"""Draw the figures of docs/theory.md: python docs/figures/make_theory_figures.py

Lines are the functions of toymodels.theory, marks are runs of the reference engine. Okabe and Ito's colours.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import toymodels.theory as theory
from proofs_check.simulation import diagonal_run, recorded_layers, rescaled_time

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9"
MU = np.array([2.0, 1.0])
SPURIOUS = ((1, 1), (-1, 1))


def save(figure: plt.Figure, name: str) -> None:
    figure.savefig(HERE / f"theory_{name}.png", dpi=150, metadata={"Software": None})
    plt.close(figure)


def balanced_path(start, rho, *, eta=0.005, steps=3000, mu=MU, depth=2, **options):
    """Balanced weights [R, K] of one run."""
    result = diagonal_run(mu, (start,) * depth, eta=eta, steps=steps, rho=rho, **options)
    return recorded_layers(result)[0][0]


def phase_plane() -> None:
    """C7, C8, C10, C26: trajectories, the turning point, the window, and the ring that holds the collapse boundary."""
    rho = 0.5
    figure, axes = plt.subplots(figsize=(8.4, 5.0), layout="constrained")
    angle = np.linspace(0, np.pi / 2, 200)
    arc = np.stack([np.cos(angle), np.sin(angle)])
    inner, outer = (r / np.sqrt(2) for r in theory.collapse_radii(rho, *MU))
    axes.fill(
        *np.concatenate([inner * arc, outer * arc[:, ::-1]], axis=1),
        color=AMBER,
        alpha=0.35,
        linewidth=0,
        label="ring of C26: holds the collapse boundary",
    )
    low, high = theory.suppression_window(rho, *MU)
    ellipse = arc / MU[:, None] / np.sqrt(2)
    for scale, colour, style, label in (
        (theory.balance_threshold(rho, *MU), GREEN, "-", "N = N*: the ratio turns (C7)"),
        (high, SKY, "--", "N = rho mu_e and rho mu_h: window (C8)"),
        (low, SKY, "--", None),
    ):
        axes.plot(*(scale * ellipse), color=colour, linestyle=style, label=label)
    starts = [(0.3, 0.25), (0.15, 0.32), (0.1, 0.36), (0.25, 0.27), (0.36, 0.12), (0.3, 0.12), (0.2, 0.2), (0.1, 0.2)]
    for i, start in enumerate(starts):
        a = balanced_path(start, rho, steps=2500)
        alive = np.flatnonzero(a.max(axis=1) < 0.015)
        a = a[: alive[0]] if len(alive) else a
        axes.plot(*a.T, color=BLUE, linewidth=1.2, label="SAM, rho = 0.5 (simulated)" if i == 0 else None)
        axes.plot(*start, "o", color=BLUE, markersize=3)
    gd = balanced_path((0.15, 0.2), 0.0, steps=2500)
    axes.plot(*gd.T, color=ORANGE, linewidth=1.2, label="GD (simulated)")
    for point, marker, name in zip(theory.phase_plane_fixed_points(rho), "sD", ("source", "saddle"), strict=True):
        axes.plot(*point, marker, color="black", markersize=6, clip_on=False, label=name, linestyle="none")
    axes.set(xlim=(0, 0.8), ylim=(0, 0.8), xlabel="a_e, easy feature", ylabel="a_h, hard feature", aspect="equal")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "phase_plane")


def filter_law() -> None:
    """C22: the log-gain against the feature strength is a line for GD and a parabola for SAM."""
    mu, start, eta, steps = np.linspace(0.25, 2.5, 10), 0.25, 0.002, 800
    fine = np.linspace(0, 2.6, 200)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for rho, colour, marker in ((0.0, ORANGE, "o"), (0.25, BLUE, "s"), (0.5, GREEN, "^")):
        a = balanced_path(np.full(10, start), rho, eta=eta, steps=steps, mu=mu, signs=[[1.0] * 10])
        tau = rescaled_time(a, mu, rho, eta)
        S = float((theory.suppression_time_rate(mu, a.T)[:-1] * np.diff(tau)).sum())
        label = "GD" if rho == 0 else f"SAM, rho = {rho}"
        axes.plot(fine, theory.filter_log_gain(fine, tau[-1], S, rho), color=colour)
        axes.plot(mu, np.log(a[-1] / start), marker, color=colour, markerfacecolor="none", label=label)
        if rho == 0.5:
            axes.axvline(theory.most_amplified_strength(tau[-1], S, rho), color=colour, linestyle=":", linewidth=1)
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set(xlabel="feature strength mu", ylabel="log-gain ln(a / a(0))")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "filter_law")


def hard_gain() -> None:
    """C24: hard share at matched training loss, and the gain over GD between its two bounds."""
    start, rho = np.array([0.6, 0.6]), 0.4
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.7), layout="constrained")
    for radius, colour in ((0.0, ORANGE), (0.2, BLUE), (0.4, GREEN)):
        u = balanced_path(start, radius, steps=4000) ** 2
        left.plot(
            np.log1p(np.exp(-(u @ MU))),
            MU[1] * u[:, 1] / (u @ MU),
            color=colour,
            label="GD" if radius == 0 else f"SAM, rho = {radius}",
        )
    left.set(xlabel="training loss", ylabel="hard share H", xscale="log")
    left.invert_xaxis()
    left.legend(frameon=False, fontsize=8)
    a = balanced_path(start, rho, steps=4000)
    tau = rescaled_time(a, MU, rho, 0.005)
    S = np.concatenate([[0], np.cumsum(theory.suppression_time_rate(MU, a.T)[:-1] * np.diff(tau))])
    N = theory.balanced_gradient_scale(MU, a.T)
    low, high = theory.hard_gain_bounds(N[0], N, *MU, rho)
    seen = a[:, 1] ** 2 / theory.gd_hard_coefficient(a[:, 0] ** 2, *start**2, *MU)
    right.fill_between(N, low, high, color=AMBER, alpha=0.35, linewidth=0, label="between the bounds")
    right.plot(N, theory.hard_gain_over_gd(S, *MU, rho), color=GREEN, label="exp(sqrt2 rho mu_h (mu_e - mu_h) S)")
    right.plot(N[::250], seen[::250], "o", color=GREEN, markerfacecolor="none", label="simulated, rho = 0.4")
    right.set(xlabel="N", ylabel="u_h over GD's at the same u_e")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, "hard_gain")


def depth() -> None:
    """C9 and C35: below the threshold even depth collapses and odd depth stalls."""
    rho, mu = 0.6, 2.0
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for layers, colour, marker, low in ((2, ORANGE, "o", 0.35), (3, BLUE, "s", 0.05), (4, GREEN, "^", 0.15)):
        shift = float(theory.depth_shift(rho, layers))
        axes.axhline(shift, color=colour, linestyle=":", linewidth=1)
        for i, start in enumerate((low, shift + 0.15)):
            a = balanced_path([start], rho, eta=0.004, steps=2500, mu=[mu], depth=layers)[:, 0]
            lam = 1 / (1 + np.exp(mu * (a - shift) ** layers))
            tau = np.concatenate([[0], np.cumsum(0.004 * lam[:-1])])
            kept = np.flatnonzero((a > 0.03) & (a < 1.5))
            law = (
                theory.sam_weight(tau, start, mu, rho)
                if layers == 2
                else theory.depth_weight(tau[kept], start, mu, rho, layers)
            )
            law = law[kept] if layers == 2 else law
            axes.plot(tau[kept], law, color=colour)
            axes.plot(
                tau[kept][::120],
                a[kept][::120],
                marker,
                color=colour,
                markerfacecolor="none",
                markersize=4,
                label=f"depth {layers}" if i == 0 else None,
            )
    axes.set(xlabel="rescaled time tau", ylabel="weight a", ylim=(0, 1.3))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "depth")


def trap() -> None:
    """C37: on spurious data GD and SAM with a small radius reach the hard feature, a larger radius is trapped."""
    p, start = 0.8, (0.4, 0.12)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for rho, colour in ((0.0, ORANGE), (0.1, SKY), (0.2, BLUE), (0.35, GREEN)):
        u = balanced_path(start, rho, eta=0.01, steps=4000, signs=SPURIOUS, pi=(p, 1 - p)) ** 2
        axes.plot(*u.T, color=colour, label="GD" if rho == 0 else f"SAM, rho = {rho}")
    axes.plot(
        theory.spurious_trap(2.0, p),
        0,
        "X",
        color="black",
        markersize=9,
        clip_on=False,
        label="trap (C37)",
        linestyle="none",
    )
    c = np.linspace(0, 3, 200)  # the line D_e = 0: a quadratic equation for e^d
    x = (2 * p - 1 + np.sqrt((1 - 2 * p) ** 2 + 4 * p * (1 - p) * np.exp(2 * c))) / (2 * (1 - p) * np.exp(c))
    axes.plot(np.log(x) / MU[0], c, color="0.4", linestyle="--", linewidth=1, label="D_e = 0")
    axes.set(xlabel="u_e, spurious feature", ylabel="u_h, core feature", xlim=(0, 1.0), ylim=(-0.02, 2.5))
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "trap")


if __name__ == "__main__":
    for draw in (phase_plane, filter_law, hard_gain, depth, trap):
        draw()
