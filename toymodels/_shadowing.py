"""The Hugging Face package ``kernels`` uses the import name of ours; say so instead of failing somewhere inside."""

from __future__ import annotations

import importlib.util
from importlib.machinery import PathFinder


def check_kernels() -> None:
    """Raise an ImportError with a clear sentence when ``import kernels`` would find another package."""
    spec = importlib.util.find_spec("kernels")
    folders = list(spec.submodule_search_locations or []) if spec else []
    # PathFinder looks for the file; find_spec would import the package, and a foreign one may fail at that.
    if PathFinder.find_spec("kernels.problem", folders) is None:
        where = folders[0] if folders else "nowhere"
        raise ImportError(
            f"the import name 'kernels' does not lead to this project's package (found: {where}); the Hugging Face "
            "package 'kernels' has the same name: use an environment without it (pip uninstall kernels, then "
            "reinstall sambalance)"
        )
