"""What repeats are for: how often at least one of `k` attempts at an item passes, and how often all of them do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from fanbench.results.scores import Cell, Scores, TaskKey
from fanbench.results.statistics import pass_at_k, pass_hat_k

__all__ = ["PassRates", "pass_rates", "passing_tasks"]


@dataclass(frozen=True, slots=True)
class PassRates:
    """Two shares between 0 and 1, each the mean over tasks of the mean over items.

    Attributes:
        k: The number of attempts at an item.
        at_k: How often at least one of `k` attempts passes (pass@k).
        hat_k: How often all of `k` attempts pass (pass^k).
    """

    k: int
    at_k: float
    hat_k: float


def passing_tasks(scores: Scores) -> tuple[TaskKey, ...]:
    """Return the tasks whose items pass or fail, whatever the model."""
    scored = [(key, cell) for (key, _), cell in scores.cells.items() if cell.totals]
    numeric = {key for key, cell in scored if not cell.boolean}
    return tuple(sorted({key for key, _ in scored} - numeric))


def pass_rates(scores: Scores, model: str, k: int) -> PassRates | None:
    """Return the rates of a model over all `passing_tasks`.

    None if there is no such task, or if any of their items has fewer than `k` attempts with a score: leaving it out
    would make the rates of models incomparable, and an attempt that errored may be one at a hard item.
    """
    tasks = passing_tasks(scores)
    cells = scores.of(model, tasks)
    if not tasks or len(cells) < len(tasks):
        return None
    if any(cell.totals.get(item, (0.0, 0))[1] < k for cell in cells for item in cell.items):
        return None
    return PassRates(
        k,
        fmean(fmean(pass_at_k(passed, number, k) for passed, number in _attempts(cell)) for cell in cells),
        fmean(fmean(pass_hat_k(passed, number, k) for passed, number in _attempts(cell)) for cell in cells),
    )


def _attempts(cell: Cell) -> Iterator[tuple[int, int]]:
    """Yield how many attempts at each item passed, and how many there were."""
    for total, number in cell.totals.values():
        yield round(cell.scale.score(total / number) * number), number
