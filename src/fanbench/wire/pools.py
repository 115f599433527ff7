"""Connections, in many small pools instead of a large one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    import httpx

__all__ = ["Pools"]


class Pools:
    """HTTP clients, each with at most `room` requests under way; without `room`, one for all.

    The pool below an HTTP client looks at all of its connections twice a request, and asks the system about
    each that is idle: with 64 of them that is most of a request's CPU time. See benchmarks/README.md.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], room: int | None) -> None:
        self._make = make
        self._room = room
        self._all: list[httpx.AsyncClient] = []
        # An entry for each request that may begin, the client that was used last at the end: as few
        # connections as can be are in use then, and these stay open.
        self._free: list[httpx.AsyncClient] = []

    @contextmanager
    def one(self) -> Iterator[httpx.AsyncClient]:
        """A client for one request, until its answer is read."""
        client = self._free.pop() if self._free else self._another()
        try:
            yield client
        finally:
            self._free.append(client)

    def _another(self) -> httpx.AsyncClient:
        if self._room is None and self._all:
            return self._all[0]
        client = self._make()
        self._all.append(client)
        self._free += [client] * ((self._room or 1) - 1)
        return client

    async def aclose(self) -> None:
        async with anyio.create_task_group() as group:
            for client in self._all:
                group.start_soon(client.aclose)
