"""The state of a sweep, rebuilt from its events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench._util.text import iso_time
from fanbench.operations.queue import NotEnqueued, QueueRead
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.decide import RunStatus
from fanbench.sweeps.events import (
    ALL_EVENTS,
    BudgetRead,
    CreationChanged,
    Draining,
    DrainReason,
    LimitChanged,
    LogSaved,
    OutputSaved,
    RetryPlanned,
    RunFound,
    RunKnown,
    RunLogLine,
    RunMissing,
    RunScheduled,
    RunSkipped,
    RunsPolled,
    RunStateChanged,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    TaskPreparationFailed,
    TaskPushed,
    TaskReady,
    write_event,
)
from fanbench.sweeps.state import SweepState, read_event
from fanbench.wire.messages import CreationState, RunState

START = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
PLANNED = PlannedRun("a", "m")
STARTED = SweepStarted("results", "http://server", ("a", "b"), ("m", "n"), 2, 8, 0)


def after(*events: SweepEvent) -> SweepState:
    """Return the state after `events`, which are a second apart."""
    state = SweepState()
    for number, event in enumerate((STARTED, *events)):
        state.absorb(event, START + timedelta(seconds=number))
    return state


SCHEDULED = RunScheduled(PLANNED, 1)
FOUND = RunFound(PLANNED, 1, 7, 3)
RUNNING = RunStateChanged(PLANNED, 1, 7, RunState.RUNNING)
COMPLETED = RunStateChanged(PLANNED, 1, 7, RunState.COMPLETED)
ERRORED = RunStateChanged(PLANNED, 1, 7, RunState.ERRORED, "no")
OUTPUT = OutputSaved(PLANNED, 1, 7, "a/3/m/7", 2, 100, "d")
LOG = LogSaved(PLANNED, 1, 7, "a/3/m/7/run.log", 5, 50)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], RunStatus.UNSCHEDULED),
        ([RunSkipped(PLANNED, 1, "busy")], RunStatus.UNSCHEDULED),
        ([SCHEDULED], RunStatus.SCHEDULED),
        ([SCHEDULED, FOUND], RunStatus.SCHEDULED),
        ([SCHEDULED, FOUND, RunStateChanged(PLANNED, 1, 7, RunState.QUEUED)], RunStatus.QUEUED),
        ([SCHEDULED, FOUND, RunStateChanged(PLANNED, 1, 7, RunState("NEW"))], RunStatus.QUEUED),
        ([SCHEDULED, FOUND, RUNNING], RunStatus.RUNNING),
        ([SCHEDULED, FOUND, RunStateChanged(PLANNED, 1, 7, RunState.SCORE_PENDING)], RunStatus.RUNNING),
        ([SCHEDULED, FOUND, COMPLETED], RunStatus.COLLECTING),
        ([SCHEDULED, FOUND, COMPLETED, OUTPUT], RunStatus.COLLECTING),
        ([SCHEDULED, FOUND, COMPLETED, OUTPUT, LOG], RunStatus.COMPLETED),
        ([SCHEDULED, FOUND, ERRORED], RunStatus.COLLECTING),
        ([SCHEDULED, FOUND, ERRORED, OUTPUT, LOG], RunStatus.ERRORED),
        ([SCHEDULED, RunMissing(PLANNED, 1, "find", "gone")], RunStatus.MISSING),
        ([RunMissing(PLANNED, 0, "push", "no")], RunStatus.MISSING),
        ([SCHEDULED, FOUND, ERRORED, RetryPlanned(PLANNED, 1)], RunStatus.UNSCHEDULED),
        ([SCHEDULED, FOUND, ERRORED, RetryPlanned(PLANNED, 2)], RunStatus.UNSCHEDULED),
        (
            [SCHEDULED, FOUND, ERRORED, RetryPlanned(PLANNED, 1), RunScheduled(PLANNED, 2)],
            RunStatus.SCHEDULED,
        ),
        ([RunKnown(PLANNED, 1, 3)], RunStatus.SCHEDULED),
        ([RunKnown(PLANNED, 1, 3, 7, RunState.COMPLETED, "", "o", "l")], RunStatus.COMPLETED),
        ([RunKnown(PLANNED, 2, 3, 7, RunState.ERRORED, "no", "o", "l")], RunStatus.ERRORED),
        ([RunKnown(PLANNED, 1, 3, 7, RunState.COMPLETED, "", "o")], RunStatus.COLLECTING),
    ],
)
def test_a_cell_follows_its_run(events: list[SweepEvent], state: RunStatus) -> None:
    """A cell has the status of the newest attempt, and the counts follow."""
    found = after(*events)
    assert found.cell(PLANNED).status is state
    expected = {RunStatus.UNSCHEDULED: 7}
    expected[state] = expected.get(state, 0) + 1
    assert {key: number for key, number in found.counts.items() if number} == expected
    assert sum(found.counts_by_task["a"].values()) == 4


def test_what_a_cell_knows() -> None:
    """A cell has the run, its version, its output and log, and why it errored."""
    cell = after(SCHEDULED, FOUND, ERRORED, OUTPUT, LOG).cell(PLANNED)
    assert (cell.attempt, cell.run_id, cell.version, cell.reason) == (1, 7, 3, "no")
    assert (cell.output, cell.log) == ("a/3/m/7", "a/3/m/7/run.log")


def test_an_earlier_attempt_is_kept() -> None:
    """Later events of an earlier attempt do not disturb the newest."""
    state = after(SCHEDULED, FOUND, ERRORED, RetryPlanned(PLANNED, 1), RunScheduled(PLANNED, 2), OUTPUT, LOG)
    assert state.cell(PLANNED).status is RunStatus.SCHEDULED
    assert state.cell(PLANNED).output is None
    (earlier,) = state.earlier[PLANNED]
    assert earlier.status is RunStatus.ERRORED
    assert earlier.log == LOG.path


def test_tasks() -> None:
    """A task has its version, the state of its creation, and why it cannot be run."""
    state = after(
        TaskPushed("a", 3),
        CreationChanged("a", CreationState.RUNNING),
        TaskReady("a", 3),
        TaskPreparationFailed("b", "no run"),
    )
    assert (state.tasks["a"].version, state.tasks["a"].ready) == (3, True)
    assert state.tasks["a"].creation is CreationState.RUNNING
    assert state.tasks["b"].failed == "no run"


def test_the_rest() -> None:
    """The limit and its history, the budget, draining, the last lines and the end are kept."""
    state = after(
        LimitChanged(8, 16, "429", 2.0),
        LimitChanged(9, 8, "ok"),
        BudgetRead(5, 1.5, None),
        *(RunLogLine(PLANNED, 1, 7, f"line {number}") for number in range(500)),
        Draining(DrainReason.BUDGET, 2),
        SweepEnded(8, 5, 1, 1, 1, 9.5, DrainReason.BUDGET),
    )
    assert state.limit == 9
    assert [(step.limit, step.pause) for step in state.limits] == [(8, 2.0), (9, 0.0)]
    assert state.budget is not None
    assert state.budget.spent == 1.5
    assert state.draining is not None
    assert state.ended is not None
    assert len(state.lines) == 100
    assert state.lines[-1].line == "line 499"


def test_the_rate_of_calls() -> None:
    """The calls per second are known after two readings."""
    assert after(RunsPolled("a", 1, 10)).calls_per_second(START) is None
    state = after(
        RunsPolled("a", 1, 10), RunsPolled("a", 1, 14), RunsPolled("b", 1, 12), RunsPolled("a", 1, 25)
    )
    assert state.calls == 25
    assert state.calls_per_second(START + timedelta(seconds=4)) == 5.0


def test_the_time_that_is_left() -> None:
    """The time left is unknown until a run has ended; then it counts rounds of runs."""
    planned_run = PlannedRun("b", "m")
    running = [SCHEDULED, FOUND, RunScheduled(planned_run, 1), RUNNING]
    assert after(*running).seconds_left(START) is None
    state = after(*running, COMPLETED)
    # One run took 4 s, one has been in flight for 2 s, and six will follow one by one.
    assert state.seconds_left(START + timedelta(seconds=5)) == 2 + 6 * 4
    state = after(*running, COMPLETED, RunStateChanged(planned_run, 1, 9, RunState.QUEUED))
    # One of eight runs has ended in the 3 s since the first was scheduled, and none is on disk.
    assert state.seconds_left(START + timedelta(seconds=4)) == 8 * 3
    state = after(*running, COMPLETED, Draining(DrainReason.INTERRUPTED, 1))
    assert state.seconds_left(START + timedelta(seconds=5)) == 2
    assert state.seconds_left(START + timedelta(seconds=50)) is None
    state = after(*running, COMPLETED)
    assert state.seconds_left(START + timedelta(seconds=50)) == 6 * 4
    state = after(*running, COMPLETED, RunScheduled(PlannedRun("b", "n"), 1))
    # The youngest run has just begun; five will follow, two at a time.
    assert state.seconds_left(START + timedelta(seconds=6)) == 4 + 3 * 4


def test_the_time_that_is_left_in_the_queue() -> None:
    """By the queue, all runs there end at the rate of the others since the first reading, then those to come."""
    started = [SCHEDULED, FOUND, RUNNING, COMPLETED]
    state = after(*started, QueueRead(20, 2, 100))
    assert state.seconds_in_queue(START) is None
    state = after(*started, QueueRead(20, 2, 100), RunsPolled("a", 1, 1), QueueRead(15, 2, 104))
    # 4 runs in 2 s; 17 are there, and 7 of 8 are not scheduled yet. The reading is a second old.
    later = START + timedelta(seconds=8)
    assert state.seconds_in_queue(later) == state.seconds_left(later) == (17 + 7) / 2 - 1
    state.absorb(QueueRead(15, 2, 99), START + timedelta(seconds=9))  # older runs have left the last 24 hours
    assert state.seconds_in_queue(later) is None
    assert state.seconds_left(later) is not None
    state = after(*started, QueueRead(20, 2, 100), QueueRead(15, 2, 104), NotEnqueued("none"))
    assert state.seconds_in_queue(later) is None


def test_a_run_that_was_not_scheduled_has_no_time() -> None:
    """A run that this process did not schedule does not count for the time left."""
    state = after(SCHEDULED, RunSkipped(PLANNED, 1, "there is one"), FOUND, COMPLETED)
    assert state.seconds_left(START + timedelta(seconds=6)) is None


def test_a_second_sweep_in_the_same_stream_starts_over() -> None:
    """Nothing of the first sweep stays."""
    second = SweepState()
    second.absorb(STARTED, START + timedelta(seconds=4))
    assert after(SCHEDULED, FOUND, TaskPreparationFailed("a", "x"), STARTED) == second


def test_an_invalid_line_is_refused() -> None:
    """A line that is not an event raises an error."""
    for line in (b"{}", b'{"event":"new","at":"2030-01-01T00:00:00Z"}', b"["):
        with pytest.raises(msgspec.DecodeError):
            read_event(line)


def test_a_pause_of_hours_says_what_becomes_of_the_work() -> None:
    """A pause that the server asks for is shown in seconds; the longest one says what becomes of the work."""
    assert (
        LimitChanged(8, 16, "HTTP 429", 2.0).text
        == "limit of calls 16 → 8 (HTTP 429); all calls pause for 2.0 s"
    )
    long = LimitChanged(1, 16, "HTTP 429, the server asks to wait 3 h", 300.0).text
    assert long.startswith(
        "limit of calls 16 → 1 (HTTP 429, the server asks to wait 3 h); all calls pause for 5 min"
    )
    assert "the same command tries again" in long


# --- All events -----------------------------------------------------------------------------------------------

_TEXT = st.text(max_size=8)
_PLANNED_RUNS = st.builds(
    PlannedRun, st.sampled_from(["a", "b"]), st.sampled_from(["m", "n"]), st.integers(1, 2)
)


def _events_of(kind: type[SweepEvent]) -> st.SearchStrategy[SweepEvent]:
    given_: dict[str, st.SearchStrategy[object]] = {
        "planned_run": _PLANNED_RUNS,
        "task": st.sampled_from(["a", "b", "é/🚀"]),
        "attempt": st.integers(1, 3),
        # JSON has no infinite numbers, and no event has them.
        **dict.fromkeys(("seconds", "pause", "cap"), st.floats(0, 9)),
        **dict.fromkeys(("spent", "reserved"), st.none() | st.floats(0, 9)),
    }
    fields = {each.name for each in msgspec.structs.fields(kind)}
    return st.builds(kind, **{name: made for name, made in given_.items() if name in fields})


_EVENTS = st.one_of(*(_events_of(kind) for kind in ALL_EVENTS))


@given(st.lists(_EVENTS, max_size=40))
def test_what_is_read_back_gives_the_same_state(events: list[SweepEvent]) -> None:
    """Events read from `--format jsonl`, in any order, give the same state, and the counts add up."""
    here, there = SweepState(), SweepState()
    for number, event in enumerate([STARTED, *events]):
        at = START + timedelta(milliseconds=1234 * number)
        here.absorb(event, at)
        line = write_event(event, at)
        assert f'"at":"{iso_time(at)}"' in line.decode()
        read = read_event(line)
        assert read == (event, at)
        there.absorb(*read)
    assert here == there
    assert here.started is not None
    assert sum(here.counts.values()) == here.planned
    assert all(
        here.counts[state] == _number(here, state)
        for state in RunStatus
        if state is not RunStatus.UNSCHEDULED
    )
    for task, counts in here.counts_by_task.items():
        own = [cell for planned_run, cell in here.cells.items() if planned_run.task == task]
        assert counts[RunStatus.RUNNING] == sum(cell.status is RunStatus.RUNNING for cell in own)


def _number(state: SweepState, which: RunStatus) -> int:
    return sum(cell.status is which for cell in state.cells.values())


def test_planned_runs_are_those_of_the_plan() -> None:
    """The planned runs are in the order of the plan."""
    planned_runs = list(after().planned_runs)
    assert planned_runs[:3] == [PlannedRun("a", "m", 1), PlannedRun("a", "m", 2), PlannedRun("a", "n", 1)]
    assert len(planned_runs) == 8
    assert list(SweepState().planned_runs) == []


def test_results_are_known_as_soon_as_runs_end() -> None:
    """The results that the server says have a mean for each task, in which only the newest attempts count."""
    other = PlannedRun(PLANNED.task, "other")
    passed = RunStateChanged(other, 1, 9, RunState.COMPLETED, result=True)
    state = after(SCHEDULED, RunStateChanged(PLANNED, 1, 7, RunState.COMPLETED, result=0.5), passed)
    task = state.tasks[PLANNED.task]
    assert (task.mean, task.results) == (0.75, 2)
    for event in (RunScheduled(other, 2), RunStateChanged(other, 2, 10, RunState.ERRORED)):
        state.absorb(event)
    assert (task.mean, task.results) == (0.5, 1)
