"""Finding and watching the runs of one task: one list call a poll for all of them.

A run that is being followed tells of its end by the end of its log. So while all runs of the task have a
stream, polls are far apart: the end of a stream asks for one, at once if it was the last, and else within a
second, in which others may end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import anyio

from fanbench._util.polling import Pace
from fanbench.errors import FanbenchError
from fanbench.operations.lookup import model_of, runs_of
from fanbench.sweeps._engine.board import LOST_PATIENCE, Board
from fanbench.sweeps._engine.book import Change, Flight, Stream
from fanbench.sweeps._engine.shared import Shared
from fanbench.sweeps.attempts import Phase, PlannedRun
from fanbench.sweeps.decide import Step
from fanbench.sweeps.events import Polled, RetryPlanned, RunChanged
from fanbench.wire.messages import Run, RunState
from fanbench.wire.retry import RetryBudget, retry_patiently

__all__ = ["Puzzle", "Watcher"]

_NOT_THERE = "the server does not have it"
# With other streams still open, one that ends is no hurry: it is seen within this many seconds.
_COALESCE = 1.0
# Seconds for which a live log may go on after its run has ended.
_LOG_TAIL = 10.0
# A skip without a visible reason is tried again after so many seconds, one after another.
_SKIP_PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)


@dataclass(slots=True)
class Puzzle:
    """The server skipped a model, and we know of no run that could be why: the next list may tell."""

    reason: str
    version: int
    asked_at: float
    tries: int = 1
    #: Before this time the model is not tried again; `None`: that is for the next list to say.
    until: float | None = None
    #: Since when runs of somebody else have been in the way, and whether the last list had one: its end is
    #: waited for.
    blocked_since: float = math.inf
    blocked: bool = False

    def again(self, reason: str, now: float) -> Puzzle:
        """It was skipped once more."""
        return Puzzle(reason, self.version, now, self.tries + 1, blocked_since=self.blocked_since)


class Watcher:
    """Of one task. `puzzles` are by model."""

    def __init__(self, board: Board, shared: Shared) -> None:
        self.puzzles: dict[str, Puzzle] = {}
        self._board = board
        self._shared = shared
        self._book = shared.book
        self._pace = Pace(shared.rules.poll_interval)
        self._patience = RetryBudget()
        self._closed = False
        self._lost: dict[PlannedRun, int] = {}
        self._news = anyio.Event()
        self._urgent = anyio.Event()

    # --- What others tell ---

    def close(self) -> None:
        """Nothing more will be scheduled: it ends with the last run in flight."""
        self._closed = True
        self.hurry()

    def hurry(self) -> None:
        """A list is wanted now."""
        self._pace.reset()
        self._news.set()
        self._urgent.set()

    def stream_missed(self) -> None:
        """There was no log yet: the pauses between polls are no longer those for open streams."""
        self._news.set()

    def stream_ended(self) -> None:
        self._pace.reset()
        self._news.set()
        if not self._board.open_streams:
            self._urgent.set()

    # --- Polling ---

    async def run(self) -> None:
        while await self._is_anything_to_see():
            self._news, self._urgent = anyio.Event(), anyio.Event()
            began = anyio.current_time()
            try:
                runs = await self._list()
            except FanbenchError as error:
                await self._bear(error)
                continue
            self._patience.reset()
            self._absorb(runs, began)
            await self._pause()

    async def look(self) -> None:
        """One list apart from the others: who is there before the first schedule call is a stranger."""
        began = anyio.current_time()
        self._absorb(await retry_patiently(self._list), began)

    async def _is_anything_to_see(self) -> bool:
        while True:
            if self._is_puzzled and not self._closed:
                return True
            waited_for = self._shared.may_become_due(self._board) if self._closed else self._board.flights
            if waited_for:
                return True
            if self._closed:
                return False
            await self._urgent.wait()
            self._urgent = anyio.Event()

    @property
    def _is_puzzled(self) -> bool:
        return any(puzzle.until is None for puzzle in self.puzzles.values())

    async def _list(self) -> list[Run]:
        models = self._board.models(self.puzzles)
        return await runs_of(self._shared.client, self._board.slug, models)

    async def _bear(self, error: FanbenchError) -> None:
        """The list is made again; if it fails for too long, the runs in flight are missing, and those skipped."""
        pause = self._patience.pause(error)
        self._drop_all_late(anyio.current_time())
        if pause is None:
            self._patience.reset()
            reason = f"The runs cannot be listed: {error}"
            for flight in [one for one in self._board.flights.values() if not one.is_asked_for]:
                self._give_up(flight, "watch", reason)
            for model in [model for model, puzzle in self.puzzles.items() if puzzle.until is None]:
                self._give_up_model(model, "schedule", reason)
            self._board.bell.ring()
            return
        await anyio.sleep(pause)

    async def _pause(self) -> None:
        """Until the next poll is due, or somebody wants one."""
        if not self._board.flights and not self._is_puzzled:
            return
        with anyio.move_on_after(self._seconds()):
            await self._news.wait()
            with anyio.move_on_after(_COALESCE):
                await self._urgent.wait()

    def _seconds(self) -> float:
        board = self._board
        all_tell = board.open_streams == board.in_flight and not self._is_puzzled
        seconds = self._pace.limit if all_tell else self._pace.next()
        timeout = self._shared.rules.timeout
        if timeout is None:
            return seconds
        left = min(self._waiting_since(), default=math.inf) + timeout - anyio.current_time()
        return min(seconds, left) if left > 0 else _COALESCE

    def _waiting_since(self) -> Iterator[float]:
        """Of what is waited for: the oldest run in flight, and each run in the way."""
        yield from (flight.since for flight in islice(self._board.flights.values(), 1))
        for puzzle in self.puzzles.values():
            if puzzle.blocked:
                yield puzzle.blocked_since

    # --- What a list tells ---

    def _absorb(self, runs: Sequence[Run], began: float) -> None:
        """Nothing is awaited in here: what is seen is written down and said before anybody acts on it."""
        board, now = self._board, anyio.current_time()
        fresh: dict[str, list[Run]] = {}
        for run in runs:
            if run.id not in board.by_run and run.id not in board.ours and run.id not in board.foreign_runs:
                fresh.setdefault(model_of(run), []).append(run)
        changes = self._solve(runs, began, now) if self._is_puzzled else []
        changes += board.assign(_without(fresh, board.ours), now) if fresh else []
        ended: list[Flight] = []
        for run in runs:
            flight = board.by_run.get(run.id)
            if flight is not None:
                changes += self._see(flight, run, began, now, ended)
        changes += self._miss(began)
        if any(change.event for change in changes):
            self._pace.reset()
        self._book.commit(changes)
        self._act(ended)
        self._drop_all_late(now)
        board.bell.ring()
        self._shared.emit(Polled(board.slug, board.in_flight, self._shared.calls()))

    def _see(
        self, flight: Flight, run: Run, began: float, now: float, ended: list[Flight]
    ) -> Sequence[Change]:
        flight.listed_by = now + LOST_PATIENCE
        if run.state.terminal:
            ended.append(flight)
            return [self._land(flight, run)]
        if flight.stream is Stream.ENDING and flight.ending_since <= began:
            flight.doubted = True
        if run.state == flight.state:
            self._follow(flight)
            return ()
        flight.state = run.state
        self._follow(flight)
        return [Change(None, RunChanged(flight.planned_run, flight.attempt.number, run.id, run.state))]

    def _land(self, flight: Flight, run: Run) -> Change:
        """Its run has ended: only a list says so."""
        flight.state = run.state
        if run.start_time is not None and run.end_time is not None:
            flight.seconds = (run.end_time - run.start_time).total_seconds()
        flight.attempt = self._book.put(
            flight.attempt.with_(phase=Phase.ENDED, state=run.state, error=run.error_message)
        )
        if flight.scope is not None:
            flight.scope.deadline = min(flight.scope.deadline, anyio.current_time() + _LOG_TAIL)
        self._board.leave(flight)
        return Change(
            flight.attempt,
            RunChanged(flight.planned_run, flight.attempt.number, run.id, run.state, run.error_message),
        )

    def _follow(self, flight: Flight) -> None:
        live = self._shared.until == "collect" and flight.state == RunState.RUNNING
        if live and flight.stream is Stream.NONE and flight.missed_until <= anyio.current_time():
            self._shared.logs.offer(flight, self)

    def _act(self, ended: Sequence[Flight]) -> None:
        """What follows from the end of runs: their files are fetched, and errored ones may be tried again."""
        for flight in ended:
            if self._shared.until == "collect":
                self._shared.collectors.put(flight)
            if flight.attempt.errored:
                self._retry(flight)

    def _retry(self, flight: Flight) -> None:
        if self._book.step(flight.planned_run) is not Step.SCHEDULE:
            self._shared.count_failures()
        elif self._shared.stopped is None:
            self._board.add_due(flight.planned_run, first=True)
            self._shared.emit(RetryPlanned(flight.planned_run, flight.attempt.number))

    # --- What a list does not have ---

    def _miss(self, began: float) -> list[Change]:
        """Attempts that would have to be listed by now, and are not."""
        changes = []
        for flight in [one for one in self._board.flights.values() if one.listed_by <= began]:
            if flight.attempt.phase is Phase.FOUND:
                self._give_up(flight, "watch", f"Run {flight.run_id} is no longer listed.")
                continue
            if flight.attempt.phase is Phase.SCHEDULED and self._is_lost_again(flight):
                self._give_up(flight, "find", "It was scheduled, and does not turn up on the server.")
                continue
            changes.append(self._board.void(flight, _NOT_THERE))
            self._shared.gate.news()
        return changes

    def _is_lost_again(self, flight: Flight) -> bool:
        times = self._lost[flight.planned_run] = self._lost.get(flight.planned_run, 0) + 1
        return times > 1

    def _drop_all_late(self, now: float) -> None:
        if (timeout := self._shared.rules.timeout) is not None:
            self._drop_late(timeout, now)
            self._drop_blocked(timeout, now)

    def _drop_late(self, timeout: float, now: float) -> None:
        """They stay as they are in the journal, and the next sweep goes on with them."""
        for flight in list(self._board.flights.values()):
            if flight.since + timeout > now:
                return
            if not flight.is_asked_for:
                self._give_up(flight, "timeout", f"It has not ended within {timeout:g} s.")

    def _drop_blocked(self, timeout: float, now: float) -> None:
        for model, puzzle in list(self.puzzles.items()):
            if puzzle.blocked and puzzle.blocked_since + timeout <= now:
                reason = f"Another run has been in its way for {timeout:g} s: {puzzle.reason}"
                self._give_up_model(model, "timeout", reason)

    def _give_up_model(self, model: str, stage: str, error: str) -> None:
        del self.puzzles[model]
        for planned_run in self._board.drop_due(model):
            self._book.give_up(planned_run, self._book.next_number(planned_run), stage, error)

    def _give_up(self, flight: Flight, stage: str, error: str) -> None:
        self._board.leave(flight)
        if flight.scope is not None:
            flight.scope.cancel()
        self._board.orphan(flight.attempt)
        self._book.give_up(flight.planned_run, flight.attempt.number, stage, error)
        self._shared.gate.news()

    # --- Skips ---

    def _solve(self, runs: Sequence[Run], began: float, now: float) -> list[Change]:
        """Why models were skipped: for a run in flight that nobody here waits for, or for none that is listed."""
        open_puzzles = {
            model: puzzle
            for model, puzzle in self.puzzles.items()
            if puzzle.until is None and puzzle.asked_at <= began
        }
        in_the_way: dict[str, list[Run]] = {}
        for run in runs:
            if model_of(run) in open_puzzles and self._is_in_the_way(run):
                in_the_way.setdefault(model_of(run), []).append(run)
        changes: list[Change] = []
        for model, puzzle in open_puzzles.items():
            changes += self._solve_one(model, puzzle, in_the_way.get(model, []), now)
        return changes

    def _is_in_the_way(self, run: Run) -> bool:
        """Its end is worth waiting for. (That of a run which was given up here is not.)"""
        mine = run.id in self._board.ours and run.id not in self._board.earlier
        return not run.state.terminal and not mine

    def _solve_one(self, model: str, puzzle: Puzzle, others: Sequence[Run], now: float) -> list[Change]:
        """A stranger's run of the same version serves us; any other must end first, and only lists are asked."""
        board = self._board
        if model not in board.due:
            del self.puzzles[model]
            return []
        versions = (0, puzzle.version)
        mine = [
            one for one in others if one.task_slug.version_number in versions and one.id not in board.ours
        ]
        if mine:
            del self.puzzles[model]
            (planned_run,) = board.take_due([model])
            run = min(mine, key=lambda one: one.id)
            self._shared.one_at_a_time = True
            return [board.adopt(planned_run, run, puzzle.version, now, self._shared.wall())]
        if others:
            puzzle.blocked, puzzle.blocked_since = True, min(now, puzzle.blocked_since)
        elif puzzle.blocked:
            puzzle.until, puzzle.blocked, puzzle.tries = now, False, 0
        elif puzzle.tries > len(_SKIP_PAUSES):
            self._give_up_model(model, "schedule", puzzle.reason)
        else:
            puzzle.until = now + _SKIP_PAUSES[puzzle.tries - 1]
        return []


def _without(fresh: dict[str, list[Run]], ours: set[int]) -> dict[str, list[Run]]:
    """Runs that have been adopted meanwhile are no longer unknown."""
    return {model: [run for run in runs if run.id not in ours] for model, runs in fresh.items()}
