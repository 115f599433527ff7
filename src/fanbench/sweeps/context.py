"""What the coroutines of a sweep share: its tools, its budget, and whether anything more may be started."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._util.concurrency import Offload
from fanbench.operations.api import Api
from fanbench.sweeps.attempt_store import AttemptStore
from fanbench.sweeps.budget import Budget, run_cost
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.events import Draining, DrainReason, EmitSweepEvent
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.task_runs import ActiveRun, TaskRuns

__all__ = ["BudgetGate", "SweepContext"]


async def _no_wait() -> None:
    return


class SweepContext:
    """One for each run of the engine. `tasks` are by slug, in the order of the plan.

    `until` ends the sweep after a stage: "push" when all tasks can be run, "schedule" when all runs are on the
    server. `emit` is called in the event loop and must not block it. `offload` runs what waits for the disk, `calls`
    tells how many calls the client has made, `clock` gives seconds since 1970, and `room` is awaited before more
    of a log is read.
    """

    def __init__(
        self,
        client: Api,
        plan: SweepPlan,
        journal: Journal,
        emit: EmitSweepEvent,
        *,
        until: Stage = "collect",
        offload: Offload = anyio.to_thread.run_sync,
        calls: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
        room: Callable[[], Awaitable[None]] = _no_wait,
    ) -> None:
        self.client = client
        self.plan = plan
        self.rules = plan.rules
        self.root = plan.output
        self.emit = emit
        self.until = until
        self.offload = offload
        self.calls = calls
        self.wall = clock
        self.room = room
        self.store = AttemptStore(plan, journal, emit)
        self.tasks = {task.slug: TaskRuns(task, self.store, clock) for task in plan.tasks}
        self.gate = BudgetGate(self, journal)
        self.streams = anyio.CapacityLimiter(max(1, plan.rules.streams))
        self.downloads = anyio.CapacityLimiter(max(1, plan.rules.downloads))
        #: How many ended runs still have files to be fetched.
        self.collecting = 0
        #: Why nothing more is scheduled, if so. It is reported once the sweep has `begun`.
        self.stopped: DrainReason | None = None
        self.begun = False
        #: Learned from the server: it skips a model that has a run of the task in flight.
        self.one_at_a_time = False
        self._detail = ""
        self._cancelled_by_drain: set[anyio.CancelScope] = set()

    @property
    def in_flight(self) -> int:
        return sum(len(task.active) for task in self.tasks.values())

    def may_become_due(self, task: TaskRuns) -> bool:
        """Return whether runs are waited for that may have to be scheduled again."""
        if self.until == "schedule":
            return any(run.attempt.needs_lookup for run in task.active.values())
        return self.until == "collect" and bool(task.active)

    def drain(self, reason: DrainReason, detail: str = "") -> None:
        """Push and schedule nothing more, and follow what is in flight to its end. Only the first reason counts."""
        if self.stopped is None:
            self.stopped, self._detail = reason, detail
            if self.begun:
                self._stop()

    def begin(self) -> None:
        """The runs of earlier processes are in `tasks`. A drain that came before this takes effect now."""
        self.begun = True
        if self.stopped is not None:
            self._stop()

    def _stop(self) -> None:
        assert self.stopped is not None
        self.emit(Draining(self.stopped, self.in_flight, self._detail))
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


class BudgetGate:
    """Lets everything pass if there is no budget.

    A task that is refused a run waits. It asks again when the cost of one of its own runs becomes known, or
    when it is its turn: the end of any run wakes as many waiting tasks as it takes for all of them to have had
    a turn when the last run has ended. With tens of tasks that makes few questions per run.
    """

    def __init__(self, context: SweepContext, journal: Journal) -> None:
        self._context = context
        self._budget: Budget | None = None
        self._pending = {slug: task.pending_costs for slug, task in context.tasks.items()}
        #: The tasks that wait, in the order of their turns.
        self.waiting: dict[TaskRuns, None] = {}
        self._has_asked_again = False
        if (cap := context.rules.max_cost) is not None:
            self._budget = Budget(context.client, journal, cap, context.emit)

    async def open(self) -> None:
        """Read the quota for the first time, if there is anything to schedule."""
        if self._budget is not None and any(task.due for task in self._context.tasks.values()):
            self._budget.know(self._context.tasks)
            await self._budget.read()

    async def allow(self, task: TaskRuns, models: Sequence[str]) -> Sequence[str]:
        """Return those of `models` on which a run may be scheduled. The caller intends them before it awaits."""
        budget = self._budget
        if budget is None:
            return models
        allowed = await budget.allow(task.slug, models, self._pending)
        if allowed:
            # There may be enough left for another task.
            self._wake(islice(self.waiting, 1))
        if len(allowed) < len(models):
            self.waiting[task] = None
        wanting = (one for one in self._context.tasks.values() if one.due)
        # Nothing is under way, and every task that wants a run was refused.
        if not allowed and not self._under_way() and all(one in self.waiting for one in wanting):
            if self._has_asked_again:
                self._context.drain(DrainReason.BUDGET, budget.why)
            else:
                # A last look, because this ends the sweep: all ask once more, with a fresh reading.
                self._has_asked_again = True
                await budget.read()
                self._wake(self.waiting)
        return allowed

    def cost_learned(self, run: ActiveRun, cost: float | None) -> None:
        """Count what a run has cost; `None` if its files do not say."""
        planned_run = run.planned_run
        task = self._context.tasks[planned_run.task]
        if self._budget is not None:
            self._budget.finished(planned_run.task, planned_run.model, cost, run.run_id)
            self._wake([task])
        task.settle_cost(run)

    def run_over(self) -> None:
        """A run is over, and its cost is as well known as it will be: waiting tasks may ask again."""
        self._has_asked_again = False
        turns = math.ceil(len(self.waiting) / max(1, self._under_way()))
        self._wake(islice(self.waiting, turns))

    def task_done(self) -> None:
        """A task has nothing more to schedule. If others have waited for that only, they are the last."""
        if not self._under_way():
            self.run_over()

    def is_counted(self, run_id: int) -> bool:
        """Return whether the cost of the run is in the budget already."""
        return self._budget is not None and self._budget.is_counted(run_id)

    async def cost_of(self, folder: Path) -> float | None:
        """The cost of the run in `folder`, if there is a budget that needs it."""
        if self._budget is None:
            return None
        return await self._context.offload(partial(run_cost, folder))

    def _under_way(self) -> int:
        """The number of runs whose end may reveal a cost, which requires that their files are downloaded."""
        context = self._context
        return context.in_flight + context.collecting if context.until == "collect" else 0

    def _wake(self, tasks: Iterable[TaskRuns]) -> None:
        for task in [task for task in tasks if task in self.waiting]:
            del self.waiting[task]
            task.wakeup.set()
