"""A log that is recorded now and shown later: in between, most of it is on disk."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import anyio.to_thread

__all__ = ["LogBuffer"]

# The bytes of a log that are held in memory, and read from disk at a time.
_CHUNK = 64 * 1024


class LogBuffer:
    """A buffer with one writer, and one reader that may start at any time and reads everything from the start.

    The file is reopened for each chunk, so that a thousand logs that wait to be shown keep no file open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()
        self._on_disk = 0
        self._read = 0
        self._closed = False
        self._news = anyio.Event()
        self._moving = anyio.Lock()

    async def write(self, text: str) -> None:
        self._buffer += text.encode("utf-8", "replace")
        self._news.set()
        if len(self._buffer) >= _CHUNK:
            async with self._moving:
                data, self._buffer = bytes(self._buffer), bytearray()
                await anyio.to_thread.run_sync(self._append, data)
                self._on_disk += len(data)

    def close(self) -> None:
        """Announce that nothing more will be written."""
        self._closed = True
        self._news.set()

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Yield the text as it arrives, until the buffer is closed."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            news = self._news = anyio.Event()
            closed = self._closed
            async with self._moving:
                if self._read < self._on_disk:
                    data = await anyio.to_thread.run_sync(self._load)
                    self._read += len(data)
                else:
                    data, self._buffer = bytes(self._buffer), bytearray()
            if data:
                yield decoder.decode(data)
            elif closed:
                return
            else:
                await news.wait()

    def _append(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)

    def _load(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._read)
            return file.read(_CHUNK)
