"""Whether a task must be pushed: one pure function, for the preview that says so and the engine that does it."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from fanbench.sweeps.attempts import Attempt, Phase, TaskPhase, TaskRecord, of_identity, version_identity
from fanbench.wire.messages import Task

__all__ = ["PushStep", "Step", "next_step", "push_step"]

_VERSION_PREFIX = version_identity(0).removesuffix("0")


class PushStep(enum.StrEnum):
    """What a task's push comes to. Whether it is done at once is another matter: see `needs_push`."""

    #: It is not on the server.
    NEW = "new"
    #: It is on the server, and nobody knows whether what is there is this content.
    NEW_VERSION = "new version"
    #: The sweep pushed another content of it before.
    CHANGED = "changed"
    #: The newest version on the server is the one that the sweep pushed, with this content.
    UNCHANGED = "unchanged"
    #: The push was cut off, but had reached the server: its version is taken for ours.
    ADOPTED = "adopted"
    #: It is on the server and named by its slug: there is nothing that could be pushed.
    EXISTING = "existing"

    @property
    def needs_push(self) -> bool:
        """Whether a create call is made, once a run of the task is to be scheduled."""
        return self in (PushStep.NEW, PushStep.NEW_VERSION, PushStep.CHANGED)


def push_step(record: TaskRecord | None, identity: str, seen: Task | None) -> PushStep:
    """What is to be done for a task whose content is `identity` and which the server has as `seen`.

    | record                | on the server                   | step        |
    |-----------------------|---------------------------------|-------------|
    | (a task by its slug)  | any                             | existing    |
    | any                   | nothing                         | new         |
    | none                  | any version                     | new version |
    | of another content    | any version                     | changed     |
    | pushing               | newer than the record's version | adopted     |
    | pushing               | not newer                       | new version |
    | pushed, ready         | the record's version            | unchanged   |
    | pushed, ready         | another version                 | new version |
    | failed                | any version                     | new version |
    """
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
        case _:
            return PushStep.NEW_VERSION


class Step(enum.StrEnum):
    """What a unit needs next. (Logs and outputs are apart: see `wants_log` and `wants_output`.)"""

    SCHEDULE = "schedule"
    #: It was, or may have been, scheduled: find its run on the server.
    FIND = "find"
    WATCH = "watch"
    NOTHING = "nothing"


def next_step(attempts: Iterable[Attempt], identity: str, *, retry_errored: int = 0) -> Step:
    """What is to be done for a unit whose attempts are `attempts`, if its task's content is `identity`.

    | newest attempt at this content        | step     |
    |---------------------------------------|----------|
    | none                                  | schedule |
    | intended, scheduled                   | find     |
    | found                                 | watch    |
    | ended, completed                      | nothing  |
    | ended, errored `retry_errored` times  | schedule |
    | ended, errored more often             | nothing  |
    | void                                  | schedule |
    """
    mine = of_identity(attempts, identity)
    if not mine:
        return Step.SCHEDULE
    match mine[-1].phase:
        case Phase.INTENDED | Phase.SCHEDULED:
            return Step.FIND
        case Phase.FOUND:
            return Step.WATCH
        case Phase.VOID:
            return Step.SCHEDULE
        case Phase.ENDED:
            failures = sum(one.errored for one in mine)
            return Step.SCHEDULE if mine[-1].errored and failures <= retry_errored else Step.NOTHING
