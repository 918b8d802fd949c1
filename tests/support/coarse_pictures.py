"""Pictures of few pixels: most of the time of a small study goes into them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

COARSE_DPI = 50


@pytest.fixture(scope="session", autouse=True)
def coarse_pictures() -> Iterator[None]:
    """In this process; what a test starts draws as users have it."""
    from toymodels import plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "DPI", COARSE_DPI)
        yield
