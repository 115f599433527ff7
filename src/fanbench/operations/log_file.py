"""A run's log on its way into a file. The file is there when the log is complete, and not before."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench.errors import OutputError

__all__ = ["LogFile", "log_file"]

# What is kept in memory until it is written, in bytes.
_CHUNK = 64 * 1024


class LogFile:
    """Written through a temporary file beside it; nothing is made before there is something to write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._buffer = bytearray()

    async def write(self, text: str) -> None:
        """
        Raises:
            OutputError: it cannot be written.
        """
        self._buffer += text.encode("utf-8", "replace")
        if len(self._buffer) >= _CHUNK:
            await anyio.to_thread.run_sync(self._append)

    def keep(self) -> None:
        self._append(sync=True)
        with _disk_errors_reported(self.path):
            self._temporary.replace(self.path)

    def drop(self) -> None:
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _append(self, *, sync: bool = False) -> None:
        with _disk_errors_reported(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._temporary.open("ab") as file:
                file.write(self._buffer)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
        self._buffer.clear()


@asynccontextmanager
async def log_file(path: Path) -> AsyncGenerator[LogFile, None]:
    """A file for the log that is read in the block; if that fails, an earlier one stays as it was.

    Raises:
        OutputError: it cannot be written.
    """
    file = LogFile(path)
    try:
        yield file
        await anyio.to_thread.run_sync(file.keep)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(file.drop)
        raise


@contextmanager
def _disk_errors_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Cannot write the log {path}: {error.strerror}.", hint="Name another folder with -o."
        ) from None
