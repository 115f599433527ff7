"""The simulated Kaggle for tests of operations: without latency, and with any error in any call."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio

from fanbench import Anonymous, Config, FanbenchError, NotFound
from fanbench.testing import (
    ApiCall,
    Fault,
    RunScript,
    Scenario,
    SimulatedKaggle,
    SimulatedTask,
    SimulatedVersion,
)
from fanbench.wire.messages import (
    BenchmarkModel,
    CreationState,
    LogEntry,
    ModelProxyQuotas,
    ModelProxyToken,
    ModelVersion,
    Task,
    TaskOptions,
    TaskQuota,
    TaskSlug,
)
from fanbench.wire.slugs import split_task

__all__ = ["Course", "FakeClient", "model", "not_found", "task"]


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


@dataclass(frozen=True, slots=True)
class Course(RunScript):
    """A run that is over at once, without a log, unless the test says otherwise."""

    running: float = 0.0
    log: Sequence[tuple[float, str]] = ()
    output: Mapping[str, bytes] | None = field(default_factory=lambda: {"a.run.json": b"{}"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Fault):
    """A fault that raises a given error."""

    raised: FanbenchError

    def error(self) -> FanbenchError:
        return self.raised


class FakeClient(SimulatedKaggle):
    """A simulated Kaggle whose calls take no time. `errors` has what the next calls of a name raise."""

    first_run_id = 100

    def __init__(
        self,
        *,
        tasks: Mapping[str, Task] | None = None,
        models: Sequence[BenchmarkModel] = (),
        courses: Mapping[str, Course | None] | None = None,
        creation: float = 0.0,
        creation_end: CreationState = CreationState.COMPLETED,
        push_error: str = "",
        errors: Mapping[ApiCall, Sequence[FanbenchError]] | None = None,
        token: ModelProxyToken | None = None,
        quotas: tuple[TaskQuota, ModelProxyQuotas] = (TaskQuota(), ModelProxyQuotas()),
        config: Config | None = None,
    ) -> None:
        by_model = courses or {}
        scenario = Scenario(
            latency=0.0,
            creation=creation,
            creation_end=creation_end,
            runs=lambda task, model, number: by_model.get(model, Course()),
            one_run_per_model=False,
            can_delete=True,
        )
        super().__init__(scenario, models=models, username="me")
        self.config = config or Config("http://fake", Anonymous(), concurrency=4)
        self.errors = {call: list(each) for call, each in (errors or {}).items()}
        self.log_errors: dict[int, FanbenchError] = {}
        self.push_error = push_error
        self.proxy_token = token or ModelProxyToken()
        self.run_quota, self.balances = quotas[0], quotas[1].quota_balances
        for slug, shown in (tasks or {}).items():
            self.have(slug, shown)

    def have(self, slug: str, shown: Task) -> None:
        """Add a task as the server would show it. One that is pending was pushed at second 0."""
        pending = shown.creation_state.pending
        version = SimulatedVersion(
            number=shown.slug.version_number,
            text="there before",
            datasets=tuple(shown.options.dataset_data_sources) if shown.options else (),
            pushed_at=-math.inf,
            ready_at=self._creation if pending else -math.inf,
            end=self.scenario.creation_end if pending else shown.creation_state,
        )
        public, notebook = shown.is_public, shown.is_backing_notebook_published
        slug = self._key(slug)
        self.tasks[slug] = SimulatedTask(slug, shown.slug.owner_slug, [version], [], public, notebook)

    def shown(self, slug: str) -> Task | None:
        return self.tasks[slug].message(self.now()) if slug in self.tasks else None

    @property
    def _creation(self) -> float:
        assert isinstance(self.scenario.creation, float | int)
        return self.scenario.creation

    def begin(
        self,
        slug: str,
        model: str,
        course: Course,
        *,
        ago: float = 0.0,
        log_error: FanbenchError | None = None,
    ) -> int:
        """Start a run and return its ID. `log_error` is raised at the end of its log."""
        self.now()
        run = self.add_run(slug, model, course, age=ago)
        if log_error is not None:
            self.log_errors[run.id] = log_error
        return run.id

    def times(self, call: ApiCall) -> list[float]:
        return [second for second, _ in self.calls_to(call)]

    def arguments(self, call: ApiCall) -> list[object]:
        return [arguments for _, arguments in self.calls_to(call)]

    @property
    def texts(self) -> list[str]:
        """What was pushed, in order."""
        pushed = [version for task in self.tasks.values() for version in task.versions]
        return [one.text for one in sorted(pushed, key=lambda one: one.pushed_at) if one.pushed_at >= 0]

    # --- Calls that differ ---

    def _next_fault(self, call: ApiCall) -> Fault | None:
        if errors := self.errors.get(call):
            return Failure(call, raised=errors.pop(0))
        return super()._next_fault(call)

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        made = await super().create_task(slug, text, datasets=datasets)
        return Task(slug=made.slug, error=self.push_error) if self.push_error else made

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        live, entries = await self.open_log(run_id)
        async with aclosing(entries):
            if run_id in self.log_errors:
                run = self.runs[run_id]
                for second, text in run.script.log:
                    await anyio.sleep(max(0.0, run.begins + second - self.now()) if live else 0.0)
                    yield LogEntry(data=text, time=second)
                raise self.log_errors[run_id]
            async for entry in entries:
                yield entry
