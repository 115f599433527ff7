"""The progress display of a sweep: the models, a row of marks per task, the totals, and the last lines of the logs.

    1 gemini-2.5-flash  2 gemini-2.5-pro  3 claude-haiku-4-5
           123
    cities ✓✗● 2/3  1 done, 1 errored, 1 running; mean 0.75 of 1 result
    sums   ○○· 0/3  2 queued, 1 planned
    1:05  2 of 6 runs  time left unknown  ✓ 1 done  ✗ 1 errored  ● 1 running  ○ 2 queued  · 1 planned  limit 16

The totals are the legend of the marks. What names the models, and the totals, fold on a narrow terminal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from fanbench._util.text import error_line, many, one_line
from fanbench.cli.output import Output
from fanbench.cli.progress import Display, clock
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.decide import COUNTED, RunStatus
from fanbench.sweeps.events import SweepEvent, SweepStarted
from fanbench.sweeps.state import SweepState

__all__ = ["SweepDisplay", "SweepLayout"]

_WIDEST_NAME = 32
_NARROWEST_NAME = 12
_MOST_LOG_LINES = 10
_MOST_FOOTER_LINES = 4

# A mark, and its style. What is worst, or most active, comes first: it stands for several runs.
_MARKS: Mapping[RunStatus, tuple[str, str]] = {
    RunStatus.MISSING: ("?", "bold yellow"),
    RunStatus.ERRORED: ("✗", "red"),
    RunStatus.RUNNING: ("●", "cyan"),
    RunStatus.COLLECTING: ("◆", "blue"),
    RunStatus.QUEUED: ("○", "cyan"),
    RunStatus.SCHEDULED: ("○", "cyan"),
    RunStatus.UNSCHEDULED: ("·", "dim"),
    RunStatus.CANCELLED: ("⊘", "dim"),
    RunStatus.COMPLETED: ("✓", "green"),
}

# The keys of the models, which name the columns of marks.
_KEYS = "123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: The pieces of a line, each with its style.
Parts = list[tuple[str, str]]


class SweepDisplay(Display):
    """Draws a `state`, which changes only through `absorb`. `limit` is the number of calls at a time, until an
    event changes it."""

    def __init__(self, output: Output, state: SweepState, *, limit: int | None = None) -> None:
        super().__init__(shown=not output.quiet)
        self._state = state
        self._limit = limit
        self._lock = threading.Lock()

    def absorb(self, event: SweepEvent, at: datetime) -> None:
        with self._lock:
            self._state.absorb(event, at)

    def lines(self, size: tuple[int, int]) -> list[str]:
        with self._lock:
            parts = SweepLayout(self._state, size, datetime.now(UTC), self._limit).parts()
        return _render(parts, size[0], color=self.color)


# --- What it looks like ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SweepLayout:
    """A sweep on a screen of `size` (columns, rows) at the time `now`.

    The names of tasks are shortened for the marks. If a task has more runs than fit into a line, there is one mark per
    model, and then only counts. If there are more tasks than lines, only the totals are shown. The models are named
    where that takes at most half of the lines. The cost depends on what is shown, not on the size of the sweep.
    """

    state: SweepState
    size: tuple[int, int]
    now: datetime
    limit: int | None = None

    def lines(self, *, color: bool) -> list[str]:
        """The lines, each narrower than the screen, and at least one fewer than it has."""
        return _render(self.parts(), self.size[0], color=color)

    def parts(self) -> list[Parts]:
        """The lines before they are cut to the width of the screen."""
        started = self.state.started
        if started is None:
            return []
        room = max(1, self.size[1] - 1)
        rows = list(self._rows(started)) if len(started.tasks) < room else []
        footer = self._fold(self._footer(), min(_MOST_FOOTER_LINES, room - len(rows)))
        left = room - len(rows) - len(footer)
        header = self._header(started) if rows else []
        if len(header) > min(left, room // 2):
            header = []
        log_lines = min(_MOST_LOG_LINES, left - len(header))
        shown = list(self.state.lines)[-log_lines:] if log_lines > 0 else []
        return [
            *header,
            *rows,
            *footer,
            *(
                [(f"{line.planned_run.task} {line.planned_run.model} | ", "dim"), (line.line, "")]
                for line in shown
            ),
        ]

    def _fold(self, pieces: Iterable[Parts], most: int) -> list[Parts]:
        """Put the pieces into lines that are narrower than the screen; the last of the `most` lines takes the rest."""
        lines: list[Parts] = []
        left = 0
        for piece in pieces:
            length = sum(cell_len(one_line(text)) for text, _ in piece)
            if not lines or (left < length + 2 and len(lines) < most):
                lines.append(list(piece))
                left = self.size[0] - 1 - length
            else:
                lines[-1] += [("  ", ""), *piece]
                left -= length + 2
        return lines

    def _header(self, started: SweepStarted) -> list[Parts]:
        """Name the models by the keys above the columns of their marks; nothing if there are no marks, or no keys."""
        models, (width, _, room) = started.models, self._widths(started)
        columns = started.repeats if len(models) * started.repeats <= room else 1
        if len(models) == 1 and room > 0:
            return [[("on ", "dim"), (models[0], "")]]
        if len(models) > min(room, len(_KEYS)):
            return []
        pieces: list[Parts] = [
            [(key, "bold"), (f" {set_cell_size(name, min(_WIDEST_NAME, cell_len(name)))}", "")]
            for key, name in zip(_KEYS, map(one_line, models), strict=False)
        ]
        keys = "".join(f"{key:<{columns}}" for key in _KEYS[: len(models)]).rstrip()
        return [*self._fold(pieces, len(pieces)), [(f"{' ' * width} {keys}", "bold")]]

    def _widths(self, started: SweepStarted) -> tuple[int, int, int]:
        """The columns of a task's name, the number of its runs, and the columns that are left for its marks."""
        width = min(_WIDEST_NAME, max((cell_len(one_line(task)) for task in started.tasks), default=0))
        each = started.planned // max(1, len(started.tasks))
        left = self.size[0] - 1 - 2 - len(f"{each}/{each}")
        for marks in (each, len(started.models)):
            if left - marks >= _NARROWEST_NAME:
                # A long name gives way to the marks.
                width = min(width, left - marks)
                break
        return width, each, left - width

    def _rows(self, started: SweepStarted) -> Iterator[Parts]:
        width, each, room = self._widths(started)
        for task in started.tasks:
            counts: Mapping[RunStatus, int] = self.state.counts_by_task.get(task, {})
            over = sum(number for status, number in counts.items() if status.over)
            about = (_counts(counts), "dim")
            if (known := self.state.tasks.get(task)) is not None:
                if known.failed is not None:
                    about = (f"failed: {error_line(known.failed)}", "red")
                elif known.creation is not None and not known.ready:
                    about = (f"creation {known.creation.label.lower()}", "cyan")
                elif known.mean is not None:
                    about = (
                        f"{_counts(counts)}; mean {known.mean:.4g} of {many(known.results, 'result')}",
                        "dim",
                    )
            yield [
                (set_cell_size(one_line(task), width), ""),
                (" ", ""),
                *self._marks(started, task, room),
                (f"{over}/{each}", "bold" if over == each else ""),
                ("  ", ""),
                about,
            ]

    def _marks(self, started: SweepStarted, task: str, room: int) -> Parts:
        def status(model: str, repeat: int) -> RunStatus:
            cell = self.state.cells.get(PlannedRun(task, model, repeat))
            return cell.status if cell else RunStatus.UNSCHEDULED

        repeats = range(1, started.repeats + 1)
        if len(started.models) * len(repeats) <= room:
            marks = [status(model, each) for model in started.models for each in repeats]
        elif len(started.models) <= room:
            found = [{status(model, each) for each in repeats} for model in started.models]
            marks = [next(each for each in _MARKS if each in statuses) for statuses in found]
        else:
            return []
        return [*(_MARKS[each] for each in marks), (" ", "")]

    def _footer(self) -> Iterator[Parts]:
        state = self.state
        seconds = max(0.0, (self.now - state.began).total_seconds()) if state.began else 0.0
        yield [(f"{clock(seconds)}  {state.over} of {state.planned} runs", "bold")]
        if state.draining:
            yield [(f"stopping: {state.draining.reason.value}", "bold yellow")]
        if state.over != state.planned:
            left = state.seconds_left(self.now)
            by = "" if state.seconds_in_queue(self.now) is None else ", by the server's queue"
            yield [("time left unknown" if left is None else f"about {clock(left)} left{by}", "")]
        for status in COUNTED:
            if number := state.counts.get(status):
                yield [_MARKS[status], (f" {number} {status.label}", "")]
        limit = self.limit if state.limit is None else state.limit
        if limit is not None:
            yield [(f"limit {limit}", "")]
        if (pace := state.calls_per_second(self.now)) is not None:
            yield [(f"{pace:.1f} calls/s", "")]
        if (budget := state.budget) is not None:
            spent = "unknown" if budget.spent is None else f"${budget.spent:.2f}"
            yield [(f"spent {spent} of ${budget.cap:.12g}", "")]


def _counts(counts: Mapping[RunStatus, int]) -> str:
    """`3 done, 1 running`."""
    return ", ".join(f"{counts[status]} {status.label}" for status in COUNTED if counts.get(status))


# --- On the terminal ------------------------------------------------------------------------------------------


def _render(lines: Sequence[Parts], columns: int, *, color: bool) -> list[str]:
    """The lines as a terminal of that many columns takes them.

    This uses only the styles of rich: its consoles lay text out, which takes ten times longer for a thousand
    marks.
    """
    system = ColorSystem.STANDARD if color else None
    rendered = []
    for line in lines:
        joined = [
            ("".join(text for text, _ in pieces), style)
            for style, pieces in groupby(line, key=lambda part: part[1])
        ]
        cut = _cut(joined, max(1, columns - 1))
        rendered.append(
            # `parse` remembers what it has parsed.
            "".join(
                Style.parse(style).render(text, color_system=system) if style else text for text, style in cut
            )
        )
    return rendered


def _cut(parts: Parts, width: int) -> Parts:
    """What fits into `width` columns; an ellipsis stands for the rest."""
    shown, left = list[tuple[str, str]](), width
    for text, style in parts:
        # A character has at most two columns: nothing is spent on what is beyond the edge.
        clean = one_line(text[: 2 * left + 2])
        length = cell_len(clean)
        if length <= left:
            shown.append((clean, style))
            left -= length
            continue
        while left < 1 and shown:  # shorten what is shown by a column, which the ellipsis needs
            last, last_style = shown.pop()
            if last_length := cell_len(last):
                shown.append((set_cell_size(last, last_length - 1), last_style))
                break
        return [*shown, (f"{set_cell_size(clean, max(0, left - 1))}…", style)]
    return shown
