"""The engine of a sweep: every task on every model, without a barrier between stages or tasks.

What it does can be killed at any instant. Before a call that must not be made twice, the intent is written
down; after each deed, the record; nothing is awaited between a change of state, its record and its event. So
whoever starts again with the same records and the same server goes on where this ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._util.concurrency import Offload
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.sweeps._engine.book import Book, Flight
from fanbench.sweeps._engine.collect import Collectors
from fanbench.sweeps._engine.gate import Gate
from fanbench.sweeps._engine.lane import Lane
from fanbench.sweeps._engine.logs import LogReaders
from fanbench.sweeps._engine.shared import Room, Shared, Stage
from fanbench.sweeps.artifacts import log_is_whole, output_is_whole
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, wants_log, wants_output
from fanbench.sweeps.decide import REPORTED, RunStatus, Step
from fanbench.sweeps.events import DrainReason, Emit, RunKnown, SweepEnded, SweepStarted
from fanbench.sweeps.journal import Records
from fanbench.sweeps.plan import SweepPlan

__all__ = ["Engine", "Stage"]


# So many attempts are looked for on disk in one go.
_CHECKED_AT_ONCE = 500


async def _no_wait() -> None:
    return


class Engine:
    """Carries out a plan, once. `emit` is called in the event loop and must not block it.

    `until` ends it after a stage: "push" when all tasks can be run, "schedule" when all runs are on the server.
    `offload` runs what waits for the disk, `calls` tells how many calls the client has made, `clock` gives
    seconds since 1970, and `room` is awaited before more of a log is read.
    """

    def __init__(
        self,
        client: Api,
        plan: SweepPlan,
        records: Records,
        emit: Emit,
        *,
        until: Stage = "collect",
        offload: Offload = anyio.to_thread.run_sync,
        calls: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
        room: Room = _no_wait,
    ) -> None:
        self._plan = plan
        self._emit = emit
        self._offload = offload
        self._open = partial(
            Shared, client, plan, emit=emit, until=until, offload=offload, calls=calls, clock=clock, room=room
        )
        self._records = records
        self._endpoint = client.config.endpoint
        self._shared: Shared | None = None
        self._asked_to_stop: tuple[DrainReason, str] | None = None

    @property
    def stopped(self) -> DrainReason | None:
        """Why nothing more is scheduled, if so."""
        if self._shared is not None and self._shared.stopped is not None:
            return self._shared.stopped
        return self._asked_to_stop[0] if self._asked_to_stop else None

    def drain(self, reason: DrainReason, detail: str = "") -> None:
        """Nothing more is pushed or scheduled; what is in flight goes on to its end. Once counts."""
        if self._asked_to_stop is None:
            self._asked_to_stop = (reason, detail)
        if self._shared is not None:
            self._shared.drain(reason, detail)

    async def run(self) -> None:
        """To the end of all that can be done: the failure of a run or a task is an event.

        Raises:
            FanbenchError: what ends everything: the server does not know us, the journal or the disk fails.
        """
        with _one_error():
            began = anyio.current_time()
            shared = await self._begin()
            with anyio.move_on_after(self._plan.rules.deadline) as deadline:
                await self._sweep(shared)
            if deadline.cancelled_caught:
                shared.drain(DrainReason.DEADLINE, f"{self._plan.rules.deadline:g} s are over")
            self._end(shared, anyio.current_time() - began)

    async def _sweep(self, shared: Shared) -> None:
        """Per task push → creation → schedule; per run watch → log → download."""
        await shared.gate.begin()
        async with anyio.create_task_group() as workers:
            for _ in range(max(1, shared.rules.streams)):
                workers.start_soon(shared.logs.work)
            for _ in range(max(1, shared.rules.downloads)):
                workers.start_soon(shared.collectors.work)
            workers.start_soon(shared.collectors.alarm)
            async with anyio.create_task_group() as lanes:
                for task in self._plan.tasks:
                    lanes.start_soon(Lane(task, shared).run)
            await shared.collectors.finished()
            workers.cancel_scope.cancel()

    # --- The start ---

    async def _begin(self) -> Shared:
        book = Book(self._plan, self._records, self._emit)
        await self._forget_lost_files(book)
        shared = self._shared = self._open(book=book)
        shared.gate, shared.logs, shared.collectors = Gate(shared), LogReaders(shared), Collectors(shared)
        self._say_what_is_known(book)
        self._take_up(shared)
        if self._asked_to_stop is not None:
            shared.drain(*self._asked_to_stop)
        return shared

    async def _forget_lost_files(self, book: Book) -> None:
        """What is recorded, but no longer whole on disk, is fetched again."""
        recorded = [
            one
            for planned_run in book.planned_runs
            for one in book.current(planned_run)
            if one.output or one.log
        ]
        changed: list[Attempt] = []
        for start in range(0, len(recorded), _CHECKED_AT_ONCE):
            some = recorded[start : start + _CHECKED_AT_ONCE]
            changed += await self._offload(partial(_without_lost_files, self._plan.output, some))
        if changed:
            book.records.save_attempts([book.put(attempt) for attempt in changed])

    def _say_what_is_known(self, book: Book) -> None:
        plan = self._plan
        done = sum(book.step(planned_run) is Step.DONE for planned_run in book.planned_runs)
        slugs = tuple(task.slug for task in plan.tasks)
        self._emit(
            SweepStarted(
                str(plan.output),
                self._endpoint,
                slugs,
                plan.models,
                plan.repeats,
                len(book.planned_runs),
                done,
            )
        )
        for planned_run in book.planned_runs:
            for attempt in _told(book.current(planned_run)):
                self._emit(_known(attempt))

    def _take_up(self, shared: Shared) -> None:
        """Everything goes on from where the journal says it is."""
        for slug, attempts in shared.book.by_task().items():
            if slug in shared.boards:
                shared.boards[slug].know(attempts, shared.book.records.foreign_runs(slug))
        now, wall = anyio.current_time(), shared.wall()
        for planned_run in shared.book.planned_runs:
            self._take_up_unit(shared, planned_run, now, wall)
            if shared.until == "collect":
                self._collect_unit(shared, planned_run, now)
        shared.count_failures(0)

    def _take_up_unit(self, shared: Shared, planned_run: PlannedRun, now: float, wall: float) -> None:
        board, attempts = shared.boards[planned_run.task], shared.book.current(planned_run)
        match shared.book.step(planned_run):
            case Step.SCHEDULE:
                board.add_due(planned_run)
            case Step.FIND | Step.WATCH:
                board.take_up(attempts[-1], now, wall)
            case Step.COLLECT | Step.DONE:
                shared.book.errored += attempts[-1].errored

    def _collect_unit(self, shared: Shared, planned_run: PlannedRun, now: float) -> None:
        for attempt in shared.book.current(planned_run):
            if wants_output(attempt) or wants_log(attempt):
                flight = Flight(attempt, now, now, adopted=True)
                flight.gone = True
                paid = attempt.output is not None or shared.gate.is_counted(flight.run_id)
                shared.boards[planned_run.task].owe(flight, paid=paid)
                shared.collectors.put(flight)

    # --- The end ---

    def _end(self, shared: Shared, seconds: float) -> None:
        if shared.until != "collect":
            shared.drain(DrainReason.STAGE)
        counts = dict.fromkeys(REPORTED, 0)
        for planned_run in shared.book.planned_runs:
            counts[shared.book.status(planned_run)] += 1
        self._emit(
            SweepEnded(
                len(shared.book.planned_runs),
                counts[RunStatus.COMPLETED],
                counts[RunStatus.ERRORED],
                counts[RunStatus.MISSING],
                counts[RunStatus.UNSCHEDULED],
                seconds,
                shared.stopped,
                counts[RunStatus.RUNNING],
            )
        )


def _told(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """The newest; and where that may come to nothing, the one before it, which is the result then."""
    real = [one for one in attempts if one.phase is not Phase.VOID]
    return real[-2:] if real and real[-1].needs_lookup else real[-1:]


def _known(attempt: Attempt) -> RunKnown:
    return RunKnown(
        attempt.planned_run,
        attempt.number,
        attempt.version,
        attempt.run_id,
        attempt.state,
        attempt.error,
        attempt.output.path if attempt.output else None,
        attempt.log.path if attempt.log else None,
    )


def _without_lost_files(root: Path, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those that have lost files. A new output will replace the folder as a whole, with the log in it."""
    changed = []
    for attempt in attempts:
        if attempt.output is not None and not output_is_whole(root, attempt.output):
            changed.append(attempt.with_(output=None, log=None))
        elif attempt.log is not None and not log_is_whole(root, attempt.log):
            changed.append(attempt.with_(log=None))
    return changed


@contextmanager
def _one_error() -> Iterator[None]:
    """Of errors that end everything at the same time, the first."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        if not all(isinstance(error, FanbenchError) for error in errors):
            raise
        raise errors[0] from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
