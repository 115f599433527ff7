"""All results that were found in folders, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from fanbench.errors import UsageError
from fanbench.results.display import Display, Displayed, Table
from fanbench.results.frames import Frame, Framed, frame_of_items, frame_of_runs
from fanbench.results.items import Item
from fanbench.results.types import Problem, RunResult

if TYPE_CHECKING:
    from fanbench.results.compare import Comparison
    from fanbench.results.gate import Gate
    from fanbench.results.ranking import Estimand, Ranking
    from fanbench.results.scales import Scale
    from fanbench.results.scores import Scores, TaskKey
    from fanbench.results.selection import Order, Selection

__all__ = ["KeptItems", "ResultSet"]


class KeptItems(Sequence[Item]):
    """Items that are read when the first of them is needed. Their scores are known without them.

    Of many items, they take ten times as long to read as their scores, and ten times the memory.
    """

    def __init__(self, scores: Scores, read: Callable[[], Sequence[Item]]) -> None:
        self.scores = scores
        self._read = read

    @cached_property
    def _items(self) -> tuple[Item, ...]:
        return tuple(self._read())

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple | KeptItems) and self._items == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._items,)


@dataclass(frozen=True, slots=True, repr=False)
class ResultSet(Displayed, Framed):
    """All runs that were found, all files that could not be read, and the items that the runs are made of.

    The runs are sorted by task and model, and from the newest to the oldest within a pair. The items are sorted by
    task, content, model, sweep, repeat and attempt. `scales` are those that sweeps declare for tasks, by their slugs.
    """

    runs: tuple[RunResult, ...] = ()
    problems: tuple[Problem, ...] = ()
    items: Sequence[Item] = ()
    scales: Mapping[str, Scale] = field(default_factory=dict)

    @property
    def has_server_values(self) -> bool:
        """Whether the server reports the score of a run that left nothing here."""
        return any(item.server_value is not None for item in self.items)

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
        """The scores here and those of `new`, on the scales that either of them declares.

        Tasks whose definitions differ are told apart, even if their versions are the same.
        """
        from fanbench.results.scales import merge_scales

        scales = merge_scales((*self.scales.items(), *new.scales.items()))
        before, after = self._scores_on(scales), new._scores_on(scales)
        old, now = self._definitions(), new._definitions()
        changed = [key for key in old.keys() & now.keys() if old[key].isdisjoint(now[key])]
        ours, theirs = (
            {key: replace(key, content=f"{key.content}:{min(found[key])}") for key in changed}
            for found in (old, now)
        )
        return before.renamed(ours), after.renamed(theirs)

    def _definitions(self) -> dict[TaskKey, set[str]]:
        from fanbench.results.scores import TaskKey

        found: dict[TaskKey, set[str]] = {}
        for run in self.runs:
            if run.definition is not None:
                found.setdefault(TaskKey(run.task, run.content), set()).add(run.definition)
        return found

    def _scores_on(self, scales: Mapping[str, Scale]) -> Scores:
        from fanbench.results.scores import scores_of

        items = self.items
        return items.scores.on(scales) if isinstance(items, KeptItems) else scores_of(items, scales)

    def table(
        self,
        tasks: str | Iterable[str] | None = None,
        models: str | Iterable[str] | None = None,
        *,
        failed: bool = False,
        sort: Order = "name",
        every: bool = False,
    ) -> Table:
        """Return tasks by models, as `fanbench results` prints it; all cells are the same whatever is left out.

        `tasks` and `models` are names and patterns; with `failed`, only what did not pass, errored, has no value or is
        missing; with `every`, each run by itself.

        Raises:
            NoResults: There are no results of one of `tasks`.
            UnknownModel: There are no results of one of `models`.
            UsageError: There is no such order.
        """
        from fanbench.results.table import table

        only = self.select(tasks, models, failed=failed, sort=sort)
        return table(self.scores(), self.runs, every=every, only=only)

    def select(
        self,
        tasks: str | Iterable[str] | None = None,
        models: str | Iterable[str] | None = None,
        *,
        failed: bool = False,
        sort: Order = "name",
    ) -> Selection:
        """Return which of these results are to be shown; see `table`."""
        from fanbench.results.names import find_models, find_tasks
        from fanbench.results.selection import Order, Selection

        _refuse_unknown("sort", sort, Order)
        only = Selection(failed=failed, order=sort)
        if tasks is None and models is None:
            return only
        scores = self.scores()
        if tasks is not None:
            only = replace(only, tasks=find_tasks(_names(tasks), (key.task for key in scores.tasks)))
        if models is not None:
            only = replace(only, models=find_models(_names(models), scores.models))
        return only

    def display(self) -> Display:
        """Return the tables that `fanbench results` prints: tasks by models, and what each model used."""
        from fanbench.results.table import usage_table

        told = (run.contradiction for run in self.runs if run.contradicted)
        return Display((self.table(), usage_table(self.runs)), remarks=(*map(str, self.problems), *told))

    def leaderboard(
        self,
        tasks: Estimand = "these",
        k: int | None = None,
        *,
        only_tasks: str | Iterable[str] | None = None,
        models: str | Iterable[str] | None = None,
    ) -> Ranking:
        """All models, ranked, with intervals and ranks for exactly `these` tasks, or for tasks `like-these`.

        With `k`, models have their pass@k and pass^k. Only `only_tasks` and `models`, if given, count: names and
        patterns.

        Raises:
            NoResults: There are no results of one of `only_tasks`.
            UnknownModel: There are no results of one of `models`.
            UsageError: There are fewer than two tasks that others may be like, or an argument has no such value.
        """
        from fanbench.results.ranking import Estimand, rank_models
        from fanbench.results.selection import ALL

        _refuse_unknown("tasks", tasks, Estimand)
        found, only = self.scores(), self.select(only_tasks, models)
        scores = found if only == ALL else found.only(only.has)
        ranking = replace(rank_models(scores, tasks, k=k), chosen=tuple(only.sentences(found)))
        if tasks == "like-these" and len(ranking.tasks) < 2:
            raise UsageError(
                f"One task says nothing about tasks like it, and there is only {ranking.tasks[0].task}."
                if ranking.tasks
                else "No task has all values on its scale.",
                hint="Use --tasks these.",
            )
        return ranking

    def compare(self, first: str, second: str) -> Comparison:
        """Compare two models on their common items. A difference above 0 means that `second` scored higher.

        Raises:
            UnknownModel: There are no results of one of them.
            UsageError: A name without an owner may be several models.
        """
        from fanbench.results.compare import compare_models
        from fanbench.results.names import find_model

        scores = self.scores()
        return compare_models(scores, *(find_model(name, scores.models) for name in (first, second)))

    def compare_with(self, new: ResultSet, models: str | Iterable[str] | None = None) -> Comparison:
        """Compare what the same models scored here and in `new`; only `models`, if given: names and patterns.

        Raises:
            UnknownModel: There are no results of one of `models` on both sides.
        """
        from fanbench.results.compare import compare_sweeps
        from fanbench.results.names import find_models

        before, after = self.scores_with(new)
        common = sorted({*before.models} & {*after.models})
        return compare_sweeps(before, after, None if models is None else find_models(_names(models), common))

    def gate(
        self,
        new: ResultSet,
        *,
        margin: float,
        min_coverage: float = 1.0,
        models: str | Iterable[str] | None = None,
    ) -> Gate:
        """Decide whether `new` is worse than these results by more than `margin` (0.05 is five points of a hundred).

        It cannot tell if less than the share `min_coverage` of a task has a score on both sides.

        Raises:
            UnknownModel: There are no results of one of `models` on either side.
            UsageError: `margin` or `min_coverage` is not above 0 and at most 1.
        """
        from fanbench.results.gate import gate
        from fanbench.results.names import find_models

        before, after = self.scores_with(new)
        known = sorted({*before.models, *after.models})
        chosen = None if models is None else find_models(_names(models), known)
        return gate(before, after, margin, min_coverage=min_coverage, models=chosen)

    def frame(self, of: Literal["items", "runs"] = "items") -> Frame:
        """Return a row for each item, or for each run, and a column for each field of its record.

        Raises:
            UsageError: `of` is neither.
        """
        _refuse_unknown("of", of, Literal["items", "runs"])
        return frame_of_items(self.items) if of == "items" else frame_of_runs(self.runs)


def _refuse_unknown(name: str, value: str, literal: Any) -> None:
    """Say what a type checker would have said."""
    if value not in get_args(literal):
        raise UsageError(f"{name} is {value!r}.", hint=f"Write one of {', '.join(get_args(literal))}.")


def _names(given: str | Iterable[str]) -> Iterable[str]:
    """A string is one name, not the sequence of its letters."""
    return [given] if isinstance(given, str) else given
