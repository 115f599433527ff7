"""What the runs of one task are up to: who is due, in flight, sought; whose the runs on the server are."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from fanbench.operations.lookup import model_of
from fanbench.sweeps._engine.book import Book, Change, Flight, Stream
from fanbench.sweeps._engine.signals import Bell
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun
from fanbench.sweeps.budget import PendingCosts
from fanbench.sweeps.events import RunFound, RunScheduled, RunSkipped
from fanbench.sweeps.plan import PlannedTask
from fanbench.wire.messages import Run
from fanbench.wire.retry import LATE_EFFECT

__all__ = ["FIND_PATIENCE", "LOST_PATIENCE", "Board", "fits"]

#: Seconds in which a run that was scheduled must turn up in the lists, and one that was in them again.
FIND_PATIENCE = 120.0
LOST_PATIENCE = 600.0


def fits(run: Run, attempt: Attempt) -> bool:
    """Whether the run can be this attempt's: of the same version, as far as both are known."""
    version = run.task_slug.version_number
    return not version or not attempt.version or version == attempt.version


class Board:
    """All of it is in memory, and each move takes the same short time however many runs there are.

    A move that returns a `Change` has been made here; the caller commits it before anything is awaited.
    """

    def __init__(self, task: PlannedTask, book: Book) -> None:
        self.slug = task.slug
        self.identity = task.identity
        self.book = book
        #: By unit, oldest first: a unit has one attempt in flight at the most.
        self.flights: dict[PlannedRun, Flight] = {}
        self.by_run: dict[int, Flight] = {}
        self.by_model: dict[str, dict[PlannedRun, Flight]] = {}
        self.due: dict[str, deque[PlannedRun]] = {}
        #: Runs of any attempt; those of them at earlier contents; and runs that are of none.
        self.ours: set[int] = set()
        self.earlier: set[int] = set()
        self.foreign_runs: set[int] = set()
        #: Attempts whose run nobody waits for, but which may have one, by model.
        self.orphans: dict[str, list[Attempt]] = {}
        #: Streams that are open and whose run goes on, as far as they tell.
        self.open_streams = 0
        #: Runs whose cost is not known yet.
        self.unpaid = PendingCosts()
        #: Rung when more may be scheduled than before.
        self.bell = Bell()

    # --- The start ---

    def know(self, attempts: Iterable[Attempt], foreign_runs: Iterable[int]) -> None:
        """What the journal has of the task."""
        self.foreign_runs.update(foreign_runs)
        for attempt in attempts:
            if attempt.run_id is not None:
                self.ours.add(attempt.run_id)
                if attempt.identity != self.identity:
                    self.earlier.add(attempt.run_id)
            elif attempt.identity != self.identity:
                self.orphan(attempt)

    def add_due(self, planned_run: PlannedRun, *, first: bool = False) -> None:
        planned_runs = self.due.setdefault(planned_run.model, deque())
        if first:
            planned_runs.appendleft(planned_run)
        else:
            planned_runs.append(planned_run)

    def take_up(self, attempt: Attempt, now: float, wall: float) -> Flight:
        """Go on with an attempt of an earlier process."""
        waited = max(0.0, wall - attempt.intended_at)
        match attempt.phase:
            case Phase.INTENDED:
                patience = max(0.0, LATE_EFFECT - waited)
            case Phase.SCHEDULED:
                patience = FIND_PATIENCE
            case _:
                patience = LOST_PATIENCE
        return self._enter(Flight(attempt, now, now + patience, adopted=True))

    def _enter(self, flight: Flight) -> Flight:
        self.flights[flight.planned_run] = flight
        self.by_model.setdefault(flight.planned_run.model, {})[flight.planned_run] = flight
        if flight.attempt.run_id is not None:
            self.by_run[flight.attempt.run_id] = flight
        self.owe(flight)
        return flight

    def set_stream(self, flight: Flight, stream: Stream) -> None:
        if not flight.gone:
            self.open_streams += (stream is Stream.OPEN) - (flight.stream is Stream.OPEN)
        flight.stream = stream

    def leave(self, flight: Flight) -> None:
        """It is no longer waited for."""
        del self.flights[flight.planned_run]
        others = self.by_model[flight.planned_run.model]
        del others[flight.planned_run]
        if not others:
            del self.by_model[flight.planned_run.model]
        if flight.attempt.run_id is not None:
            del self.by_run[flight.attempt.run_id]
        self.open_streams -= flight.stream is Stream.OPEN
        flight.gone = True
        if flight.landed is not None:
            flight.landed.set()
        self.bell.ring()

    def owe(self, flight: Flight, *, paid: bool = False) -> None:
        """Its cost is still to be told, if it was not already."""
        flight.paid = paid
        if not paid:
            self.unpaid.add(flight.planned_run.model)

    def orphan(self, attempt: Attempt) -> None:
        """If its run turns up after all, it is none of a stranger's."""
        if attempt.needs_lookup:
            self.orphans.setdefault(attempt.planned_run.model, []).append(attempt)

    def pay(self, flight: Flight) -> None:
        """Nothing more will be known of its cost."""
        if not flight.paid:
            flight.paid = True
            self.unpaid.add(flight.planned_run.model, -1)

    # --- Questions ---

    @property
    def in_flight(self) -> int:
        return len(self.flights)

    @property
    def idle(self) -> bool:
        return not self.flights and not self.due

    @property
    def is_seeking(self) -> bool:
        """Whether runs are still to be found on the server."""
        return any(flight.attempt.needs_lookup for flight in self.flights.values())

    def models(self, more: Iterable[str] = ()) -> list[str]:
        """Those with something still to be scheduled or watched."""
        return sorted({*self.by_model, *self.due, *more})

    def is_unsure(self, model: str) -> bool:
        """Whether nobody knows if a run of the model was scheduled."""
        return any(one.attempt.phase is Phase.INTENDED for one in self.by_model.get(model, {}).values())

    # --- Scheduling ---

    def take_due(self, models: Iterable[str]) -> list[PlannedRun]:
        """The next unit of each."""
        taken = []
        for model in models:
            taken.append(self.due[model].popleft())
            if not self.due[model]:
                del self.due[model]
        return taken

    def drop_due(self, model: str) -> list[PlannedRun]:
        return list(self.due.pop(model, ()))

    def intend(
        self, planned_runs: Sequence[PlannedRun], version: int, now: float, wall: float
    ) -> list[Flight]:
        """Written down before the call that schedules them: that call must not be made twice."""
        flights = [self._enter(self._new(planned_run, version, now, wall)) for planned_run in planned_runs]
        self.book.commit([Change(flight.attempt) for flight in flights])
        return flights

    def _new(self, planned_run: PlannedRun, version: int, now: float, wall: float) -> Flight:
        attempt = Attempt(
            planned_run,
            self.book.next_number(planned_run),
            self.identity,
            version,
            Phase.INTENDED,
            intended_at=wall,
        )
        # While the call is on its way, no list can say that there is no run.
        return Flight(self.book.put(attempt), now, math.inf)

    def taken(self, flight: Flight, now: float) -> Change:
        """The server said so."""
        flight.attempt = self.book.put(flight.attempt.with_(phase=Phase.SCHEDULED))
        flight.listed_by = now + FIND_PATIENCE
        return Change(flight.attempt, RunScheduled(flight.planned_run, flight.attempt.number))

    def void(self, flight: Flight, reason: str | None = None) -> Change:
        """There is no run of it. The unit is due again.

        `reason` is why, where that is news: the server's for skipping it, or ours. Without one, nobody was told
        that there is a run of it.
        """
        self.leave(flight)
        self.pay(flight)
        attempt = flight.attempt = self.book.put(flight.attempt.with_(phase=Phase.VOID))
        self.add_due(flight.planned_run, first=True)
        event = None if reason is None else RunSkipped(flight.planned_run, attempt.number, reason)
        return Change(attempt, event)

    # --- Runs on the server ---

    def found(self, flight: Flight, run: Run, now: float) -> Change:
        flight.attempt = self.book.put(flight.attempt.with_(phase=Phase.FOUND, run_id=run.id))
        flight.listed_by = now + LOST_PATIENCE
        self.by_run[run.id] = flight
        self.ours.add(run.id)
        number, version = flight.attempt.number, flight.attempt.version
        return Change(flight.attempt, RunFound(flight.planned_run, number, run.id, version, flight.adopted))

    def adopt(self, planned_run: PlannedRun, run: Run, version: int, now: float, wall: float) -> Change:
        """A run that somebody else scheduled serves the unit: the server does not take another."""
        flight = self._enter(self._new(planned_run, version, now, wall))
        flight.adopted = True
        self.foreign_runs.discard(run.id)
        return self.found(flight, run, now)

    def assign(self, fresh: Mapping[str, list[Run]], now: float) -> list[Change]:
        """Runs that nobody knew, by model: the lowest id to the attempt that was intended first."""
        changes: list[Change] = []
        left: list[int] = []
        for model, runs in fresh.items():
            sought = self._sought(model)
            for run in sorted(runs, key=lambda one: one.id):
                flight = next((one for one in sought if fits(run, one.attempt)), None)
                if flight is None:
                    changes += self._orphaned(run, left)
                    continue
                sought.remove(flight)
                changes.append(self.found(flight, run, now))
        self._estrange(left)
        return changes

    def _sought(self, model: str) -> list[Flight]:
        flights = [one for one in self.by_model.get(model, {}).values() if one.attempt.needs_lookup]
        return sorted(
            flights, key=lambda one: (one.attempt.intended_at, one.planned_run.repeat, one.attempt.number)
        )

    def _orphaned(self, run: Run, left: list[int]) -> list[Change]:
        """The run of an attempt that was given up, or at an earlier content; else it is a stranger's."""
        orphans = self.orphans.get(model_of(run), [])
        attempt = next((one for one in orphans if self._may_be(run, one)), None)
        if attempt is None:
            left.append(run.id)
            return []
        orphans.remove(attempt)
        self.ours.add(run.id)
        if attempt.identity != self.identity:
            self.earlier.add(run.id)
        return [Change(self.book.put(attempt.with_(phase=Phase.FOUND, run_id=run.id)))]

    def _may_be(self, run: Run, orphan: Attempt) -> bool:
        """Of an earlier content only for sure: a run that we look for must not get lost to it."""
        sure = bool(run.task_slug.version_number) or orphan.identity == self.identity
        return sure and fits(run, orphan)

    def _estrange(self, run_ids: Sequence[int]) -> None:
        if run_ids:
            self.foreign_runs.update(run_ids)
            self.book.records.save_foreign_runs(self.slug, run_ids)
