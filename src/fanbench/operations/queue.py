"""The server's queue of runs: what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio

from fanbench._util.polling import Pace
from fanbench.errors import ApiError, FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.events import Emit, Event, ignore_events
from fanbench.operations.lookup import lacks_call
from fanbench.operations.models import list_models_if_possible
from fanbench.wire.messages import (
    BenchmarkModel,
    BenchmarkQueue,
    ModelQueue,
    QueueSettings,
    QueueStatus,
    RunState,
    StateCount,
)
from fanbench.wire.slugs import normalize_model

__all__ = [
    "Queue",
    "QueueCount",
    "QueueSeen",
    "fetch_queue",
    "watch_queue",
]

WATCH_INTERVAL = 10.0


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
        FanbenchError: The server does not have this call.
    """
    models, _ = await list_models_if_possible(client)
    return await _fetch(client, models)


async def watch_queue(
    client: Api, *, poll_interval: float = WATCH_INTERVAL, emit: Emit = ignore_events
) -> Queue:
    """Return the queue once none of the caller's runs is queued or running. Reports `QueueSeen` after each poll.

    Raises:
        FanbenchError: The server does not have this call.
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
    try:
        status = await client.queue_status()
    except ApiError as error:
        if not lacks_call(error):
            raise
        raise FanbenchError("This server does not say what is in its queue.") from None
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
