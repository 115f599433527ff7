"""Outputs of runs: fetched, verified, unpacked beside their place, and swapped in.

At no time is there less than before: the folder that was there is moved aside only when the new one is
whole, and comes back if the new one cannot take its place.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import anyio
from anyio import from_thread, to_thread

from fanbench._util.files import output_errors, sync
from fanbench.errors import OutputError
from fanbench.wire import protocol
from fanbench.wire.messages import RunRequest
from fanbench.wire.safe_unzip import BadZip, UnpackedFile, unpack
from fanbench.wire.transfer import Progress, new_file, transfer

if TYPE_CHECKING:
    from fanbench.wire.transport import Transport

__all__ = ["BadZip", "Downloaded", "Progress", "download_output"]

CLEAN_UP_TIMEOUT = 10.0
_STAGE = ".part"
_OLD = ".old.part"


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The folder, the names of its files relative to it, and their size in bytes altogether; `contents`, by name."""

    path: Path
    files: tuple[str, ...]
    size: int
    contents: tuple[UnpackedFile, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, path: Path, contents: Iterable[UnpackedFile]) -> Downloaded:
        made = tuple(sorted(contents))
        return cls(path, tuple(file.name for file in made), sum(file.size for file in made), made)


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
    with output_errors(f"write the output to {target}"):
        async with _stage(target) as stage:
            await transfer(transport, protocol.DOWNLOAD_OUTPUT, request, stage.archive, progress)
            contents = await to_thread.run_sync(stage.put_in_place)
    return Downloaded.of(stage.target, contents)


@asynccontextmanager
async def _stage(target: Path) -> AsyncIterator[_Stage]:
    stage = await to_thread.run_sync(_Stage.open, target)
    try:
        yield stage
    finally:
        if stage.litter:
            # Bounded: a disk that hangs must not hold up the end of the program.
            with anyio.move_on_after(CLEAN_UP_TIMEOUT, shield=True):
                await to_thread.run_sync(stage.clear, abandon_on_cancel=True)


@dataclass(slots=True)
class _Stage:
    """`path` is where the new folder is made, beside `target`: a rename works within one file system only.

    `litter` is what there is still to be removed. Each method does all it can in one go: the way to a thread
    and back takes longer than most of its steps.
    """

    target: Path
    path: Path
    archive: IO[bytes]
    litter: list[Path]

    @classmethod
    def open(cls, target: Path) -> _Stage:
        target = target.absolute()
        if not _make_parent(target):
            target = _real_place(target)
            _make_parent(target)
            _clear_stale(target)
        path = target.with_name(f".{target.name}-{os.getpid()}-{secrets.token_hex(4)}{_STAGE}")
        path.mkdir()
        return cls(target, path, new_file(path), [path])

    def put_in_place(self) -> list[UnpackedFile]:
        """The archive is whole: unpack it, and let the folder take its place. Ends early when cancelled."""
        contents = unpack(self.archive, self.path, check=from_thread.check_cancelled)
        self.archive.close()  # where files must have names, it has one in the new folder
        old = self.path.with_name(self.path.name.removesuffix(_STAGE) + _OLD)
        self.litter = [old] if _swap(self.path, self.target, old) else []
        return contents

    def clear(self) -> None:
        with suppress(OSError):
            self.archive.close()
        for path in self.litter:
            shutil.rmtree(path, ignore_errors=True)


def _real_place(target: Path) -> Path:
    """Where the folder really is, if `target` is a link to it: the link shall go on leading there."""
    real = target.resolve() if target.is_symlink() else target
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
            if path.name.endswith(_OLD) and not target.exists():
                path.rename(target)
            else:
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


def _swap(new: Path, target: Path, old: Path) -> bool:
    """Put `new` in the place of `target`; whether there was one, which is `old` now."""
    try:
        target.rename(old)
        had_one = True
    except FileNotFoundError:
        had_one = False
    try:
        new.rename(target)
    except OSError:
        if had_one:
            old.rename(target)
        raise
    sync(target.parent)
    return had_one
