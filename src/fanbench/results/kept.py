"""The items of results that were kept, which most commands do not need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

from fanbench.results.items import Item
from fanbench.results.scores import Scores

__all__ = ["KeptItems"]


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
