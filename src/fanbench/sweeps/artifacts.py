"""Outputs and logs on disk: how they are fingerprinted and checked, and where logs are until they are complete.

All functions wait for the disk: call them in a thread (`Offload`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import anyio.to_thread

from fanbench._util import files
from fanbench._util.concurrency import Offload
from fanbench._util.layout import EARLIER_LOG
from fanbench.errors import OutputError
from fanbench.operations.log_file import LogFile
from fanbench.sweeps.attempts import SavedLog, SavedOutput
from fanbench.sweeps.journal import JOURNAL
from fanbench.wire.safe_unzip import UnpackedFile, changed

__all__ = [
    "clear_parts",
    "contents_of",
    "log_is_whole",
    "log_part",
    "output_is_whole",
    "path_of_part",
    "saved_output",
]

# Incomplete logs are kept where no reader of results comes across them.
_PARTS = JOURNAL.parent / "logs"
_SUFFIX = ".part"
# Seconds between two writes of a log that others follow.
_SHOWN_EVERY = 1.0


# --- Outputs ------------------------------------------------------------------------------------------------


def saved_output(path: str, contents: Iterable[UnpackedFile]) -> SavedOutput:
    """Return the record of an output at `path` with these files.

    The digest is taken over one line per file, sorted by name (as bytes, with slashes): the SHA-256 of its content
    in hex, two spaces, its name, a zero byte.
    """
    files = sorted((os.fsencode(file.name), file) for file in contents)
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
    """Return the files of the output `folder` as they are now. Links are not followed or counted.

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

    Its content is read only if a file was written or renamed since, as all files were in a copy of the folder. The log
    that an earlier version of fanbench wrote into the folder is not a part of the output.
    """
    folder = root / output.path
    try:
        found = {file.path: file.stat(follow_symlinks=False) for file in _files(folder)}
        if _is_whole(folder, output, found):
            return True
        log = os.path.join(folder, EARLIER_LOG)
        return found.pop(log, None) is not None and _is_whole(folder, output, found)
    except (OSError, OutputError):
        return False


def _is_whole(folder: Path, output: SavedOutput, found: Mapping[str, os.stat_result]) -> bool:
    """Return True if the files that were `found`, by their paths, are those of the output, unchanged."""
    if len(found) != output.files or sum(info.st_size for info in found.values()) != output.size:
        return False
    if all(changed(info) <= output.changed for info in found.values()):
        return True
    contents = [file for file in contents_of(folder) if os.path.join(folder, file.name) in found]
    return saved_output(output.path, contents).digest == output.digest


def log_is_whole(root: Path, log: SavedLog) -> bool:
    """Return True if the log is on disk with its full size."""
    try:
        found = (root / log.path).stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == log.size


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all files of an output, in any order."""
    todo = [os.fspath(folder)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry


# --- Logs ---------------------------------------------------------------------------------------------------


def log_part(root: Path, run_id: int, offload: Offload = anyio.to_thread.run_sync) -> LogFile:
    """Return the file for the log of a run of the sweep in `root` while it is being written."""
    return LogFile(path_of_part(root, run_id), offload, every=_SHOWN_EVERY)


def path_of_part(root: Path, run_id: int) -> Path:
    """Return where the log of a run of the sweep in `root` is while it is being written."""
    return root / _PARTS / f"{run_id}{_SUFFIX}"


def clear_parts(root: Path) -> None:
    """Remove incomplete logs that a killed process has left. No other process may be working in `root`."""
    with suppress(OSError):
        for part in (root / _PARTS).glob(f"*{_SUFFIX}"):
            part.unlink(missing_ok=True)
