"""A download into a file, taken up again where it broke off."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import anyio
from anyio import to_thread

from fanbench._util.debug_log import debug
from fanbench.errors import ApiError, BadRequest, ConnectionFailed
from fanbench.wire.messages import Message
from fanbench.wire.protocol import Call
from fanbench.wire.responses import error_in, unexpected
from fanbench.wire.transport import ERROR_BODY_LIMIT, Transport, pieces_of, read_at_most

if TYPE_CHECKING:
    import httpx

__all__ = ["Progress", "new_file", "transfer"]

Progress = Callable[[int, int | None], None]

BLOCK = 256 * 1024
# A download of so many bytes is kept in memory: most are, and a file costs more than all else on the way.
IN_MEMORY = 1 << 20
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(slots=True)
class _State:
    """How far the download is. `tag` is empty where the server cannot go on in the middle."""

    received: int = 0
    total: int | None = None
    tag: str = ""
    begun: bool = False

    def range_headers(self) -> dict[str, str]:
        """Ask for the rest, if it is the same thing still; without a strong ETag nobody can tell."""
        if not self.received or not self.tag:
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self.tag}

    def forget(self) -> None:
        self.received, self.tag = 0, ""


def new_file(folder: Path) -> IO[bytes]:
    """For a download: in memory as long as it is small, else in `folder`, without a name."""
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder)))


async def transfer(
    transport: Transport, call: Call, request: Message, file: IO[bytes], progress: Progress | None
) -> None:
    """The body of the answer, whole, into `file`, which is a `new_file`.

    One that breaks off is taken up where it broke, if the server can do that, else from the start; as often
    in a row without coming further as the transport's policy allows.

    Raises:
        ConnectionFailed: it broke off too often.
        BadAnswer: what came is no download.
        OSError: the file cannot be written.
    """
    state, failures = _State(), 0
    while True:
        before = state.received
        try:
            return await _attempt(transport, call, request, file, state, progress)
        except ConnectionFailed as error:
            failures = 1 if state.tag and state.received > before else failures + 1
            # Getting as far as the body has had its own retries.
            if not state.begun or failures >= transport.retry.attempts:
                raise
            debug("download broke off", method=call.method, received=state.received, error=str(error))
        await anyio.sleep(transport.retry.backoff(failures))


async def _attempt(
    transport: Transport,
    call: Call,
    request: Message,
    file: IO[bytes],
    state: _State,
    progress: Progress | None,
) -> None:
    # Compressed once more, the length would say nothing, and a range would mean nothing.
    headers = {"Accept-Encoding": "identity", **state.range_headers()}
    state.begun = False
    try:
        async with transport.stream(call, request, transport.limits.downloads, headers=headers) as response:
            state.begun = True
            await _refuse_others(transport, call, response)
            if not await _take_position(file, state, response):
                raise _changed(transport, state)
            await _copy(response, file, state, progress)
    except BadRequest as error:
        if error.status != RANGE_NOT_SATISFIABLE:
            raise
        state.begun = True
        raise _changed(transport, state) from error
    if state.total is not None and state.received != state.total:
        message = f"{state.received} of {state.total} bytes came from {transport.config.endpoint}"
        raise ConnectionFailed(message, endpoint=transport.config.endpoint)


def _changed(transport: Transport, state: _State) -> ConnectionFailed:
    """What we have is not the beginning of what there is now: start again."""
    state.forget()
    message = f"The download from {transport.config.endpoint} changed while it was under way"
    return ConnectionFailed(message, endpoint=transport.config.endpoint)


async def _refuse_others(transport: Transport, call: Call, response: httpx.Response) -> None:
    """Errors come as JSON, strangers' pages as HTML; a download comes as neither."""
    kind = response.headers.get("content-type", "")
    if "json" not in kind and "html" not in kind:
        return
    body = await read_at_most(response, ERROR_BODY_LIMIT)
    error: ApiError | None = error_in(transport.config, call, response.status_code, response.headers, body)
    raise error or unexpected(transport.config, call, response.status_code, body, "it is no zip")


async def _take_position(file: IO[bytes], state: _State, response: httpx.Response) -> bool:
    """Go on where the answer goes on: where it broke off, or at the start. False if it does so nowhere."""
    start, state.total = _extent(response)
    if start is None or start > state.received:
        return False
    state.received, state.tag = start, _strong_tag(response)
    if file.tell():
        await to_thread.run_sync(_cut, file, start)
    return True


def _cut(file: IO[bytes], size: int) -> None:
    file.seek(size)
    file.truncate()


def _extent(response: httpx.Response) -> tuple[int | None, int | None]:
    """Where the body starts in the whole, and the length of the whole where it is known."""
    if response.status_code == PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None:
            return None, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("content-length", "")
    encoded = "content-encoding" in response.headers
    return 0, int(length) if length.isdecimal() and not encoded else None


def _strong_tag(response: httpx.Response) -> str:
    tag: str = response.headers.get("etag", "")
    can_go_on = response.headers.get("accept-ranges") == "bytes" or response.status_code == PARTIAL_CONTENT
    encoded = "content-encoding" in response.headers
    return tag if can_go_on and tag.startswith('"') and not encoded else ""


async def _copy(response: httpx.Response, file: IO[bytes], state: _State, progress: Progress | None) -> None:
    """Writes go through a thread, so that a slow disk does not hold up the other downloads; in large blocks,
    because each way there and back costs more than the writing."""
    block = bytearray()
    async with aclosing(pieces_of(response)) as pieces:
        try:
            async for piece in pieces:
                block += piece
                state.received += len(piece)
                if len(block) >= BLOCK:
                    await _flush(file, block)
                if progress is not None:
                    progress(state.received, state.total)
        except Exception:
            await _flush(file, block)  # what came counts, and is not asked for again
            raise
    await _flush(file, block)


async def _flush(file: IO[bytes], block: bytearray) -> None:
    if file.tell() + len(block) <= IN_MEMORY:
        file.write(block)
    else:
        await to_thread.run_sync(file.write, bytes(block))
    block.clear()
