"""The last lines of a terminal as a region that is drawn anew, while all that is printed scrolls above it.

Not `rich.live`: that passes what others print through its own layout, which breaks long lines, and loses its
place when the terminal gets narrower. Here every byte that is printed reaches the terminal as it is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, TextIO, cast

import click

__all__ = ["Screen", "can_redraw"]

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"
# What is printed in a burst is held for so many characters at most: one redraw for many lines.
_HELD = 1 << 16
_DEFAULT_SIZE = (80, 24)

Handler = Callable[[int, FrameType | None], Any] | int | None


def can_redraw(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can move its cursor."""
    # A Windows console has to be told first to understand the codes; plain lines do there.
    return stream.isatty() and os.name != "nt" and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Screen:
    """The region on `terminal`, and what the program prints meanwhile.

    While it is open, `sys.stdout` (if that is a terminal, too) and `sys.stderr` lead here. Lines go on to
    where they were meant to go; a line without an end waits for it as the first of the region. The cursor is
    hidden for the time of a write only, so that whatever ends the process leaves it visible.
    """

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._drawn: list[int] = []
        self._held: list[tuple[TextIO, str]] = []
        self._size_held = 0
        self._tails: dict[TextIO, str] = {}
        self._replaced: dict[str, tuple[TextIO, TextIO]] = {}
        self._before: Handler = signal.SIG_DFL

    def open(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream.isatty():
                above = cast("TextIO", _Above(self, stream))
                self._replaced[name] = (stream, above)
                setattr(sys, name, above)
        self._before = self._on_continue(self._forget)

    def close(self, *, keep: bool = False) -> None:
        """Leaves the terminal as if the region had never been, or, to `keep` it, as if it had been printed.

        What is kept has no end yet: an interrupt ends the line that the terminal is in, whatever that is.
        """
        with self._lock:
            self._put_back()
            last = "\n".join(self._lines) if keep and self._drawn else ""
            self._lines = []
            # A terminal that is gone is no news to who has closed it.
            with suppress(OSError):
                self._flush()
                for stream, tail in self._tails.items():
                    _put(stream, f"{tail}\n" if last else tail)
                _put(self._terminal, last)
            self._tails.clear()

    def _put_back(self) -> None:
        for name, (stream, above) in self._replaced.items():
            if getattr(sys, name) is above:
                setattr(sys, name, stream)
        self._replaced.clear()
        self._on_continue(self._before)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        with suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(self._terminal.fileno())
            if columns and rows:
                return columns, rows
        return _DEFAULT_SIZE

    def draw(self, lines: Sequence[str]) -> None:
        """Makes `lines` the region. None may be as wide as the screen."""
        with self._lock:
            if self._held or list(lines) != self._lines or not self._drawn:
                self._lines = list(lines)
                self._flush()

    def write(self, stream: TextIO, text: str) -> None:
        """Prints above the region: at once if it is not drawn, else at the next `draw`, or when it is much."""
        with self._lock:
            if not self._replaced:
                _put(stream, text)
                return
            ended, mark, tail = (self._tails.pop(stream, "") + text).rpartition("\n")
            if mark:
                self._held.append((stream, ended + mark))
                self._size_held += len(ended)
            if tail:
                self._tails[stream] = tail
            if not self._drawn or self._size_held > _HELD:
                self._flush()

    def _forget(self, *_: object) -> None:
        """We had been stopped, and the terminal was the shell's: what was drawn is not there to draw over."""
        with self._lock:
            self._drawn = []

    @staticmethod
    def _on_continue(handler: Handler) -> Handler:
        """Sets what happens when we go on after a stop; what it was before."""
        if threading.current_thread() is threading.main_thread():
            return signal.signal(signal.SIGCONT, handler)
        return signal.SIG_DFL

    # --- With the lock ---

    def _flush(self) -> None:
        columns, rows = self.size
        held, self._held, self._size_held = self._held, [], 0
        if not self._is_ours():
            self._lines, self._drawn = [], []
        start = self._start(columns, rows)
        if held and start:
            _put(self._terminal, start + _CLEAR_BELOW)
            start = ""
        for stream, text in held:
            _put(stream, text)
        self._put_region(start, columns, rows)

    def _start(self, columns: int, rows: int) -> str:
        """Moves to the region's first line. One that got narrower has broken the lines that were drawn."""
        if not self._drawn:
            return ""
        height = sum(max(1, -(-width // columns)) for width in self._drawn)
        up = min(height, rows) - 1
        return f"\r\x1b[{up}A" if up else "\r"

    def _put_region(self, start: str, columns: int, rows: int) -> None:
        shown = [*self._open_lines(columns), *self._lines][-rows:] if self._lines else []
        if shown or start:
            region = "\n".join(f"{line}{_CLEAR_LINE}" for line in shown)
            _put(self._terminal, f"{_HIDE}{start}{region}{_CLEAR_BELOW}{_SHOW}")
        self._drawn = [_width(line) for line in shown]

    def _open_lines(self, columns: int) -> list[str]:
        """The ends of lines that have none yet; without what could move the cursor."""
        plain = ("".join(filter(str.isprintable, click.unstyle(tail))) for tail in self._tails.values())
        # A character may be two columns wide.
        return [text[-max(1, (columns - 1) // 2) :] for text in plain]

    def _is_ours(self) -> bool:
        """Whether we are in the foreground; another program's screen is left alone."""
        try:
            return os.tcgetpgrp(self._terminal.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            return True


class _Above:
    """A standard stream, as the rest of the program sees it while there is a region."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen = screen
        self._stream = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # so does click find out what kind of stream it has
            raise TypeError("text streams take text")
        self._screen.write(self._stream, text)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """What has been written is shown soon by itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _put(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _width(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(click.unstyle(line))
