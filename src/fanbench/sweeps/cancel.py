"""Cancels runs on the server that a sweep leaves (`--cancel`), instead of leaving them to run and to cost money.

Only runs are cancelled that this sweep has certainly scheduled: the server has named them in its answer to a schedule
call, and the journal has that. A run that was found on the server after an answer was lost may be somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import anyio

from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.cancel import PAUSES, request_cancel
from fanbench.operations.lookup import UnsupportedByServer
from fanbench.sweeps.attempt_store import AttemptStore
from fanbench.sweeps.attempts import Phase
from fanbench.sweeps.events import CancelEnded, EmitSweepEvent
from fanbench.sweeps.spec import CancelPolicy
from fanbench.sweeps.task_runs import ActiveRun, TaskRuns
from fanbench.wire.messages import RunState

__all__ = ["CANCEL_LIMIT", "Canceller"]

# The states of runs that have not begun, as far as is known.
_QUEUED = (None, RunState.QUEUED)
#: Seconds after which what the server has not cancelled is left to it.
CANCEL_LIMIT = 60.0


class Canceller:
    """Cancels runs in flight: those in the scope of a policy, and single ones at their time limit."""

    def __init__(
        self,
        client: Api,
        tasks: Mapping[str, TaskRuns],
        store: AttemptStore,
        policy: CancelPolicy,
        emit: EmitSweepEvent,
        wake_waiting: Callable[[], None],
    ) -> None:
        self._policy: CancelPolicy = policy
        self._client = client
        self._tasks = tasks
        self._store = store
        self._emit = emit
        self._wake_waiting = wake_waiting
        self._cancelled = 0
        #: What cancelling is wanted for when the sweep drains: "never" until then.
        self._wanted: CancelPolicy = "never"
        self._news = anyio.Event()
        #: Runs at their time limit, each with what to do if it cannot be cancelled.
        self._late: list[tuple[ActiveRun, Callable[[], None]]] = []
        self.at_work = False

    # --- Asking for it ---

    def want(self, policy: CancelPolicy) -> None:
        """Cancel what is in the scope of `policy` now and, as long as `run` runs, soon."""
        if policy != "never":
            self._wanted = policy
            self.at_work = True
            self._news.set()

    def take_late(self, run: ActiveRun, give_up: Callable[[], None]) -> bool:
        """Cancel a run at its time limit, or else `give_up`; return False if it is not in the scope of the policy."""
        if run.being_cancelled:
            return True
        if not self._in_scope(run, self._policy):
            return False
        run.being_cancelled = True
        self._late.append((run, give_up))
        self._news.set()
        return True

    # --- Doing it ---

    async def run(self) -> None:
        """Cancel what is asked for. Runs until it is cancelled itself."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            if self._wanted != "never":
                wanted, self._wanted = self._wanted, "never"
                await self.cancel_all(wanted)
            late, self._late = self._late, []
            if late:
                await self._cancel_late(late)

    async def cancel_all(self, policy: CancelPolicy, *, ends: bool = False) -> None:
        """Cancel all runs in the scope of `policy`, and say what has come of it. This takes a minute at most.

        If the sweep `ends` then, it does not follow those that are left.
        """
        self.at_work = True
        before = self._cancelled

        def rest() -> list[ActiveRun]:
            return [run for run in self._active() if self._in_scope(run, policy)]

        error = ""
        try:
            error = await self._cancel(rest, include_active=policy == "all")
        finally:
            left = [run for run in self._active() if policy == "all" or run.state in _QUEUED]
            if left and not error:
                those = "it" if len(left) == 1 else "them"
                unsure = not rest()
                error = (
                    f"it is not certain that this sweep scheduled {those}"
                    if unsure
                    else f"the server has not stopped {those}"
                )
            followed = bool(left) and not ends
            self._emit(CancelEnded(self._cancelled - before, len(left), error if left else "", followed))
            self.at_work = self._wanted != "never"

    async def _cancel_late(self, late: list[tuple[ActiveRun, Callable[[], None]]]) -> None:
        include_active = self._policy == "all"
        await self._cancel(lambda: [run for run, _ in late if run.watched], include_active=include_active)
        for run, give_up in late:
            if run.watched:
                give_up()

    async def _cancel(self, rest: Callable[[], list[ActiveRun]], *, include_active: bool) -> str:
        """Ask the server until nothing is left, or the time is over. Return the last error."""
        error, pauses = "", iter(PAUSES)
        with anyio.move_on_after(CANCEL_LIMIT):
            while runs := rest():
                if named := [run for run in runs if run.certain_id]:
                    try:
                        await self._request(named, include_active=include_active)
                        error = ""
                    except UnsupportedByServer as refusal:
                        return str(refusal)
                    except FanbenchError as failure:
                        error = str(failure)
                if rest():
                    # The lists show what the server has not counted, and what a call under way has scheduled.
                    self._hurry(runs)
                    await anyio.sleep(next(pauses, PAUSES[-1]))
        return error

    async def _request(self, runs: Iterable[ActiveRun], *, include_active: bool) -> None:
        asked = list(runs)
        ids = [run.certain_id for run in asked]
        self._store.save_cancelling(ids)
        for run in asked:
            run.cancel_under_way = True
        try:
            answer = await request_cancel(self._client, ids, include_active=include_active)
        finally:
            for run in asked:
                run.cancel_under_way = False
        now = anyio.current_time()
        for run in asked:
            run.cancel_asked_at = now
        if answer.queued_cancelled_count + answer.active_terminated_count == len(ids):
            self.record(run for run in asked if run.watched)

    def record(self, runs: Iterable[ActiveRun]) -> None:
        """Record that the server has cancelled these runs."""
        cancelled = list(runs)
        self._store.commit(*(self._tasks[run.planned_run.task].mark_cancelled(run) for run in cancelled))
        self._cancelled += len(cancelled)
        # A watcher that waits for its next poll learns that it has nothing to wait for.
        self._hurry(cancelled)
        if cancelled:
            self._wake_waiting()

    def _hurry(self, runs: Iterable[ActiveRun]) -> None:
        """List the runs of the tasks of `runs` now."""
        for task in dict.fromkeys(run.planned_run.task for run in runs):
            self._tasks[task].hurry()

    # --- Which runs ---

    def _active(self) -> list[ActiveRun]:
        return [run for task in self._tasks.values() for run in task.active.values()]

    def _in_scope(self, run: ActiveRun, policy: CancelPolicy) -> bool:
        """Whether the run is to be cancelled, or a call under way or the next list may still show its id."""
        may_be_named = run.being_scheduled or run.attempt.phase is Phase.SCHEDULED
        if policy == "never" or not (run.certain_id or may_be_named):
            return False
        return policy == "all" or run.state in _QUEUED
