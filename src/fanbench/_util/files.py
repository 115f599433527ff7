"""Files that survive a crash, and errors of the disk as errors of fanbench.

After a power loss, a file is complete only if everything reached the disk in this order: the content, then the
name, then the folder that holds the name. `durable` functions wait for the disk at each step.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench.errors import FanbenchError, OutputError

__all__ = ["make_folders", "move", "output_errors", "replacing", "sync", "temporary_folder", "write"]


def sync(path: Path) -> None:
    """Flush the content of the file, or the names in the folder, to the disk."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return  # Windows cannot flush a folder, and does so by itself.
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move(part: Path, target: Path) -> None:
    """Rename a file that is complete and on the disk, replacing `target` in one step."""
    part.replace(target)
    sync(target.parent)


@contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a free path in the same folder; a file written there replaces `target` at the end of the block.

    Readers see either the old file or the new one. After an error, the old one remains.
    """
    part = target.with_name(f".{target.name}-{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        yield part
        if durable:
            sync(part)
            move(part, target)
        else:
            part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write(target: Path, data: bytes | str, *, mode: int | None = None, durable: bool = True) -> None:
    """Replace `target` with a file of this content (text as UTF-8), completely or not at all.

    `mode` is its permission bits; by default the umask decides.
    """
    content = data.encode() if isinstance(data, str) else data
    with replacing(target, durable=durable) as part:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with open(handle, "wb") as file:
            if mode is not None:
                os.chmod(part, mode)  # The umask may have removed some of the bits.
            file.write(content)


@asynccontextmanager
async def temporary_folder(prefix: str, parent: Path | None = None) -> AsyncGenerator[Path, None]:
    """A new folder in `parent`, or with the system's temporary files; deleted at the end, also if cancelled."""
    made = await anyio.to_thread.run_sync(
        lambda: os.path.abspath(tempfile.mkdtemp(prefix=prefix, dir=parent))
    )
    try:
        yield Path(made)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(made, ignore_errors=True))


def make_folders(folder: Path) -> None:
    """Create the folder and its missing parents, durably."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


@contextmanager
def output_errors(
    deed: str,
    *,
    hint: str = "Check the free space and the permissions.",
    kind: type[FanbenchError] = OutputError,
) -> Iterator[None]:
    """Turn an OSError in the block into an error such as "Cannot `deed`: No space left on device."."""
    try:
        yield
    except OSError as error:
        raise kind(f"Cannot {deed}: {error.strerror or error}.", hint=hint) from error
