"""The units of work of a sweep, and the one rule that says what is still to be done for each.

A unit is a planned run: one task on one model, once. It is served by attempts, each of which is at most one
run on the server: the first, and those that `--retry-errored` adds. What happened to attempts is in the
journal; `next_step` is pure, so that whether work must be done again can be read, and tested, as a table.
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

# Part of each identity: to be raised when what makes up the content of a task changes.
_IDENTITY_VERSION = 1


class PlannedRun(msgspec.Struct, frozen=True, order=True):
    """A planned run. `task` is a slug ("slug" or "owner/slug"), `model` a normalized one, `repeat` from 1."""

    task: str
    model: str
    repeat: int = 1


def expand_runs(tasks: Iterable[str], models: Sequence[str], repeats: int) -> list[PlannedRun]:
    """All planned runs in the order of the plan: by task, then model, then repeat."""
    return [
        PlannedRun(task, model, repeat)
        for task in tasks
        for model in models
        for repeat in range(1, repeats + 1)
    ]


# --- Identity -----------------------------------------------------------------------------------------------


def content_identity(notebook: str, datasets: Iterable[str]) -> str:
    """What a pushed task is: the same notebook on the same datasets, and nothing of how it got there."""
    content = json.dumps({"notebook": notebook, "datasets": sorted(set(datasets))}, sort_keys=True)
    return f"content-{_IDENTITY_VERSION}:{hashlib.sha256(content.encode()).hexdigest()}"


def version_identity(version: int) -> str:
    """What a task is that is on the server already, and whose content we do not have."""
    return f"version-{_IDENTITY_VERSION}:{version}"


# --- Tasks --------------------------------------------------------------------------------------------------


class TaskPhase(enum.StrEnum):
    """How far a task is, as the journal has it."""

    #: About to be pushed: the call may or may not have reached the server.
    PUSHING = "pushing"
    #: The server has the version; its creation may go on.
    PUSHED = "pushed"
    #: The version can be run.
    READY = "ready"
    #: Its creation failed.
    FAILED = "failed"


class TaskRecord(msgspec.Struct, frozen=True):
    """What the journal has of a task: `identity` of the content, and the `version` that it is on the server.

    While it is `PUSHING`, `version` is the newest that the server had before (0 for none). `pushed_at` is when
    the push was about to be made, in seconds since 1970; 0 for a task that the sweep did not push.
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
    #: The server has scheduled it; which run it is was not seen yet.
    SCHEDULED = "scheduled"
    #: Its run is known, and goes on as far as anybody knows.
    FOUND = "found"
    #: Its run has ended, `state` says how.
    ENDED = "ended"
    #: There is no run of it: the server skipped it, or never had it.
    VOID = "void"


class SavedOutput(msgspec.Struct, frozen=True):
    """An output in its place. `path` is relative to the sweep's folder, `size` in bytes.

    `digest` is a SHA-256 over the names and contents of all files but the log; `changed` is when the newest of
    them was last written, in nanoseconds since 1970 (0: not known).
    """

    path: str
    files: int
    size: int
    digest: str
    changed: int = 0


class SavedLog(msgspec.Struct, frozen=True):
    """A log in its place, whole. `path` is relative to the sweep's folder, `size` in bytes."""

    path: str
    lines: int
    size: int


class Attempt(msgspec.Struct, frozen=True):
    """One go at a unit. `number` counts from 1 within the unit; `identity` is that of the task's content.

    `intended_at` is in seconds since 1970. `state` is that of the end, `None` before.
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

    def with_(self, **changes: Any) -> Attempt:
        """The same attempt, further."""
        return msgspec.structs.replace(self, **changes)

    @property
    def errored(self) -> bool:
        return self.state == RunState.ERRORED

    @property
    def needs_lookup(self) -> bool:
        """Whether its run must be looked for on the server."""
        return self.phase in (Phase.INTENDED, Phase.SCHEDULED)


def by_planned_run(attempts: Iterable[Attempt]) -> dict[PlannedRun, list[Attempt]]:
    """As they are in a journal: only units that have some, each one's in their order."""
    found: dict[PlannedRun, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.planned_run, []).append(attempt)
    return found


def of_identity(attempts: Iterable[Attempt], identity: str) -> list[Attempt]:
    """The attempts at this content, oldest first; those at earlier contents do not count."""
    return sorted((one for one in attempts if one.identity == identity), key=lambda one: one.number)


def real_ones(attempts: Iterable[Attempt], identity: str) -> list[Attempt]:
    """Those of them that are, or may be, runs on the server."""
    return [one for one in of_identity(attempts, identity) if one.phase is not Phase.VOID]


def newest(attempts: Iterable[Attempt], identity: str) -> Attempt | None:
    """The last attempt at this content that is, or may be, a run on the server."""
    return next(reversed(real_ones(attempts, identity)), None)


def wants_output(attempt: Attempt) -> bool:
    """Whether its output is still to be fetched."""
    return attempt.phase == Phase.ENDED and attempt.output is None


def wants_log(attempt: Attempt) -> bool:
    """Whether its log is still to be written down whole."""
    return attempt.phase == Phase.ENDED and attempt.log is None
