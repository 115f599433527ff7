"""HTTP connections in many small pools instead of one large pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    import httpx

__all__ = ["Pools"]


class Pools:
    """HTTP clients with at most `room` requests in flight each, or a single client if `room` is None.

    The pool inside an HTTP client examines all its connections twice per request, with a system call for each
    idle one: with 64 connections, that is most of a request's CPU time. See benchmarks/README.md.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], room: int | None) -> None:
        self._make = make
        self._room = room
        self._all: list[httpx.AsyncClient] = []
        # One entry per request that may begin. The client used last is at the end and taken first, so that as
        # few connections as possible are in use, and these stay open.
        self._free: list[httpx.AsyncClient] = []

    @contextmanager
    def one(self) -> Iterator[httpx.AsyncClient]:
        """Lend a client for one request, until its answer is read."""
        if self._free:
            client = self._free.pop()
        elif self._room is None and self._all:
            client = self._all[0]
        else:
            client = self._make()
            self._all.append(client)
            self._free += [client] * ((self._room or 1) - 1)
        try:
            yield client
        finally:
            self._free.append(client)

    async def aclose(self) -> None:
        async with anyio.create_task_group() as group:
            for client in self._all:
                group.start_soon(client.aclose)
