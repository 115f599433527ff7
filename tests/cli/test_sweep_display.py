"""The progress display of a sweep: what it looks like on which screens, and what it costs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fanbench.cli.views.sweep_display import SweepLayout
from fanbench.operations.queue import QueueRead
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.events import (
    BudgetRead,
    CreationChanged,
    Draining,
    DrainReason,
    LimitChanged,
    LogSaved,
    OutputSaved,
    RunLogLine,
    RunMissing,
    RunScheduled,
    RunsPolled,
    RunStateChanged,
    SweepEvent,
    SweepStarted,
    TaskPreparationFailed,
)
from fanbench.sweeps.state import SweepState
from fanbench.wire.messages import CreationState, RunState

START = datetime(2030, 1, 1, tzinfo=UTC)


def sweep(tasks: int, models: int, *events: SweepEvent, repeats: int = 1) -> SweepState:
    state = SweepState()
    slugs = tuple(f"task-{number}" for number in range(tasks))
    names = tuple(f"m{number}" for number in range(models))
    planned = tasks * models * repeats
    state.absorb(SweepStarted("results", "http://s", slugs, names, repeats, planned, 0), START)
    for event in events:
        state.absorb(event, START)
    return state


def lines(state: SweepState, columns: int = 80, rows: int = 24, *, seconds: int = 65) -> list[str]:
    return SweepLayout(state, (columns, rows), START + timedelta(seconds=seconds)).lines(color=False)


def planned_run(model: int, task: int = 0, repeat: int = 1) -> PlannedRun:
    return PlannedRun(f"task-{task}", f"m{model}", repeat)


def changed(model: int, state: RunState) -> RunStateChanged:
    return RunStateChanged(planned_run(model), 1, 7, state, "no")


EACH: tuple[SweepEvent, ...] = (
    *(changed(model, RunState.COMPLETED) for model in (0, 1, 2)),
    *(OutputSaved(planned_run(model), 1, 7, "o", 1, 1, "d") for model in (0, 1)),
    *(LogSaved(planned_run(model), 1, 7, "l", 1, 1) for model in (0, 1)),
    changed(1, RunState.ERRORED),
    changed(3, RunState.RUNNING),
    changed(4, RunState.QUEUED),
    RunScheduled(planned_run(5), 1),
    RunMissing(planned_run(6), 1, "find", "gone"),
)


def test_a_row_of_marks_per_task() -> None:
    """The models have keys, a task's row has a mark per model and its counts, and the totals explain the marks."""
    assert lines(sweep(2, 8, *EACH), 120) == [
        "1 m0  2 m1  3 m2  4 m3  5 m4  6 m5  7 m6  8 m7",
        "       12345678",
        "task-0 ✓✗◆●○○?· 3/8  1 done, 1 errored, 1 missing, 1 collecting, 1 running, 1 queued, 1 scheduled, 1 planned",
        "task-1 ········ 0/8  8 planned",
        (
            "1:05  3 of 16 runs  time left unknown  ✓ 1 done  ✗ 1 errored  ? 1 missing  ◆ 1 collecting  ● 1 running  "
            "○ 1 queued"
        ),
        "○ 1 scheduled  · 9 planned",
    ]


def test_results_are_shown_as_soon_as_runs_end() -> None:
    """The row of a task has the mean of what the server says of its runs, before their outputs are there."""
    ended = [
        RunStateChanged(planned_run(model), 1, 7, RunState.COMPLETED, result=result)
        for model, result in enumerate((0.5, True))
    ]
    assert lines(sweep(1, 3, *ended), 120)[2] == (
        "task-0 ◆◆· 0/3  2 collecting, 1 planned; mean 0.75 of 2 results"
    )
    assert ended[1].text == "task-0 m1: completed: Pass"


@pytest.mark.parametrize("columns", [30, 40, 60])
def test_a_narrow_screen_folds_the_names_and_the_totals(columns: int) -> None:
    """On a narrow screen the names of the models and the totals take several lines, and none is cut off."""
    shown = lines(sweep(2, 8, *EACH), columns)
    text = " ".join("  ".join(shown).split())
    assert all(f"{number + 1} m{number}" in text for number in range(8))
    assert f"{'':7}12345678" in shown
    if columns > 30:  # else the last line is too long, because there may be no more of them
        assert all(
            f"{mark} 1 {label}" in text
            for mark, label in (("✓", "done"), ("◆", "collecting"), ("○", "scheduled"))
        )


def test_where_the_models_are_named() -> None:
    """A single model has no key, repeats share one, and a screen with few lines has no names."""
    assert lines(sweep(1, 1))[0] == "on m0"
    assert lines(sweep(1, 3, repeats=2))[:3] == [
        "1 m0  2 m1  3 m2",
        "       1 2 3",
        "task-0 ······ 0/6  6 planned",
    ]
    assert lines(sweep(2, 8), rows=5)[0].startswith("task-0 ········")
    assert lines(sweep(1, 62), 120)[0].startswith("task-0 ··")


def test_marks_are_colored_by_their_state() -> None:
    """Marks are colored by their state if colors are wanted."""
    layout = SweepLayout(sweep(1, 8, *EACH), (120, 24), START)
    assert "\x1b[32m✓" in layout.lines(color=True)[2]
    assert not any("\x1b[32m" in line for line in layout.lines(color=False))


def test_tasks_that_are_not_ready() -> None:
    """The row of a task that is not ready says how its creation proceeds, or why it failed."""
    state = sweep(
        2, 1, CreationChanged("task-0", CreationState.RUNNING), TaskPreparationFailed("task-1", "no run")
    )
    assert lines(state)[1:3] == ["task-0 · 0/1  creation running", "task-1 · 0/1  failed: no run"]


def test_the_last_line_knows_the_rest() -> None:
    """The last line has the limit, the pace, the cost, the time left, and that the sweep is stopping."""
    state = sweep(
        1,
        2,
        RunScheduled(planned_run(0), 1),
        LimitChanged(8, 16, "429"),
        BudgetRead(5.0, 1.25, 0.5),
        RunsPolled("task-0", 1, 10),
    )
    state.absorb(RunsPolled("task-0", 1, 30), START + timedelta(seconds=5))
    state.absorb(changed(0, RunState.COMPLETED), START + timedelta(seconds=60))
    assert lines(state, 120, seconds=10)[-1] == (
        "0:10  0 of 2 runs  about 1:50 left  ◆ 1 collecting  · 1 planned  limit 8  2.0 calls/s  spent $1.25 of $5"
    )
    state.absorb(Draining(DrainReason.INTERRUPTED, 1), START)
    assert lines(state)[-2].startswith("1:05  0 of 2 runs  stopping: interrupted  ")


def test_the_time_left_names_the_queue() -> None:
    """Where the time that is left is that of the server's queue, the last line says so."""
    state = sweep(
        1, 2, RunScheduled(planned_run(0), 1), RunScheduled(planned_run(1), 1), QueueRead(50, 10, 100)
    )
    state.absorb(QueueRead(40, 10, 110), START + timedelta(seconds=60))
    assert lines(state, 120, seconds=60)[-1].startswith(
        "1:00  0 of 2 runs  about 5:00 left, by the server's queue  "
    )


def test_the_last_lines_of_the_logs() -> None:
    """As many log lines as fit are shown, with their task and model, and with escapes for control characters."""
    written = [RunLogLine(planned_run(0), 1, 7, f"line {number}\x1b[2J\r\t") for number in range(30)]
    state = sweep(3, 2, *written)
    shown = lines(state)
    assert shown[-1] == r"task-0 m0 | line 29\u001b[2J\r "
    assert sum(" | " in line for line in shown) == 10
    assert sum(" | " in line for line in lines(state, rows=9)) == 2
    assert len(lines(state, rows=9)) == 8


def test_marks_that_do_not_fit_are_counted() -> None:
    """If space runs out, first repeats share a mark, then models are counted, then tasks are one line."""
    state = sweep(2, 20, *EACH, repeats=3)

    def first_row(columns: int) -> str:
        return next(line for line in lines(state, columns) if line.startswith("task-0 "))

    assert first_row(120).startswith("task-0 ✓··✗··◆··●··")
    assert first_row(60).startswith("task-0 ·✗◆●○○?··")
    assert first_row(30).startswith("task-0 3/60  1 done")
    assert [line.split("  ")[1] for line in lines(state, 80, rows=2)] == ["3 of 120 runs"]


@pytest.mark.parametrize(
    ("models", "columns", "narrower", "row"),
    [
        (12, 40, 30, "a-long-name-of-a-tas ············ 0/12"),
        (60, 80, 70, f"a-long-name- {'·' * 60} 0/60"),
    ],
)
def test_a_long_name_gives_way_to_the_marks(models: int, columns: int, narrower: int, row: str) -> None:
    """A long name of a task is shortened for the marks, unless fewer than 12 columns of it would be left."""
    state, task = SweepState(), "a-long-name-of-a-task"
    names = tuple(f"m{number}" for number in range(models))
    state.absorb(SweepStarted("results", "http://s", (task,), names, 1, models, 0), START)
    assert any(line.startswith(row) for line in lines(state, columns))
    assert any(line.startswith(f"{task} 0/{models}") for line in lines(state, narrower))


def test_two_hundred_by_a_hundred() -> None:
    """A huge sweep is its totals on an ordinary screen, and all marks on a huge one."""
    state = sweep(200, 100, *EACH)
    assert len(lines(state)) == 2
    assert len(lines(state, 200, 250)) == 201
    assert lines(state, 200, 250)[0].startswith("task-0   ✓✗◆●○○?···")


@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=8, unique=True),
    st.lists(st.text(max_size=5), min_size=1, max_size=8, unique=True),
    st.text(),
    st.integers(1, 130),
    st.integers(1, 40),
)
def test_it_fits_on_every_screen(
    tasks: list[str], models: list[str], line: str, columns: int, rows: int
) -> None:
    """Whatever the names, no line is as wide as the screen, and one row of the screen stays free."""
    state = SweepState()
    planned = len(tasks) * len(models)
    state.absorb(SweepStarted("r", "e", tuple(tasks), tuple(models), 1, planned, 0), START)
    state.absorb(TaskPreparationFailed(tasks[0], line), START)
    state.absorb(RunLogLine(PlannedRun(tasks[0], models[0]), 1, 7, line), START)
    shown = lines(state, columns, rows)
    assert 1 <= len(shown) <= max(1, rows - 1)
    assert all(cell_len(each) <= max(1, columns - 1) and each.isprintable() for each in shown)


def test_before_it_begins() -> None:
    """Nothing is shown before the sweep begins."""
    assert SweepLayout(SweepState(), (80, 24), START).lines(color=True) == []


@pytest.mark.parametrize(("tasks", "models"), [(20, 60), (1000, 100)])
def test_it_costs_little(tasks: int, models: int) -> None:
    """A layout takes a few milliseconds, however large the sweep."""
    events = [changed(model, RunState.RUNNING) for model in range(60)]
    state = sweep(
        tasks, models, *events, *(RunLogLine(planned_run(0), 1, 7, "x" * 100_000) for _ in range(9))
    )
    lines(state, 120, 40)  # imports
    began = time.thread_time()
    for _ in range(10):
        lines(state, 120, 40)
    assert (time.thread_time() - began) / 10 < 0.03
