"""How a sweep went, for people: when its runs were scheduled, began and ended, and what held them up.

`HistoryWriter` makes rows of the events of a sweep, and `History` reads them. They are in a table of the journal, as
numbers: times are milliseconds since 1970 by our clock, and a text is there once, in a row of its own, to whose number
others refer. `Kind` tells what the rows mean. Nothing depends on them: what cannot be written is left out, and what
cannot be understood is skipped.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import msgspec

from fanbench.errors import JournalError
from fanbench.sweeps.events import (
    BudgetRead,
    Draining,
    LimitChanged,
    LogSaved,
    OutputSaved,
    RetryPlanned,
    RunEvent,
    RunFound,
    RunKnown,
    RunLogLine,
    RunMissing,
    RunScheduled,
    RunSkipped,
    RunsPolled,
    RunStateChanged,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    TaskPreparationFailed,
)
from fanbench.sweeps.journal import HistoryRow, Journal, storable
from fanbench.wire.messages import RunState

__all__ = [
    "BudgetReading",
    "History",
    "HistoryWriter",
    "Invocation",
    "LimitStep",
    "Mark",
    "RunPlace",
    "RunTimes",
    "read_history",
]

# Seconds between two writes, unless there is news that would not be learned again.
_WRITTEN_EACH = 0.5
_WRITTEN_AT_ONCE = (RunsPolled, LimitChanged, Draining)
# Events of each run that say nothing of when, the most frequent first.
_UNTOLD = (RunLogLine, RunFound, RunKnown, OutputSaved, LogSaved)
# Seconds between two readings of the numbers that change all the time, which are those of calls and of the budget.
# There are as many other rows in between, so that those of slow sweeps are not mostly readings.
_READ_EACH = 10.0
_READ_ROWS = 8
# Clocks that differ by less than this many seconds are not told apart from slow calls.
_CLOCKS_AGREE = 60.0
# A text is cut to this many characters.
_LONGEST = 160

_MILLION = 1_000_000

# The numbers of a task and a model, the repeat and the attempt.
_Place = tuple[int | None, int | None, int | None, int | None]


class Kind(enum.IntEnum):
    """What a row tells. Of a run, it names the task, the model, the repeat and the attempt.

    | kind         | a                        | b                       | c                |
    |--------------|--------------------------|-------------------------|------------------|
    | TEXT         | the number of `text`     |                         |                  |
    | BEGAN        | limit of calls           | planned runs            | done before      |
    | ENDED        | calls                    | reason of a drain: text |                  |
    | LIMIT        | limit of calls           | pause in ms             | reason: text     |
    | CALLS        | calls                    |                         |                  |
    | BUDGET       | spent, in millionths of $ | reserved, likewise     | the cap, likewise |
    | DRAINING     | reason: text             | runs in flight          |                  |
    | SCHEDULED    |                          |                         |                  |
    | STATE        | state: text              | ms since its start      | ms since its end |
    | SKIPPED      | reason: text             |                         |                  |
    | RETRY        |                          |                         |                  |
    | MISSING      | stage: text              |                         |                  |
    | TASK_FAILED  | error: text              |                         |                  |

    Each invocation numbers its texts anew. A limit that rises has no reason. The start and the end of a run are by the
    server's clock, the rest is by ours.
    """

    TEXT = 1
    BEGAN = 2
    ENDED = 3
    LIMIT = 4
    CALLS = 5
    BUDGET = 6
    DRAINING = 7
    SCHEDULED = 8
    STATE = 9
    SKIPPED = 10
    RETRY = 11
    MISSING = 12
    TASK_FAILED = 13


# --- Writing ------------------------------------------------------------------------------------------------


class HistoryWriter:
    """Records the events of one invocation from `SweepStarted` on.

    Rows are written together, after each poll and twice a second, in transactions of their own: never along with an
    intent, which waits for the disk. `clock` returns the seconds since 1970, `calls` the number of API calls so far.
    """

    def __init__(self, journal: Journal, clock: Callable[[], float], calls: Callable[[], int]) -> None:
        self._journal = journal
        self._clock = clock
        self._calls = calls
        self._now, self._at = 0.0, 0
        self._is_open = False
        self._rows: list[HistoryRow] = []
        self._numbers: dict[str, int] = {}
        self._written_at = self._read_at = float("-inf")
        #: The number of rows since the last reading.
        self._unread = 0
        self._budget: BudgetRead | None = None

    def record(self, event: SweepEvent) -> None:
        """Record what an event tells."""
        if isinstance(event, _UNTOLD) or not (self._is_open or isinstance(event, SweepStarted)):
            return
        self._read_clock()
        self._add(event)
        if isinstance(event, _WRITTEN_AT_ONCE) or self._now - self._written_at >= _WRITTEN_EACH:
            self._write()

    def close(self) -> None:
        """Record the end of the invocation, and write all that was not written yet."""
        if self._is_open:
            self._read_clock()
            self._end(None)

    def _read_clock(self) -> None:
        self._now = self._clock()
        self._at = round(self._now * 1000)

    def _add(self, event: SweepEvent) -> None:
        match event:
            case RunEvent():
                self._add_run(event)
            case SweepStarted():
                self._is_open = True
                self._row(Kind.BEGAN, event.limit, event.planned, event.done)
            case SweepEnded():
                self._end(event.stopped)
            case LimitChanged():
                reason = None if event.limit > event.previous else self._text(event.reason)
                self._row(Kind.LIMIT, event.limit, round(event.pause * 1000), reason)
            case BudgetRead():
                self._budget = event
            case Draining():
                self._row(Kind.DRAINING, self._text(event.reason), event.in_flight)
            case TaskPreparationFailed():
                place = self._text(event.task), None, None, None
                self._row(Kind.TASK_FAILED, self._text(event.error), place=place)
            case _:
                pass

    def _add_run(self, event: RunEvent) -> None:
        match event:
            case RunStateChanged():
                times = self._since(event.started), self._since(event.finished)
                self._run_row(Kind.STATE, event, self._text(event.state), *times)
            case RunScheduled():
                self._run_row(Kind.SCHEDULED, event)
            case RunSkipped():
                self._run_row(Kind.SKIPPED, event, self._text(event.reason))
            case RetryPlanned():
                self._run_row(Kind.RETRY, event)
            case RunMissing():
                self._run_row(Kind.MISSING, event, self._text(event.stage))
            case _:
                pass

    def _end(self, stopped: str | None) -> None:
        self._is_open = False
        self._add_budget()
        self._row(Kind.ENDED, self._calls(), None if stopped is None else self._text(stopped))
        self._write()

    def _add_budget(self) -> None:
        budget, self._budget = self._budget, None
        if budget is not None:
            amounts = budget.spent, budget.reserved, budget.cap
            self._row(Kind.BUDGET, *(None if usd is None else round(usd * _MILLION) for usd in amounts))

    def _write(self) -> None:
        self._written_at = self._now
        self._unread += len(self._rows)
        if self._is_open and self._unread >= _READ_ROWS and self._now - self._read_at >= _READ_EACH:
            self._read_at, self._unread = self._now, 0
            self._row(Kind.CALLS, self._calls())
            self._add_budget()
        rows, self._rows = self._rows, []
        # A disk that is full is an error of the next write that matters.
        with suppress(JournalError):
            self._journal.save_history(rows)

    # --- Rows ---

    def _row(
        self, kind: Kind, *numbers: int | None, place: _Place = (None,) * 4, text: str | None = None
    ) -> None:
        a, b, c = (*numbers, None, None, None)[:3]
        self._rows.append((self._at, kind, *place, a, b, c, text))

    def _run_row(self, kind: Kind, event: RunEvent, *numbers: int | None) -> None:
        run = event.planned_run
        place = self._text(run.task), self._text(run.model), run.repeat, event.attempt
        self._row(kind, *numbers, place=place)

    def _text(self, text: str) -> int:
        """Return the number of a text, which gets one if it has none yet."""
        text = text[:_LONGEST]
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._numbers)
            self._row(Kind.TEXT, number, text=storable(text))
        return number

    def _since(self, time: datetime | None) -> int | None:
        return None if time is None else self._at - round(time.timestamp() * 1000)


# --- Reading ------------------------------------------------------------------------------------------------


class RunPlace(NamedTuple):
    """An attempt at a planned run."""

    task: str
    model: str
    repeat: int
    attempt: int


@dataclass(slots=True)
class RunTimes:
    """When an attempt was scheduled, started and ended, in seconds since 1970; None for what is not known.

    Its start and end are by the server's clock, or else those of the lists that first showed them. By our clock, a list
    showed its end at `seen_ended`.
    """

    scheduled: float | None = None
    started: float | None = None
    ended: float | None = None
    seen_ended: float | None = None


@dataclass(slots=True)
class Invocation:
    """One process of the sweep. It was killed, or is running, if `ended` is None; `last` is when it last wrote.

    It began with a `limit` of calls, and has made `calls`. `stopped` is why it scheduled less than what was planned.
    """

    began: float
    limit: int | None
    planned: int
    done: int
    last: float
    ended: float | None = None
    stopped: str = ""
    calls: int = 0


class LimitStep(NamedTuple):
    """From `at`, up to `limit` calls could be in flight, and none began for `pause` seconds. A rise has no reason."""

    at: float
    limit: int
    pause: float
    reason: str


class BudgetReading(NamedTuple):
    """The budget in US dollars: see `fanbench.sweeps.events.BudgetRead`."""

    at: float
    cap: float
    spent: float | None
    reserved: float | None


class Mark(NamedTuple):
    """Something that did not go as planned. `run` is the attempt; only of a drain, and of a task, it is None.

    `text` is the reason, or the stage at which a run was given up.
    """

    at: float
    kind: Literal["draining", "skipped", "retry", "missing", "task_failed"]
    text: str = ""
    task: str = ""
    run: RunPlace | None = None


class _Row(msgspec.Struct, array_like=True, frozen=True):
    """A row as `HistoryWriter` writes it."""

    id: int
    at: int
    kind: int
    task: int | None
    model: int | None
    repeat: int | None
    attempt: int | None
    a: int | None
    b: int | None
    c: int | None
    text: str | None


@dataclass
class History:
    """How a sweep went, over all its invocations, as far as rows were absorbed. `runs` are by attempt."""

    invocations: list[Invocation] = field(default_factory=list)
    limits: list[LimitStep] = field(default_factory=list)
    budget: list[BudgetReading] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    runs: dict[RunPlace, RunTimes] = field(default_factory=dict)
    _texts: dict[int, str] = field(default_factory=dict)
    _newest: tuple[Any, ...] = (0,)

    def follow(self, journal: Journal) -> None:
        """Absorb what the journal has beyond what was absorbed before. Of another sweep's journal, absorb all.

        Raises:
            JournalError: The journal cannot be read.
        """
        last = self._newest[0]
        rows = journal.history(last - 1) if last else []
        if rows[:1] != [self._newest]:
            vars(self).update(vars(History()))
            rows = [self._newest, *journal.history()]
        self.absorb(rows[1:])

    def absorb(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take in rows of the table, in their order. What is not a row of this version is skipped."""
        for row in rows:
            self._newest = row
            try:
                self._absorb(msgspec.convert(row, _Row))
            except (ValueError, KeyError, IndexError, OverflowError):
                continue

    def _absorb(self, row: _Row) -> None:
        at, kind = row.at / 1000, Kind(row.kind)
        if kind is Kind.BEGAN:
            self._texts = {}
            self.invocations.append(Invocation(at, row.a, row.b or 0, row.c or 0, at))
        now = self.invocations[-1]
        now.last = max(now.last, at)
        match kind:
            case Kind.TEXT:
                self._texts[_known(row.a)] = row.text or ""
            case Kind.ENDED:
                now.ended, now.calls, now.stopped = at, row.a or 0, self._text(row.b)
            case Kind.CALLS:
                now.calls = row.a or 0
            case Kind.LIMIT:
                step = LimitStep(at, _known(row.a), (row.b or 0) / 1000, self._text(row.c))
                self.limits.append(step)
            case Kind.BUDGET:
                self.budget.append(
                    BudgetReading(at, _known(row.c) / _MILLION, _dollars(row.a), _dollars(row.b))
                )
            case Kind.DRAINING:
                self.marks.append(Mark(at, "draining", self._text(row.a)))
            case Kind.TASK_FAILED:
                self.marks.append(Mark(at, "task_failed", self._text(row.a), self._text(_known(row.task))))
            case Kind.BEGAN:
                pass
            case _:
                self._absorb_run(kind, at, row)

    def _absorb_run(self, kind: Kind, at: float, row: _Row) -> None:
        task, model = self._text(_known(row.task)), self._text(_known(row.model))
        run = RunPlace(task, model, _known(row.repeat), _known(row.attempt))
        match kind:
            case Kind.SCHEDULED:
                # The number of an attempt that came to nothing is that of the next one.
                self.runs[run] = RunTimes(at)
            case Kind.STATE:
                self._absorb_state(run, at, row)
            case Kind.SKIPPED:
                self.runs.pop(run, None)
                self.marks.append(Mark(at, "skipped", self._text(row.a), task, run))
            case Kind.RETRY:
                self.marks.append(Mark(at, "retry", "", task, run))
            case Kind.MISSING:
                self.marks.append(Mark(at, "missing", self._text(row.a), task, run))
            case _:
                pass

    def _absorb_state(self, run: RunPlace, at: float, row: _Row) -> None:
        state, times = RunState(self._text(_known(row.a))), self.runs.setdefault(run, RunTimes())
        if row.b is not None:
            times.started = (row.at - row.b) / 1000
        elif state == RunState.RUNNING:
            times.started = at
        if state.terminal:
            times.ended, times.seen_ended = (row.at - (row.c or 0)) / 1000, at

    def clock_ahead(self) -> float:
        """Return by how many seconds the server's clock is ahead of ours, roughly.

        It is 0 unless most runs have ended more than a minute after that was seen, or started before they were
        scheduled.
        """
        late = [
            times.ended - times.seen_ended for times in self.runs.values() if times.ended and times.seen_ended
        ]
        early = [
            times.scheduled - times.started
            for times in self.runs.values()
            if times.scheduled and times.started
        ]
        if late and median(late) > _CLOCKS_AGREE:
            return median(late)
        if early and median(early) > _CLOCKS_AGREE:
            return -median(early)
        return 0.0

    def _text(self, number: int | None) -> str:
        return "" if number is None else self._texts[number]


def _known(number: int | None) -> int:
    if number is None:
        raise ValueError("a number is missing")
    return number


def _dollars(millionths: int | None) -> float | None:
    return None if millionths is None else millionths / _MILLION


def read_history(root: Path) -> History | None:
    """Return how the sweep in `root` went, as far as its journal tells; None if there is no journal.

    A journal that was made before there was a history tells nothing.

    Raises:
        JournalError: The journal cannot be read.
    """
    journal = Journal.read(root)
    if journal is None:
        return None
    history = History()
    with journal:
        history.follow(journal)
    return history
