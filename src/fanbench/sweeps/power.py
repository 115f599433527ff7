"""What a plan could show: by how much two models would have to differ to be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fanbench._util.text import first_few, many
from fanbench.results.scores import Scores
from fanbench.results.statistics import items_for, worst_difference

__all__ = ["known_items", "power_sentences"]

# A plan that can find no difference says what it would take to find this one.
_EXAMPLE = 0.1


def known_items(scores: Scores) -> dict[str, int]:
    """Return the number of items of each task that a comparison counts, by its slug, as far as any run tells them."""
    counted = set(scores.bounded())
    return {
        key.task: len(cell.items) for (key, _), cell in scores.cells.items() if key in counted and cell.totals
    }


def power_sentences(tasks: Sequence[str], repeats: int, items: Mapping[str, int]) -> Iterator[str]:
    """Say which difference the plan would show, four times in five, at a level of 5%, as far as `items` are known.

    It is the one for models that pass half of the items at random: for others it is smaller. How much repeats add
    depends on how often those of an item agree.
    """
    known = [items[task] for task in tasks if task in items]
    unknown = [task for task in tasks if task not in items]
    if not known:
        yield (
            "What it could show depends on the items of its tasks, of which nothing is known yet: "
            f"{many(repeats, 'run')} per task and model, of one item each unless the task has rows. {_needed()}"
        )
        return
    what = f"{many(sum(known), 'item')} in {many(len(known), 'task')} (by earlier results)"
    if (smallest := worst_difference(known, repeats).smallest_seen()) > 1:
        yield f"Too few to tell two models apart: {what}. {_needed()}"
    else:
        yield (
            f"Two models would have to differ by {smallest:.2f} to be told apart four times in five: {what}, "
            "of which each passes half at random."
        )
        if repeats > 1:
            alone = worst_difference(known).smallest_seen()
            text = f"by {alone:.2f}" if alone <= 1 else "more than is possible"
            yield f"That is if the repeats of an item are independent; if they always agree, {text}."
    if unknown:
        yield f"Not counted, because no earlier result tells their items: {first_few(unknown)}."


def _needed() -> str:
    return f"To see a difference of {_EXAMPLE:g} takes about {items_for(_EXAMPLE, 0.5**0.5):,} items."
