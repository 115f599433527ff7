"""Files survive a crash, as the order of the calls to the disk shows."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from fanbench._util import files
from fanbench.errors import OutputError
from tests.disk import Disk

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be synced there")


def test_content_reaches_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is flushed first, then the file is renamed, then the folder is flushed."""
    target = tmp_path / "summary.json"
    target.write_text("before")
    disk = Disk(monkeypatch)
    files.write(target, b"after")
    part = disk.asked[0][1]
    assert re.fullmatch(rf"\.summary\.json-{os.getpid()}-[0-9a-f]{{8}}\.part", part)
    assert disk.asked == [
        ("fsync", part, b"after"),
        ("rename", part, "summary.json"),
        ("fsync", tmp_path.name, None),
    ]
    assert target.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["summary.json"]


@pytest.mark.parametrize("step", [0, 1], ids=["the content", "the name"])
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A failed write changes nothing and leaves no temporary file behind."""
    target = tmp_path / "summary.json"
    target.write_text("before")
    Disk(monkeypatch).fails_at = step
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        files.write(target, b"after")
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_folders_are_created_from_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of each folder is on the disk before anything is in it; existing folders cost nothing."""
    disk = Disk(monkeypatch)
    for _ in range(2):
        files.make_folders(tmp_path / "a" / "b")
    assert disk.asked == [("fsync", tmp_path.name, None), ("fsync", "a", None)]
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    """Creating a folder never replaces a file."""
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileExistsError):
        files.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.parametrize("mode", [0o600, 0o664, None])
def test_permissions_of_a_written_file(tmp_path: Path, mode: int | None) -> None:
    """A given mode is set exactly, whatever the umask; without one, the umask decides."""
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "file", "text", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == (0o640 if mode is None else mode)


def test_text_is_written_unchanged(tmp_path: Path) -> None:
    """Text is encoded as UTF-8, and its line ends are kept."""
    files.write(tmp_path / "file", "ä\r\nb\n", durable=False)
    assert (tmp_path / "file").read_bytes() == "ä\r\nb\n".encode()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file that a link leads to is replaced, also by its first content."""
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    (tmp_path / "folder").mkdir()
    for text in ("one", "two"):
        files.write(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "file").read_text() == text
    assert os.listdir(tmp_path / "folder") == ["file"]


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    """What is no file, such as a pipe, gets the data, and keeps its mode."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write(pipe, "text", mode=0o644)
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_IMODE(pipe.stat().st_mode) == 0o600


def test_a_block_that_fails_replaces_nothing(tmp_path: Path) -> None:
    """If the block of `replacing` raises, the target keeps its content and the partial file goes."""
    target = tmp_path / "file"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt), files.replacing(target) as part:
        _interrupted_write(part)
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["file"]


def _interrupted_write(part: Path) -> None:
    part.write_text("half")
    raise KeyboardInterrupt


def test_errors_of_the_disk_are_explained(tmp_path: Path) -> None:
    """An OSError becomes an OutputError with the path, the reason and a hint, and stays its cause."""
    with pytest.raises(OutputError) as caught, files.output_errors(f"write {tmp_path}", hint="Use -o."):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == f"Cannot write {tmp_path}: No space left on device."
    assert caught.value.hint == "Use -o."
    assert isinstance(caught.value.__cause__, OSError)
