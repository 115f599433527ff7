"""Text that is written now and read later, in between on disk."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import anyio.to_thread

__all__ = ["Spool"]

# What is kept in memory of one log, and read back at a time, in bytes.
_CHUNK = 64 * 1024


class Spool:
    """One writer, one reader that may begin at any time and sees everything from the start.

    The file is opened for each chunk anew: a thousand logs that wait to be shown hold no file open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()
        self._on_disk = 0
        self._read = 0
        self._closed = False
        self._news: anyio.Event | None = None
        self._moving = anyio.Lock()

    async def write(self, text: str) -> None:
        self._buffer += text.encode("utf-8", "replace")
        self._tell()
        if len(self._buffer) >= _CHUNK:
            await self._flush()

    def close(self) -> None:
        """Nothing more will be written."""
        self._closed = True
        self._tell()

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The text as it comes, until the end."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            news = self._news = anyio.Event()
            closed = self._closed
            data = await self._take()
            if data:
                yield decoder.decode(data)
            elif closed:
                return
            else:
                await news.wait()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    async def _flush(self) -> None:
        async with self._moving:
            data, self._buffer = bytes(self._buffer), bytearray()
            await anyio.to_thread.run_sync(self._append, data)
            self._on_disk += len(data)

    async def _take(self) -> bytes:
        """The next bytes: from the disk as long as there are some, then those in memory."""
        async with self._moving:
            if self._read < self._on_disk:
                data = await anyio.to_thread.run_sync(self._load)
                self._read += len(data)
                return data
            data, self._buffer = bytes(self._buffer), bytearray()
            return data

    def _append(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)

    def _load(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._read)
            return file.read(_CHUNK)
