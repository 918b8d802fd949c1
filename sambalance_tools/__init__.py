"""Tools that know nothing of features, trainings or proofs; every other package may use them, they use none.

Nothing heavy is imported here, so that ``--help`` of a command answers at once.
"""
