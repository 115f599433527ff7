"""What the coroutines of a sweep share: the client, the attempts, the budget, and whether to start anything more."""

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
from fanbench.operations.queue import RunQueue
from fanbench.operations.unanswered import confirmed_within
from fanbench.sweeps.attempt_store import AttemptStore
from fanbench.sweeps.budget import Budget, run_cost
from fanbench.sweeps.cancel import Canceller
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.events import Draining, DrainReason, EmitSweepEvent, SweepEvent
from fanbench.sweeps.history import HistoryWriter
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.task_runs import ActiveRun, TaskRuns
from fanbench.wire.messages import SkipPolicy
from fanbench.wire.queue import Enqueue

__all__ = ["BudgetGate", "SweepContext"]

# Seconds: `SweepContext.gone_after` for servers whose lists may be behind.
_GONE_AFTER = 60.0


async def _no_wait() -> None:
    return


class SweepContext:
    """The shared state of one sweep in this process.

    `until` is the last stage to carry out. `emit` is called in the event loop and must not block it. `offload` runs
    blocking file operations. `calls` returns the number of calls that the client has made, `limit` how many may be in
    flight, and `clock` the seconds since 1970. `room` is awaited before more of a log is read.
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
        limit: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = time.time,
        room: Callable[[], Awaitable[None]] = _no_wait,
    ) -> None:
        self.client = client
        self.plan = plan
        self.rules = plan.rules
        #: Seconds for which the effect of a call whose outcome is unknown is looked for.
        self.confirm_within = plan.rules.confirm_within or confirmed_within(client.config)
        #: Seconds for which lists must lack a run that they had before, until it counts as cancelled.
        self.gone_after = _GONE_AFTER if client.config.local_data is None else 0.0
        self.root = plan.output
        self.history = HistoryWriter(journal, clock, calls)
        self.until = until
        self.offload = offload
        self.calls = calls
        self.limit = limit
        self.clock = clock
        self.room = room
        self._emit = emit
        self.store = AttemptStore(plan, journal, self.emit)
        #: By slug, in the order of the plan.
        self.tasks = {
            task.slug: TaskRuns(task, self.store, clock, self.confirm_within) for task in plan.tasks
        }
        self.gate = BudgetGate(self, journal)
        self.streams = anyio.CapacityLimiter(max(1, plan.rules.streams))
        self.downloads = anyio.CapacityLimiter(max(1, plan.rules.downloads))
        #: The number of ended runs whose files are still to be fetched.
        self.collecting = 0
        #: Why nothing more is pushed or scheduled; `None` while the sweep is not draining.
        self.drain_reason: DrainReason | None = None
        #: Set once the server has skipped a model because a run of the task was in flight on it.
        self.one_at_a_time = False
        self.canceller = Canceller(
            client, self.tasks, self.store, plan.rules.cancel, self.emit, self.gate.wake_waiting
        )
        everything = Enqueue(skip=SkipPolicy.ALL)
        self.queue = RunQueue(client, plan.rules.enqueue, everything, self.emit)
        self._cancelled_by_drain: set[anyio.CancelScope] = set()

    def emit(self, event: SweepEvent) -> None:
        """Pass an event on, which is part of the history now."""
        self.history.record(event)
        self._emit(event)

    @property
    def in_flight(self) -> int:
        return sum(len(task.active) for task in self.tasks.values())

    def may_become_due(self, task: TaskRuns) -> bool:
        """Return whether a run in flight may still turn out void or errored, and be scheduled again."""
        if self.until == "schedule":
            return any(run.attempt.needs_lookup for run in task.active.values())
        return self.until == "collect" and bool(task.active)

    def drain(self, reason: DrainReason, detail: str = "") -> None:
        """Push and schedule nothing more, but finish the runs in flight. Only the first reason counts."""
        if self.drain_reason is not None:
            return
        self.drain_reason = reason
        self.emit(Draining(reason, self.in_flight, detail))
        for scope in self._cancelled_by_drain:
            scope.cancel()
        for task in self.tasks.values():
            task.wakeup.set()
        if reason in (DrainReason.FAILURES, DrainReason.BUDGET):
            self.canceller.want(self.rules.cancel)

    @contextmanager
    def unless_drained(self) -> Iterator[None]:
        """Cancel the block when the sweep drains. Use it only around what may be interrupted."""
        with anyio.CancelScope() as scope:
            if self.drain_reason is not None:
                scope.cancel()
            self._cancelled_by_drain.add(scope)
            try:
                yield
            finally:
                self._cancelled_by_drain.discard(scope)

    def drain_if_too_many_errored(self) -> None:
        """Drain the sweep once `max_failures` planned runs have errored without a retry left."""
        errored, planned, most = self.store.errored, len(self.store.planned_runs), self.rules.max_failures
        if most is not None and most.reached(errored, planned):
            self.drain(DrainReason.FAILURES, f"{errored} of {planned} runs have errored")


class BudgetGate:
    """Decides before each schedule call which runs the budget allows; all of them if there is no budget.

    A task that is refused a run waits. It asks again when the cost of one of its own runs becomes known, or when
    the end of another run wakes it. Each end wakes only its share of the waiting tasks, so that all have been woken
    when the last run has ended, and few ask in vain.
    """

    def __init__(self, context: SweepContext, journal: Journal) -> None:
        self._context = context
        self._budget: Budget | None = None
        self._pending = {slug: task.pending_costs for slug, task in context.tasks.items()}
        #: The waiting tasks, in the order in which they are woken.
        self.waiting: dict[TaskRuns, None] = {}
        self._has_asked_again = False
        if (cap := context.rules.max_cost) is not None:
            self._budget = Budget(context.client, journal, cap, context.emit)

    async def open(self) -> None:
        """Read the quota if there is anything to schedule."""
        if self._budget is not None and any(task.due for task in self._context.tasks.values()):
            self._budget.know(self._context.tasks)
            await self._budget.read()

    async def allow(self, task: TaskRuns, models: Sequence[str]) -> Sequence[str]:
        """Return the models on which a run may be scheduled. The caller must intend them before it awaits."""
        budget = self._budget
        if budget is None:
            return models
        allowed = await budget.allow(task.slug, models, self._pending)
        if allowed:
            # The budget may suffice for another task, too.
            self._wake(islice(self.waiting, 1))
        self._stop_if_used_up(budget)
        if len(allowed) < len(models):
            self.waiting[task] = None
        wanting = (one for one in self._context.tasks.values() if one.due)
        # Nothing is under way, and every task that wants a run was refused.
        if not allowed and not self._under_way() and all(one in self.waiting for one in wanting):
            if self._has_asked_again:
                self._context.drain(DrainReason.BUDGET, budget.why)
            else:
                # Before this ends the sweep, all ask once more with a fresh reading of the quota.
                self._has_asked_again = True
                await budget.read()
                self._wake(self.waiting)
        return allowed

    def count_cost(self, run: ActiveRun, cost: float | None) -> None:
        """Count the cost of a run; `None` if its files do not state it."""
        planned_run = run.planned_run
        task = self._context.tasks[planned_run.task]
        if self._budget is not None:
            self._budget.finished(planned_run.task, planned_run.model, cost, run.run_id)
            self._stop_if_used_up(self._budget)
            self._wake([task])
        task.settle_cost(run)

    def _stop_if_used_up(self, budget: Budget) -> None:
        """Runs in flight have cost more than was reserved for them. They go on, unless they are to be cancelled."""
        if self._context.rules.cancel != "never" and budget.used_up:
            self._context.drain(DrainReason.BUDGET, f"all of ${budget.cap:.12g} is spent")

    def wake_waiting(self) -> None:
        """After the end of a run, wake its share of the waiting tasks."""
        self._has_asked_again = False
        turns = math.ceil(len(self.waiting) / max(1, self._under_way()))
        self._wake(islice(self.waiting, turns))

    def wake_if_idle(self) -> None:
        """If nothing is under way, wake a waiting task: no end of a run would."""
        if not self._under_way():
            self.wake_waiting()

    def is_counted(self, run_id: int) -> bool:
        """Return whether the cost of the run is in the budget already."""
        return self._budget is not None and self._budget.is_counted(run_id)

    async def cost_of(self, folder: Path) -> float | None:
        """Return the cost of the run in `folder`; `None` without a budget."""
        if self._budget is None:
            return None
        return await self._context.offload(partial(run_cost, folder))

    def _under_way(self) -> int:
        """Return the number of runs whose downloads may still reveal a cost."""
        context = self._context
        return context.in_flight + context.collecting if context.until == "collect" else 0

    def _wake(self, tasks: Iterable[TaskRuns]) -> None:
        for task in [task for task in tasks if task in self.waiting]:
            del self.waiting[task]
            task.wakeup.set()
