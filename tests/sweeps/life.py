"""A process that can be killed wherever it waits, and whenever it has written something down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from fanbench.sweeps.attempts import Attempt, TaskRecord
from fanbench.sweeps.journal import HistoryRow, Journal
from fanbench.testing import ApiCall, Scenario, SimulatedKaggle
from fanbench.testing.kaggle import Moment

__all__ = ["Killed", "Life", "MortalKaggle", "MortalRecords"]

T = TypeVar("T")


class Killed(BaseException):
    """`kill -9`: nothing may catch it, and nothing that happens while it spreads has an effect."""


class Life:
    """Counts the points at which the process can be killed, and kills it at the one that was asked for.

    A dead process calls nobody and writes nothing: whatever it tries raises `Killed`, or is ignored.
    """

    def __init__(self) -> None:
        self.dead = False
        self.points = 0
        self._last: int | None = None

    def begin(self, kill_after: int | None = None) -> None:
        """A new process, which ends at its point number `kill_after` (from 1)."""
        self.dead, self.points, self._last = False, 0, kill_after

    def point(self, *, last: bool = False) -> None:
        """`last`: the process is killed here in any case."""
        if self.dead:
            raise Killed
        self.points += 1
        if last or self.points == self._last:
            self.dead = True
            raise Killed

    async def offload(self, job: Callable[[], T]) -> T:
        """Work on the disk, without a thread: those do not go together with a virtual clock."""
        from anyio.lowlevel import checkpoint

        await checkpoint()
        self.point()
        result = job()
        self.point()
        return result


class MortalKaggle(SimulatedKaggle):
    """A simulated Kaggle whose caller can be killed at any point of a call. The server lives on."""

    def __init__(self, scenario: Scenario | None = None) -> None:
        super().__init__(scenario)
        self.life = Life()
        self._kill_in: tuple[ApiCall, bool] | None = None

    def begin(
        self,
        *,
        pause: float = 0.0,
        kill_after: int | None = None,
        kill_in: tuple[ApiCall, bool] | None = None,
    ) -> None:
        """Start a process in this event loop, `pause` seconds after the last call of the one before.

        The process is killed at its point number `kill_after`, or in its first call of the kind `kill_in`: once
        the work of that call is done (True), or just before.
        """
        self.resume(pause)
        self._kill_in = kill_in
        self.life.begin(kill_after)

    def at(self, moment: Moment, call: ApiCall) -> None:
        if moment != "sent":
            self.life.point(last=self._kill_in == (call, moment == "done") and moment in ("arrived", "done"))
        elif self.life.dead:
            raise Killed


class MortalRecords(Journal):
    """`records` as far as a process gets to write them; each write is whole or not there."""

    def __init__(self, records: Journal, life: Life) -> None:
        self._records = records
        self._life = life

    def tasks(self) -> dict[str, TaskRecord]:
        return self._records.tasks()

    def attempts(self) -> list[Attempt]:
        return self._records.attempts()

    def foreign_runs(self, task: str) -> frozenset[int]:
        return self._records.foreign_runs(task)

    def value(self, name: str) -> str | None:
        return self._records.value(name)

    def save_task(self, record: TaskRecord) -> None:
        self._survive(lambda: self._records.save_task(record))

    def save_attempts(self, attempts: Iterable[Attempt]) -> None:
        saved = list(attempts)
        self._survive(lambda: self._records.save_attempts(saved))

    def save_foreign_runs(self, task: str, run_ids: Iterable[int]) -> None:
        saved = list(run_ids)
        self._survive(lambda: self._records.save_foreign_runs(task, saved))

    def save_value(self, name: str, value: str) -> None:
        self._survive(lambda: self._records.save_value(name, value))

    def save_history(self, rows: list[HistoryRow]) -> None:
        # A kill just before or after is one at the write before or after: nothing depends on the history.
        if not self._life.dead:
            self._records.save_history(rows)

    def _survive(self, write: Callable[[], None]) -> None:
        if self._life.dead:
            return
        self._life.point()
        write()
        self._life.point()
