"""Scores of tasks and models: what all attempts at the same items come to, with what is known to be lacking."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from fanbench.results.items import Item, ItemState
from fanbench.results.scales import UNIT, Scale
from fanbench.results.statistics import Interval, effective_attempts, mean_interval, score_bounds

__all__ = ["Cell", "Scores", "TaskKey", "scores_of", "sum_if_known", "task_names"]

_VERSION = re.compile(r"(v\d+)?(:|$)")


@dataclass(frozen=True, slots=True, order=True)
class TaskKey:
    """A task with one content. With other content, it is another task."""

    task: str
    content: str

    @property
    def is_version(self) -> bool:
        """Whether only the version tells its content: no journal does."""
        return _VERSION.match(self.content) is not None


def task_names(keys: Iterable[TaskKey]) -> dict[TaskKey, str]:
    """Return what to call each task: its slug, with the beginning of its content if several have this slug.

    Outside of a sweep, the content is that of a version, such as `v3`.
    """
    unique = set(keys)
    times = Counter(key.task for key in unique)

    def name(key: TaskKey) -> str:
        # Before the colon is how the content was identified.
        content = key.content.rpartition(":")[2][:8] or "no version"
        return f"{key.task} ({content})" if times[key.task] > 1 else key.task

    return {key: name(key) for key in unique}


@dataclass(frozen=True, slots=True)
class Cell:
    """All attempts of one model at one task, except those that were made again.

    Attributes:
        totals: The sum of the values of each item, and the number of its scored attempts.
        repeats: The number of planned runs.
        items: All items of the task, which other models may have told, by their names: how many attempts at each of
            them a run has.
        lowest, highest: Of all values, or else of what the server reports; 0 without any.
        cut: A run errored although all of its known items have scores.
        stated: The low and high end of the interval that the task stated with its value.
        cost: In US dollars, of all runs; None if any of them does not report it.
        time: The seconds of all runs, added up; None if any of them does not report them.
        server_mean: Where nothing has a score: the mean of what the server reports for the runs; None for nothing.
    """

    key: TaskKey
    model: str
    scale: Scale
    versions: set[int]
    totals: dict[str, tuple[float, int]]
    repeats: int
    items: dict[str, int]
    scored: int
    errored: int
    no_value: int
    boolean: bool
    lowest: float
    highest: float
    cut: bool
    stated: tuple[float, float] | None
    cost: float | None
    time: float | None
    server_mean: float | None = None

    @property
    def planned(self) -> int:
        """The number of attempts that there should be: each repeat at each item."""
        return max(self.repeats * sum(self.items.values()), self.scored + self.errored + self.no_value)

    @property
    def missing(self) -> int:
        """The number of attempts of which nothing was left."""
        return self.planned - self.scored - self.errored - self.no_value

    @property
    def complete(self) -> bool:
        return self.scored == self.planned

    @property
    def may_have_more(self) -> bool:
        """Whether there may be items of which nothing is known."""
        return self.cut and self.complete

    @property
    def bounded(self) -> bool:
        """Whether all values lie on the scale."""
        return self.scale.contains(self.lowest, self.highest)

    @property
    def mean(self) -> float | None:
        """The mean value: each item counts the same. None if no attempt has a score, or if it is no finite number."""
        if not self.totals:
            return None
        try:
            # Divided first, because the sum may exceed the largest float.
            mean = math.fsum(total / number / len(self.totals) for total, number in self.totals.values())
        except (OverflowError, ValueError):
            return None
        return mean if math.isfinite(mean) else None  # The repeats of an item alone may exceed it.

    def scores(self) -> dict[str, float]:
        """The mean score of each item that has one, from 0 to 1 if the task is bounded."""
        if self.scale == UNIT:
            return {item: total / number for item, (total, number) in self.totals.items()}
        return {item: self.scale.score(total / number) for item, (total, number) in self.totals.items()}

    def effective(self) -> float:
        """The number of independent attempts that would say as much as those that have a score."""
        return effective_attempts(list(self.scores().values()), self.scored)

    @property
    def interval(self) -> Interval | None:
        """The interval of the mean. The method `stated` means that the task says so.

        None if there is no value, if the values do not lie on the scale, or if there is only one and it is a number:
        nothing tells how much it might vary.
        """
        if self.scored == 1 and self.stated is not None:
            return Interval(*self.stated, "stated")
        if not self.totals or not self.bounded or (self.scored == 1 and not self.boolean):
            return None
        return self.scale.values(mean_interval(list(self.scores().values()), self.scored))

    @property
    def bounds(self) -> Interval | None:
        """The interval that holds whatever the attempts without a score would have given; None if all have one."""
        if self.complete or not self.bounded:
            return None
        bounds, interval = self.scale.values(score_bounds(*self.extremes(), self.planned)), self.interval
        # An interval of more items may be the narrower one, even if these make the mean lower.
        return bounds if interval is None else bounds.with_all_of(interval)

    def extremes(self) -> tuple[list[float], list[float]]:
        """The mean scores of all items if each attempt without a score had scored 0, and if it had scored 1."""
        known, lowest, highest = self.scores(), [], []
        for item, each in self.items.items():
            number = self.totals[item][1] if item in known else 0
            attempts = max(self.repeats * each, number)
            passed = known[item] * number if number else 0.0
            lowest.append(passed / attempts)
            highest.append((passed + attempts - number) / attempts)
        return lowest, highest


@dataclass(frozen=True, slots=True)
class Scores:
    """The cells of tasks and models. A model that has never run a task has no cell with it."""

    cells: Mapping[tuple[TaskKey, str], Cell]
    tasks: tuple[TaskKey, ...]
    models: tuple[str, ...]

    @classmethod
    def from_cells(cls, cells: Iterable[Cell]) -> Scores:
        found = {(cell.key, cell.model): cell for cell in cells}
        tasks, models = {key for key, _ in found}, {model for _, model in found}
        return cls(found, tuple(sorted(tasks)), tuple(sorted(models)))

    def on(self, scales: Mapping[str, Scale]) -> Scores:
        """The same on the scales of tasks, by their slugs; a task that has none is from 0 to 1."""
        cells = self.cells.values()
        return self.from_cells(replace(cell, scale=scales.get(cell.key.task, UNIT)) for cell in cells)

    def only(self, has: Callable[[str, str], bool]) -> Scores:
        """Those of the tasks and models, by their slugs, that `has` is true for."""
        return self.from_cells(cell for cell in self.cells.values() if has(cell.key.task, cell.model))

    def renamed(self, names: Mapping[TaskKey, TaskKey]) -> Scores:
        """The same with other names for some tasks."""
        return self.from_cells(
            replace(cell, key=names.get(cell.key, cell.key)) for cell in self.cells.values()
        )

    def of(self, model: str, tasks: Iterable[TaskKey] | None = None) -> list[Cell]:
        """The cells of a model, in the order of the tasks."""
        keys = self.tasks if tasks is None else tasks
        return [cell for key in keys if (cell := self.cells.get((key, model))) is not None]

    def names(self) -> dict[TaskKey, Mapping[str, int]]:
        """The names of all items of each task, and how many attempts at each of them a run has."""
        return {key: cell.items for (key, _), cell in self.cells.items()}

    def scales(self) -> dict[TaskKey, Scale]:
        """The scale of each task."""
        return {key: cell.scale for (key, _), cell in self.cells.items()}

    def bounded(self) -> tuple[TaskKey, ...]:
        """The tasks whose values all lie on their scales, whatever the model."""
        outside = {key for (key, _), cell in self.cells.items() if not cell.bounded}
        return tuple(key for key in self.tasks if key not in outside)


def scores_of(
    items: Iterable[Item],
    scales: Mapping[str, Scale] | None = None,
    known: Mapping[TaskKey, Mapping[str, int]] | None = None,
) -> Scores:
    """Return the scores of `items`. `scales` has those of tasks that are not from 0 to 1, by their slugs.

    Attempts that were made again are left out. `known` has the names of all items of tasks, for `items` that are only
    some of them.
    """
    places: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
    for place, attempts in groupby(items, attrgetter("task", "content", "model")):
        places[place] += [item for item in attempts if not item.superseded]
    groups = {(TaskKey(*task), model): attempts for (*task, model), attempts in places.items() if attempts}
    names = {key: Counter((known or {}).get(key, ())) for key, _ in groups}
    run_of = attrgetter("sweep", "repeat")
    for (key, _), counting in groups.items():
        for _, of_run in groupby(sorted(counting, key=run_of), run_of):
            names[key] |= Counter(item.item for item in of_run if not _is_whole_run(item))
    return Scores.from_cells(
        _cell(key, model, counting, _items_of(counting, names[key]), (scales or {}).get(key.task, UNIT))
        for (key, model), counting in groups.items()
    )


def _items_of(attempts: Sequence[Item], names: Mapping[str, int]) -> dict[str, int]:
    """Return the items of a task for a model: a run that is one item has no part in the items of others."""
    whole = [item for item in attempts if not item.item and not _is_whole_run(item)]
    if whole and all(not item.item for item in attempts):
        return {"": 1}
    return {name: number for name, number in names.items() if name or whole} or {"": 1}


def _is_whole_run(item: Item) -> bool:
    """Whether a run left no items: it stands for each item that the task has in other runs."""
    return not item.item and item.state is not ItemState.SCORED


def _cell(key: TaskKey, model: str, attempts: Sequence[Item], names: dict[str, int], scale: Scale) -> Cell:
    scored = [item for item in attempts if item.state is ItemState.SCORED and item.value is not None]
    values = [item.value for item in scored if item.value is not None]
    said = [] if scored else [item.server_value for item in attempts if item.server_value is not None]
    totals: dict[str, tuple[float, int]] = {}
    for item, value in zip(scored, values, strict=True):
        total, number = totals.get(item.item, (0.0, 0))
        totals[item.item] = total + value, number + 1

    runs = {(item.sweep, item.repeat): item for item in attempts}

    def count(state: ItemState) -> int:
        return sum(
            sum(names.values()) if _is_whole_run(item) else 1 for item in attempts if item.state is state
        )

    return Cell(
        key,
        model,
        scale,
        versions={item.version for item in attempts if item.version is not None},
        totals=totals,
        repeats=len(runs),
        items=names,
        scored=len(scored),
        errored=count(ItemState.ERRORED),
        no_value=count(ItemState.NO_VALUE),
        boolean=all(item.kind == "boolean" for item in scored),
        lowest=min(values or said, default=0.0),
        highest=max(values or said, default=0.0),
        cut=any(item.error for item in scored),
        stated=next(
            ((item.low, item.high) for item in scored if item.low is not None and item.high is not None), None
        ),
        cost=sum_if_known([item.run_cost_usd for item in runs.values()]),
        time=sum_if_known([item.run_seconds for item in runs.values()]),
        server_mean=math.fsum(value / len(said) for value in said) if said else None,
    )


def sum_if_known(values: Sequence[float | None]) -> float | None:
    """Return the sum of the values; None if any of them is unknown."""
    return None if None in values else math.fsum(filter(None, values))
