"""What the server and a worker tell each other, and how it is written on the socket between them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec

from fanbench._util.frames import framed, read_frame
from fanbench.local.models import ModelFault
from fanbench.local.models.recordings import NotRecorded

__all__ = [
    "FROM_SERVER",
    "FROM_WORKER",
    "Answer",
    "Ask",
    "Done",
    "Fault",
    "FromServer",
    "FromWorker",
    "Note",
    "Ready",
    "Setup",
    "Stop",
    "Take",
    "messages_of",
    "open_link",
    "write",
]

# A request with images may be as large as the Model Proxy accepts; a part of it that waits to be read is no more.
_BUFFER = 1 << 20

T = TypeVar("T")


class Setup(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message to a worker."""

    data: str
    """The data folder of the server."""
    database: str
    """The URL of its database; if empty, it is in the data folder."""
    aliases: dict[str, str]
    judge: str
    recorded: bool
    """Whether the answers of models are recorded or replayed, which the server does."""
    names: list[str]
    """The names by which clients may call the server."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Accept no more requests, and end when those in progress have, soon."""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to a request of the worker, or a chunk of it; None after the last chunk."""

    id: int
    content: dict[str, Any] | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A model could not answer."""

    id: int
    status: int
    message: str
    retry_after: str | None = None
    not_recorded: bool = False

    @staticmethod
    def of(number: int, fault: ModelFault) -> Fault:
        return Fault(
            id=number,
            status=fault.status,
            message=fault.message,
            retry_after=fault.retry_after,
            not_recorded=isinstance(fault, NotRecorded),
        )

    def error(self) -> ModelFault:
        kind = NotRecorded if self.not_recorded else ModelFault
        return kind(self.message, status=self.status, retry_after=self.retry_after)


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker accepts requests."""


class Take(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker wants a slot for a request to an upstream. The answer is the slot, until `Done`."""

    id: int
    model: str


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker wants the answer of a model that is in the server, as a whole or in chunks."""

    id: int
    model: str
    request: dict[str, Any]
    stream: bool


class Done(msgspec.Struct, frozen=True, tag=True):
    """The worker needs no more of what it has asked for with this id, whether or not it has come."""

    id: int


class Note(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A line for the log of the run with the key of this digest."""

    digest: str
    text: str


FromServer = Setup | Stop | Answer | Fault
FromWorker = Ready | Take | Ask | Done | Note

FROM_SERVER: msgspec.json.Decoder[FromServer] = msgspec.json.Decoder(FromServer)
FROM_WORKER: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)


async def open_link(end: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The streams of one end of a pair of sockets, which they own from now on."""
    return await asyncio.open_unix_connection(sock=end, limit=_BUFFER)


def write(writer: asyncio.StreamWriter, message: FromServer | FromWorker) -> None:
    """Send a message, without waiting: it is kept until the other end reads it."""
    writer.write(framed(msgspec.json.encode(message)))


async def messages_of(reader: asyncio.StreamReader, decoder: msgspec.json.Decoder[T]) -> AsyncIterator[T]:
    """The messages of the other end, until it has closed the link or died."""
    try:
        while True:
            yield decoder.decode(await read_frame(reader.readexactly))
    except (asyncio.IncompleteReadError, ConnectionError):
        return
