"""Outputs and logs on the disk: fingerprinted, checked, put in their place.

All of it waits for the disk: call it in a thread (`Offload`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from fanbench._util import files
from fanbench._util.concurrency import Offload
from fanbench.errors import OutputError
from fanbench.operations.log_file import LogFile
from fanbench.sweeps.attempts import SavedLog, SavedOutput
from fanbench.sweeps.journal import JOURNAL
from fanbench.wire.safe_unzip import UnpackedFile, changed

__all__ = [
    "RUN_LOG",
    "Fingerprint",
    "clear_parts",
    "contents_of",
    "fingerprint",
    "fingerprint_of",
    "log_is_whole",
    "log_part",
    "output_is_whole",
]

#: The log in a run's folder. It is ours, and no part of the output.
RUN_LOG = "run.log"

# Where logs are until they are complete: outside the runs' folders, which a download replaces as a whole.
_PARTS = JOURNAL.parent / "logs"
_SUFFIX = ".part"


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
    with files.output_errors(f"read the output {folder}", hint="Check that you may read there."):
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


def log_part(root: Path, run_id: int, offload: Offload = anyio.to_thread.run_sync) -> LogFile:
    """The log of a run of the sweep in `root` while it is being written."""
    return LogFile(root / _PARTS / f"{run_id}{_SUFFIX}", offload)


def clear_parts(root: Path) -> None:
    """Remove the parts of logs that a killed process has left. Nobody else may be at work in `root`."""
    with suppress(OSError):
        for part in (root / _PARTS).glob(f"*{_SUFFIX}"):
            part.unlink(missing_ok=True)
