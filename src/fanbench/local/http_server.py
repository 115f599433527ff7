"""The HTTP server of a process: uvicorn on a socket that listens already, with our limits and without its signals."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from fanbench.local.connections import ACCEPT_AT_ONCE, Connection, limited_to
from fanbench.local.listeners import BACKLOG

__all__ = ["HttpServer"]

GRACEFUL_SECONDS = 2
"""How long open answers, such as log streams, may continue when the server is to end."""


class HttpServer(uvicorn.Server):
    """Answers with `app` on `listener`, on at most `limit` connections of the kind `connection`.

    `listening` is called once it does. It ends after `should_exit` was set, and at once after `force_exit`.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        limit: int,
        listening: Callable[[], None],
        *,
        connection: type[Connection] = Connection,
        dated: bool = True,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                http=limited_to(limit, connection),
                backlog=ACCEPT_AT_ONCE,
                server_header=False,
                date_header=dated,
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
            )
        )
        self._listener = listener
        self._listening = listening

    async def run_until_exit(self) -> None:
        """Serve until it is told to end."""
        await self.serve(sockets=[self._listener])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again at its end, and kill us before we have cleaned up.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listener.listen(BACKLOG)  # asyncio has set it to the number that it accepts at once
        self._listening()
