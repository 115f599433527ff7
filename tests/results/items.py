"""Items for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fanbench.results.items import Item, ItemState


def item(value: float | bool | None = True, *, state: ItemState | None = None, **fields: Any) -> Item:
    """An attempt that scored `value`, or errored without one."""
    found = state or (ItemState.ERRORED if value is None else ItemState.SCORED)
    kind = None if value is None else "boolean" if isinstance(value, bool) else "numeric"
    return Item(
        **{
            "task": "t",
            "content": "c",
            "model": "m",
            "sweep": "s",
            "path": "p",
            "state": found,
            "value": None if value is None else float(value),
            "kind": kind,
            "cost_usd": 0.01,
            "seconds": 2.0,
            "run_cost_usd": 0.01,
            "run_seconds": 2.0,
            **fields,
        }
    )


def answers(model: str, values: Iterable[Any], *, repeat: int = 1, **fields: Any) -> Iterator[Item]:
    """One run of a model: an attempt at each item, named by its number."""
    for number, value in enumerate(values):
        yield item(value, model=model, item=str(number), repeat=repeat, **fields)


def passes(right: int, total: int) -> Sequence[bool]:
    """The first `right` of `total` items pass."""
    return [number < right for number in range(total)]
