"""Files and names that are on the disk, so that a machine that loses its power has them after it.

The order is what counts: the content, then the name, then the folder that the name is in. All of it waits for
the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fanbench.errors import OutputError

__all__ = ["make_folders", "move", "output_errors", "sync", "write"]


def sync(path: Path) -> None:
    """Have the file, or the names in the folder, on the disk."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return  # it cannot be asked there; the system does so by itself
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move(part: Path, target: Path) -> None:
    """Give what is whole, and on the disk, its name; who has that name is replaced in one step."""
    part.replace(target)
    sync(target.parent)


def write(target: Path, data: bytes) -> None:
    """Readers see the old file or the new one, also after a crash; if that fails, the old one."""
    part = target.with_name(f".{target.name}-{os.getpid()}.part")
    try:
        part.write_bytes(data)
        sync(part)
        move(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def make_folders(folder: Path) -> None:
    """The folder with all above it, where they are not there."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


@contextmanager
def output_errors(
    deed: str, *, hint: str = "Check that there is free space and that you may write there."
) -> Iterator[None]:
    """Turn an OSError into an OutputError such as "Cannot write the log x/run.log: No space left on device."."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"Cannot {deed}: {error.strerror or error}.", hint=hint) from error
