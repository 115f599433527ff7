"""`log`: the logs of all runs of a task, read at the same time, shown one after another or together."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._util.concurrency import alone, settle
from fanbench._util.polling import POLL_INTERVAL, Pace
from fanbench.errors import ApiError, FanbenchError, NotFound, OutputError
from fanbench.operations.api import Api
from fanbench.operations.batch import unique_slugs
from fanbench.operations.events import (
    Event,
    LogBegan,
    LogEnded,
    LogLine,
    LogRead,
    LogText,
    Report,
    TaskFailed,
    ignore_events,
)
from fanbench.operations.layout import run_folder
from fanbench.operations.log_buffer import Spool
from fanbench.operations.log_file import log_file
from fanbench.operations.lookup import model_of
from fanbench.operations.polls import RunPoll
from fanbench.operations.status import TaskStatus, task_status
from fanbench.operations.streams import follow_log
from fanbench.wire.log_lines import LineCounter, Lines
from fanbench.wire.messages import LogEntry, Run, RunState

__all__ = ["LogReport", "LogsBegan", "RunLog", "show_logs", "show_task_logs"]

#: A log's file in its run's folder, where logs are kept.
FILE_NAME = "run.log"
# Seconds between two words on how far a log has been read.
_SAY_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class RunLog:
    """What became of one run's log: how many lines were read, and what ended it if not the run's end.

    `path` is the file that has it, where logs are kept and this one is complete.
    """

    run: Run
    lines: int
    error: FanbenchError | None = None
    path: Path | None = None

    @property
    def missing(self) -> bool:
        """There is none (yet): no failure."""
        return isinstance(self.error, NotFound)

    @property
    def status(self) -> int | None:
        """The HTTP status that came instead of a log."""
        return self.error.status if isinstance(self.error, ApiError) else None


@dataclass(frozen=True, slots=True)
class LogReport:
    slug: str
    logs: tuple[RunLog, ...] = ()

    @property
    def failed(self) -> tuple[RunLog, ...]:
        return tuple(log for log in self.logs if log.error is not None and not log.missing)

    @property
    def models(self) -> int:
        return len({model_of(log.run) for log in self.logs})


class LogsBegan(Event, frozen=True):
    """The logs of `runs`, all that the task has, are going to be read."""

    slug: str
    runs: tuple[Run, ...]


async def show_logs(
    client: Api,
    task: str,
    models: Sequence[str] = (),
    *,
    interleave: bool | None = False,
    follow: bool = False,
    output: Path | None = None,
    poll_interval: float = POLL_INTERVAL,
    report: Report = ignore_events,
) -> LogReport:
    """`show_task_logs` of one task.

    Raises:
        NotFound: there is no such task.
        OutputError: there is no room on disk for what is not shown yet.
    """
    (outcome,) = await show_task_logs(
        client,
        [task],
        models,
        interleave=interleave,
        follow=follow,
        output=output,
        poll_interval=poll_interval,
        report=report,
    )
    if isinstance(outcome, FanbenchError):
        raise outcome
    return outcome


async def show_task_logs(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str] = (),
    *,
    interleave: bool | None = False,
    follow: bool = False,
    output: Path | None = None,
    poll_interval: float = POLL_INTERVAL,
    report: Report = ignore_events,
) -> list[LogReport | FanbenchError]:
    """Reads the logs of the tasks' runs, all at the same time, live where a run has not ended.

    They are reported run after run (`LogBegan`, `LogText`…, `LogEnded`), or, with `interleave`, line by line
    as they come (`LogLine`…, `LogEnded`); `interleave=None` does so where several runs are live. With
    `follow`, queued runs are waited for. With `output`, each complete log becomes a file as well,
    `<output>/<task>/<version>/<model>/<run_id>/run.log`. What became of each task is in their order.

    Raises:
        UsageError: a name is none.
        OutputError: there is no room on disk for what is not shown yet.
    """
    slugs = unique_slugs(tasks)
    looks = [partial(task_status, client, slug, models) for slug in slugs]
    found = await settle(looks, limit=client.config.concurrency)
    _say_found(slugs, found, report)
    statuses = [status for status in found if isinstance(status, TaskStatus)]
    gates = [
        _Gate(status.runs, RunPoll(client, status.slug, models, report), Pace(poll_interval))
        for status in statuses
    ]
    readers = [
        _Reader(client, run, gate if follow else None, _file_of(output, status, run))
        for status, gate in zip(statuses, gates, strict=True)
        for run in status.runs
    ]
    with alone():
        async with _running(gates, follow):
            together = _are_live(readers, follow) if interleave is None else interleave
            logs = await (_show_together if together else _show_in_turn)(readers, report)
    rest = iter(logs)
    return [
        LogReport(status.slug, tuple(islice(rest, len(status.runs))))
        if isinstance(status, TaskStatus)
        else status
        for status in found
    ]


def _say_found(slugs: Sequence[str], found: Sequence[TaskStatus | FanbenchError], report: Report) -> None:
    for slug, status in zip(slugs, found, strict=True):
        if isinstance(status, FanbenchError):
            report(TaskFailed(slug, status))
        else:
            report(LogsBegan(slug, status.runs))


def _file_of(output: Path | None, status: TaskStatus, run: Run) -> Path | None:
    return run_folder(output, status, run) / FILE_NAME if output is not None else None


def _are_live(readers: Sequence[_Reader], follow: bool) -> bool:
    """Whether several runs write now; queued ones will, if they are waited for."""
    live = (RunState.RUNNING, RunState.QUEUED) if follow else (RunState.RUNNING,)
    return sum(reader.run.state in live for reader in readers) > 1


# --- Reading ------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one run's log to its end, and keeps it in `file` if there is one."""

    def __init__(self, client: Api, run: Run, gate: _Gate | None, file: Path | None = None) -> None:
        self.run = run
        self._client = client
        self._gate = gate
        self._file = file

    def log(self, lines: int, error: FanbenchError | None) -> RunLog:
        """What became of it."""
        return RunLog(self.run, lines, error, None if error else self._file)

    async def entries(self) -> AsyncGenerator[LogEntry, None]:
        """
        Raises:
            FanbenchError: it broke off, or it cannot be kept.
        """
        async with aclosing(self._entries()) as entries:
            if self._file is None:
                async for entry in entries:
                    yield entry
                return
            async with log_file(self._file) as file:
                async for entry in entries:
                    await file.write(entry.data)
                    yield entry

    async def _entries(self) -> AsyncGenerator[LogEntry, None]:
        while True:
            if self._gate is not None:
                await self._gate.passed(self.run.id)
            try:
                async with aclosing(follow_log(self._client, self.run.id)) as entries:
                    async for entry in entries:
                        yield entry
                return
            except NotFound:
                # A run that has just left the queue may have no log for a moment.
                if self._gate is None or self._gate.ended(self.run.id):
                    raise
                self._gate.hold(self.run.id)


class _Gate:
    """Lets readers wait for queued runs: one list call a poll for all of them."""

    def __init__(self, runs: Sequence[Run], poll: RunPoll, pace: Pace) -> None:
        self._states = {run.id: run.state for run in runs}
        self._ask = poll.ask
        self._pace = pace
        self._held: set[int] = set()
        self._news = anyio.Event()
        self._wanted = anyio.Event()

    def ended(self, run_id: int) -> bool:
        return self._states[run_id].terminal

    def hold(self, run_id: int) -> None:
        """Nobody passes for this run before the next poll."""
        self._held.add(run_id)

    async def passed(self, run_id: int) -> None:
        """Returns once the run is not queued."""
        while self._states[run_id] == RunState.QUEUED or run_id in self._held:
            self._wanted.set()
            await self._news.wait()

    async def poll(self) -> None:
        """Polls while somebody waits; for ever."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            await anyio.sleep(self._pace.next())
            if (runs := await self._ask()) is None:
                self._wanted.set()
                continue
            self._absorb({run.id: run.state for run in runs})

    def _absorb(self, states: dict[int, RunState]) -> None:
        if any(self._states.get(run_id) != state for run_id, state in states.items()):
            self._pace.reset()
        self._states.update(states)
        self._held.clear()
        self._news.set()
        self._news = anyio.Event()


@asynccontextmanager
async def _running(gates: Sequence[_Gate], wanted: bool) -> AsyncGenerator[None, None]:
    """The gates' polls, as long as the block lasts."""
    async with anyio.create_task_group() as group:
        for gate in gates if wanted else ():
            group.start_soon(gate.poll)
        yield
        group.cancel_scope.cancel()


# --- Showing ------------------------------------------------------------------------------------------------


async def _show_together(readers: Sequence[_Reader], report: Report) -> list[RunLog]:
    logs: dict[int, RunLog] = {}

    async def show(reader: _Reader) -> None:
        lines, counter, error = Lines(), LineCounter(), None
        try:
            async with aclosing(reader.entries()) as entries:
                async for entry in entries:
                    counter.feed(entry.data)
                    _say(reader.run, lines.feed(entry), report)
        except FanbenchError as failure:
            error = failure
        _say(reader.run, lines.flush(), report)
        logs[reader.run.id] = reader.log(counter.lines, error)
        report(LogEnded(reader.run, counter.lines, error))

    async with anyio.create_task_group() as group:
        for reader in readers:
            group.start_soon(show, reader)
    return [logs[reader.run.id] for reader in readers]


def _say(run: Run, lines: Sequence[str], report: Report) -> None:
    for line in lines:
        report(LogLine(run, line))


async def _show_in_turn(readers: Sequence[_Reader], report: Report) -> list[RunLog]:
    logs: list[RunLog] = []
    async with _temporary_folder() as folder, anyio.create_task_group() as group:
        tapes = [_Tape(reader, folder / str(number)) for number, reader in enumerate(readers)]
        for tape in tapes:
            group.start_soon(tape.record, report)
        for tape in tapes:
            logs.append(await tape.play(report))
    return logs


class _Tape:
    """One log, recorded as fast as it comes and played when it is its turn."""

    def __init__(self, reader: _Reader, path: Path) -> None:
        self._reader = reader
        self._spool = Spool(path)
        self._error: FanbenchError | None = None

    async def record(self, report: Report) -> None:
        run, counter, said = self._reader.run, LineCounter(), float("-inf")
        try:
            async with aclosing(self._reader.entries()) as entries:
                async for entry in entries:
                    await self._spool.write(entry.data)
                    counter.feed(entry.data)
                    if anyio.current_time() - said >= _SAY_EVERY:
                        said = anyio.current_time()
                        report(LogRead(run, counter.lines))
        except FanbenchError as error:
            self._error = error
        except OSError as error:
            raise OutputError(
                f"No room for the logs that wait to be shown: {error.strerror}.",
                hint="Set TMPDIR to a folder with more room, or show fewer runs with -m.",
            ) from None
        report(LogRead(run, counter.lines, ended=True))
        self._spool.close()

    async def play(self, report: Report) -> RunLog:
        run, counter = self._reader.run, LineCounter()
        report(LogBegan(run))
        async with aclosing(self._spool.pieces()) as pieces:
            async for text in pieces:
                counter.feed(text)
                report(LogText(run, text))
        report(LogEnded(run, counter.lines, self._error))
        return self._reader.log(counter.lines, self._error)


@asynccontextmanager
async def _temporary_folder() -> AsyncGenerator[Path, None]:
    folder = await anyio.to_thread.run_sync(lambda: tempfile.TemporaryDirectory(prefix="fanbench-logs-"))
    try:
        yield Path(folder.name)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(folder.cleanup)
