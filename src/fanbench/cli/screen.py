"""A region at the bottom of a terminal that is redrawn, while everything that is printed scrolls above it.

`rich.live` passes what others print through its own layout, which wraps long lines, and it loses its place when
the terminal gets narrower. Here what is printed reaches the stream unchanged.
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

from fanbench._util.text import one_line
from fanbench.cli.streams import write_raw

__all__ = ["Screen", "can_redraw"]

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"
# At most this many printed characters are held back, so that a burst of lines needs only one redraw.
_HELD = 1 << 16
_DEFAULT_SIZE = (80, 24)

SignalHandler = Callable[[int, FrameType | None], Any] | int | None


def can_redraw(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can move its cursor."""
    # A Windows console does not interpret the codes unless told to; it gets plain lines.
    return stream.isatty() and os.name != "nt" and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Screen:
    """The region on `terminal`, and what the program prints meanwhile.

    While it is open, it replaces those of `sys.stdout` and `sys.stderr` that are terminals. Complete lines go to
    the stream that they were written to; an unfinished line is shown at the top of the region. The cursor is
    hidden only during a write, so that it stays visible however the process ends.
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
        self._before: SignalHandler = signal.SIG_DFL

    def open(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream.isatty():
                above = cast("TextIO", _Above(self, stream))
                self._replaced[name] = (stream, above)
                setattr(sys, name, above)
        self._before = self._on_continue(self._forget)

    def close(self, *, keep: bool = False) -> None:
        """Remove the region from the terminal, or `keep` it as if it had been printed.

        What is kept does not end with a newline: the handling of an interrupt prints that.
        """
        with self._lock:
            for name, (stream, above) in self._replaced.items():
                if getattr(sys, name) is above:
                    setattr(sys, name, stream)
            self._replaced.clear()
            self._on_continue(self._before)
            last = "\n".join(self._lines) if keep and self._drawn else ""
            self._lines = []
            # The terminal may have been closed.
            with suppress(OSError):
                self._flush()
                for stream, tail in self._tails.items():
                    _put(stream, f"{tail}\n" if last else tail)
                _put(self._terminal, last)
            self._tails.clear()

    @property
    def size(self) -> tuple[int, int]:
        """The current numbers of columns and rows."""
        with suppress(OSError, ValueError):
            columns, rows = os.get_terminal_size(self._terminal.fileno())
            if columns and rows:
                return columns, rows
        return _DEFAULT_SIZE

    def draw(self, lines: Sequence[str]) -> None:
        """Make `lines` the region. Each must be narrower than the screen."""
        with self._lock:
            if self._held or list(lines) != self._lines or not self._drawn:
                self._lines = list(lines)
                self._flush()

    def write(self, stream: TextIO, text: str) -> None:
        """Print above the region: at the next `draw`, or at once if there is no region or much to print."""
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
        """After a stop (Ctrl-Z) the region is no longer where it was drawn, so it must not be drawn over."""
        with self._lock:
            self._drawn = []

    @staticmethod
    def _on_continue(handler: SignalHandler) -> SignalHandler:
        """Set the handler for a continue after a stop, and return the previous one."""
        if threading.current_thread() is threading.main_thread():
            return signal.signal(signal.SIGCONT, handler)
        return signal.SIG_DFL

    def _flush(self) -> None:
        """Print what is held, and draw the region again below it. The lock is held."""
        columns, rows = self.size
        held, self._held, self._size_held = self._held, [], 0
        with suppress(OSError, ValueError):
            if os.tcgetpgrp(self._terminal.fileno()) != os.getpgrp():
                # In the background, another program's screen must not be touched.
                self._lines, self._drawn = [], []
        start = ""
        if self._drawn:
            # Move to the region's first line. A terminal that got narrower has wrapped its lines.
            height = sum(max(1, -(-width // columns)) for width in self._drawn)
            up = min(height, rows) - 1
            start = f"\r\x1b[{up}A" if up else "\r"
        if held and start:
            _put_raw(self._terminal, start + _CLEAR_BELOW)
            start = ""
        for stream, text in held:
            _put(stream, text)
        # Of unfinished lines, the last part, without characters that could move the cursor. Some are two columns wide.
        plain = [one_line(click.unstyle(tail)) for tail in self._tails.values()]
        unfinished = [text[-max(1, (columns - 1) // 2) :] for text in plain]
        shown = [*unfinished, *self._lines][-rows:] if self._lines else []
        if shown or start:
            region = "\n".join(f"{line}{_CLEAR_LINE}" for line in shown)
            _put_raw(self._terminal, f"{_HIDE}{start}{region}{_CLEAR_BELOW}{_SHOW}")
        self._drawn = []
        if shown:
            from rich.cells import cell_len

            self._drawn = [cell_len(click.unstyle(line)) for line in shown]


class _Above:
    """Stands in for a standard stream while there is a region."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen = screen
        self._stream = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click writes bytes to find out the kind of a stream
            raise TypeError("text streams take text")
        self._screen.write(self._stream, text)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """Do nothing: what was written is shown at the next redraw."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _put(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _put_raw(stream: TextIO, text: str) -> None:
    write_raw(stream, text)
    stream.flush()
