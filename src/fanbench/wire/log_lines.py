"""Log entries, which hold any part of the text, cut into lines."""

from __future__ import annotations

from fanbench.wire.messages import LogEntry

__all__ = ["LineCounter", "Lines"]

# A program that never ends its line must not fill the memory.
_LONGEST = 64 * 1024


class Lines:
    """Cuts entries into lines; a line that is not over yet is kept for the next entry of its stream.

    Of each stream apart, so that a line of stderr does not end up inside one of stdout.
    """

    def __init__(self) -> None:
        self._open: dict[str, str] = {}

    def feed(self, entry: LogEntry) -> list[str]:
        """The lines that `entry` completes, without their ends."""
        *lines, rest = (self._open.pop(entry.stream_name, "") + entry.data).split("\n")
        if len(rest) > _LONGEST:
            lines.append(rest)
        elif rest:
            self._open[entry.stream_name] = rest
        return [line.removesuffix("\r") for line in lines]

    def flush(self) -> list[str]:
        """The last lines, which have no end."""
        lines, self._open = list(self._open.values()), {}
        return lines


class LineCounter:
    """Counts lines as a reader sees them: a last one without its end is one, too."""

    def __init__(self) -> None:
        self._ends = 0
        self._open = False

    def feed(self, text: str) -> None:
        if text:
            self._ends += text.count("\n")
            self._open = not text.endswith("\n")

    @property
    def lines(self) -> int:
        return self._ends + self._open

    @property
    def open(self) -> bool:
        """Whether the last line lacks its end."""
        return self._open
