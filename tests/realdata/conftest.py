"""What the tests of realdata share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from realdata.datasets import loading
from support import fake_parts
from support.coarse_pictures import coarse_pictures

__all__ = ["coarse_pictures"]


@pytest.fixture
def stand_in_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-ins for the data sets and for the steps of a job."""
    fake_parts.install(monkeypatch.setattr)
    loading._load.cache_clear()
    yield
    loading._load.cache_clear()
