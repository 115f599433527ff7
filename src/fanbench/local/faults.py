"""Answers of the local server that fail on purpose (`serve --faults`), in front of the application."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fanbench.errors import ConnectionFailed
from fanbench.faults.answers import HttpAnswer, pieces_of
from fanbench.faults.damage import http_date
from fanbench.faults.fault import API_CALLS, ApiCall, connection_lost
from fanbench.faults.files import FaultPlan
from fanbench.faults.injector import FaultInjector, Hit
from fanbench.local.connections import transport_of

__all__ = ["FaultyApp"]


class FaultyApp:
    """An application some of whose answers fail. Faults count the seconds since the first call.

    The server must not add a `Date` of its own: some faults change it.
    """

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._injector = FaultInjector(plan.faults, plan.seed)
        self._began: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = _call_of(scope)
        hit = self._choose(call) if call is not None else None
        if call is None or (hit is None and not self._injector.remembers(call)):
            await self._app(scope, receive, partial(_send_dated, send))
            return
        async with anyio.create_task_group() as tasks:
            request = _Request(self._app, scope, receive, tasks)
            work = request.answer
            if hit is not None and hit.fault.replaces_answer:
                work = partial(self._injector.stand_in, hit, call, work)
            try:
                answer = await self._injector.respond(hit, call, request.body, work)
                tasks.start_soon(_end_with_client, tasks, receive)
                await _send_answer(answer, scope, receive, send)
            except ConnectionFailed:
                transport_of(scope).abort()
                await _disconnected(receive)
            tasks.cancel_scope.cancel()

    def _choose(self, call: ApiCall | Literal["model"]) -> Hit | None:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        return self._injector.choose(call, now - self._began)


def _call_of(scope: Scope) -> ApiCall | Literal["model"] | None:
    if scope["type"] != "http":
        return None
    path: str = scope["path"]
    return "model" if path.startswith("/models/") else API_CALLS.get(path.removeprefix("/api"))


class _Request:
    """A request that the application answers in a task of its own, so that its answer can be held back."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, tasks: TaskGroup) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._tasks = tasks
        self._body = bytearray()

    def body(self) -> bytes:
        """The body, as far as the application has read it."""
        return bytes(self._body)

    async def answer(self) -> HttpAnswer:
        sent, messages = anyio.create_memory_object_stream[Message]()

        async def run() -> None:
            async with sent:
                await self._app(self._scope, self._read, sent.send)

        self._tasks.start_soon(run)
        try:
            start = await messages.receive()
        except anyio.EndOfStream:  # the client is gone, and the application has given up
            raise connection_lost() from None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        length = headers.pop("content-length", None)
        return HttpAnswer(start["status"], headers, _body(messages), int(length) if length else None)

    async def _read(self) -> Message:
        message = await self._receive()
        self._body += message.get("body", b"")
        return message


async def _body(messages: MemoryObjectReceiveStream[Message]) -> AsyncGenerator[bytes, None]:
    async with messages:
        async for message in messages:
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return


async def _send_answer(answer: HttpAnswer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the answer, whose length may be wrong.

    Raises:
        ConnectionFailed: The connection is to break here.
    """
    length = len(answer.body) if isinstance(answer.body, bytes) and answer.length is None else answer.length
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await _send_dated(send, {"type": "http.response.start", "status": answer.status, "headers": headers})
    missing = length
    async with aclosing(pieces_of(answer)) as pieces:
        async for piece in pieces:
            part = piece if missing is None else piece[:missing]
            missing = None if missing is None else missing - len(part)
            await send({"type": "http.response.body", "body": part, "more_body": missing != 0})
            if missing == 0:
                transport_of(scope).write(piece[len(part) :])
                return
    if missing:
        transport_of(scope).close()
        await _disconnected(receive)
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_dated(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = list(message.get("headers", []))
        if not any(name.lower() == b"date" for name, _ in headers):
            headers.append((b"date", http_date(time.time()).encode()))
        message = {**message, "headers": headers}
    await send(message)


async def _end_with_client(tasks: TaskGroup, receive: Receive) -> None:
    """End everything for a client that is gone: silence and drips could go on for an hour."""
    await _disconnected(receive)
    tasks.cancel_scope.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
