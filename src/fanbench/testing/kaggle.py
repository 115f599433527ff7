"""A simulated Kaggle: the calls of a client, answered in this process on the event loop's clock."""

from __future__ import annotations

import hashlib
import heapq
import math
import re
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
from msgspec import structs

from fanbench.config import Anonymous, Config
from fanbench.errors import FanbenchError, error_for_status
from fanbench.faults.fault import ApiCall, Fault, connection_lost
from fanbench.faults.injector import FaultInjector, Hit
from fanbench.testing.queue import SimulatedQueue
from fanbench.testing.scenario import RunScript, Scenario
from fanbench.testing.state import EPOCH, SimulatedRun, SimulatedTask, wall_time
from fanbench.wire import protocol
from fanbench.wire.candidates import (
    Candidate,
    config_name,
    config_slug,
    normalize_label,
    same_label,
    with_efforts,
)
from fanbench.wire.downloads import BadZip, Downloaded
from fanbench.wire.messages import (
    AddTasksResponse,
    BenchmarkModel,
    CancelRunsResponse,
    CandidateType,
    Citation,
    CreationState,
    IntrospectTokenResponse,
    Leaderboard,
    LogEntry,
    Modality,
    ModelConfig,
    ModelProxyQuotas,
    ModelProxyToken,
    ModelVersion,
    QueueSettings,
    QueueStatus,
    QuotaBalance,
    RefillPeriod,
    RemoveTasksResponse,
    Run,
    RunState,
    ScheduleResult,
    Task,
    TaskQuota,
    TaskSlug,
    UpdateTaskResponse,
)
from fanbench.wire.metadata import PROVENANCE_LIMIT, Metadata, stored_tag
from fanbench.wire.pages import Pages
from fanbench.wire.queue import Enqueue, make_status, skip_reason
from fanbench.wire.safe_unzip import UnpackedFile, changed
from fanbench.wire.slugs import join_task, normalize_model, split_task

__all__ = ["Moment", "SimulatedKaggle"]

T = TypeVar("T")
#: The points of a call at which `SimulatedKaggle.at` is called.
Moment = Literal["sent", "arrived", "done", "answered", "receiving", "writing"]
# The fault of the call that is being answered over HTTP. It has no value in calls that are made directly.
_FAULT: ContextVar[Fault | None] = ContextVar("fault")


class SimulatedKaggle:
    """A Kaggle in memory that behaves as a scenario says. It offers the calls of a `fanbench.Client`.

    The simulation follows the clock of the event loop. On a virtual clock (`run_in_virtual_time`) hours pass in
    milliseconds; on a real one, its seconds are real. Its state outlives the event loop: a second loop
    continues where the first one stopped.

    Calls made directly on this object are not retried: each fault is an error that the caller receives. With
    `SimulatedTransport` or `serve`, a real client retries as it does on Kaggle.

    Attributes:
        tasks: The tasks by slug.
        runs: The runs by id.
        models: The models that `list_models` returns. Without any, all models may be scheduled, at any effort.
        configs: The models at efforts that `list_configs` returns.
        agents: The slugs of the agents that may be scheduled, and of the models behind them.
        tags: The tags that tasks can have.
        benchmarks: The tasks of each benchmark, with their versions, by (owner, benchmark).
        leaderboards: The leaderboards by (owner, benchmark).
        balances, run_quota, proxy_token: What the calls for quotas and tokens return; None for what follows from
            the runs and the clock.
        calls: How often each call was made, by name.
        most_at_once: The most calls of a name that were open at the same time; "streams" are open logs,
            "downloads" are downloads from their call to their end.
        history: Each call as (second, name, arguments), unless `keep_history` is off.
    """

    first_run_id = 1001

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        models: Sequence[str | BenchmarkModel] = (),
        username: str = "me",
        keep_history: bool = True,
    ) -> None:
        self.scenario = scenario or Scenario()
        self.username = username
        self.config = Config("http://simulated", Anonymous())
        self.models: list[BenchmarkModel] = []
        self.configs: list[ModelConfig] = []
        self.agents: dict[str, str] = {}
        for each in models:
            if isinstance(each, str):
                self.add_model(each)
            else:
                self.models.append(each)
        self.tasks: dict[str, SimulatedTask] = {}
        self.runs: dict[int, SimulatedRun] = {}
        self.tags = {"computer vision", "mathematics", "reasoning"}
        self.benchmarks: dict[tuple[str, str], list[TaskSlug]] = {}
        self.leaderboards: dict[tuple[str, str], Leaderboard] = {}
        self.balances: list[QuotaBalance] | None = None
        self.run_quota: TaskQuota | None = None
        self.proxy_token: ModelProxyToken | None = None
        self.calls: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.history: list[tuple[float, str, object]] = []
        self._keep_history = keep_history
        self._open = Counter[str]()
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._future_runs: list[tuple[float, int, str, str, RunScript | None]] = []
        self._late_calls: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = count()
        self._queue = SimulatedQueue()
        self._costs: list[tuple[float, float]] = []
        self._spent = 0.0
        self._last = 0.0
        self._waiting_logs: set[anyio.Event] = set()
        self._call_soon: Callable[[Callable[[], None]], object] = lambda work: work()
        self._clock: Callable[[], float] = anyio.current_time
        self._offset: float | None = None
        self._frozen_at: float | None = None
        self.change()

    # --- The simulation ---

    def change(self, **changes: Any) -> None:
        """Change fields of the scenario from now on. Runs that exist follow their scripts."""
        self.scenario = replace(self.scenario, **changes)
        self._let_others_begin()
        self.injector = FaultInjector(self.scenario.faults, self.scenario.seed, self.wall)

    def now(self) -> float:
        """Seconds since the beginning of the simulation; outside an event loop, those of the last call."""
        if self._frozen_at is not None:
            return self._frozen_at
        try:
            clock = self._clock()
        except RuntimeError:
            return self._last
        # The first look at this clock, or at that of a new event loop, which started again.
        if self._offset is None or clock + self._offset < self._last:
            self._offset = self._last - clock
        self._last = clock + self._offset
        return self._last

    def wall(self) -> float:
        """The simulated wall clock, in seconds since 1970."""
        return EPOCH + self.now()

    def resume(self, pause: float = 0.0) -> None:
        """Continue in this event loop, `pause` seconds after the last call of the one before."""
        self._offset = self._last + pause - self._clock()

    def use_clock(
        self,
        clock: Callable[[], float] = anyio.current_time,
        call_soon: Callable[[Callable[[], None]], object] = lambda work: work(),
    ) -> None:
        """Continue on another clock, by default that of the event loop.

        `serve` uses the system's clock. Its `call_soon` calls a function in the event loop that answers.
        """
        self.now()
        self._clock, self._offset, self._call_soon = clock, None, call_soon
        self.now()

    def at(self, moment: Moment, call: ApiCall) -> None:
        """Do nothing. A subclass raises here to simulate a caller that dies at that moment of a call."""

    # --- What happens without calls ---

    def add_task(
        self,
        slug: str,
        text: str = "there before",
        *,
        datasets: Sequence[str] = (),
        age: float = math.inf,
    ) -> SimulatedTask:
        """Add a version of a task that was pushed `age` seconds ago."""
        key = self._key(slug)
        task = self.tasks.setdefault(key, SimulatedTask(key, self.username))
        task.push(text, tuple(datasets), self.now() - age, self.scenario)
        return task

    def add_run(
        self, slug: str, model: str, script: RunScript | None = None, *, version: int = 0, age: float = 0.0
    ) -> SimulatedRun:
        """Add a run that someone else scheduled `age` seconds ago, of the newest version by default.

        A task that does not exist is added.
        """
        task = self.tasks.get(self._key(slug)) or self.add_task(slug)
        script = script or self._script(task, model) or RunScript()
        version = version or task.newest.number
        return self._start(task, model, script, version, self.now() - age, ours=False)

    def add_future_run(self, at: float, slug: str, model: str, script: RunScript | None = None) -> None:
        """Let someone else schedule a run at second `at`, if the task exists by then."""
        heapq.heappush(self._future_runs, (at, next(self._serial), slug, model, script))

    def add_model(
        self,
        slug: str,
        name: str = "",
        *,
        proxy_slug: str = "",
        inputs: Sequence[Modality] = (Modality.TEXT,),
        allow_proxy: bool = True,
        efforts: Sequence[str] = (),
    ) -> BenchmarkModel:
        """Add a model. Its name and its slug at the Model Proxy follow from `slug` if they are not given."""
        number = len(self.models) + 1
        version = ModelVersion(
            id=number,
            slug=slug,
            model_proxy_slug=proxy_slug or slug,
            allow_model_proxy=allow_proxy,
            input_modalities=list(inputs),
            output_modalities=[Modality.TEXT],
            supports_reasoning_effort=bool(efforts),
        )
        name = name or slug.rpartition("/")[2].title()
        self.models.append(BenchmarkModel(id=number, slug=slug, display_name=name, version=version))
        self.configs += [
            ModelConfig(
                id=len(self.configs) + index,
                benchmark_model_version_id=number,
                display_name=config_name(name, effort),
                slug=config_slug(normalize_model(slug), effort),
                reasoning_effort=effort,
            )
            for index, effort in enumerate(efforts, 1)
        ]
        return self.models[-1]

    def finish(self, task: str = "", model: str = "") -> None:
        """End the creations and runs in progress now: all, or those of a task, or the runs of a model.

        They end as they would have later. Live logs deliver the rest of their lines and end. With `serve`, a test
        may call this while the server answers.
        """
        now = self.now()
        for each in list(self.tasks.values()):
            if task in ("", each.slug) and not model:
                each.versions[-1] = replace(each.newest, ready_at=min(each.newest.ready_at, now))
        for run in list(self.runs.values()):
            if task in ("", run.task) and model in ("", run.model) and run.ends > now:
                with self._new_cost(run):
                    run.finish(now)
        self._let_others_begin()
        self._call_soon(self._wake_logs)

    def _let_others_begin(self) -> None:
        """Let runs of the queue begin earlier, because some that were before them have ended or are gone."""
        settings = self.scenario.queue or QueueSettings()
        now = self.now() if len(self._queue) else self._last
        for run, begins in self._queue.plan_again(now, settings):
            with self._new_cost(run):
                run.begin_at(begins)

    @contextmanager
    def _new_cost(self, run: SimulatedRun) -> Iterator[None]:
        """The block changes when a run ends, or what it costs."""
        self._costs.remove((run.ends, run.script.cost or 0.0))
        yield
        self._costs.append((run.ends, run.script.cost or 0.0))
        heapq.heapify(self._costs)

    def _wake_logs(self) -> None:
        for waiting in self._waiting_logs:
            waiting.set()

    def our_runs(self, slug: str = "", model: str = "") -> list[SimulatedRun]:
        """The runs that were scheduled through the API: all, or those of a task or a model."""
        return [
            run
            for run in self.runs.values()
            if run.ours and slug in ("", run.task) and model in ("", run.model)
        ]

    def times(self, call: ApiCall) -> list[float]:
        """The seconds at which one kind of call was made, to the millisecond."""
        return [round(second, 3) for second, called, _ in self.history if called == call]

    def arguments(self, call: ApiCall) -> list[Any]:
        """The arguments of each call of one kind."""
        return [about for _, called, about in self.history if called == call]

    # --- Tasks ---

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        def push() -> Task:
            if error := self.scenario.push_error:
                return Task(slug=SimulatedTask(self._key(slug), self.username).version_slug(0), error=error)
            return self.add_task(slug, text, datasets=datasets, age=0.0).message(self.now())

        async with self._call("create_task", (slug, tuple(datasets)), late=push):
            return push()

    async def get_task(self, task: str, *, version: int = 0, include_definition: bool = False) -> Task:
        async with self._call("get_task", task):
            shown = self._task(task, "get_task").visible(self.now(), self.scenario.push_lag, version)
            if shown is None:
                raise error_for_status("get_task", 404, "No such task.")
            definition = self.scenario.definition if include_definition else None
            return structs.replace(shown, definition=definition)

    def list_tasks(
        self,
        *,
        regex: str | None = None,
        status: str | None = None,
        owner: str = "",
        benchmark: str = "",
        version: int = 0,
        include_definition: bool = False,
    ) -> AsyncIterator[Task]:
        fetch = partial(
            self.page_of_tasks,
            regex or "",
            status or "",
            scope=(owner, benchmark, version),
            include_definition=include_definition,
        )
        return _pages(protocol.LIST_TASKS, fetch)

    async def page_of_tasks(
        self,
        regex: str,
        status: str,
        start: int,
        size: int | None = None,
        *,
        scope: tuple[str, str, int] = ("", "", 0),
        include_definition: bool = False,
    ) -> tuple[list[Task], int | None]:
        """One page of `list_tasks`, from number `start` on, and where the next page starts.

        `scope` is an owner, a benchmark and its version; empty for all tasks.
        """
        async with self._call("list_tasks", (regex, status, *(scope if any(scope) else ()))):
            try:
                pattern = re.compile(regex)
            except re.error as error:
                text = f"{regex!r} is not a regular expression: {error}"
                raise error_for_status("list_tasks", 400, text) from None
            shown = self._tasks_in(*scope)
            definition = self.scenario.definition if include_definition else None
            listed = [
                structs.replace(task, definition=definition)
                for task in shown
                if task
                and pattern.search(task.slug.task_slug)
                and status.upper() in ("", task.creation_state.label)
            ]
            return self._page(listed, start, size)

    def _tasks_in(self, owner: str, benchmark: str, version: int) -> list[Task | None]:
        """What the server shows of each task: of all, of those of an owner, or of those of a benchmark."""
        now, lag, known = self.now(), self.scenario.push_lag, self.scenario.has_benchmarks
        if benchmark and known:
            mapped = self._benchmark(owner, benchmark, version, "list_tasks")
            return [
                self._task(join_task(slug), "list_tasks").visible(now, lag, slug.version_number)
                for slug in mapped
            ]
        shown = [task.visible(now, lag) for task in self.tasks.values()]
        return [task for task in shown if task and (not known or owner in ("", task.slug.owner_slug))]

    async def publish_task(self, task: str, *, publish_notebook: bool = True) -> Task:
        async with self._call("publish_task", (task, publish_notebook)):
            found = self._task(task, "publish_task")
            found.is_public, found.is_notebook_public = True, publish_notebook
            return found.message(self.now())

    async def update_task(
        self,
        task: str,
        *,
        version: int = 0,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        provenance: str | None = None,
        citations: Sequence[Citation] | None = None,
    ) -> UpdateTaskResponse:
        change = Metadata(
            description=None if description is None else self.scenario.sanitize(description),
            tags=None if tags is None else tuple(tags),
            provenance=provenance,
            citations=None if citations is None else tuple(citations),
        )
        async with self._call("update_task", (task, version, change.given)):
            if not self.scenario.can_update:
                raise error_for_status("update_task", 404, "No such call.")
            found = self._task(task, "update_task")
            if not 0 <= version <= found.newest.number:
                raise error_for_status("update_task", 404, "No such version.")
            if len(provenance or "") > PROVENANCE_LIMIT:
                text = f"The provenance has more than {PROVENANCE_LIMIT} characters."
                raise error_for_status("update_task", 400, text)
            updated = found.update(change.stored(self.tags), version)
            unknown = [tag for tag in tags or () if stored_tag(tag) not in self.tags]
            return UpdateTaskResponse(task=found.message(self.now(), updated), invalid_tags=unknown)

    async def delete_task(self, task: str) -> None:
        async with self._call("delete_task", task):
            if not self.scenario.can_delete:
                raise error_for_status("delete_task", 404, "No such call.")
            del self.tasks[self._task(task, "delete_task").slug]

    # --- Runs ---

    async def schedule_runs(
        self,
        task: str,
        models: Sequence[str] = (),
        *,
        version: int = 0,
        judge: str = "",
        effort: str = "",
        agents: Sequence[str] = (),
        enqueue: Enqueue | None = None,
    ) -> list[ScheduleResult]:
        assert not judge, "Kaggle has no way to choose the judge of a run"
        wanted = tuple(Candidate(normalize_model(model), effort).label for model in models) + tuple(agents)
        assert len(set(wanted)) == len(wanted), f"a model twice in one call: {wanted}"
        schedule = partial(self._schedule, task, wanted, version, effort, agents, enqueue)
        async with self._call("schedule_runs", (task, wanted), late=schedule):
            return schedule()

    async def queue_status(self) -> QueueStatus:
        async with self._call("queue_status", None):
            # An account without the queue may read the settings, too.
            settings = self.scenario.queue or QueueSettings(enabled=True)
            if not self.scenario.has_queue_status:
                raise error_for_status("queue_status", 404, "No such call.")
            return make_status(*self._tallies(), settings)

    async def cancel_runs(
        self,
        tasks: str | Sequence[str] = (),
        *,
        run_ids: Sequence[int] = (),
        model: str = "",
        effort: str = "",
        agent: str = "",
        include_active: bool = False,
    ) -> CancelRunsResponse:
        slugs = [tasks] if isinstance(tasks, str) else list(tasks)
        asked = (tuple(slugs), tuple(run_ids), include_active)
        async with self._call("cancel_runs", asked):
            if not self.scenario.can_cancel:
                raise error_for_status("cancel_runs", 404, "No such call.")
            of_tasks = [run for slug in slugs for run in self._task(slug, "cancel_runs").runs]
            chosen = of_tasks or [self.runs[run_id] for run_id in run_ids if run_id in self.runs]
            return self._cancel(
                [
                    run
                    for run in chosen
                    if run.ours
                    and agent in ("", run.candidate.agent)
                    and effort in ("", run.candidate.effort)
                    and normalize_model(model) in ("", run.candidate.model)
                ],
                include_active,
            )

    async def list_runs(
        self, task: str, *, models: Sequence[str] = (), version: int = 0
    ) -> AsyncGenerator[Run, None]:
        page = partial(self.page_of_runs, task, [Candidate.parse(model).model for model in models])
        efforts = {config.slug: config.reasoning_effort for config in self.configs}
        known = set(map(same_label, models))
        async for run in _pages(protocol.LIST_RUNS, partial(page, version=version)):
            (found,) = with_efforts([run], efforts)
            label = Candidate.of_run(found).label
            # A damaged list may have runs without a model.
            if not known or self.scenario.ignores_model_filter or same_label(label) in known | {""}:
                yield found

    async def page_of_runs(
        self, task: str, models: Sequence[str], start: int, size: int | None = None, *, version: int = 0
    ) -> tuple[list[Run], int | None]:
        """One page of `list_runs`, from number `start` on, and where the next page starts."""
        wanted = () if self.scenario.ignores_model_filter else tuple(map(normalize_model, models))
        async with self._call("list_runs", task):
            now, scenario = self.now(), self.scenario
            of_task = self._task(task, "list_runs")
            newest_only = scenario.lists_newest_version and of_task.versions
            version = version or (of_task.newest.number if newest_only else 0)
            runs = [run for run in of_task.runs if version in (0, run.version)]
            if scenario.list_order == "newest":
                runs = runs[::-1]
            elif scenario.list_order == "mixed":
                runs = sorted(runs, key=lambda run: run.id * 7919 % 1009)
            listed = [
                run
                for run in runs
                if not run.cancelled
                and run.scheduled + scenario.list_lag + run.script.list_lag <= now
                and (not wanted or normalize_model(run.slug_of_model) in wanted)
            ]
            runs, following = self._page(listed, start, size)
            return [
                run.message(now, scenario.spell_model(run.slug_of_model), with_result=scenario.shows_results)
                for run in runs
            ], following

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        _, entries = await self.open_log(run_id)
        async with aclosing(entries):
            async for entry in entries:
                yield entry

    async def open_log(self, run_id: int) -> tuple[bool, AsyncGenerator[LogEntry, None]]:
        """Make the call of `logs`: return whether the log is live, and its entries."""
        async with self._call("logs", run_id):
            run, now = self._run(run_id, "logs"), self.now()
            live, script = not run.state(now).terminal, run.script
            ready = run.begins + script.log_delay if live else run.ends + script.kept_log_delay
            if run.state(now) == RunState.QUEUED or now < ready:
                raise error_for_status("logs", 404, "The log is not available.")
        live = not run.state(self.now()).terminal
        return live, self._log(run, live)

    async def _log(self, run: SimulatedRun, live: bool) -> AsyncGenerator[LogEntry, None]:
        with self._counted("streams"):
            if not live:
                for entry in run.kept_log():
                    yield entry
                if run.script.log_error is not None:
                    raise run.script.log_error
                return
            for second, piece in run.live_log(self.now()):
                # Wait until that second of the run, or until `finish` ends it.
                finished = anyio.Event()
                self._waiting_logs.add(finished)
                try:
                    wait = max(0.0, run.begins + min(second, run.script.running) - self.now())
                    with anyio.move_on_after(wait):
                        await finished.wait()
                finally:
                    self._waiting_logs.discard(finished)
                self.at("receiving", "logs")
                if isinstance(piece, FanbenchError):
                    raise piece
                if piece is not None:
                    yield LogEntry(data=piece, time=second)

    async def download_output(
        self,
        run_id: int,
        target: Path,
        *,
        include_source: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Downloaded:
        with self._counted("downloads"):
            files, damage = await self.open_output(run_id, include_source=include_source)
        if damage == "broken":
            raise connection_lost()
        if damage == "bad zip":
            raise BadZip("The simulated download is damaged.")
        if progress is not None:
            size = sum(map(len, files.values()))
            progress(size // 2, size)
            progress(size, size)
        return _put_in_place(target, files, lambda: self.at("writing", "download_output"))

    async def open_output(
        self, run_id: int, *, include_source: bool = False
    ) -> tuple[dict[str, bytes], Literal["", "broken", "bad zip"]]:
        """Make the call of `download_output`: return the files, and how their download goes wrong."""
        async with self._call("download_output", (run_id, include_source)):
            run = self._run(run_id, "download_output")
            if self.now() < run.ends + run.script.output_delay:
                raise error_for_status("download_output", 404, "The output is not available.")
            run.downloads += 1
        script = run.script
        await anyio.sleep(script.download_time)
        if run.downloads <= script.broken_downloads:
            return run.output(include_source), "broken"
        is_bad = run.downloads <= script.broken_downloads + script.bad_zips
        return run.output(include_source), "bad zip" if is_bad else ""

    # --- Models, leaderboards, quotas, tokens ---

    async def list_models(self) -> list[BenchmarkModel]:
        async with self._call("list_models", None):
            return list(self.models)

    async def list_configs(self, version_ids: Sequence[int] = ()) -> list[ModelConfig]:
        async with self._call("list_configs", tuple(version_ids)):
            if not self.scenario.has_configs:
                raise error_for_status("list_configs", 404, "No such call.")
            wanted = set(version_ids)
            return [each for each in self.configs if not wanted or each.benchmark_model_version_id in wanted]

    async def add_tasks(
        self, benchmark: str, tasks: str | Sequence[str], *, version: int = 0
    ) -> AddTasksResponse:
        wanted = [tasks] if isinstance(tasks, str) else list(dict.fromkeys(tasks))
        async with self._call("add_tasks", (benchmark, tuple(wanted), version)):
            there = self._own_benchmark(benchmark, version, "add_tasks")
            names = set(map(join_task, there))
            found = [self._task(task, "add_tasks") for task in wanted]
            slugs = [task.version_slug(task.newest.number) for task in found]
            added = [slug for slug in slugs if join_task(slug) not in names]
            there += added
            return AddTasksResponse(
                added_tasks=added, skipped_tasks=[slug for slug in slugs if slug not in added]
            )

    async def remove_tasks(
        self, benchmark: str, tasks: str | Sequence[str], *, version: int = 0
    ) -> RemoveTasksResponse:
        wanted = [tasks] if isinstance(tasks, str) else list(dict.fromkeys(tasks))
        async with self._call("remove_tasks", (benchmark, tuple(wanted), version)):
            there = self._own_benchmark(benchmark, version, "remove_tasks")
            mapped = {join_task(slug): slug for slug in there}
            names = [task if "/" in task else f"{self.username}/{task}" for task in wanted]
            removed = [mapped[name] for name in names if name in mapped]
            there[:] = [slug for slug in there if slug not in removed]
            return RemoveTasksResponse(
                removed_tasks=removed,
                skipped_tasks=[split_task(name) for name in names if name not in mapped],
            )

    async def leaderboard(self, owner: str, benchmark: str, *, version: int | None = None) -> Leaderboard:
        async with self._call("leaderboard", (owner, benchmark, version)):
            if (owner, benchmark) not in self.leaderboards:
                raise error_for_status("leaderboard", 404, "No such benchmark.")
            return self.leaderboards[owner, benchmark]

    async def task_quota(self) -> TaskQuota:
        async with self._call("task_quota", None):
            used = sum(self._numbers.values())
            return self.run_quota or TaskQuota(daily_quota_used=used, total_daily_quota_allowed=1_000_000.0)

    async def proxy_quotas(self) -> ModelProxyQuotas:
        async with self._call("proxy_quotas", None):
            if not self.scenario.has_quotas:
                raise error_for_status("proxy_quotas", 404, "No such call.")
            if self.balances is not None:
                return ModelProxyQuotas(quota_balances=self.balances)
            while self._costs and self._costs[0][0] <= self.now():
                self._spent += heapq.heappop(self._costs)[1]
            amounts = [(2.0, 50.0, RefillPeriod.DAILY), (9.0, 500.0, RefillPeriod.MONTHLY)]
            return ModelProxyQuotas(
                quota_balances=[
                    QuotaBalance(
                        quota_used=before + self._spent, total_quota_allowed=allowed, refill_period=period
                    )
                    for before, allowed, period in amounts
                ]
            )

    async def create_proxy_token(self) -> ModelProxyToken:
        async with self._call("create_proxy_token", None):
            return self.proxy_token or ModelProxyToken(
                token="simulated-token",  # noqa: S106
                base_uri="http://simulated/models",
                expiry_time=wall_time(self.now()) + timedelta(hours=2),
            )

    async def introspect_token(self, token: str) -> IntrospectTokenResponse:
        async with self._call("introspect_token", token):
            return IntrospectTokenResponse(active=True, username=self.username, user_id=1, exp=2**31)

    # --- A call on its way ---

    @asynccontextmanager
    async def _call(
        self, call: ApiCall, arguments: object, *, late: Callable[[], object] | None = None
    ) -> AsyncGenerator[None, None]:
        """Make a call: the block is the server's work, in the middle of the latency.

        An error in the block is the answer, and arrives half a latency later. If the caller dies or is cancelled
        before the work, `late` may be done instead, after `Scenario.late_arrival`.
        """
        self.at("sent", call)
        self.calls[call] += 1
        if self._keep_history:
            self.history.append((self.now(), call, arguments))
        with self._counted(call):
            fault, error = self._fault_of(call), None
            try:
                await anyio.sleep(self.scenario.latency / 2)
                self.at("arrived", call)
            except BaseException:
                delay = self.scenario.late_arrival
                if delay is not None and late is not None and (fault is None or fault.does_work):
                    heapq.heappush(self._late_calls, (self.now() + delay, next(self._serial), late))
                raise
            if fault is not None and not fault.does_work:
                error = fault.error()
            else:
                self.catch_up()
                try:
                    yield
                except FanbenchError as refusal:
                    error = refusal
            self.at("done", call)
            await anyio.sleep(self.scenario.latency / 2)
            self.at("answered", call)
            if fault is not None and fault.does_work:
                error = fault.error() or error
            if error is not None:
                raise error

    def catch_up(self) -> None:
        """Let what is due by now happen: late calls, and runs of others. (Every call does this first.)"""
        while self._late_calls and self._late_calls[0][0] <= self.now():
            self._frozen_at, _, work = heapq.heappop(self._late_calls)
            try:
                with suppress(FanbenchError):
                    work()
            finally:
                self._frozen_at = None
        while self._future_runs and self._future_runs[0][0] <= self.now():
            at, _, slug, model, script = heapq.heappop(self._future_runs)
            if (task := self.tasks.get(self._key(slug))) is not None:
                script = script or self._script(task, model) or RunScript()
                self._start(task, model, script, task.newest.number, at, ours=False)

    @contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        self._open[kind] += 1
        self.most_at_once[kind] = max(self.most_at_once[kind], self._open[kind])
        try:
            yield
        finally:
            self._open[kind] -= 1

    def choose_fault(self, call: ApiCall) -> Hit | None:
        """Count a call, and return the fault that hits it."""
        return self.injector.choose(call, self.now())

    @contextmanager
    def failing_with(self, fault: Fault | None) -> Iterator[None]:
        """The calls in the block end in this fault, or in none, whatever the scenario says."""
        token = _FAULT.set(fault)
        try:
            yield
        finally:
            _FAULT.reset(token)

    def _fault_of(self, call: ApiCall) -> Fault | None:
        try:
            return _FAULT.get()
        except LookupError:
            hit = self.choose_fault(call)
            return hit.fault if hit is not None else None

    # --- The work of calls ---

    def _key(self, slug: str) -> str:
        """One's own tasks are known without their owner."""
        return slug.removeprefix(f"{self.username}/")

    def _task(self, slug: str, call: ApiCall) -> SimulatedTask:
        task = self.tasks.get(self._key(slug))
        if task is None:
            raise error_for_status(call, 404, "No such task.")
        return task

    def _benchmark(self, owner: str, benchmark: str, version: int, call: ApiCall) -> list[TaskSlug]:
        """The tasks of a benchmark, which has one version."""
        found = self.benchmarks.get((owner or self.username, benchmark))
        if found is None or version not in (0, 1):
            raise error_for_status(call, 404, "No such benchmark.")
        return found

    def _own_benchmark(self, benchmark: str, version: int, call: ApiCall) -> list[TaskSlug]:
        if not self.scenario.has_benchmarks:
            raise error_for_status(call, 404, "No such call.")
        return self._benchmark(self.username, benchmark.removeprefix(f"{self.username}/"), version, call)

    def _run(self, run_id: int, call: ApiCall) -> SimulatedRun:
        if run_id not in self.runs:
            raise error_for_status(call, 404, "No such run.")
        return self.runs[run_id]

    def _schedule(
        self,
        slug: str,
        models: Sequence[str],
        number: int,
        effort: str,
        agents: Sequence[str],
        enqueue: Enqueue | None,
    ) -> list[ScheduleResult]:
        """Schedule a run of a task on each of `models`, which are labels of candidates: all agents, or none."""
        task = self._task(slug, "schedule_runs")
        if enqueue is not None:
            self._refuse_to_enqueue(task, enqueue)
        version = (
            task.newest.number if self.scenario.schedules_newest_version else number or task.newest.number
        )
        if task.versions[version - 1].state(self.now()) != CreationState.COMPLETED:
            raise error_for_status("schedule_runs", 400, "The task is not ready.")
        self._refuse_unknown(task, models, effort, agents)
        results = list[ScheduleResult]()
        config_ids = {config.slug: config.id for config in self.configs}
        for model in models:
            candidate = Candidate.parse(model, agents)
            config = config_ids.get(config_slug(candidate.model, effort), 0) if effort else 0
            if reason := self._why_skipped(task, model, version, enqueue):
                results.append(ScheduleResult(run_skipped_reason=reason))
            elif (script := self._script(task, model)) is None:
                results.append(ScheduleResult(run_skipped_reason="The model is not available."))
            else:
                run = self._start(task, model, script, version, self.now(), ours=True, enqueue=enqueue)
                results.append(
                    ScheduleResult(
                        run_scheduled=True,
                        run_id=run.id if self.scenario.answers_run_ids else 0,
                        benchmark_model_version_config_id=config,
                    )
                )
        return results

    def _why_skipped(self, task: SimulatedTask, model: str, version: int, enqueue: Enqueue | None) -> str:
        """Why a run of the version on the model is not started because of another one; empty if it is."""
        scenario, now = self.scenario, self.now()
        if enqueue is None:
            last = task.last_run(model, 0 if scenario.one_run_of_any_version else version)
            in_the_way = scenario.one_run_per_model and last and not last.state(now).terminal
            return "A run of this model is in flight already." if in_the_way else ""
        label = normalize_label(model)
        runs = [
            run
            for run in task.runs
            if run.version == version and normalize_label(run.model) == label and not run.cancelled
        ]
        states = [
            (run.state(now), wall_time(run.ends) if run.ends <= now else None) for run in reversed(runs)
        ]
        return skip_reason(enqueue, states, wall_time(now))

    def _refuse_to_enqueue(self, task: SimulatedTask, enqueue: Enqueue) -> None:
        if self.scenario.queue is None:
            raise error_for_status("schedule_runs", 404, "Not found.")
        if (wanted := enqueue.benchmark_slug) is not None:
            mapped = self._benchmark(wanted.owner_slug, wanted.benchmark_slug, 0, "schedule_runs")
            if task.slug not in {self._key(join_task(slug)) for slug in mapped}:
                raise error_for_status("schedule_runs", 400, "The benchmark does not have the task.")

    def _tallies(self) -> tuple[list[tuple[int, int, RunState, int]], dict[int, str]]:
        """What `make_status` sums up: all runs through the API, and the numbers of benchmarks with their names."""
        now = self.now()
        models = {normalize_model(each.version.slug): each.version.id for each in self.models if each.version}
        numbers = {"/".join(names): number for number, names in enumerate(self.benchmarks, 1)}
        of_task = {
            self._key(join_task(slug)): "/".join(names)
            for names, mapped in self.benchmarks.items()
            for slug in mapped
        }
        tallies = Counter(
            (
                models.get(normalize_model(run.slug_of_model), 0),
                numbers.get(run.benchmark or of_task.get(run.task, ""), 0),
                run.state(now),
            )
            for run in self.runs.values()
            if run.ours and not run.cancelled and run.ends > now - 86_400
        )
        flat = [(*kind, number) for kind, number in tallies.items()]
        return flat, {number: name.partition("/")[2] for name, number in numbers.items()}

    def _refuse_unknown(
        self, task: SimulatedTask, models: Sequence[str], effort: str, agents: Sequence[str]
    ) -> None:
        """Refuse the whole call if it has a candidate that does not exist, or that the task is not run on."""
        if agents and effort:
            raise error_for_status("schedule_runs", 400, "An agent has its own reasoning effort.")
        kind = task.candidate_type
        if kind != CandidateType.UNSPECIFIED and bool(agents) != (kind == CandidateType.AGENTS):
            raise error_for_status("schedule_runs", 400, f"The task is run on {kind.label} only.")
        known = {
            normalize_model(each.version.slug if each.version else each.slug): each for each in self.models
        }
        unknown = set(map(normalize_label, self.scenario.unknown_models))
        configs = {(each.benchmark_model_version_id, each.reasoning_effort) for each in self.configs}
        for model in models:
            candidate = Candidate.parse(model, agents)
            if candidate.agent:
                if model not in self.agents:
                    raise error_for_status("schedule_runs", 404, f"No such agent: {model}")
                continue
            if {model, candidate.model} & unknown or (known and candidate.model not in known):
                raise error_for_status("schedule_runs", 404, f"No such model: {candidate.model}")
            found = known.get(candidate.model)
            if effort and found and found.version and (found.version.id, effort) not in configs:
                text = f"{candidate.model} has no configuration with the reasoning effort {effort}."
                raise error_for_status("schedule_runs", 400, text)

    def _cancel(self, runs: Sequence[SimulatedRun], include_active: bool) -> CancelRunsResponse:
        before: Counter[RunState] = Counter()
        for run in runs:
            if run.ends > self.now():
                with self._new_cost(run):
                    state = run.cancel(self.now(), include_active=include_active)
                before.update([state] if state else [])
        self._let_others_begin()
        self._call_soon(self._wake_logs)
        return CancelRunsResponse(
            queued_cancelled_count=before[RunState.QUEUED],
            active_terminated_count=before.total() - before[RunState.QUEUED],
        )

    def _script(self, task: SimulatedTask, model: str) -> RunScript | None:
        return self.scenario.script_of(task.slug, model, self._numbers[task.slug, model] + 1)

    def _start(
        self,
        task: SimulatedTask,
        model: str,
        script: RunScript,
        version: int,
        at: float,
        *,
        ours: bool,
        enqueue: Enqueue | None = None,
    ) -> SimulatedRun:
        self._numbers[task.slug, model] += 1
        slug = task.version_slug(version)
        source = next((each.text for each in task.versions if each.number == version), "")
        run = SimulatedRun(
            len(self.runs) + self.first_run_id,
            task.slug,
            slug,
            model,
            at,
            script,
            ours,
            source,
            self.agents.get(model, ""),
        )
        if enqueue is not None:
            run.benchmark = enqueue.benchmark
            self._queue.put(run)
        self.runs[run.id] = run
        task.add(run)
        heapq.heappush(self._costs, (run.ends, script.cost or 0.0))
        return run

    def _page(self, items: list[T], start: int, size: int | None) -> tuple[list[T], int | None]:
        sizes = [each for each in (size, self.scenario.page_size) if each]
        end = start + min(sizes) if sizes else len(items)
        return items[start:end], end if end < len(items) else None


def _pages(call: protocol.Call, page: Callable[[int], Awaitable[tuple[list[T], int | None]]]) -> Pages[T]:
    """The items of all pages. A run that moves to the next page meanwhile is not repeated, as in the client."""
    seen: set[int] = set()

    async def fetch(token: str) -> tuple[list[T], str]:
        items, following = await page(int(token or 0))
        new = [item for item in items if not isinstance(item, Run) or item.id not in seen]
        seen.update(item.id for item in new if isinstance(item, Run))
        return new, str(following or "")

    return Pages(call, fetch)


def _put_in_place(target: Path, files: dict[str, bytes], between: Callable[[], None]) -> Downloaded:
    """Make the folder `target` in one step, as the client does. `between` is called before and after it."""
    stage = target.with_name(f".{target.name}-0-stage.part")
    shutil.rmtree(stage, ignore_errors=True)
    (stage / "new").mkdir(parents=True)
    contents = []
    for name, content in files.items():
        path = stage / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    between()
    if target.exists():
        target.rename(stage / "old")
    (stage / "new").rename(target)
    shutil.rmtree(stage)
    for name, content in files.items():
        written = changed((target / name).stat())
        contents.append(UnpackedFile(name, len(content), hashlib.sha256(content).hexdigest(), written))
    between()
    return Downloaded.of(target, contents)
