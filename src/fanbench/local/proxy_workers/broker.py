"""Answers in the server what one worker of the Model Proxy asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import anyio
import structlog

from fanbench.errors import LocalServerError
from fanbench.local.models import ModelFault
from fanbench.local.models.pool import ModelPool
from fanbench.local.models.upstream import ChatEndpoint
from fanbench.local.proxy_workers.link import (
    FROM_WORKER,
    Answer,
    Ask,
    Done,
    Fault,
    FromServer,
    Note,
    Ready,
    Take,
    messages_of,
    write,
)

__all__ = ["Broker"]

_log = structlog.get_logger(__name__)


class Broker:
    """Answers the messages of one worker.

    `note` appends a line to the log of a run. `ready` is called once the worker accepts requests, and `used` each time
    it says something.
    """

    def __init__(
        self,
        pool: ModelPool,
        note: Callable[[str, str], None],
        ready: Callable[[], None],
        used: Callable[[], None],
        writer: asyncio.StreamWriter,
    ) -> None:
        self._pool = pool
        self._note = note
        self._ready = ready
        self._used = used
        self._writer = writer
        self._asked: dict[int, anyio.CancelScope] = {}

    @property
    def busy(self) -> bool:
        """Whether the worker has or waits for something."""
        return bool(self._asked)

    def send(self, message: FromServer) -> None:
        """Tell the worker something. If it is gone, nobody needs to know."""
        if not self._writer.is_closing():
            write(self._writer, message)

    async def serve(self, reader: asyncio.StreamReader, gone: Callable[[], Awaitable[None]]) -> None:
        """Answer until the link ends, wait for `gone`, and take back what the worker had.

        A worker that died closes its connections to upstreams with its link, and `gone` is when it has closed all.
        """
        async with anyio.create_task_group() as tasks:
            async for message in messages_of(reader, FROM_WORKER):
                self._used()
                match message:
                    case Take() | Ask():
                        self._asked[message.id] = scope = anyio.CancelScope()
                        tasks.start_soon(self._answer, message, scope)
                    case Done():
                        if (asked := self._asked.get(message.id)) is not None:
                            asked.cancel()
                    case Note():
                        self._note(message.digest, message.text)
                    case Ready():
                        self._ready()
            await gone()
            tasks.cancel_scope.cancel()

    async def _answer(self, asked: Take | Ask, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await self._give(asked)
            except ModelFault as fault:
                self.send(Fault.of(asked.id, fault))
            except LocalServerError as error:  # models.toml is invalid
                self.send(Fault(id=asked.id, status=500, message=str(error)))
            except Exception:  # noqa: BLE001 - one request must not end the others
                _log.exception("the Model Proxy failed", model=asked.model)
                self.send(Fault(id=asked.id, status=500, message=f"model {asked.model}: the server failed"))
        del self._asked[asked.id]

    async def _give(self, asked: Take | Ask) -> None:
        spec = self._pool.catalog.find(asked.model)
        if spec is None:
            raise ModelFault(f"model {asked.model} has just been removed", status=404)
        engine = self._pool.engine(spec)
        if isinstance(asked, Take):
            if not isinstance(engine, ChatEndpoint):
                raise ModelFault(f"model {asked.model} has just been changed", status=503, retry_after="1")
            async with engine.slot():
                self.send(Answer(asked.id))
                await anyio.sleep_forever()
        elif asked.stream:
            async with aclosing(engine.stream(asked.request)) as chunks:
                async for chunk in chunks:
                    self.send(Answer(asked.id, chunk))
                    await self._writer.drain()
            self.send(Answer(asked.id))
        else:
            self.send(Answer(asked.id, await engine.complete(asked.request)))
