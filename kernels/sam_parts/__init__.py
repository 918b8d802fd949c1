"""The parts of :mod:`kernels.sam`: one concern each. Importing this package imports nothing."""
