"""A run's log as one async iterator, whether it is live, stored, or interrupted in between."""

from __future__ import annotations

import codecs
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, cast

import anyio

from fanbench._util.debug_log import debug
from fanbench.config import Config
from fanbench.errors import ApiError, ConnectionFailed, FanbenchError, NotFound
from fanbench.wire import protocol
from fanbench.wire.log_decoder import (
    EntryTooLong,
    StoredLogReader,
    check_length,
    entries_of_payload,
    entry_of,
)
from fanbench.wire.messages import LogEntry, RunRequest
from fanbench.wire.responses import error_in, error_of, invalid_answer
from fanbench.wire.retry import NeverSent, RetryPolicy, ServerLoad, may_retry, server_load
from fanbench.wire.transport import ERROR_BODY_LIMIT, Transport, pieces_of, read_at_most

if TYPE_CHECKING:
    import httpx

__all__ = ["LogSource", "follow_log", "read_log"]

# Seconds without data after which a stream is opened again. A model may think for minutes without a line of log, but
# a connection that was lost unnoticed looks the same.
SILENCE = 300.0
# Seconds without text after which somebody who can tell is asked whether the run has ended.
PROBE_AFTER = 15.0
# Seconds after which the end of a stream no longer counts as one more failure in a row.
HEALTHY = 60.0
# A stored log that brings fewer characters per second is given up, as one that is silent.
SLOWEST_STORED = 1000.0
FOLLOW_RETRY = RetryPolicy(attempts=5, connect_attempts=5, base=1.0, cap=30.0)


class LogSource(Protocol):
    """What `follow_log` needs of a client."""

    @property
    def config(self) -> Config: ...
    def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]: ...


async def follow_log(
    client: LogSource,
    run_id: int,
    *,
    ended: Callable[[], Awaitable[bool]] | None = None,
    missing: Callable[[], Awaitable[bool]] | None = None,
    probe: Callable[[], Awaitable[bool]] | None = None,
    persist: bool = True,
    retry: RetryPolicy = FOLLOW_RETRY,
) -> AsyncGenerator[LogEntry, None]:
    """Yield the run's log to its end, resuming a stream that breaks without losing or repeating text.

    Entries that arrive together are merged (see `Client.logs`). A stream that ends in good order is taken for
    the end of the run, unless `ended` (which may ask for the run's state) returns False. Close the generator
    (`aclosing`) when leaving early.

    A run has no log while it is queued, and for a moment after. `missing()` is then called: it waits until it is
    time to try again, and returns False if that is pointless. Without it, a missing log is an error.

    A stream that is silent for `PROBE_AFTER` seconds may be that of a run that has ended: `probe()` returns whether it
    has. The log is then read once more, because it should be stored and have an end. Otherwise the stream is opened
    again, and may be silent for twice as long. Without `probe`, this happens after `SILENCE` seconds.

    The client itself repeats a call that the server answers with an error. Without `persist`, nothing more is tried
    after that before the log has begun: somebody is looking at an empty screen.

    Raises:
        NotFound: The server has no log of the run (yet).
        ConnectionFailed: The log does not end, although its run has.
        FanbenchError: The stream failed as often in a row, without new text, as `retry` allows.
    """
    position, failures = _Position(), 0
    silence, over = SILENCE if probe is None else PROBE_AFTER, False
    while True:
        begun, before = anyio.current_time(), position.total
        error: FanbenchError = ConnectionFailed(
            f"The log of run {run_id} ended, but the run has not.", endpoint=client.config.endpoint
        )
        try:
            async with aclosing(client.logs(run_id, silence=silence, merge=True)) as entries:
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
            if isinstance(error, NeverSent) or missing is None or not await missing():
                raise error
            failures = 0
            continue
        if isinstance(error, ApiError) and not (persist or position.total):
            raise error
        if probe is not None and server_load(error) is ServerLoad.OVERLOADED:  # It timed out.
            if over:
                message = f"The log of run {run_id} does not end, although the run has."
                raise ConnectionFailed(message, endpoint=client.config.endpoint) from error
            over = await probe()
            silence = PROBE_AFTER if over else min(2 * silence, SILENCE)
            debug("log silent", run=run_id, ended=over)
            position.rewind()
            continue
        progress = position.total > before or anyio.current_time() - begun >= HEALTHY
        failures = 1 if progress else failures + 1
        if failures >= retry.attempts:
            raise error
        position.rewind()
        debug("log resumed", run=run_id, failures=failures, error=str(error))
        await anyio.sleep(retry.backoff(failures))


class _Position:
    """How much of each stream has been passed on.

    Counted in characters, not in entries: the server replays from the start, and a stored log may be cut into
    other entries than the live one was.
    """

    def __init__(self) -> None:
        self._passed: defaultdict[str, int] = defaultdict(int)
        self._skip: dict[str, int] = {}
        self.total = 0

    def rewind(self) -> None:
        """Expect the text that was passed on to come once more."""
        self._skip = dict(self._passed)

    def new_part(self, entry: LogEntry) -> LogEntry | None:
        if self._skip and (skip := self._skip.get(entry.stream_name, 0)):
            old = min(skip, len(entry.data))
            self._skip[entry.stream_name] = skip - old
            entry = LogEntry(stream_name=entry.stream_name, time=entry.time, data=entry.data[old:])
        if not (length := len(entry.data)):
            return None
        self._passed[entry.stream_name] += length
        self.total += length
        return entry


# --- One response ---------------------------------------------------------------------------------------


async def read_log(
    transport: Transport, run_id: int, *, silence: float | None = None, merge: bool = False
) -> AsyncGenerator[LogEntry, None]:
    """Yield the entries of one response; see `Client.logs`."""
    headers = {"Accept": "text/event-stream, application/json, text/plain"}
    stream = transport.stream(
        protocol.GET_LOGS,
        RunRequest(run_id=run_id),
        transport.limits.streams,
        headers=headers,
        silence=silence,
    )
    try:
        async with stream as response:
            kind = response.headers.get("content-type", "")
            if "text/event-stream" in kind:
                async with aclosing(_events(response, silence)) as entries:
                    async for entry in entries:
                        yield entry
                return
            if "html" in kind:  # the page of a proxy, which would pass for the text of a log
                body = await read_at_most(response, ERROR_BODY_LIMIT)
                raise error_of(transport.config, protocol.GET_LOGS, response, body, "expected a log")
            reader = StoredLogReader(merge=merge)
            async with aclosing(_stored_text(response, silence)) as pieces:
                async for text in pieces:
                    if "text/plain" in kind:
                        yield LogEntry(data=text)
                        continue
                    for value in reader.feed(text):
                        yield value if isinstance(value, LogEntry) else _entry(transport, response, value)
            for value in reader.close():
                yield _entry(transport, response, value)
    except EntryTooLong as error:
        raise invalid_answer(protocol.GET_LOGS, str(error)) from None


def _entry(transport: Transport, response: httpx.Response, value: object) -> LogEntry:
    """Raise the error that `value` is: a 200 may carry one in its body, here as everywhere."""
    if isinstance(value, dict) and "code" in value and "data" not in value:
        body = json.dumps(value).encode()
        error = error_in(transport.config, protocol.GET_LOGS, response, body)
        if error is not None:
            raise error
    return entry_of(value)


async def _events(response: httpx.Response, silence: float | None) -> AsyncGenerator[LogEntry, None]:
    from httpx_sse import EventSource

    async with aclosing(_text(response, end="\n\n")) as text:
        observed = _ObservedText(response, text, silence)
        source = EventSource(cast("httpx.Response", observed))
        async with aclosing(observed.text), aclosing(source.aiter_sse()) as events:
            async for event in events:
                observed.event_came()
                for entry in entries_of_payload(event.data):
                    yield entry


class _ObservedText:
    """The part of a response that the reader of events uses, bounded in time and size.

    Its text ends in a blank line: the standard drops an event that no blank line follows, but the last line of a log
    must not get lost.
    """

    def __init__(
        self, response: httpx.Response, text: AsyncGenerator[str, None], silence: float | None
    ) -> None:
        self.headers = response.headers
        self.text = self._observe(response, text, silence)
        self.event_came()

    def event_came(self) -> None:
        """Start over. Comments, which keep a connection alive, are no events."""
        self._event_at, self._length = anyio.current_time(), 0

    def aiter_text(self) -> AsyncGenerator[str, None]:
        return self.text

    async def _observe(
        self, response: httpx.Response, text: AsyncGenerator[str, None], silence: float | None
    ) -> AsyncGenerator[str, None]:
        import httpx

        async for piece in text:
            self._length += len(piece)
            check_length(self._length)
            yield piece
            silent = anyio.current_time() - self._event_at
            if silence is not None and silent > silence:
                message = f"no event for {silent:.0f} s"
                raise httpx.ReadTimeout(message, request=response.request)


async def _stored_text(response: httpx.Response, silence: float | None) -> AsyncGenerator[str, None]:
    """Yield a stored log as text, unless its characters only drip: it needs to wait for nothing."""
    import httpx

    began, received = anyio.current_time(), 0
    async with aclosing(_text(response)) as pieces:
        async for text in pieces:
            yield text
            received += len(text)
            seconds = anyio.current_time() - began
            if silence is not None and seconds > silence:
                if received < SLOWEST_STORED * seconds:
                    message = f"only {received} characters within {seconds:.0f} s"
                    raise httpx.ReadTimeout(message, request=response.request)
                began, received = anyio.current_time(), 0


async def _text(response: httpx.Response, *, end: str = "") -> AsyncGenerator[str, None]:
    """Yield the body as text, then `end`. A task may write any bytes: invalid UTF-8 is replaced."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async with aclosing(pieces_of(response)) as pieces:
        async for piece in pieces:
            if text := decoder.decode(piece):
                yield text
    if text := decoder.decode(b"", final=True) + end:
        yield text
