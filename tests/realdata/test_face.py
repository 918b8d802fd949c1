"""``from realdata import ...``: every name is there, and none costs anything before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import realdata


@pytest.mark.parametrize("name", realdata.__all__)
def test_a_name_is_the_object_of_its_module(name: str) -> None:
    found = getattr(realdata, name)
    assert found.__name__ == name
    assert found is getattr(sys.modules[found.__module__], name)
    assert name in dir(realdata)


def test_what_is_not_offered_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'checkpoint'"):
        _ = realdata.checkpoint


def test_the_import_is_free() -> None:
    code = "import realdata, sys; print({'numpy', 'torch', 'pandas', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
