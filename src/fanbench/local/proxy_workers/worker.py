"""A worker of the Model Proxy: `python -m fanbench.local.proxy_workers.worker LINK LISTENER`, two descriptors.

Signals are for the server alone: those of a terminal or a service manager reach all its processes, but runs that may
still end need the Model Proxy.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from starlette.applications import Starlette

from fanbench.local.connections import connection_limit
from fanbench.local.executor.lifetime import die_with_parent, exit_without_cleanup
from fanbench.local.folder import DataFolder
from fanbench.local.http_server import SharingHttpServer
from fanbench.local.models import ModelEngine
from fanbench.local.models.catalog import ModelSpec
from fanbench.local.models.pool import ModelPool
from fanbench.local.models.upstream import Slot, Upstream
from fanbench.local.origins import OwnNames
from fanbench.local.proxy_workers.link import (
    FROM_SERVER,
    Answer,
    Ask,
    Done,
    Fault,
    FromWorker,
    Note,
    Ready,
    Setup,
    Stop,
    Take,
    messages_of,
    open_link,
    write,
)
from fanbench.local.routes.proxy import ModelProxy
from fanbench.local.server_log import log_into
from fanbench.local.state.store import Store

_IDLE = 600.0
"""Seconds after which engines may release memory. Here they hold none."""

NextAnswer = Callable[[], Awaitable[dict[str, Any] | None]]


class ServerLink:
    """What this process asks the server for."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = count()
        self._asked: dict[int, MemoryObjectSendStream[Answer | Fault]] = {}

    def send(self, message: FromWorker) -> None:
        write(self._writer, message)

    def receive(self, message: Answer | Fault) -> None:
        """Pass on what the server has answered."""
        if (asked := self._asked.get(message.id)) is not None:
            asked.send_nowait(message)

    @asynccontextmanager
    async def ask(self, make: Callable[[int], Take | Ask]) -> AsyncIterator[NextAnswer]:
        """Ask for something, which the server holds ready until the end of the context.

        Calls of what this yields return what the server answers, one after the other, or raise its ModelFault.
        """
        number = next(self._numbers)
        send, receive = anyio.create_memory_object_stream[Answer | Fault](float("inf"))

        async def next_answer() -> dict[str, Any] | None:
            answer = await receive.receive()
            if isinstance(answer, Fault):
                raise answer.error()
            return answer.content

        with send, receive:
            self._asked[number] = send
            self.send(make(number))
            try:
                yield next_answer
            finally:
                del self._asked[number]
                self.send(Done(number))

    def slots(self, model: str) -> Slot:
        """The slots of an upstream, which the server gives to all workers."""

        @asynccontextmanager
        async def slot() -> AsyncIterator[None]:
            async with self.ask(lambda number: Take(id=number, model=model)) as granted:
                await granted()
                yield

        return slot


class ServerModel(ModelEngine):
    """A model that only the server can ask, because the model or its recordings are there."""

    def __init__(self, model: str, link: ServerLink) -> None:
        self._model = model
        self._link = link

    def _ask(self, request: dict[str, Any], *, stream: bool) -> Callable[[int], Ask]:
        return lambda number: Ask(id=number, model=self._model, request=request, stream=stream)

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._link.ask(self._ask(request, stream=False)) as next_answer:
            return await next_answer() or {}

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with self._link.ask(self._ask(request, stream=True)) as next_chunk:
            while (chunk := await next_chunk()) is not None:
                yield chunk


def make_engine(link: ServerLink, recorded: bool, spec: ModelSpec, _log: Path) -> ModelEngine:
    """This process asks upstreams itself, in slots of the server. It asks other models through the server."""
    if isinstance(spec, Upstream) and not recorded:
        return spec.connect(link.slots(spec.slug))
    return ServerModel(spec.slug, link)


async def serve(link_end: socket.socket, listener: socket.socket) -> None:
    """Answer requests until the server says to stop."""
    reader, writer = await open_link(link_end)
    messages = messages_of(reader, FROM_SERVER)
    setup = await anext(messages)
    if not isinstance(setup, Setup):
        raise TypeError(f"the first message is {setup!r}")
    link, folder = ServerLink(writer), DataFolder(Path(setup.data))
    make = partial(make_engine, link, setup.recorded)
    with log_into(folder.server_log):
        async with (
            Store.open(setup.database or folder.database) as store,
            ModelPool.open(folder, _IDLE, setup.aliases, setup.judge, make) as pool,
            anyio.create_task_group() as tasks,
        ):
            proxy = ModelProxy(
                store=store,
                pool=pool,
                note=lambda digest, text: link.send(Note(digest=digest, text=text)),
                folder=folder,
            )
            app = OwnNames(Starlette(routes=proxy.routes()), setup.names)
            server = SharingHttpServer(app, listener, connection_limit(0), lambda: link.send(Ready()))

            async def listen_to_server() -> None:
                async for message in messages:
                    if isinstance(message, Stop):
                        store.patience = 0
                        server.should_exit = True
                    elif isinstance(message, Answer | Fault):
                        link.receive(message)
                exit_without_cleanup(1)  # the server has died, and its successor needs the port

            tasks.start_soon(listen_to_server)
            tasks.start_soon(store.keep_usage)
            await server.run_until_exit()
            tasks.cancel_scope.cancel()


def main() -> None:
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    link, listener = (socket.socket(fileno=int(word)) for word in sys.argv[1:3])
    anyio.run(serve, link, listener)
    exit_without_cleanup(0)  # Python would take apart all modules, for a quarter of a second


if __name__ == "__main__":
    main()
