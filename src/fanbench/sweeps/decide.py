"""What a sweep decides, as pure functions with a table each: what to push, what to do next, and what came of a run.

The preview, the engine, the live screen and the report all ask here, so they cannot disagree.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from typing import Literal

from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    TaskPhase,
    TaskRecord,
    of_identity,
    version_identity,
    wants_log,
    wants_output,
)
from fanbench.wire.messages import RunState, Task

__all__ = [
    "COUNTED",
    "REPORTED",
    "PushStep",
    "RunStatus",
    "Stage",
    "Step",
    "VoidCause",
    "attempt_status",
    "first_stage",
    "is_ready",
    "next_stage",
    "next_step",
    "push_step",
    "run_status",
]


# --- Tasks --------------------------------------------------------------------------------------------------


class PushStep(enum.StrEnum):
    """What pushing a task comes to. See `needs_push` for whether a call is made at all."""

    #: The server does not have the task.
    NEW = "new"
    #: The server has the task, but nothing proves that it has this content.
    NEW_VERSION = "new version"
    #: The sweep pushed other content for this task before.
    CHANGED = "changed"
    #: The newest version on the server is the one that the sweep pushed, with this content.
    UNCHANGED = "unchanged"
    #: The newest version on the server has this content, though this sweep did not push it.
    SAME = "same"
    #: An interrupted push did reach the server; its version is taken as ours.
    ADOPTED = "adopted"
    #: The creation of this very content failed, so it would fail again.
    FAILED = "failed"
    #: The task was named by its slug, so there is nothing to push.
    EXISTING = "existing"

    @property
    def needs_push(self) -> bool:
        """Whether a new version is created once a run of the task is due."""
        return self in (PushStep.NEW, PushStep.NEW_VERSION, PushStep.CHANGED)


_VERSION_PREFIX = version_identity(0).removesuffix("0")


def push_step(
    record: TaskRecord | None,
    identity: str,
    seen: Task | None,
    *,
    same: bool | None = None,
    retry_failed: bool = False,
) -> PushStep:
    """Return what to do for a task with content `identity` that the server has as `seen`.

    `same` tells whether `seen` certainly has this content: then nothing is pushed, whatever the record. With
    `retry_failed`, content whose creation failed is pushed again.

    | record                | on the server                   | step        |
    |-----------------------|---------------------------------|-------------|
    | (named by its slug)   | any                             | existing    |
    | any                   | nothing                         | new         |
    | none                  | any version                     | new version |
    | of other content      | any version                     | changed     |
    | pushing               | newer than the record's version | adopted     |
    | pushing               | not newer                       | new version |
    | pushed, ready         | the record's version            | unchanged   |
    | pushed, ready         | another version                 | new version |
    | refused               | any version                     | new version |
    | failed                | any version                     | failed      |
    | failed, to be retried | any version                     | new version |
    | any                   | a version with this content     | same        |
    """
    step = _step_by_record(record, identity, seen, retry_failed=retry_failed)
    return PushStep.SAME if same and step in (PushStep.NEW_VERSION, PushStep.CHANGED) else step


def _step_by_record(
    record: TaskRecord | None, identity: str, seen: Task | None, *, retry_failed: bool
) -> PushStep:
    """Return what to do by the journal alone."""
    if identity.startswith(_VERSION_PREFIX):
        return PushStep.EXISTING
    if seen is None:
        return PushStep.NEW
    if record is None:
        return PushStep.NEW_VERSION
    if record.identity != identity:
        return PushStep.CHANGED
    match record.phase:
        case TaskPhase.PUSHING if seen.slug.version_number > record.version:
            return PushStep.ADOPTED
        case TaskPhase.PUSHED | TaskPhase.READY if seen.slug.version_number == record.version:
            return PushStep.UNCHANGED
        case TaskPhase.FAILED if not retry_failed:
            return PushStep.FAILED
        case _:
            return PushStep.NEW_VERSION


def is_ready(record: TaskRecord | None, identity: str) -> bool:
    """Return whether nothing has to be pushed or created before runs of content `identity` are scheduled."""
    if identity.startswith(_VERSION_PREFIX):
        return True
    return record is not None and record.identity == identity and record.phase is TaskPhase.READY


# --- Planned runs: what is next -----------------------------------------------------------------------------


class Step(enum.StrEnum):
    """What a planned run needs next."""

    #: It has no attempt, or its newest one is void (see `VoidCause`), was cancelled, has errored with a retry left, or
    #: is to be made again on request.
    SCHEDULE = "schedule"
    #: A run was or may have been scheduled: find it on the server.
    FIND = "find"
    WATCH = "watch"
    #: The run has ended, but an output or a log is not on disk yet.
    COLLECT = "collect"
    DONE = "done"


class VoidCause(enum.StrEnum):
    """Why an attempt has no run on the server, so that its planned run is due again.

    | cause        | its planned run is scheduled again                        | it is given up                |
    |--------------|-----------------------------------------------------------|-------------------------------|
    | skipped      | after the run in the way has ended; if none is seen,      | after the last of the pauses  |
    |              | after pauses of 5 s to 60 s                               |                               |
    | not done     | after a pause                                             | once no retry is left         |
    | refused      | at once, in a call for its model only                     | if that is refused as well    |
    | never listed | at once                                                   | if the server accepted it and |
    |              |                                                           | never listed it a second time |

    While the outcome of a call is unknown, its attempts remain `INTENDED`: lists show their runs soon, or never. A run
    that was listed and is no longer counts as cancelled.
    """

    #: The server answered that it skips the model.
    SKIPPED = "skipped"
    #: The schedule call failed, and the server has certainly not carried it out.
    NOT_DONE = "not done"
    #: The server refused the schedule call.
    REFUSED = "refused"
    #: No list has shown the run in time.
    NEVER_LISTED = "never listed"


def next_step(
    attempts: Iterable[Attempt], identity: str, *, retry_errored: int = 0, rerun_after: int = 0
) -> Step:
    """Return what a planned run with these `attempts` needs, if its task now has the content `identity`.

    | newest attempt at this content            | step     |
    |-------------------------------------------|----------|
    | none, void, cancelled                     | schedule |
    | intended, scheduled                       | find     |
    | found                                     | watch    |
    | ended, and not after `rerun_after`        | schedule |
    | ended, errored, and retries are left      | schedule |
    | ended, an attempt's output or log missing | collect  |
    | ended, all outputs and logs on disk       | done     |

    A retry is left while at most `retry_errored` attempts after `rerun_after` have errored.
    """
    mine = of_identity(attempts, identity)
    if not mine or mine[-1].phase in (Phase.VOID, Phase.CANCELLED):
        return Step.SCHEDULE
    if mine[-1].needs_lookup:
        return Step.FIND
    if mine[-1].phase is Phase.FOUND:
        return Step.WATCH
    errors = sum(one.errored for one in mine if one.number > rerun_after)
    if mine[-1].number <= rerun_after or (mine[-1].errored and errors <= retry_errored):
        return Step.SCHEDULE
    return Step.COLLECT if any(wants_output(one) or wants_log(one) for one in mine) else Step.DONE


# --- Stages (--step) ----------------------------------------------------------------------------------------

#: The stages of a sweep, in their order.
Stage = Literal["push", "schedule", "collect"]


def next_stage(steps: Collection[Step], *, ready: bool) -> Stage:
    """Return the first stage that has something to do for a task whose runs need `steps`.

    | some run of the task needs | task is ready | task is not ready |
    |----------------------------|---------------|-------------------|
    | schedule                   | schedule      | push              |
    | find, but none schedule    | schedule      | schedule          |
    | neither                    | collect       | collect           |
    """
    if Step.SCHEDULE in steps:
        return "schedule" if ready else "push"
    return "schedule" if Step.FIND in steps else "collect"


def first_stage(stages: Collection[Stage]) -> Stage:
    """Return the stage of a sweep whose tasks are at `stages`: the earliest of them."""
    if "push" in stages:
        return "push"
    return "schedule" if "schedule" in stages else "collect"


# --- Planned runs: what came of them ------------------------------------------------------------------------


class RunStatus(enum.StrEnum):
    """The status of a planned run. Reports use only those in `REPORTED`; the others occur while a sweep runs."""

    UNSCHEDULED = "unscheduled"
    #: The server has accepted the run, but has not listed it yet.
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    #: The run is on the server. In a report it may also be one whose scheduling was interrupted; the next sweep
    #: finds out.
    RUNNING = "running"
    #: The run has ended; its output or log is still being fetched.
    COLLECTING = "collecting"
    #: The run completed, and its output and log are on disk.
    COMPLETED = "completed"
    ERRORED = "errored"
    #: The run could not be scheduled, watched or fetched; the next sweep tries again.
    MISSING = "missing"
    #: The run was cancelled on the server, by the sweep or by someone else; the next sweep makes it again.
    CANCELLED = "cancelled"

    @property
    def label(self) -> str:
        """The word on the live screen."""
        return _LABELS.get(self, self.value)

    @property
    def over(self) -> bool:
        """Whether nothing more comes of this attempt."""
        return self in (RunStatus.COMPLETED, RunStatus.ERRORED, RunStatus.MISSING, RunStatus.CANCELLED)

    @property
    def in_flight(self) -> bool:
        """Whether the run is on the server and has not ended, as far as is known."""
        return self in (RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.RUNNING)


#: The statuses in a report, in the order in which they are counted.
REPORTED = (
    RunStatus.COMPLETED,
    RunStatus.ERRORED,
    RunStatus.MISSING,
    RunStatus.RUNNING,
    RunStatus.UNSCHEDULED,
    RunStatus.CANCELLED,
)
#: All statuses, in the order in which screens count them.
COUNTED = (
    RunStatus.COMPLETED,
    RunStatus.ERRORED,
    RunStatus.MISSING,
    RunStatus.COLLECTING,
    RunStatus.RUNNING,
    RunStatus.QUEUED,
    RunStatus.SCHEDULED,
    RunStatus.UNSCHEDULED,
    RunStatus.CANCELLED,
)
_LABELS = {RunStatus.UNSCHEDULED: "planned", RunStatus.COMPLETED: "done"}
_AT_WORK = (RunState.RUNNING, RunState.SCORE_PENDING)


def run_status(
    state: RunState | None,
    *,
    scheduled: bool,
    collected: bool = False,
    given_up: bool = False,
    live: bool = False,
) -> RunStatus:
    """Return the status of a planned run from what is known of its newest attempt.

    `state` is the run's state on the server, `None` while unknown. `scheduled` means that there is, or may be,
    a run on the server, `collected` that its output and log are on disk, and `given_up` that this sweep tries
    no more. The third column is for a sweep at work (`live`).

    | newest attempt              | status      | status, live       | once given up |
    |-----------------------------|-------------|--------------------|---------------|
    | not scheduled               | unscheduled | unscheduled        | missing       |
    | scheduled, state unknown    | running     | scheduled          | missing       |
    | scheduled, not ended        | running     | queued or running  | missing       |
    | errored, not collected      | errored     | collecting         | errored       |
    | errored, collected          | errored     | errored            | errored       |
    | completed, not collected    | missing     | collecting         | missing       |
    | completed, collected        | completed   | completed          | completed     |
    """
    if state is not None and state.terminal:
        if live and not collected and not given_up:
            return RunStatus.COLLECTING
        if state == RunState.ERRORED:
            return RunStatus.ERRORED
        return RunStatus.COMPLETED if collected else RunStatus.MISSING
    if given_up:
        return RunStatus.MISSING
    if not scheduled:
        return RunStatus.UNSCHEDULED
    if not live or state in _AT_WORK:
        return RunStatus.RUNNING
    return RunStatus.SCHEDULED if state is None else RunStatus.QUEUED


def attempt_status(newest: Attempt | None, *, given_up: bool = False) -> RunStatus:
    """Return the status of a planned run by its newest attempt that is not void, as the journal has it."""
    if newest is None:
        return run_status(None, scheduled=False, given_up=given_up)
    if newest.phase is Phase.CANCELLED:
        return RunStatus.CANCELLED
    collected = newest.output is not None and newest.log is not None
    return run_status(newest.state, scheduled=True, collected=collected, given_up=given_up)
