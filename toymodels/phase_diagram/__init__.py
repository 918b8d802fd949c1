"""The phase diagram: what SAM does to an easy and a hard feature, over two parameters."""

METRICS = ("phase", "hard_share", "advantage", "steps", "worst_group_accuracy")
"""What a map can show."""
