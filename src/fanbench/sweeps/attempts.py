"""Planned runs and the attempts at them, as the journal records them.

A planned run is one task on one model, once. It is served by attempts, each of which is at most one run on the
server: the first, and those that `--retry-errored` and `--rerun` add.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from fanbench.wire.messages import RunState

__all__ = [
    "Attempt",
    "Phase",
    "PlannedRun",
    "SavedLog",
    "SavedOutput",
    "TaskPhase",
    "TaskRecord",
    "by_planned_run",
    "content_identity",
    "expand_runs",
    "newest",
    "of_identity",
    "real_ones",
    "version_identity",
    "wants_log",
    "wants_output",
]

# A part of each identity, to be increased when the definition of a task's content changes.
_IDENTITY_VERSION = 1


class PlannedRun(msgspec.Struct, frozen=True, order=True):
    """`task` is a slug ("slug" or "owner/slug"), `model` a normalized slug, and `repeat` counts from 1."""

    task: str
    model: str
    repeat: int = 1


def expand_runs(tasks: Iterable[str], models: Sequence[str], repeats: int) -> list[PlannedRun]:
    """Return all planned runs in the order of the plan: by task, then model, then repeat."""
    return [
        PlannedRun(task, model, repeat)
        for task in tasks
        for model in models
        for repeat in range(1, repeats + 1)
    ]


# --- Tasks --------------------------------------------------------------------------------------------------


def content_identity(notebook: str, datasets: Iterable[str]) -> str:
    """Return the identity of a task to push: the same for the same notebook on the same datasets."""
    content = json.dumps({"notebook": notebook, "datasets": sorted(set(datasets))}, sort_keys=True)
    return f"content-{_IDENTITY_VERSION}:{hashlib.sha256(content.encode()).hexdigest()}"


def version_identity(version: int) -> str:
    """Return the identity of a task that the server already has, whose content we do not have."""
    return f"version-{_IDENTITY_VERSION}:{version}"


class TaskPhase(enum.StrEnum):
    """How far a task is, as the journal has it."""

    #: About to be pushed: the call may or may not have reached the server.
    PUSHING = "pushing"
    #: The server has the version; its creation may still be in progress.
    PUSHED = "pushed"
    #: The version can be run.
    READY = "ready"
    #: The server refused the push.
    REFUSED = "refused"
    #: The creation of the version failed.
    FAILED = "failed"

    @property
    def unusable(self) -> bool:
        """Whether no run can be scheduled with this content, as far as is known."""
        return self in (TaskPhase.REFUSED, TaskPhase.FAILED)


class TaskRecord(msgspec.Struct, frozen=True):
    """What the journal has of a task: the `identity` of its content, and its `version` on the server.

    While it is `PUSHING`, `version` is the newest that the server had before (0 for none). `pushed_at` is the time
    just before the push, in seconds since 1970; 0 for a task that the sweep did not push.
    """

    task: str
    identity: str
    phase: TaskPhase
    version: int = 0
    error: str = ""
    pushed_at: float = 0.0


# --- Attempts -----------------------------------------------------------------------------------------------


class Phase(enum.StrEnum):
    """How far an attempt is, as the journal has it."""

    #: About to be scheduled: the call may or may not have reached the server.
    INTENDED = "intended"
    #: The server has accepted it, but its run was not listed yet.
    SCHEDULED = "scheduled"
    #: Its run is known, and has not ended as far as is known.
    FOUND = "found"
    #: Its run has ended; `state` tells how.
    ENDED = "ended"
    #: Its run was cancelled on the server, because the sweep left it (`--cancel`). It is no result.
    CANCELLED = "cancelled"
    #: It has no run: the server skipped it, or never had it.
    VOID = "void"


class SavedOutput(msgspec.Struct, frozen=True):
    """An output that is complete on disk. `path` is relative to the sweep's folder, `size` is in bytes.

    `digest` is a SHA-256 over the names and contents of all files. `changed` is when the newest of them
    was last written, in nanoseconds since 1970 (0 if unknown).
    """

    path: str
    files: int
    size: int
    digest: str
    changed: int = 0


class SavedLog(msgspec.Struct, frozen=True):
    """A log that is complete on disk. `path` is relative to the sweep's folder, `size` is in bytes."""

    path: str
    lines: int
    size: int


class Attempt(msgspec.Struct, frozen=True):
    """One attempt at a planned run. `number` counts from 1; `identity` is that of the task's content.

    `intended_at` is in seconds since 1970. `state` is the final state of the run, None before it has ended. `result` is
    what the server reports for an ended run: a score, or whether it passed; None for nothing.
    """

    planned_run: PlannedRun
    number: int
    identity: str
    version: int
    phase: Phase
    intended_at: float
    run_id: int | None = None
    state: RunState | None = None
    error: str = ""
    output: SavedOutput | None = None
    log: SavedLog | None = None
    result: float | bool | None = None

    def with_(self, **changes: Any) -> Attempt:
        """Return a copy with some fields changed."""
        return msgspec.structs.replace(self, **changes)

    @property
    def errored(self) -> bool:
        return self.state == RunState.ERRORED

    @property
    def needs_lookup(self) -> bool:
        """Whether its run must be found on the server."""
        return self.phase in (Phase.INTENDED, Phase.SCHEDULED)


def by_planned_run(attempts: Iterable[Attempt]) -> dict[PlannedRun, list[Attempt]]:
    """Group attempts by planned run, in the order in which they come."""
    found: dict[PlannedRun, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.planned_run, []).append(attempt)
    return found


def of_identity(attempts: Iterable[Attempt], identity: str) -> list[Attempt]:
    """Return the attempts at this content, oldest first; those at other contents do not count."""
    return sorted((one for one in attempts if one.identity == identity), key=lambda one: one.number)


def real_ones(attempts: Iterable[Attempt], identity: str) -> list[Attempt]:
    """Return the attempts at this content that are, or may be, runs on the server, oldest first."""
    return [one for one in of_identity(attempts, identity) if one.phase is not Phase.VOID]


def newest(attempts: Iterable[Attempt], identity: str) -> Attempt | None:
    """Return the last of `real_ones`."""
    return next(reversed(real_ones(attempts, identity)), None)


def wants_output(attempt: Attempt) -> bool:
    """Return True if the run has ended and its output is not on disk yet."""
    return attempt.phase == Phase.ENDED and attempt.output is None


def wants_log(attempt: Attempt) -> bool:
    """Return True if the run has ended and its log is not complete on disk yet."""
    return attempt.phase == Phase.ENDED and attempt.log is None
