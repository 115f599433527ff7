"""Download the output of a run, verify and unpack it beside its target, and swap it in.

An existing folder is moved aside only when the new one is complete, and moved back if the new one cannot take its
place.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import anyio
from anyio import from_thread, to_thread

from fanbench._util.files import output_errors, sync
from fanbench.errors import OutputError
from fanbench.wire import protocol
from fanbench.wire.messages import RunRequest
from fanbench.wire.safe_unzip import MAX_BYTES, BadZip, UnpackedFile, unpack
from fanbench.wire.transfer import ProgressCallback, new_file, transfer

if TYPE_CHECKING:
    from fanbench.wire.transport import Transport

__all__ = ["BadZip", "Downloaded", "ProgressCallback", "download_output"]

CLEAN_UP_TIMEOUT = 10.0
_NEW = ".part"
_OLD = ".old.part"
# How much larger than its files a zip may be: names and headers, for as many files as are unpacked.
_ZIP_OVERHEAD = 64 << 20


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A downloaded folder: the names of its files relative to `path`, sorted, and their total size in bytes."""

    path: Path
    files: tuple[str, ...]
    size: int
    contents: tuple[UnpackedFile, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, path: Path, contents: Iterable[UnpackedFile]) -> Downloaded:
        found = tuple(sorted(contents))
        return cls(path, tuple(file.name for file in found), sum(file.size for file in found), found)


async def download_output(
    transport: Transport,
    run_id: int,
    target: Path,
    *,
    include_source: bool = False,
    progress: ProgressCallback | None = None,
) -> Downloaded:
    """See `Client.download_output`."""
    request = RunRequest(run_id=run_id, include_source=include_source)
    max_output = transport.config.max_output
    with output_errors(f"write the output to {target}"):
        workspace = await to_thread.run_sync(_Workspace.create, target)
        try:
            most = (MAX_BYTES if max_output is None else max_output) + _ZIP_OVERHEAD
            await transfer(
                transport, protocol.DOWNLOAD_OUTPUT, request, workspace.archive, progress, max_bytes=most
            )
            contents = await to_thread.run_sync(workspace.put_in_place, max_output)
        finally:
            if workspace.leftovers:
                # Limited, because a disk that hangs must not delay the end of the program.
                with anyio.move_on_after(CLEAN_UP_TIMEOUT, shield=True):
                    await to_thread.run_sync(workspace.clean_up, abandon_on_cancel=True)
    return Downloaded.of(workspace.target, contents)


@dataclass(slots=True)
class _Workspace:
    """The new folder at `path`. It is beside `target`, because a folder cannot be renamed to another file system.

    Each method does several steps in one call, because a switch to a thread and back takes longer than most of them.
    `leftovers` are the folders that are still to be deleted.
    """

    target: Path
    path: Path
    archive: IO[bytes]
    leftovers: list[Path]

    @classmethod
    def create(cls, target: Path) -> _Workspace:
        target = target.absolute()
        try:
            target.parent.mkdir(parents=True)
        except FileExistsError:
            if target.is_symlink():  # The link is to stay, so the folder behind it is replaced.
                target = target.resolve()
                target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.is_dir():
                raise
            if target.exists() and not target.is_dir():
                raise OutputError(
                    f"Cannot write the output to {target}: it is a file, not a folder."
                ) from None
            _recover(target)
        path = target.with_name(f".{target.name}-{os.getpid()}-{os.urandom(4).hex()}{_NEW}")
        path.mkdir()
        return cls(target, path, new_file(path), [path])

    def put_in_place(self, max_bytes: int | None) -> list[UnpackedFile]:
        """Unpack the complete archive and swap the folders. Stops early if the download is cancelled."""
        contents = unpack(self.archive, self.path, check=from_thread.check_cancelled, max_bytes=max_bytes)
        self.archive.close()  # On systems where every file has a name, this one has it in the new folder.
        old = self.path.with_name(self.path.name.removesuffix(_NEW) + _OLD)
        try:
            self.target.rename(old)
            replaced = [old]
        except FileNotFoundError:
            replaced = []
        try:
            self.path.rename(self.target)
        except OSError:
            if replaced:
                old.rename(self.target)
            raise
        self.leftovers = replaced
        sync(self.target.parent)
        return contents

    def clean_up(self) -> None:
        with suppress(OSError):
            self.archive.close()
        for path in self.leftovers:
            shutil.rmtree(path, ignore_errors=True)


def _recover(target: Path) -> None:
    """Delete what killed programs left of downloads to `target`, and move back what they had moved aside."""
    pattern = re.compile(rf"\.{re.escape(target.name)}-(\d+)-.*{re.escape(_NEW)}")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not _is_alive(int(match[1])):
            if path.name.endswith(_OLD) and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # On Windows, os.kill with signal 0 would end the process.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
