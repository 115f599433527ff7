"""The server's queue of runs: how runs are put into it, and which it leaves alone because of earlier runs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fanbench.errors import UsageError
from fanbench.wire.messages import (
    BatchScheduleRequest,
    BenchmarkQueue,
    BenchmarkSlug,
    ModelQueue,
    QueueSettings,
    QueueStatus,
    RunState,
    SkipPolicy,
    StateCount,
)

__all__ = ["IN_PROGRESS", "Enqueue", "make_status", "requested_enqueue", "skip_reason"]

#: Why a model is skipped that already runs the task.
IN_PROGRESS = "A run of this task version and model is in progress"

_DURATION = re.compile(r"(\d{1,12}(\.\d{1,9})?)s", re.ASCII)
# The most seconds of `stale_after`: some 300 years, which a `datetime` can go back.
_LONGEST = 1e10


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue:
    """How to put runs into the server's queue.

    `skip` says which pairs of a task version and a model with earlier runs are left alone; unspecified means
    `MISSING_OR_ERRORED`. `stale_after`, in seconds, belongs to `STALER_THAN`. `benchmark` ("owner/slug"), which the
    caller must be able to edit, lends the runs its priority and quota.

    Raises:
        UsageError: `STALER_THAN` without `stale_after`, or the reverse; or `benchmark` has no owner.
    """

    skip: SkipPolicy = SkipPolicy.UNSPECIFIED
    stale_after: float | None = None
    benchmark: str = ""

    def __post_init__(self) -> None:
        if (self.skip is SkipPolicy.STALER_THAN) != (self.stale_after is not None):
            raise UsageError(
                "STALER_THAN needs the time after which runs are stale, and no other policy takes it."
            )
        if self.stale_after is not None and not 0 <= self.stale_after <= _LONGEST:
            raise UsageError(f"{self.stale_after} is not a number of seconds.")
        if self.benchmark and not all(self._names):
            raise UsageError(f"{self.benchmark!r} is not a benchmark.", hint="Write it as OWNER/BENCHMARK.")

    @property
    def _names(self) -> tuple[str, str]:
        owner, _, slug = self.benchmark.partition("/")
        return owner, slug

    @property
    def duration(self) -> str:
        """`stale_after` as it is sent: in seconds, however many days they are. Empty without it."""
        if self.stale_after is None:
            return ""
        return f"{self.stale_after:.9f}".rstrip("0").rstrip(".") + "s"

    @property
    def benchmark_slug(self) -> BenchmarkSlug | None:
        owner, slug = self._names
        return BenchmarkSlug(owner_slug=owner, benchmark_slug=slug) if slug else None


def requested_enqueue(request: BatchScheduleRequest, owner: str) -> Enqueue | None:
    """Return how a request puts runs into the queue; None if it does not. `owner` is that of a benchmark without one.

    Raises:
        ValueError: What it says does not go together.
    """
    policy, benchmark = request.skip_policy, request.benchmark
    if not request.enqueue:
        if policy is not SkipPolicy.UNSPECIFIED or request.stale_after or benchmark:
            raise ValueError("skipPolicy, staleAfter and benchmark are only for enqueue")
        return None
    if not policy.known:
        raise ValueError(f"unknown skipPolicy {policy.value!r}")
    seconds = _read_duration(request.stale_after) if request.stale_after else None
    name = f"{benchmark.owner_slug or owner}/{benchmark.benchmark_slug}" if benchmark else ""
    try:
        return Enqueue(skip=policy, stale_after=seconds, benchmark=name)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _read_duration(text: str) -> float:
    if (found := _DURATION.fullmatch(text)) is None:
        raise ValueError(f"staleAfter {text[:40]!r} is not a duration such as '3600s'")
    return float(found[1])


def skip_reason(enqueue: Enqueue, runs: Sequence[tuple[RunState, datetime | None]], now: datetime) -> str:
    """Return why a server's queue leaves a pair of a task version and a candidate alone; empty if it does not.

    `runs` are those of the pair, newest first: the state of each, and when it ended.

    | the pair has                    | ALL    | MISSING_ONLY | MISSING_OR_ERRORED | STALER_THAN |
    |---------------------------------|--------|--------------|--------------------|-------------|
    | no run                          | queued | queued       | queued             | queued      |
    | a run in flight                 | queued |              |                    |             |
    | a latest run that errored       | queued |              | queued             | queued      |
    | one that completed long ago     | queued |              |                    | queued      |
    | one that completed not long ago | queued |              |                    |             |
    """
    if enqueue.skip is SkipPolicy.ALL or not runs:
        return ""
    if not all(state.terminal for state, _ in runs):
        return IN_PROGRESS
    if enqueue.skip is SkipPolicy.MISSING_ONLY:
        return "There is a run of this task version and model"
    state, ended = runs[0]
    stale_after = enqueue.stale_after
    is_stale = stale_after is not None and ended is not None and (now - ended).total_seconds() > stale_after
    return "" if state is RunState.ERRORED or is_stale else "The latest run of this pair has completed"


def make_status(
    tallies: Iterable[tuple[int, int, RunState, int]], benchmarks: Mapping[int, str], settings: QueueSettings
) -> QueueStatus:
    """Sum up the runs that count for a server's queue.

    Each tally is the number of a model, that of a benchmark or 0, a state, and how many runs there are. `benchmarks`
    has the names of benchmarks.
    """
    total = Counter[RunState]()
    models, per_benchmark = (defaultdict[int, Counter[RunState]](Counter) for _ in range(2))
    for model, benchmark, state, number in tallies:
        for counter in (total, models[model], per_benchmark[benchmark]):
            counter[state] += number
    return QueueStatus(
        state_counts=_state_counts(total, ended=False),
        recent_state_counts=_state_counts(total, ended=True),
        model_version_stats=[
            ModelQueue(
                benchmark_model_version_id=number,
                queued_count=counter[RunState.QUEUED],
                running_count=counter[RunState.RUNNING],
                recent_state_counts=_state_counts(counter, ended=True),
            )
            for number, counter in _busiest_first(models)
        ],
        settings=settings,
        benchmark_stats=[
            BenchmarkQueue(
                benchmark_id=number,
                benchmark_name=benchmarks.get(number, ""),
                queued_count=counter[RunState.QUEUED],
                running_count=counter[RunState.RUNNING],
                recent_state_counts=_state_counts(counter, ended=True),
            )
            for number, counter in _busiest_first(per_benchmark)
        ],
    )


def _state_counts(counter: Counter[RunState], *, ended: bool) -> list[StateCount]:
    return [
        StateCount(state=state, count=counter[state])
        for state in RunState
        if counter[state] and state.terminal is ended
    ]


def _busiest_first(counters: Mapping[int, Counter[RunState]]) -> list[tuple[int, Counter[RunState]]]:
    return sorted(counters.items(), key=lambda each: (-each[1][RunState.RUNNING], each[0]))
