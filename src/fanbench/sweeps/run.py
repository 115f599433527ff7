"""One run: read its log while it runs, then fetch its output and its log."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from fanbench._util.layout import EARLIER_LOG, folder_of_run, log_of_run
from fanbench._util.polling import Throttle
from fanbench.errors import FanbenchError, NotFound
from fanbench.operations.api import Api
from fanbench.operations.log_file import LogFile
from fanbench.operations.watch import END_LAG, STREAM_TRIES, RunWatcher
from fanbench.sweeps.artifacts import log_part, saved_output
from fanbench.sweeps.attempt_store import Update
from fanbench.sweeps.attempts import Attempt, SavedLog, wants_log, wants_output
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.events import REPORTED_EACH, FetchFailed, LogSaved, OutputSaved, RunLogLine, SweepEvent
from fanbench.sweeps.task_runs import ActiveRun
from fanbench.wire.log_decoder import OddEntry
from fanbench.wire.log_lines import Lines
from fanbench.wire.log_stream import Doubts, follow_log
from fanbench.wire.messages import LogEntry, RunState
from fanbench.wire.retry import FailureKind, RetryBudget, failure_kind

__all__ = ["RunPipeline", "reaches_the_end"]

# Seconds for which a live log is still read after its run has ended.
_LOG_TAIL = 10.0
# How far, in seconds, the times in a log and those of its run may be apart.
_CLOCK_SLACK = 0.5
# Seconds for which the log of an ended run, which needs to wait for nothing, may be silent.
_STORED_SILENCE = 15.0
# Seconds for which a missing log of an ended run is asked for again.
_NO_LOG = 30.0


@dataclass(slots=True)
class _Fetch:
    """One of the two things to fetch of an ended run. `stage` names it in events, `reports` are those of failures."""

    stage: str
    is_wanted: Callable[[Attempt], bool]
    fetch: Callable[[], Awaitable[None]]
    budget: RetryBudget
    reports: Throttle = field(default_factory=partial(Throttle, REPORTED_EACH))


class RunPipeline:
    """Carries one run from the list that first shows it running or ended until its files are on disk.

    A live log that was read to the end of the run, without a break or anything odd, is complete. Otherwise the log is
    read again after the end, so that the file is byte for byte what the server has.
    """

    __slots__ = ("_context", "_doubts", "_emitted", "_log", "_run", "_watcher")

    def __init__(self, run: ActiveRun, watcher: RunWatcher, context: SweepContext) -> None:
        self._run = run
        self._watcher = watcher
        self._context = context
        #: The number of log lines that were emitted.
        self._emitted = 0
        #: The complete log, if it was read live.
        self._log: LogFile | None = None
        self._doubts = Doubts(context.client.config.endpoint)

    async def run(self) -> None:
        await self._watch()
        if self._run.ended:
            await self._collect()

    # --- While it runs ---

    async def _watch(self) -> None:
        """Follow the log until the run has ended or is given up."""
        run, tries = self._run, 0
        while run.watched:
            if run.state != RunState.RUNNING or tries >= STREAM_TRIES:
                await run.wait_for_change()
                continue
            try:
                await self._follow_log()
            except NotFound:
                # A run that has just begun may have no log yet.
                self._watcher.stream_missed(run.run_id)
                with anyio.move_on_after(2.0**tries):
                    while run.watched:
                        await run.wait_for_change()
                tries += 1
            except FanbenchError as error:
                if failure_kind(error) is FailureKind.FATAL:
                    raise
                self._watcher.stream_ended(run.run_id)
                tries = STREAM_TRIES
            else:
                tries = STREAM_TRIES

    async def _follow_log(self) -> None:
        """Read the live log once another stream may be opened."""
        run = self._run
        try:
            # `TaskRuns.stop_watching` ends the wait for a stream at once, and an open stream soon.
            with anyio.CancelScope() as run.log_scope:
                async with self._context.streams:
                    if run.watched:
                        run.log_tail = _LOG_TAIL
                        await self._read_live_log()
        finally:
            run.log_scope, run.log_tail = None, 0.0

    async def _read_live_log(self) -> None:
        run, stream = self._run, _ObservedStream(self._context.client, self._watcher)
        self._watcher.stream_opened(run.run_id)
        part = await self._write_log(follow_log(stream, run.run_id, ended=self._has_ended))
        if (
            run.ended
            and stream.opened == 1
            and not stream.odd
            and run.last_seen_active < stream.ended_at
            and reaches_the_end(stream.ahead, stream.ended_at, run.seconds)
        ):
            self._log = part
        else:
            await self._drop(part)
        self._watcher.stream_ended(run.run_id)

    async def _has_ended(self) -> bool:
        """After the stream has ended in good order, wait for a list to show whether the run has, too."""
        run = self._run
        if run.watched:
            self._watcher.stream_ended(run.run_id)
            with anyio.move_on_after(END_LAG):
                while run.watched:
                    await run.wait_for_change()
        if not run.watched or run.state != RunState.RUNNING:
            return True
        self._watcher.stream_opened(run.run_id)
        return False

    # --- After its end ---

    async def _collect(self) -> None:
        """Fetch the output, then the log."""
        run = self._run
        fetches = [
            _Fetch("download", wants_output, self._fetch_output, RetryBudget()),
            _Fetch("log", wants_log, self._fetch_log, RetryBudget(_NO_LOG)),
        ]
        while fetches:
            async with self._context.downloads:
                pause = await self._work_through(fetches)
            if pause:
                await anyio.sleep(pause)
        self._context.collecting -= 1
        if not run.cost_known:
            # Without an output, the cost is unknown, which is not the same as zero.
            self._context.gate.count_cost(run, None)
        self._context.gate.wake_waiting()

    async def _work_through(self, fetches: list[_Fetch]) -> float:
        """Remove each of `fetches` once it is done or given up. Return the seconds to pause before the next try."""
        run = self._run
        while fetches:
            step = fetches[0]
            try:
                if step.is_wanted(run.attempt):
                    await step.fetch()
            except FanbenchError as error:
                pause = step.budget.record(error)
                if pause is not None:
                    self._report_failure(step, error, pause)
                    return pause
                self._context.store.give_up(run.planned_run, run.attempt.number, step.stage, str(error))
            del fetches[0]
        return 0.0

    def _report_failure(self, step: _Fetch, error: FanbenchError, pause: float) -> None:
        """Say that a step is tried again, unless that was said just before, or the files may only be late."""
        if isinstance(error, NotFound) or not step.reports.is_due():
            return
        run = self._run
        self._context.emit(FetchFailed(run.planned_run, run.attempt.number, step.stage, str(error), pause))

    @property
    def _folder(self) -> str:
        """The run's folder relative to the sweep's, with slashes on every system."""
        run, planned = self._run, self._run.planned_run
        return folder_of_run(Path(), planned.task, run.attempt.version, planned.model, run.run_id).as_posix()

    async def _fetch_output(self) -> None:
        """Download the output, and record it once it is complete on disk."""
        run, context, name = self._run, self._context, self._folder
        if run.attempt.log is not None and Path(run.attempt.log.path).name == EARLIER_LOG:
            # The download replaces the folder, into which an earlier version wrote the log.
            self._record(run.attempt.with_(log=None))
        downloaded = await context.client.download_output(
            run.run_id, context.root / name, include_source=context.rules.include_source
        )
        output = saved_output(name, downloaded.contents)
        cost = await context.gate.cost_of(context.root / name)
        number, run_id = run.attempt.number, run.run_id
        event = OutputSaved(
            run.planned_run, number, run_id, output.path, output.files, output.size, output.digest
        )
        self._record(run.attempt.with_(output=output), event)
        context.gate.count_cost(run, cost)

    async def _fetch_log(self) -> None:
        """Save the log that was read live if it is complete, else read it from the server."""
        run, context = self._run, self._context
        part, self._log = self._log, None
        if part is None:
            part = await self._write_log(self._stored_log())
        log = SavedLog(log_of_run(Path(self._folder)).as_posix(), part.lines, part.size)
        try:
            await context.offload(partial(part.place, context.root / log.path))
        except FanbenchError:
            await self._drop(part)
            raise
        event = LogSaved(run.planned_run, run.attempt.number, run.run_id, log.path, log.lines, log.size)
        self._record(run.attempt.with_(log=log), event)

    async def _stored_log(self) -> AsyncGenerator[LogEntry, None]:
        """Read the log of the ended run. What is garbled is tried again, unless it was the same the last time."""
        logs = self._context.client.logs(self._run.run_id, silence=_STORED_SILENCE, merge=True)
        self._doubts.reopened()
        async with aclosing(logs) as entries:
            async for entry in entries:
                if (whole := self._doubts.resolve(entry)) is not None:
                    yield whole

    def _record(self, attempt: Attempt, event: SweepEvent | None = None) -> None:
        store = self._context.store
        self._run.attempt = store.put(attempt)
        store.commit(Update(attempt, event))

    # --- Its log ---

    async def _write_log(self, entries: AsyncGenerator[LogEntry, None]) -> LogFile:
        """Write a log from its start to a new file, and emit the lines that were not emitted before."""
        context, lines, read = self._context, Lines(), 0
        part = log_part(context.root, self._run.run_id, context.offload)
        try:
            async with aclosing(entries):
                async for entry in entries:
                    await part.write(entry.data)
                    read = self._emit_new(lines.feed(entry), read)
                    await context.room()
        except BaseException:
            await self._drop(part)
            raise
        self._emit_new(lines.flush(), read)
        return part

    def _emit_new(self, lines: Sequence[str], read: int) -> int:
        """Emit `lines`, which follow the first `read` lines of the log, except those already emitted.

        Return the number of lines read so far.
        """
        run = self._run
        for line in lines[max(0, self._emitted - read) :]:
            self._context.emit(RunLogLine(run.planned_run, run.attempt.number, run.run_id, line))
        read += len(lines)
        self._emitted = max(self._emitted, read)
        return read

    async def _drop(self, part: LogFile) -> None:
        with anyio.CancelScope(shield=True):
            await self._context.offload(part.drop)


class _ObservedStream:
    """A client for `follow_log` that observes how often it opens the log, what is odd, and the times in it.

    The `watcher` is told of all that comes.
    """

    def __init__(self, client: Api, watcher: RunWatcher) -> None:
        self.config = client.config
        self.opened = 0
        self.odd = False
        #: The run's clock, which times the entries, is at least this many seconds ahead of ours.
        self.ahead = -math.inf
        self.ended_at = 0.0
        self._client = client
        self._watcher = watcher

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        self.opened += 1
        async with aclosing(self._client.logs(run_id, silence=silence, merge=merge)) as entries:
            async for entry in entries:
                self._watcher.stream_heard(run_id)
                self.odd = self.odd or isinstance(entry, OddEntry)
                self.ahead = max(self.ahead, entry.time - anyio.current_time())
                yield entry
        self.ended_at = anyio.current_time()


def reaches_the_end(ahead: float, ended_at: float, seconds: float | None) -> bool:
    """Return whether a stream that ended in good order lasted until the end of its run.

    It may have broken off just before. The run's clock is at least `ahead` seconds ahead of ours, on which the
    stream ended at `ended_at`. The run took `seconds`; if that is `None`, assume that the stream is complete.
    """
    return seconds is None or ahead + ended_at >= seconds - _CLOCK_SLACK
