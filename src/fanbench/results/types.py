"""The results of runs, as read from their run files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fanbench._util.text import result_text
from fanbench.results.display import money_text
from fanbench.results.figures import Figures
from fanbench.wire.messages import RunState

__all__ = ["Cost", "Kind", "Problem", "RunResult", "Value"]


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
            return money_text(self.usd)
        return f"at least {money_text(self.usd)} ({self.known} of {self.runs} runs)"


#: Results that differ by less, relatively or absolutely, are the same: a server may round.
SAME = 1e-6

Kind = Literal["boolean", "numeric", "dict"]
Value = bool | float | dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of one run of a task on a model. What was not reported is `None`, never 0.

    Attributes:
        task: The task's slug.
        name: The task's name.
        version: The task's version.
        content: Equal for versions of the task that have the same content.
        definition: A digest of the task's source, as the run file has it.
        model: The model's slug, without its owner.
        model_owner: The model's owner.
        run_id: The run's id on the server; `None` for a run file outside a run's folder.
        repeat: The number of the planned run of this task and model, from 1.
        attempt: The number of the attempt at that planned run, from 1.
        superseded: There is a later attempt at that planned run, which counts instead of this one.
        state: `ERRORED` if the server or the run file says so; `UNSPECIFIED` if only the run's log was found.
        kind: The type of `value`.
        value: What the task returned. For several rows, see `rows`.
        interval: The half-width of the interval that the task returned with a number.
        rows: The number of run files behind the value. It is above 1 if the task was evaluated row by row (the
            value is then the mean over the rows) and 0 if the run left no run file.
        rows_errored: How many of the rows errored.
        figures: How many of its items have a score, and what is known of how it might vary.
        assertions_passed: The number of assertions that passed, those of sub-runs included.
        assertions_total: The number of assertions.
        tokens_in: Input tokens of the model under test.
        tokens_out: Its output tokens.
        cost_usd: Its cost in US dollars; unknown unless every request reported its cost.
        judge_tokens_in: Input tokens of all other models, such as a judge.
        judge_tokens_out: Their output tokens.
        judge_cost_usd: Their cost in US dollars.
        total_cost_usd: The cost of all models.
        latency: The total latency of the models' backends in seconds.
        seconds: The wall time from start to end.
        started: The time of the start as ISO 8601 in UTC, with milliseconds and a Z.
        error: The line of the error message that names the exception.
        server_result: What the server reports for the run: a number, or whether the model passed; None for nothing.
        path: The run's folder, or the run file if it is outside one.
    """

    task: str
    name: str
    version: int | None = None
    content: str = ""
    definition: str | None = None
    model: str
    model_owner: str | None = None
    run_id: int | None = None
    repeat: int = 1
    attempt: int = 1
    superseded: bool = False
    state: RunState
    kind: Kind | None = None
    value: Value | None = None
    interval: float | None = None
    rows: int = 0
    rows_errored: int = 0
    figures: Figures = field(default_factory=Figures)
    assertions_passed: int = 0
    assertions_total: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    judge_tokens_in: int | None = None
    judge_tokens_out: int | None = None
    judge_cost_usd: float | None = None
    total_cost_usd: float | None = None
    latency: float | None = None
    seconds: float | None = None
    started: str | None = None
    error: str | None = None
    server_result: bool | float | None = None
    path: Path

    @property
    def contradicted(self) -> bool:
        """Whether the server reports another result than the run files, by more than a millionth.

        The server has no dicts, and says nothing of a run that left no run file.
        """
        if self.server_result is None or not self.rows or isinstance(self.value, dict):
            return False
        return self.value is None or not math.isclose(
            self.value, self.server_result, rel_tol=SAME, abs_tol=SAME
        )

    @property
    def contradiction(self) -> str:
        """What a person is told of a result that is `contradicted`."""
        number = None if isinstance(self.value, dict) else self.value
        said, found = (result_text(value, 12) or "nothing" for value in (self.server_result, number))
        run = f"Run {self.run_id} of " if self.run_id is not None else ""
        return f"{run}{self.task} on {self.model}: the server reports {said}, but the run file has {found}."

    @property
    def errored(self) -> bool:
        """The run failed. It has no value, unless some of its rows have."""
        return self.state is RunState.ERRORED

    @property
    def full_model(self) -> str:
        """The model's slug with its owner, if that is known."""
        return f"{self.model_owner}/{self.model}" if self.model_owner else self.model


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that could not be used, and the reason."""

    path: Path
    what: str

    def __str__(self) -> str:
        """`Skipped PATH: damaged: …`."""
        return f"Skipped {self.path}: {self.what}"
