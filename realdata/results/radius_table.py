"""The table of relative radii: rho over the norm of the network's weights before the first step, by update rule."""

from __future__ import annotations

from collections.abc import Sequence

from realdata.results.summary import Panel, Rule, rule_name, rule_of
from realdata.results.text_table import TableCell, TextTable
from sambalance_tools.statistics import t_interval


def radius_table(panel: Panel, what: str) -> TextTable | None:
    """A row per update rule, or None if no run has the number (those of earlier versions have none).

    Args:
        what: the data and the number of seeds, for the caption.
    """
    norms, radii = _numbers(panel, "initial_norm"), _numbers(panel, "relative_radius")
    rows = [
        [TableCell(rule_name(rule)), TableCell(_mean(norms[rule])), TableCell(_mean(radii[rule]))]
        for rule in panel.rules
        if rule in norms and rule in radii
    ]
    if not rows:
        return None
    caption = f"Relative radius r = rho/||theta(0)||, over the parameters that are perturbed. {what}; mean over seeds"
    return TextTable(f"{caption} and 95 % t-interval", ["", "norm before the first step", "r"], rows)


def _numbers(panel: Panel, metric: str) -> dict[Rule, list[float]]:
    """One number per run, by update rule: it is the same at each of the run's checkpoints."""
    rows = panel.rows[(panel.rows["metric"] == metric) & panel.rows["value"].notna()]
    by_run = {str(each.run): float(each.value) for each in rows.itertuples()}
    found: dict[Rule, list[float]] = {}
    for run, number in by_run.items():
        found.setdefault(rule_of(panel.runs[run]["configuration"]), []).append(number)
    return found


def _mean(values: Sequence[float]) -> str:
    mean, half = t_interval(values)
    return f"{mean:.4g}" + ("" if half is None else f" ± {half:.2g}")
