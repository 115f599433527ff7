"""A run's log on disk: one entry of the wire a line, appended as the run prints, followed while it does."""

from __future__ import annotations

import codecs
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec

from fanbench.wire.messages import LogEntry

_CHUNK = 1 << 18
_encode = msgspec.json.Encoder().encode


class RunLog:
    """The log of a run in progress. `limit` is in bytes of text; what comes after it is counted, not kept."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._file = path.open("wb")
        self._limit = limit
        self._size = 0
        self._start = time.monotonic()
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        self._grown = anyio.Event()
        self.closed = False

    def append(self, stream: str, data: bytes) -> None:
        """Take what the run wrote to `stream`; empty `data` is its end. Binary becomes U+FFFD."""
        text = self._decoders[stream].decode(data, final=not data)
        if text and self._size < self._limit:
            self._write(stream, text)
            if self._size >= self._limit:
                megabytes = self._limit / 1e6
                self._write(
                    "stderr", f"\n[fanbench] the log ends here: over {megabytes:g} MB (--log-limit)\n"
                )

    def note(self, text: str) -> None:
        """A line of the server's own, such as why the run could not start."""
        self._write("stderr", text if text.endswith("\n") else f"{text}\n")

    def _write(self, stream: str, text: str) -> None:
        self._size += len(text)
        elapsed = round(time.monotonic() - self._start, 6)
        self._file.write(_encode(LogEntry(stream_name=stream, time=elapsed, data=text)) + b"\n")
        self._file.flush()
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, anyio.Event()
        grown.set()

    def close(self) -> None:
        self._file.close()
        self.closed = True
        self._wake()

    async def follow(self) -> AsyncIterator[bytes]:
        """Every entry from the first on, as JSON, until the run ends."""
        rest = b""
        with self.path.open("rb") as file:
            while True:
                grown, closed = self._grown, self.closed
                while data := file.read(_CHUNK):
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        yield line
                    await anyio.lowlevel.checkpoint()
                if closed:
                    return
                await grown.wait()


def last_lines(path: Path, count: int) -> str:
    """The last lines of a log that has ended, for an error message."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _CHUNK))
        entries = file.read().splitlines()
    text = ""
    for entry in reversed(entries):
        try:
            text = msgspec.json.decode(entry, type=LogEntry).data + text
        except msgspec.DecodeError:
            break  # the first of the chunk may be half an entry
        if text.count("\n") > count:
            break
    return "\n".join(text.splitlines()[-count:])


def stored_as_list(path: Path) -> AsyncIterator[bytes]:
    """The whole log of an ended run as one JSON list, in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"["
        async with await anyio.open_file(path, "rb") as file:
            before = b""
            while data := await file.read(_CHUNK):
                # A newline separates entries: within JSON text it is always escaped.
                body = before + data
                before = b"\n" if body.endswith(b"\n") else b""
                yield body.removesuffix(b"\n").replace(b"\n", b",\n")
        yield b"]"

    return pieces()
