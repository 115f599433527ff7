"""What all parts of a running sweep share: its tools, and whether anything more may be begun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import anyio

from fanbench._util.concurrency import Offload
from fanbench.operations.api import Api
from fanbench.sweeps._engine.board import Board
from fanbench.sweeps._engine.book import Book
from fanbench.sweeps.events import Draining, DrainReason, Emit
from fanbench.sweeps.plan import SweepPlan

if TYPE_CHECKING:
    from fanbench.sweeps._engine.collect import Collectors
    from fanbench.sweeps._engine.gate import Gate
    from fanbench.sweeps._engine.logs import LogReaders

__all__ = ["Room", "Shared", "Stage"]

Stage = Literal["push", "schedule", "collect"]
Room = Callable[[], Awaitable[None]]


class Shared:
    """One for each run of the engine. `boards` are by task, in the order of the plan."""

    gate: Gate
    logs: LogReaders
    collectors: Collectors

    def __init__(
        self,
        client: Api,
        plan: SweepPlan,
        *,
        book: Book,
        emit: Emit,
        until: Stage,
        offload: Offload,
        calls: Callable[[], int],
        clock: Callable[[], float],
        room: Room,
    ) -> None:
        self.client = client
        self.plan = plan
        self.rules = plan.rules
        self.root = plan.output
        self.book = book
        self.emit = emit
        self.until = until
        self.offload = offload
        self.calls = calls
        self.wall = clock
        self.room = room
        self.boards = {task.slug: Board(task, book) for task in plan.tasks}
        self.stopped: DrainReason | None = None
        #: Learned from the server: it skips a model that has a run of the task in flight.
        self.one_at_a_time = False
        self._breaks: set[anyio.CancelScope] = set()

    @property
    def in_flight(self) -> int:
        return sum(board.in_flight for board in self.boards.values())

    def may_become_due(self, board: Board) -> bool:
        """Whether runs in flight are waited for, any of which may have to be scheduled again."""
        if self.until == "schedule":
            return board.is_seeking
        return self.until == "collect" and bool(board.flights)

    def drain(self, reason: DrainReason, detail: str = "") -> None:
        """Nothing more is pushed or scheduled from here on."""
        if self.stopped is not None:
            return
        self.stopped = reason
        self.emit(Draining(reason, self.in_flight, detail))
        for scope in self._breaks:
            scope.cancel()
        self.wake()

    def wake(self) -> None:
        for board in self.boards.values():
            board.bell.ring()

    @contextmanager
    def unless_drained(self) -> Iterator[None]:
        """The block is left when the sweep drains. For waiting only: a call in it may be cut off."""
        with anyio.CancelScope() as scope:
            if self.stopped is not None:
                scope.cancel()
            self._breaks.add(scope)
            try:
                yield
            finally:
                self._breaks.discard(scope)

    def count_failures(self, more: int = 1) -> None:
        """So many more planned runs have errored for good."""
        book, most = self.book, self.rules.max_failures
        book.errored += more
        if most is not None and most.reached(book.errored, len(book.planned_runs)):
            self.drain(DrainReason.FAILURES, f"{book.errored} of {len(book.planned_runs)} runs have errored")
