"""The basics of the engine: one sweep, its events, files and calls, and the rules it is built on."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest

from fanbench.sweeps.attempt_store import AttemptStore
from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    SavedLog,
    SavedOutput,
    TaskPhase,
    content_identity,
)
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    DrainReason,
    OutputSaved,
    RunFound,
    RunLogLine,
    RunMissing,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    TaskPreparationFailed,
)
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.spec import Rules
from fanbench.sweeps.task_runs import TaskRuns, fits
from fanbench.testing import RunScript, SimulatedKaggle
from fanbench.wire.messages import CreationState, Run, RunState, TaskSlug
from tests.operations.conftest import INSTANT_RUN, simulated
from tests.sweeps.records import MemoryRecords
from tests.wire.scripted import in_virtual_time

T = TypeVar("T")
MODELS = ("m1", "m2", "m3")
SHORT_RUN = replace(INSTANT_RUN, running=3.0)


async def inline(job: Callable[[], T]) -> T:
    return job()


class Bench:
    """A simulated Kaggle, a journal, and the processes that sweep between them."""

    def __init__(self, folder: Path, client: SimulatedKaggle | None = None) -> None:
        self.folder = folder
        self.client = client or simulated(creation=2.0, runs=SHORT_RUN)
        self.records = MemoryRecords()
        self.events: list[SweepEvent] = []
        self.rules = Rules()
        self.repeats = 1
        self.engine: Engine | None = None

    def plan(self) -> SweepPlan:
        there = self.client.tasks.get("t")
        seen = there.message(self.client.now()) if there else None
        task = PlannedTask("t", content_identity("{}", ()), seen, Path("t.py"), "{}")
        return SweepPlan((task,), MODELS, self.folder, self.repeats, self.rules)

    async def sweep(self, until: Stage = "collect") -> None:
        self.events.clear()
        context = SweepContext(
            self.client,
            self.plan(),
            self.records,
            self.events.append,
            until=until,
            offload=inline,
            clock=lambda: 1e9 + anyio.current_time(),
        )
        self.engine = Engine(context)
        await self.engine.run()

    def of(self, kind: type[SweepEvent]) -> list[SweepEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self) -> SweepEnded:
        assert isinstance(self.events[-1], SweepEnded)
        return self.events[-1]

    def calls(self) -> list[str]:
        return [name for _, name, _ in self.client.history]


def in_time(main: Callable[[], Awaitable[None]]) -> None:
    in_virtual_time(main)


def test_a_sweep(tmp_path: Path) -> None:
    """A sweep pushes, schedules, finds and fetches everything, with a single call where one is enough."""
    bench = Bench(tmp_path)
    in_time(bench.sweep)
    assert isinstance(bench.events[0], SweepStarted)
    assert (bench.ended.planned, bench.ended.completed) == (3, 3)
    assert bench.calls().count("create_task") == bench.calls().count("schedule_runs") == 1
    assert len(bench.of(OutputSaved)) == 3
    assert [path.name for path in tmp_path.glob("t/1/*/*/*")] == ["a.run.json"] * 3
    assert len(list(tmp_path.glob("t/1/*/*.log"))) == 3
    assert bench.records.tasks()["t"].phase is TaskPhase.READY


def test_a_second_sweep_has_nothing_to_do(tmp_path: Path) -> None:
    """Repeating a finished sweep makes no call."""
    bench = Bench(tmp_path)

    async def twice() -> None:
        await bench.sweep()
        bench.client.history.clear()
        await bench.sweep()

    in_time(twice)
    assert bench.calls() == []
    assert bench.ended.completed == 3


def test_live_logs(tmp_path: Path) -> None:
    """Log lines are reported live and once, and the file contains them unchanged."""
    log = ((0.5, "a\nb"), (1.0, "c\n"), (2.5, "end"))
    bench = Bench(tmp_path, simulated(runs=replace(SHORT_RUN, log=log)))
    in_time(bench.sweep)
    lines = [event.line for event in bench.of(RunLogLine) if isinstance(event, RunLogLine)]
    assert sorted(lines) == ["a"] * 3 + ["bc"] * 3 + ["end"] * 3
    assert [path.read_text() for path in tmp_path.glob("t/1/*/*.log")] == ["a\nbc\nend"] * 3
    assert bench.calls().count("logs") == 3


def test_stages(tmp_path: Path) -> None:
    """A sweep can be run stage by stage, each of which continues where the previous one ended."""
    bench = Bench(tmp_path)

    async def step_by_step() -> None:
        await bench.sweep("push")
        assert "schedule_runs" not in bench.calls()
        assert bench.ended.stopped is DrainReason.STAGE
        assert bench.ended.unscheduled == 3
        await bench.sweep("schedule")
        assert len(bench.of(RunFound)) == 3
        assert "download_output" not in bench.calls()
        await bench.sweep()

    in_time(step_by_step)
    assert bench.ended.completed == 3
    assert bench.calls().count("create_task") == bench.calls().count("schedule_runs") == 1


def test_a_creation_that_fails(tmp_path: Path) -> None:
    """If a creation fails, the runs of the task are missing, and a sweep that is to retry pushes it again."""
    bench = Bench(tmp_path, simulated(creation=1.0, creation_end=CreationState.ERRORED))

    async def twice() -> None:
        await bench.sweep()
        assert bench.records.tasks()["t"].phase is TaskPhase.FAILED
        assert [event.stage for event in bench.of(RunMissing) if isinstance(event, RunMissing)] == [
            "push"
        ] * 3
        assert len(bench.of(TaskPreparationFailed)) == 1
        bench.client.change(creation_end=CreationState.COMPLETED)
        bench.rules = Rules(retry_errored=1)
        await bench.sweep()

    in_time(twice)
    assert bench.ended.completed == 3
    assert bench.calls().count("create_task") == 2


def test_retries_of_errored_runs(tmp_path: Path) -> None:
    """An errored run is repeated as often as requested, and each of its attempts is kept."""
    client = simulated(runs={"m2": RunScript.errored("ValueError: no")})
    bench = Bench(tmp_path, client)
    bench.rules = Rules(retry_errored=2)
    in_time(bench.sweep)
    assert (bench.ended.completed, bench.ended.errored) == (2, 1)
    assert [one.number for one in bench.records.of("t", "m2")] == [1, 2, 3]
    assert len(list(tmp_path.glob("t/1/m2/*.log"))) == 3


def test_a_polite_end(tmp_path: Path) -> None:
    """A drained engine follows runs in flight to their end and schedules nothing more."""
    bench = Bench(tmp_path, simulated(runs=SHORT_RUN))
    bench.repeats = 2

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bench.sweep)
            await anyio.lowlevel.checkpoint()
            while "schedule_runs" not in bench.calls():
                await anyio.lowlevel.checkpoint()
            assert bench.engine is not None
            bench.engine.drain(DrainReason.INTERRUPTED)
            bench.engine.drain(DrainReason.FAILURES)

    in_time(main)
    assert bench.ended.stopped is DrainReason.INTERRUPTED
    assert bench.ended.completed + bench.ended.unscheduled == 6
    assert bench.ended.completed >= 3


def test_a_download_that_is_refused_for_good(tmp_path: Path) -> None:
    """If a download is refused, the run is missing with its log, and the next sweep fetches the output."""
    bench = Bench(tmp_path, simulated(runs={"m1": RunScript(output_delay=math.inf)}))

    async def twice() -> None:
        await bench.sweep()
        assert (bench.ended.completed, bench.ended.missing) == (2, 1)
        bench.client.runs[1001].script = INSTANT_RUN
        await bench.sweep()

    in_time(twice)
    assert bench.ended.completed == 3
    assert len(list(tmp_path.glob("t/1/*/*.log"))) == 3


def test_lost_files_are_fetched_again(tmp_path: Path) -> None:
    """Files that are recorded but missing on the disk are fetched again, and nothing else."""
    bench = Bench(tmp_path)

    async def twice() -> None:
        await bench.sweep()
        (tmp_path / "t/1/m1/1001.log").unlink()
        (tmp_path / "t/1/m2/1002/a.run.json").unlink()
        bench.client.history.clear()
        await bench.sweep()

    in_time(twice)
    assert bench.calls().count("download_output") == 1
    assert bench.calls().count("logs") == 1
    assert len(bench.calls()) == 2
    assert bench.ended.completed == 3


@pytest.mark.anyio
async def test_both_event_loops(tmp_path: Path) -> None:
    """The engine runs on asyncio and on trio, with threads for the disk."""
    bench = Bench(tmp_path, simulated())
    events: list[SweepEvent] = []
    await Engine(SweepContext(bench.client, bench.plan(), bench.records, events.append)).run()
    assert isinstance(events[-1], SweepEnded)
    assert events[-1].completed == 3


# --- Small rules --------------------------------------------------------------------------------------------

PLANNED = PlannedRun("t", "m")
OUTPUT, LOG = SavedOutput("o", 1, 1, "x"), SavedLog("l", 1, 1)


def attempt(phase: Phase, state: RunState | None = None, *, number: int = 1, whole: bool = False) -> Attempt:
    made = Attempt(PLANNED, number, "now", 1, phase, 0.0, state=state)
    return made.with_(output=OUTPUT, log=LOG) if whole else made


def run(run_id: int, version: int = 1) -> Run:
    return Run(task_slug=TaskSlug(version_number=version), model_version_slug="me/m", id=run_id)


@pytest.mark.parametrize(
    ("theirs", "ours", "fit"), [(1, 1, True), (2, 1, False), (0, 1, True), (1, 0, True), (0, 0, True)]
)
def test_runs_fit_attempts_of_their_version(theirs: int, ours: int, fit: bool) -> None:
    """A run belongs to an attempt only if their versions match, as far as both are known."""
    assert fits(run(1, theirs), attempt(Phase.INTENDED).with_(version=ours)) is fit


def resumed(tmp_path: Path, *attempts: Attempt) -> tuple[TaskRuns, AttemptStore]:
    """Returns the state of a task whose attempts are in the journal; those at the current content are active."""
    planned = PlannedTask("t", "now", None)
    records = MemoryRecords()
    records.save_attempts(attempts)
    store = AttemptStore(SweepPlan((planned,), ("m",), tmp_path, 2), records, lambda event: None)
    task = TaskRuns(planned, store, lambda: 0.0, 60.0)
    task.load(store.attempts_by_task()["t"], ())
    for one in attempts:
        if one.identity == "now":
            task.resume(one)
    return task, store


def found(task: TaskRuns) -> dict[int, int | None]:
    return {run.planned_run.repeat: run.attempt.run_id for run in task.active.values()}


def test_unknown_runs_go_to_the_attempts_in_their_order(tmp_path: Path) -> None:
    """The run with the lowest id belongs to the first attempt, and runs left over are foreign."""
    second = attempt(Phase.SCHEDULED).with_(planned_run=PlannedRun("t", "m", 2), intended_at=1.0)

    async def main() -> None:
        task, store = resumed(tmp_path, attempt(Phase.SCHEDULED), second)
        store.commit(*task.assign({"m": [run(7), run(5), run(6), run(4, version=3)]}))
        assert found(task) == {1: 5, 2: 6}
        assert task.foreign_runs == store.journal.foreign_runs("t") == {4, 7}

    in_virtual_time(main)


def test_runs_of_earlier_contents_are_remembered(tmp_path: Path) -> None:
    """A run of earlier content is neither used for the current content nor foreign."""
    early = attempt(Phase.INTENDED).with_(identity="then")
    now = attempt(Phase.INTENDED, number=2).with_(version=2)

    async def main() -> None:
        task, store = resumed(tmp_path, early, now)
        store.commit(*task.assign({"m": [run(5, 1), run(6, 2)]}))
        assert found(task) == {1: 6}
        assert task.foreign_runs == set()
        assert [one.run_id for one in store.attempts_by_task()[PLANNED.task]] == [5, 6]

    in_virtual_time(main)
