"""Single trainings over time, simulated and analytic."""
