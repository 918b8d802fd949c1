"""Stands in for hypothesis on machines that lack it: its tests are skipped, others run. For gpu_check.sh only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import pytest

HealthCheck = MagicMock()


class settings:
    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __call__(self, test: Any) -> Any:
        return test

    @staticmethod
    def register_profile(*arguments: Any, **options: Any) -> None:
        pass

    @staticmethod
    def load_profile(*arguments: Any) -> None:
        pass


def given(*arguments: Any, **strategies: Any) -> Callable[[Any], Any]:
    def skipped(test: Any) -> Any:
        @pytest.mark.skip(reason="hypothesis is not installed")
        def test_stands_in() -> None:
            pass

        return test_stands_in

    return skipped
