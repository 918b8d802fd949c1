"""A foreign package named ``kernels`` in front of ours gives a clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kernels
import toymodels

FOREIGN = {
    "harmless": "VERSION = 1\n",
    "broken": "import a_module_that_is_not_installed\n",
}


def import_toymodels(first_on_path: Path, *statements: str) -> subprocess.CompletedProcess[str]:
    """Import ``toymodels`` with a folder in front of ours on sys.path; -S keeps other finders out."""
    ours = [str(Path(str(package.__file__)).parents[1]) for package in (toymodels, kernels)]
    code = f"import sys; sys.path[:0] = {[str(first_on_path), *ours]!r}; import toymodels; print('imported')"
    return subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=first_on_path, check=False
    )


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_kernels_package_is_named_in_the_error(kind: str, tmp_path: Path) -> None:
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text(FOREIGN[kind])
    done = import_toymodels(tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: 'import kernels' does not find this project's package")
    assert str(package) in last
    assert "Hugging Face" in last


def test_without_a_foreign_package_the_import_works(tmp_path: Path) -> None:
    done = import_toymodels(tmp_path)
    assert done.stdout == "imported\n", done.stderr
