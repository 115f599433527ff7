"""`--max-cost` before each scheduling: which runs may start now, and which tasks wait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.budget import Budget, PendingCosts, run_cost
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.events import DrainReason
from fanbench.sweeps.task_state import TaskState

__all__ = ["BudgetGate"]


class BudgetGate:
    """Lets everything pass if there is no budget.

    A task that is refused a run waits. It asks again when the cost of one of its own runs becomes known, or
    when it is its turn: the end of any run wakes as many waiting tasks as it takes for all of them to have had
    a turn when the last run has ended. With tens of tasks that makes few questions per run.
    """

    def __init__(self, context: SweepContext) -> None:
        self._context = context
        self._budget: Budget | None = None
        #: In the order of their turns.
        self._waiting: dict[TaskState, None] = {}
        self._has_asked_again = False
        if (cap := context.rules.max_cost) is not None:
            self._budget = Budget(context.client, context.store.records, cap, context.emit)

    async def open(self) -> None:
        """Read the quota for the first time, if there is anything to schedule."""
        if self._budget is not None and any(task.due for task in self._context.tasks.values()):
            self._budget.know(self._context.tasks)
            await self._budget.read()

    def is_closed(self, task: TaskState) -> bool:
        """Return whether the task waits for its turn."""
        return task in self._waiting

    async def allow(self, task: TaskState, models: Sequence[str]) -> Sequence[str]:
        """Return those of `models` on which a run may be scheduled. The caller intends them before it awaits."""
        budget = self._budget
        if budget is None:
            return models
        allowed = await budget.allow(task.slug, models, self._pending_costs)
        if allowed:
            # There may be enough left for another task.
            self._wake(1)
        if len(allowed) < len(models):
            self._waiting[task] = None
        if not allowed and self._is_exhausted():
            if self._has_asked_again:
                self._context.drain(DrainReason.BUDGET, budget.why)
            else:
                # A last look, because this ends the sweep: all ask once more, with a fresh reading.
                self._has_asked_again = True
                await budget.read()
                self._wake(len(self._waiting))
        return allowed

    def cost_learned(self, planned_run: PlannedRun, cost: float | None, run_id: int) -> None:
        """Count what a run has cost; `None` if its files do not say."""
        task = self._context.tasks[planned_run.task]
        if self._budget is not None:
            self._budget.finished(planned_run.task, planned_run.model, cost, run_id)
            self._wake_task(task)

    def run_over(self) -> None:
        """A run is over, and its cost is as well known as it will be: waiting tasks may ask again."""
        self._has_asked_again = False
        if self._waiting:
            self._wake(math.ceil(len(self._waiting) / max(1, self._under_way())))

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

    def _pending_costs(self) -> dict[str, PendingCosts]:
        return {
            slug: task.pending_costs for slug, task in self._context.tasks.items() if task.pending_costs.total
        }

    def _is_exhausted(self) -> bool:
        """Return whether nothing is under way, and every task that wants a run was refused."""
        wanting = (task for task in self._context.tasks.values() if task.due)
        return not self._under_way() and all(task in self._waiting for task in wanting)

    def _under_way(self) -> int:
        """The number of runs whose end may reveal a cost, which requires that their files are downloaded."""
        context = self._context
        return context.in_flight + context.collecting if context.until == "collect" else 0

    def _wake(self, number: int) -> None:
        for task in list(islice(self._waiting, number)):
            self._wake_task(task)

    def _wake_task(self, task: TaskState) -> None:
        if task in self._waiting:
            del self._waiting[task]
            task.wakeup.set()
