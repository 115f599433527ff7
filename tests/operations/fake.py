"""A client without a wire: tasks and runs that change as a scenario says, in the event loop's time."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio

from fanbench import Anonymous, Config, FanbenchError, NotFound
from fanbench.sweeps.artifacts import contents_of
from fanbench.wire.messages import (
    BenchmarkModel,
    CreationState,
    IntrospectTokenResponse,
    Leaderboard,
    LogEntry,
    ModelProxyQuotas,
    ModelProxyToken,
    ModelVersion,
    Run,
    RunState,
    ScheduleResult,
    Task,
    TaskOptions,
    TaskQuota,
    TaskSlug,
)
from fanbench.wire.safe_unzip import UnpackedFile
from fanbench.wire.slugs import normalize_model, split_task

__all__ = ["Course", "FakeClient", "Got", "model", "not_found", "task"]

T = TypeVar("T")


def not_found(call: str) -> NotFound:
    return NotFound("No such thing.", call=call, status=404)


def task(
    slug: str,
    state: CreationState = CreationState.COMPLETED,
    *,
    version: int = 1,
    datasets: Sequence[str] = (),
) -> Task:
    options = TaskOptions(dataset_data_sources=list(datasets)) if datasets else None
    name = split_task(slug)
    return Task(
        slug=TaskSlug(owner_slug=name.owner_slug, task_slug=name.task_slug, version_number=version),
        url=f"/benchmarks/tasks/me/{name.task_slug}/{version}",
        creation_state=state,
        options=options,
    )


def model(slug: str, *, proxy: str | None = None, allowed: bool = True) -> BenchmarkModel:
    version = ModelVersion(slug=slug, model_proxy_slug=proxy or "", allow_model_proxy=allowed)
    return BenchmarkModel(slug=slug, display_name=slug.title(), version=version)


@dataclass(frozen=True)
class Course:
    """What a run does: seconds in the queue, seconds running, how it ends, what it says when (seconds)."""

    queued: float = 0.0
    running: float = 0.0
    end: RunState = RunState.COMPLETED
    error: str = ""
    log: Sequence[tuple[float, str]] = ()
    #: Seconds until lists have it, and seconds after its end until they say so.
    unlisted: float = 0.0
    lag: float = 0.0
    #: Raised at the end of the log.
    log_error: FanbenchError | None = None


@dataclass
class _Started:
    run_id: int
    task: str
    model: str
    begun: float
    course: Course

    def state(self, now: float, lag: float = 0.0) -> RunState:
        age = now - self.begun
        if age < self.course.queued:
            return RunState.QUEUED
        return RunState.RUNNING if age < self.course.queued + self.course.running + lag else self.course.end

    def run(self, now: float) -> Run:
        state = self.state(now, self.course.lag)
        return Run(
            task_slug=split_task(self.task),
            model_version_slug=self.model,
            id=self.run_id,
            state=state,
            error_message=self.course.error if state == RunState.ERRORED else "",
        )


@dataclass(frozen=True)
class Got:
    path: Path
    size: int
    contents: list[UnpackedFile]


@dataclass
class FakeClient:
    """`calls` has what was asked: (second, call, argument)."""

    tasks: dict[str, Task] = field(default_factory=dict)
    models: list[BenchmarkModel] = field(default_factory=list)
    #: How the runs of a model go that are scheduled; `None`: skipped.
    courses: Mapping[str, Course | None] = field(default_factory=dict)
    #: Seconds from a push until its creation has ended, and how it ends.
    creation: float = 0.0
    creation_end: CreationState = CreationState.COMPLETED
    push_error: str = ""
    outputs: dict[int, FanbenchError] = field(default_factory=dict)
    delays: dict[int, float] = field(default_factory=dict)
    token: ModelProxyToken | FanbenchError = field(default_factory=ModelProxyToken)
    board: Leaderboard = field(default_factory=Leaderboard)
    quotas: tuple[TaskQuota | FanbenchError, ModelProxyQuotas | FanbenchError] = (
        TaskQuota(),
        ModelProxyQuotas(),
    )
    delete_error: FanbenchError | None = None
    list_errors: list[FanbenchError] = field(default_factory=list)
    task_errors: list[FanbenchError] = field(default_factory=list)
    config: Config = field(default_factory=lambda: Config("http://fake", Anonymous(), concurrency=4))
    calls: list[tuple[float, str, object]] = field(default_factory=list)
    runs: list[_Started] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    most_downloads: int = 0
    _downloads: int = 0
    _created: dict[str, float] = field(default_factory=dict)
    _zero: float | None = None

    def begin(self, slug: str, name: str, course: Course, *, ago: float = 0.0) -> int:
        """Starts a run; its id."""
        run_id = 100 + len(self.runs)
        self.runs.append(_Started(run_id, slug, name, self.now() - ago, course))
        return run_id

    def now(self) -> float:
        """Seconds since the first look at the clock."""
        if self._zero is None:
            self._zero = anyio.current_time()
        return anyio.current_time() - self._zero

    def times(self, call: str) -> list[float]:
        return [round(time, 3) for time, name, _ in self.calls if name == call]

    def arguments(self, call: str) -> list[object]:
        return [argument for _, name, argument in self.calls if name == call]

    async def _take(self, call: str, argument: object = None) -> None:
        self.calls.append((self.now(), call, argument))
        await anyio.lowlevel.checkpoint()

    # --- The calls ---

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        await self._take("create_task", (slug, tuple(datasets)))
        self.texts.append(text)
        before = self.tasks.get(slug)
        version = before.slug.version_number + 1 if before else 1
        state = CreationState.RUNNING if self.creation else self.creation_end
        made = task(slug, state, version=version, datasets=datasets)
        self.tasks[slug] = made
        self._created[slug] = self.now()
        return Task(slug=made.slug, error=self.push_error) if self.push_error else made

    async def get_task(self, task: str) -> Task:
        await self._take("get_task", task)
        if self.task_errors:
            raise self.task_errors.pop(0)
        if task not in self.tasks:
            raise not_found("GetBenchmarkTask")
        found = self.tasks[task]
        if found.creation_state.pending and self.now() >= self._created.get(task, 0.0) + self.creation:
            found = self.tasks[task] = Task(
                slug=found.slug,
                url=found.url,
                creation_state=self.creation_end,
                creation_error_message="It broke.",
            )
        return found

    async def list_tasks(
        self, *, regex: str | None = None, status: str | None = None
    ) -> AsyncGenerator[Task, None]:
        await self._take("list_tasks", (regex, status))
        for slug, found in self.tasks.items():
            if re.search(regex or "", slug):
                yield found

    async def schedule_runs(self, task: str, models: Sequence[str]) -> list[ScheduleResult]:
        await self._take("schedule_runs", (task, tuple(models)))
        results = []
        for name in models:
            course = self.courses.get(name, Course())
            if course is None:
                results.append(ScheduleResult(run_skipped_reason="a run is in flight"))
            else:
                self.begin(task, name, course)
                results.append(ScheduleResult(run_scheduled=True))
        return results

    async def list_runs(self, task: str, *, models: Sequence[str] = ()) -> AsyncGenerator[Run, None]:
        await self._take("list_runs", task)
        if self.list_errors:
            raise self.list_errors.pop(0)
        for started in reversed(self.runs):
            listed = self.now() >= started.begun + started.course.unlisted
            wanted = not models or normalize_model(started.model) in map(normalize_model, models)
            if started.task == task and listed and wanted:
                yield started.run(self.now())

    async def logs(self, run_id: int, *, silence: float | None = None) -> AsyncGenerator[LogEntry, None]:
        await self._take("logs", run_id)
        started = next(started for started in self.runs if started.run_id == run_id)
        if started.state(self.now()) == RunState.QUEUED:
            raise not_found("GetBenchmarkTaskRunLogs")
        zero = started.begun + started.course.queued
        for second, text in started.course.log:
            await anyio.sleep(max(0.0, zero + second - self.now()))
            yield LogEntry(data=text, time=second)
        if started.course.log_error is not None:
            raise started.course.log_error
        await anyio.sleep(max(0.0, zero + started.course.running - self.now()))

    async def download_output(
        self,
        run_id: int,
        target: Path,
        *,
        include_source: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Got:
        await self._take("download_output", (run_id, include_source))
        self._downloads += 1
        self.most_downloads = max(self.most_downloads, self._downloads)
        await anyio.sleep(self.delays.get(run_id, 0.0))
        if progress is not None:
            progress(1, 2)
        self._downloads -= 1
        output = self.outputs.get(run_id)
        if isinstance(output, FanbenchError):
            raise output
        return _put(target)

    async def publish_task(self, task: str, *, publish_notebook: bool = True) -> Task:
        await self._take("publish_task", (task, publish_notebook))
        return Task(
            slug=split_task(task), url="/x", is_public=True, is_backing_notebook_published=publish_notebook
        )

    async def delete_task(self, task: str) -> None:
        await self._take("delete_task", task)
        if self.delete_error is not None:
            raise self.delete_error
        del self.tasks[task]

    async def list_models(self) -> list[BenchmarkModel]:
        await self._take("list_models")
        return self.models

    async def create_proxy_token(self) -> ModelProxyToken:
        await self._take("create_proxy_token")
        if isinstance(self.token, FanbenchError):
            raise self.token
        return self.token

    async def leaderboard(self, owner: str, benchmark: str, *, version: int | None = None) -> Leaderboard:
        await self._take("leaderboard", (owner, benchmark, version))
        return self.board

    async def task_quota(self) -> TaskQuota:
        await self._take("task_quota")
        return _or_raise(self.quotas[0])

    async def proxy_quotas(self) -> ModelProxyQuotas:
        await self._take("proxy_quotas")
        return _or_raise(self.quotas[1])

    async def introspect_token(self, token: str) -> IntrospectTokenResponse:
        await self._take("introspect_token", token)
        return IntrospectTokenResponse(active=True, username="ada")


def _or_raise(outcome: T | FanbenchError) -> T:
    if isinstance(outcome, FanbenchError):
        raise outcome
    return outcome


def _put(target: Path) -> Got:
    target.mkdir(parents=True, exist_ok=True)
    (target / "a.run.json").write_text("{}")
    return Got(target, 2, contents_of(target))
