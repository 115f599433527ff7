"""A download into a file, resumed where it broke."""

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

from fanbench.errors import BadRequest, ConnectionFailed
from fanbench.wire.messages import Message
from fanbench.wire.protocol import Call
from fanbench.wire.responses import error_of, invalid_answer
from fanbench.wire.retry import Retry, ServerLoad, server_load
from fanbench.wire.transport import ERROR_BODY_LIMIT, Transport, pieces_of, read_at_most

if TYPE_CHECKING:
    import httpx

__all__ = ["ProgressCallback", "new_file", "transfer"]

ProgressCallback = Callable[[int, int | None], None]

BLOCK = 256 * 1024
# Downloads of up to this many bytes are kept in memory: most are, and a file costs more than all other steps.
IN_MEMORY = 1 << 20
# A body that brings fewer bytes in this many seconds is given up, as one that is silent: some servers and proxies send
# a byte now and then to keep a connection alive.
SLOW_AFTER = 30.0
SLOW_BYTES = 30 * 1024
# How often in a row a download may be slow or silent.
SLOW_TRIES = 3
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(slots=True)
class _State:
    """How far the download is. `tag` is empty if the server cannot resume in the middle."""

    most: int
    received: int = 0
    total: int | None = None
    tag: str = ""
    begun: bool = False


def new_file(folder: Path) -> IO[bytes]:
    """Return a file for a download: in memory while it is small, then in `folder`, without a name."""
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder)))


async def transfer(
    transport: Transport,
    call: Call,
    request: Message,
    file: IO[bytes],
    progress: ProgressCallback | None,
    *,
    max_bytes: int,
) -> None:
    """Download the complete body of the answer, of at most `max_bytes`, into `file`, which is a `new_file`.

    A download that breaks is resumed there if the server supports it, otherwise from the start. It may break
    as often in a row, without further progress, as the transport's policy allows, and `SLOW_TRIES` times if it was
    slow or silent. Each new try is reported to the policy's `on_retry`.

    Raises:
        ConnectionFailed: The download broke too often.
        BadAnswer: The answer is not a download, or has more bytes.
        OSError: The file cannot be written.
    """
    state, failures = _State(most=max_bytes), 0
    while True:
        before = state.received
        try:
            return await _attempt(transport, call, request, file, state, progress)
        except ConnectionFailed as error:
            advanced = state.tag and state.received - before >= SLOW_BYTES
            failures = 1 if advanced else failures + 1
            tries = transport.retry.attempts
            if server_load(error) is ServerLoad.OVERLOADED:
                tries = min(tries, SLOW_TRIES)
            # Failures before the body have had their own retries.
            if not state.begun or failures >= tries:
                raise
            pause = transport.retry.backoff(failures)
            transport.retry.report(Retry(call.method, failures, pause, error))
        await anyio.sleep(pause)


async def _attempt(
    transport: Transport,
    call: Call,
    request: Message,
    file: IO[bytes],
    state: _State,
    progress: ProgressCallback | None,
) -> None:
    # With compression, the announced length and ranges would not be those of the file.
    headers = {"Accept-Encoding": "identity"}
    if state.received and state.tag:
        # Ask for the rest of the same version, which only a strong ETag identifies.
        headers |= {"Range": f"bytes={state.received}-", "If-Range": state.tag}
    endpoint = transport.config.endpoint
    changed = ConnectionFailed(
        f"The download from {endpoint} changed while it was in progress.", endpoint=endpoint
    )
    state.begun = False
    try:
        async with transport.stream(
            call, request, transport.limits.downloads, headers=headers, silence=SLOW_AFTER
        ) as response:
            state.begun = True
            kind = response.headers.get("content-type", "")
            # Errors come as JSON and pages of other servers as HTML; a download is neither.
            if "json" in kind or "html" in kind:
                body = await read_at_most(response, ERROR_BODY_LIMIT)
                raise error_of(transport.config, call, response, body, "expected a zip file")
            start, state.total = _extent(response)
            if start is None or start > state.received:
                state.received, state.tag = 0, ""
                raise changed
            # A download can be resumed with a strong ETag, if the server serves ranges of these very bytes.
            tag = response.headers.get("etag", "")
            ranges = (
                response.headers.get("accept-ranges") == "bytes" or response.status_code == PARTIAL_CONTENT
            )
            resumable = ranges and tag.startswith('"') and "content-encoding" not in response.headers
            state.received, state.tag = start, tag if resumable else ""
            if file.tell():
                file.seek(start)
                await to_thread.run_sync(file.truncate)
            if not await _copy(response, file, state, progress):
                raise invalid_answer(call, f"the download has more than {state.most >> 20:,} MB")
    except BadRequest as error:
        if error.status != RANGE_NOT_SATISFIABLE:
            raise
        state.received, state.tag, state.begun = 0, "", True
        raise changed from error
    if state.total is not None and state.received != state.total:
        message = f"Only {state.received} of {state.total} bytes arrived from {endpoint}"
        raise ConnectionFailed(message, endpoint=endpoint)


def _extent(response: httpx.Response) -> tuple[int | None, int | None]:
    """Return where the body starts in the file, and the length of the file if it is known."""
    if response.status_code == PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None:
            return None, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("content-length", "")
    encoded = "content-encoding" in response.headers
    return 0, int(length) if length.isdecimal() and not encoded else None


def _too_slow(response: httpx.Response, received: int, seconds: float) -> httpx.ReadTimeout:
    import httpx

    message = f"only {received} bytes within {seconds:.0f} s"
    return httpx.ReadTimeout(message, request=response.request)


async def _copy(
    response: httpx.Response, file: IO[bytes], state: _State, progress: ProgressCallback | None
) -> bool:
    """Write the body in large blocks through a thread, so that a slow disk does not delay other downloads.

    Returns False, and leaves the rest, if the body has more bytes than it may have.
    """
    block = bytearray()

    async def flush() -> None:
        if file.tell() + len(block) <= IN_MEMORY:
            file.write(block)
        else:
            await to_thread.run_sync(file.write, bytes(block))
        block.clear()

    began, before = anyio.current_time(), state.received
    async with aclosing(pieces_of(response)) as pieces:
        try:
            async for piece in pieces:
                block += piece
                state.received += len(piece)
                if state.received > state.most:
                    return False
                if len(block) >= BLOCK:
                    await flush()
                if (now := anyio.current_time()) - began >= SLOW_AFTER:
                    if state.received - before < SLOW_BYTES:
                        raise _too_slow(response, state.received - before, now - began)
                    began, before = now, state.received
                if progress is not None:
                    progress(state.received, state.total)
        except Exception:
            await flush()  # What arrived is kept, and not asked for again.
            raise
    await flush()
    return True
