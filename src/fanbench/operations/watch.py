"""Watching runs until they end.

Only `RunWatcher` polls runs and decides when the next poll is due. Its `watch` polls until none of the watcher's
own runs is pending; its `serve` polls while coroutines wait for single runs. `Client.lines`, a generator that cannot
hold a task group, calls `poll` and `wait_for_next_poll` in turn instead.

A poll is one list call, whatever the number of runs and of coroutines that wait for them. Log streams tell the
watcher when a poll is worthwhile: a stream ends when its run ends, so the end is seen at once although polls are far
apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup
from msgspec import structs

from fanbench._util.concurrency import gather, unwrap_single_error
from fanbench._util.polling import POLL_INTERVAL, Pace
from fanbench._util.text import duration, many
from fanbench.errors import FanbenchError, NotFound, WaitTimeout
from fanbench.operations.api import Api
from fanbench.operations.events import (
    Emit,
    LogLine,
    Polled,
    PollFailed,
    RunChanged,
    RunEnding,
    ignore_events,
)
from fanbench.operations.lookup import as_scheduled, model_of, runs_of
from fanbench.wire.log_lines import Lines
from fanbench.wire.log_stream import follow_log
from fanbench.wire.messages import Run, RunState
from fanbench.wire.retry import NOBODY_LISTENS_LIMIT, FailureKind, NobodyListens, failure_kind, named_wait

__all__ = [
    "END_LAG",
    "LISTED_WITHIN",
    "STREAM_TRIES",
    "FailedPolls",
    "RunSelection",
    "RunWatcher",
    "StillRunning",
    "wait_for_listing",
    "wait_for_runs",
]

#: Seconds within which a list must show a run that was scheduled.
LISTED_WITHIN = 120.0
# How many polls in a row may fail, each after the retries of the client.
_MAY_FAIL = 5
#: How often the log of a running run may be missing before only polls are used to see its end. The pauses between
#: the tries double from 1 s, so this takes about a minute.
STREAM_TRIES = 7
#: If a list does not show the end of a run within this many seconds after its stream ended, the stream broke off.
END_LAG = 5.0
#: Seconds for which lists must lack a run in progress that they had before, until it is taken for cancelled.
GONE_AFTER = 15.0
# Seconds for which the last log lines are awaited after the last run has ended.
_DRAIN = 10.0


class StillRunning(WaitTimeout):
    """The timeout is over. `runs` are those that have not ended, as last seen."""

    def __init__(self, message: str, *, runs: Sequence[Run] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.runs = tuple(runs)


# --- Polling runs -------------------------------------------------------------------------------------------


class RunWatcher:
    """Polls the runs of one task (of its newest version, or of `version`) for everybody who waits for them.

    As it is, it serves coroutines that wait for single runs: `serve` polls while any of them is in
    `wait_for_change` or `wait_for_list`. A subclass that waits for runs of its own overrides `absorb` and
    `pending`, and calls `watch`.

    Polls come 1, 1.5, 2.25… seconds after one another, up to `poll_interval`, and start again at 1 whenever a
    list shows something new. While every pending run has an open log stream they are `poll_interval` apart. A stream
    that has been silent for `probe` seconds may be that of a run that has ended, so it causes a poll, and again
    when its silence has lasted twice as long. The end of a stream asks for a poll: at once if it was the last
    one, otherwise within `coalesce` seconds, so that runs that end shortly after one another share a poll.

    `states` has the state of each run as last listed; `known` are runs that were listed just before. A cancelled run is
    not listed any more: after `gone_after` seconds it counts as errored.
    """

    #: Seconds within which a list follows the end of a stream while other streams are open.
    coalesce = 5.0
    #: Seconds of silence on a stream after which a list shows whether its run has ended.
    probe = 15.0
    gone_after = GONE_AFTER

    def __init__(
        self,
        client: Api,
        slug: str,
        models: Sequence[str] = (),
        *,
        known: Sequence[Run] = (),
        version: int = 0,
        poll_interval: float = POLL_INTERVAL,
        emit: Emit = ignore_events,
    ) -> None:
        self.slug = slug
        self.states: dict[int, RunState] = {run.id: run.state for run in known}
        self._client = client
        self._models = models
        self._version = version
        self._seen: dict[int, Run] = {run.id: run for run in known}
        #: By id, when a list first lacked a run in progress.
        self._lacking_since: dict[int, float] = {}
        self._emit = emit
        self._pace = Pace(poll_interval)
        self._restart_pace = False
        self._failed_polls = FailedPolls(slug, emit)
        self._retry_after: float | None = None
        #: When each open stream was last heard of, on the event loop's clock.
        self._streams: dict[int, float] = {}
        self._changes: dict[int, anyio.Event] = {}
        self._next_list = anyio.Event()
        #: How many coroutines wait for each of these events.
        self._waiting: dict[anyio.Event, int] = {}
        self._wanted = anyio.Event()
        #: Ends a pause within `coalesce` seconds; ends it at once.
        self._soon = anyio.Event()
        self._now = anyio.Event()

    # --- What a subclass decides ---

    def models(self) -> Sequence[str]:
        """The models whose runs are listed; all if empty."""
        return self._models

    def pending(self) -> int:
        """How many runs are waited for."""
        return len(self._waiting)

    def next_list_by(self) -> float:
        """The time by which a list is needed, on the event loop's clock."""
        return math.inf

    def absorb(self, runs: Sequence[Run], asked_at: float) -> None:
        """Record a list that was asked for at `asked_at`, before any waiting coroutine resumes."""

    def after_failed_poll(self, error: FanbenchError) -> float | None:
        """The seconds after which a failed poll is repeated; `None` for the usual pause.

        Raises:
            FanbenchError: The failure is not a transient one, or there were too many in a row.
        """
        return self._failed_polls.add(error) or None

    # --- Waiting for single runs ---

    async def wait_for_change(self, run_id: int) -> RunState:
        """Wait until a list shows the run in another state than the list before; return the new state."""
        await self._wait_for(self._changes.setdefault(run_id, anyio.Event()))
        return self.states[run_id]

    async def wait_for_list(self) -> None:
        """Wait for the next list."""
        await self._wait_for(self._next_list)

    async def end_shown(self, run_id: int, within: float) -> bool:
        """Whether a list shows within so many seconds that a run has ended, whose log has ended in good order."""
        with anyio.move_on_after(within):
            while not self.states[run_id].terminal:
                await self.wait_for_change(run_id)
        return self.states[run_id].terminal

    async def _wait_for(self, event: anyio.Event) -> None:
        self._waiting[event] = self._waiting.get(event, 0) + 1
        self._wanted.set()
        try:
            await event.wait()
        finally:
            # An event that was set is no longer there.
            if (waiters := self._waiting.pop(event, 0)) > 1:
                self._waiting[event] = waiters - 1

    # --- Hints that a poll is worthwhile ---

    def hurry(self) -> None:
        """Ask for a poll now."""
        self._restart_pace = True
        self._soon.set()
        self._now.set()

    async def wait_for_hurry(self) -> None:
        """Wait until a poll is asked for. For a watcher that has nothing pending."""
        await self._now.wait()
        self._now = anyio.Event()

    def stream_opened(self, run_id: int) -> None:
        self._streams[run_id] = anyio.current_time()

    def stream_heard(self, run_id: int) -> None:
        """Text came from an open stream."""
        if run_id in self._streams:
            self._streams[run_id] = anyio.current_time()

    def stream_closed(self, run_id: int) -> None:
        """Nobody follows the run any more."""
        self._streams.pop(run_id, None)

    def stream_ended(self, run_id: int) -> None:
        """The end of a stream announces the end of its run, which the next list confirms."""
        if run_id in self._streams:
            del self._streams[run_id]
            self._restart_pace = True
            self._soon.set()
            if not self._streams:
                self._now.set()

    def stream_missed(self, run_id: int) -> None:
        """A running run has no log stream yet, so polls must not be far apart because of it."""
        if run_id in self._streams:
            del self._streams[run_id]
            self._soon.set()

    # --- Polling ---

    async def watch(self, *, just_listed: bool = False) -> None:
        """Poll until nothing is pending, and at least once unless the runs were `just_listed`."""
        if not just_listed:
            await self.poll()
        while self.pending():
            await self.wait_for_next_poll()
            await self.poll()

    async def serve(self) -> None:
        """Poll while any coroutine waits in `wait_for_change` or `wait_for_list`. Runs until it is cancelled."""
        while True:
            while not self._waiting:
                self._wanted = anyio.Event()
                await self._wanted.wait()
            await self.wait_for_next_poll()
            await self.poll()

    async def poll(self) -> bool:
        """List the runs once. Return False if that failed; `after_failed_poll` has then chosen the next pause."""
        self._soon, self._now, self._retry_after = anyio.Event(), anyio.Event(), None
        if self._restart_pace:
            self._pace.reset()
            self._restart_pace = False
        try:
            await self.refresh()
        except FanbenchError as error:
            self._retry_after = self.after_failed_poll(error)
            return False
        self._failed_polls.reset()
        return True

    async def refresh(self) -> None:
        """List the runs and absorb the list."""
        asked_at = anyio.current_time()
        runs = await self.list_runs()
        if self.gone_after < math.inf:
            runs += await self._gone(runs)
        changed = [run for run in runs if self.states.get(run.id) != run.state]
        if changed:
            self._pace.reset()
        for run in changed:
            self.states[run.id] = run.state
            if run.state.terminal:
                self._streams.pop(run.id, None)
        self.absorb(runs, asked_at)
        seen = [self._changes.pop(run.id) for run in changed if run.id in self._changes]
        for event in (*seen, self._next_list):
            self._waiting.pop(event, None)
            event.set()
        self._next_list = anyio.Event()

    async def list_runs(self) -> list[Run]:
        """Return the runs that the server lists now."""
        return await runs_of(self._client, self.slug, self.models(), self._version)

    async def _gone(self, listed: Sequence[Run]) -> list[Run]:
        """Return the runs that lists do not show any more: as errored, or as they are in the list of their version."""
        now, there = anyio.current_time(), {run.id for run in listed}
        self._seen.update((run.id, run) for run in listed)
        lacking = [
            run
            for run in self._seen.values()
            if run.id not in there and (run.id in self._lacking_since or not run.state.terminal)
        ]
        self._lacking_since = {run.id: self._lacking_since.get(run.id, now) for run in lacking}
        # After a push, lists are of another version, unless they name theirs.
        versions = {run.task_slug.version_number for run in lacking} - {0, self._version}
        lists = [
            await runs_of(self._client, self.slug, self.models(), version) for version in sorted(versions)
        ]
        found = {run.id: run for runs in lists for run in runs}
        error = "The run is not listed any more: it was cancelled."
        return [
            found.get(run.id) or structs.replace(run, state=RunState.ERRORED, error_message=error)
            for run in lacking
            if run.id in found or now - self._lacking_since[run.id] >= self.gone_after
        ]

    async def wait_for_next_poll(self) -> None:
        """Wait until the next poll is due or asked for."""
        if self._retry_after is not None:
            await anyio.sleep(self._retry_after)
            return
        pending, began = self.pending(), anyio.current_time()
        usual = began + self._pace.next()
        self._emit(Polled(self.slug, pending, self._due(began, usual) - began))
        while (left := self._due(began, usual) - anyio.current_time()) > 0:
            with anyio.move_on_after(left):
                await self._soon.wait()
                with anyio.move_on_after(self.coalesce):
                    await self._now.wait()
                return

    def _due(self, began: float, usual: float) -> float:
        """The time of the next poll, as things are now. The pause `began` with one until the `usual` time."""
        due = usual
        if 0 < self.pending() == len(self._streams):
            silent = min(heard + max(self.probe, 2 * (began - heard)) for heard in self._streams.values())
            due = min(began + self._pace.limit, silent)
        needed = self.next_list_by()
        return min(due, needed) if needed > began else began + self.coalesce


class FailedPolls:
    """Tolerates a server that is away for a while: a wait of hours outlives five failed polls in a row.

    A server on this machine at whose endpoint nobody listens may be away for `NOBODY_LISTENS_LIMIT`.
    """

    def __init__(self, slug: str, emit: Emit) -> None:
        self._slug = slug
        self._emit = emit
        self._in_a_row = 0
        self._since = 0.0

    def add(self, error: FanbenchError) -> float:
        """Report a failed poll, and return the seconds for which the server asks to wait.

        Raises:
            FanbenchError: `error`, if it is not transient or too many polls in a row have failed.
        """
        now = anyio.current_time()
        if not self._in_a_row:
            self._since = now
        self._in_a_row += 1
        gone = isinstance(error, NobodyListens) and now - self._since >= NOBODY_LISTENS_LIMIT
        if gone or self._in_a_row > _MAY_FAIL or failure_kind(error) is not FailureKind.TRANSIENT:
            raise error
        seconds = named_wait(error) or 0.0
        self._emit(PollFailed(self._slug, error, seconds))
        return seconds

    def reset(self) -> None:
        self._in_a_row = 0


# --- Waiting for runs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunSelection:
    """Selects the runs of a task that are waited for.

    Runs with known `ids` must turn up, whatever their age. So must one run of each model in `fresh`: that which the
    server has `named` in its answer to the schedule call or else, from a server that names none, one that was not
    there `before`. Any run of the models in `other` that was not there before is selected, too.
    """

    slug: str
    ids: frozenset[int] = frozenset()
    fresh: frozenset[str] = frozenset()
    named: Mapping[str, int] = field(default_factory=dict)
    other: frozenset[str] = frozenset()
    before: frozenset[int] = frozenset()
    #: Whether all runs are listed, because the server may list these by other names of their models.
    lists_all: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        """The models to list; empty for all, because runs known by id may be of any model."""
        only_ids = self.ids and not (self.fresh or self.other)
        return () if only_ids or self.lists_all else tuple(sorted(self.fresh | self.other))

    @property
    def empty(self) -> bool:
        return not (self.ids or self.fresh or self.other)

    def pick(self, runs: Sequence[Run]) -> list[Run]:
        """The selected ones of `runs`, in the order given."""
        first: dict[str, int] = {}
        runs = as_scheduled(runs, self.fresh | self.other)
        for run in runs:
            if run.id not in self.before and model_of(run) in self._unnamed:
                first[model_of(run)] = min(run.id, first.get(model_of(run), run.id))
        mine = {*self.ids, *self.named.values(), *first.values()}
        return [
            run
            for run in runs
            if run.id in mine or (run.id not in self.before and model_of(run) in self.other)
        ]

    def missing(self, picked: Sequence[Run]) -> int:
        """How many runs that must turn up are not among `picked`."""
        models = {model_of(run) for run in picked if run.id not in self.before}
        certain = self.ids.union(self.named.values())
        return len(certain - {run.id for run in picked}) + len(self._unnamed - models)

    @property
    def _unnamed(self) -> frozenset[str]:
        return self.fresh - self.named.keys()


async def wait_for_runs(
    client: Api,
    *selections: RunSelection,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    logs: bool = False,
    emit: Emit = ignore_events,
) -> list[Run]:
    """Wait until all selected runs have completed or errored.

    Returns the runs in the order of `selections`, and of the server's lists within each. With `logs`, their log
    lines are reported as they are written. Times are in seconds.

    Raises:
        StillRunning: Some runs have not ended within `timeout`.
        FanbenchError: The runs cannot be listed, or too many polls in a row failed.
    """
    waits = [
        _WaitForRuns(client, selection, poll_interval, logs, emit)
        for selection in selections
        if not selection.empty
    ]
    with anyio.move_on_after(timeout) as scope:
        await gather([wait.run for wait in waits], limit=len(waits))
    if scope.cancelled_caught:
        running = [(wait.slug, run) for wait in waits for run in wait.runs or () if not run.state.terminal]
        lines = [
            f"  {slug}: {model_of(run)} (Run {run.id}) {run.state.label.title()}" for slug, run in running
        ]
        lines = lines or ["  runs that are not listed yet"]
        slugs = dict.fromkeys(wait.slug for wait in waits)
        raise StillRunning(
            "\n".join([f"Timed out after {timeout or 0.0:g}s; still under way:", *lines]),
            runs=[run for _, run in running],
            hint="Run "
            + " and ".join(f"`fanbench tasks status {slug}`" for slug in slugs)
            + " to see how they proceed.",
        )
    return [run for wait in waits for run in wait.runs or ()]


async def wait_for_listing(client: Api, selection: RunSelection, emit: Emit = ignore_events) -> list[Run]:
    """Return the selected runs once the server lists them, which may be a little after it scheduled them."""
    listing = _WaitForListing(client, selection, emit=emit)
    if not selection.empty:
        await listing.watch()
    return listing.runs or []


class _WaitForListing(RunWatcher):
    """Waits until the selected runs of one task are listed, in whatever state."""

    def __init__(
        self, client: Api, selection: RunSelection, *, poll_interval: float = POLL_INTERVAL, emit: Emit
    ) -> None:
        super().__init__(client, selection.slug, selection.models, poll_interval=poll_interval, emit=emit)
        #: The selected runs as last listed; `None` before the first list.
        self.runs: list[Run] | None = None
        self._selection = selection
        #: When lists last had all of them; before that, when the wait began.
        self._complete_at = anyio.current_time()

    def pending(self) -> int:
        return 1 if self.runs is None else self._selection.missing(self.runs)

    def absorb(self, runs: Sequence[Run], asked_at: float) -> None:
        self.runs = self._selection.pick(runs)
        if not (missing := self._selection.missing(self.runs)):
            self._complete_at = asked_at
        elif asked_at - self._complete_at >= LISTED_WITHIN:
            raise FanbenchError(
                f"The server has accepted {many(missing, 'run')} of '{self.slug}', and has not listed them for "
                f"{duration(LISTED_WITHIN)}.",
                hint=f"Run `fanbench tasks status {self.slug}` to see whether they turn up.",
            )


class _WaitForRuns(_WaitForListing):
    """Waits for the selected runs of one task, and follows their logs."""

    def __init__(
        self, client: Api, selection: RunSelection, poll_interval: float, logs: bool, emit: Emit
    ) -> None:
        super().__init__(client, selection, poll_interval=poll_interval, emit=emit)
        self._logs = logs
        self._followed: set[int] = set()
        self._followers: TaskGroup

    async def run(self) -> None:
        with unwrap_single_error():
            async with anyio.create_task_group() as self._followers:
                await self.watch()
                drain = _DRAIN if self._logs else 0.0
                self._followers.cancel_scope.deadline = anyio.current_time() + drain

    def pending(self) -> int:
        return super().pending() + sum(not run.state.terminal for run in self.runs or ())

    def absorb(self, runs: Sequence[Run], asked_at: float) -> None:
        before = {run.id: run.state for run in self.runs or ()}
        super().absorb(runs, asked_at)
        for run in self.runs or ():
            if before.get(run.id) != run.state:
                self._emit(RunChanged(self.slug, run, before.get(run.id)))
            # The log of a run that has ended already is read only if its lines are wanted.
            begun = run.state == RunState.RUNNING or (self._logs and run.state.terminal)
            if begun and run.id not in self._followed:
                self._followed.add(run.id)
                if not run.state.terminal:
                    self.stream_opened(run.id)
                self._followers.start_soon(self._follow, run)

    async def _follow(self, run: Run) -> None:
        """Read the log until it ends. Its failures are not errors: the polls see the end of the run as well."""
        lines = Lines()

        def show(texts: Sequence[str]) -> None:
            for text in texts if self._logs else ():
                self._emit(LogLine(run, text))

        async def ended() -> bool:
            if not self.states[run.id].terminal:
                self._emit(RunEnding(self.slug, run))
                self.stream_ended(run.id)
            over = await self.end_shown(run.id, self.coalesce + END_LAG)
            if not over:
                self.stream_opened(run.id)
            return over

        try:
            for tries in range(STREAM_TRIES):
                try:
                    over = self.states[run.id].terminal
                    log = follow_log(self._client, run.id, ended=ended, read_on=self._logs, over=over)
                    async with aclosing(log) as entries:
                        async for entry in entries:
                            self.stream_heard(run.id)
                            show(lines.feed(entry))
                except NotFound:
                    if self.states[run.id].terminal:
                        return
                    # A run that has just left the queue may have no log for a moment.
                    self.stream_missed(run.id)
                    await anyio.sleep(2.0**tries)
                    if not self.states[run.id].terminal:
                        self.stream_opened(run.id)
                else:
                    return
        except FanbenchError:
            return
        finally:
            show(lines.flush())
            self.stream_ended(run.id)
