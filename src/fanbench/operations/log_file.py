"""The one writer of log files. A file gets its final name once the log is complete, and not before."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._util import files
from fanbench._util.concurrency import Offload
from fanbench.wire.log_lines import LineCounter

__all__ = ["LogFile", "log_file"]

# The bytes of a log that are held in memory before they are written.
_CHUNK = 64 * 1024
# Passing a buffer size spares the system call that asks whether the file is a terminal.
_BUFFER = 64 * 1024
_HINT = "Check that there is free space and that you may write there, or name another folder with -o."


class LogFile:
    """A log that is written to the file `part`, and moved into place when it is complete.

    Text is buffered. It is written once there is a chunk of 64 KiB, or with the first text that comes `every` seconds
    after the last was written: so others can follow a slow log in `part`, and a short one is written once, at its end.
    `lines` and `size` (in bytes) count all text so far; a last line without its end counts. One task may write at a
    time.

    `part` may be in another folder than the final file, even on another file system: a sweep keeps its parts
    outside the folders of the runs, because a download replaces such a folder as a whole. `write` calls the
    disk through `offload`; `place` and `drop` block, so call them in a thread. Errors name the file `shown`, by
    default `part`.
    """

    def __init__(
        self,
        part: Path,
        offload: Offload = anyio.to_thread.run_sync,
        *,
        shown: Path | None = None,
        every: float = math.inf,
    ) -> None:
        self.part = part
        self.lines = 0
        self.size = 0
        self._offload = offload
        self._shown = shown or part
        self._buffer = bytearray()
        self._on_disk = 0
        self._counter = LineCounter()
        self._every = every
        self._written_at: float | None = None

    async def write(self, text: str) -> None:
        """Append `text`.

        Raises:
            OutputError: The part cannot be written.
        """
        data = text.encode("utf-8", "replace")
        self._buffer += data
        self.size += len(data)
        self._counter.feed(text)
        self.lines = self._counter.lines
        now = anyio.current_time()
        if self._written_at is None:
            self._written_at = now
        if len(self._buffer) >= _CHUNK or now - self._written_at >= self._every:
            self._written_at = now
            await self._offload(self._flush)

    def place(self, target: Path) -> None:
        """Move the log to `target`, durably; an existing file there is replaced in one step.

        Raises:
            OutputError: The file cannot be written.
        """
        self._flush(durably=True)
        with files.output_errors(f"write the log {target}", hint=_HINT):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                files.move(self.part, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # On another file system, the log is copied beside its place first, so that it appears there whole.
                with files.replacing(target) as beside:
                    shutil.copyfile(self.part, beside)
                self.part.unlink(missing_ok=True)

    def drop(self) -> None:
        """Discard the log. Does nothing once it is in place."""
        self._buffer.clear()
        with suppress(OSError):
            self.part.unlink(missing_ok=True)

    def _flush(self, *, durably: bool = False) -> None:
        # A killed process or a full disk may have left something at or behind our position: it is cut off.
        flags = os.O_WRONLY | os.O_CREAT | (0 if self._on_disk else os.O_TRUNC)
        with files.output_errors(f"write the log {self._shown}", hint=_HINT):
            if not self._on_disk:
                self.part.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.part, flags, 0o666)
            with open(handle, "wb", _BUFFER) as file:
                if self._on_disk:
                    file.truncate(self._on_disk)
                    file.seek(self._on_disk)
                file.write(self._buffer)
                if durably:
                    file.flush()
                    os.fsync(file.fileno())
        self._on_disk += len(self._buffer)
        self._buffer.clear()


@asynccontextmanager
async def log_file(path: Path) -> AsyncGenerator[LogFile, None]:
    """A log file that is moved to `path` at the end of the block; if the block fails, `path` is left as it was.

    Raises:
        OutputError: The file cannot be written.
    """
    file = LogFile(path.with_name(f".{path.name}.{os.getpid()}.tmp"), shown=path)
    try:
        yield file
        await anyio.to_thread.run_sync(file.place, path)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(file.drop)
        raise
