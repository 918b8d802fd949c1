"""The Hugging Face package ``kernels`` has the same import name as ours: a clear error instead of a puzzling one."""

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
            f"'import kernels' does not find this project's package but another one ({where}). The Hugging Face "
            "package 'kernels' has the same name. Use an environment without it: pip uninstall kernels, then "
            "install sambalance again"
        )
