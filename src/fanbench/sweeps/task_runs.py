"""The runs of one task: which are due, which are in flight, and whose the runs on the server are."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio

from fanbench.operations.lookup import model_of
from fanbench.operations.watch import LISTED_WITHIN
from fanbench.sweeps.attempt_store import AttemptStore, Update
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, real_ones
from fanbench.sweeps.budget import PendingCosts
from fanbench.sweeps.decide import VoidCause
from fanbench.sweeps.events import RunCancelled, RunFound, RunScheduled, RunSkipped
from fanbench.sweeps.plan import PlannedTask
from fanbench.wire.messages import Run, RunState

__all__ = ["LISTED_AGAIN_WITHIN", "ActiveRun", "TaskRuns", "Wakeup", "fits"]

#: Seconds within which a list must show a run again that was listed before, where lists lack ids or models.
LISTED_AGAIN_WITHIN = 600.0


class ActiveRun:
    """One attempt in this process, from its intent until its files are on disk.

    `TaskWatcher` changes it; its own `RunPipeline` waits in `wait_for_change`.
    """

    __slots__ = (
        "_changed",
        "adopted",
        "attempt",
        "being_cancelled",
        "cancel_asked_at",
        "cancel_under_way",
        "certain_id",
        "cost_known",
        "has_pipeline",
        "last_seen_active",
        "listed_by",
        "log_scope",
        "log_tail",
        "seconds",
        "since",
        "state",
        "taken_over",
        "unlisted_since",
        "watched",
    )

    def __init__(
        self, attempt: Attempt, since: float, listed_by: float | None, *, adopted: bool = False
    ) -> None:
        self.attempt = attempt
        #: When this process began to watch it, on the event loop's clock.
        self.since = since
        #: The run does not exist if a list that is asked for at this time or later lacks it. `None` while the call
        #: that schedules it is under way.
        self.listed_by = listed_by
        #: Whether it was scheduled by an earlier process or by somebody else.
        self.adopted = adopted
        self.state: RunState | None = None
        #: When the last list was asked for that showed it queued or running.
        self.last_seen_active = -math.inf
        #: How many seconds the run took, if it has ended and the server reports them.
        self.seconds: float | None = None
        #: The id that the server has given to it in the answer to the schedule call; 0 if it is not certain.
        self.certain_id = 0
        #: Whether it is cancelled because of its time limit, and when the server last answered a call to cancel it.
        self.being_cancelled = False
        self.cancel_asked_at: float | None = None
        #: Whether a call to cancel it has no answer yet: a list that lacks it meanwhile does not say who cancelled it.
        self.cancel_under_way = False
        #: When the first of the last lists was asked for, none of which shows the run, though earlier ones did.
        self.unlisted_since: float | None = None
        #: Whether this process has taken it over from somebody else.
        self.taken_over = False
        #: Whether its `RunPipeline` was started.
        self.has_pipeline = False
        #: Whether lists are searched for it: its run has not ended, and it is neither void nor given up.
        self.watched = True
        #: Whether nothing more will be learned about its cost.
        self.cost_known = False
        #: Cancelled `log_tail` seconds after the run has ended, or at once if it is given up.
        self.log_scope: anyio.CancelScope | None = None
        self.log_tail = 0.0
        self._changed: anyio.Event | None = None

    @property
    def planned_run(self) -> PlannedRun:
        return self.attempt.planned_run

    @property
    def run_id(self) -> int:
        """The id of the run, which must have been found."""
        assert self.attempt.run_id is not None
        return self.attempt.run_id

    @property
    def known_id(self) -> int:
        """The id of the run that was found, or else that which the server has given to it; 0 if there is neither."""
        return self.attempt.run_id or self.certain_id

    @property
    def ended(self) -> bool:
        """Whether a list has shown the end of the run."""
        return self.attempt.phase is Phase.ENDED

    @property
    def being_scheduled(self) -> bool:
        """Whether the call that schedules it is under way."""
        return self.listed_by is None

    def is_overdue(self, asked_at: float) -> bool:
        """Return whether a list that was asked for at `asked_at` must show the run."""
        return self.listed_by is not None and self.listed_by <= asked_at

    async def wait_for_change(self) -> None:
        """Wait until the run changes its state or is no longer watched."""
        self._changed = anyio.Event()
        await self._changed.wait()

    def notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


class Wakeup:
    """An event that resets itself. If nothing waits when it is set, the next wait ends at once."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is set, at most for `seconds`."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        self._event = anyio.Event()


def fits(run: Run, attempt: Attempt) -> bool:
    """Return whether the run can be that of the attempt: their versions are the same, or one is unknown."""
    version = run.task_slug.version_number
    return not version or not attempt.version or version == attempt.version


class TaskRuns:
    """The runs of one task, in memory, indexed so that each change takes constant time.

    A method that returns an `Update` has changed the memory; its caller must commit the update before it awaits.
    """

    def __init__(
        self, task: PlannedTask, store: AttemptStore, clock: Callable[[], float], confirm_within: float
    ) -> None:
        self.slug = task.slug
        self.identity = task.identity
        #: The attempts in flight, oldest first: at most one for each planned run.
        self.active: dict[PlannedRun, ActiveRun] = {}
        self.by_run: dict[int, ActiveRun] = {}
        self.by_model: dict[str, dict[PlannedRun, ActiveRun]] = {}
        #: The planned runs to schedule, by model.
        self.due: dict[str, deque[PlannedRun]] = {}
        #: The ids of the runs of our attempts.
        self.our_runs: set[int] = set()
        #: Those of them at earlier contents of the task.
        self.earlier_runs: set[int] = set()
        #: The ids of all other runs.
        self.foreign_runs: set[int] = set()
        #: By model: attempts that are no longer watched, but whose run may still turn up.
        self.abandoned_attempts: dict[str, list[Attempt]] = {}
        #: The number of runs on each model whose cost is not known yet.
        self.pending_costs = PendingCosts()
        #: Set when more may be scheduled than before.
        self.wakeup = Wakeup()
        #: Asks for a list of the runs now, once there is a watcher.
        self.hurry: Callable[[], None] = lambda: None
        #: Runs that ended in an earlier process and lack an output or a log.
        self.uncollected: list[ActiveRun] = []
        self._store = store
        #: Seconds since 1970.
        self._clock = clock
        self._confirm_within = confirm_within

    # --- What the journal has ---

    def load(self, attempts: Iterable[Attempt], foreign_runs: Iterable[int]) -> None:
        """Load which runs on the server are ours and which are foreign."""
        self.foreign_runs.update(foreign_runs)
        for attempt in attempts:
            if attempt.run_id is not None:
                self.our_runs.add(attempt.run_id)
                if attempt.identity != self.identity:
                    self.earlier_runs.add(attempt.run_id)
            elif attempt.identity != self.identity:
                self.abandon(attempt)

    def resume(self, attempt: Attempt) -> None:
        """Continue with an attempt of an earlier process whose run has not ended."""
        match attempt.phase:
            case Phase.INTENDED:
                # The earlier process may have ended during the schedule call.
                wait = max(0.0, self._confirm_within - max(0.0, self._clock() - attempt.intended_at))
            case Phase.SCHEDULED:
                wait = LISTED_WITHIN
            case _:
                wait = LISTED_AGAIN_WITHIN
        now = anyio.current_time()
        run = ActiveRun(attempt, now, now + wait, adopted=True)
        self._look_up(run)
        self._activate(run)

    def resume_ended(self, attempt: Attempt, *, cost_known: bool) -> None:
        """Continue with an attempt of an earlier process whose output or log is missing."""
        now = anyio.current_time()
        run = ActiveRun(attempt, now, now, adopted=True)
        run.watched, run.cost_known = False, cost_known
        if not cost_known:
            self.pending_costs.add(attempt.planned_run.model)
        self.uncollected.append(run)

    # --- What is due ---

    def add_due(self, planned_run: PlannedRun, *, first: bool = False) -> None:
        planned_runs = self.due.setdefault(planned_run.model, deque())
        if first:
            planned_runs.appendleft(planned_run)
        else:
            planned_runs.append(planned_run)

    def take_due(self, models: Iterable[str]) -> list[PlannedRun]:
        """Remove and return the next due run of each model."""
        taken = []
        for model in models:
            taken.append(self.due[model].popleft())
            if not self.due[model]:
                del self.due[model]
        return taken

    def take(self, planned_run: PlannedRun) -> PlannedRun:
        """Remove a planned run from those that are due, and return it."""
        self.due[planned_run.model].remove(planned_run)
        if not self.due[planned_run.model]:
            del self.due[planned_run.model]
        return planned_run

    def never_made(self) -> list[PlannedRun]:
        """Return the due planned runs that have not been made before, with this content."""
        due = [each for planned_runs in self.due.values() for each in planned_runs]
        return sorted(each for each in due if not real_ones(self._store.attempts(each), self.identity))

    def give_up_due(self, model: str, stage: str, error: str) -> None:
        """Report the due runs on a model as missing."""
        for planned_run in self.due.pop(model, ()):
            self._store.give_up(planned_run, self._store.next_number(planned_run), stage, error)

    # --- What is active ---

    def intend(self, planned_runs: Sequence[PlannedRun], version: int) -> list[ActiveRun]:
        """Record that the runs are about to be scheduled: the call must not be made twice."""
        runs = [self._intended(planned_run, version) for planned_run in planned_runs]
        self._store.commit(*(Update(run.attempt) for run in runs))
        for run in runs:
            self._activate(run)
        return runs

    def mark_scheduled(self, run: ActiveRun) -> Update:
        """Record that the server has accepted the run."""
        run.attempt = self._store.put(run.attempt.with_(phase=Phase.SCHEDULED))
        run.listed_by = anyio.current_time() + LISTED_WITHIN
        return Update(run.attempt, RunScheduled(run.planned_run, run.attempt.number))

    def mark_named(self, run: ActiveRun, run_id: int) -> None:
        """Record which run the server has named for the attempt, or 0. A list may have shown it, or another, before."""
        self._store.save_named(run.attempt, run_id)
        self.foreign_runs.discard(run_id)
        if run.attempt.run_id in (None, run_id):
            run.certain_id = run_id

    def mark_found(self, run: ActiveRun, listed: Run) -> Update:
        """Record that `listed` is the run of the attempt."""
        attempt = run.attempt = self._store.put(run.attempt.with_(phase=Phase.FOUND, run_id=listed.id))
        self._look_up(run)
        run.listed_by = anyio.current_time() + LISTED_AGAIN_WITHIN
        self.by_run[listed.id] = run
        self.our_runs.add(listed.id)
        event = RunFound(run.planned_run, attempt.number, listed.id, attempt.version, run.adopted)
        return Update(attempt, event)

    def adopt(self, planned_run: PlannedRun, listed: Run, version: int) -> Update:
        """Use someone else's run for a planned run: on request, or because the server does not accept a second one."""
        run = self._intended(planned_run, version)
        run.adopted = run.taken_over = True
        self._activate(run)
        self.foreign_runs.discard(listed.id)
        return self.mark_found(run, listed)

    def void(self, run: ActiveRun, cause: VoidCause, reason: str = "") -> Update:
        """Record that the attempt has no run, and make its planned run due again.

        `reason` is reported, unless the cause is a failed call.
        """
        self.stop_watching(run)
        self.settle_cost(run)
        attempt = run.attempt = self._store.put(run.attempt.with_(phase=Phase.VOID))
        self.add_due(run.planned_run, first=True)
        if cause in (VoidCause.NOT_DONE, VoidCause.REFUSED):
            return Update(attempt)
        return Update(attempt, RunSkipped(run.planned_run, attempt.number, reason))

    def mark_cancelled(self, run: ActiveRun) -> Update:
        """Record that the run was cancelled on the server. What it has cost is in the quota only."""
        self.stop_watching(run)
        self.settle_cost(run)
        run_id = run.known_id
        self.our_runs.add(run_id)
        attempt = run.attempt = self._store.put(run.attempt.with_(phase=Phase.CANCELLED, run_id=run_id))
        return Update(attempt, RunCancelled(run.planned_run, attempt.number, run_id))

    def stop_watching(self, run: ActiveRun) -> None:
        """Stop searching the lists for the run, and end its live log."""
        del self.active[run.planned_run]
        on_model = self.by_model[run.planned_run.model]
        del on_model[run.planned_run]
        if not on_model:
            del self.by_model[run.planned_run.model]
        if run.attempt.run_id is not None:
            del self.by_run[run.attempt.run_id]
        run.watched = False
        run.notify()
        if run.log_scope is not None:
            tail = run.log_tail if run.ended else 0.0
            run.log_scope.deadline = min(run.log_scope.deadline, anyio.current_time() + tail)
        self.wakeup.set()

    def settle_cost(self, run: ActiveRun) -> None:
        """Record that nothing more will be learned about the cost of the run."""
        if not run.cost_known:
            run.cost_known = True
            self.pending_costs.add(run.planned_run.model, -1)

    def _intended(self, planned_run: PlannedRun, version: int) -> ActiveRun:
        number, now = self._store.next_number(planned_run), self._clock()
        attempt = Attempt(planned_run, number, self.identity, version, phase=Phase.INTENDED, intended_at=now)
        return ActiveRun(self._store.put(attempt), anyio.current_time(), listed_by=None)

    def _look_up(self, run: ActiveRun) -> None:
        """Set the `certain_id` of a run that an earlier process scheduled, if the server had named it.

        That process may have ended before it learned that the run was cancelled.
        """
        run_id = 0 if run.attempt.phase is Phase.INTENDED else self._store.named_run(run.attempt)
        if run_id and not run.certain_id and run.attempt.run_id in (None, run_id):
            run.certain_id = run_id
            self.foreign_runs.discard(run_id)
            if self._store.may_be_cancelled(run_id):
                run.cancel_asked_at = anyio.current_time()

    def _activate(self, run: ActiveRun) -> None:
        self.active[run.planned_run] = run
        self.by_model.setdefault(run.planned_run.model, {})[run.planned_run] = run
        if run.attempt.run_id is not None:
            self.by_run[run.attempt.run_id] = run
        self.pending_costs.add(run.planned_run.model)

    # --- Whose the runs on the server are ---

    def assign(self, unknown: Mapping[str, list[Run]]) -> list[Update]:
        """Assign the runs in `unknown`, by model, to the attempts whose runs are not found yet.

        A run that the server has named goes to its attempt, whatever the list calls its model. Of the others, the one
        with the lowest id goes to the attempt that was intended first. A run that fits none belongs to an abandoned
        attempt or is foreign.
        """
        updates: list[Update] = []
        foreign: list[int] = []
        named = {run.certain_id: run for run in self.active.values() if run.attempt.needs_lookup}
        for model, listed in unknown.items():
            in_flight = self.by_model.get(model, {}).values()
            sought = sorted(
                (run for run in in_flight if run.attempt.needs_lookup and not run.certain_id),
                key=lambda run: (run.attempt.intended_at, run.planned_run.repeat, run.attempt.number),
            )
            for one in sorted(listed, key=lambda run: run.id):
                possible = [named[one.id]] if one.id in named else sought
                run = next((run for run in possible if fits(one, run.attempt)), None)
                if run is not None:
                    possible.remove(run)
                    updates.append(self.mark_found(run, one))
                elif (attempt := self._take_abandoned(one)) is not None:
                    updates.append(Update(attempt))
                else:
                    foreign.append(one.id)
        if foreign:
            self.foreign_runs.update(foreign)
            self._store.journal.save_foreign_runs(self.slug, foreign)
        return updates

    def abandon(self, attempt: Attempt) -> None:
        """Remember an attempt that is no longer watched, so that its run is not taken for a foreign one."""
        if attempt.needs_lookup:
            self.abandoned_attempts.setdefault(attempt.planned_run.model, []).append(attempt)

    def _take_abandoned(self, listed: Run) -> Attempt | None:
        """Return the abandoned attempt of the run, now found.

        An attempt at earlier content takes only a run of a known version: another may be that of an active attempt.
        """
        attempts = self.abandoned_attempts.get(model_of(listed), [])
        for attempt in attempts:
            certain = bool(listed.task_slug.version_number) or attempt.identity == self.identity
            if certain and fits(listed, attempt):
                attempts.remove(attempt)
                self.our_runs.add(listed.id)
                if attempt.identity != self.identity:
                    self.earlier_runs.add(listed.id)
                return self._store.put(attempt.with_(phase=Phase.FOUND, run_id=listed.id))
        return None
