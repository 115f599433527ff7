"""The progress display: lines at the bottom of a terminal, below what is printed meanwhile.

`Display` redraws its lines until its block ends. `Progress` is the display of most commands, one row per thing in
progress; `sweep` and `tasks status --watch` draw their own lines. Where stderr is not a terminal, and with `-q`,
a display is not `shown`, and views print lines instead.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TextIO

from click.globals import resolve_color_default

from fanbench._util.text import one_line
from fanbench.cli.output import Output
from fanbench.cli.screen import Screen, can_redraw

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = [
    "Display",
    "Progress",
    "Row",
    "RowLayout",
    "TimedRow",
    "Verdict",
    "clock",
    "render",
    "spinner",
]

#: How something ended; empty while it is in progress.
Verdict = Literal["", "good", "bad"]

# Work that ends sooner needs no progress. In seconds.
_DELAY = 0.5
_TICK = 0.1
# A redraw is followed by a pause that is this many times longer, so that drawing does not slow the work down.
_PAUSE_FACTOR = 20


class Display:
    """Lines that a thread draws on a terminal until the block ends, also while the event loop is busy.

    The screen is clean afterwards, unless the block was interrupted and `keep_on_interrupt` is set: then it shows
    how far the work was.
    """

    keep_on_interrupt = False

    def __init__(self, *, shown: bool, stream: TextIO | None = None) -> None:
        terminal = stream or sys.stderr
        self.shown = shown and can_redraw(terminal)
        self.color = resolve_color_default() is not False
        self._screen = Screen(terminal)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_over, name="progress", daemon=True)

    def lines(self, size: tuple[int, int]) -> list[str]:
        """The lines to draw on a screen of `size` (columns, rows). Called in the display's own thread.

        Each must be narrower than the screen, and at least one row must stay free for what is printed.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
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
            # An interrupt cancels the coroutine, so the error may also be the event loop's.
            interrupted = kind is not None and not issubclass(kind, Exception)
            self._screen.close(keep=interrupted and self.keep_on_interrupt)

    def _draw_until_over(self) -> None:
        # The work continues if the terminal is closed.
        with suppress(OSError, ValueError):
            pause = _DELAY
            while not self._over.wait(pause):
                started = time.thread_time()
                self._screen.draw(self.lines(self._screen.size))
                pause = max(_TICK, _PAUSE_FACTOR * (time.thread_time() - started))


# --- Rows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """The progress of one thing. Where there are more rows than lines, they are counted by `group`.

    `share` (0 to 1) is drawn as a bar. A `hidden` row is counted, but has no line of its own.
    """

    name: str
    state: str = ""
    group: str = ""
    detail: str = ""
    share: float | None = None
    end: Verdict = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class TimedRow:
    """A row, when it was first shown, and when it ended, in seconds of the monotonic clock."""

    row: Row
    begun: float
    ended: float | None = None


class Progress(Display):
    """Rows in the order in which they were added, and a line that counts them."""

    keep_on_interrupt = True

    def __init__(self, output: Output, *, what: str = "") -> None:
        super().__init__(shown=not output.quiet)
        self._what = what
        self._rows: dict[Hashable, TimedRow] = {}
        #: The end of the last line, after the numbers of rows.
        self.summary = ""
        self._lock = threading.Lock()
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return super().__enter__()

    def show(self, key: Hashable, row: Row) -> None:
        """Add a row, or change it."""
        now = time.monotonic()
        with self._lock:
            before = self._rows.get(key)
            # The clock of a hidden row starts when it gets a line.
            begun = now if before is None or (before.row.hidden and not row.hidden) else before.begun
            ended = ((before.ended if before else None) or now) if row.end else None
            self._rows[key] = TimedRow(row, begun, ended)

    def change(self, key: Hashable, state: str) -> None:
        """Change the state of a row, if it exists."""
        if (timed := self._rows.get(key)) is not None:
            self.show(key, replace(timed.row, state=state))

    def remove(self, key: Hashable) -> bool:
        """Remove a row, and return whether it existed."""
        with self._lock:
            return self._rows.pop(key, None) is not None

    def lines(self, size: tuple[int, int]) -> list[str]:
        now = time.monotonic()
        with self._lock:
            rows = list(self._rows.values())
        layout = RowLayout(rows, size, now, now - self._began, self._what, self.summary)
        return layout.lines(color=self.color)


@contextmanager
def spinner(output: Output, text: str) -> Iterator[Callable[[str], None]]:
    """One row, for work without parts. Call what is yielded with what it is doing now.

    Where there is no terminal, that is a line each.
    """
    with Progress(output) as progress:

        def show(text: str) -> None:
            progress.show("", Row(text))

        show(text)
        yield show if progress.shown else output.note


# --- What rows look like --------------------------------------------------------------------------------------

_SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {"good": "✓", "bad": "✗"}
_STYLES = {"": "cyan", "good": "green", "bad": "red"}
# The least numbers of columns for showing times and bars.
_ROOM_FOR_TIMES = 30
_ROOM_FOR_BARS = 60
_BAR = 20


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Rows on a screen of `size` (columns, rows) at the second `now`, and a line that counts them.

    Where there are more rows than lines, each group becomes one row; if those are too many, only the last line is
    drawn.
    """

    rows: Sequence[TimedRow]
    size: tuple[int, int]
    now: float
    seconds: float = 0.0
    what: str = ""
    summary: str = ""

    def lines(self, *, color: bool) -> list[str]:
        """The lines, each narrower than the screen, and at least one fewer than it has."""
        from rich.table import Table

        parts: list[RenderableType] = []
        if shown := self._fitting():
            table = Table.grid(padding=(0, 1, 0, 0))
            table.add_column(width=1)
            for timed in shown:
                table.add_row(*self._cells(timed))
            parts.append(table)
        if len(self.rows) > 1:
            ended = sum(bool(timed.row.end) for timed in self.rows)
            head = f"{clock(self.seconds)}  {ended} of {len(self.rows)} {self.what}".rstrip()
            parts.append(
                _text("  ".join(filter(None, [f"{head}: {_counts(self.rows)}", self.summary])), "bold")
            )
        return render(parts, self.size[0], color=color)

    def _fitting(self) -> list[TimedRow]:
        room = max(1, self.size[1] - 1) - (len(self.rows) > 1)
        shown = [timed for timed in self.rows if not timed.row.hidden]
        if len(shown) <= room:
            return shown
        groups: dict[str, list[TimedRow]] = {}
        for timed in self.rows:
            groups.setdefault(timed.row.group, []).append(timed)
        if not 1 < len(groups) <= room:
            return []
        summed_up = []
        for name, rows in groups.items():
            ends = {timed.row.end for timed in rows}
            end: Verdict = "" if "" in ends else "bad" if "bad" in ends else "good"
            share = sum(bool(timed.row.end) for timed in rows) / len(rows)
            ended = max(timed.ended or 0.0 for timed in rows) if end else None
            row = Row(name, _counts(rows), share=share, end=end)
            summed_up.append(TimedRow(row, min(timed.begun for timed in rows), ended))
        return summed_up

    def _cells(self, timed: TimedRow) -> list[RenderableType]:
        from rich.progress_bar import ProgressBar

        row, columns = timed.row, self.size[0]
        mark = _MARKS.get(row.end) or _SPIN[int(self.now / _TICK) % len(_SPIN)]
        style = _STYLES[row.end]
        cells: list[RenderableType] = [_text(mark, style), _text(row.name), _text(row.state, style)]
        if columns >= _ROOM_FOR_BARS:
            bar = None if row.share is None else ProgressBar(total=1.0, completed=row.share, width=_BAR)
            cells.append(bar or "")
        if columns >= _ROOM_FOR_TIMES:
            seconds = (self.now if timed.ended is None else timed.ended) - timed.begun
            cells += [_text(row.detail), _text(clock(seconds), "dim")]
        return cells


def render(parts: Sequence[RenderableType], columns: int, *, color: bool) -> list[str]:
    """The lines of what rich prints on a terminal of that many columns; each is narrower than it."""
    from io import StringIO

    from rich.console import Console

    console = Console(
        file=StringIO(),
        force_terminal=True,
        legacy_windows=False,
        color_system="standard" if color else None,
        width=max(1, columns - 1),
    )
    with console.capture() as capture:
        for part in parts:
            console.print(part, no_wrap=True, overflow="ellipsis")
    return capture.get().splitlines()


def _counts(rows: Sequence[TimedRow]) -> str:
    """`3 completed, 1 running`, with what has ended first."""
    states = Counter((not timed.row.end, timed.row.state.lower()) for timed in rows)
    return ", ".join(f"{number} {state}" for (_, state), number in sorted(states.items()))


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(one_line(text), style=style, no_wrap=True, overflow="ellipsis")


def clock(seconds: float) -> str:
    """`0:07`, `12:34`, `1:00:00`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
