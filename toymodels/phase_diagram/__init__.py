"""The phase diagram: what SAM does to an easy and a hard feature, over two parameters."""

METRICS = (
    "phase",
    "hard_share",
    "advantage",
    "steps",
    "worst_group_accuracy",
    "probing_error",
    "probing_error_pooled",
    "probing_error_placed",
    "suppression",
    "suppression_hard",
    "suppression_gap",
)
"""What a map can show."""

PROBED = ("probing_error", "probing_error_pooled", "probing_error_placed")
"""Metrics that need a probe."""

SUPPRESSED = ("suppression", "suppression_hard", "suppression_gap")
"""Metrics that need the phantom point."""
