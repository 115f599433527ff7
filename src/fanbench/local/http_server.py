"""The HTTP server of a process: uvicorn on a socket that listens already, with our limits and without its signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import structlog
import uvicorn
from starlette.types import ASGIApp

from fanbench.local.connections import ACCEPT_AT_ONCE, Connection, limited_to
from fanbench.local.listeners import BACKLOG

__all__ = ["GRACEFUL_SECONDS", "HttpServer", "SharingHttpServer"]

_log = structlog.get_logger(__name__)

GRACEFUL_SECONDS = 2
"""How long open answers, such as log streams, may continue when the server is to end."""

PAUSE, LONGEST_PAUSE = 0.001, 0.005
"""Seconds that a process pauses after it has accepted a connection: for each connection that it has, and at most."""

_NO_FILES_PAUSE = 1.0
"""Seconds that it pauses after it could not accept one because files or memory were used up."""


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
                ws="none",
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


class SharingHttpServer(HttpServer):
    """One of several processes that answer on the same listener.

    It accepts one connection at a time, and then leaves the next one to the others for a moment. Otherwise the process
    that is awake would take all connections of a burst, and answer them alone. With sockets of their own for the same
    port (SO_REUSEPORT), which spread as well, any program of the same user could take a part of the connections, and
    runs are such programs.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await uvicorn.Server.startup(self, [])
        self._accepting = asyncio.create_task(self._accept())
        self._listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.cancel()
        await super().shutdown(sockets)

    async def _accept(self) -> None:
        kind = cast("type[Connection]", self.config.http_protocol_class)
        connection = partial(
            kind, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
                await loop.connect_accepted_socket(connection, accepted)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    _log.error("cannot accept a connection", error=str(error))
                    await asyncio.sleep(_NO_FILES_PAUSE)
            await asyncio.sleep(min(PAUSE * len(self.server_state.connections), LONGEST_PAUSE))
