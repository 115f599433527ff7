"""`--max-cost` before each scheduling: which runs may be begun now, and who waits for more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from fanbench.sweeps._engine.board import Board
from fanbench.sweeps._engine.shared import Shared
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.budget import Budget, PendingCosts, run_cost
from fanbench.sweeps.events import DrainReason

__all__ = ["Gate"]


class Gate:
    """Open wide where there is no budget.

    A task that is refused a run waits, and asks again when a run of its own has said what it cost, or when its turn
    has come: each end of any run wakes so many of those who wait that all have had theirs by the last. That is few
    questions a run for tens of tasks; of hundreds of which few runs fit, each end wakes many in vain.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._budget: Budget | None = None
        #: In the order of their turns.
        self._waiting: dict[Board, None] = {}
        self._is_reading_new = False
        if (cap := shared.rules.max_cost) is not None:
            self._budget = Budget(shared.client, shared.book.records, cap, shared.emit)

    async def begin(self) -> None:
        """The first reading of the quota, if anything is to be scheduled."""
        if self._budget is not None and any(board.due for board in self._shared.boards.values()):
            self._budget.know(self._shared.boards)
            await self._budget.read()

    def is_shut(self, board: Board) -> bool:
        """Whether the task waits for its turn."""
        return board in self._waiting

    async def allow(self, board: Board, models: Sequence[str]) -> Sequence[str]:
        """On which of `models` a run may be scheduled. They must be in flight before anything is awaited."""
        if self._budget is None:
            return models
        granted = await self._budget.allow(board.slug, models, self._unpaid)
        if granted:
            # There may be enough for others as well.
            self._wake(1)
        if len(granted) < len(models):
            self._waiting[board] = None
        if not granted and self._is_all_over:
            await self._end(self._budget)
        return granted

    async def _end(self, budget: Budget) -> None:
        """Nobody gets anything any more. What this ends the sweep for must be so now: all ask once again before."""
        if self._is_reading_new:
            self._shared.drain(DrainReason.BUDGET, budget.why)
            return
        self._is_reading_new = True
        await budget.read()
        self._wake(len(self._waiting))

    def _unpaid(self) -> dict[str, PendingCosts]:
        """Runs by task whose cost is still to be told."""
        return {slug: board.unpaid for slug, board in self._shared.boards.items() if board.unpaid.total}

    @property
    def _is_all_over(self) -> bool:
        """Whether nothing is under way, and every task that wants a run was refused."""
        wanting = (board for board in self._shared.boards.values() if board.due)
        return not self._under_way and all(board in self._waiting for board in wanting)

    @property
    def _under_way(self) -> int:
        """Runs from whose end there will be news; without their files there is none."""
        if self._shared.until != "collect":
            return 0
        return self._shared.in_flight + self._shared.collectors.outstanding

    def news(self) -> None:
        """A run is over, and what it cost is known, as far as it ever will be: who waits may ask again."""
        self._is_reading_new = False
        if self._waiting:
            self._wake(math.ceil(len(self._waiting) / max(1, self._under_way)))

    def nothing_wanted(self) -> None:
        """A task has nothing to ask any more: if others have waited for that alone, they are the last."""
        if not self._under_way:
            self.news()

    def _wake(self, number: int) -> None:
        for board in list(islice(self._waiting, number)):
            self._wake_one(board)

    def _wake_one(self, board: Board) -> None:
        if board in self._waiting:
            del self._waiting[board]
            board.bell.ring()

    def finished(self, planned_run: PlannedRun, cost: float | None, run_id: int) -> None:
        if self._budget is not None:
            self._budget.finished(planned_run.task, planned_run.model, cost, run_id)
            self._wake_one(self._shared.boards[planned_run.task])

    def is_counted(self, run_id: int) -> bool:
        """Whether it is known, as far as it was until now, what the run cost."""
        return self._budget is not None and self._budget.is_counted(run_id)

    async def cost_of(self, folder: Path) -> float | None:
        """What the run in `folder` cost, where anybody asks."""
        if self._budget is None:
            return None
        return await self._shared.offload(partial(run_cost, folder))
