"""Lists that the server returns page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from fanbench.wire.protocol import Call
from fanbench.wire.responses import invalid_answer

__all__ = ["Pages"]

T = TypeVar("T")

# So many pages in a row may have nothing new, as those of a server that ignores a filter.
_EMPTY_PAGES = 100


class Pages(AsyncIterator[T]):
    """The items of all pages; `fetch(token)` returns the items of one page and the token of the next.

    This is not a generator, so that a caller who stops early has nothing to close.
    """

    def __init__(self, call: Call, fetch: Callable[[str], Awaitable[tuple[Sequence[T], str]]]) -> None:
        self._call = call
        self._fetch = fetch
        self._items: Iterator[T] = iter(())
        self._token: str | None = ""
        self._seen: set[str] = set()
        self._empty = 0

    async def __anext__(self) -> T:
        while True:
            for item in self._items:
                return item
            if self._token is None:
                raise StopAsyncIteration
            if self._token in self._seen:
                raise invalid_answer(self._call, "the pages of the list form a loop")
            self._seen.add(self._token)
            items, following = await self._fetch(self._token)
            self._empty = 0 if items else self._empty + 1
            if self._empty >= _EMPTY_PAGES:
                raise invalid_answer(
                    self._call, f"{_EMPTY_PAGES} pages of the list in a row have nothing new"
                )
            self._items, self._token = iter(items), following or None
