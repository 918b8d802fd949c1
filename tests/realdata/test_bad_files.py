"""Files of others: what they promise is all that is read, and they lead nowhere else; a full disk ends in one line."""

from __future__ import annotations

import errno
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realdata.configuration import ALLOW_OUTSIDE, RunConfiguration
from realdata.datasets.folders import require_inside
from realdata.datasets.labelled import read_idx
from realdata.datasets.tables import find_files, read_table
from realdata.results.text_table import escaped_markdown
from realdata.settings.completion import complete
from realdata.sweeps import jobs
from realdata.sweeps.jobs import Job, read_failure, read_rows, record_failure


def idx(shape: tuple[int, ...], body: int) -> bytes:
    """An idx file of zeros with ``body`` bytes behind a header that promises ``shape``."""
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return bytes((0, 0, 8, len(shape))) + sizes + bytes(body)


def test_no_more_is_unpacked_than_the_header_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(idx((5,), 50_000_000), compresslevel=1))
    read: list[int] = []
    plain_read = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        found = plain_read(self, size)
        read.append(len(found))
        return found

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    with pytest.raises(ValueError, match=r"labels.gz is longer than its header says: shape \(5,\)"):
        read_idx(path, 1)
    assert sum(read) <= 8 + 6
    path.write_bytes(gzip.compress(idx((5,), 5)))
    assert read_idx(path, 1).tolist() == [0] * 5


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx((70_000, 1000, 1000), 10)))
    with pytest.raises(ValueError, match="promises 70,000,000,000 bytes"):
        read_idx(path, 3)
    path.write_bytes(gzip.compress(idx((2, 2), 4))[:-6])
    with pytest.raises(ValueError, match=r"images.gz (is damaged|begins with)"):
        read_idx(path, 2)


@pytest.mark.parametrize("name", ["../a.jpg", "sub/../../a.jpg", "link.jpg", "links/a.jpg"])
def test_names_in_a_table_lead_out_of_the_folder_only_where_allowed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "images"
    (base / "sub").mkdir(parents=True)
    (tmp_path / "a.jpg").write_text("x")
    (base / "b.jpg").write_text("x")
    (base / "inside.jpg").symlink_to("b.jpg")
    (base / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (base / "links").symlink_to(tmp_path)
    monkeypatch.delenv(ALLOW_OUTSIDE, raising=False)
    require_inside(base, ["b.jpg", "sub/../b.jpg", "inside.jpg", "missing.jpg"])
    with pytest.raises(ValueError, match=rf"row 2 of the table names '{name}', which leads out of"):
        find_files(base, ["b.jpg", name])
    monkeypatch.setenv(ALLOW_OUTSIDE, "1")
    _, there = find_files(base, ["b.jpg", name])
    assert there.tolist() == [True, True]


def test_a_linked_folder_of_images_is_no_way_out(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.jpg").write_text("x")
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    require_inside(tmp_path / "images", ["a.jpg"])
    with pytest.raises(ValueError, match="row 1 of the table names '/etc/hostname', which leads out of"):
        require_inside(tmp_path / "images", ["/etc/hostname"])


def test_a_cell_without_end_names_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text("name,y\na,0\nb,1\n" + "c" * 200_000 + ",1\n")
    with pytest.raises(ValueError, match=r"metadata.csv, row 3 of the data: field larger than field limit"):
        read_table(path)


def test_titles_are_text_in_markdown() -> None:
    assert escaped_markdown("a_b *c* | `d` <e> [f](g)\n# h & &lt;") == (
        r"a\_b \*c\* \| \`d\` &lt;e> [f]\(g) # h & &amp;lt;"
    )


def test_equal_settings_have_one_hash_however_they_are_written() -> None:
    plain = RunConfiguration("cifar_mnist", weight_decay=0.0, epochs=20, model_options={"width": 4})
    options: Any = {"width": np.int64(4)}
    assert RunConfiguration("cifar_mnist", weight_decay=-0.0, epochs=20, model_options={"width": 4}).hash == plain.hash
    assert RunConfiguration("cifar_mnist", epochs=np.int64(20), model_options=options).hash == plain.hash  # type: ignore[arg-type]


def test_a_large_seed_is_not_rounded() -> None:
    assert complete({"data": "cifar_mnist", "seed": 2**53 + 1}).seed == 2**53 + 1
    assert complete({"data": "cifar_mnist", "seed": str(2**53 + 1)}).seed == 2**53 + 1


def test_a_failure_is_an_outcome_even_if_it_cannot_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = RunConfiguration("cifar_mnist")
    job = Job(configuration.as_dict(), "", str(tmp_path))

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "write_text", full)
        outcome = record_failure(job, "while training: a reason")
    assert outcome.status == jobs.FAILURE
    assert outcome.reason == (
        "while training: a reason (failed.json could not be written either: No space left on device)"
    )
    assert read_failure(tmp_path) is None
    record_failure(job, "a reason")
    failure = read_failure(tmp_path)
    assert failure is not None
    assert failure["reason"] == "a reason"


@pytest.mark.parametrize("content", ["[1, 2]", "{}", "x", '{"status": "done"}'])
def test_damaged_rows_name_their_file(content: str, tmp_path: Path) -> None:
    (tmp_path / jobs.ROWS).write_text(content)
    with pytest.raises(ValueError, match=r"rows\.json .*; allowed: the rows.json of a job; remove it to evaluate anew"):
        read_rows(tmp_path)
