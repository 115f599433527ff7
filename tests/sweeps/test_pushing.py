"""Whether a task is pushed: the table, and what must hold for all of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.sweeps.attempts import TaskPhase, TaskRecord, content_identity, version_identity
from fanbench.sweeps.decide import PushStep, push_step
from fanbench.wire.messages import Task
from tests.operations.fake import task

MINE, OTHER = content_identity("mine", []), content_identity("other", [])


def record(phase: TaskPhase, version: int = 2, identity: str = MINE) -> TaskRecord:
    return TaskRecord("t", identity, phase, version)


def seen(version: int) -> Task:
    return task("t", version=version)


@pytest.mark.parametrize(
    ("known", "there", "step"),
    [
        (None, None, PushStep.NEW),
        (None, seen(1), PushStep.NEW_VERSION),
        (None, seen(0), PushStep.NEW_VERSION),
        (record(TaskPhase.PUSHING, 0), None, PushStep.NEW),
        (record(TaskPhase.PUSHING, 0), seen(1), PushStep.ADOPTED),
        (record(TaskPhase.PUSHING, 2), seen(3), PushStep.ADOPTED),
        (record(TaskPhase.PUSHING, 2), seen(2), PushStep.NEW_VERSION),
        (record(TaskPhase.PUSHING, 2), seen(1), PushStep.NEW_VERSION),
        (record(TaskPhase.PUSHING, 0, OTHER), seen(1), PushStep.CHANGED),
        (record(TaskPhase.PUSHED), seen(2), PushStep.UNCHANGED),
        (record(TaskPhase.PUSHED), seen(3), PushStep.NEW_VERSION),
        (record(TaskPhase.PUSHED), None, PushStep.NEW),
        (record(TaskPhase.PUSHED, 2, OTHER), seen(2), PushStep.CHANGED),
        (record(TaskPhase.READY), seen(2), PushStep.UNCHANGED),
        (record(TaskPhase.READY), seen(1), PushStep.NEW_VERSION),
        (record(TaskPhase.READY), seen(3), PushStep.NEW_VERSION),
        (record(TaskPhase.READY), None, PushStep.NEW),
        (record(TaskPhase.READY, 2, OTHER), seen(2), PushStep.CHANGED),
        (record(TaskPhase.READY, 2, OTHER), None, PushStep.NEW),
        (record(TaskPhase.READY, 0), seen(0), PushStep.UNCHANGED),
        (record(TaskPhase.FAILED), seen(2), PushStep.NEW_VERSION),
        (record(TaskPhase.FAILED), None, PushStep.NEW),
        (record(TaskPhase.FAILED, 2, OTHER), seen(2), PushStep.CHANGED),
    ],
)
def test_what_a_push_comes_to(known: TaskRecord | None, there: Task | None, step: PushStep) -> None:
    """As the table of `push_step` says."""
    assert push_step(known, MINE, there) == step


RECORDS = st.none() | st.builds(
    record, st.sampled_from(TaskPhase), st.integers(0, 3), st.sampled_from([MINE, OTHER, version_identity(1)])
)
SEEN = st.none() | st.builds(seen, st.integers(0, 3))


@settings(deadline=None)
@given(RECORDS, SEEN)
def test_a_task_that_is_not_there_is_pushed(known: TaskRecord | None, there: Task | None) -> None:
    """And what is pushed again is never what the journal has as the newest on the server."""
    step = push_step(known, MINE, there)
    assert step.needs_push or there is not None
    current = known is not None and there is not None and known.identity == MINE
    current = current and known is not None and known.phase in (TaskPhase.PUSHED, TaskPhase.READY)
    if current and known is not None and there is not None and known.version == there.slug.version_number:
        assert not step.needs_push


@settings(deadline=None)
@given(RECORDS, SEEN, st.integers(0, 3))
def test_a_task_by_its_slug_is_never_pushed(
    known: TaskRecord | None, there: Task | None, version: int
) -> None:
    """Nobody has its content."""
    step = push_step(known, version_identity(version), there)
    assert (step, step.needs_push) == (PushStep.EXISTING, False)
