"""The fully connected two-layer network on one atom kind: SAM's flow in closed form, for any width and any start.

f(x) = v . W x on the one atom x with ||x|| = M. No gradient ever has a component of W across x, so split every neuron
into p_j = W_j . x/||x|| and q_j = W_j . x_perp/||x||, of which q_j stays as it started. With the phantom point of C2
(C36), s+ = (p + v)/sqrt2 and s- = (p - v)/sqrt2 obey

    d s+/dtau = M (1 - rho/n) s+,    d s-/dtau = -M (1 + rho/n) s-,    n^2 = |s+|^2 + |s-|^2,

so all neurons share two scalars, n cos(phi) = |s+| and n sin(phi) = |s-|. They satisfy dphi = -sin(2 phi) M dtau and
dn/dphi = (rho - n cos 2phi) / sin 2phi, which is linear in n:

    n sqrt(sin 2phi) = n0 sqrt(sin 2phi0) - rho (F(phi0) - F(phi)),    F(phi) = int_0^phi dpsi / sqrt(sin 2psi).

phi falls from phi0 to 0. The run collapses iff the right-hand side reaches 0 on the way: rho > rho_c with

    rho_c = n0 sqrt(sin 2phi0) / F(phi0),    |s+(0)| <= rho_c <= n0.

At phi0 = 0 (every neuron balanced and aligned) rho_c = n0; at phi0 = pi/4 (random wide start) rho_c = 0.763 n0. The
margin is M n^2 cos(2 phi)/2, and the hard share is

    H = mu_h^2/M^2 + (mu_e mu_h/M^2) (v . q)/(v . p).

At a given loss v . p is fixed, and SAM changes v . q only through how far s- has decayed by then: there is no
competition between the features, which the network sees as one. A ReLU network on an atom and its mirror image obeys
the same n and phi as long as both have the same loss, its two halves being the neurons with p_j > 0 and p_j <0; each
half then carries half of v . p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import beta, betainc

from sambalance_tools.arrays import FloatArray

GRID = 400
BISECTIONS = 50


@dataclass(frozen=True)
class FullyConnectedFlow:
    """Starts of B fully connected two-layer networks with two features on redundant data.

    Args:
        first, last: ``[B, m, 2]`` and ``[B, m]`` parameters at time 0.
        mu: ``[B, 2]`` strengths of the easy and the hard feature.
        mirrored: whether the two halves of a ReLU network share the work (each output is then half of v . W x).
    """

    first: FloatArray
    last: FloatArray
    mu: FloatArray
    mirrored: bool = False

    def __post_init__(self) -> None:
        length = np.linalg.norm(self.mu, axis=1)
        along = self.mu / length[:, None]
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        p = np.einsum("bmk,bk->bm", self.first, along)
        q = np.einsum("bmk,bk->bm", self.first, across)
        grow, decay = (p + self.last) / np.sqrt(2.0), (p - self.last) / np.sqrt(2.0)
        for name, value in (
            ("strength", length),
            ("grow", np.linalg.norm(grow, axis=1)),
            ("decay", np.linalg.norm(decay, axis=1)),
            # v = (s+ - s-)/sqrt2, so v . q is a sum of a part that scales with |s+| and one that scales with |s-|.
            ("across_grow", (grow * q).sum(1) / np.sqrt(2.0)),
            ("across_decay", -(decay * q).sum(1) / np.sqrt(2.0)),
        ):
            object.__setattr__(self, f"_{name}", value)

    @property
    def start(self) -> tuple[FloatArray, FloatArray]:
        """(n0, phi0), each ``[B]``."""
        grow, decay = self._get("grow"), self._get("decay")
        return np.hypot(grow, decay), np.arctan2(decay, grow)

    def critical_rho(self) -> FloatArray:
        """``[B]`` rho_c above which the run collapses."""
        return critical_rho(*self.start)

    def hard_share(self, rho: FloatArray, margin: float) -> FloatArray:
        """``[B]`` hard share where the training margin first reaches ``margin``; NaN for a run that collapses.

        Args:
            rho: ``[B]``.
            margin: for logistic loss level l, -ln(e^l - 1).
        """
        n0, phi0 = self.start
        strength = self._get("strength") * (0.5 if self.mirrored else 1.0)
        wanted = 2 * margin / strength

        def radius(phi: FloatArray) -> FloatArray:
            root = n0 * np.sqrt(np.sin(2 * phi0)) - rho * (angle_integral(phi0) - angle_integral(phi))
            return np.maximum(root, 0.0) / np.sqrt(np.sin(2 * phi))

        def excess(log_tan: FloatArray) -> FloatArray:
            phi = np.arctan(np.exp(log_tan))
            return radius(phi) ** 2 * np.cos(2 * phi) - wanted

        start = np.log(np.tan(phi0))
        grid = start[:, None] - np.linspace(0.0, 60.0, GRID)
        above = np.stack([excess(column) >= 0 for column in grid.T], axis=1)
        reached = above.any(axis=1) & (rho < self.critical_rho())
        index = np.maximum(above.argmax(axis=1), 1)
        rows = np.arange(len(index))
        before, after = grid[rows, index - 1], grid[rows, index]
        for _ in range(BISECTIONS):
            middle = 0.5 * (before + after)
            high = excess(middle) >= 0
            before, after = np.where(high, before, middle), np.where(high, middle, after)
        phi = np.where(above[:, 0], phi0, np.arctan(np.exp(after)))
        n = radius(phi)
        across = self._get("across_grow") * n * np.cos(phi) / self._get("grow")
        across = across + self._get("across_decay") * n * np.sin(phi) / self._get("decay")
        along = n**2 * np.cos(2 * phi) / 2
        square = (self.mu**2).sum(1)
        share = self.mu[:, 1] ** 2 / square + self.mu.prod(axis=1) / square * across / along
        return np.where(reached, share, np.nan)

    def _get(self, name: str) -> FloatArray:
        return getattr(self, f"_{name}")


def angle_integral(phi: FloatArray) -> FloatArray:
    """F(phi) = int_0^phi dpsi / sqrt(sin 2psi) for phi in [0, pi/2], as an incomplete beta function."""
    return betainc(0.25, 0.25, np.sin(phi) ** 2) * beta(0.25, 0.25) / (2 * np.sqrt(2.0))


def critical_rho(n0: FloatArray, phi0: FloatArray) -> FloatArray:
    """rho_c = n0 sqrt(sin 2phi0) / F(phi0) above which the flow collapses; n0 at phi0 = 0."""
    n0, phi0 = np.asarray(n0, dtype=float), np.asarray(phi0, dtype=float)
    tiny = phi0 < 1e-9
    safe = np.where(tiny, 0.1, phi0)
    return np.where(tiny, n0, n0 * np.sqrt(np.sin(2 * safe)) / angle_integral(safe))
