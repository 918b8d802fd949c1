"""Proofs, from the loss, of every closed form in :mod:`toymodels.theory`, by the functions that run.

``python -m proofs_check`` proves claims C1, C2, ... and prints a table; ``docs/theory.md`` tells the same story in
words.
"""
