"""The server's queue of runs: what is in it, and scheduling runs through it where an account has it (`--enqueue`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import anyio

from fanbench._util.polling import Pace
from fanbench._util.text import error_line
from fanbench.errors import ApiError, FanbenchError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.events import Emit, Event, ignore_events
from fanbench.operations.lookup import NO_SUCH_CALL, lacks_call, needs_call
from fanbench.operations.models import list_models_if_possible
from fanbench.wire.messages import (
    BenchmarkModel,
    BenchmarkQueue,
    ModelQueue,
    QueueSettings,
    QueueStatus,
    RunState,
    ScheduleResult,
    SkipPolicy,
    StateCount,
)
from fanbench.wire.queue import Enqueue
from fanbench.wire.slugs import normalize_model

__all__ = [
    "CannotEnqueue",
    "EnqueueMode",
    "NotAttributed",
    "NotEnqueued",
    "Queue",
    "QueueCount",
    "QueueRead",
    "QueueSeen",
    "RunQueue",
    "Skip",
    "enqueue_except",
    "fetch_queue",
    "watch_queue",
]

#: Seconds between two readings of a queue that is watched and does not change.
WATCH_INTERVAL = 10.0

# --- What is in it --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueueCount:
    """The runs of all the caller's tasks, of one model, or of one benchmark; the ended ones of the last 24 hours.

    A `name` is None for runs whose tasks are in no benchmark, and for benchmarks that the caller may not see.
    """

    scope: Literal["all", "model", "benchmark"]
    name: str | None
    queued: int
    running: int
    completed: int
    errored: int
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """The server's queue: the counts of all runs first, then per model, then per benchmark."""

    counts: tuple[QueueCount, ...]
    settings: QueueSettings | None

    @property
    def live(self) -> int:
        """The number of runs that have not ended."""
        return self.counts[0].queued + self.counts[0].running


class QueueSeen(Event, frozen=True):
    """The queue as it is now."""

    queue: Queue


async def fetch_queue(client: Api) -> Queue:
    """Return how many runs of the caller are queued and running, and how those of the last 24 hours have ended.

    Raises:
        UnsupportedByServer: The server does not say it.
    """
    models, _ = await list_models_if_possible(client)
    return await _fetch(client, models)


async def watch_queue(
    client: Api, *, poll_interval: float = WATCH_INTERVAL, emit: Emit = ignore_events
) -> Queue:
    """Return the queue once none of the caller's runs is queued or running. Reports `QueueSeen` after each poll.

    Raises:
        UnsupportedByServer: The server does not say it.
    """
    models, _ = await list_models_if_possible(client)
    pace, before = Pace(poll_interval), None
    while True:
        queue = await _fetch(client, models)
        emit(QueueSeen(queue))
        if not queue.live:
            return queue
        if queue != before:
            pace.reset()
        before = queue
        await anyio.sleep(pace.next())


async def _fetch(client: Api, models: Sequence[BenchmarkModel]) -> Queue:
    with needs_call("This server does not say what is in its queue", names_nothing=True):
        status = await client.queue_status()
    names = {model.version.id: normalize_model(model.version.slug) for model in models if model.version}
    return Queue(tuple(_counts(status, names)), status.settings)


def _counts(status: QueueStatus, names: Mapping[int, str]) -> Iterable[QueueCount]:
    live, recent = _by_state(status.state_counts), _by_state(status.recent_state_counts)
    queued = live.pop(RunState.QUEUED, 0)
    # Runs that wait for their score have left the queue.
    yield QueueCount("all", None, queued, sum(live.values()), *_ended(recent))
    for model in status.model_version_stats:
        number = model.benchmark_model_version_id
        yield _count("model", names.get(number, f"model {number}"), model)
    for benchmark in status.benchmark_stats:
        yield _count("benchmark", benchmark.benchmark_name or None, benchmark, withheld=benchmark.withheld)


def _count(
    scope: Literal["model", "benchmark"],
    name: str | None,
    stats: ModelQueue | BenchmarkQueue,
    *,
    withheld: bool = False,
) -> QueueCount:
    ended = _ended(_by_state(stats.recent_state_counts))
    return QueueCount(scope, name, stats.queued_count, stats.running_count, *ended, withheld)


def _by_state(counts: Iterable[StateCount]) -> dict[RunState, int]:
    return {each.state: each.count for each in counts}


def _ended(counts: Mapping[RunState, int]) -> tuple[int, int]:
    return counts.get(RunState.COMPLETED, 0), counts.get(RunState.ERRORED, 0)


# --- Scheduling through it ------------------------------------------------------------------------------------

#: Whether runs are put into the server's queue: if the account has one, or the call fails without one, or not.
EnqueueMode = Literal["auto", "always", "never"]

#: Which models the queue leaves alone: those with any run of the task, or with a latest run that has completed. Both
#: leave those alone on which it is in progress.
Skip = Literal["any", "completed"]


def enqueue_except(skip: Skip | None, stale_after: float | None = None) -> Enqueue:
    """Return how to put runs into the queue, except those on models that `skip` says.

    With `stale_after`, a run that completed more than so many seconds ago is made again.

    Raises:
        UsageError: `stale_after` is no number of seconds, or `skip` is "any".
    """
    if stale_after is None:
        policies = {"any": SkipPolicy.MISSING_ONLY, "completed": SkipPolicy.MISSING_OR_ERRORED}
        return Enqueue(skip=policies[skip] if skip else SkipPolicy.ALL)
    if skip == "any":
        raise UsageError(
            "Where models with any run are left alone, no run is stale.",
            hint="Leave out --skip or --stale-after.",
        )
    return Enqueue(skip=SkipPolicy.STALER_THAN, stale_after=stale_after)


#: The statuses of answers to a call for a benchmark which the caller cannot edit, or which lacks the task.
_REFUSALS = (400, 403, *NO_SUCH_CALL)


class CannotEnqueue(FanbenchError):
    """The server does not take runs into its queue, and they are not to be scheduled otherwise."""


class NotEnqueued(Event, frozen=True):
    """The server does not take runs into its queue, so they are scheduled without it. Reported once."""

    reason: str

    @property
    def text(self) -> str:
        return f"Runs are scheduled without the server's queue: {error_line(self.reason)}"


class NotAttributed(Event, frozen=True):
    """The server does not queue the runs of a task for the `benchmark`, so they are queued without it."""

    task: str
    benchmark: str
    reason: str

    @property
    def text(self) -> str:
        return f"{self.task}: its runs are queued without the benchmark {self.benchmark}: {error_line(self.reason)}"


class QueueRead(Event, frozen=True):
    """How many runs of the caller are `queued` and `active`, and have `ended` in the last 24 hours."""

    quiet: ClassVar[bool] = True

    queued: int
    active: int
    ended: int

    @property
    def text(self) -> str:
        return f"the server's queue: {self.queued} queued, {self.active} running"


class RunQueue:
    """Schedules runs, through the server's queue where there is one.

    Before the first run, the server is asked for the status of its queue: one that does not know this call would
    schedule the runs at once, and runs in a queue that is switched off would never begin. To an account that lacks the
    queue, the server answers 404 and has done nothing; the call is made again without the queue.
    """

    def __init__(
        self,
        client: Api,
        mode: EnqueueMode,
        enqueue: Enqueue,
        emit: Callable[[NotAttributed | NotEnqueued | QueueRead], None],
    ) -> None:
        self._client = client
        self._mode = mode
        self._enqueue = enqueue
        self._emit = emit
        self._looking = anyio.Lock()
        #: Whether runs are put into the queue; None while that is not known.
        self.in_use: bool | None = False if mode == "never" else None
        self._has_taken_runs = False
        #: The tasks whose runs the server does not attribute to their benchmark.
        self._unattributed: set[str] = set()

    async def schedule_runs(
        self,
        task: str,
        models: Sequence[str] = (),
        *,
        version: int = 0,
        judge: str = "",
        effort: str = "",
        agents: Sequence[str] = (),
        benchmark: str = "",
    ) -> list[ScheduleResult]:
        """Do what `Client.schedule_runs` does, and raise what it raises.

        In the queue, the runs are attributed to a `benchmark` ("owner/slug"), if the server accepts that.

        Raises:
            CannotEnqueue: The account has no queue, and the mode is "always". Nothing has been scheduled.
        """
        schedule = partial(
            self._client.schedule_runs,
            task,
            models,
            version=version,
            judge=judge,
            effort=effort,
            agents=agents,
        )
        await self.look()
        if not self.in_use:
            return await schedule()
        try:
            results = await self._put(schedule, task, benchmark)
        except ApiError as error:
            # Once the queue has taken runs, this is about the task or a model.
            if error.status not in NO_SUCH_CALL or self._has_taken_runs:
                raise
            if self._mode == "always":
                raise self._refusal(str(error)) from None
            results = await schedule()
            self._do_without(str(error))
        else:
            self._has_taken_runs = True
        return results

    async def _put(
        self, schedule: Callable[..., Awaitable[list[ScheduleResult]]], task: str, benchmark: str
    ) -> list[ScheduleResult]:
        """Put runs into the queue, attributed to a benchmark if the server accepts that."""
        if benchmark and task not in self._unattributed:
            try:
                return await schedule(enqueue=replace(self._enqueue, benchmark=benchmark))
            except ApiError as error:
                if error.status not in _REFUSALS:
                    raise
                # It may as well be about something else, of which the next call says the same.
                results = await schedule(enqueue=self._enqueue)
                self._unattributed.add(task)
                self._emit(NotAttributed(task, benchmark, str(error)))
                return results
        return await schedule(enqueue=self._enqueue)

    async def look(self) -> None:
        """Ask the server whether to put runs into its queue, unless that is known.

        Raises:
            CannotEnqueue: It has none, and the mode is "always".
        """
        async with self._looking:
            if self.in_use is None and (reason := await self._why_not()):
                if self._mode == "always":
                    raise self._refusal(reason)
                self._do_without(reason)
            elif self.in_use is None:
                self.in_use = True

    async def _why_not(self) -> str:
        """Why runs are not put into the queue, as far as its status tells; empty if it does not."""
        try:
            settings = (await self.read()).settings
        except FanbenchError as error:
            return "this server has none" if isinstance(error, ApiError) and lacks_call(error) else ""
        return "it is switched off" if settings is not None and not settings.enabled else ""

    async def read(self) -> QueueStatus:
        """Return the status of the queue, and report it as `QueueRead`."""
        status = await self._client.queue_status()
        live, recent = _by_state(status.state_counts), _by_state(status.recent_state_counts)
        queued = live.get(RunState.QUEUED, 0)
        self._emit(QueueRead(queued, sum(live.values()) - queued, sum(recent.values())))
        return status

    async def watch(self, interval: float) -> None:
        """Read the status every `interval` seconds as long as the queue is in use. A failure is not an error."""
        while self.in_use is not False:
            await anyio.sleep(interval)
            if self.in_use:
                with suppress(FanbenchError):
                    await self.read()

    def _do_without(self, reason: str) -> None:
        if self.in_use is not False:
            self.in_use = False
            self._emit(NotEnqueued(reason))

    @staticmethod
    def _refusal(reason: str) -> CannotEnqueue:
        return CannotEnqueue(
            f"Runs cannot be put into the server's queue: {reason}",
            hint="Use --enqueue auto to schedule them without it.",
        )
