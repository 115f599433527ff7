"""Outputs of runs: fetched, verified, unpacked beside their place, and swapped in.

At no time is there less than before: the folder that was there is moved aside only when the new one is
whole, and comes back if the new one cannot take its place.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import anyio
from anyio import from_thread, to_thread

from fanbench._errors import OutputError
from fanbench.api import _calls
from fanbench.api._durable import sync
from fanbench.api._transfer import Progress, new_file, transfer
from fanbench.api._zips import BadZip, Unpacked, unpack
from fanbench.api.messages import RunRequest

if TYPE_CHECKING:
    from fanbench.api._transport import Transport

__all__ = ["BadZip", "Downloaded", "Progress", "download_output"]

CLEAN_UP_TIMEOUT = 10.0
_STAGE = ".part"


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The folder, the names of its files relative to it, and their size in bytes altogether."""

    path: Path
    files: tuple[str, ...]
    size: int


async def download_output(
    transport: Transport,
    run_id: int,
    target: Path,
    *,
    include_source: bool = False,
    progress: Progress | None = None,
) -> Downloaded:
    """See `Client.download_output`."""
    request = RunRequest(run_id=run_id, include_source=include_source)
    with _disk_errors_reported(target):
        async with _stage(target) as stage:
            await transfer(transport, _calls.DOWNLOAD_OUTPUT, request, stage.archive, progress)
            files = await to_thread.run_sync(stage.put_in_place)
    return Downloaded(stage.target, tuple(sorted(files)), sum(files.values()))


@asynccontextmanager
async def _stage(target: Path) -> AsyncIterator[_Stage]:
    stage = await to_thread.run_sync(_Stage.open, target)
    try:
        yield stage
    finally:
        if not stage.is_gone:
            # Bounded: a disk that hangs must not hold up the end of the program.
            with anyio.move_on_after(CLEAN_UP_TIMEOUT, shield=True):
                await to_thread.run_sync(stage.clear, abandon_on_cancel=True)


@dataclass(slots=True)
class _Stage:
    """A folder for all that is temporary, beside `target`: a rename works within one file system only.

    Each method does all it can in one go: the way to a thread and back takes longer than most of its steps.
    """

    target: Path
    path: Path
    archive: IO[bytes]
    is_gone: bool = False

    @classmethod
    def open(cls, target: Path) -> _Stage:
        target = _real_place(target)
        if not _make_parent(target):
            _clear_stale(target)
        prefix = f".{target.name}-{os.getpid()}-"
        path = Path(tempfile.mkdtemp(prefix=prefix, suffix=_STAGE, dir=target.parent))
        return cls(target, path, new_file(path))

    def put_in_place(self) -> Unpacked:
        """The archive is whole: unpack it, and let the folder take its place. Ends early when cancelled."""
        files = _unpack_safely(self.archive, self.path / "new")
        _swap(self.path / "new", self.target, self.path / "old")
        self.clear()
        return files

    def clear(self) -> None:
        with suppress(OSError):
            self.archive.close()
        try:
            self.path.rmdir()
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
        self.is_gone = True


def _real_place(target: Path) -> Path:
    """Where the folder really is, if `target` is a link to it: the link shall go on leading there."""
    real = target.resolve() if target.is_symlink() else target.absolute()
    if real.exists() and not real.is_dir():
        raise OutputError(f"Cannot write the output to {target}: it is a file, not a folder.")
    return real


def _make_parent(target: Path) -> bool:
    """False if it was there."""
    try:
        target.parent.mkdir(parents=True)
    except FileExistsError:
        if not target.parent.is_dir():
            raise
        return False
    return True


def _clear_stale(target: Path) -> None:
    """Remove what a program that was killed has left of a download to `target`, and put back what it had moved."""
    pattern = re.compile(rf"\.{re.escape(target.name)}-(\d+)-.*{re.escape(_STAGE)}")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not _is_alive(int(match[1])):
            if (path / "old").is_dir() and not target.exists():
                (path / "old").rename(target)
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # to ask there is to kill
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _unpack_safely(archive: IO[bytes], folder: Path) -> Unpacked:
    """Unpacked, and on the disk. Ends early when the waiting task is cancelled."""
    folder.mkdir()
    return unpack(archive, folder, check=from_thread.check_cancelled)


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put `new` in the place of `target`, which is kept as `old` until then."""
    with suppress(FileNotFoundError):
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync(target.parent)


@contextmanager
def _disk_errors_reported(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"Cannot write the output to {target}: {reason}.", hint="Is there space, and may you write there?"
        ) from error
