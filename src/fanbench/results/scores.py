"""Scores of tasks and models: what all attempts at the same items come to, with what is known to be lacking."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from fanbench.results.items import Item, ItemState
from fanbench.results.statistics import Interval, effective_attempts, mean_interval, score_bounds

__all__ = ["UNIT", "Cell", "Scale", "Scores", "TaskKey", "scores_of", "task_names"]


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of a task's values, and which end of it is better."""

    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high

    def score(self, value: float) -> float:
        """Return the value as a score from 0, the worst, to 1, the best."""
        share = (value - self.low) / (self.high - self.low)
        return share if self.higher_is_better else 1 - share

    def values(self, scores: Interval) -> Interval:
        """Return the interval of values that has these scores."""
        ends = [
            self.low + (score if self.higher_is_better else 1 - score) * (self.high - self.low)
            for score in (scores.low, scores.high)
        ]
        return Interval(min(ends), max(ends), scores.method)


#: The scale of a task that declares none.
UNIT = Scale()


@dataclass(frozen=True, slots=True, order=True)
class TaskKey:
    """A task with one content. With other content, it is another task."""

    task: str
    content: str


def task_names(keys: Iterable[TaskKey]) -> dict[TaskKey, str]:
    """Return what to call each task: its slug, with the beginning of its content if several have this slug."""
    unique = set(keys)
    times = Counter(key.task for key in unique)

    def name(key: TaskKey) -> str:
        # Before the colon is how the content was identified.
        return f"{key.task} ({key.content.rpartition(':')[2][:8]})" if times[key.task] > 1 else key.task

    return {key: name(key) for key in unique}


@dataclass(slots=True)
class Cell:
    """All attempts of one model at one task, except those that were made again.

    Attributes:
        totals: The sum of the values of each item, and the number of its scored attempts.
        repeats: The number of planned runs.
        items: The names of all items of the task, which other models may have told.
        lowest, highest: Of all values.
        stated: The low and high end of the interval that the task stated with its value.
        cost: In US dollars, of all attempts; None if any of them does not report it.
        time: The seconds of all attempts, added up; None if any of them does not report them.
    """

    key: TaskKey
    model: str
    scale: Scale = UNIT
    versions: set[int] = field(default_factory=set)
    totals: dict[str, tuple[float, int]] = field(default_factory=dict)
    repeats: int = 0
    items: set[str] = field(default_factory=set)
    scored: int = 0
    errored: int = 0
    no_value: int = 0
    boolean: bool = True
    lowest: float = math.inf
    highest: float = -math.inf
    stated: tuple[float, float] | None = None
    cost: float | None = 0.0
    time: float | None = 0.0

    @property
    def planned(self) -> int:
        """The number of attempts that there should be: each repeat at each item."""
        return max(self.repeats * len(self.items), self.scored + self.errored + self.no_value)

    @property
    def missing(self) -> int:
        """The number of attempts of which nothing was left."""
        return self.planned - self.scored - self.errored - self.no_value

    @property
    def complete(self) -> bool:
        return self.scored == self.planned

    @property
    def bounded(self) -> bool:
        """Whether all values lie on the scale."""
        return not self.totals or (self.scale.contains(self.lowest) and self.scale.contains(self.highest))

    @property
    def mean(self) -> float | None:
        """The mean value: each item counts the same. None if no attempt has a score."""
        if not self.totals:
            return None
        try:
            # Divided first, because the sum may exceed the largest float.
            return math.fsum(total / number / len(self.totals) for total, number in self.totals.values())
        except (OverflowError, ValueError):
            return math.nan  # The repeats of an item alone exceed it.

    def scores(self) -> dict[str, float]:
        """The mean score of each item that has one, from 0 to 1 if the task is bounded."""
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
        return self.scale.values(score_bounds(*self.extremes(), self.planned))

    def extremes(self) -> tuple[list[float], list[float]]:
        """The mean scores of all items if each attempt without a score had scored 0, and if it had scored 1."""
        lowest, highest = [], []
        for item in self.items:
            total, number = self.totals.get(item, (0.0, 0))
            known = self.scale.score(total / number) * number if number else 0.0
            attempts = max(self.repeats, number)
            lowest.append(known / attempts)
            highest.append((known + attempts - number) / attempts)
        return lowest, highest


@dataclass(frozen=True, slots=True)
class Scores:
    """The cells of tasks and models. A model that has never run a task has no cell with it."""

    cells: Mapping[tuple[TaskKey, str], Cell]
    tasks: tuple[TaskKey, ...]
    models: tuple[str, ...]

    def of(self, model: str, tasks: Iterable[TaskKey] | None = None) -> list[Cell]:
        """The cells of a model, in the order of the tasks."""
        keys = self.tasks if tasks is None else tasks
        return [cell for key in keys if (cell := self.cells.get((key, model))) is not None]

    def names(self) -> dict[TaskKey, Collection[str]]:
        """The names of all items of each task."""
        return {key: cell.items for (key, _), cell in self.cells.items()}

    def bounded(self) -> tuple[TaskKey, ...]:
        """The tasks whose values all lie on their scales, whatever the model."""
        outside = {key for (key, _), cell in self.cells.items() if not cell.bounded}
        return tuple(key for key in self.tasks if key not in outside)


def scores_of(
    items: Iterable[Item],
    scales: Mapping[str, Scale] | None = None,
    known: Mapping[TaskKey, Collection[str]] | None = None,
) -> Scores:
    """Return the scores of `items`. `scales` has those of tasks that are not from 0 to 1, by their slugs.

    Attempts that were made again are left out. `known` has the names of all items of tasks, for `items` that are only
    some of them.
    """
    cells: dict[tuple[TaskKey, str], Cell] = {}
    runs: dict[tuple[TaskKey, str], set[tuple[str, int]]] = defaultdict(set)
    whole: dict[tuple[TaskKey, str], Counter[ItemState]] = defaultdict(Counter)
    names: dict[TaskKey, set[str]] = defaultdict(set)
    names.update((key, set(of_task)) for key, of_task in (known or {}).items())
    for item in items:
        if item.superseded:
            continue
        key = TaskKey(item.task, item.content)
        place = key, item.model
        cell = cells.get(place)
        if cell is None:
            scale = (scales or {}).get(item.task, UNIT)
            cell = cells[place] = Cell(key, item.model, scale, items=names[key])
        runs[place].add((item.sweep, item.repeat))
        if item.version is not None:
            cell.versions.add(item.version)
        cell.cost = _sum(cell.cost, item.cost_usd)
        cell.time = _sum(cell.time, item.seconds)
        if not item.item and item.state is not ItemState.SCORED:
            whole[place][item.state] += 1
        else:
            names[key].add(item.item)
            _add(cell, item)
    for place, cell in cells.items():
        cell.repeats = len(runs[place])
        _count_whole_runs(cell, whole[place])
    return Scores(
        cells, tuple(sorted({key for key, _ in cells})), tuple(sorted({model for _, model in cells}))
    )


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more


def _add(cell: Cell, item: Item) -> None:
    if item.state is ItemState.ERRORED:
        cell.errored += 1
    elif item.state is ItemState.NO_VALUE:
        cell.no_value += 1
    elif item.state is ItemState.SCORED and item.value is not None:
        total, number = cell.totals.get(item.item, (0.0, 0))
        cell.totals[item.item] = total + item.value, number + 1
        cell.scored += 1
        cell.boolean = cell.boolean and item.kind == "boolean"
        cell.lowest, cell.highest = min(cell.lowest, item.value), max(cell.highest, item.value)
        if item.low is not None and item.high is not None:
            cell.stated = item.low, item.high


def _count_whole_runs(cell: Cell, states: Counter[ItemState]) -> None:
    """Count the runs that left no items: they stand for each item that the task has in other runs."""
    each = max(1, len(cell.items))
    cell.errored += states[ItemState.ERRORED] * each
    cell.no_value += states[ItemState.NO_VALUE] * each
    cell.items = cell.items or {""}
