"""How the parts of a running sweep wake each other: nothing here is awaited by who has news."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

import anyio

__all__ = ["Bell", "Later", "Queue"]

T = TypeVar("T")


class Bell:
    """Wakes the one who waits. Rung while nobody does, it is heard by the next who waits."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Until it was rung since the last time, or `seconds` are over."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()


class Queue(Generic[T]):
    """Work for a fixed number of workers, without a bound: what waits here is a reference."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: deque[anyio.Event] = deque()

    @property
    def idle(self) -> int:
        """How many workers wait for work."""
        return len(self._waiting)

    def put(self, item: T) -> None:
        self._items.append(item)
        if self._waiting:
            self._waiting.popleft().set()

    async def get(self) -> T:
        while not self._items:
            woken = anyio.Event()
            self._waiting.append(woken)
            await woken.wait()
        return self._items.popleft()


class Later(Generic[T]):
    """Passes things on when their time has come: one waiting task for all of them."""

    def __init__(self, deliver: Callable[[T], None]) -> None:
        self._deliver = deliver
        self._heap: list[tuple[float, int, T]] = []
        self._number = count()
        self._bell = Bell()

    def put(self, item: T, seconds: float) -> None:
        heapq.heappush(self._heap, (anyio.current_time() + seconds, next(self._number), item))
        self._bell.ring()

    async def run(self) -> None:
        """For ever."""
        while True:
            while self._heap and self._heap[0][0] <= anyio.current_time():
                self._deliver(heapq.heappop(self._heap)[2])
            await self._bell.wait(self._heap[0][0] - anyio.current_time() if self._heap else None)
