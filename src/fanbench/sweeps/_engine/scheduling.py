"""Scheduling the runs of one task: one call for all models that are due, written down before it is made."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from fanbench.errors import FanbenchError
from fanbench.sweeps._engine.board import Board
from fanbench.sweeps._engine.book import Change, Flight
from fanbench.sweeps._engine.shared import Shared
from fanbench.sweeps._engine.watching import Puzzle, Watcher
from fanbench.sweeps.attempts import Phase, PlannedRun
from fanbench.wire.messages import ScheduleResult
from fanbench.wire.retry import LATE_EFFECT, CallOutcome, RetryBudget, call_outcome

__all__ = ["Scheduler"]

_NO_REASON = "no reason given"


class Scheduler:
    """Of one task. There is one schedule call at a time, and a model is in it once at the most."""

    def __init__(self, board: Board, shared: Shared, watcher: Watcher) -> None:
        self._board = board
        self._shared = shared
        self._book = shared.book
        self._watcher = watcher
        self._patience = RetryBudget(refused=0.0)
        self._not_before = 0.0
        self._exhausted: FanbenchError | None = None
        #: Models of a batch that was refused: one of them may be why.
        self._alone: set[str] = set()

    async def run(self, version: int) -> None:
        """Until every run is scheduled for good, or nothing more may be."""
        while self._shared.stopped is None and self._is_anything_to_come():
            models = self._ready()
            if models and self._exhausted is not None:
                self.give_up_due("schedule", str(self._exhausted))
            elif flights := await self._intend(models, version):
                await self._schedule(flights, version)
            else:
                await self._board.bell.wait(self._seconds())
        self._shared.gate.nothing_wanted()

    def _is_anything_to_come(self) -> bool:
        return bool(self._board.due) or self._shared.may_become_due(self._board)

    def give_up_due(self, stage: str, error: str) -> None:
        for model in list(self._board.due):
            self._give_up_model(model, stage, error)
        self._shared.gate.nothing_wanted()

    def _give_up_model(self, model: str, stage: str, error: str) -> None:
        for planned_run in self._board.drop_due(model):
            self._book.give_up(planned_run, self._book.next_number(planned_run), stage, error)

    # --- Who is next ---

    def _ready(self) -> list[str]:
        """The models that may be in the next call."""
        now = anyio.current_time()
        if now < self._not_before or self._shared.gate.is_shut(self._board):
            return []
        models = [model for model in self._board.due if not self._is_blocked(model, now)]
        alone = [model for model in models if model in self._alone]
        return alone[:1] or models

    def _is_blocked(self, model: str, now: float) -> bool:
        """A run of it is, or may be, in the way."""
        puzzle = self._watcher.puzzles.get(model)
        if puzzle is not None and (puzzle.until is None or now < puzzle.until):
            return True
        if self._shared.one_at_a_time and model in self._board.by_model:
            return True
        return self._board.is_unsure(model)

    def _seconds(self) -> float | None:
        """Until a pause is over; `None`: only something that happens can change anything."""
        now = anyio.current_time()
        ends = [one.until for one in self._watcher.puzzles.values() if one.until is not None]
        later = [end for end in (*ends, self._not_before) if end > now]
        return min(later) - now if later else None

    async def _intend(self, models: Sequence[str], version: int) -> list[Flight]:
        if not models:
            return []
        granted = await self._shared.gate.allow(self._board, models)
        if not granted or self._shared.stopped is not None:
            return []
        now = anyio.current_time()
        still = [model for model in granted if model in self._board.due and not self._is_blocked(model, now)]
        planned_runs = self._board.take_due(still)
        return self._board.intend(planned_runs, version, now, self._shared.wall())

    # --- The call ---

    async def _schedule(self, flights: Sequence[Flight], version: int) -> None:
        models = [flight.planned_run.model for flight in flights]
        try:
            results = await self._shared.client.schedule_runs(self._board.slug, models)
        except FanbenchError as error:
            self._fail(flights, error)
        else:
            self._patience.reset()
            self._alone.difference_update(models)
            self._absorb(flights, results, version)
        # (Where nothing is collected, no other news will come.)
        if self._shared.until == "schedule" or any(one.attempt.phase is Phase.VOID for one in flights):
            self._shared.gate.news()
        self._watcher.hurry()

    def _absorb(self, flights: Sequence[Flight], results: Sequence[ScheduleResult], version: int) -> None:
        """A poll that came between may have found the run before its answer was here."""
        now = anyio.current_time()
        changes: list[Change] = []
        for flight, result in zip(flights, results, strict=False):
            if flight.attempt.phase is Phase.INTENDED:
                changes.append(self._absorb_one(flight, result, version, now))
        self._book.commit(changes)
        self._doubt(flights[len(results) :])

    def _absorb_one(self, flight: Flight, result: ScheduleResult, version: int, now: float) -> Change:
        model = flight.planned_run.model
        if result.run_scheduled:
            self._watcher.puzzles.pop(model, None)
            return self._board.taken(flight, now)
        reason = result.run_skipped_reason or _NO_REASON
        change = self._board.void(flight, reason)
        if model in self._board.by_model:
            self._shared.one_at_a_time = True
        else:
            before = self._watcher.puzzles.get(model)
            puzzle = before.again(reason, now) if before is not None else Puzzle(reason, version, now)
            self._watcher.puzzles[model] = puzzle
        return change

    def _fail(self, flights: Sequence[Flight], error: FanbenchError) -> None:
        pause = self._patience.pause(error)
        now = anyio.current_time()
        unanswered = [one for one in flights if one.attempt.phase is Phase.INTENDED]
        match call_outcome(error):
            case CallOutcome.UNKNOWN:
                self._doubt(unanswered)
            case CallOutcome.NOT_DONE:
                self._book.commit([self._board.void(flight) for flight in unanswered])
            case CallOutcome.REFUSED:
                self._book.commit([self._board.void(flight) for flight in unanswered])
                self._blame([flight.planned_run for flight in unanswered], error)
                return
        self._not_before = now + (pause or 0.0)
        self._exhausted = error if pause is None else None

    def _doubt(self, flights: Sequence[Flight]) -> None:
        """Nobody knows whether they were scheduled: they turn up in time, or there is nothing of them."""
        for flight in flights:
            if flight.attempt.phase is Phase.INTENDED:
                flight.listed_by = anyio.current_time() + LATE_EFFECT

    def _blame(self, planned_runs: Sequence[PlannedRun], error: FanbenchError) -> None:
        """One model that the server does not like must not take the others down: once, each goes by itself."""
        self._patience.reset()
        models = [planned_run.model for planned_run in planned_runs]
        if len(models) > 1:
            self._alone.update(models)
            return
        for model in models:
            self._alone.discard(model)
            self._give_up_model(model, "schedule", str(error))
