"""A run's log as one async iterator, whether it is live, kept, or breaks off in between."""

from __future__ import annotations

import codecs
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import anyio

from fanbench._util.debug_log import debug
from fanbench.config import Config
from fanbench.errors import ConnectionFailed, FanbenchError, NotFound
from fanbench.wire import protocol
from fanbench.wire.log_decoder import EntryReader, entries_of_payload, entry_of, looks_like_json
from fanbench.wire.messages import LogEntry, RunRequest
from fanbench.wire.responses import error_in
from fanbench.wire.retry import NeverSent, RetryPolicy, may_retry
from fanbench.wire.transport import Transport, pieces_of

if TYPE_CHECKING:
    import httpx

__all__ = ["LogSource", "follow", "read_log"]

# A live log may be silent for long, while a model thinks; but a connection that died unnoticed is silent too.
SILENCE = 300.0
# A stream that held for so long was a good one: its end is not one more failure in a row.
HEALTHY = 60.0
FOLLOW_RETRY = RetryPolicy(attempts=5, connect_attempts=5, base=1.0, cap=30.0)


class LogSource(Protocol):
    """What `follow` needs of a client."""

    @property
    def config(self) -> Config: ...
    def logs(self, run_id: int, *, silence: float | None = None) -> AsyncGenerator[LogEntry, None]: ...


async def follow(
    client: LogSource,
    run_id: int,
    *,
    ended: Callable[[], Awaitable[bool]] | None = None,
    retry: RetryPolicy = FOLLOW_RETRY,
    silence: float = SILENCE,
) -> AsyncGenerator[LogEntry, None]:
    """The run's log to its end: a stream that breaks is taken up again, with no text lost or doubled.

    A stream that ends in good order is believed to be the run's end, unless `ended` (which may ask for the
    run's state) says no. Close it (`aclosing`) when leaving early.

    Raises:
        NotFound: the run is still queued, or there is no such run.
        FanbenchError: the last one, after as many failures without a new word as `retry` allows.
    """
    position, failures = _Position(), 0
    while True:
        begun, before = anyio.current_time(), position.total
        error: FanbenchError = ConnectionFailed(
            f"The log of run {run_id} ends, though the run goes on", endpoint=client.config.endpoint
        )
        try:
            async with aclosing(client.logs(run_id, silence=silence)) as entries:
                async for entry in entries:
                    if (new := position.new_part(entry)) is not None:
                        yield new
            if ended is None or await ended():
                return
        except FanbenchError as failure:
            if not isinstance(failure, NotFound) and not may_retry(failure, protocol.GET_LOGS):
                raise
            error = failure
        if isinstance(error, NotFound | NeverSent) and not position.total:
            raise error
        progress = position.total > before or anyio.current_time() - begun >= HEALTHY
        failures = 1 if progress else failures + 1
        if failures >= retry.attempts:
            raise error
        position.rewind()
        debug("log taken up again", run=run_id, failures=failures, error=str(error))
        await anyio.sleep(retry.backoff(failures))


class _Position:
    """How much of each stream has been passed on.

    Counted in characters, not in entries: the server replays from the start, and a log that is kept may be
    cut into other entries than the live one was.
    """

    def __init__(self) -> None:
        self._passed: defaultdict[str, int] = defaultdict(int)
        self._skip: dict[str, int] = {}
        self.total = 0

    def rewind(self) -> None:
        """From here on comes what was passed on already."""
        self._skip = dict(self._passed)

    def new_part(self, entry: LogEntry) -> LogEntry | None:
        if skip := self._skip.get(entry.stream_name, 0):
            old = min(skip, len(entry.data))
            self._skip[entry.stream_name] = skip - old
            entry = LogEntry(stream_name=entry.stream_name, time=entry.time, data=entry.data[old:])
        if not entry.data:
            return None
        self._passed[entry.stream_name] += len(entry.data)
        self.total += len(entry.data)
        return entry


# --- One answer of the server ---------------------------------------------------------------------------


async def read_log(
    transport: Transport, run_id: int, *, silence: float | None = None
) -> AsyncGenerator[LogEntry, None]:
    """The entries of one answer; see `Client.logs`."""
    headers = {"Accept": "text/event-stream, application/json, text/plain"}
    request = RunRequest(run_id=run_id)
    stream = transport.stream(
        protocol.GET_LOGS, request, transport.limits.streams, headers=headers, silence=silence
    )
    async with stream as response, aclosing(_entries(transport, response)) as entries:
        async for entry in entries:
            yield entry


def _entries(transport: Transport, response: httpx.Response) -> AsyncGenerator[LogEntry, None]:
    kind = response.headers.get("content-type", "")
    if "text/event-stream" in kind:
        return _events(response)
    if "text/plain" in kind:
        return _plain(response)
    return _kept(transport, response)


async def _events(response: httpx.Response) -> AsyncGenerator[LogEntry, None]:
    from httpx_sse import EventSource

    async with aclosing(_text(response, end="\n\n")) as text:
        source = EventSource(cast("httpx.Response", _TextResponse(response.headers, text)))
        async with aclosing(source.aiter_sse()) as events:
            async for event in events:
                for entry in entries_of_payload(event.data):
                    yield entry


@dataclass(frozen=True, slots=True)
class _TextResponse:
    """What of a response the reader of events looks at; its text ends in a blank line.

    The standard drops an event that no blank line follows, but a log's last line must not get lost for that.
    """

    headers: Mapping[str, str]
    text: AsyncGenerator[str, None]

    def aiter_text(self) -> AsyncGenerator[str, None]:
        return self.text


async def _plain(response: httpx.Response) -> AsyncGenerator[LogEntry, None]:
    async with aclosing(_text(response)) as pieces:
        async for text in pieces:
            yield LogEntry(data=text)


async def _kept(transport: Transport, response: httpx.Response) -> AsyncGenerator[LogEntry, None]:
    """The log of a run that has ended: a JSON list, or else text as it is."""
    async with aclosing(_text(response)) as pieces:
        start, is_json = await _peek(pieces)
        if not is_json:
            if start:
                yield LogEntry(data=start)
            async for text in pieces:
                yield LogEntry(data=text)
            return
        reader = EntryReader()
        for value in reader.feed(start):
            yield _entry_or_error(transport, response, value)
        async for text in pieces:
            for value in reader.feed(text):
                yield _entry_or_error(transport, response, value)
        for value in reader.close():
            yield _entry_or_error(transport, response, value)


async def _peek(pieces: AsyncGenerator[str, None]) -> tuple[str, bool]:
    """The first words, as many as it takes to tell JSON from text, and which of them it is."""
    start = ""
    async for text in pieces:
        start += text
        if (is_json := looks_like_json(start)) is not None:
            return start, is_json
    return start, False


def _entry_or_error(transport: Transport, response: httpx.Response, value: object) -> LogEntry:
    """A 200 may carry an error in its body, here as everywhere."""
    if isinstance(value, LogEntry):
        return value
    if isinstance(value, dict) and "code" in value and "data" not in value:
        body = json.dumps(value).encode()
        error = error_in(transport.config, protocol.GET_LOGS, response.status_code, response.headers, body)
        if error is not None:
            raise error
    return entry_of(value)


async def _text(response: httpx.Response, *, end: str = "") -> AsyncGenerator[str, None]:
    """The body as text, then `end`. A task may write anything: what is no UTF-8 becomes a replacement sign."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async with aclosing(pieces_of(response)) as pieces:
        async for piece in pieces:
            if text := decoder.decode(piece):
                yield text
    if text := decoder.decode(b"", final=True) + end:
        yield text
