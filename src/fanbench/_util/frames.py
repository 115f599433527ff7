"""Messages in a stream of bytes, such as a pipe: each after its length."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

__all__ = ["framed", "read_frame"]

# The bytes of the length before each message.
_LENGTH = 4


def framed(message: bytes) -> bytes:
    """The message as it goes through the stream. It may have up to 4 GB."""
    return len(message).to_bytes(_LENGTH, "big") + message


async def read_frame(read_exactly: Callable[[int], Awaitable[bytes]]) -> bytes:
    """The next message. `read_exactly` reads a number of bytes, and raises if the stream ends before."""
    return await read_exactly(int.from_bytes(await read_exactly(_LENGTH), "big"))
