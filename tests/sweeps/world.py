"""A sweep of a simulated Kaggle in one or more processes of the engine, and the invariants that must hold."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio

from fanbench.operations.candidates import ModelChoice
from fanbench.sweeps.artifacts import clear_parts
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, content_identity, version_identity
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import DrainReason, RunMissing, SweepEnded, SweepEvent
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import PlannedBenchmark, PlannedTask, SweepPlan
from fanbench.sweeps.spec import Rules
from fanbench.testing import ApiCall, Scenario, SimulatedRun, run_in_virtual_time
from fanbench.wire.messages import RunState
from fanbench.wire.metadata import Metadata
from tests.sweeps.life import Killed, MortalKaggle, MortalRecords
from tests.sweeps.records import MemoryRecords

__all__ = ["World", "drain_when", "names"]

E = TypeVar("E", bound=SweepEvent)

#: The calls that an engine may make.
SWEEP_CALLS: set[ApiCall] = {
    "create_task",
    "update_task",
    "get_task",
    "schedule_runs",
    "queue_status",
    "cancel_runs",
    "list_runs",
    "logs",
    "download_output",
    "task_quota",
    "proxy_quotas",
}


def names(kind: str, number: int) -> tuple[str, ...]:
    """`t1`, `t2`, …"""
    return tuple(f"{kind}{index}" for index in range(1, number + 1))


@dataclass(frozen=True, slots=True)
class Said:
    """An event and the second at which it was emitted, counted from the start of its process."""

    at: float
    event: SweepEvent


class World:
    """One sweep of tasks `t1`… on models `m1`…; `run` is one process of it, from its plan to its end.

    `durable`: with a journal on the disk, which each process opens. `said` has what the last process said,
    `seconds` how long it took, `calls` how many calls it made, by kind.
    """

    def __init__(
        self,
        folder: Path,
        scenario: Scenario | None = None,
        *,
        tasks: int | Sequence[str] = 1,
        models: int | Sequence[str] = 1,
        repeats: int = 1,
        rules: Rules | None = None,
        durable: bool = False,
    ) -> None:
        self.folder = folder
        self.kaggle = MortalKaggle(scenario)
        self.records = MemoryRecords()
        self._durable = durable
        self._processes = 0
        self.tasks = names("t", tasks) if isinstance(tasks, int) else tuple(tasks)
        self.models = names("m", models) if isinstance(models, int) else tuple(models)
        self.repeats = repeats
        self.rules = rules or Rules()
        #: The planned runs that the next process is asked to make again.
        self.rerun: tuple[PlannedRun, ...] = ()
        #: Whether the planner compares the contents of tasks with those on the server.
        self.compares = False
        #: The benchmark in which all tasks are.
        self.benchmark: PlannedBenchmark | None = None
        #: Models that the server does not list, each with the names close to it.
        self.unlisted: dict[str, tuple[str, ...]] = {}
        #: Whether the server does not show the efforts of models.
        self.unchecked = False
        #: Text of the tasks that come from a file; one that has none is on the server already.
        self.texts: dict[str, str] = {task: f"notebook of {task}" for task in self.tasks}
        #: What the files of tasks say about their pages.
        self.pages: dict[str, Metadata] = {}
        self.said: list[Said] = []
        self.seconds = 0.0
        self.calls: Counter[str] = Counter()
        self.engine: Engine | None = None

    # --- Running ---

    def plan(self) -> SweepPlan:
        """Returns the plan that a planner would make now, without counting its calls."""
        self.kaggle.catch_up()
        return SweepPlan(
            tuple(map(self._planned, self.tasks)),
            self.models,
            self.folder,
            self.repeats,
            self.rules,
            ModelChoice(
                self.models, self.unlisted, agents=frozenset(self.kaggle.agents), unchecked=self.unchecked
            ),
            rerun=self.rerun,
            benchmark=self.benchmark,
        )

    def _planned(self, slug: str) -> PlannedTask:
        there = self.kaggle.tasks.get(slug)
        seen = there.visible(self.kaggle.now(), self.kaggle.scenario.push_lag) if there else None
        text = self.texts.get(slug)
        file = Path(f"{slug}.py") if text is not None else None
        page = self.pages.get(slug)
        same = there.newest.text == text if there and self.compares else None
        mapped = seen.slug.version_number if seen and self.benchmark else 0
        return PlannedTask(
            slug,
            self._identity(slug),
            seen,
            file,
            text,
            page=page,
            benchmark_version=mapped,
            same_as_server=same,
        )

    def _identity(self, slug: str) -> str:
        """Returns the identity of the content that is to be run now."""
        text = self.texts.get(slug)
        return (
            version_identity(len(self.kaggle.tasks[slug].versions))
            if text is None
            else content_identity(text, ())
        )

    def run(
        self,
        *,
        until: Stage = "collect",
        pause: float = 0.0,
        kill_after: int | None = None,
        kill_in: tuple[ApiCall, bool] | None = None,
        stop_after: float | None = None,
        meanwhile: Callable[[SweepEvent, Engine], None] = lambda event, engine: None,
        backend: str = "trio",
    ) -> bool:
        """One process, `pause` seconds after the last one; whether it came to its end.

        See `MortalKaggle.begin` for the kills; after `stop_after` seconds it is cancelled. `meanwhile` gets
        each event as it is said, and the engine.
        """
        self._processes += 1
        _shuffle_alike(self._processes)

        async def process() -> None:
            self.kaggle.begin(pause=pause, kill_after=kill_after, kill_in=kill_in)
            before, began = self.kaggle.calls.copy(), self.kaggle.now()
            with self._journal() as records, anyio.move_on_after(stop_after):
                engine = self._engine(records, until, began, meanwhile)
                try:
                    await engine.run()
                    self._finished = True
                finally:
                    self.seconds = round(self.kaggle.now() - began, 3)
                    self.calls = self.kaggle.calls - before
                    assert set(self.calls) <= SWEEP_CALLS, "a sweep must leave all else alone"

        clear_parts(self.folder)
        self.said, self._finished = [], False
        try:
            run_in_virtual_time(process, backend="trio") if backend == "trio" else anyio.run(
                process, backend=backend
            )
        except BaseException as error:
            if not _is_kill(error):
                raise
        return self._finished

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        """Yields the journal that the engine writes to; `records` has its content afterwards."""
        if not self._durable:
            yield self.records
            return
        with Journal.open(self.folder) as journal:
            try:
                yield journal
            finally:
                self.records = MemoryRecords()
                self.records.save_attempts(journal.attempts())
                for task in journal.tasks().values():
                    self.records.save_task(task)
                self.records.save_history([row[1:] for row in journal.history()])

    def _engine(
        self, records: Journal, until: Stage, began: float, meanwhile: Callable[[SweepEvent, Engine], None]
    ) -> Engine:
        life = self.kaggle.life

        def emit(event: SweepEvent) -> None:
            if not life.dead:
                self.said.append(Said(round(self.kaggle.now() - began, 3), event))
                meanwhile(event, engine)

        context = SweepContext(
            self.kaggle,
            self.plan(),
            MortalRecords(records, life),
            emit,
            until=until,
            offload=life.offload,
            calls=self.kaggle.calls.total,
            clock=self.kaggle.wall,
        )
        engine = Engine(context)
        return engine

    # --- Looking ---

    def of(self, kind: type[E]) -> list[E]:
        """Returns the events of one kind that the last process emitted."""
        return [said.event for said in self.said if isinstance(said.event, kind)]

    def said_of(self, kind: type[E]) -> list[tuple[float, E]]:
        """Returns the events of one kind with the seconds at which they were emitted."""
        return [(said.at, said.event) for said in self.said if isinstance(said.event, kind)]

    def times(self, kind: type[SweepEvent]) -> list[float]:
        """Returns the seconds at which events of one kind were emitted."""
        return [said.at for said in self.said if isinstance(said.event, kind)]

    def scheduled(self) -> list[tuple[str, ...]]:
        """Returns the models of each schedule call."""
        return [models for _, models in self.kaggle.arguments("schedule_runs")]

    def missing(self) -> list[RunMissing]:
        return self.of(RunMissing)

    @property
    def ended(self) -> SweepEnded:
        event = self.said[-1].event
        assert isinstance(event, SweepEnded)
        return event

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Returns the numbers of runs that are completed, errored, missing and unscheduled."""
        ended = self.ended
        return ended.completed, ended.errored, ended.missing, ended.unscheduled

    def attempts(self, *phases: Phase) -> list[Attempt]:
        return [one for one in self.records.attempts() if not phases or one.phase in phases]

    def folder_of(self, run: SimulatedRun) -> Path:
        return self.folder / run.task / str(run.version) / run.model / str(run.id)

    def log_of(self, run: SimulatedRun) -> Path:
        return self.folder_of(run).with_name(f"{run.id}.log")

    def edit(self, task: str) -> None:
        """The user changes the task's file."""
        self.texts[task] += ", changed"

    def serve(self, **changes: Any) -> None:
        """Changes the scenario of the server from here on."""
        self.kaggle.change(**changes)

    # --- What must hold ---

    def check_server(self) -> None:
        """Checks that nothing was pushed twice, and that each scheduled run belongs or can belong to an attempt."""
        for task in self.kaggle.tasks.values():
            texts = [version.text for version in task.versions]
            assert len(set(texts)) == len(texts), f"{task.slug} pushed twice"
        used = Counter(one.run_id for one in self.attempts() if one.run_id is not None)
        assert not [run_id for run_id, times in used.items() if times > 1], "a run in two attempts"
        for task_slug in self.tasks:
            for model in self.models:
                mine = self.kaggle.our_runs(task_slug, model)
                unknown = Counter(run.version for run in mine if run.id not in used)
                sought = Counter(
                    one.version
                    for one in self.attempts(Phase.INTENDED, Phase.SCHEDULED)
                    if (one.planned_run.task, one.planned_run.model) == (task_slug, model)
                )
                assert unknown <= sought, f"runs of {task_slug} on {model} that nobody will find"

    def check_journal(self) -> None:
        """Checks that the runs in the journal agree with the server and the disk."""
        for one in self.attempts():
            if one.run_id is None:
                continue
            run = self.kaggle.runs[one.run_id]
            assert (run.task, run.model, run.version) == (
                one.planned_run.task,
                one.planned_run.model,
                one.version,
            )
            version = self.kaggle.tasks[run.task].versions[run.version - 1]
            assert one.identity in (content_identity(version.text, ()), version_identity(version.number))
            if one.phase == Phase.ENDED:
                assert one.state == run.script.end
            # What the user deletes of an older content is not fetched again.
            kept = one.identity == self._identity(one.planned_run.task) or self.folder_of(run).exists()
            if one.output is not None and kept:
                self.check_output(run)
            if one.log is not None and kept:
                self.check_log(run)

    def check_output(self, run: SimulatedRun) -> None:
        folder = self.folder_of(run)
        files = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        assert files == run.output(self.rules.include_source)

    def check_log(self, run: SimulatedRun) -> None:
        assert self.log_of(run).read_bytes() == run.log.encode()

    def check_disk(self) -> None:
        """Checks that final names belong only to complete outputs and logs of runs that have ended."""
        for path in self.folder.glob("*/*/*/*"):
            if path.name.startswith("."):
                continue
            run = self.kaggle.runs[int(path.stem)]
            if path == self.log_of(run):
                self.check_log(run)
            else:
                assert path == self.folder_of(run)
                self.check_output(run)

    def check(self) -> None:
        self.check_server()
        self.check_journal()
        self.check_disk()

    def check_all_done(self) -> None:
        """Checks at the end that each planned run has its runs, outputs and logs, and that nothing else exists."""
        self.check()
        assert not list(self.folder.glob(".fanbench/logs/*"))
        done = [
            one
            for one in self.attempts()
            if one.output is not None
            and one.log is not None
            and one.identity == self._identity(one.planned_run.task)
        ]
        used = {one.run_id for one in done}
        newest = [f"{slug}/{len(task.versions)}" for slug, task in self.kaggle.tasks.items()]
        on_disk = {path.name for version in newest for path in self.folder.glob(f"{version}/*/*")}
        assert on_disk == {name for run_id in used for name in (f"{run_id}", f"{run_id}.log")}
        mine = {run.id for run in self.kaggle.our_runs() if self._is_newest(run)}
        assert mine <= used, f"runs too many: {mine - used}"
        for task in self.tasks:
            for model in self.models:
                self._check_unit_counts(task, model, done)

    def _is_newest(self, run: SimulatedRun) -> bool:
        return run.version == len(self.kaggle.tasks[run.task].versions)

    def _check_unit_counts(self, task: str, model: str, done: Sequence[Attempt]) -> None:
        """Checks for one attempt per repeat, and one more for each that errored and was retried."""
        for repeat in range(1, self.repeats + 1):
            states = [
                one.state
                for one in done
                if (one.planned_run.task, one.planned_run.model, one.planned_run.repeat)
                == (task, model, repeat)
            ]
            failures = states.count(RunState.ERRORED)
            assert failures <= self.rules.retry_errored + 1
            assert len(states) == failures + states.count(RunState.COMPLETED)
            assert states.count(RunState.COMPLETED) == (failures <= self.rules.retry_errored)


def _shuffle_alike(seed: int) -> None:
    """Makes trio wake tasks in the same random order each time that a test runs."""
    from trio._core import _run

    random.seed(seed)
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)


def _is_kill(error: BaseException) -> bool:
    """Returns whether the error is the kill itself, or a group that contains nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_kill, error.exceptions))
    return isinstance(error, Killed)


def drain_when(moment: Callable[[SweepEvent], bool]) -> Callable[[SweepEvent, Engine], None]:
    """Return a `meanwhile` for `World.run` that drains the engine at an event for which `moment` is True."""

    def meanwhile(event: SweepEvent, engine: Engine) -> None:
        if moment(event):
            engine.drain(DrainReason.INTERRUPTED)

    return meanwhile
