"""Files are whole or absent, whatever happens; devices and pipes are written to; what killed runs left is removed."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from sambalance_tools import files
from sambalance_tools.files import (
    atomic_path,
    check_writable,
    read_json_object,
    require_disk,
    writable_directory,
    write_json,
    write_text,
)
from sambalance_tools.memory import free_bytes, require_memory, size

posix = pytest.mark.skipif(os.name != "posix", reason="devices, pipes and signals")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "half \udc00")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@posix
def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("x")
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@posix
def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "new"
    assert names(tmp_path / "real") == ["a.txt"]


@posix
@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_written_to_and_never_replaced(device: str, tmp_path: Path) -> None:
    before = os.stat(device)
    check_writable(Path(device))
    if device == "/dev/null":
        write_json(device, {"a": 1})
    else:
        with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
            write_json(device, {"a": 1})
    after = os.stat(device)
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)


@posix
def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    check_writable(tmp_path / "pipe")
    write_text(tmp_path / "pipe", "through")
    reader.join(timeout=10)
    assert read == ["through"]
    assert names(tmp_path) == ["pipe"]


@posix
def test_standard_output_gets_a_report_between_what_is_printed(tmp_path: Path) -> None:
    program = (
        "from sambalance_tools.files import write_text; print('one'); write_text('/dev/stdout', 'two\\n'); print(3)"
    )
    with open(tmp_path / "out.txt", "w") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out.txt").read_text() == "one\ntwo\n3\n"


@posix
def test_what_is_neither_a_file_nor_a_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IsADirectoryError, match="it is a directory; allowed: a file"):
        write_text(tmp_path, "x")
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        for write in (lambda: write_text("socket", "x"), lambda: check_writable(Path("socket"))):
            with pytest.raises(OSError, match="it is a socket; allowed: a file, a pipe or a character device"):
                write()
    assert stat.S_ISSOCK(os.stat("socket").st_mode)


def test_a_full_disk_names_the_target(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as full, atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "whatever")
    assert full.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(OSError, match="No space left") as full, atomic_path(tmp_path / "a.txt") as partial:
        raise OSError(errno.ENOSPC, "whatever", str(partial))
    assert full.value.filename == str(tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_somebody_elses_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing, atomic_path(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_text()
    assert missing.value.filename == str(tmp_path / "other.txt")


def test_a_library_that_hides_a_full_disk_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="file write failed"), atomic_path(tmp_path / "a.txt"):
        raise RuntimeError("file write failed")
    usage = namedtuple("usage", "total used free")(1, 1, 100)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"No space left on device: '.*a.txt'"), atomic_path(tmp_path / "a.txt"):
        raise RuntimeError("file write failed")
    require_disk(tmp_path / "a.txt", 100)
    with pytest.raises(OSError, match="No space left"):
        require_disk(tmp_path / "a.txt", 101)


def test_a_folder_on_a_full_disk_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert writable_directory(tmp_path / "new" / "folder").is_dir()

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None: ...

        def write(self, content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(ValueError, match=r"^--out=.*: cannot write there \(No space left on device\); allowed"):
        writable_directory(tmp_path)


def test_partial_files_of_ended_processes_are_removed_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = files._HOST
    left_over = f".map.{host}-{ended.pid}-00000000.png"
    kept = [
        f".map.{host}-{os.getppid()}-00000000.png",  # another process is at it
        ".map.ffffff-1-00000000.png", ".map.abcdefgh.png",  # of another machine, of an earlier version: perhaps at it
        f".map.{host}-{ended.pid}-00000000.pdf", f".other.{host}-{ended.pid}-00000000.png", ".map.png", ".map.x.png",
    ]  # fmt: skip
    old = [".map.ffffff-2-00000000.png", ".map.abcdefg_.png"]
    for name in (left_over, *kept, *old):
        (tmp_path / name).write_text("x")
    long_ago = time.time() - 2 * files.DAY_SECONDS
    for name in old:
        os.utime(tmp_path / name, (long_ago, long_ago))
    write_text(tmp_path / "map.png", "x")
    assert names(tmp_path) == sorted([*kept, "map.png"])


def test_a_json_object_is_read_or_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError):
        read_json_object(path, (), "a thing")
    for content, fault in (
        ("x", "cannot be read as JSON"), ("[1]", "holds a list where an object is needed"), ("{}", "lacks key"),
        ("[" * 100_000, "is nested too deeply"), ("5", "holds a int"),
    ):  # fmt: skip
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"a\.json {fault}.*; allowed: a thing$"):
            read_json_object(path, ("key",), "a thing")
    path.write_text('{"key": 1, "more": 2}')
    assert read_json_object(path, ("key",), "a thing") == {"key": 1, "more": 2}


def test_what_does_not_fit_into_memory_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < free_bytes() < 1 << 50
    require_memory("seeds=9", 9, 100, "runs")
    monkeypatch.setattr("sambalance_tools.memory.free_bytes", lambda: 1000)
    require_memory("seeds=9", 9, 100, "runs")
    with pytest.raises(ValueError, match=r"^seeds=10: 10 runs need about 1.0 kB, and 1.0 kB of memory are free; "):
        require_memory("seeds=10", 10, 100, "runs")
    with pytest.raises(ValueError, match=r"allowed here: up to 4 runs$"):
        require_memory("seeds=10", 10, 100, "runs", fixed=500)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e11, "250 GB"), (3e15, "3 PB"), (1e30, "1e+15 PB")],
)
def test_sizes_for_people(count: float, shown: str) -> None:
    assert size(int(count)) == shown
