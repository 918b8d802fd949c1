"""The results of many trainings: one table, its means over seeds, reports."""
