"""Two-feature toy models of what SAM does to features: simulated, analytic, and the two side by side."""
