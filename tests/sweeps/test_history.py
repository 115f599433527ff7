"""The history in the journal tells how a sweep went, and can be read whatever is in it."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench import Client, JournalError, Sweep, plan_sweep
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.events import (
    BudgetRead,
    LimitChanged,
    RunScheduled,
    RunStateChanged,
    SweepEnded,
    SweepStarted,
)
from fanbench.sweeps.history import History, HistoryWriter, Kind, RunPlace, RunTimes, read_history
from fanbench.sweeps.journal import JOURNAL, Journal
from fanbench.sweeps.spec import Rules
from fanbench.testing import Fault, RunScript, Scenario, SimulatedKaggle, SimulatedTransport
from fanbench.wire.messages import RunState
from tests.sweeps.records import MemoryRecords
from tests.sweeps.world import World, drain_when

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

STARTED = SweepStarted("results", "http://s", ("t",), ("m",), 1, 2, 0, limit=16)


def history_of(source: Path | World) -> History:
    """Return the history of a world's sweep, or of a folder's."""
    if isinstance(source, Path):
        found = read_history(source)
        assert found is not None
        return found
    history = History()
    history.follow(source.records)
    return history


def marks(history: History) -> list[tuple[str, str]]:
    return [(mark.kind, mark.text) for mark in history.marks]


# --- What is recorded ---------------------------------------------------------------------------------------


def test_runs_have_the_times_of_the_server(tmp_path: Path) -> None:
    """The start and the end of each run are those that the server names, though polls saw both later."""
    world = World(tmp_path, Scenario(runs=RunScript(queued=7.3, running=1.7)), models=3, repeats=2)
    assert world.run()
    history = history_of(world)
    assert len(history.runs) == 6
    for attempt in world.attempts():
        run = world.kaggle.runs[attempt.run_id or 0]
        times = history.runs[RunPlace(run.task, run.model, attempt.planned_run.repeat, 1)]
        wall = world.kaggle.wall() - world.kaggle.now()
        assert times.started == pytest.approx(wall + run.begins, abs=0.002)
        assert times.ended == pytest.approx(wall + run.ends, abs=0.002)
        assert times.scheduled is not None
        assert times.scheduled < wall + run.ends


def test_an_invocation_has_its_begin_its_end_and_its_calls(tmp_path: Path) -> None:
    """A sweep that came to its end says when, how many runs were planned, and how many calls it made."""
    world = World(tmp_path, models=3)
    assert world.run()
    [one] = history_of(world).invocations
    assert one.ended is not None
    assert one.ended - one.began == pytest.approx(world.seconds, abs=0.01)
    assert (one.planned, one.done, one.calls, one.stopped) == (3, 0, world.calls.total(), "")


def test_a_resumed_sweep_has_several_invocations(tmp_path: Path) -> None:
    """A killed invocation has no end; the next one continues, and knows the same runs."""
    world = World(tmp_path, Scenario(runs=RunScript(running=60.0)), models=4, durable=True)
    assert not world.run(kill_in=("download_output", True))
    killed = history_of(tmp_path)
    assert [one.ended for one in killed.invocations] == [None]
    assert len(killed.runs) == 4
    assert world.run(pause=100.0)
    history = history_of(tmp_path)
    first, second = history.invocations
    assert first.ended is None
    assert first.last < second.began < (second.ended or 0.0)
    assert history.runs == killed.runs | history.runs
    assert all(times.scheduled and times.started and times.ended for times in history.runs.values())


def test_a_cancelled_sweep_has_an_end(tmp_path: Path) -> None:
    """A process that is stopped, but not killed, records all that it knew."""
    world = World(tmp_path, Scenario(runs=RunScript(running=60.0)), durable=True)
    world.run(stop_after=10.2)
    history = history_of(tmp_path)
    [one] = history.invocations
    assert one.ended == pytest.approx(one.began + 10.2, abs=0.01)
    assert [times.ended for times in history.runs.values()] == [None]


def test_skips_retries_and_missing_runs(tmp_path: Path) -> None:
    """What did not go as planned is marked with its reason, and a retried run has the times of each attempt."""
    world = World(tmp_path, Scenario(runs=RunScript.errored("no")), repeats=2, rules=Rules(retry_errored=1))
    assert world.run()
    history = history_of(world)
    assert [kind for kind, _ in marks(history)].count("retry") == 2
    assert any(kind == "skipped" and reason for kind, reason in marks(history))
    assert {run.attempt for run in history.runs} == {1, 2}
    assert all(times.ended for times in history.runs.values())


def test_a_run_that_is_given_up_names_the_stage(tmp_path: Path) -> None:
    """A run that does not end within the time limit is marked as missing, at the stage of the limit."""
    world = World(tmp_path, Scenario(runs=RunScript(running=math.inf)), rules=Rules(timeout=50.0))
    assert world.run()
    [mark] = history_of(world).marks
    assert (mark.kind, mark.text, mark.run) == ("missing", "timeout", RunPlace("t1", "m1", 1, 1))


def test_a_task_that_cannot_be_prepared(tmp_path: Path) -> None:
    """A task whose creation fails is marked, and so are its runs."""
    world = World(tmp_path, Scenario(failed_creations=9))
    assert world.run()
    found = history_of(world).marks
    assert ("task_failed", "t1") in [(mark.kind, mark.task) for mark in found]


def test_a_drain_and_its_reason(tmp_path: Path) -> None:
    """A drained sweep says when nothing more was scheduled, and its end says why."""
    world = World(tmp_path, models=3)
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RunScheduled)))
    history = history_of(world)
    assert marks(history) == [("draining", "interrupted")]
    assert history.invocations[0].stopped == "interrupted"


def test_the_budget_is_read_now_and_then(tmp_path: Path) -> None:
    """The budget is recorded as it was read, at the latest at the end."""
    world = World(tmp_path, Scenario(runs=RunScript(cost=1.0)), models=3, rules=Rules(max_cost=9.0))
    assert world.run()
    readings = history_of(world).budget
    assert readings[-1][1:] == pytest.approx(
        (world.of(BudgetRead)[-1].cap, world.of(BudgetRead)[-1].spent, world.of(BudgetRead)[-1].reserved)
    )


async def sweep_under_faults(folder: Path) -> list[LimitChanged]:
    faults = (
        Fault("list_runs", 429, retry_after=0.2, first=2),
        Fault("list_runs", 503, retry_after=0.3, first=3),
    )
    kaggle = SimulatedKaggle(Scenario(latency=0.0, creation=0.0, runs=RunScript(running=0.3), faults=faults))
    kaggle.add_task("t")
    async with Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
        plan = await plan_sweep(client, "t", ["m"], output=folder, poll_interval=0.1)
        async with Sweep(client, plan) as sweep:
            return [event async for event in sweep if isinstance(event, LimitChanged)]


def test_each_limit_has_its_reason_and_its_pause(tmp_path: Path) -> None:
    """A sweep whose calls are refused records its first limit, each later one, why, and for how long none began."""
    changes = anyio.run(sweep_under_faults, tmp_path)
    history = history_of(tmp_path)
    assert {"HTTP 429", "HTTP 503"} <= {change.reason for change in changes}
    assert [(step.limit, step.reason, step.pause) for step in history.limits] == [
        (change.limit, change.reason if change.limit <= change.previous else "", change.pause)
        for change in changes
    ]
    assert history.invocations[0].limit == changes[0].previous
    assert history.invocations[0].calls > 4


@pytest.mark.parametrize(
    ("off", "found"), [(0.0, 0.0), (5.0, 0.0), (-5.0, 0.0), (3600.0, 3600.0), (-3600.0, -3600.0)]
)
def test_a_clock_that_is_off_is_noticed(off: float, found: float) -> None:
    """A server whose clock is an hour ahead or behind is told from one that agrees, by what cannot be."""
    records, now = MemoryRecords(), [1.8e9]
    writer = HistoryWriter(records, lambda: now[0], lambda: 1)
    writer.record(STARTED)
    for number in range(1, 8):
        run = PlannedRun("t", f"m{number}")
        writer.record(RunScheduled(run, 1))
        begin = now[0] + off
        now[0] += 30.0
        # The clock of one run is wrong in its own way.
        end = 4e9 if number == 3 else now[0] + off
        times = datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)
        writer.record(RunStateChanged(run, 1, number, RunState.COMPLETED, "", *times))
    writer.close()
    history = History()
    history.follow(records)
    assert history.clock_ahead() == pytest.approx(found, abs=1.0)


# --- When it is written -------------------------------------------------------------------------------------


class Disk(MemoryRecords):
    """A journal that counts the writes of the history."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[int] = []

    def save_history(self, rows: list[Any]) -> None:
        self.writes.append(len(rows))
        super().save_history(rows)


def test_rows_are_written_together() -> None:
    """However many events come in a second, they are written in two parts, and the last ones at the end."""
    disk, now = Disk(), [1.8e9]
    writer = HistoryWriter(disk, lambda: now[0], lambda: 7)
    writer.record(STARTED)
    for number in range(1000):
        now[0] += 0.001
        writer.record(RunScheduled(PlannedRun("t", "m"), number + 1))
    writer.record(SweepEnded(2, 2, 0, 0, 0, 1.0))
    assert len(disk.writes) == 3
    history = History()
    history.follow(disk)
    assert len(history.runs) == 1000
    assert history.invocations[0].calls == 7


def test_what_comes_before_the_start_belongs_to_nothing() -> None:
    """An event of another user of the client before the sweep began is not recorded."""
    disk = Disk()
    writer = HistoryWriter(disk, lambda: 0.0, lambda: 0)
    writer.record(LimitChanged(8, 16, "HTTP 429"))
    writer.close()
    assert disk.writes == []


def test_a_disk_that_is_full_does_not_end_the_sweep() -> None:
    """History that cannot be written is dropped: the next write that matters reports the disk."""

    class Full(MemoryRecords):
        def save_history(self, rows: list[Any]) -> None:
            raise JournalError("Cannot write: the disk is full.")

    writer = HistoryWriter(Full(), lambda: 0.0, lambda: 0)
    writer.record(STARTED)
    writer.record(LimitChanged(8, 16, "HTTP 429"))
    writer.close()


@pytest.mark.parametrize(
    ("tasks", "models", "repeats"),
    [pytest.param(10, 15, 2, id="quick"), pytest.param(1, 1, 300, id="slow", marks=pytest.mark.long)],
)
def test_a_run_takes_at_most_200_bytes(tmp_path: Path, tasks: int, models: int, repeats: int) -> None:
    """The journal of 300 runs grows by at most 200 bytes a run through its history, in whole pages.

    That is so for runs that are under way at once, and for those that follow each other slowly.
    """
    runs = RunScript(queued=50.0, running=200.0)
    rules = Rules(max_cost=900.0)
    world = World(
        tmp_path, Scenario(runs=runs), tasks=tasks, models=models, repeats=repeats, rules=rules, durable=True
    )
    assert world.run()
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as journal:
        rows = journal.execute("SELECT * FROM history").fetchall()
    sizes = []
    for written in ([], rows):
        copy = tmp_path / "copy" / str(len(written))
        with Journal.open(copy) as other:
            other.save_history([row[1:] for row in written])
        sizes.append((copy / JOURNAL).stat().st_size)
    assert 20 < (sizes[1] - sizes[0]) / 300 <= 200


# --- Reading ------------------------------------------------------------------------------------------------

numbers = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 14)
cells = numbers | st.text(max_size=5) | st.binary(max_size=5) | st.floats()
valid = st.tuples(st.integers(0, 2**40), st.sampled_from(list(Kind)), *(numbers,) * 7, st.none() | st.text())
rows_of_any_kind = st.lists(valid | st.tuples(*(cells,) * 10), max_size=20)


@given(rows_of_any_kind)
@settings(deadline=None)
def test_rows_of_any_content_are_read_or_skipped(rows: list[tuple[Any, ...]]) -> None:
    """No row keeps the others from being read."""
    records = MemoryRecords()
    writer = HistoryWriter(records, lambda: 1.8e9, lambda: 1)
    records.save_history(rows)
    writer.record(STARTED)
    writer.record(RunScheduled(PlannedRun("t", "m"), 1))
    writer.close()
    history = History()
    history.follow(records)
    assert history.runs[RunPlace("t", "m", 1, 1)] == RunTimes(1.8e9)
    assert history.invocations[-1].limit == 16


@given(rows_of_any_kind, st.integers(0, 20))
@settings(deadline=None)
def test_parts_are_read_as_the_whole(rows: list[tuple[Any, ...]], cut: int) -> None:
    """A reader that follows a journal as it grows knows the same as one that reads it at once."""
    records, follower, whole = MemoryRecords(), History(), History()
    for part in (rows[:cut], rows[cut:]):
        records.save_history(part)
        follower.follow(records)
    whole.follow(records)
    assert repr(follower) == repr(whole)


def test_a_follower_notices_another_sweep(tmp_path: Path) -> None:
    """If the journal is that of another sweep, as after `--fresh`, nothing of the first one is kept."""
    history = History()
    for now in (1.8e9, 1.9e9):
        records = MemoryRecords()
        writer = HistoryWriter(records, lambda now=now: now, lambda: 1)  # type: ignore[misc]
        writer.record(STARTED)
        writer.close()
        history.follow(records)
        assert [one.began for one in history.invocations] == [now]


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """Bytes that are no text are replaced, and texts of other tables are still checked."""
    with Journal.open(tmp_path) as journal:
        journal.save_history([(1_800_000_000_000, Kind.BEGAN, *(None,) * 8)])
        journal._connection.execute(
            "UPDATE history SET text = CAST(x'61ff' AS TEXT), kind = CAST(x'ff' AS TEXT)"
        )
        journal.save_value("a", "b")
        journal._connection.execute("UPDATE value SET value = CAST(x'ff' AS TEXT)")
        [row] = journal.history()
        assert (row[2], row[-1]) == ("\ufffd", "a\ufffd")
        with pytest.raises(JournalError, match="is damaged: a text"):
            journal.value("a")
    assert history_of(tmp_path).invocations == []


def test_only_rows_after_one(tmp_path: Path) -> None:
    """A reader that has read up to a row gets those after it."""
    with Journal.open(tmp_path) as journal:
        journal.save_history([(at, Kind.CALLS, *(None,) * 8) for at in range(10)])
        assert [row[:2] for row in journal.history(7)] == [(8, 7), (9, 8), (10, 9)]


# --- Older journals -----------------------------------------------------------------------------------------


def without_history(root: Path) -> None:
    with closing(sqlite3.connect(root / JOURNAL)) as journal:
        journal.execute("DROP TABLE history")


def test_an_older_journal_is_read_and_continued(tmp_path: Path) -> None:
    """A journal from before there was a history has none, opens, resumes, and has one of what follows."""
    world = World(tmp_path, Scenario(runs=RunScript(running=60.0)), models=2, durable=True)
    assert not world.run(kill_in=("download_output", True))
    without_history(tmp_path)
    assert history_of(tmp_path) == History()
    assert world.run(pause=10.0)
    world.check_all_done()
    [one] = history_of(tmp_path).invocations
    assert one.ended is not None


def test_there_is_no_history_without_a_journal(tmp_path: Path) -> None:
    """A folder that is not that of a sweep has no history."""
    assert read_history(tmp_path) is None


def test_the_states_of_a_run_without_times_are_those_that_were_seen() -> None:
    """Where the server names no time, a run begins and ends when a list first shows it."""
    records, now = MemoryRecords(), [1.8e9]
    writer = HistoryWriter(records, lambda: now[0], lambda: 1)
    run = PlannedRun("t", "m")
    writer.record(STARTED)
    for state in (RunState.QUEUED, RunState.RUNNING, RunState.COMPLETED):
        now[0] += 10
        writer.record(RunStateChanged(run, 1, 7, state))
    writer.close()
    history = History()
    history.follow(records)
    assert history.runs[RunPlace("t", "m", 1, 1)] == RunTimes(None, 1.8e9 + 20, 1.8e9 + 30, 1.8e9 + 30)
