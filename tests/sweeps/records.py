"""A journal in memory, for tests that do not need a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fanbench.sweeps.attempts import Attempt, PlannedRun, TaskRecord
from fanbench.sweeps.journal import HistoryRow, Journal

__all__ = ["MemoryRecords"]


class MemoryRecords(Journal):
    """The journal in dictionaries. It outlives an engine, as a file does."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskRecord] = {}
        self._attempts: dict[tuple[PlannedRun, int], Attempt] = {}
        self._foreign_runs: dict[str, set[int]] = {}
        self._values: dict[str, str] = {}
        self._history: list[HistoryRow] = []

    def tasks(self) -> dict[str, TaskRecord]:
        return dict(self._tasks)

    def save_task(self, record: TaskRecord) -> None:
        self._tasks[record.task] = record

    def attempts(self) -> list[Attempt]:
        return [self._attempts[key] for key in sorted(self._attempts)]

    def save_attempts(self, attempts: Iterable[Attempt]) -> None:
        self._attempts.update({(one.planned_run, one.number): one for one in attempts})

    def foreign_runs(self, task: str) -> frozenset[int]:
        return frozenset(self._foreign_runs.get(task, ()))

    def save_foreign_runs(self, task: str, run_ids: Iterable[int]) -> None:
        self._foreign_runs.setdefault(task, set()).update(run_ids)

    def value(self, name: str) -> str | None:
        return self._values.get(name)

    def save_value(self, name: str, value: str) -> None:
        self._values[name] = value

    def history(self, after: int = 0) -> list[tuple[Any, ...]]:
        return [(number, *row) for number, row in enumerate(self._history, 1) if number > after]

    def save_history(self, rows: list[HistoryRow]) -> None:
        self._history += rows

    # --- For tests ---

    def of(self, task: str, model: str, repeat: int = 1) -> list[Attempt]:
        """Return the attempts at one planned run, oldest first."""
        return [one for one in self.attempts() if one.planned_run == PlannedRun(task, model, repeat)]
