"""Whether report files can be written, found out before the work."""

from __future__ import annotations

import tempfile
from pathlib import Path


def check_writable(path: Path) -> None:
    """Find out before the work whether ``path`` can be written.

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
