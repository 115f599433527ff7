"""The text of log entries as lines. An entry may hold several lines, or any part of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

from fanbench.wire.messages import LogEntry

__all__ = ["LineCounter", "Lines", "lines"]

# A program that never ends its line must not fill the memory.
_LONGEST = 64 * 1024


class Lines:
    """Cuts entries into lines; an unfinished line waits for the next entry of its stream.

    stdout and stderr are cut separately, so that a line of one does not end up inside a line of the other. A
    line of more than `longest` characters is given out in parts.
    """

    def __init__(self, longest: float = _LONGEST) -> None:
        self._longest = longest
        self._open: dict[str, list[str]] = {}
        self._length: dict[str, int] = {}

    def feed(self, entry: LogEntry) -> list[str]:
        """Return the lines that `entry` completes, without their line ends."""
        *ended, rest = entry.data.split("\n")
        if ended and (start := self._open.pop(entry.stream_name, None)):
            ended[0] = "".join(start) + ended[0]
        result = [line.removesuffix("\r") for line in ended]
        if rest:
            parts = self._open.setdefault(entry.stream_name, [])
            length = len(rest) + (self._length.get(entry.stream_name, 0) if parts else 0)
            parts.append(rest)
            self._length[entry.stream_name] = length
            if length > self._longest:
                result.append("".join(self._open.pop(entry.stream_name)))
        return result

    def flush(self) -> list[str]:
        """Return the last lines, which have no line end."""
        rest, self._open = ["".join(parts) for parts in self._open.values()], {}
        return rest


async def lines(entries: AsyncIterable[LogEntry]) -> AsyncGenerator[str, None]:
    """Yield whole lines of any length; if `entries` is a generator, it is closed with this one."""
    cutter = Lines(longest=float("inf"))
    try:
        async for entry in entries:
            for line in cutter.feed(entry):
                yield line
    finally:
        if isinstance(entries, AsyncGenerator):
            await entries.aclose()
    for line in cutter.flush():
        yield line


class LineCounter:
    """Counts lines as a reader sees them: a last line without its line end counts, too."""

    def __init__(self) -> None:
        self._ends = 0
        #: True while the last line has no line end yet.
        self.open = False

    def feed(self, text: str) -> None:
        if text:
            self._ends += text.count("\n")
            self.open = not text.endswith("\n")

    @property
    def lines(self) -> int:
        return self._ends + self.open
