"""A sweep on a terminal: a row of cells for each task, what it comes to, and the last lines of the logs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Self

from click.globals import resolve_color_default

from fanbench.cli.output import Output
from fanbench.cli.progress import clock
from fanbench.cli.screen import Screen, can_redraw
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.decide import RunStatus
from fanbench.sweeps.state import SweepState

if TYPE_CHECKING:
    from rich.style import Style

    from fanbench.sweeps.events import SweepEvent, SweepStarted

__all__ = ["Picture", "SweepScreen"]

# Seconds.
_DELAY = 0.2
_TICK = 0.1
# So many times longer than it takes to draw it does not draw.
_LEISURE = 20
_WIDEST_NAME = 32
_MOST_LINES = 10

# A mark, and a style of rich. What is worst, or most alive, comes first: it stands for several.
_MARKS: Mapping[RunStatus, tuple[str, str]] = {
    RunStatus.MISSING: ("?", "bold yellow"),
    RunStatus.ERRORED: ("✗", "red"),
    RunStatus.RUNNING: ("●", "cyan"),
    RunStatus.COLLECTING: ("◆", "blue"),
    RunStatus.QUEUED: ("○", "cyan"),
    RunStatus.SCHEDULED: ("○", "cyan"),
    RunStatus.UNSCHEDULED: ("·", "dim"),
    RunStatus.COMPLETED: ("✓", "green"),
}
# In the order in which they are counted.
_COUNTED = (
    RunStatus.COMPLETED,
    RunStatus.ERRORED,
    RunStatus.MISSING,
    RunStatus.COLLECTING,
    RunStatus.RUNNING,
    RunStatus.QUEUED,
    RunStatus.SCHEDULED,
    RunStatus.UNSCHEDULED,
)


class SweepScreen:
    """The picture of a `state`, at the bottom of the terminal as long as the context lasts.

    Where there is no terminal, and with `-q`, it is not `shown`. It draws from a thread of its own, so that
    time goes on while the event loop is busy; so the state changes through `absorb` only. `limit` is that of
    calls at a time before it first changes.
    """

    def __init__(self, output: Output, state: SweepState, *, limit: int | None = None) -> None:
        self.shown = not output.quiet and can_redraw(sys.stderr)
        self._state = state
        self._limit = limit
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._screen = Screen(sys.stderr)
        self._thread = threading.Thread(target=self._draw_on, name="sweep", daemon=True)
        self._colour = resolve_color_default() is not False

    def absorb(self, event: SweepEvent, at: datetime) -> None:
        with self._lock:
            self._state.absorb(event, at)

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
            self._screen.close()

    def _draw_on(self) -> None:
        # A terminal that is gone is no failure of the work.
        with suppress(OSError, ValueError):
            wait = _DELAY
            while not self._over.wait(wait):
                started = time.thread_time()
                with self._lock:
                    picture = Picture(self._state, self._screen.size, datetime.now(UTC), self._limit)
                    lines = picture.parts()
                self._screen.draw(rendered(lines, picture.size[0], colour=self._colour))
                wait = max(_TICK, _LEISURE * (time.thread_time() - started))


# --- What it looks like ---------------------------------------------------------------------------------------

#: Pieces of a line, each with its style.
Parts = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A sweep on a screen of `size` (columns, rows) at the time `now`.

    Where a task's cells do not fit into a line, they become one for each model, and then counts; where the
    tasks do not fit on the screen, one line counts all. Only what is seen is looked at.
    """

    state: SweepState
    size: tuple[int, int]
    now: datetime
    limit: int | None = None

    def lines(self, *, colour: bool) -> list[str]:
        """None as wide as the screen, and at least one fewer than it has: what is printed needs room, too."""
        return rendered(self.parts(), self.size[0], colour=colour)

    def parts(self) -> list[Parts]:
        """The lines before they are cut to the width of the screen."""
        started = self.state.started
        if started is None:
            return []
        room = max(1, self.size[1] - 1) - 1
        rows = list(self._rows(started)) if len(started.tasks) <= room else []
        lines = min(_MOST_LINES, room - len(rows))
        return [*rows, self._footer(), *self._log(lines)]

    # --- Tasks ---

    def _rows(self, started: SweepStarted) -> Iterator[Parts]:
        width = min(_WIDEST_NAME, max(map(_width, started.tasks), default=0))
        each = started.planned // max(1, len(started.tasks))
        left = self.size[0] - 1 - width - 2 - len(f"{each}/{each}")
        for task in started.tasks:
            counts: Mapping[RunStatus, int] = self.state.counts_by_task.get(task, {})
            over = sum(number for state, number in counts.items() if state.over)
            yield [
                (_padded(task, width), ""),
                (" ", ""),
                *self._cells(started, task, left),
                (f"{over}/{each}", "bold" if over == each else ""),
                ("  ", ""),
                *self._about(task, counts),
            ]

    def _cells(self, started: SweepStarted, task: str, left: int) -> Parts:
        repeats = range(1, started.repeats + 1)
        if len(started.models) * len(repeats) <= left:
            marks = [
                self._mark(PlannedRun(task, model, each)) for model in started.models for each in repeats
            ]
        elif len(started.models) <= left:
            marks = [self._worst(task, model, repeats) for model in started.models]
        else:
            return []
        return [*(_MARKS[state] for state in marks), (" ", "")]

    def _mark(self, planned_run: PlannedRun) -> RunStatus:
        cell = self.state.cells.get(planned_run)
        return cell.status if cell else RunStatus.UNSCHEDULED

    def _worst(self, task: str, model: str, repeats: range) -> RunStatus:
        there = {self._mark(PlannedRun(task, model, each)) for each in repeats}
        return next(state for state in _MARKS if state in there)

    def _about(self, task: str, counts: Mapping[RunStatus, int]) -> Parts:
        known = self.state.tasks.get(task)
        if known is not None and known.failed is not None:
            return [(f"failed: {known.failed}", "red")]
        if known is not None and known.creation is not None and not known.ready:
            return [(f"creation {known.creation.label.lower()}", "cyan")]
        return [(_words(counts), "dim")]

    # --- All ---

    def _footer(self) -> Parts:
        state = self.state
        head = f"{clock(self._seconds)}  {state.over} of {state.planned} runs"
        more = [self._left, _words(state.counts), *self._pace(), *self._money()]
        stopping = [("  stopping: " + state.draining.reason.value, "bold yellow")] if state.draining else []
        return [(head, "bold"), *stopping, *((f"  {text}", "") for text in more if text)]

    @property
    def _seconds(self) -> float:
        return max(0.0, (self.now - self.state.began).total_seconds()) if self.state.began else 0.0

    @property
    def _left(self) -> str:
        if self.state.over == self.state.planned:
            return ""
        left = self.state.seconds_left(self.now)
        return "time left unknown" if left is None else f"about {clock(left)} left"

    def _pace(self) -> Iterator[str]:
        limit = self.limit if self.state.limit is None else self.state.limit
        if limit is not None:
            yield f"limit {limit}"
        if (pace := self.state.calls_per_second(self.now)) is not None:
            yield f"{pace:.1f} calls/s"

    def _money(self) -> Iterator[str]:
        if (budget := self.state.budget) is not None:
            spent = "unknown" if budget.spent is None else f"${budget.spent:.2f}"
            yield f"spent {spent} of ${budget.cap:g}"

    # --- Logs ---

    def _log(self, number: int) -> Iterator[Parts]:
        if number > 0:
            for line in list(self.state.lines)[-number:]:
                yield [(f"{line.planned_run.task} {line.planned_run.model} | ", "dim"), (line.line, "")]


def _words(counts: Mapping[RunStatus, int]) -> str:
    """`3 done, 1 running`."""
    return ", ".join(f"{counts[state]} {state.label}" for state in _COUNTED if counts.get(state))


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(_printable(text))


def _padded(text: str, width: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(_printable(text), width)


def _printable(text: str) -> str:
    """Names and lines come from servers: nothing in them may move the cursor."""
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


# --- On the terminal ------------------------------------------------------------------------------------------


def rendered(lines: Sequence[Parts], columns: int, *, colour: bool) -> list[str]:
    """The lines as a terminal of so many columns takes them.

    By the styles of rich alone: its consoles lay text out, which for a thousand cells takes ten times longer.
    """
    from rich.color import ColorSystem

    system = ColorSystem.STANDARD if colour else None
    return [
        "".join(_style(style).render(text, color_system=system) if style else text for text, style in cut)
        for cut in (_cut(_joined(line), max(1, columns - 1)) for line in lines)
    ]


def _style(name: str) -> Style:
    from rich.style import Style

    return Style.parse(name)  # which remembers what it has parsed


def _joined(parts: Parts) -> Parts:
    """Neighbours of one style as one."""
    return [
        ("".join(text for text, _ in pieces), style)
        for style, pieces in groupby(parts, key=lambda part: part[1])
    ]


def _cut(parts: Parts, width: int) -> Parts:
    """What fits into so many columns; an ellipsis stands for the rest."""
    from rich.cells import cell_len, set_cell_size

    shown, left = list[tuple[str, str]](), width
    for text, style in parts:
        # A character has no more than two columns: what is beyond the edge costs nothing.
        clean = _printable(text[: 2 * left + 2])
        length = cell_len(clean)
        if length > left:
            return [*_with_room(shown, left), (f"{set_cell_size(clean, max(0, left - 1))}…", style)]
        shown.append((clean, style))
        left -= length
    return shown


def _with_room(shown: Parts, left: int) -> Parts:
    """The line so far, shortened by a column if there is none left for the ellipsis."""
    from rich.cells import cell_len, set_cell_size

    while left < 1 and shown:
        text, style = shown.pop()
        if length := cell_len(text):
            return [*shown, (set_cell_size(text, length - 1), style)]
    return shown
