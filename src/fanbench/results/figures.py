"""What is known of a value: how many of the items have a score, its interval, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from fanbench.results.scores import Cell

__all__ = ["FIGURES", "Figures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The items of a run and the interval of its value. What is not known is None.

    Attributes:
        items_planned: The number of items that the run should have: those that any run of this task has.
        items_scored: How many of them have a score.
        items_errored: How many errored.
        items_no_value: How many ended without one number. The rest of them left nothing.
        low: The low end of the 95% confidence interval of the mean of the scores.
        high: Its high end.
        method: How the interval was computed: `Wilson`, or `stated` by the task.
        interval_by: Who says it: the `task`, or `fanbench`.
        bound_low: The low end of the interval, had all items without a score failed; None if all have one.
        bound_high: Its high end, had all of these passed.
    """

    items_planned: int = 1
    items_scored: int = 0
    items_errored: int = 0
    items_no_value: int = 0
    low: float | None = None
    high: float | None = None
    method: str | None = None
    interval_by: Literal["task", "fanbench"] | None = None
    bound_low: float | None = None
    bound_high: float | None = None

    @classmethod
    def of(cls, cell: Cell) -> Figures:
        interval, bounds = cell.interval, cell.bounds
        by: Literal["task", "fanbench"] | None = None
        if interval is not None:
            by = "task" if interval.method == "stated" else "fanbench"
        return cls(
            items_planned=cell.planned,
            items_scored=cell.scored,
            items_errored=cell.errored,
            items_no_value=cell.no_value,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            method=interval.method if interval else None,
            interval_by=by,
            bound_low=bounds.low if bounds else None,
            bound_high=bounds.high if bounds else None,
        )

    @property
    def complete(self) -> bool:
        """Whether every item has a score."""
        return self.items_scored == self.items_planned


#: The names of the figures, as in records.
FIGURES = tuple(field.name for field in fields(Figures))
