"""SAM as a filter of many features (C22)."""
