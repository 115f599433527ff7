"""A simulated terminal: what a program has left on the screen, and what has scrolled off it."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.warm import Forked, warm_python

__all__ = ["Screen", "Session", "session", "start_on_terminal"]

PROGRAM = Path(__file__).parents[1] / "e2e/ours.py"

_ESCAPE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")
_UNFINISHED = re.compile(r"\x1b(\[[?\d;]*)?$")


@dataclass
class _Line:
    """One row. If it is `broken`, its text continues in the next one, because the screen ended."""

    text: list[str] = field(default_factory=list)
    broken: bool = False


@dataclass
class Screen:
    """The terminal functions that the program may use; any other is an error.

    When it gets narrower, it wraps long lines, as most terminals do.
    """

    columns: int = 80
    rows: int = 24
    cursor_shown: bool = True
    styles: set[str] = field(default_factory=set)
    moves: int = 0

    def __post_init__(self) -> None:
        self._lines = [_Line()]
        self._row = self._column = 0
        self._rest = ""

    @property
    def text(self) -> str:
        """What is on the screen, without spaces at line ends and empty lines at the end."""
        return _shown(self._lines[self._top :])

    @property
    def history(self) -> str:
        """The screen and everything that has scrolled off it, with broken rows joined."""
        return _shown([_Line(text) for text, _ in self._joined()])

    @property
    def begins_line(self) -> bool:
        """Whether the cursor is where a shell's prompt should be: on a new line below the output."""
        return self._column == 0 and not self._lines[self._row].text and bool(self._lines[self._row - 1].text)

    @property
    def _top(self) -> int:
        return max(0, len(self._lines) - self.rows)

    def feed(self, text: str) -> None:
        text = self._rest + text
        unfinished = _UNFINISHED.search(text)
        self._rest = unfinished[0] if unfinished else ""
        text = text[: len(text) - len(self._rest)]
        end = 0
        for escape in _ESCAPE.finditer(text):
            self._print(text[end : escape.start()])
            self._obey(*escape.groups())
            end = escape.end()
        self._print(text[end:])

    def resize(self, columns: int, rows: int) -> None:
        """Wrap lines that are too long now, and join those that were wrapped."""
        self.columns, self.rows = columns, rows
        whole, self._lines = list(self._joined()), []
        for text, offset in whole:
            if offset is not None:
                down, self._column = divmod(offset, columns)
                self._row = len(self._lines) + down
            starts = range(0, max(1, len(text), (offset or 0) + 1), columns)
            self._lines += [_Line(text[start : start + columns], broken=True) for start in starts]
            self._lines[-1].broken = False

    def _joined(self) -> Iterator[tuple[list[str], int | None]]:
        """The lines as they were printed; for the one with the cursor, how far into it the cursor is."""
        text: list[str] = []
        offset = None
        for number, line in enumerate(self._lines):
            if number == self._row:
                offset = len(text) + self._column
            text += line.text
            if not line.broken:
                yield text, offset
                text, offset = [], None

    def _obey(self, numbers: str, letter: str) -> None:
        match letter:
            case "m":
                self.styles.add(numbers)
            case "A":
                self.moves += 1
                self._row = max(self._top, self._row - int(numbers or 1))
            case "J" if numbers in ("", "0"):
                self._clear_line()
                for line in self._lines[self._row + 1 :]:
                    line.text, line.broken = [], False
            case "K" if numbers in ("", "0"):
                self._clear_line()
            case "K" if numbers == "2":
                self._lines[self._row] = _Line()
            case "h" | "l" if numbers == "?25":
                self.cursor_shown = letter == "h"
            case _:
                raise AssertionError(f"nobody should send {numbers}{letter}")

    def _clear_line(self) -> None:
        line = self._lines[self._row]
        line.text, line.broken = line.text[: self._column], False

    def _print(self, text: str) -> None:
        for letter in text:
            if letter == "\r":
                self._column = 0
            elif letter == "\n":
                self._down()
            else:
                assert letter.isprintable(), repr(letter)
                self._put(letter)

    def _put(self, letter: str) -> None:
        if self._column >= self.columns:
            self._lines[self._row].broken = True
            self._down()
            self._column = 0
        text = self._lines[self._row].text
        text += " " * (self._column + 1 - len(text))
        text[self._column] = letter
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append(_Line())


def _shown(lines: list[_Line]) -> str:
    return "\n".join("".join(line.text).rstrip() for line in lines).rstrip("\n")


class Session:
    """The program on a terminal of its own."""

    def __init__(self, process: Forked, terminal: int, screen: Screen) -> None:
        self.process = process
        self.screen = screen
        self._terminal = terminal
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def interrupt(self) -> None:
        """Type Ctrl-C once the program sleeps: just before it reads an answer, an interrupt would get lost."""
        state = Path(f"/proc/{self.process.pid}/stat")
        end = time.monotonic() + 60
        while state.exists() and ") S " not in state.read_text():
            assert time.monotonic() < end
            time.sleep(0.01)
        self.type("\x03")

    def resize(self, columns: int, rows: int) -> None:
        """Resize the terminal, after drawing what was written before."""
        self.settle()
        _set_size(self._terminal, columns, rows)
        self.screen.resize(columns, rows)

    def settle(self) -> None:
        """Read what there is."""
        while self._read(0.0):
            pass

    def until(self, seen: Callable[[str], bool], seconds: float = 60.0) -> str:
        """Read until the screen is as wanted, and return its text."""
        end = time.monotonic() + seconds
        while not seen(self.screen.text):
            if not self._read(0.1) and (self.process.poll() is not None or time.monotonic() > end):
                raise AssertionError(f"this was never seen; the screen:\n{self.screen.text}")
        return self.screen.text

    def end(self, seconds: float = 60.0) -> int:
        """Read until the program ends, and return its exit code."""
        end = time.monotonic() + seconds
        while self._read(0.1) or self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end; the screen:\n{self.screen.text}"
        return self.process.wait()

    def _read(self, seconds: float) -> bool:
        if not select.select([self._terminal], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self._terminal, 1 << 16)
        except OSError:  # the program has closed its side
            return False
        self.screen.feed(self._decode(piece))
        return bool(piece)


@contextmanager
def session(
    *words: str, size: tuple[int, int] = (80, 24), stdout: int | None = None, **env: str
) -> Iterator[Session]:
    """Start the program with `words`. Its stdout is the terminal, unless `stdout` is given."""
    ours, terminal = pty.openpty()
    _set_size(ours, *size)
    process = start_on_terminal(terminal, words, stdout, {"TERM": "xterm-256color", **env})
    os.close(terminal)
    try:
        yield Session(process, ours, Screen(*size))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)


def start_on_terminal(
    terminal: int, words: Sequence[str], stdout: int | None, env: Mapping[str, str]
) -> Forked:
    """Start the program, controlled by a terminal: Ctrl-C that is typed there interrupts it."""
    return warm_python(PROGRAM).start(
        words,
        folder=Path.cwd(),
        environment={**os.environ, **env},
        out=terminal if stdout is None else stdout,
        err=terminal,
        stdin=terminal,
        controlled=True,
    )


def _set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
