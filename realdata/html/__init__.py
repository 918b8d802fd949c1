"""Results and verdicts as one HTML page."""
