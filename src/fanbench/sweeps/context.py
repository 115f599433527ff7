"""What the coroutines of a sweep share: its tools and limits, and whether anything more may be started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import anyio

from fanbench._util.concurrency import Offload
from fanbench.operations.api import Api
from fanbench.sweeps.attempt_store import AttemptStore
from fanbench.sweeps.events import Draining, DrainReason, Emit
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.task_state import TaskState

__all__ = ["Stage", "SweepContext", "WaitForRoom"]

Stage = Literal["push", "schedule", "collect"]
WaitForRoom = Callable[[], Awaitable[None]]


class SweepContext:
    """One for each run of the engine. `tasks` are by slug, in the order of the plan."""

    def __init__(
        self,
        client: Api,
        plan: SweepPlan,
        store: AttemptStore,
        emit: Emit,
        *,
        until: Stage,
        offload: Offload,
        calls: Callable[[], int],
        wall: Callable[[], float],
        room: WaitForRoom,
    ) -> None:
        self.client = client
        self.rules = plan.rules
        self.root = plan.output
        self.store = store
        self.emit = emit
        self.until = until
        self.offload = offload
        self.calls = calls
        self.wall = wall
        self.room = room
        self.tasks = {task.slug: TaskState(task, store) for task in plan.tasks}
        self.streams = anyio.CapacityLimiter(max(1, plan.rules.streams))
        self.downloads = anyio.CapacityLimiter(max(1, plan.rules.downloads))
        #: How many ended runs still have files to be fetched.
        self.collecting = 0
        #: Why nothing more is scheduled, if so.
        self.stopped: DrainReason | None = None
        #: Learned from the server: it skips a model that has a run of the task in flight.
        self.one_at_a_time = False
        self._cancelled_by_drain: set[anyio.CancelScope] = set()

    @property
    def in_flight(self) -> int:
        return sum(len(task.active) for task in self.tasks.values())

    def may_become_due(self, task: TaskState) -> bool:
        """Return whether runs are waited for that may have to be scheduled again."""
        if self.until == "schedule":
            return any(run.attempt.needs_lookup for run in task.active.values())
        return self.until == "collect" and bool(task.active)

    def drain(self, reason: DrainReason, detail: str = "") -> None:
        """Push and schedule nothing more. Only the first reason counts."""
        if self.stopped is not None:
            return
        self.stopped = reason
        self.emit(Draining(reason, self.in_flight, detail))
        for scope in self._cancelled_by_drain:
            scope.cancel()
        for task in self.tasks.values():
            task.wakeup.set()

    @contextmanager
    def unless_drained(self) -> Iterator[None]:
        """Leave the block when the sweep drains. For waits only: a call in the block may be interrupted."""
        with anyio.CancelScope() as scope:
            if self.stopped is not None:
                scope.cancel()
            self._cancelled_by_drain.add(scope)
            try:
                yield
            finally:
                self._cancelled_by_drain.discard(scope)

    def count_errored(self, more: int = 1) -> None:
        """Count planned runs that have errored and are not retried; too many of them drain the sweep."""
        store, most = self.store, self.rules.max_failures
        store.errored += more
        planned = len(store.planned_runs)
        if most is not None and most.reached(store.errored, planned):
            self.drain(DrainReason.FAILURES, f"{store.errored} of {planned} runs have errored")
