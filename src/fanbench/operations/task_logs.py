"""`log`: the logs of all runs of a task, read at the same time, shown one after another or together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import anyio

from fanbench._util.concurrency import gather, settle, unwrap_single_error
from fanbench._util.files import async_temporary_folder, output_errors
from fanbench._util.layout import folder_of_run, log_of_run
from fanbench._util.polling import Throttle
from fanbench.errors import FanbenchError, NotFound
from fanbench.operations.api import Api
from fanbench.operations.batch import unique_slugs
from fanbench.operations.events import (
    Emit,
    Event,
    LogBegan,
    LogEnded,
    LogLine,
    LogRead,
    LogSilent,
    LogText,
    TaskFailed,
    ignore_events,
)
from fanbench.operations.log_buffer import LogBuffer
from fanbench.operations.log_file import log_file
from fanbench.operations.lookup import model_of
from fanbench.operations.status import task_status
from fanbench.operations.watch import END_LAG, RunWatcher
from fanbench.wire.log_lines import LineCounter, Lines
from fanbench.wire.log_stream import follow_log
from fanbench.wire.messages import LogEntry, Run, RunState

__all__ = ["LogReport", "LogsBegan", "RunLog", "show_logs"]

# The least seconds between two reports of how far a log has been read.
_PROGRESS_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class RunLog:
    """The log of one run: how many lines were read, and the error that ended it before the end of the run.

    `path` is the file that the log was kept in, if it was and is complete.
    """

    run: Run
    lines: int
    error: FanbenchError | None = None
    path: Path | None = None

    @property
    def missing(self) -> bool:
        """Whether the server has no log of the run (yet). This is not a failure."""
        return isinstance(self.error, NotFound)


@dataclass(frozen=True, slots=True)
class LogReport:
    """The logs of all runs of a task, in the server's order."""

    slug: str
    logs: tuple[RunLog, ...] = ()

    @property
    def failed(self) -> tuple[RunLog, ...]:
        return tuple(log for log in self.logs if log.error is not None and not log.missing)


class LogsBegan(Event, frozen=True):
    """The logs of `runs`, which are all runs of the task, are going to be read."""

    slug: str
    runs: tuple[Run, ...]


async def show_logs(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str] = (),
    *,
    interleave: bool | None = False,
    follow: bool = False,
    output: Path | None = None,
    version: int = 0,
    emit: Emit = ignore_events,
) -> list[LogReport | FanbenchError]:
    """Read the logs of the tasks' runs, all at the same time, live if a run has not ended.

    The runs are those of one `version`, by default the newest. Logs are reported run after run (`LogBegan`,
    `LogText`…, `LogEnded`) or, with `interleave`, line by line as they arrive (`LogLine`…, `LogEnded`);
    `interleave=None` does so if several runs are live. With `follow`, queued runs are waited for. With `output`, each
    complete log is also written to `<output>/<task>/<version>/<model>/<run_id>.log`. Returns one report per task in
    the order given; an error stands for a task that failed.

    Raises:
        UsageError: A name is not valid.
        OutputError: There is no room on disk for the logs that wait to be shown.
    """
    slugs = unique_slugs(tasks)
    found = await settle(
        [partial(task_status, client, slug, models, version=version) for slug in slugs],
        limit=client.config.concurrency,
    )
    readers: list[_Reader] = []
    watchers: list[RunWatcher] = []
    for slug, status in zip(slugs, found, strict=True):
        if isinstance(status, FanbenchError):
            emit(TaskFailed(slug, status))
            continue
        emit(LogsBegan(slug, status.runs))
        watcher = RunWatcher(client, slug, known=status.runs, version=version, emit=emit)
        watchers.append(watcher)
        for run in status.runs:
            file = None
            if output is not None:
                version = status.task.slug.version_number
                file = log_of_run(folder_of_run(output, slug, version, model_of(run), run.id))
            readers.append(_Reader(client, run, watcher, file, follow=follow, emit=emit))
    if interleave is None:
        # With `follow`, queued runs will be live, too.
        live = (RunState.RUNNING, RunState.QUEUED) if follow else (RunState.RUNNING,)
        interleave = sum(reader.run.state in live for reader in readers) > 1
    with unwrap_single_error():
        async with anyio.create_task_group() as polls:
            for watcher in watchers:
                polls.start_soon(watcher.serve)
            logs = iter(await (_show_interleaved if interleave else _show_in_turn)(readers, emit))
            polls.cancel_scope.cancel()
    return [
        status
        if isinstance(status, FanbenchError)
        else LogReport(status.slug, tuple(islice(logs, len(status.runs))))
        for status in found
    ]


class _Reader:
    """Reads the log of one run to its end, and keeps it in `file` if one is given.

    With `follow`, a queued run is waited for.
    """

    def __init__(
        self, client: Api, run: Run, watcher: RunWatcher, file: Path | None, *, follow: bool, emit: Emit
    ) -> None:
        self.run = run
        self._client = client
        self._watcher = watcher
        self._follow = follow
        self._emit = emit
        self._silence_said = False
        self.file = file

    async def entries(self) -> AsyncGenerator[LogEntry, None]:
        """Yield the entries of the log.

        Raises:
            FanbenchError: The log broke off, or cannot be kept.
        """
        await self._left_queue()
        log = follow_log(
            self._client,
            self.run.id,
            ended=self._end_shown,
            read_on=True,
            over=self._watcher.states[self.run.id].terminal,
            missing=self._may_have_log,
            probe=self._has_ended,
            persist=False,
        )
        async with aclosing(log) as entries:
            if self.file is None:
                async for entry in entries:
                    yield entry
                return
            async with log_file(self.file) as file:
                async for entry in entries:
                    await file.write(entry.data)
                    yield entry

    async def _left_queue(self) -> None:
        while self._follow and self._watcher.states[self.run.id] == RunState.QUEUED:
            await self._watcher.wait_for_change(self.run.id)

    async def _may_have_log(self) -> bool:
        """A run that has just left the queue may have no log yet: wait for the next list and try again."""
        if not self._follow or self._watcher.states[self.run.id].terminal:
            return False
        await self._watcher.wait_for_list()
        await self._left_queue()
        return True

    async def _end_shown(self) -> bool:
        """Whether the run has ended now that its stream has; lists may show that late."""
        self._watcher.hurry()
        return await self._watcher.end_shown(self.run.id, END_LAG)

    async def _has_ended(self) -> bool:
        """Whether a silent run has ended, as the next list shows."""
        if not self._watcher.states[self.run.id].terminal:
            await self._watcher.wait_for_list()
        ended = self._watcher.states[self.run.id].terminal
        if ended or not self._silence_said:
            self._silence_said = True
            self._emit(LogSilent(self.run, ended))
        return ended


async def _show_interleaved(readers: Sequence[_Reader], emit: Emit) -> list[RunLog]:
    async def show(reader: _Reader) -> RunLog:
        lines, counter, error = Lines(), LineCounter(), None
        try:
            async with aclosing(reader.entries()) as entries:
                async for entry in entries:
                    counter.feed(entry.data)
                    for line in lines.feed(entry):
                        emit(LogLine(reader.run, line))
        except FanbenchError as failure:
            error = failure
        for line in lines.flush():
            emit(LogLine(reader.run, line))
        emit(LogEnded(reader.run, counter.lines, error))
        return RunLog(reader.run, counter.lines, error, None if error else reader.file)

    return await gather([partial(show, reader) for reader in readers], limit=len(readers))


async def _show_in_turn(readers: Sequence[_Reader], emit: Emit) -> list[RunLog]:
    logs: list[RunLog] = []
    async with (
        async_temporary_folder(".fanbench-logs-") as folder,
        anyio.create_task_group() as group,
    ):
        recordings = [_Recording(reader, folder / str(number)) for number, reader in enumerate(readers)]
        for recording in recordings:
            group.start_soon(recording.record, emit)
        for recording in recordings:
            logs.append(await recording.show(emit))
    return logs


class _Recording:
    """One log, recorded as fast as it arrives and shown when it is its turn."""

    def __init__(self, reader: _Reader, path: Path) -> None:
        self._reader = reader
        self._buffer = LogBuffer(path)
        self._error: FanbenchError | None = None

    async def record(self, emit: Emit) -> None:
        run, counter, progress = self._reader.run, LineCounter(), Throttle(_PROGRESS_INTERVAL)
        with output_errors(
            "keep the logs that wait to be shown",
            hint="Set TMPDIR to a folder with more room, or show fewer runs with -m.",
        ):
            try:
                async with aclosing(self._reader.entries()) as entries:
                    async for entry in entries:
                        await self._buffer.write(entry.data)
                        counter.feed(entry.data)
                        if progress.is_due():
                            emit(LogRead(run, counter.lines))
            except FanbenchError as error:
                self._error = error
        emit(LogRead(run, counter.lines, ended=True))
        self._buffer.close()

    async def show(self, emit: Emit) -> RunLog:
        run, counter = self._reader.run, LineCounter()
        emit(LogBegan(run))
        async with aclosing(self._buffer.pieces()) as pieces:
            async for text in pieces:
                counter.feed(text)
                emit(LogText(run, text))
        emit(LogEnded(run, counter.lines, self._error))
        path = None if self._error else self._reader.file
        return RunLog(run, counter.lines, self._error, path)
