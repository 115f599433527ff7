"""Files that are there, whole, after a crash: by the order of what is asked of the disk."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from fanbench._util import files
from tests.disk import Disk

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be synced there")


def test_a_file_has_its_name_when_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content first, whole; then the name; then the folder."""
    target = tmp_path / "summary.json"
    target.write_text("before")
    disk = Disk(monkeypatch)
    files.write(target, b"after")
    part = f".summary.json-{os.getpid()}.part"
    assert disk.asked == [
        ("fsync", part, b"after"),
        ("rename", part, "summary.json"),
        ("fsync", tmp_path.name, None),
    ]
    assert target.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["summary.json"]


@pytest.mark.parametrize("step", [0, 1], ids=["the content", "the name"])
def test_a_write_that_fails_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """And leaves nothing beside it."""
    target = tmp_path / "summary.json"
    target.write_text("before")
    Disk(monkeypatch).fails_at = step
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        files.write(target, b"after")
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_folders_are_made_from_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is on the disk before there is something in it; those that are there cost nothing."""
    disk = Disk(monkeypatch)
    for _ in range(2):
        files.make_folders(tmp_path / "a" / "b")
    assert disk.asked == [("fsync", tmp_path.name, None), ("fsync", "a", None)]
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    """It stays."""
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileExistsError):
        files.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a").read_text() == "mine"
