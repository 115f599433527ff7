"""The results of runs, as read from their run files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fanbench.results.figures import Figures
from fanbench.results.items import Item
from fanbench.results.kept import KeptItems
from fanbench.wire.messages import RunState

if TYPE_CHECKING:
    from fanbench.results.compare import Comparison
    from fanbench.results.gate import Gate
    from fanbench.results.ranking import Estimand, Ranking
    from fanbench.results.scales import Scale
    from fanbench.results.scores import Scores

__all__ = ["Cost", "Kind", "Problem", "ResultSet", "RunResult", "Value"]


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
        content: Equal for versions of the task that have the same content.
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
        path: The run's folder, or the run file if it is outside one.
    """

    task: str
    name: str
    version: int | None = None
    content: str = ""
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
    path: Path

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


@dataclass(frozen=True, slots=True)
class ResultSet:
    """All runs that were found, all files that could not be read, and the items that the runs are made of.

    The runs are sorted by task and model, and from the newest to the oldest within a pair. The items are sorted by
    task, content, model, sweep, repeat and attempt. `scales` are those that sweeps declare for tasks, by their slugs.
    """

    runs: tuple[RunResult, ...] = ()
    problems: tuple[Problem, ...] = ()
    items: Sequence[Item] = ()
    scales: Mapping[str, Scale] = field(default_factory=dict)

    def newest(self) -> tuple[RunResult, ...]:
        """One run per task and model: the one that started last."""
        chosen: dict[tuple[str, str], RunResult] = {}
        for run in self.runs:
            chosen.setdefault((run.task, run.full_model), run)
        return tuple(chosen.values())

    def scores(self) -> Scores:
        """The score of each task and model: all attempts that count, and what is lacking."""
        return self._scores_on(self.scales)

    def scores_with(self, new: ResultSet) -> tuple[Scores, Scores]:
        """The scores here and those of `new`, on the scales that either of them declares."""
        from fanbench.results.scales import merge_scales

        scales = merge_scales((*self.scales.items(), *new.scales.items()))
        return self._scores_on(scales), new._scores_on(scales)

    def _scores_on(self, scales: Mapping[str, Scale]) -> Scores:
        from fanbench.results.scores import scores_of

        items = self.items
        return items.scores.on(scales) if isinstance(items, KeptItems) else scores_of(items, scales)

    def leaderboard(self, tasks: Estimand = "these") -> Ranking:
        """All models, ranked, with intervals and ranks for exactly `these` tasks, or for tasks `like-these`."""
        from fanbench.results.ranking import rank_models

        return rank_models(self.scores(), tasks)

    def compare(self, first: str, second: str) -> Comparison:
        """Compare two models on their common items. A difference above 0 means that `second` scored higher.

        Raises:
            UnknownModel: There are no results of one of them.
            UsageError: A name without an owner may be several models.
        """
        from fanbench.results.compare import compare_models
        from fanbench.results.select import find_model

        scores = self.scores()
        return compare_models(scores, *(find_model(name, scores.models) for name in (first, second)))

    def compare_with(self, new: ResultSet, models: Iterable[str] | None = None) -> Comparison:
        """Compare what the same models scored here and in `new`; only `models`, if given: names and patterns.

        Raises:
            UnknownModel: There are no results of one of `models` on both sides.
        """
        from fanbench.results.compare import compare_sweeps
        from fanbench.results.select import find_models

        before, after = self.scores_with(new)
        common = sorted({*before.models} & {*after.models})
        return compare_sweeps(before, after, None if models is None else find_models(models, common))

    def gate(
        self,
        new: ResultSet,
        *,
        margin: float,
        min_coverage: float = 1.0,
        models: Iterable[str] | None = None,
    ) -> Gate:
        """Decide whether `new` is worse than these results by more than `margin` (0.05 is five points of a hundred).

        It cannot tell if less than the share `min_coverage` of a task has a score on both sides.

        Raises:
            UnknownModel: There are no results of one of `models` on either side.
        """
        from fanbench.results.gate import gate
        from fanbench.results.select import find_models

        before, after = self.scores_with(new)
        known = sorted({*before.models, *after.models})
        chosen = None if models is None else find_models(models, known)
        return gate(before, after, margin, min_coverage=min_coverage, models=chosen)

    def to_pandas(self) -> Any:
        """Return the items as a `pandas.DataFrame`: a row for each item, a column for each field of `Item`.

        Raises:
            ImportError: pandas is not installed.
        """
        from fanbench.results.frames import to_pandas

        return to_pandas(self.items)

    def to_polars(self) -> Any:
        """Return the items as a `polars.DataFrame`, with the same columns.

        Raises:
            ImportError: Polars is not installed.
        """
        from fanbench.results.frames import to_polars

        return to_polars(self.items)

    def to_arrow(self) -> Any:
        """Return the items as a `pyarrow.Table`, with the same columns.

        Raises:
            ImportError: pyarrow is not installed.
        """
        from fanbench.results.frames import to_arrow

        return to_arrow(self.items)
