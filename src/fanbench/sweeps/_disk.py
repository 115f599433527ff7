"""Outputs and logs on the disk: sealed, checked, put in their place.

All of it waits for the disk: call it in a thread (`Offload`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from fanbench._errors import OutputError
from fanbench.api import _durable
from fanbench.sweeps._journal_file import JOURNAL
from fanbench.sweeps._offload import Offload
from fanbench.sweeps.units import SavedLog, SavedOutput

__all__ = [
    "RUN_LOG",
    "LogPart",
    "Sealed",
    "clear_parts",
    "log_is_whole",
    "output_is_whole",
    "seal",
]

#: The log in a run's folder. It is ours, and no part of the output.
RUN_LOG = "run.log"

# Where logs are until they are complete: outside the runs' folders, which a download replaces as a whole.
_PARTS = JOURNAL.parent / "logs"
_SUFFIX = ".part"

# What is kept in memory of a log until it is written, in bytes.
_CHUNK = 64 * 1024


# --- Outputs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sealed:
    """How many files an output has, their bytes altogether, and a SHA-256 over their names and contents."""

    files: int
    size: int
    digest: str


def seal(folder: Path) -> Sealed:
    """What is in the output `folder`, but for our log of the run. Links are neither followed nor counted.

    The digest is that of one line a file, in the order of their names relative to `folder` (as bytes, with
    slashes): the SHA-256 of its content in hex, two spaces, its name, a zero byte.

    Raises:
        OutputError: something there cannot be read.
    """
    with _reported(folder, "read the output"):
        found = sorted((_name(folder, file), file) for file in _files(folder))
        digest = hashlib.sha256()
        size = 0
        for name, file in found:
            with open(file.path, "rb") as content:
                digest.update(
                    hashlib.file_digest(content, "sha256").hexdigest().encode() + b"  " + name + b"\0"
                )
                size += content.tell()
    return Sealed(len(found), size, digest.hexdigest())


def output_is_whole(root: Path, output: SavedOutput) -> bool:
    """Whether it is in its place with as many files and bytes as it had. Their content is not read."""
    folder = root / output.path
    try:
        sizes = [file.stat(follow_symlinks=False).st_size for file in _files(folder)]
    except OSError:
        return False
    return len(sizes) == output.files and sum(sizes) == output.size


def log_is_whole(root: Path, log: SavedLog) -> bool:
    """Whether it is in its place with as many bytes as it had."""
    try:
        found = (root / log.path).stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == log.size


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """All files of an output, in any order."""
    todo = [os.fspath(folder)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and not _is_our_log(folder, entry):
                    yield entry


def _is_our_log(folder: Path, entry: os.DirEntry[str]) -> bool:
    return entry.name == RUN_LOG and entry.path == os.path.join(folder, RUN_LOG)


def _name(folder: Path, file: os.DirEntry[str]) -> bytes:
    return os.fsencode(Path(file.path).relative_to(folder).as_posix())


# --- Logs ---------------------------------------------------------------------------------------------------


class LogPart:
    """A log on its way: in `<root>/.fanbench/logs/<run_id>.part` until it is complete.

    `lines` and `size` (in bytes) are those of all that was written. One task writes; nothing is made before
    there is a chunk to write.
    """

    def __init__(self, root: Path, run_id: int, offload: Offload = anyio.to_thread.run_sync) -> None:
        self.path = root / _PARTS / f"{run_id}{_SUFFIX}"
        self.size = 0
        self._offload = offload
        self._buffer = bytearray()
        self._on_disk = 0
        self._ends = 0
        self._open_line = False

    @property
    def lines(self) -> int:
        """Also a last one without an end is a line."""
        return self._ends + self._open_line

    async def write(self, text: str) -> None:
        """
        Raises:
            OutputError: it cannot be written.
        """
        if not text:
            return
        data = text.encode("utf-8", "replace")
        self._buffer += data
        self.size += len(data)
        self._ends += data.count(b"\n")
        self._open_line = not data.endswith(b"\n")
        if len(self._buffer) >= _CHUNK:
            await self._offload(self._append)

    def place(self, target: Path) -> None:
        """Make the log the file `target`, durably; what was there is replaced in one step.

        Raises:
            OutputError: that cannot be done.
        """
        self._append()
        with _reported(target, "write the log"):
            _durable.sync(self.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            _move(self.path, target)

    def drop(self) -> None:
        """Forget what was written, if it is not in its place."""
        self._buffer.clear()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _append(self) -> None:
        """Write at its own place in the file: behind what a killed process or a full disk has left is nothing."""
        with _reported(self.path, "write the log"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
            with open(handle, "wb") as file:
                file.truncate(self._on_disk)
                file.seek(self._on_disk)
                file.write(self._buffer)
        self._on_disk += len(self._buffer)
        self._buffer.clear()


def clear_parts(root: Path) -> None:
    """Remove the parts of logs that a killed process has left. Nobody else may be at work in `root`."""
    with suppress(OSError):
        for part in (root / _PARTS).glob(f"*{_SUFFIX}"):
            part.unlink(missing_ok=True)


def _move(part: Path, target: Path) -> None:
    try:
        _durable.move(part, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_over(part, target)


def _move_over(part: Path, target: Path) -> None:
    """From one file system to another: whole under another name first."""
    beside = target.with_name(f".{target.name}.{part.name}")
    try:
        shutil.copyfile(part, beside)
        _durable.sync(beside)
        _durable.move(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    part.unlink(missing_ok=True)


@contextmanager
def _reported(path: Path, deed: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Cannot {deed} {path}: {error.strerror or error}.",
            hint="Is there space, and may you read and write there?",
        ) from error
