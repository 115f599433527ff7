"""An OpenAI-compatible endpoint that holds every request until it is told to answer, and counts those in progress."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

PATIENCE = 60.0
"""Seconds that a test waits for what must happen."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.02)


class Held:
    """A request that waits for its answer."""

    def __init__(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.body = body
        self.text: str = body["messages"][-1]["content"]
        self.answered = asyncio.Event()
        self._socket = writer.get_extra_info("socket")

    @property
    def gone(self) -> bool:
        """Whether the client has closed the connection, as far as this machine knows."""
        with socket.fromfd(self._socket.fileno(), self._socket.family, self._socket.type) as peeking:
            try:
                return not peeking.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True


class HeldUpstream:
    def __init__(self) -> None:
        self.url = ""
        self.held: list[Held] = []
        """The requests in progress, oldest first."""
        self.most = 0
        """The most requests that were in progress at the same time."""
        self.texts: list[str] = []
        """What was asked, in the order in which it came."""
        self._changed = asyncio.Condition()

    async def until(self, count: int) -> None:
        """Wait until so many requests are in progress."""
        with anyio.fail_after(PATIENCE):
            async with self._changed:
                await self._changed.wait_for(lambda: len(self.held) == count)

    async def until_asked(self, text: str) -> None:
        """Wait until a request with this text has come."""
        with anyio.fail_after(PATIENCE):
            async with self._changed:
                await self._changed.wait_for(lambda: text in self.texts)

    def answer(self, count: int = 1) -> None:
        """Answer the oldest requests."""
        for held in self.held[:count]:
            held.answered.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            held = Held(json.loads(await reader.readexactly(length)), writer)
            if await self._hold(held, reader):
                writer.write(_answer_to(held.body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _hold(self, held: Held, reader: asyncio.StreamReader) -> bool:
        """Whether the request is to be answered: its client has not gone before."""
        async with self._changed:
            self.held.append(held)
            self.texts.append(held.text)
            self.most = max(self.most, sum(not each.gone for each in self.held))
            self._changed.notify_all()
        answered, end = asyncio.ensure_future(held.answered.wait()), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([answered, end], return_when=asyncio.FIRST_COMPLETED)
            return answered.done()
        finally:
            for each in (answered, end):
                each.cancel()
            await asyncio.gather(answered, end, return_exceptions=True)
            async with self._changed:
                self.held.remove(held)
                self._changed.notify_all()


def _answer_to(body: dict[str, Any]) -> bytes:
    text = body["messages"][-1]["content"]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    answer: dict[str, Any] = {"id": "1", "object": "chat.completion", "usage": usage}
    kind = "application/json"
    if body.get("stream"):
        chunk = {**answer, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
        content, kind = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", "text/event-stream"
    else:
        message = {"role": "assistant", "content": text}
        content = json.dumps(
            {**answer, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        )
    head = f"content-type: {kind}\r\ncontent-length: {len(content)}\r\nconnection: close"
    return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{content}".encode()


@asynccontextmanager
async def held_upstream() -> AsyncIterator[HeldUpstream]:
    upstream = HeldUpstream()
    server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        server.close()
        for held in upstream.held:
            held.answered.set()
        with anyio.move_on_after(5):
            await server.wait_closed()
