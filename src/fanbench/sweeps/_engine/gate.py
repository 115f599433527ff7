"""`--max-cost` before each scheduling: how many runs may be begun now, and who waits for more."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fanbench.sweeps._engine.board import Board
from fanbench.sweeps._engine.shared import Shared
from fanbench.sweeps.budget import Budget, run_cost
from fanbench.sweeps.events import DrainReason

__all__ = ["Gate"]


class Gate:
    """Open wide where there is no budget."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._budget: Budget | None = None
        self._waiting: set[Board] = set()
        if (cap := shared.rules.max_cost) is not None:
            self._budget = Budget(shared.client, shared.book.records, cap, shared.emit)

    async def begin(self) -> None:
        """The first reading of the quota, if anything is to be scheduled."""
        if self._budget is not None and any(board.due for board in self._shared.boards.values()):
            await self._budget.begin()

    def is_shut(self, board: Board) -> bool:
        """Whether the task waits for the cost of a run to become known."""
        return board in self._waiting

    async def allow(self, board: Board, wanted: int) -> int:
        """How many of `wanted` runs may be scheduled. They must be in flight before anything is awaited."""
        if self._budget is None:
            return wanted
        granted = await self._budget.allow(board.slug, wanted, self._unpaid)
        if not granted and self._is_all_over:
            # The last runs may have ended only just now: what this ends the sweep for must be so by now.
            granted = await self._budget.allow(board.slug, wanted, self._unpaid, anew=True)
        if granted < wanted:
            self._waiting.add(board)
        if not granted and self._is_all_over:
            self._shared.drain(DrainReason.BUDGET, self._budget.why)
        return granted

    def _unpaid(self) -> dict[str, int]:
        """Runs by task whose cost is still to be told."""
        return {slug: board.unpaid for slug, board in self._shared.boards.items() if board.unpaid}

    @property
    def _is_all_over(self) -> bool:
        """Whether nothing is under way from whose end there could be news."""
        return not self._shared.in_flight and not self._shared.collectors.outstanding

    def news(self) -> None:
        """A run is over, and what it cost is known, as far as it ever will be: who waits may ask again."""
        waiting, self._waiting = self._waiting, set()
        for board in waiting:
            board.bell.ring()

    def finished(self, task: str, cost: float | None, run_id: int) -> None:
        if self._budget is not None:
            self._budget.finished(task, cost, run_id)

    def is_told(self, run_id: int) -> bool:
        """Whether it is known, as far as it was until now, what the run cost."""
        return self._budget is not None and self._budget.is_told(run_id)

    async def cost_of(self, folder: Path) -> float | None:
        """What the run in `folder` cost, where anybody asks."""
        if self._budget is None:
            return None
        return await self._shared.offload(partial(run_cost, folder))
