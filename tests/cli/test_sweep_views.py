"""What `fanbench sweep` shows about stages, events and its report."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from fanbench.cli.command import Settings
from fanbench.cli.output import split_table
from fanbench.cli.views.sweep import question
from fanbench.cli.views.sweep_display import SweepLayout
from fanbench.cli.views.sweep_events import EventPrinter
from fanbench.cli.views.sweep_report import failure, show_report, stage_failure
from fanbench.errors import RunFailed
from fanbench.results import Problem, Table
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, TaskPhase, TaskRecord
from fanbench.sweeps.decide import RunStatus, Stage
from fanbench.sweeps.events import (
    CreationChanged,
    Draining,
    DrainReason,
    LogSaved,
    OutputSaved,
    PageEdited,
    RunLogLine,
    RunMissing,
    RunScheduled,
    RunStateChanged,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    TaskPreparationFailed,
    TaskReady,
)
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.preview import preview
from fanbench.sweeps.report import RunRow, SweepReport
from fanbench.sweeps.spec import Rules
from fanbench.sweeps.state import SweepState
from fanbench.wire.messages import CreationState, RunState
from tests.sweeps.records import MemoryRecords

AT = datetime(2030, 1, 1, tzinfo=UTC)
PLANNED = PlannedRun("t", "m")
STARTED = SweepStarted("results", "http://s", ("t",), ("m", "n"), 1, 2, 0)


def state_after(*events: SweepEvent) -> SweepState:
    state = SweepState()
    for event in (STARTED, *events):
        state.absorb(event, AT)
    return state


# --- Stages -------------------------------------------------------------------------------------------------


def planned(*, repeats: int = 1, rules: Rules | None = None) -> SweepPlan:
    return SweepPlan(
        (PlannedTask("t", "i", None, Path("t.py"), "{}"),), ("m",), Path("r"), repeats, rules or Rules()
    )


def known(*attempts: Attempt, phase: TaskPhase = TaskPhase.READY, identity: str = "i") -> MemoryRecords:
    records = MemoryRecords()
    records.save_task(TaskRecord("t", identity, phase, 1))
    records.save_attempts(attempts)
    return records


def attempt(phase: Phase, state: RunState | None = None) -> Attempt:
    return Attempt(PLANNED, 1, "i", 1, phase, 0.0, state=state)


@pytest.mark.parametrize(
    ("records", "rules", "stage"),
    [
        (None, Rules(), "push"),
        (known(), Rules(), "schedule"),
        (known(phase=TaskPhase.PUSHED), Rules(), "push"),
        (known(phase=TaskPhase.FAILED), Rules(), "push"),
        (known(identity="before"), Rules(), "push"),
        (known(attempt(Phase.INTENDED)), Rules(), "schedule"),
        (known(attempt(Phase.FOUND)), Rules(), "collect"),
        (known(attempt(Phase.ENDED, RunState.ERRORED)), Rules(), "collect"),
        (known(attempt(Phase.ENDED, RunState.ERRORED)), Rules(retry_errored=1), "schedule"),
    ],
)
def test_the_next_stage(records: MemoryRecords | None, rules: Rules, stage: Stage) -> None:
    """The next stage is the first that has something to do."""
    assert preview(planned(rules=rules), records).stage == stage


def test_questions() -> None:
    """Questions say how much there is to do."""
    made = preview(planned(repeats=3), known(attempt(Phase.INTENDED)))
    assert "schedule 3 runs?" in question("schedule", made)
    done = attempt(Phase.ENDED, RunState.COMPLETED).with_(output=object(), log=object())
    assert "follow 2 runs to the end" in question("collect", preview(planned(repeats=3), known(done)))


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((TaskReady("t", 1),), None),
        ((TaskPreparationFailed("t", "no"),), "1 task failed, 0 runs missing."),
        ((RunMissing(PLANNED, 1, "schedule", "no"),), "0 tasks failed, 1 run missing."),
    ],
)
def test_a_stage_ends_well_or_not(events: tuple[SweepEvent, ...], words: str | None) -> None:
    """Failed tasks and missing runs both make a stage fail."""
    error = stage_failure(state_after(*events))
    assert (error.message if error else None) == words


# --- Events -------------------------------------------------------------------------------------------------

ERRORED = RunStateChanged(PLANNED, 1, 7, RunState.ERRORED, "no")
EVENTS = (
    STARTED,
    TaskPreparationFailed("t", "no"),
    RunScheduled(PLANNED, 1),
    ERRORED,
    RunMissing(PLANNED, 1, "find", "gone"),
    RunLogLine(PLANNED, 1, 7, "hello"),
    Draining(DrainReason.BUDGET, 1),
    SweepEnded(2, 0, 1, 1, 0, 1.0, None),
    RunMissing(PLANNED, 1, "push", "no"),
)


@pytest.mark.parametrize(
    ("verbose", "terse", "stage", "told"),
    [
        (False, False, False, [0, 1, 2, 3, 4, 6, 7]),
        (True, False, False, [0, 1, 2, 3, 4, 5, 6, 7]),
        (False, True, False, [1, 3, 4, 6]),
        (True, True, False, [0, 1, 2, 3, 4, 5, 6, 7]),
        (False, False, True, [0, 1, 2, 3, 4]),
    ],
)
def test_which_events_are_printed(
    capsys: pytest.CaptureFixture[str], verbose: bool, terse: bool, stage: bool, told: list[int]
) -> None:
    """Log lines are printed with -v, only failures below a display, and not the end of a stage. The failure of a task
    is printed once, not for each of its runs.
    """
    printer = EventPrinter(Settings(verbose=verbose), terse=terse, stage=stage)

    async def tell() -> None:
        for event in EVENTS:
            await printer.print(event, AT)

    anyio.run(tell)
    assert capsys.readouterr().err.splitlines() == [EVENTS[at].text for at in told]


def test_runs_that_are_missing_for_one_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Of runs that a task lacks for the same reason, the first is named at once, and the others are counted."""
    printer = EventPrinter(Settings(), terse=False)
    gone = RunMissing(PLANNED, 1, "find", "gone")
    for event in (
        gone,
        gone,
        gone,
        RunMissing(PLANNED, 1, "find", "no"),
        SweepEnded(4, 0, 0, 0, 4, 1.0, None),
    ):
        anyio.run(printer.print, event, AT)
    first, more, other, _ = capsys.readouterr().err.splitlines()
    assert (first, other) == (gone.text, gone.text.replace("gone", "no"))
    assert more == f"2 more runs of {PLANNED.task}: missing for the same reason"


def test_a_file_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before a line is written to a pipe, its reader is waited for; a file always takes it."""
    waited: list[int] = []

    def always(_: object, handles: list[int], *__: object) -> tuple[list[int], list[int], list[int]]:
        waited.extend(handles)
        return [], handles, []

    monkeypatch.setattr("select.select", always)
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w") as pipe, (tmp_path / "events").open("w") as file:
        for stream in (pipe, file):
            monkeypatch.setattr("sys.stderr", stream)
            anyio.run(EventPrinter(Settings(), terse=False).print, ERRORED, AT)
    assert waited == [writer]
    assert (tmp_path / "events").read_text() == f"{ERRORED.text}\n"


# --- The end ------------------------------------------------------------------------------------------------


def report(*rows: RunRow, stopped: DrainReason | None = None) -> SweepReport:
    return SweepReport(Path("r"), ("t",), ("m",), len(rows), rows, stopped=stopped)


def errored(repeat: int = 1, attempts: int = 1) -> RunRow:
    return RunRow(
        PlannedRun("t", "m", repeat), RunStatus.ERRORED, attempts, attempts, run_id=7, error="Traceback\nno"
    )


def test_too_many_failures() -> None:
    """The error names --max-failures only if it kept a run from being scheduled."""
    rows = (errored(), errored(2))
    error = failure(Settings(), report(*rows, stopped=DrainReason.FAILURES))
    assert isinstance(error, RunFailed)
    assert error.message == "0 of 2 runs completed, 2 errored."
    left = RunRow(PlannedRun("t", "m", 3), RunStatus.UNSCHEDULED)
    error = failure(Settings(), report(*rows, left, stopped=DrainReason.FAILURES))
    assert error is not None
    assert error.message == "Too many failures: 0 of 3 runs completed, 2 errored, 1 not scheduled."


def test_the_hint_repeats_errored_runs() -> None:
    """The hint repeats errored runs one time more than before, also beside what else is left to do."""
    error = failure(Settings(), report(errored(attempts=3), errored(2, attempts=1)))
    assert error is not None
    assert str(error.hint).endswith("fanbench sweep -o r --retry-errored 3")
    error = failure(Settings(), report(errored(), RunRow(PlannedRun("t", "m", 2), RunStatus.MISSING)))
    assert error is not None
    left, again = str(error.hint).splitlines()
    assert left == "To do what is left: fanbench sweep -o r"
    assert again == "To repeat the errored runs as well: fanbench sweep -o r --retry-errored 1"


@pytest.mark.parametrize(("number", "more"), [(20, []), (21, ["  and 1 more"]), (30, ["  and 10 more"])])
def test_failures_are_listed(capsys: pytest.CaptureFixture[str], number: int, more: list[str]) -> None:
    """Each failure is listed with the last line of its error, up to twenty."""
    show_report(Settings(), report(*(errored(repeat) for repeat in range(1, number + 1))), written=False)
    said = capsys.readouterr().err.splitlines()
    assert said[2:4] == ["  t m (Run 7): no", "  t m #2 (Run 7): no"]
    assert said[2 + 20 :] == more


def test_runs_that_a_task_lacks_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs that are missing for the same reason, as after a failed push, are listed in one line."""
    lost = [
        RunRow(PlannedRun("t", f"m{number}"), RunStatus.MISSING, error="push: no") for number in range(60)
    ]
    other = RunRow(PlannedRun("t", "m"), RunStatus.MISSING, error="gone")
    show_report(Settings(), report(*lost, other), written=False)
    assert capsys.readouterr().err.splitlines() == ["", "Missing:", "  t (60 runs): push: no", "  t m: gone"]


def test_files_that_cannot_be_read_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that completed without a result that can be read is explained below the table."""
    damaged = Problem(Path("a.run.json"), "damaged: the end is missing")
    shown = replace(report(RunRow(PLANNED, RunStatus.COMPLETED)), problems=(damaged,))
    show_report(Settings(), shown, written=False)
    said = capsys.readouterr().err.splitlines()
    assert said == ["", "Not readable:", "  a.run.json: damaged: the end is missing"]


def test_no_usage_table_without_results(capsys: pytest.CaptureFixture[str]) -> None:
    """There is no usage table if nothing is known."""
    show_report(Settings(), report(RunRow(PLANNED, RunStatus.UNSCHEDULED)), written=False)
    assert "tokens" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("width", "columns"), [(None, [3]), (23, [3]), (22, [2, 1]), (17, [1, 2]), (5, [1, 1, 1])]
)
def test_tables_fit_the_terminal(width: int | None, columns: list[int]) -> None:
    """Tables are split to fit the terminal, with at least one column each and the first column repeated."""
    table = Table(("t", "aaa", "bbb", "cc"), (("xx", "1", "2", "3"),))
    shown = list(split_table(table, width))
    assert [len(one.header) - 1 for one in shown] == columns
    assert all(one.header[0] == "t" for one in shown)


# --- The screen ---------------------------------------------------------------------------------------------


def lines(state: SweepState, columns: int = 80) -> list[str]:
    return SweepLayout(state, (columns, 24), AT).lines(color=False)


def test_marks_fill_the_line_to_the_last_column() -> None:
    """There is a mark per model as long as they fit, to the last column."""
    state = SweepState()
    state.absorb(SweepStarted("r", "http://s", ("t",), tuple(f"m{at}" for at in range(10)), 2, 20, 0), AT)
    room = len("t ") + 10 + len(" 20/20") + 1
    assert any(line.startswith("t ·········· ") for line in lines(state, room))
    assert any(line.startswith("t 0/20 ") for line in lines(state, room - 1))


def test_a_ready_task_shows_its_runs() -> None:
    """The row of a task that is ready shows its runs, and the last line of a finished sweep shows no time
    left.
    """
    done = (
        CreationChanged("t", CreationState.COMPLETED),
        TaskReady("t", 1),
        *(
            event
            for model in "mn"
            for event in (
                RunStateChanged(PlannedRun("t", model), 1, 7, RunState.COMPLETED),
                OutputSaved(PlannedRun("t", model), 1, 7, "o", 1, 1, "d"),
                LogSaved(PlannedRun("t", model), 1, 7, "l", 1, 1),
            )
        ),
    )
    assert lines(state_after(*done)) == [
        "1 m  2 n",
        "  12",
        "t ✓✓ 2/2  2 done",
        "0:00  2 of 2 runs  ✓ 2 done",
    ]


def test_every_part_of_a_line_says_whose_it_is() -> None:
    """What a task prints after a carriage return cannot pass for a line of the sweep itself."""
    event = RunLogLine(PLANNED, 1, 7, "x\rerror: the token has expired")
    start = f"{PLANNED.task} {PLANNED.model} | "
    assert event.text.splitlines() == [f"{start}x", f"{start}error: the token has expired"]


@pytest.mark.parametrize("terse", [True, False])
def test_pages_that_cannot_be_changed_are_said_once(capsys: pytest.CaptureFixture[str], terse: bool) -> None:
    """The same error for the pages of several tasks is one line; unknown tags are said for each."""
    printer = EventPrinter(Settings(), terse=terse)
    events = (
        PageEdited("a", error="This server cannot."),
        PageEdited("b", error="This server cannot."),
        PageEdited("c", ("tags",), ("x\x1b[2J",)),
        PageEdited("d", ("description",)),
    )
    for event in events:
        anyio.run(printer.print, event, AT)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "a: its page was not changed: This server cannot.",
        r"c: its page has changed: tags; unknown tags: x\u001b[2J",
    ]
    assert lines[2:] == ([] if terse else ["d: its page has changed: description"])
