"""Fetching what ended runs leave: the output into its folder, then the log into it.

A fixed number of collectors take runs from a queue. One that fails is put aside until it is tried again, so
that nobody stands and waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

from fanbench.errors import FanbenchError
from fanbench.operations.layout import folder_of_run
from fanbench.operations.log_file import LogFile
from fanbench.sweeps._engine.book import Change, Flight
from fanbench.sweeps._engine.logs import Teller
from fanbench.sweeps._engine.shared import Shared
from fanbench.sweeps._engine.signals import Bell, Later, Queue
from fanbench.sweeps.artifacts import RUN_LOG, fingerprint, log_part
from fanbench.sweeps.attempts import SavedLog, SavedOutput, wants_log, wants_output
from fanbench.sweeps.events import LogSaved, OutputSaved
from fanbench.wire.retry import REFUSED_LIMIT, RetryBudget

__all__ = ["Collectors"]

_Job = Callable[[Flight], Awaitable[None]]
# Seconds for which a finished log that is missing is asked for again.
_NO_LOG = 30.0


class Collectors:
    """`put` gives them a run whose end a list has confirmed."""

    def __init__(self, shared: Shared) -> None:
        self.outstanding = 0
        self._shared = shared
        self._book = shared.book
        self._queue: Queue[Flight] = Queue()
        self._later = Later(self._queue.put)
        self._idle = Bell()

    def put(self, flight: Flight) -> None:
        self.outstanding += 1
        self._queue.put(flight)

    def log_is_read(self, flight: Flight) -> None:
        """Its live log is over; if that was all that was missing, it goes on."""
        if flight.log_wanted:
            flight.log_wanted = False
            self._queue.put(flight)

    async def finished(self) -> None:
        """Returns once nothing is left to be fetched."""
        while self.outstanding:
            await self._idle.wait()

    async def work(self) -> None:
        """One collector, for ever."""
        while True:
            await self._collect(await self._queue.get())

    async def alarm(self) -> None:
        """Brings back what was put aside; for ever."""
        await self._later.run()

    async def _collect(self, flight: Flight) -> None:
        """As far as it goes now."""
        if wants_output(flight.attempt) and not flight.no_output:
            if not await self._try(flight, "download", self._fetch_output):
                return
            flight.no_output = wants_output(flight.attempt)
        if flight.log_is_live:
            flight.log_wanted = True
            return
        if wants_log(flight.attempt) and not await self._try(flight, "log", self._fetch_log):
            return
        self._finish(flight)

    def _finish(self, flight: Flight) -> None:
        self.outstanding -= 1
        if not flight.paid:
            # Its output never came: what it cost is unknown, which is not nothing.
            self._pay(flight, None)
        self._shared.gate.news()
        if not self.outstanding:
            self._idle.ring()

    async def _try(self, flight: Flight, stage: str, job: _Job) -> bool:
        """Whether it is over with `job`, done or given up; else it comes again."""
        try:
            await job(flight)
        except FanbenchError as error:
            if flight.patience is None:
                flight.patience = RetryBudget(_NO_LOG if stage == "log" else REFUSED_LIMIT)
            pause = flight.patience.pause(error)
            if pause is not None:
                self._later.put(flight, pause)
                return False
            self._book.give_up(flight.planned_run, flight.attempt.number, stage, str(error))
        flight.patience = None
        return True

    # --- The output ---

    async def _fetch_output(self, flight: Flight) -> None:
        """In its place, whole, on the disk; then recorded. It takes the place of a log that was there."""
        shared, name = self._shared, self._name(flight)
        folder = shared.root / name
        if flight.attempt.log is not None:
            flight.attempt = self._book.put(flight.attempt.with_(log=None))
            self._book.commit([Change(flight.attempt)])
        source = shared.rules.include_source
        got = await shared.client.download_output(flight.run_id, folder, include_source=source)
        found = fingerprint(got.contents)
        cost = await shared.gate.cost_of(folder)
        output = SavedOutput(name, found.files, found.size, found.digest, found.changed)
        flight.attempt = self._book.put(flight.attempt.with_(output=output))
        event = OutputSaved(
            flight.planned_run,
            flight.attempt.number,
            flight.run_id,
            output.path,
            output.files,
            output.size,
            output.digest,
        )
        self._book.commit([Change(flight.attempt, event)])
        self._pay(flight, cost)

    def _pay(self, flight: Flight, cost: float | None) -> None:
        self._shared.gate.finished(flight.planned_run, cost, flight.run_id)
        self._shared.boards[flight.planned_run.task].pay(flight)

    # --- The log ---

    async def _fetch_log(self, flight: Flight) -> None:
        """What was read live, if that is the whole log; else what the finished log says."""
        part, flight.part = flight.part or await self._read(flight), None
        name = f"{self._name(flight)}/{RUN_LOG}"
        try:
            await self._shared.offload(partial(part.place, self._shared.root / name))
        except FanbenchError:
            await self._shared.offload(part.drop)
            raise
        log = SavedLog(name, part.lines, part.size)
        flight.attempt = self._book.put(flight.attempt.with_(log=log))
        event = LogSaved(
            flight.planned_run, flight.attempt.number, flight.run_id, log.path, log.lines, log.size
        )
        self._book.commit([Change(flight.attempt, event)])

    async def _read(self, flight: Flight) -> LogFile:
        from fanbench.wire.log_stream import SILENCE

        part = log_part(self._shared.root, flight.run_id, self._shared.offload)
        teller = Teller(self._shared, flight)
        try:
            async with aclosing(self._shared.client.logs(flight.run_id, silence=SILENCE)) as entries:
                async for entry in entries:
                    await part.write(entry.data)
                    await teller.feed(entry)
        except FanbenchError:
            await self._shared.offload(part.drop)
            raise
        teller.end()
        return part

    def _name(self, flight: Flight) -> str:
        """Of its folder, relative to the sweep's, with slashes everywhere."""
        planned_run = flight.planned_run
        return folder_of_run(
            Path(), planned_run.task, flight.attempt.version, planned_run.model, flight.run_id
        ).as_posix()
