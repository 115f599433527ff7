"""Connections with limits: whoever opens many sockets, or says little on them, keeps nobody else waiting."""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fanbench._util.text import many
from fanbench.errors import LocalServerError

__all__ = ["ACCEPT_AT_ONCE", "Connection", "OpenConnection", "connection_limit", "limited_to", "transport_of"]

HEAD_SECONDS = 20.0
"""How long a connection may stay open without a whole head of a request."""

STALL_SECONDS = 300.0
"""How long an answer waits for a client that reads nothing. It may be somebody who scrolls through a log."""

ACCEPT_AT_ONCE = 8
"""The most connections to accept before those that are too many have been closed."""

_TRANSPORT = "fanbench.transport"

_MOST = 2000
_FEWEST = 16
# The database, logs, the log of the server, llama.cpp; for each worker, pipes and files; accepted, but not yet closed.
_OWN, _PER_WORKER, _TOO_MANY = 40, 6, 4 * ACCEPT_AT_ONCE
# Above this, some programs of runs slow down, because they close every descriptor that they might have.
_WANTED = 8192


def connection_limit(workers: int) -> int:
    """The most connections that a server with so many workers can have. Raises this process's limit of open files.

    Raises:
        LocalServerError: The system allows too few open files.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = hard if hard != resource.RLIM_INFINITY else _WANTED
    allowed = max(soft, min(allowed, _WANTED)) if soft != resource.RLIM_INFINITY else _WANTED
    if soft != resource.RLIM_INFINITY and allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    own = _OWN + _PER_WORKER * workers + _TOO_MANY
    # An answer may need a file beside its connection.
    limit = (allowed - own) // 2
    if limit < _FEWEST:
        needed = own + 2 * _FEWEST
        raise LocalServerError(
            f"The system allows {allowed} open files, and a server with {many(workers, 'worker')} needs {needed}.",
            hint="Raise the limit with `ulimit -n 1024`, or use fewer --workers.",
        )
    return min(limit, _MOST)


class Connection(H11Protocol):
    """Closes itself if no request comes or no answer is read, and the oldest unused one if there are too many."""

    limit = _MOST
    _waiting: ClassVar[dict[Connection, None]]
    """The unused connections of the server, longest first, and some that are in use by now."""
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    @property
    def unused(self) -> bool:
        """Whether no request has begun since the last answer."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > self.limit:
            self._make_room()

    def on_response_complete(self) -> None:
        self._await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._waiting.pop(self, None)
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()

    def _await_request(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.pop(self, None)
        self._waiting[self] = None
        self._timer = self.loop.call_later(HEAD_SECONDS, self._close_if_unused)

    def _close_if_unused(self) -> None:
        if self.unused:
            self.transport.abort()

    def _make_room(self) -> None:
        while self._waiting:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            if oldest.unused:  # if all others are in use, it is this one
                oldest.transport.abort()
                return


class OpenConnection(Connection):
    """Gives the application the transport below HTTP, on which it can break the rules of HTTP."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = cast("ASGIApp", self.app)

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "extensions": {_TRANSPORT: transport}}, receive, send)

        self.app = with_transport


def transport_of(scope: Scope) -> asyncio.Transport:
    """The transport below the request, of an `OpenConnection`."""
    return cast("asyncio.Transport", scope["extensions"][_TRANSPORT])


def limited_to(limit: int, kind: type[Connection] = Connection) -> type[Connection]:
    """The class of connections of a server that has at most `limit` of them."""
    return type("LimitedConnection", (kind,), {"limit": limit, "_waiting": {}})
