"""Files that survive a crash, and errors of the disk as errors of fanbench.

After a power loss, a file is complete only if everything reached the disk in this order: the content, then the
name, then the folder that holds the name. `durable` functions wait for the disk at each step.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import anyio
import anyio.to_thread

from fanbench.errors import FanbenchError, OutputError, UsageError

__all__ = [
    "async_temporary_folder",
    "in_threads",
    "make_folders",
    "move",
    "open_regular",
    "output_errors",
    "read_text",
    "replacing",
    "sync",
    "temporary_folder",
    "write",
]

T = TypeVar("T")


def read_text(path: Path) -> str:
    """Return the text of a file that the user named; `-` is stdin.

    Raises:
        UsageError: The file is missing, is a folder, cannot be read, or is not UTF-8.
    """
    is_stdin = str(path) == "-"
    try:
        content = sys.stdin.buffer.read() if is_stdin else path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: The file does not exist.") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: This is a folder, not a file.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: The file cannot be read: {error}") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        source = "stdin" if is_stdin else path
        raise UsageError(f"{source}:{line}: The file is not UTF-8 text.", hint="Save it as UTF-8.") from None


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

    Readers see either the old file or the new one. After an error, the old one remains. A link stays one: the file that
    it leads to is replaced.
    """
    target = Path(os.path.realpath(target))
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

    `mode` is its permission bits; by default the umask decides. A device or a pipe stays what it is, and gets the data.
    """
    content = data.encode() if isinstance(data, str) else data
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    with replacing(target, durable=durable) as part:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with open(handle, "wb") as file:
            if mode is not None:
                os.chmod(part, mode)  # The umask may have removed some of the bits.
            file.write(content)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: It does not exist, or is a link or a special file.
    """
    # Without waiting for the writer of a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is not a regular file")
    return open(handle, "rb")


@contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder in `parent`, or with the system's temporary files; deleted at the end.

    A process that is killed leaves its folder. The next one that makes a folder with this prefix in the same place
    deletes it, except on Windows. So nothing else may use the prefix: where others have files, it begins with
    `.fanbench-`.
    """
    place = Path(os.path.abspath(parent or tempfile.gettempdir()))
    _delete_abandoned(prefix, place)
    folder, lock = _make_locked(prefix, place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def async_temporary_folder(prefix: str, parent: Path | None = None) -> AbstractAsyncContextManager[Path]:
    """`temporary_folder` without blocking the event loop."""
    return in_threads(temporary_folder(prefix, parent))


@asynccontextmanager
async def in_threads(context: AbstractContextManager[T]) -> AsyncGenerator[T, None]:
    """Enter and exit `context` in threads, because it blocks. It is exited even if this is cancelled."""
    entered = await anyio.to_thread.run_sync(context.__enter__)
    failure: tuple[Any, Any, Any] = (None, None, None)
    try:
        yield entered
    except BaseException as error:
        failure = type(error), error, error.__traceback__
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(context.__exit__, *failure)


# What tempfile.mkdtemp appends to the prefix.
_RANDOM = re.compile(r"[a-z0-9_]{8}")


def _make_locked(prefix: str, place: Path) -> tuple[Path, int | None]:
    """Make a folder and lock it, as long as this process lives: that distinguishes it from abandoned ones."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        lock = _lock(folder, wait=True)
        # Before it was locked, another process may have taken it for abandoned.
        if folder.is_dir():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _delete_abandoned(prefix: str, place: Path) -> None:
    """Delete this user's folders with the prefix that no process holds."""
    with suppress(OSError):
        names = [
            entry.name
            for entry in os.scandir(place)
            if entry.name.startswith(prefix) and _RANDOM.fullmatch(entry.name, len(prefix))
        ]
        for folder in (place / name for name in names):
            lock = _lock(folder, wait=False)
            if lock is not None:
                try:
                    # Deleted while it is locked, so that its maker cannot have begun to use it.
                    if os.fstat(lock).st_uid == os.geteuid():
                        shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Lock the folder itself until the returned handle is closed. None if it is locked, or cannot be."""
    try:
        import fcntl
    except ImportError:
        return None  # Windows locks no folders.
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another process, or a file system without locks
        os.close(handle)
        return None
    return handle


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
