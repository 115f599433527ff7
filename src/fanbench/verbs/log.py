"""`log`: the logs of all runs of a task, read at the same time, shown one after another or together."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._errors import ApiError, FanbenchError, NotFound, OutputError
from fanbench.api.messages import LogEntry, Run, RunState
from fanbench.api.names import slugify_task
from fanbench.verbs._api import Api
from fanbench.verbs._fan import alone
from fanbench.verbs._lines import LineCounter, Lines
from fanbench.verbs._pace import POLL_INTERVAL, Pace
from fanbench.verbs._poll import RunPoll
from fanbench.verbs._spool import Spool
from fanbench.verbs._streams import follow_log
from fanbench.verbs._tasks import model_of
from fanbench.verbs.events import Event, LogBegan, LogEnded, LogLine, LogText, Report, silent
from fanbench.verbs.status import task_status

__all__ = ["LogReport", "LogsBegan", "RunLog", "show_logs"]


@dataclass(frozen=True, slots=True)
class RunLog:
    """What became of one run's log: how many lines were read, and what ended it if not the run's end."""

    run: Run
    lines: int
    error: FanbenchError | None = None

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


@dataclass(frozen=True, slots=True)
class LogsBegan(Event):
    slug: str
    runs: tuple[Run, ...]


async def show_logs(
    client: Api,
    task: str,
    models: Sequence[str] = (),
    *,
    interleave: bool | None = False,
    follow: bool = False,
    poll_interval: float = POLL_INTERVAL,
    report: Report = silent,
) -> LogReport:
    """Reads the logs of a task's runs, all at the same time, live where a run has not ended.

    They are reported run after run (`LogBegan`, `LogText`…, `LogEnded`), or, with `interleave`, line by line
    as they come (`LogLine`…, `LogEnded`); `interleave=None` does so where several runs are live. With
    `follow`, queued runs are waited for.

    Raises:
        NotFound: there is no such task.
        OutputError: there is no room on disk for what is not shown yet.
    """
    status = await task_status(client, slugify_task(task), models)
    report(LogsBegan(status.slug, status.runs))
    if not status.runs:
        return LogReport(status.slug)
    if interleave is None:
        interleave = sum(run.state == RunState.RUNNING for run in status.runs) > 1
    gate = _Gate(status.runs, RunPoll(client, status.slug, models, report), Pace(poll_interval))
    readers = [_Reader(client, run, gate if follow else None) for run in status.runs]
    show = _show_together if interleave else _show_in_turn
    with alone():
        async with _running(gate, follow):
            logs = await show(readers, report)
    return LogReport(status.slug, tuple(logs))


# --- Reading ------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one run's log to its end."""

    def __init__(self, client: Api, run: Run, gate: _Gate | None) -> None:
        self.run = run
        self._client = client
        self._gate = gate

    async def entries(self) -> AsyncGenerator[LogEntry, None]:
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
async def _running(gate: _Gate, wanted: bool) -> AsyncGenerator[None, None]:
    """The gate's polls, as long as the block lasts."""
    async with anyio.create_task_group() as group:
        if wanted:
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
        logs[reader.run.id] = RunLog(reader.run, counter.lines, error)
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
            group.start_soon(tape.record)
        for tape in tapes:
            logs.append(await tape.play(report))
    return logs


class _Tape:
    """One log, recorded as fast as it comes and played when it is its turn."""

    def __init__(self, reader: _Reader, path: Path) -> None:
        self._reader = reader
        self._spool = Spool(path)
        self._error: FanbenchError | None = None

    async def record(self) -> None:
        try:
            async with aclosing(self._reader.entries()) as entries:
                async for entry in entries:
                    await self._spool.write(entry.data)
        except FanbenchError as error:
            self._error = error
        except OSError as error:
            raise OutputError(
                f"No room for the logs that wait to be shown: {error.strerror}.",
                hint="Set TMPDIR to a folder with more room, or show fewer runs with -m.",
            ) from None
        self._spool.close()

    async def play(self, report: Report) -> RunLog:
        run, counter = self._reader.run, LineCounter()
        report(LogBegan(run))
        async with aclosing(self._spool.pieces()) as pieces:
            async for text in pieces:
                counter.feed(text)
                report(LogText(run, text))
        report(LogEnded(run, counter.lines, self._error))
        return RunLog(run, counter.lines, self._error)


@asynccontextmanager
async def _temporary_folder() -> AsyncGenerator[Path, None]:
    folder = await anyio.to_thread.run_sync(lambda: tempfile.TemporaryDirectory(prefix="fanbench-logs-"))
    try:
        yield Path(folder.name)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(folder.cleanup)
