"""Output files: written beside their target and moved into place, so that an interruption leaves no half of one.

A target may also be a pipe or a character device, such as ``/dev/null`` or ``/dev/stdout``: these are written to, never
replaced. What a killed process has left beside a target is removed by the next one that writes the same target.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DAY_SECONDS = 86_400.0
"""Partial files of other machines, whose processes cannot be asked for, are left over when they are this old."""

FULL_BYTES = 1 << 20
"""A disk with less free space than this is full, when something that wrote to it has failed."""

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path with the target's suffix; it replaces ``target`` when the block ends without an exception.

    A symbolic link stays, and the file that it names is replaced. A pipe or a character device is written to.

    Raises:
        OSError: ``target`` can be neither replaced nor written to, or the disk is full; it names the target.
    """
    target = Path(target)
    through = _written_through(target)
    folder = Path(tempfile.gettempdir()) if through else Path(os.path.realpath(target)).parent
    place = folder / (target.name if through else os.path.basename(os.path.realpath(target)))
    partial = None
    try:
        if not through:
            _remove_left_over(place)
        partial = _new_partial(place)
        yield partial
        if through:
            _copy_into(partial, target)
            return
        # Partial files are private; give the result the permissions of any newly made file.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        os.replace(partial, place)
    except OSError as error:
        # Libraries name the partial file, or none; people know the target. Somebody else's file keeps its name.
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        ours = named in (None, place) or (named.parent == folder and named.name.startswith(f".{place.stem}."))
        if not ours or not error.errno:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
    except RuntimeError as error:
        # HDF5 and torch do not say that the disk is full.
        if shutil.disk_usage(folder).free > FULL_BYTES:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def require_disk(path: Path, needed: int) -> None:
    """Raise an OSError that names ``path`` unless its disk has room for ``needed`` bytes."""
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _new_partial(place: Path) -> Path:
    """A new, empty, private file beside ``place``; its name says which process of which host is writing it."""
    while True:
        unique = f"{_HOST}-{os.getpid()}-{secrets.token_hex(4)}"
        partial = place.with_name(f".{place.stem}.{unique}{place.suffix}")
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            continue
        return partial


def _remove_left_over(place: Path) -> None:
    """Remove partial files of ``place`` whose process has ended."""
    # Eight letters alone are names of earlier versions.
    pattern = re.compile(
        rf"\.{re.escape(place.stem)}\.(?:(?P<host>[0-9a-f]{{6}})-(?P<pid>\d+)-[0-9a-f]{{8}}|[a-z0-9_]{{8}})"
        rf"{re.escape(place.suffix)}"
    )
    try:
        with os.scandir(place.parent) as entries:
            found = [(entry, pattern.fullmatch(entry.name)) for entry in entries if entry.name.startswith(".")]
    except OSError:
        return  # a folder that is not there is found out next
    for entry, match in found:
        if match is None:
            continue
        try:
            here = match["host"] == _HOST
            over = not _runs(int(match["pid"])) if here else time.time() - entry.stat().st_mtime > DAY_SECONDS
            if over:
                os.unlink(entry.path)
        except OSError:
            continue  # somebody else was faster, or may remove it and we may not


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _written_through(target: Path) -> bool:
    """Whether ``target`` is written to instead of replaced: a pipe, a character device, a stream of this process.

    Raises:
        OSError: it is a folder, a socket or a block device.
    """
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    if _stream(target) is not None or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    if stat.S_ISREG(mode):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory; allowed: a file", str(target))
    kind = "a socket" if stat.S_ISSOCK(mode) else "a block device"
    raise OSError(errno.EINVAL, f"it is {kind}; allowed: a file, a pipe or a character device", str(target))


def _stream(target: Path) -> int | None:
    """The file descriptor that a name such as ``/dev/stdout`` or ``/dev/fd/3`` stands for."""
    match = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", str(target))
    return int(match[1]) if match else _STREAMS.get(str(target))


def _copy_into(partial: Path, target: Path) -> None:
    descriptor = _stream(target)
    if descriptor == 1 and sys.stdout is not None:
        sys.stdout.flush()
    # A duplicate shares the stream's place; opening its name again would overwrite a file from its start.
    opened = os.dup(descriptor) if descriptor is not None else os.open(target, os.O_WRONLY)
    with open(partial, "rb") as source, open(opened, "wb") as sink:
        shutil.copyfileobj(source, sink)


def writable_directory(path: str | os.PathLike[str]) -> Path:
    """Make ``path`` if needed and check that files can be written there, before any work is done."""
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            # A full disk still makes empty files.
            probe.write(b"\0" * 4096)
            probe.flush()
            return directory
    except OSError as error:
        raise ValueError(f"--out={path}: cannot write there ({error.strerror}); allowed: a writable folder") from None
    except ValueError as error:  # a zero byte
        raise ValueError(f"--out={path!r}: {error}; allowed: a writable folder") from None


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
        if _written_through(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        with tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent):
            pass
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error


def read_json_object(path: str | os.PathLike[str], keys: Collection[str], what: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: the file. keys: names that it has to have. what: what it should be, for the error.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: names the file and says what is wrong with it.
    """
    allowed = f"allowed: {what}"
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply; {allowed}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"{path} cannot be read as JSON ({reason}); {allowed}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__} where an object is needed; {allowed}")
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; {allowed}")
    return found


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file atomically, indented, its keys in the order of ``content``."""
    write_text(target, json.dumps(content, indent=2) + "\n")
