"""Test modules stand alone: what they share is in ``tests/support``."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def imported(module: Path) -> set[str]:
    """First parts of the names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("module", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_module_imports_a_test_module(module: Path) -> None:
    of_tests = {path.stem for path in TESTS.rglob("*.py") if path.stem.startswith("test_")} | {"conftest"}
    assert not imported(module) & of_tests
