"""Live logs: a fixed number of readers, each of which follows one run after another.

A log that was read live without a break, to the end of its run, is the whole log. Any other is read again when
its run has ended, so that what is kept is byte for byte what the finished log says.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import anyio

from fanbench.errors import FanbenchError, NotFound
from fanbench.operations.api import Api
from fanbench.operations.log_file import LogFile
from fanbench.sweeps._engine.board import Board
from fanbench.sweeps._engine.book import Flight, Stream
from fanbench.sweeps._engine.shared import Shared
from fanbench.sweeps._engine.signals import Queue
from fanbench.sweeps.artifacts import log_part
from fanbench.sweeps.events import LogLine
from fanbench.wire.log_lines import Lines
from fanbench.wire.messages import LogEntry, RunState
from fanbench.wire.retry import FailureKind, failure_kind

__all__ = ["Listener", "LogReaders", "Teller", "reaches_the_end"]

# Seconds after the end of a stream in which its run must be seen to have ended; else the stream ended early.
_LAG = 5.0
# The times of a log and those of its run may differ by so many seconds.
_SLACK = 0.5
# So often a running run may have no log, before it is left to its end: for a minute, as the pauses double from 1 s.
_MISSES = 7


class Listener(Protocol):
    """Who wants to know of the end of a stream."""

    def stream_ended(self) -> None: ...
    def stream_missed(self) -> None: ...


class Teller:
    """Passes the lines of a log on as events, each once, however often the log is read from its start."""

    def __init__(self, shared: Shared, flight: Flight) -> None:
        self._shared = shared
        self._flight = flight
        self._lines = Lines()
        self._skip = flight.said

    async def feed(self, entry: LogEntry) -> None:
        """Returns when there is room for more."""
        self._tell(self._lines.feed(entry))
        await self._shared.room()

    def end(self) -> None:
        """The log is whole: what has no end is its last line."""
        self._tell(self._lines.flush())

    def _tell(self, lines: list[str]) -> None:
        new, self._skip = lines[self._skip :], max(0, self._skip - len(lines))
        flight = self._flight
        flight.said += len(new)
        for line in new:
            self._shared.emit(LogLine(flight.planned_run, flight.attempt.number, flight.run_id, line))


class LogReaders:
    """`offer` gives them a run that has begun to run."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._queue: Queue[tuple[Flight, Listener]] = Queue()

    def offer(self, flight: Flight, listener: Listener) -> None:
        self._set(flight, Stream.OPEN if self._queue.idle else Stream.WAITING)
        self._queue.put((flight, listener))

    async def work(self) -> None:
        """One reader, for ever."""
        while True:
            flight, listener = await self._queue.get()
            if flight.gone:
                # Its run ended while it waited here: the finished log will do.
                self._close(flight, Stream.CLOSED)
                continue
            self._set(flight, Stream.OPEN)
            await self._read(flight, listener)

    async def _read(self, flight: Flight, listener: Listener) -> None:
        flight.landed = anyio.Event()
        source, part, after = _Source(self._shared.client), self._part(flight), Stream.CLOSED
        whole = False
        try:
            with anyio.CancelScope() as flight.scope:
                await self._follow(flight, listener, source, part)
                whole = flight.over and source.opened == 1 and not flight.doubted
                whole = whole and reaches_the_end(source.ahead, source.ended_at, flight.seconds)
        except FanbenchError as error:
            after = _after(error, flight)
        flight.scope = None
        if whole:
            flight.part = part
        else:
            await self._shared.offload(part.drop)
        was_open = not flight.gone and flight.stream is Stream.OPEN
        self._close(flight, after)
        if was_open:
            (listener.stream_missed if after is Stream.NONE else listener.stream_ended)()

    async def _follow(self, flight: Flight, listener: Listener, source: _Source, part: LogFile) -> None:
        from fanbench.wire.log_stream import follow

        async def ended() -> bool:
            return await self._is_over(flight, listener)

        teller = Teller(self._shared, flight)
        async with aclosing(follow(source, flight.run_id, ended=ended)) as entries:
            async for entry in entries:
                await part.write(entry.data)
                await teller.feed(entry)
        teller.end()

    async def _is_over(self, flight: Flight, listener: Listener) -> bool:
        """The stream has ended in good order; whether its run has, too, only a list can say."""
        assert flight.landed is not None
        if flight.gone:
            return True
        self._set(flight, Stream.ENDING)
        flight.ending_since = anyio.current_time()
        listener.stream_ended()
        with anyio.move_on_after(_LAG):
            await flight.landed.wait()
        if flight.gone or flight.state != RunState.RUNNING:
            return True
        self._set(flight, Stream.OPEN)
        return False

    # --- Small things ---

    def _part(self, flight: Flight) -> LogFile:
        return log_part(self._shared.root, flight.run_id, self._shared.offload)

    def _board(self, flight: Flight) -> Board:
        return self._shared.boards[flight.planned_run.task]

    def _set(self, flight: Flight, stream: Stream) -> None:
        self._board(flight).set_stream(flight, stream)

    def _close(self, flight: Flight, after: Stream) -> None:
        self._set(flight, after)
        self._shared.collectors.log_is_read(flight)


def _after(error: FanbenchError, flight: Flight) -> Stream:
    """A run that has just left the queue may have no log for a moment: a later poll tries again."""
    if failure_kind(error) is FailureKind.FATAL:
        raise error
    flight.missed_until = anyio.current_time() + 2.0**flight.misses
    flight.misses += 1
    return Stream.NONE if isinstance(error, NotFound) and flight.misses < _MISSES else Stream.CLOSED


def reaches_the_end(ahead: float, ended_at: float, seconds: float | None) -> bool:
    """Whether a stream that ended in good order did so with its run, as far as can be told.

    It may have ended early, and the run, too, before a list was read. `ahead` is by how much the clock of the
    run, that of the log's entries, is at least ahead of ours, by which the stream ended at `ended_at`. The run
    took `seconds`; unknown, the stream is believed.
    """
    return seconds is None or ahead + ended_at >= seconds - _SLACK


class _Source:
    """The client, as far as following a log needs it; notes how often the log was opened, and how far it came."""

    def __init__(self, client: Api) -> None:
        self.config = client.config
        self.opened = 0
        self.ahead = -math.inf
        self.ended_at = 0.0
        self._client = client

    async def logs(self, run_id: int, *, silence: float | None = None) -> AsyncGenerator[LogEntry, None]:
        self.opened += 1
        async with aclosing(self._client.logs(run_id, silence=silence)) as entries:
            async for entry in entries:
                self.ahead = max(self.ahead, entry.time - anyio.current_time())
                yield entry
        self.ended_at = anyio.current_time()
