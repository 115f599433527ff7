"""Whether a task must be pushed: one pure function, for the preview that says so and the engine that does it."""

from __future__ import annotations

import enum

from fanbench.sweeps.units import TaskPhase, TaskRecord, version_identity
from fanbench.wire.messages import Task

__all__ = ["PushStep", "push_step"]

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
