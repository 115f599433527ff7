"""Which results are shown, and in which order. What is not shown counts all the same."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeVar

from fanbench._util.text import first_few, many
from fanbench.results.items import Item, ItemState
from fanbench.results.scales import UNIT, Scale
from fanbench.results.scores import Cell, Scores, TaskKey, sum_if_known
from fanbench.results.types import RunResult

__all__ = ["ALL", "Order", "Selection"]

T = TypeVar("T")
#: By name, or by a figure: the highest first, and what is unknown last.
Order = Literal["name", "score", "cost", "time"]


@dataclass(frozen=True, slots=True)
class Selection:
    """The tasks and models to show, by their slugs; None stands for all.

    With `failed`, only what errored, has no value, is missing, or did not pass.
    """

    tasks: Collection[str] | None = None
    models: Collection[str] | None = None
    failed: bool = False
    order: Order = "name"

    def has(self, task: str, model: str) -> bool:
        """Whether results of a task on a model may be shown; with `failed`, not all of them are."""
        return (self.tasks is None or task in self.tasks) and self.has_model(model)

    def has_model(self, model: str) -> bool:
        """Whether a model may be shown."""
        return self.models is None or model in self.models

    def sentences(self, scores: Scores) -> Iterator[str]:
        """Say which tasks and models of `scores` count if others do not."""
        tasks = {key.task for key in scores.tasks}
        if self.tasks is not None and len(self.tasks) < len(tasks):
            yield f"Of {many(len(tasks), 'task')}, only these count: {first_few(list(self.tasks))}."
        if self.models is not None and len(self.models) < len(scores.models):
            models = many(len(scores.models), "model")
            yield f"Of {models}, only these are ranked: {first_few(list(self.models))}."

    def cells(self, scores: Scores, runs: Iterable[RunResult]) -> list[Cell]:
        """The cells of a table, of which `runs` are known."""
        cells = [cell for cell in scores.cells.values() if self.has(cell.key.task, cell.model)]
        if not self.failed:
            return cells
        errored = {(TaskKey(run.task, run.content), run.full_model) for run in runs if run.errored}
        return [cell for cell in cells if (cell.key, cell.model) in errored or _has_failed(cell)]

    def runs(
        self, runs: Iterable[RunResult], items: Iterable[Item], scales: Mapping[str, Scale], *, every: bool
    ) -> list[RunResult]:
        """The runs, and with `every` those that were made again. `items` are those of all runs."""
        chosen = [run for run in runs if self.has(run.task, run.full_model) and (every or not run.superseded)]
        if self.failed:
            places = _places_of(item for item in items if _is_failure(item))
            chosen = [run for run in chosen if run.errored or _place_of(run) in places]
        return self.sort(chosen, lambda run: _run_figure(run, self.order, scales))

    def items(self, items: Iterable[Item], scales: Mapping[str, Scale], *, every: bool) -> list[Item]:
        """The items, and with `every` those of runs that were made again."""
        chosen = [
            item
            for item in items
            if self.has(item.task, item.model)
            and (every or not item.superseded)
            and (not self.failed or _is_failure(item))
        ]
        return self.sort(chosen, lambda item: _item_figure(item, self.order, scales))

    def figure_of(self, cells: Collection[Cell]) -> float | None:
        """The figure of a task or a model by which it is sorted: that of all its cells."""
        if self.order == "score":
            means = [fmean(cell.scores().values()) for cell in cells if cell.totals and cell.bounded]
            return fmean(means) if means else None
        return sum_if_known([cell.cost if self.order == "cost" else cell.time for cell in cells])

    def sort(self, values: Iterable[T], figure: Callable[[T], float | None]) -> list[T]:
        """Sort by a figure: the highest first, and what is unknown or not a number last."""
        if self.order == "name":
            return list(values)

        def place(value: T) -> tuple[bool, float]:
            number = figure(value)
            return (False, -number) if number is not None and not math.isnan(number) else (True, 0.0)

        return sorted(values, key=place)


#: Everything, by name.
ALL = Selection()


def _is_failure(item: Item) -> bool:
    return item.state is not ItemState.SCORED or (item.kind == "boolean" and not item.value)


def _has_failed(cell: Cell) -> bool:
    return not cell.complete or (cell.boolean and cell.mean != 1.0)


def _places_of(items: Iterable[Item]) -> set[tuple[str, ...]]:
    """The places of all runs that items may belong to: see `_place_of`."""
    files = {
        (os.path.abspath(os.path.join(item.sweep, item.path)), item.task, item.content, item.model)
        for item in items
        if item.path
    }
    places: set[tuple[str, ...]] = set()
    for path, *run in files:
        places.add((os.path.dirname(path), *run))
        while (path,) not in places:
            places.add((path,))
            path = os.path.dirname(path)
    return places


def _place_of(run: RunResult) -> tuple[str, ...]:
    """The folder of a run. In one that is not in the layout of downloads, there may be others."""
    path = os.path.abspath(run.path)
    return (
        (path,) if run.run_id is not None else (os.path.dirname(path), run.task, run.content, run.full_model)
    )


def _run_figure(run: RunResult, order: Order, scales: Mapping[str, Scale]) -> float | None:
    if order == "score":
        return (
            None if run.value is None or isinstance(run.value, dict) else _score(run.task, run.value, scales)
        )
    return run.cost_usd if order == "cost" else run.seconds


def _item_figure(item: Item, order: Order, scales: Mapping[str, Scale]) -> float | None:
    if order == "score":
        return None if item.value is None else _score(item.task, item.value, scales)
    return item.cost_usd if order == "cost" else item.seconds


def _score(task: str, value: float, scales: Mapping[str, Scale]) -> float:
    return scales.get(task, UNIT).score(float(value))
