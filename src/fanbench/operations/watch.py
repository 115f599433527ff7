"""Waiting for the end of creations and runs.

One list call per task per poll, whatever the number of runs. Between polls the log streams of running runs
are followed: a stream ends when its run ends, so the end is seen at once while polls are far apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from fanbench._util.concurrency import alone, gather
from fanbench._util.polling import POLL_INTERVAL, CreationPace, Deadline, Pace
from fanbench.errors import FanbenchError, NotFound, RunFailed, WaitTimeout
from fanbench.operations.api import Api
from fanbench.operations.events import (
    CreationPolled,
    LogLine,
    Polled,
    Report,
    RunChanged,
    RunEnding,
    ignore_events,
)
from fanbench.operations.lookup import creation_error, model_of, state_word, title_word
from fanbench.operations.polls import RunPoll, TaskPoll
from fanbench.operations.streams import follow_log
from fanbench.wire.log_lines import Lines
from fanbench.wire.messages import CreationState, Run, RunState, Task

__all__ = ["StillRunning", "Watch", "created_by", "ensure_created", "wait_for_runs", "wait_for_task"]

# With other streams still open, one that ends is no hurry: polls stay this many seconds apart.
_REST = 5.0
# Log lines that are still under way when the last run has ended.
_DRAIN = 10.0


class StillRunning(WaitTimeout):
    """The time is over. `runs` are those that have not ended, as last seen."""

    def __init__(self, message: str, *, runs: Sequence[Run] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.runs = tuple(runs)


# --- Creations ----------------------------------------------------------------------------------------------


async def wait_for_task(
    client: Api,
    slug: str,
    *,
    version: int = 0,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    report: Report = ignore_events,
) -> Task:
    """The task once its creation has ended, well or badly (see `ensure_created`).

    `version`: an answer about an earlier version does not count. Times are in seconds.

    Raises:
        StillRunning: the creation has not ended within `timeout`.
    """
    return await created_by(
        client, slug, Deadline(timeout), version=version, poll_interval=poll_interval, report=report
    )


async def created_by(
    client: Api,
    slug: str,
    deadline: Deadline,
    *,
    seen: Task | None = None,
    version: int = 0,
    poll_interval: float = POLL_INTERVAL,
    report: Report = ignore_events,
) -> Task:
    """`wait_for_task` with a deadline. A task that was just `seen` pending is not asked for again at once."""
    poll, pace = TaskPoll(client, slug, report), CreationPace(poll_interval)
    task = seen if seen is not None and seen.creation_state.pending else None
    previous = None
    with anyio.move_on_after(deadline.left):
        while True:
            task = task or await poll.ask()
            if task is not None:
                if not task.creation_state.pending and task.slug.version_number >= version:
                    return task
                report(CreationPolled(slug, task, task.creation_state != previous))
                previous = task.creation_state
            task = None
            await anyio.sleep(pace.next())
    state = f"is {state_word(previous)}" if previous is not None else "has not been answered for"
    raise StillRunning(
        f"Timed out after {deadline.seconds or 0:g}s: the creation of task '{slug}' {state}.",
        hint=f"See how it goes on with: fanbench tasks status {slug}",
    )


def ensure_created(slug: str, task: Task) -> Task:
    """`task`, whose creation ended well.

    Raises:
        RunFailed: it ended badly; the message has the state and the server's reason.
    """
    if task.creation_state == CreationState.COMPLETED:
        return task
    reason = creation_error(task)
    raise RunFailed(
        f"Task '{slug}' creation failed (status: {state_word(task.creation_state)})."
        + (f"\n  Error: {reason}" if reason else "")
    )


# --- Runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watch:
    """Which runs of a task are waited for.

    The answer to a schedule call has no run ids. What it started is recognized as the runs that were not
    there `before`: one of each model in `fresh`, which must turn up, and any of the models in `other`.
    Runs whose `ids` are known are waited for whatever their age.
    """

    slug: str
    ids: frozenset[int] = frozenset()
    fresh: frozenset[str] = frozenset()
    other: frozenset[str] = frozenset()
    before: frozenset[int] = frozenset()

    @property
    def models(self) -> tuple[str, ...]:
        """The models to ask for; none for all, as runs known by id may be of any model."""
        return () if self.ids and not (self.fresh or self.other) else tuple(sorted(self.fresh | self.other))

    @property
    def empty(self) -> bool:
        return not (self.ids or self.fresh or self.other)

    def pick(self, runs: Sequence[Run]) -> list[Run]:
        """Those of `runs` that are waited for, in their order."""
        first: dict[str, int] = {}
        for run in runs:
            if run.id not in self.before and model_of(run) in self.fresh:
                first[model_of(run)] = min(run.id, first.get(model_of(run), run.id))
        mine = {*self.ids, *first.values()}
        return [run for run in runs if run.id in mine or self._is_other(run)]

    def _is_other(self, run: Run) -> bool:
        return run.id not in self.before and model_of(run) in self.other

    def missing(self, picked: Sequence[Run]) -> int:
        """How many runs that must turn up have not."""
        ids, models = (
            {run.id for run in picked},
            {model_of(run) for run in picked if run.id not in self.before},
        )
        return len(self.ids - ids) + len(self.fresh - models)


async def wait_for_runs(
    client: Api,
    *watches: Watch,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    logs: bool = False,
    report: Report = ignore_events,
) -> list[Run]:
    """The runs once all have ended, well or badly, in the order of `watches` and of the server's lists.

    With `logs`, their log lines are reported as they are written. Times are in seconds.

    Raises:
        StillRunning: some have not ended within `timeout`.
    """
    waiters = [_Waiter(client, watch, Pace(poll_interval), logs, report) for watch in watches]
    with anyio.move_on_after(timeout) as scope:
        await gather([waiter.wait for waiter in waiters], limit=len(waiters))
    if scope.cancelled_caught:
        raise _timed_out(timeout or 0.0, waiters)
    return [run for waiter in waiters for run in waiter.runs]


def _timed_out(timeout: float, waiters: Sequence[_Waiter]) -> StillRunning:
    going = [(waiter.watch.slug, run) for waiter in waiters for run in waiter.runs if not run.state.terminal]
    lines = [f"  {slug}: {model_of(run)} (Run {run.id}) {title_word(run.state)}" for slug, run in going]
    slugs = dict.fromkeys(waiter.watch.slug for waiter in waiters)
    return StillRunning(
        "\n".join(
            [
                f"Timed out after {timeout:g}s; still under way:",
                *(lines or ["  runs that are not listed yet"]),
            ]
        ),
        runs=[run for _, run in going],
        hint="See how they go on with: " + "; ".join(f"fanbench tasks status {slug}" for slug in slugs),
    )


class _Waiter:
    """Waits for the runs of one task."""

    def __init__(self, client: Api, watch: Watch, pace: Pace, logs: bool, report: Report) -> None:
        self.watch = watch
        self.runs: list[Run] = []
        self._client = client
        self._pace = pace
        self._logs = logs
        self._report = report
        self._ask = RunPoll(client, watch.slug, watch.models, report).ask
        self._followed: set[int] = set()
        self._open: set[int] = set()
        self._stream_ended = anyio.Event()
        self._all_ended = anyio.Event()

    async def wait(self) -> None:
        if self.watch.empty:
            return
        with alone():
            await self._wait()

    async def _wait(self) -> None:
        async with anyio.create_task_group() as followers:
            while not await self._poll(followers):
                await self._pause()
            # The last log lines are waited for, for their own sake, but not for long.
            followers.cancel_scope.deadline = anyio.current_time() + (_DRAIN if self._logs else 0.0)

    async def _poll(self, followers: TaskGroup) -> bool:
        """Asks once; whether all have ended."""
        listed = await self._ask()
        if listed is None:
            return False
        found = self.watch.pick(listed)
        self._absorb(found)
        for run in found:
            self._follow(run, followers)
        return not self.watch.missing(found) and all(run.state.terminal for run in found)

    def _absorb(self, found: list[Run]) -> None:
        states: dict[int, RunState] = {run.id: run.state for run in self.runs}
        self.runs = found
        for run in found:
            if states.get(run.id) != run.state:
                self._report(RunChanged(self.watch.slug, run, states.get(run.id)))

    async def _pause(self) -> None:
        """Until the next poll is due, or a stream has ended: then the end of its run can be seen."""
        # While every run that goes on has a stream, the streams tell when it is worth asking.
        seconds = self._pace.limit if self._all_streaming() else self._pace.next()
        pending = sum(not run.state.terminal for run in self.runs) + self.watch.missing(self.runs)
        self._report(Polled(self.watch.slug, pending, seconds))
        with anyio.move_on_after(seconds):
            await self._stream_ended.wait()
            with anyio.move_on_after(_REST):
                await self._all_ended.wait()
            if not self._open:
                self._pace.reset()
        self._stream_ended = anyio.Event()

    def _all_streaming(self) -> bool:
        going = {run.id for run in self.runs if not run.state.terminal}
        return bool(going) and going <= self._open and not self.watch.missing(self.runs)

    def _follow(self, run: Run, followers: TaskGroup) -> None:
        """Opens the stream of a run that has begun; of one that is over too, if its lines are wanted."""
        begun = run.state == RunState.RUNNING or (self._logs and run.state.terminal)
        if begun and run.id not in self._followed:
            self._followed.add(run.id)
            if not self._open:
                self._all_ended = anyio.Event()
            self._open.add(run.id)
            followers.start_soon(self._read, run)

    async def _read(self, run: Run) -> None:
        """The polls see the end of a run without its log too, if later: no failure here is an error."""
        lines = Lines()
        try:
            async with aclosing(follow_log(self._client, run.id)) as entries:
                async for entry in entries:
                    self._show(run, lines.feed(entry))
        except NotFound:
            self._followed.discard(run.id)  # not there yet: the next poll tries again
        except FanbenchError:
            self._stream_ended.set()
        else:
            if any(seen.id == run.id and not seen.state.terminal for seen in self.runs):
                self._report(RunEnding(self.watch.slug, run))
            self._stream_ended.set()
        finally:
            self._show(run, lines.flush())
            self._open.discard(run.id)
            if not self._open:
                self._all_ended.set()

    def _show(self, run: Run, lines: Sequence[str]) -> None:
        if self._logs:
            for line in lines:
                self._report(LogLine(run, line))
