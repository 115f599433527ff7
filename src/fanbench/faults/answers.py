"""An answer over HTTP, before it is written to a connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

__all__ = ["HttpAnswer", "drop", "pieces_of", "whole"]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer over HTTP: its body is bytes, or pieces that come in their time.

    Pieces break off where they raise ConnectionFailed. `length` is the Content-Length; without it, pieces are sent
    in chunks. It may be wrong: if the body is shorter, the connection is closed after it.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | AsyncGenerator[bytes, None] = b""
    length: int | None = None

    @property
    def is_events(self) -> bool:
        return "text/event-stream" in self.header("content-type")

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers.items() if key.lower() == name), "")

    def all_headers(self) -> dict[str, str]:
        if self.length is not None:
            return {**self.headers, "Content-Length": str(self.length)}
        if isinstance(self.body, bytes):
            return {**self.headers, "Content-Length": str(len(self.body))}
        return {**self.headers, "Transfer-Encoding": "chunked"}


async def pieces_of(answer: HttpAnswer) -> AsyncGenerator[bytes, None]:
    """The body in its pieces; one, unless it comes in its time."""
    if isinstance(answer.body, bytes):
        yield answer.body
        return
    async with aclosing(answer.body) as pieces:
        async for piece in pieces:
            yield piece


async def whole(answer: HttpAnswer) -> HttpAnswer:
    """The answer once all of its body has come.

    Raises:
        ConnectionFailed: The body breaks off.
    """
    if isinstance(answer.body, bytes):
        return answer
    async with aclosing(answer.body) as pieces:
        return replace(answer, body=b"".join([piece async for piece in pieces]), length=None)


async def drop(answer: HttpAnswer) -> None:
    """Let nobody read the body."""
    if not isinstance(answer.body, bytes):
        await answer.body.aclose()
