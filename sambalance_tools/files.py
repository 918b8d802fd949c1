"""Output files: written beside their target and moved into place, so that an interruption leaves no half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path with the target's suffix; it replaces ``target`` when the block ends without an exception."""
    target = Path(target)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        # mkstemp makes private files; give the result the permissions of any newly made file.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def writable_directory(path: str | os.PathLike[str]) -> Path:
    """Make ``path`` if needed and check that files can be written there, before any work is done."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        raise ValueError(f"--out={path}: cannot write there ({error.strerror}); allowed: a writable folder") from None


def check_writable(path: Path) -> None:
    """Check, before any work is done, that the file ``path`` can be written.

    Raises:
        OSError: names the path and the reason.
    """
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a directory")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no directory {path.parent}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file atomically, indented, its keys in the order of ``content``."""
    write_text(target, json.dumps(content, indent=2) + "\n")
