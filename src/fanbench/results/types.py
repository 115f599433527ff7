"""The results of runs, as read from their run files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fanbench.errors import OutputError
from fanbench.results.items import Item
from fanbench.wire.messages import RunState

__all__ = ["Cost", "Kind", "NoResults", "Problem", "ResultSet", "RunResult", "Value"]


class NoResults(OutputError):
    """No run files were found."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What several runs cost together: `usd` US dollars for the `known` ones among all `runs`."""

    usd: float
    known: int
    runs: int

    @classmethod
    def of(cls, costs: Sequence[float | None]) -> Cost:
        """Add up the cost of each run; None stands for a run that does not report it."""
        known = [cost for cost in costs if cost is not None]
        return cls(math.fsum(known), len(known), len(costs))

    @property
    def total(self) -> float | None:
        """The cost of all runs; unknown if that of any run is."""
        return self.usd if self.known and self.known == self.runs else None

    @property
    def at_least(self) -> float | None:
        """The cost of the runs that report it; unknown if none does."""
        return self.usd if self.known else None

    def __str__(self) -> str:
        """`$0.0014`, `at least $0.0014 (2 of 3 runs)`, or `unknown`."""
        if not self.known:
            return "unknown"
        if self.known == self.runs:
            return f"${self.usd:.4f}"
        return f"at least ${self.usd:.4f} ({self.known} of {self.runs} runs)"


Kind = Literal["boolean", "numeric", "dict"]
Value = bool | float | dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of one run of a task on a model. What was not reported is `None`, never 0.

    Attributes:
        task: The task's slug.
        name: The task's name.
        version: The task's version.
        model: The model's slug, without its owner.
        run_id: The run's id on the server; `None` for a run file outside a run's folder.
        state: `UNSPECIFIED` if only the run's log was found.
        kind: The type of `value`.
        value: What the task returned. For several rows, see `rows`.
        interval: The half-width of the interval that the task returned with a number.
        rows: The number of run files behind the value. It is above 1 if the task was evaluated row by row (the
            value is then the mean over the rows) and 0 if the run left no run file.
        rows_errored: How many of the rows have no value.
        assertions_passed: The number of assertions that passed, those of sub-runs included.
        assertions_total: The number of assertions.
        tokens_in: Input tokens.
        tokens_out: Output tokens.
        cost_usd: The cost in US dollars; unknown unless every request reported its cost.
        latency: The total latency of the models' backends in seconds.
        seconds: The wall time from start to end.
        started: The time of the start as ISO 8601 in UTC, with milliseconds and a Z.
        error: The line of the error message that names the exception.
        path: The run's folder, or the run file if it is outside one.
    """

    task: str
    name: str
    version: int | None = None
    model: str
    run_id: int | None = None
    state: RunState
    kind: Kind | None = None
    value: Value | None = None
    interval: float | None = None
    rows: int = 0
    rows_errored: int = 0
    assertions_passed: int = 0
    assertions_total: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    latency: float | None = None
    seconds: float | None = None
    started: str | None = None
    error: str | None = None
    path: Path

    @property
    def errored(self) -> bool:
        """The run failed, so it has no value."""
        return self.state is RunState.ERRORED


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that could not be used, and the reason."""

    path: Path
    what: str


@dataclass(frozen=True, slots=True)
class ResultSet:
    """All runs that were found, all files that could not be read, and the items that the runs are made of.

    The runs are sorted by task and model, and from the newest to the oldest within a pair. The items are sorted by
    task, content, model, sweep, repeat and attempt.
    """

    runs: tuple[RunResult, ...] = ()
    problems: tuple[Problem, ...] = ()
    items: tuple[Item, ...] = ()

    def newest(self) -> tuple[RunResult, ...]:
        """One run per task and model: the one with the highest run id, or else the one started last."""
        chosen: dict[tuple[str, str], RunResult] = {}
        for run in self.runs:
            chosen.setdefault((run.task, run.model), run)
        return tuple(chosen.values())
