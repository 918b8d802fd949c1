"""The flows eta -> 0 of the networks, integrated for thousands of runs at once, from the proved formulas."""
