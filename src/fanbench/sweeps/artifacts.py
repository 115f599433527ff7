"""Outputs and logs on the disk: fingerprinted, checked, put in their place.

All of it waits for the disk: call it in a thread (`Offload`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from fanbench._util import files
from fanbench.errors import OutputError
from fanbench.sweeps._journal_file import JOURNAL
from fanbench.sweeps._offload import Offload
from fanbench.sweeps.attempts import SavedLog, SavedOutput
from fanbench.wire.safe_unzip import UnpackedFile, changed

__all__ = [
    "RUN_LOG",
    "Fingerprint",
    "LogPart",
    "clear_parts",
    "contents_of",
    "fingerprint",
    "fingerprint_of",
    "log_is_whole",
    "output_is_whole",
]

#: The log in a run's folder. It is ours, and no part of the output.
RUN_LOG = "run.log"

# Where logs are until they are complete: outside the runs' folders, which a download replaces as a whole.
_PARTS = JOURNAL.parent / "logs"
_SUFFIX = ".part"

# What is kept in memory of a log until it is written, in bytes.
_CHUNK = 64 * 1024
# Of a file. Given by name, it spares the question whether the file is a terminal.
_BUFFER = 64 * 1024


# --- Outputs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """How many files an output has, their bytes altogether, a SHA-256 over their names and contents, and when the
    newest was last written, in nanoseconds since 1970."""

    files: int
    size: int
    digest: str
    changed: int


def fingerprint(contents: Iterable[UnpackedFile]) -> Fingerprint:
    """What an output is that has these files. Our log of the run is no part of it.

    The digest is that of one line a file, in the order of their names (as bytes, with slashes): the SHA-256 of
    its content in hex, two spaces, its name, a zero byte.
    """
    files = sorted((os.fsencode(file.name), file) for file in contents if file.name != RUN_LOG)
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(file.digest.encode() + b"  " + name + b"\0")
    return Fingerprint(
        files=len(files),
        size=sum(file.size for _, file in files),
        digest=digest.hexdigest(),
        changed=max((file.changed for _, file in files), default=0),
    )


def fingerprint_of(folder: Path) -> Fingerprint:
    """What the output `folder` is now; see `contents_of` and `fingerprint`."""
    return fingerprint(contents_of(folder))


def contents_of(folder: Path) -> list[UnpackedFile]:
    """The files of the output `folder`, but for our log, as they are read now. Links are neither followed nor counted.

    Raises:
        OutputError: something there cannot be read.
    """
    found = []
    with _reported(folder, "read the output"):
        for file in _files(folder):
            with open(file.path, "rb", buffering=0) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
                info = os.fstat(content.fileno())
            name = Path(file.path).relative_to(folder).as_posix()
            found.append(UnpackedFile(name, info.st_size, digest, changed(info)))
    return found


def output_is_whole(root: Path, output: SavedOutput) -> bool:
    """Whether it is in its place as it was: its content is read only if a file was written or renamed since.

    (In a copy of the folder, all of them were.)
    """
    folder = root / output.path
    try:
        found = [file.stat(follow_symlinks=False) for file in _files(folder)]
        if len(found) != output.files or sum(info.st_size for info in found) != output.size:
            return False
        untouched = all(changed(info) <= output.changed for info in found)
        return untouched or fingerprint_of(folder).digest == output.digest
    except (OSError, OutputError):
        return False


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
        self._append(durably=True)
        with _reported(target, "write the log"):
            try:
                _move(self.path, target)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                _move(self.path, target)

    def drop(self) -> None:
        """Forget what was written, if it is not in its place."""
        self._buffer.clear()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _append(self, *, durably: bool = False) -> None:
        """Write at its own place in the file: behind what a killed process or a full disk has left is nothing."""
        with _reported(self.path, "write the log"), open(self._opened(), "wb", _BUFFER) as file:
            if self._on_disk:
                file.truncate(self._on_disk)
                file.seek(self._on_disk)
            file.write(self._buffer)
            if durably:
                file.flush()
                os.fsync(file.fileno())
        self._on_disk += len(self._buffer)
        self._buffer.clear()

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | (0 if self._on_disk else os.O_TRUNC)
        try:
            return os.open(self.path, flags, 0o666)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, flags, 0o666)


def clear_parts(root: Path) -> None:
    """Remove the parts of logs that a killed process has left. Nobody else may be at work in `root`."""
    with suppress(OSError):
        for part in (root / _PARTS).glob(f"*{_SUFFIX}"):
            part.unlink(missing_ok=True)


def _move(part: Path, target: Path) -> None:
    try:
        files.move(part, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_over(part, target)


def _move_over(part: Path, target: Path) -> None:
    """From one file system to another: whole under another name first."""
    beside = target.with_name(f".{target.name}.{part.name}")
    try:
        shutil.copyfile(part, beside)
        files.sync(beside)
        files.move(beside, target)
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
