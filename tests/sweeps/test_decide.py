"""The pure decisions: what to push, what a planned run needs next, and what came of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    SavedLog,
    SavedOutput,
    TaskPhase,
    TaskRecord,
    by_planned_run,
    content_identity,
    newest,
    real_ones,
    version_identity,
)
from fanbench.sweeps.decide import (
    REPORTED,
    PushStep,
    RunStatus,
    Stage,
    Step,
    attempt_status,
    first_stage,
    is_ready,
    next_stage,
    next_step,
    push_step,
    run_status,
)
from fanbench.wire.messages import RunState, Task
from tests.operations.conftest import task

OUTPUT, LOG = SavedOutput("o", 1, 1, "x"), SavedLog("l", 1, 1)
ONE, OTHER = PlannedRun("t", "m", 1), PlannedRun("t", "m", 2)


def attempt(phase: Phase, number: int = 1, *, errored: bool = False, **fields: object) -> Attempt:
    end = RunState.ERRORED if errored else RunState.COMPLETED
    state = end if phase is Phase.ENDED else None
    return Attempt(ONE, number, "now", 1, phase, 0.0, state=state).with_(**fields)


def errored(number: int, **fields: object) -> Attempt:
    return attempt(Phase.ENDED, number, errored=True, **fields)


def collected(number: int = 1, *, errored: bool = False) -> Attempt:
    return attempt(Phase.ENDED, number, errored=errored, output=OUTPUT, log=LOG)


@pytest.mark.parametrize(
    ("attempts", "retries", "step"),
    [
        ([], 0, Step.SCHEDULE),
        ([attempt(Phase.INTENDED)], 0, Step.FIND),
        ([attempt(Phase.SCHEDULED)], 0, Step.FIND),
        ([attempt(Phase.FOUND)], 0, Step.WATCH),
        ([attempt(Phase.ENDED)], 0, Step.COLLECT),
        ([attempt(Phase.ENDED, output=OUTPUT)], 0, Step.COLLECT),
        ([attempt(Phase.ENDED, log=LOG)], 0, Step.COLLECT),
        ([collected()], 0, Step.DONE),
        ([attempt(Phase.VOID)], 0, Step.SCHEDULE),
        ([errored(1)], 0, Step.COLLECT),
        ([collected(errored=True)], 0, Step.DONE),
        ([errored(1)], 1, Step.SCHEDULE),
        ([errored(1), errored(2)], 1, Step.COLLECT),
        ([errored(1), collected(2)], 1, Step.COLLECT),
        ([collected(1, errored=True), collected(2)], 1, Step.DONE),
        ([errored(1), attempt(Phase.VOID, 2)], 1, Step.SCHEDULE),
        ([attempt(Phase.ENDED, 2), errored(1)], 9, Step.COLLECT),
        ([attempt(Phase.ENDED, identity="before")], 0, Step.SCHEDULE),
        ([errored(1).with_(identity="before"), errored(2)], 1, Step.SCHEDULE),
    ],
)
def test_the_next_step(attempts: list[Attempt], retries: int, step: Step) -> None:
    """The step follows the table, by the newest attempt at the present content."""
    assert next_step(attempts, "now", retry_errored=retries) is step


def test_the_newest_attempt_may_have_a_run() -> None:
    """Void attempts and attempts at other contents do not count."""
    first, second = errored(1), attempt(Phase.INTENDED, 2)
    void, before = attempt(Phase.VOID, 3), attempt(Phase.FOUND, 4, identity="before")
    assert real_ones([before, void, second, first], "now") == [first, second]
    assert newest([before, void, second, first], "now") == second
    assert newest([void, before], "now") is None


def test_attempts_by_planned_run() -> None:
    """The attempts of each planned run keep their order."""
    one, other, again = errored(1), errored(1).with_(planned_run=OTHER), errored(2)
    assert by_planned_run([one, other, again]) == {ONE: [one, again], OTHER: [other]}


# --- Stages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "ready", "not_ready"),
    [
        ({Step.SCHEDULE}, "schedule", "push"),
        ({Step.SCHEDULE, Step.FIND, Step.WATCH}, "schedule", "push"),
        ({Step.FIND}, "schedule", "schedule"),
        ({Step.FIND, Step.COLLECT, Step.DONE}, "schedule", "schedule"),
        ({Step.WATCH, Step.COLLECT, Step.DONE}, "collect", "collect"),
        (set(), "collect", "collect"),
    ],
)
def test_the_next_stage_of_a_task(steps: set[Step], ready: Stage, not_ready: Stage) -> None:
    """The stage follows the table."""
    assert (next_stage(steps, ready=True), next_stage(steps, ready=False)) == (ready, not_ready)


def test_a_sweep_is_at_the_earliest_stage_of_its_tasks() -> None:
    """One task that has to be pushed or scheduled holds back the stages of all."""
    assert first_stage({"collect", "push", "schedule"}) == "push"
    assert first_stage({"collect", "schedule"}) == "schedule"
    assert first_stage({"collect"}) == first_stage(set()) == "collect"


def test_a_task_is_ready_once_its_content_is_created() -> None:
    """Only a completed creation of the present content counts, and tasks named by their slugs are always ready."""
    created = {phase for phase in TaskPhase if is_ready(record(phase), MINE)}
    assert created == {TaskPhase.READY}
    assert not is_ready(None, MINE)
    assert not is_ready(record(TaskPhase.READY, identity=THEIRS), MINE)
    assert is_ready(None, version_identity(2))


# --- Status -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "scheduled", "collected", "at_rest", "live", "given_up"),
    [
        (None, False, False, "unscheduled", "unscheduled", "missing"),
        (None, True, False, "running", "scheduled", "missing"),
        (RunState.QUEUED, True, False, "running", "queued", "missing"),
        (RunState("NEW"), True, False, "running", "queued", "missing"),
        (RunState.RUNNING, True, False, "running", "running", "missing"),
        (RunState.SCORE_PENDING, True, False, "running", "running", "missing"),
        (RunState.ERRORED, True, False, "errored", "collecting", "errored"),
        (RunState.ERRORED, True, True, "errored", "errored", "errored"),
        (RunState.COMPLETED, True, False, "missing", "collecting", "missing"),
        (RunState.COMPLETED, True, True, "completed", "completed", "completed"),
    ],
)
def test_the_status_follows_the_table(
    state: RunState | None, scheduled: bool, collected: bool, at_rest: str, live: str, given_up: str
) -> None:
    """Each row of the table of `run_status` holds, and a sweep that gave up is no longer live."""

    def status(**flags: bool) -> str:
        return run_status(state, scheduled=scheduled, collected=collected, **flags).value

    assert (status(), status(live=True)) == (at_rest, live)
    assert status(given_up=True) == status(given_up=True, live=True) == given_up
    assert {status(), status(given_up=True)} <= {one.value for one in REPORTED}


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, RunState.COMPLETED, RunState.ERRORED])
def test_a_sweep_has_the_words_of_the_server(state: RunState) -> None:
    """A run that only waits for the server has the same word in a sweep as in `tasks status` and `results`."""
    status = run_status(state, scheduled=True, collected=state.terminal, live=True)
    assert status.value == state.label.lower()


@pytest.mark.parametrize(
    ("attempts", "given_up", "expected"),
    [
        ([], False, RunStatus.UNSCHEDULED),
        ([], True, RunStatus.MISSING),
        ([attempt(Phase.VOID)], False, RunStatus.UNSCHEDULED),
        ([attempt(Phase.INTENDED)], False, RunStatus.RUNNING),
        ([attempt(Phase.FOUND)], False, RunStatus.RUNNING),
        ([attempt(Phase.FOUND)], True, RunStatus.MISSING),
        ([attempt(Phase.ENDED)], False, RunStatus.MISSING),
        ([collected()], False, RunStatus.COMPLETED),
        ([errored(1)], False, RunStatus.ERRORED),
        ([errored(1), attempt(Phase.VOID, 2)], True, RunStatus.ERRORED),
        ([errored(1), attempt(Phase.FOUND, 2)], False, RunStatus.RUNNING),
    ],
)
def test_the_status_is_that_of_the_newest_attempt(
    attempts: list[Attempt], given_up: bool, expected: RunStatus
) -> None:
    """Void attempts and attempts at other contents do not count."""
    other = collected(9).with_(identity="then")
    assert attempt_status(newest([*attempts, other], "now"), given_up=given_up) is expected


# --- Pushes -------------------------------------------------------------------------------------------------

MINE, THEIRS = content_identity("mine", []), content_identity("other", [])


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
        (record(TaskPhase.PUSHING, 0, THEIRS), seen(1), PushStep.CHANGED),
        (record(TaskPhase.PUSHED), seen(2), PushStep.UNCHANGED),
        (record(TaskPhase.PUSHED), seen(3), PushStep.NEW_VERSION),
        (record(TaskPhase.PUSHED), None, PushStep.NEW),
        (record(TaskPhase.PUSHED, 2, THEIRS), seen(2), PushStep.CHANGED),
        (record(TaskPhase.READY), seen(2), PushStep.UNCHANGED),
        (record(TaskPhase.READY), seen(1), PushStep.NEW_VERSION),
        (record(TaskPhase.READY), seen(3), PushStep.NEW_VERSION),
        (record(TaskPhase.READY), None, PushStep.NEW),
        (record(TaskPhase.READY, 2, THEIRS), seen(2), PushStep.CHANGED),
        (record(TaskPhase.READY, 2, THEIRS), None, PushStep.NEW),
        (record(TaskPhase.READY, 0), seen(0), PushStep.UNCHANGED),
        (record(TaskPhase.REFUSED), seen(2), PushStep.NEW_VERSION),
        (record(TaskPhase.FAILED), seen(2), PushStep.FAILED),
        (record(TaskPhase.FAILED), seen(3), PushStep.FAILED),
        (record(TaskPhase.FAILED), None, PushStep.NEW),
        (record(TaskPhase.FAILED, 2, THEIRS), seen(2), PushStep.CHANGED),
    ],
)
def test_what_a_push_comes_to(known: TaskRecord | None, there: Task | None, step: PushStep) -> None:
    """The push follows the table of `push_step`."""
    assert push_step(known, MINE, there) == step
    retried = PushStep.NEW_VERSION if step is PushStep.FAILED else step
    assert push_step(known, MINE, there, retry_failed=True) == retried


def test_what_the_server_has_is_not_pushed() -> None:
    """Whatever the journal has of a task, content that is the newest version on the server makes no other one."""
    for known in (
        None,
        record(TaskPhase.READY, 1, THEIRS),
        record(TaskPhase.PUSHED, 1),
        record(TaskPhase.REFUSED, 0),
    ):
        assert push_step(known, MINE, seen(2)).needs_push
        assert push_step(known, MINE, seen(2), same=True) is PushStep.SAME
        assert push_step(known, MINE, None, same=True) is PushStep.NEW
    assert push_step(record(TaskPhase.READY, 2), MINE, seen(2), same=True) is PushStep.UNCHANGED
    assert push_step(record(TaskPhase.FAILED, 2), MINE, seen(2), same=True) is PushStep.FAILED


RECORDS = st.none() | st.builds(
    record,
    st.sampled_from(TaskPhase),
    st.integers(0, 3),
    st.sampled_from([MINE, THEIRS, version_identity(1)]),
)
SEEN = st.none() | st.builds(seen, st.integers(0, 3))


@settings(deadline=None)
@given(RECORDS, SEEN)
def test_a_missing_task_is_pushed(known: TaskRecord | None, there: Task | None) -> None:
    """A task that the server does not have is pushed, and one that is unchanged there is not."""
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
    """A task named by its slug has no content to push."""
    step = push_step(known, version_identity(version), there)
    assert (step, step.needs_push) == (PushStep.EXISTING, False)
