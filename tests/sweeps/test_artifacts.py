"""Outputs and logs on disk."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanbench import OutputError
from fanbench.sweeps.artifacts import (
    clear_parts,
    contents_of,
    log_is_whole,
    log_part,
    output_is_whole,
    saved_output,
)
from fanbench.sweeps.attempts import SavedLog, SavedOutput
from tests.disk import Disk

T = TypeVar("T")

pytestmark = pytest.mark.anyio


@pytest.fixture
def no_blocking_calls() -> None:
    """Nothing is guarded here, because the tests themselves call functions that are meant for a thread."""


async def inline(job: Callable[[], T], /) -> T:
    return job()


class Counted:
    """Runs jobs inline, and counts them."""

    def __init__(self) -> None:
        self.jobs = 0

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]:
        self.jobs += 1
        return inline(job)


def made(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


FILES = {"a.run.json": "{}", "sub/b": "two", "sub/deep/c": "", "run.log": "the task's own"}


# --- Outputs ------------------------------------------------------------------------------------------------


def recorded(folder: Path) -> SavedOutput:
    """Return the record of the output in `folder` as it is now."""
    return saved_output("t/7", contents_of(folder))


def test_the_fingerprint_of_an_output(tmp_path: Path) -> None:
    """The digest is the documented one: the hashes and names of the files, sorted by name."""
    lines = [
        f"{hashlib.sha256(FILES[name].encode()).hexdigest()}  {name}\0"
        for name in ("a.run.json", "run.log", "sub/b", "sub/deep/c")
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    made(tmp_path, FILES)
    for number, name in enumerate(FILES):
        os.utime(tmp_path / name, ns=(0, 2 * 10**18 - number))
    assert recorded(tmp_path) == SavedOutput("t/7", 4, 19, digest, changed=2 * 10**18)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Links are followed neither into a circle nor to files elsewhere."""
    before = recorded(made(tmp_path / "out", FILES))
    made(tmp_path / "else", {"secret": "x"})
    (tmp_path / "out" / "circle").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "secret").symlink_to(tmp_path / "else" / "secret")
    assert recorded(tmp_path / "out") == before


def test_an_output_without_files(tmp_path: Path) -> None:
    """An output without files has a fingerprint, too."""
    assert recorded(tmp_path) == SavedOutput("t/7", 0, 0, hashlib.sha256().hexdigest(), 0)
    assert output_is_whole(tmp_path.parent, SavedOutput(tmp_path.name, 0, 0, ""))


def test_an_output_that_cannot_be_read(tmp_path: Path) -> None:
    """The error names the file that cannot be read."""
    with pytest.raises(OutputError, match=r"Cannot read the output .*gone"):
        recorded(tmp_path / "gone")


contents = st.dictionaries(
    st.sampled_from(["a", "b", "ab", "s/a", "s/b", "ä", "run.log"]), st.text(max_size=3), max_size=4
)


@given(contents, contents)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fingerprints_are_equal_only_for_equal_outputs(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, str], other: dict[str, str]
) -> None:
    """Moving bytes between names and contents always changes the fingerprint."""
    first, second = (made(tmp_path_factory.mktemp("out"), files) for files in (one, other))
    assert (recorded(first).digest == recorded(second).digest) is (one == other)


def later(path: Path, text: str) -> None:
    """Write a file after the disk's clock has advanced."""
    path.write_text(text)
    os.utime(path, ns=(0, 4 * 10**18))


def copied(folder: Path) -> None:
    """Copy the folder as `cp -r` does, with new times."""
    for name, text in FILES.items():
        later(folder / name, text)


def exchanged(folder: Path) -> None:
    """Exchange the names of two files after the disk's clock has advanced, without writing either."""
    clock, before = folder.parent / "clock", max(file.stat().st_ctime_ns for file in folder.rglob("*"))
    clock.touch()
    while clock.stat().st_ctime_ns <= before:
        clock.touch()
    one, other, aside = folder / "a.run.json", folder / "sub" / "b", folder.parent / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize(
    ("harm", "whole"),
    [
        (lambda folder: None, True),
        (lambda folder: later(folder / "run.log", "The task's own"), False),
        (copied, True),
        (lambda folder: (folder / "sub" / "b").unlink(), False),
        (lambda folder: (folder / "sub" / "b").write_text("three"), False),
        (lambda folder: later(folder / "sub" / "b", "owt"), False),
        (exchanged, False),
        (lambda folder: (folder / "more").touch(), False),
        (lambda folder: folder.rename(folder.with_name("else")), False),
    ],
    ids=[
        "none",
        "a file named run.log",
        "copied",
        "a file gone",
        "a size",
        "only a content",
        "exchanged",
        "a file more",
        "gone",
    ],
)
def test_an_output_is_whole_until_it_is_changed(
    tmp_path: Path, harm: Callable[[Path], object], whole: bool
) -> None:
    """The number of files and bytes is checked, and the content if a file was written since."""
    folder = made(tmp_path / "t" / "7", FILES)
    saved = recorded(folder)
    harm(folder)
    assert output_is_whole(tmp_path, saved) is whole


def test_the_log_of_an_earlier_version_is_not_part_of_its_output(tmp_path: Path) -> None:
    """Beside a log that an earlier version wrote into the folder, an output is whole until it is changed."""
    folder = made(tmp_path / "t" / "7", {"a": "1", "b": "2"})
    saved = recorded(folder)
    later(folder / "run.log", "ours")
    assert output_is_whole(tmp_path, saved)
    later(folder / "b", "2")
    assert output_is_whole(tmp_path, saved)
    later(folder / "a", "3")
    assert not output_is_whole(tmp_path, saved)


def test_an_untouched_output_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the files of a copied output are read, once each."""
    folder = made(tmp_path / "t" / "7", FILES)
    saved, read = recorded(folder), 0
    file_digest = hashlib.file_digest

    def counted(*arguments: Any) -> object:
        nonlocal read
        read += 1
        return file_digest(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert output_is_whole(tmp_path, saved)
    assert read == 0
    copied(folder)
    assert output_is_whole(tmp_path, saved)
    assert read == len(FILES)


def test_an_output_that_can_no_longer_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that cannot be read is not whole."""
    folder = made(tmp_path / "t" / "7", FILES)
    saved = recorded(folder)
    copied(folder)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(hashlib, "file_digest", refused)
    assert not output_is_whole(tmp_path, saved)


def test_a_log_is_whole_with_its_full_size(tmp_path: Path) -> None:
    """A log is whole if it is a file of the recorded size."""
    saved = SavedLog("run.log", 1, 4)
    assert not log_is_whole(tmp_path, saved)
    (tmp_path / "run.log").write_text("a\nb")
    assert not log_is_whole(tmp_path, saved)
    (tmp_path / "run.log").write_text("a\nb\n")
    assert log_is_whole(tmp_path, saved)
    assert not log_is_whole(tmp_path, SavedLog(".", 1, tmp_path.stat().st_size))


# --- Logs ---------------------------------------------------------------------------------------------------


async def test_a_log_is_placed_when_it_is_complete(tmp_path: Path) -> None:
    """A log replaces an earlier one only when complete; folders are created, and nothing else is left."""
    target = tmp_path / "t" / "1" / "m" / "7" / "run.log"
    for text in ("first\n", "one\ntwo ä\n"):
        log = log_part(tmp_path, 7)
        for letter in text:
            await log.write(letter)
        before = target.read_text() if target.exists() else None
        assert before != text
        log.place(target)
        assert target.read_text() == text
        assert (log.lines, log.size) == (text.count("\n"), len(text.encode()))
    assert sorted(tmp_path.rglob("*.part")) == []
    assert [path.name for path in target.parent.iterdir()] == ["run.log"]


async def test_an_empty_log(tmp_path: Path) -> None:
    """An empty log is an empty file."""
    log = log_part(tmp_path, 7, inline)
    log.place(tmp_path / "run.log")
    assert (tmp_path / "run.log").read_bytes() == b""
    assert (log.lines, log.size) == (0, 0)


@given(st.lists(st.text(st.sampled_from("ab\n\r\u2028🚀\ud800"), max_size=5), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_lines_and_bytes_are_counted(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    """Only a line feed ends a line, and what follows the last one is a line, too."""
    root = tmp_path_factory.mktemp("sweep")
    log = log_part(root, 1, inline)
    for part in parts:
        await log.write(part)
    log.place(root / "run.log")
    text = "".join(parts).encode("utf-8", "replace")
    assert (root / "run.log").read_bytes() == text
    assert log.size == len(text)
    assert log.lines == len(text.removesuffix(b"\n").split(b"\n")) - (text == b"")


async def test_a_log_is_written_in_chunks(tmp_path: Path) -> None:
    """A log is written once per 64 kB, and nothing is created before that."""
    offload = Counted()
    log = log_part(tmp_path, 7, offload)
    for _ in range(63):
        await log.write("x" * 1023 + "\n")
    assert offload.jobs == 0
    assert list(tmp_path.iterdir()) == []
    for _ in range(70):
        await log.write("x" * 1023 + "\n")
    assert offload.jobs == 2
    log.place(tmp_path / "run.log")
    assert log_is_whole(tmp_path, SavedLog("run.log", log.lines, log.size))
    assert log.lines == 133


async def test_a_log_that_is_given_up(tmp_path: Path) -> None:
    """A log that is dropped leaves nothing, and an earlier one stays as it was."""
    (tmp_path / "run.log").write_text("earlier")
    log = log_part(tmp_path, 7, inline)
    await log.write("x" * 100_000)
    assert log.part.exists()
    log.drop()
    log.drop()
    assert not log.part.exists()
    assert (tmp_path / "run.log").read_text() == "earlier"


async def test_the_part_of_a_killed_process(tmp_path: Path) -> None:
    """A part that was left behind is not the beginning of a new log, and can be cleared away alone."""
    for run_id in (7, 8):
        log = log_part(tmp_path, run_id, inline)
        await log.write("left" * 50_000)
    (tmp_path / ".fanbench" / "journal.sqlite").touch()
    again = log_part(tmp_path, 7, inline)
    await again.write("new\n")
    again.place(tmp_path / "run.log")
    assert (tmp_path / "run.log").read_text() == "new\n"
    clear_parts(tmp_path)
    left = [path.name for path in (tmp_path / ".fanbench").rglob("*") if path.is_file()]
    assert left == ["journal.sqlite"]


def test_clearing_a_missing_folder(tmp_path: Path) -> None:
    """Clearing where there is nothing is not an error, and creates nothing."""
    clear_parts(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


async def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the file and the reason, whichever step fails."""
    (tmp_path / ".fanbench").touch()
    log = log_part(tmp_path, 7, inline)
    with pytest.raises(OutputError, match=r"Cannot write the log .*7\.part: "):
        await log.write("x" * 100_000)
    with pytest.raises(OutputError, match=r"Cannot write the log .*7\.part: "):
        log.place(tmp_path / "run.log")
    (tmp_path / ".fanbench").unlink()
    (tmp_path / "run.log").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write the log .*run\.log: "):
        log.place(tmp_path / "run.log")


async def test_a_log_recovers_from_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of which a full disk took a part is written again at the same position."""
    resource = pytest.importorskip("resource")

    log = log_part(tmp_path, 7, inline)
    await log.write("a" * 70_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            await log.write("b" * 70_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert log.part.stat().st_size == 100_000
    log.place(tmp_path / "run.log")
    assert (tmp_path / "run.log").read_text() == "a" * 70_000 + "b" * 70_000


async def test_a_log_has_its_name_when_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content reaches the disk first, then the name, then the folder."""
    disk = Disk(monkeypatch)
    (tmp_path / "t").mkdir()
    log = log_part(tmp_path, 7, inline)
    for text in ("a" * 70_000, "b"):
        await log.write(text)
    log.place(tmp_path / "t" / "run.log")
    assert disk.asked == [
        ("fsync", "7.part", b"a" * 70_000 + b"b"),
        ("rename", "7.part", "run.log"),
        ("fsync", "t", None),
    ]


async def test_a_log_on_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the task's folder is on another file system, the log is copied there and then renamed."""
    replace = Path.replace

    def across(self: Path, target: Path) -> Path:
        if self.suffix == ".part" and self.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", across)
    log = log_part(tmp_path, 7, inline)
    await log.write("said\n")
    disk = Disk(monkeypatch)
    log.place(tmp_path / "t" / "run.log")
    beside = disk.asked[1][1]
    assert beside.startswith(".run.log")
    assert disk.asked[1:] == [
        ("fsync", beside, b"said\n"),
        ("rename", beside, "run.log"),
        ("fsync", "t", None),
    ]
    assert (tmp_path / "t" / "run.log").read_text() == "said\n"
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["run.log"]
    assert not log.part.exists()
