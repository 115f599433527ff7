"""Progress on a terminal: a row for each thing that goes on, as long as that lasts.

Elsewhere, and with `-q`, none of it is there; then `Display.shown` is false and the views print lines.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from click.globals import resolve_color_default

from fanbench.cli.output import Output
from fanbench.cli.screen import Screen, can_redraw

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = ["Display", "Picture", "Row", "Timed", "clock", "spinner"]

T = TypeVar("T")
#: How something went; nothing while it goes on.
End = Literal["", "good", "bad"]

# What is over sooner needs no progress. All in seconds.
_DELAY = 0.5
_TICK = 0.1
# So many times longer than it takes to draw it does not draw.
_LEISURE = 10
_SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {"good": "✓", "bad": "✗"}
_STYLES = {"": "cyan", "good": "green", "bad": "red"}
# Columns of a screen that has room for times, and for bars.
_ROOM_FOR_TIMES = 30
_ROOM_FOR_BARS = 60
_BAR = 20


@dataclass(frozen=True, slots=True)
class Row:
    """How far one thing is. `group` is what it is counted in where there are more rows than lines.

    `share` (0 to 1) draws a bar. A `hidden` row is counted, and has no line of its own.
    """

    name: str
    state: str = ""
    group: str = ""
    detail: str = ""
    share: float | None = None
    end: End = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Timed:
    """A row, and since when it is shown, in seconds of the monotonic clock; `ended` where it has."""

    row: Row
    begun: float
    ended: float | None = None

    def seconds(self, now: float) -> float:
        return (now if self.ended is None else self.ended) - self.begun

    def changed(self, row: Row, now: float) -> Timed:
        ended = (self.ended or now) if row.end else None
        return Timed(row, now if self.row.hidden and not row.hidden else self.begun, ended)


class Display:
    """Rows in the order in which they were first shown, below what is printed meanwhile.

    A context manager. It draws from a thread of its own, so that time goes on while the event loop is busy.
    At the end the screen is clean, whatever went wrong; only an interrupt leaves the last rows on it.
    """

    def __init__(self, output: Output, *, what: str = "") -> None:
        self.shown = not output.quiet and can_redraw(sys.stderr)
        self._what = what
        self._rows: dict[Hashable, Timed] = {}
        self._summary = ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._screen = Screen(sys.stderr)
        self._thread = threading.Thread(target=self._draw_on, name="progress", daemon=True)
        self._began = 0.0
        self._colour = resolve_color_default() is not False

    def show(self, key: Hashable, row: Row) -> None:
        """Adds a row, or changes it."""
        now = time.monotonic()
        with self._lock:
            before = self._rows.get(key)
            self._rows[key] = (
                before.changed(row, now) if before else Timed(row, now, now if row.end else None)
            )

    def row(self, key: Hashable) -> Row | None:
        """What is shown for `key`."""
        timed = self._rows.get(key)
        return timed.row if timed else None

    def remove(self, key: Hashable) -> None:
        with self._lock:
            self._rows.pop(key, None)

    def change(self, key: Hashable, state: str, end: End = "") -> None:
        """A new state of a row that is there."""
        if (row := self.row(key)) is not None:
            self.show(key, replace(row, state=state, end=end))

    def sum_up(self, text: str) -> None:
        """What the last line says besides the numbers of rows."""
        self._summary = text

    async def around(self, work: Awaitable[T]) -> T:
        """The result of `work`, with the rows on the screen until it is there."""
        with self:
            return await work

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self.shown:
            self._screen.open()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shown:
            self._over.set()
            self._thread.join()
            # A coroutine that is interrupted is cancelled, by an error of its event loop.
            self._screen.close(keep=kind is not None and not issubclass(kind, Exception))

    def _draw_on(self) -> None:
        # A terminal that is gone is no failure of the work.
        with suppress(OSError, ValueError):
            wait = _DELAY
            while not self._over.wait(wait):
                started = time.monotonic()
                self._screen.draw(self._picture().lines(colour=self._colour))
                # Many rows take a while to lay out, and the work must not wait for its progress.
                wait = max(_TICK, _LEISURE * (time.monotonic() - started))

    def _picture(self) -> Picture:
        now = time.monotonic()
        with self._lock:
            rows = list(self._rows.values())
        return Picture(rows, self._screen.size, now, now - self._began, self._what, self._summary)


@contextmanager
def spinner(output: Output, text: str) -> Iterator[Callable[[str], None]]:
    """One line for work without parts. What is yielded says what it does now: there, or as a line elsewhere."""
    with Display(output) as display:

        def say(text: str) -> None:
            display.show("", Row(text))

        say(text)
        yield say if display.shown else output.note


# --- What it looks like ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows on a screen of `size` (columns, rows) at the second `now`; the line below them says it in short.

    Where there are more rows than lines, those of a group become one, and if these are too many, that last
    line says all.
    """

    rows: Sequence[Timed]
    size: tuple[int, int]
    now: float
    seconds: float = 0.0
    what: str = ""
    summary: str = ""

    def lines(self, *, colour: bool) -> list[str]:
        """None as wide as the screen, and at least one fewer than it has: what is printed needs room, too."""
        from io import StringIO

        from rich.console import Console

        console = Console(
            file=StringIO(),
            force_terminal=True,
            legacy_windows=False,
            color_system="standard" if colour else None,
            width=max(1, self.size[0] - 1),
        )
        with console.capture() as capture:
            self._print(console)
        return capture.get().splitlines()

    def _print(self, console: Console) -> None:
        shown = self._fitting()
        if shown:
            console.print(self._table(shown))
        if len(self.rows) > 1:
            console.print(self._footer(), no_wrap=True, overflow="ellipsis")

    def _fitting(self) -> list[Timed]:
        room = max(1, self.size[1] - 1) - (len(self.rows) > 1)
        shown = [timed for timed in self.rows if not timed.row.hidden]
        if len(shown) <= room:
            return shown
        groups = self._groups()
        return groups if 1 < len(groups) <= room else []

    def _groups(self) -> list[Timed]:
        members: dict[str, list[Timed]] = {}
        for timed in self.rows:
            members.setdefault(timed.row.group, []).append(timed)
        return [_grouped(name, timed) for name, timed in members.items()]

    def _table(self, shown: Sequence[Timed]) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=1)
        for timed in shown:
            table.add_row(*self._cells(timed))
        return table

    def _cells(self, timed: Timed) -> list[RenderableType]:
        row, columns = timed.row, self.size[0]
        mark = _MARKS.get(row.end) or _SPIN[int(self.now / _TICK) % len(_SPIN)]
        style = _STYLES[row.end]
        cells: list[RenderableType] = [_text(mark, style), _text(row.name), _text(row.state, style)]
        if columns >= _ROOM_FOR_BARS:
            cells.append(_bar(row.share))
        if columns >= _ROOM_FOR_TIMES:
            cells += [_text(row.detail), _text(clock(timed.seconds(self.now)), "dim")]
        return cells

    def _footer(self) -> Text:
        ended = sum(bool(timed.row.end) for timed in self.rows)
        head = f"{clock(self.seconds)}  {ended} of {len(self.rows)} {self.what}".rstrip()
        return _text("  ".join(filter(None, [f"{head}: {_counts(self.rows)}", self.summary])), "bold")


def _grouped(name: str, members: Sequence[Timed]) -> Timed:
    """One line for all of them."""
    ends = {timed.row.end for timed in members}
    end: End = "" if "" in ends else "bad" if "bad" in ends else "good"
    share = sum(bool(timed.row.end) for timed in members) / len(members)
    ended = max(timed.ended or 0.0 for timed in members) if end else None
    begun = min(timed.begun for timed in members)
    return Timed(Row(name, _counts(members), share=share, end=end), begun, ended)


def _counts(rows: Sequence[Timed]) -> str:
    """`3 completed, 1 running`: what has ended first."""
    words = Counter((not timed.row.end, timed.row.state.lower()) for timed in rows)
    return ", ".join(f"{number} {word}" for (_, word), number in sorted(words.items()))


def _text(text: str, style: str = "") -> Text:
    """Names come from servers: nothing in them may move the cursor."""
    from rich.text import Text

    return Text("".join(filter(str.isprintable, text)), style=style, no_wrap=True, overflow="ellipsis")


def _bar(share: float | None) -> RenderableType:
    from rich.progress_bar import ProgressBar

    return "" if share is None else ProgressBar(total=1.0, completed=share, width=_BAR)


def clock(seconds: float) -> str:
    """`0:07`, `12:34`, `1:00:00`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
