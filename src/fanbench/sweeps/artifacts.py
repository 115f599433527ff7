"""Outputs and logs on disk: how they are fingerprinted and checked, and where logs are until they are complete.

All functions wait for the disk: call them in a thread (`Offload`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
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
    "clear_parts",
    "contents_of",
    "log_is_whole",
    "log_part",
    "output_is_whole",
    "saved_output",
]

#: The log in a run's folder, which fanbench writes and which is not part of the output.
RUN_LOG = "run.log"

# Incomplete logs are kept outside the runs' folders, because a download replaces those as a whole.
_PARTS = JOURNAL.parent / "logs"
_SUFFIX = ".part"


# --- Outputs ------------------------------------------------------------------------------------------------


def saved_output(path: str, contents: Iterable[UnpackedFile]) -> SavedOutput:
    """Return the record of an output at `path` with these files, leaving out the log that fanbench writes.

    The digest is taken over one line per file, sorted by name (as bytes, with slashes): the SHA-256 of its content
    in hex, two spaces, its name, a zero byte.
    """
    files = sorted((os.fsencode(file.name), file) for file in contents if file.name != RUN_LOG)
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(file.digest.encode() + b"  " + name + b"\0")
    return SavedOutput(
        path,
        files=len(files),
        size=sum(file.size for _, file in files),
        digest=digest.hexdigest(),
        changed=max((file.changed for _, file in files), default=0),
    )


def contents_of(folder: Path) -> list[UnpackedFile]:
    """Return the files of the output `folder` as they are now, without our log. Links are not followed or counted.

    Raises:
        OutputError: A file cannot be read.
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
    """Return True if the output is on disk unchanged.

    Its content is read only if a file was written or renamed since, as all files were in a copy of the folder.
    """
    folder = root / output.path
    try:
        found = [file.stat(follow_symlinks=False) for file in _files(folder)]
        if len(found) != output.files or sum(info.st_size for info in found) != output.size:
            return False
        untouched = all(changed(info) <= output.changed for info in found)
        return untouched or saved_output(output.path, contents_of(folder)).digest == output.digest
    except (OSError, OutputError):
        return False


def log_is_whole(root: Path, log: SavedLog) -> bool:
    """Return True if the log is on disk with its full size."""
    try:
        found = (root / log.path).stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == log.size


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all files of an output but our log, in any order."""
    log = os.path.join(folder, RUN_LOG)
    todo = [os.fspath(folder)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.path != log:
                    yield entry


# --- Logs ---------------------------------------------------------------------------------------------------


def log_part(root: Path, run_id: int, offload: Offload = anyio.to_thread.run_sync) -> LogFile:
    """Return the file for the log of a run of the sweep in `root` while it is being written."""
    return LogFile(root / _PARTS / f"{run_id}{_SUFFIX}", offload)


def clear_parts(root: Path) -> None:
    """Remove incomplete logs that a killed process has left. No other process may be working in `root`."""
    with suppress(OSError):
        for part in (root / _PARTS).glob(f"*{_SUFFIX}"):
            part.unlink(missing_ok=True)
