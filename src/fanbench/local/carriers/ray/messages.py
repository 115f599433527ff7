"""What the server, the driver and the workers say to each other: MessagePack, never pickled objects."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import msgspec

from fanbench.local.carriers.job import NotebookJob, Outcome
from fanbench.local.executor import Isolation, Protection
from fanbench.version import __version__

__all__ = [
    "Accepted",
    "Alive",
    "Beat",
    "Began",
    "Cancel",
    "Connected",
    "Ended",
    "Finished",
    "Message",
    "NoConnection",
    "Notice",
    "Order",
    "Piece",
    "Refused",
    "Request",
    "Said",
    "Submit",
    "Unprotected",
    "Vanished",
    "Wrote",
    "decode_message",
    "decode_notice",
    "decode_order",
    "decode_request",
    "encode",
    "versions",
]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is asked for."""

    job: NotebookJob
    isolation: Isolation
    alive_every: float
    """Seconds between two signs of life."""
    return_output: bool
    """Whether the zip of the run's output is to come back."""
    datasets: str
    """The server's folder of datasets, for workers that have no other."""
    hidden: list[str]
    """Folders that runs are not to see, on a worker that has them."""


# --- from the worker to the server, through the driver ------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The first message: a worker has the job, and signs of life follow."""

    node: str
    has_token: bool
    """Whether Ray serves only those who have its token there."""


class Unprotected(msgspec.Struct, frozen=True, tag="unprotected"):
    """What runs on this worker cannot have of their own, and why."""

    what: Protection
    reason: str


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The job has left the queue."""


class Wrote(msgspec.Struct, frozen=True, tag="wrote"):
    """Output of the run: names of streams, each with bytes; without any at the end of the stream."""

    pieces: list[tuple[str, bytes]]


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    pass


class Piece(msgspec.Struct, frozen=True, tag="piece"):
    """The next bytes of the zip with the run's output."""

    data: bytes


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last message of a job that was carried out."""

    outcome: Outcome


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The last message of a job that could not be carried out."""

    reason: str
    hint: str | None = None


class Vanished(msgspec.Struct, frozen=True, tag="vanished"):
    """The last message of a job whose run was lost on a worker that still lives. The reason has no period."""

    reason: str


Message = Accepted | Unprotected | Began | Wrote | Alive | Piece | Finished | Refused | Vanished


# --- between the server and the driver ----------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    id: int
    request: bytes


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """End a job; with `force`, by killing the process of its worker."""

    id: int
    force: bool = False


Order = Submit | Cancel


class Connected(msgspec.Struct, frozen=True, kw_only=True, tag="connected"):
    has_token: bool
    """Whether Ray was called with a token."""
    ray: str
    """Its version."""
    machines: int
    """How many nodes carry out runs, and how many processors they have together."""
    cpus: int


class NoConnection(msgspec.Struct, frozen=True, tag="no connection"):
    reason: str


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A sign of life of the driver."""


class Said(msgspec.Struct, frozen=True, tag="said"):
    """A message of a worker."""

    id: int
    message: bytes


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """Nothing more comes of a job."""

    id: int
    lost: str = ""
    """Why it was lost, if it was."""
    refused: str = ""
    """Why Ray could not carry it out on any worker, if so."""


Notice = Connected | NoConnection | Beat | Said | Ended

encode = msgspec.msgpack.Encoder().encode
decode_request: Callable[[bytes], Request] = msgspec.msgpack.Decoder(Request).decode
decode_message: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode
decode_order: Callable[[bytes], Order] = msgspec.msgpack.Decoder(Order).decode
decode_notice: Callable[[bytes], Notice] = msgspec.msgpack.Decoder(Notice).decode


def versions() -> dict[str, str]:
    """What must be the same on the server and on its workers: messages and results depend on it."""
    return {"fanbench": __version__, "kaggle-benchmarks": metadata.version("kaggle-benchmarks")}
