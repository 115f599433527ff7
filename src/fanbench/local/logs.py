"""A run's log on disk, one log entry of the protocol per line. It can be followed while it grows."""

from __future__ import annotations

import codecs
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.lowlevel
import msgspec

from fanbench._util.text import without_surrogates
from fanbench.wire.messages import LogEntry

_CHUNK = 1 << 18
_encode = msgspec.json.Encoder().encode


class LiveLog:
    """The log of a run in progress. It keeps the first `limit` characters of text.

    There is no file until it is opened, or something is written: thousands of runs may wait for a machine.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._limit = limit
        self._size = 0
        self._start = 0.0
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        self._grown = anyio.Event()
        self._noted: set[str] = set()
        self.closed = False

    def open(self) -> BinaryIO:
        """Replace the log of an earlier attempt, unless this one is open. Times count from here."""
        if self._file is None:
            self._file = self.path.open("wb")
            self._start = time.monotonic()
        return self._file

    def append(self, stream: str, data: bytes) -> None:
        """Append what the run wrote to `stream`; empty `data` is its end. Invalid UTF-8 becomes U+FFFD."""
        text = self._decoders[stream].decode(data, final=not data)
        if text and self._size < self._limit:
            self._write(stream, text)
            if self._size >= self._limit:
                note = f"\n[fanbench] the log ends here: over {self._limit / 1e6:g} MB (--log-limit)\n"
                self._write("stderr", note)

    def note(self, text: str) -> None:
        """Append a line of the server, such as why the run could not start."""
        self._write("stderr", text if text.endswith("\n") else f"{text}\n")

    def note_once(self, text: str) -> None:
        """Append a line of the server, unless it was appended before, or the log is full."""
        if text not in self._noted and self._size < self._limit:
            self._noted.add(text)
            self.note(text)

    def _write(self, stream: str, text: str) -> None:
        self._size += len(text)
        text = without_surrogates(text)
        file = self.open()
        elapsed = round(time.monotonic() - self._start, 6)
        file.write(_encode(LogEntry(stream_name=stream, time=elapsed, data=text)) + b"\n")
        file.flush()
        grown, self._grown = self._grown, anyio.Event()
        grown.set()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self.closed = True
        self._grown.set()

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield every entry, as JSON, until the run ends."""
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
    """The last lines of a finished log, for an error message."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _CHUNK))
        entries = file.read().splitlines()
    text = ""
    for entry in reversed(entries):
        try:
            text = msgspec.json.decode(entry, type=LogEntry).data + text
        except msgspec.DecodeError:
            break  # the chunk may begin in the middle of an entry
        if text.count("\n") > count:
            break
    return "\n".join(text.splitlines()[-count:])


async def stored_as_list(path: Path) -> AsyncIterator[bytes]:
    """Yield the log of a finished run as one JSON list, in pieces."""
    yield b"["
    async with await anyio.open_file(path, "rb") as file:
        before = b""
        while data := await file.read(_CHUNK):
            # A newline separates entries: within JSON text it is always escaped.
            body = before + data
            before = b"\n" if body.endswith(b"\n") else b""
            yield body.removesuffix(b"\n").replace(b"\n", b",\n")
    yield b"]"
