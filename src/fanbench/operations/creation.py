"""Waiting until the server has created a version of a task."""

from __future__ import annotations

import anyio

from fanbench._util.polling import POLL_INTERVAL, CreationPace, Deadline
from fanbench.errors import FanbenchError, RunFailed
from fanbench.operations.api import Api
from fanbench.operations.events import CreationPolled, Emit, VersionSuperseded, ignore_events
from fanbench.operations.lookup import existing_task
from fanbench.operations.watch import FailedPolls, StillRunning
from fanbench.wire.messages import CreationState, Task

__all__ = ["ensure_created", "wait_for_creation"]


async def wait_for_creation(
    client: Api,
    slug: str,
    deadline: Deadline,
    *,
    seen: Task | None = None,
    version: int = 0,
    poll_interval: float = POLL_INTERVAL,
    emit: Emit = ignore_events,
) -> Task:
    """Poll a task until its creation has ended, well or badly (see `ensure_created`), and return the task.

    This is the only loop that polls creations. A state that is not known is not an end. Answers about a version
    earlier than `version` are ignored; a later one is reported (`VersionSuperseded`), and `version` itself is polled
    from then on. If the task was just `seen` in progress, the first poll comes after a pause.
    `poll_interval` is in seconds.

    Raises:
        StillRunning: The creation has not ended by the deadline.
        FanbenchError: The task cannot be read: it does not exist, or too many polls in a row failed.
    """
    pace, failed_polls = CreationPace(poll_interval), FailedPolls(slug, emit)
    task = seen if seen is not None and not seen.creation_state.ended else None
    previous, polled = None, 0
    with anyio.move_on_after(deadline.left):
        while True:
            asked = 0.0
            if task is None:
                try:
                    task = await existing_task(client, slug, polled)
                    failed_polls.reset()
                except FanbenchError as error:
                    asked = failed_polls.add(error)
            if task is not None:
                if 0 < version < task.slug.version_number and not polled:
                    emit(VersionSuperseded(slug, version, task.slug.version_number))
                    polled, task = version, None
                    continue
                if task.creation_state.ended and task.slug.version_number >= version:
                    return task
                emit(CreationPolled(slug, task, task.creation_state != previous))
                previous, task = task.creation_state, None
            await anyio.sleep(max(pace.next(), asked))
    state = f"is {previous.label}" if previous is not None else "has not been answered for"
    raise StillRunning(
        f"Timed out after {deadline.seconds or 0:g}s: the creation of task '{slug}' {state}.",
        hint=f"Run `fanbench tasks status {slug}` to see how it proceeds.",
    )


def ensure_created(slug: str, task: Task) -> Task:
    """Return `task` if its creation has completed.

    Raises:
        RunFailed: The creation failed. The message has the state and the server's reason.
    """
    if task.creation_state == CreationState.COMPLETED:
        return task
    reason = f"\n  Error: {task.failure}" if task.failure else ""
    raise RunFailed(f"Task '{slug}' creation failed (status: {task.creation_state.label}).{reason}")
