"""A run's log as one async iterator, whether it is live, stored, or interrupted in between."""

from __future__ import annotations

import codecs
import json
import zlib
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
    LogCutOff,
    OddEntry,
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

__all__ = ["Doubts", "LogSource", "follow_log", "read_log"]

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
    read_on: bool = False,
    over: bool = False,
    missing: Callable[[], Awaitable[bool]] | None = None,
    probe: Callable[[], Awaitable[bool]] | None = None,
    persist: bool = True,
    retry: RetryPolicy = FOLLOW_RETRY,
) -> AsyncGenerator[LogEntry, None]:
    """Yield the run's log to its end, resuming a stream that breaks without losing or repeating text.

    Entries that arrive together are merged (see `Client.logs`). A stream that ends in good order is taken for
    the end of the run, unless `ended` (which may ask for the run's state) returns False: it is then opened again.
    It may have ended too early even if the run has ended since. With `read_on`, a log that was opened before the run
    was known to have ended is therefore opened once more after that, when it is stored, and read on. `over`: the run
    is known to have ended from the start. Close the generator (`aclosing`) when leaving early.

    A garbled entry may have been damaged on its way, so the log is opened again. If the same comes again, it is what
    the server has, and is passed on. An event that comes twice in a row, with the same time, is passed on once.

    A run has no log while it is queued, and for a moment after. `missing()` is then called: it waits until it is
    time to try again, and returns False if that is pointless. Without it, a missing log is an error.

    A stream that is silent for `PROBE_AFTER` seconds may be that of a run that has ended: `probe()` returns whether it
    has. The log is then read once more, because it should be stored and have an end. Otherwise the stream is opened
    again, and may be silent for twice as long. Without `probe`, this happens after `SILENCE` seconds.

    The client itself repeats a call that the server answers with an error. Without `persist`, nothing more is tried
    after that before the log has begun: somebody is looking at an empty screen.

    Raises:
        NotFound: The server has no log of the run (yet).
        ConnectionFailed: The log does not end, although its run has. Or entries were garbled or repeated, and what
            was passed on is not what is stored.
        FanbenchError: The stream failed as often in a row, without new text, as `retry` allows.
    """
    position, doubts, failures, found = _Position(), Doubts(client.config.endpoint), 0, False
    silence, silent_again = SILENCE if probe is None else PROBE_AFTER, False
    while True:
        begun, before = anyio.current_time(), position.total
        error: FanbenchError = ConnectionFailed(
            f"The log of run {run_id} ended, but the run has not.", endpoint=client.config.endpoint
        )
        doubts.reopened()
        try:
            async with aclosing(client.logs(run_id, silence=silence, merge=True)) as entries:
                async for entry in entries:
                    whole = doubts.resolve(entry)
                    if whole is not None and (new := position.new_part(whole)) is not None:
                        yield new
            found = True
            if ended is None or over:
                break
            if await ended():
                if not read_on:
                    return
                over = True
                position.rewind()
                debug("log read on", run=run_id)
                continue
        except FanbenchError as failure:
            if not isinstance(failure, NotFound) and not may_retry(failure, protocol.GET_LOGS):
                raise
            error = failure
        if isinstance(error, NotFound | NeverSent) and not (position.total or found):
            if isinstance(error, NeverSent) or missing is None or not await missing():
                raise error
            failures = 0
            continue
        if isinstance(error, ApiError) and not (persist or position.total or found):
            raise error
        if probe is not None and server_load(error) is ServerLoad.OVERLOADED:  # It timed out.
            if silent_again:
                message = f"The log of run {run_id} does not end, although the run has."
                raise ConnectionFailed(message, endpoint=client.config.endpoint) from error
            over = silent_again = await probe()
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
    if doubts.left and position.differs:
        raise ConnectionFailed(
            f"The live log of run {run_id} was damaged on its way: it is not what the server has stored.",
            endpoint=client.config.endpoint,
            hint="Read the log again, now that the run has ended.",
        )


class Doubts:
    """Decides what to do with odd entries (`OddEntry`) of a log that may be opened more than once.

    `left`: something odd was passed on, or left out, in good faith.
    """

    def __init__(self, endpoint: str) -> None:
        self.left = False
        self._endpoint = endpoint
        #: The first garbled text of the opening before, and of this one.
        self._before: str | None = None
        self._first: str | None = None

    def reopened(self) -> None:
        """The log is read from its start."""
        self._before, self._first = self._first, None

    def resolve(self, entry: LogEntry) -> LogEntry | None:
        """Return the entry, or `None` for one that is repeated.

        Raises:
            ConnectionFailed: The entry is garbled, and was not so in the opening before.
        """
        if not isinstance(entry, OddEntry) or entry.why == "text":
            return entry
        self.left = True
        if entry.why == "repeated":
            return None
        if self._first is None:
            self._first = entry.data
            # The same text may have come in other pieces. Nulls are no text, however often they come.
            is_text = bool(entry.data.replace("null", "").strip("[], \r\n\t"))
            before = self._before
            same = before is not None and (before.startswith(entry.data) or entry.data.startswith(before))
            if not (same and is_text):
                raise ConnectionFailed("The log has an entry that cannot be read.", endpoint=self._endpoint)
        return entry


class _Position:
    """How much of each stream has been passed on.

    Counted in characters, not in entries: the server replays from the start, and a stored log may be cut into
    other entries than the live one was. The stream `None` is all of them: a log in plain text has no others.
    """

    def __init__(self) -> None:
        self._passed = _Texts()
        #: What comes again, and what of it is still to come.
        self._expected: dict[str | None, int] = {}
        self._skip: dict[str | None, int] = {}
        self._again = _Texts()

    @property
    def total(self) -> int:
        """How many characters have been passed on."""
        return self._passed.lengths[None]

    def rewind(self) -> None:
        """Expect the text that was passed on to come once more."""
        self._skip = dict(self._passed.lengths)
        self._expected = dict(self._passed.checksums)
        self._again = _Texts()

    def new_part(self, entry: LogEntry) -> LogEntry | None:
        has_streams = not (isinstance(entry, OddEntry) and entry.why == "text")
        stream = entry.stream_name if has_streams else None
        if self._skip and (skip := self._skip.get(stream, 0)):
            old = min(skip, len(entry.data))
            self._skip[stream] = skip - old
            self._again.add(stream, entry.data[:old])
            entry = LogEntry(stream_name=entry.stream_name, time=entry.time, data=entry.data[old:])
        if not entry.data:
            return None
        self._passed.add(entry.stream_name, entry.data)
        self._passed.add(None, entry.data)
        return entry

    @property
    def differs(self) -> bool:
        """Whether the text that came again was not the text that was passed on before."""
        return not any(
            all(self._again.checksums.get(stream) == self._expected.get(stream) for stream in streams)
            for streams in ({None}, self._expected.keys() - {None})
        )


class _Texts:
    """The number of characters, and a checksum, of the text of each stream."""

    def __init__(self) -> None:
        self.lengths: defaultdict[str | None, int] = defaultdict(int)
        self.checksums: defaultdict[str | None, int] = defaultdict(int)

    def add(self, stream: str | None, text: str) -> None:
        self.lengths[stream] += len(text)
        self.checksums[stream] = zlib.crc32(text.encode("utf-8", "surrogatepass"), self.checksums[stream])


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
            reader = StoredLogReader(merge=merge, must_be_json="json" in kind)
            async with aclosing(_stored_text(response, silence)) as pieces:
                async for text in pieces:
                    if "text/plain" in kind:
                        yield OddEntry(data=text, why="text")
                        continue
                    for value in reader.feed(text):
                        yield value if isinstance(value, LogEntry) else _entry(transport, response, value)
            for value in reader.close():
                yield _entry(transport, response, value)
    except LogCutOff as error:
        raise ConnectionFailed(f"The log broke off: {error}.", endpoint=transport.config.endpoint) from None
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
            count, before = 0, ""
            async for event in events:
                observed.event_came()
                for entry in entries_of_payload(event.data):
                    # The clock of a log is so fine that no two entries have the same time and text. At its start,
                    # it may stand at 0, as it does for ever on a server that has none.
                    repeated = event.data == before and (entry.time > 0 or count == 1)
                    if repeated and not isinstance(entry, OddEntry):
                        entry = OddEntry(
                            stream_name=entry.stream_name, time=entry.time, data=entry.data, why="repeated"
                        )
                    yield entry
                count, before = count + 1, event.data


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
