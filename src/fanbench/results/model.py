"""What run files say, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fanbench.errors import OutputError
from fanbench.wire.messages import RunState

__all__ = ["Kind", "NoResults", "Problem", "ResultSet", "RunResult", "newest_first"]


class NoResults(OutputError):
    """There was no run file where results were looked for."""

    exit_code = 4


Kind = Literal["boolean", "numeric", "dict"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run of a task on a model. What nobody reported is `None`, never 0.

    `value` is a bool, a float or a dict, as `kind` says; `interval` is the half-width that the task gave
    with a number. `rows` is the number of run files behind the value (above 1 for a task that was itself
    evaluated row by row, 0 for a run that left none), of which `rows_errored` have no value. `cost_usd` is in
    US dollars, `latency` the seconds that the models' backends took in sum, `seconds` the wall time from start
    to end.
    """

    task: str
    name: str
    version: int | None
    model: str
    run_id: int | None
    state: RunState
    kind: Kind | None
    value: bool | float | dict[str, Any] | None
    interval: float | None
    rows: int
    rows_errored: int
    assertions_passed: int
    assertions_total: int
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    latency: float | None
    seconds: float | None
    started: str | None
    error: str | None
    path: Path

    @property
    def errored(self) -> bool:
        return self.state is RunState.ERRORED


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that could not be used, and why."""

    path: Path
    what: str


@dataclass(frozen=True, slots=True)
class ResultSet:
    """All runs that were found, newest first within a task and model, and all that could not be read."""

    rows: tuple[RunResult, ...] = ()
    problems: tuple[Problem, ...] = ()

    def newest(self) -> tuple[RunResult, ...]:
        """One run per task and model: the one with the highest run id, else the one that started last."""
        chosen: dict[tuple[str, str], RunResult] = {}
        for row in self.rows:
            chosen.setdefault((row.task, row.model), row)
        return tuple(chosen.values())


def newest_first(rows: list[RunResult]) -> tuple[RunResult, ...]:
    """By task, then model, then the newest first; ids are numbers, so run 10 is newer than run 9."""
    rows = sorted(rows, key=lambda row: (row.run_id or 0, row.started or "", str(row.path)), reverse=True)
    return tuple(sorted(rows, key=lambda row: (row.task, row.model)))
