"""From what a user asks to what is done: the files are read and checked, the server is asked what it has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread

from fanbench._util.concurrency import Offload, settle
from fanbench.errors import FanbenchError, NotFound, TaskFileError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.lookup import task_if_any
from fanbench.operations.push import plan_push
from fanbench.operations.run import resolve_models
from fanbench.sweeps.attempts import content_identity, version_identity
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.spec import DEFAULT_OUTPUT, SweepSpec, TaskChoice, rules_of
from fanbench.tasks import to_notebook
from fanbench.wire.messages import BenchmarkModel, Task
from fanbench.wire.slugs import slugify_task

__all__ = ["make_plan"]


async def make_plan(
    client: Api,
    spec: SweepSpec,
    *,
    available: Sequence[BenchmarkModel] | None = None,
    offload: Offload = anyio.to_thread.run_sync,
) -> SweepPlan:
    """What `spec` comes to: every task and model by its name. Nothing is changed, here or on the server.

    All files are read and checked before the server is asked. Then the list of models (spared by `available`)
    and each task are asked for at once, while the notebooks are made.

    Raises:
        UsageError: no tasks or no models, an unknown model, a number out of range, a task that is there twice.
        TaskFileError: a file cannot be read, or has an error that the server would stumble over.
        NotFound: a task that is named by its slug is not on the server; all such are named.
        FanbenchError: the server does not answer.
    """
    rules = rules_of(spec)
    _refuse_nothing(spec)
    sources = await offload(partial(_sources, spec))
    answers = await _ask(client, spec, sources, available, offload)
    await _refuse_unknown(client, sources, answers.seen)
    _refuse_doubles(
        (_full_name(task), source) for source, task in zip(sources, answers.seen, strict=True) if task
    )
    return SweepPlan(
        tasks=tuple(_planned(sources, answers)),
        models=tuple(answers.models),
        output=spec.output or DEFAULT_OUTPUT,
        repeats=1 if spec.repeats is None else spec.repeats,
        rules=rules,
    )


def _refuse_nothing(spec: SweepSpec) -> None:
    if not spec.tasks:
        raise UsageError(
            "No task is given.", hint="Name task files, patterns such as 'tasks/*.py', or slugs."
        )
    if spec.all_models and spec.models:
        raise UsageError("Models and all_models exclude each other.", hint="Leave one out.")
    if not spec.all_models and not spec.models:
        raise UsageError("No model is given.", hint="Name one or more with -m; see: fanbench tasks models")


# --- Files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """A task before the server is asked; `text` is the Python source of one that comes from a file."""

    slug: str
    file: Path | None = None
    text: str | None = None
    datasets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}" if self.file else f"the slug {self.slug}"


_DATASET = re.compile(r"[^/\s]+/[^/\s]+")


def _sources(spec: SweepSpec) -> list[_Source]:
    """All tasks in the order of the spec, those of one file in the order of the file."""
    found = [source for choice in spec.tasks for source in _sources_of(choice, spec.datasets)]
    _refuse_doubles((source.slug, source) for source in found)
    return found


def _sources_of(choice: TaskChoice, datasets: tuple[str, ...]) -> list[_Source]:
    if choice.file is None:
        return [_Source(slugify_task(choice.slug or ""))]
    attached = tuple(dict.fromkeys(datasets if choice.datasets is None else choice.datasets))
    _refuse_odd(attached)
    plans = plan_push([choice.file], choice.name, all_tasks=choice.name is None)
    if not plans:
        raise TaskFileError("no task here whose runs are stored.", file=str(choice.file))
    return [_Source(plan.slug, choice.file, plan.file.source, attached) for plan in plans]


def _refuse_odd(datasets: Sequence[str]) -> None:
    for dataset in datasets:
        if not _DATASET.fullmatch(dataset):
            raise UsageError(f"'{dataset}' is not a dataset.", hint="Write OWNER/DATASET.")


def _refuse_doubles(named: Iterable[tuple[str, _Source]]) -> None:
    """Two sources of one task would be two versions of it, in an order that nobody knows."""
    first: dict[str, _Source] = {}
    for name, source in named:
        other = first.setdefault(name, source)
        if other is not source:
            raise UsageError(
                f"Task '{source.slug}' is there twice: by {other} and by {source}.",
                hint="Leave one out, or rename one.",
            )


# --- The server ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Answers:
    """What the server and the conversion gave, tasks and notebooks in the order of the sources."""

    models: list[str]
    seen: list[Task | None]
    notebooks: list[str | None]


async def _ask(
    client: Api,
    spec: SweepSpec,
    sources: Sequence[_Source],
    available: Sequence[BenchmarkModel] | None,
    offload: Offload,
) -> _Answers:
    """All at once: the client bounds the calls, and the first conversion imports jupytext for a second."""
    answers = _Answers([], [None] * len(sources), [])

    async def convert() -> None:
        answers.notebooks = await offload(partial(_notebooks, sources))

    async def resolve() -> None:
        answers.models = _models(spec, await client.list_models() if available is None else available)

    async def look(index: int) -> None:
        answers.seen[index] = await task_if_any(client, sources[index].slug)

    jobs: list[Callable[[], Awaitable[None]]] = [convert, resolve]
    jobs += [partial(look, index) for index in range(len(sources))]
    for outcome in await settle(jobs, limit=len(jobs)):
        if isinstance(outcome, FanbenchError):
            raise outcome
    return answers


def _notebooks(sources: Sequence[_Source]) -> list[str | None]:
    """Tasks of one file share its notebook."""
    made = {
        text: to_notebook(text)
        for text in dict.fromkeys(source.text for source in sources)
        if text is not None
    }
    return [None if source.text is None else made[source.text] for source in sources]


def _models(spec: SweepSpec, available: Sequence[BenchmarkModel]) -> list[str]:
    if spec.all_models and not available:
        raise UsageError("The server has no model.", hint="See: fanbench tasks models")
    return resolve_models(["*"] if spec.all_models else spec.models, available)


def _full_name(task: Task) -> str:
    """By which "me/task" and "task" are the same."""
    return f"{task.slug.owner_slug}/{task.slug.task_slug}"


async def _refuse_unknown(client: Api, sources: Sequence[_Source], seen: Sequence[Task | None]) -> None:
    """All that cannot be there: a task by its slug must be on the server."""
    unknown = [
        source.slug
        for source, task in zip(sources, seen, strict=True)
        if source.text is None and task is None
    ]
    if unknown:
        there = await _tasks_there(client)
        raise NotFound(
            "\n".join(
                [
                    f"No such task{'s' if unknown[1:] else ''}:",
                    *(_with_close(slug, there) for slug in unknown),
                ]
            ),
            call="GetBenchmarkTask",
            status=404,
            hint="Task files end in .py; the tasks on the server: fanbench tasks list",
        )


_LOOKED_THROUGH = 500


async def _tasks_there(client: Api) -> list[str]:
    """Some slugs that there are, for who mistyped one. No answer is no matter."""
    there: list[str] = []
    try:
        async for task in client.list_tasks():
            there.append(task.slug.task_slug)
            if len(there) >= _LOOKED_THROUGH:
                break
    except FanbenchError:
        pass
    return there


def _with_close(slug: str, there: Sequence[str]) -> str:
    close = difflib.get_close_matches(slug, there, n=2)
    return f"  {slug}" + (f" (did you mean {' or '.join(close)}?)" if close else "")


def _planned(sources: Sequence[_Source], answers: _Answers) -> Iterator[PlannedTask]:
    for source, seen, notebook in zip(sources, answers.seen, answers.notebooks, strict=True):
        if notebook is not None:
            identity = content_identity(notebook, source.datasets)
        else:
            identity = version_identity(seen.slug.version_number if seen else 0)
        yield PlannedTask(source.slug, identity, seen, source.file, notebook, source.datasets)
