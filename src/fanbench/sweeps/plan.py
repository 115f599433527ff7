"""The plan of a sweep: task files are read and checked, the server is asked what it has, nothing is changed."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio.to_thread

from fanbench._util.concurrency import Offload, settle
from fanbench._util.text import error_line, first_few, is_pattern
from fanbench.errors import FanbenchError, NotFound, TaskFileError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.benchmarks import tasks_of_benchmark, whole_name
from fanbench.operations.candidates import ModelChoice, find_candidates, refuse_misfit
from fanbench.operations.lookup import task_if_any, username
from fanbench.operations.models import find_judge
from fanbench.operations.push import plan_push
from fanbench.results.scales import Scale
from fanbench.sweeps.attempts import PlannedRun, content_identity, expand_runs, version_identity
from fanbench.sweeps.spec import DEFAULT_OUTPUT, Rules, SweepSpec, TaskChoice, rules_of
from fanbench.tasks import Finding, TaskFile, join_errors, notebook_of, read_task_file
from fanbench.wire.candidates import normalize_label, same_label
from fanbench.wire.messages import Run, Task
from fanbench.wire.metadata import Metadata
from fanbench.wire.slugs import fits, join_task, slugify, slugify_task

__all__ = ["PlannedBenchmark", "PlannedTask", "SweepPlan", "make_plan"]


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task of a sweep, named by its slug ("slug" or "owner/slug").

    `notebook` is the `.ipynb` text of a task from `file`, `None` for a task that the server already has. `seen` is
    the task as the server had it when the plan was made, if it had it. `identity` is that of the content to run
    (see `content_identity` and `version_identity`). `warnings` are those about the file, including this task of it.
    `scale` is the declared one of its values. `declared_page` is what the sweep says about the page of the task, and
    `page` is that with what the file says besides. A task of the sweep's benchmark has the `benchmark_version` that is
    in it; otherwise that is 0. `same_as_server` tells whether what the server has as `seen` certainly has this content,
    if it was compared, and `runs` are those of it that the sweep may take over.
    """

    slug: str
    identity: str
    seen: Task | None
    file: Path | None = None
    notebook: str | None = None
    datasets: tuple[str, ...] = ()
    warnings: tuple[Finding, ...] = ()
    scale: Scale | None = None
    page: Metadata | None = None
    declared_page: Metadata | None = None
    benchmark_version: int = 0
    same_as_server: bool | None = None
    runs: tuple[Run, ...] = ()

    @property
    def is_gone(self) -> bool:
        """Whether the server does not have the task any more, which is run as it is there."""
        return self.seen is None and self.notebook is None

    @property
    def fails(self) -> bool:
        """Whether the creation of its content certainly fails."""
        return any(self.slug in finding.fails for finding in self.warnings)


@dataclass(frozen=True, slots=True)
class PlannedBenchmark:
    """A benchmark (OWNER/BENCHMARK) whose `tasks` are in the sweep: those that it had when that was planned first.

    `change` says in one line how it differs from that today; it is empty if it does not. `is_own` says whether it
    belongs to the user.
    """

    name: str
    tasks: tuple[str, ...]
    change: str = ""
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Tasks × candidates × repeats, the folder for the results, and the rules to follow.

    `models` are the labels of the candidates: models, `MODEL@EFFORT`, and agents. `choice` tells which of them are
    agents, and which models the server does not list. `skipped` are the files of folders that have no task.
    `judge` is the slug of the model behind `judge_llm`, empty for the server's choice. `rerun` are the planned runs to
    make again, whatever came of them. `benchmark` is the one whose tasks are run, if any.
    """

    tasks: tuple[PlannedTask, ...]
    models: tuple[str, ...]
    output: Path
    repeats: int = 1
    rules: Rules = field(default_factory=Rules)
    choice: ModelChoice = field(default_factory=partial(ModelChoice, ()))
    skipped: tuple[Path, ...] = ()
    judge: str = ""
    rerun: tuple[PlannedRun, ...] = ()
    benchmark: PlannedBenchmark | None = None

    def attributed_to(self, task: PlannedTask) -> str:
        """Return the benchmark (OWNER/BENCHMARK) for which the server's queue is to make the runs of a task; or "".

        It is one of the user's that has the task at the version that is run. With `max_cost` there is none: what the
        runs of a benchmark cost may count for a quota of its own, by which nothing is known of what has been spent.
        """
        has_it = task.seen is not None and task.benchmark_version == task.seen.slug.version_number
        is_to_queue = self.rules.enqueue != "never" and self.rules.max_cost is None
        if self.benchmark is None or not (self.benchmark.is_own and has_it and is_to_queue):
            return ""
        return self.benchmark.name

    @property
    def planned_runs(self) -> list[PlannedRun]:
        """All planned runs, in the order in which they are reported."""
        return expand_runs((task.slug for task in self.tasks), self.models, self.repeats)


async def make_plan(
    client: Api,
    spec: SweepSpec,
    *,
    offload: Offload = anyio.to_thread.run_sync,
) -> SweepPlan:
    """Return the plan for `spec`, with every task and model by its name. Nothing is changed, here or on the server.

    All files are read and checked before the server is asked. Then the models and the tasks are fetched at once, while
    the notebooks are made.

    Raises:
        UsageError: There are no tasks or no models, a model lacks an effort, a task is run on agents only or not on
            them, a number is out of its range, a task is given by two files, or what is to be repeated is not planned.
        UnknownModel: A pattern matches no model.
        TaskFileError: A file cannot be read, or has an error that the server would refuse.
        NotFound: Tasks that are named by their slugs are not on the server; all of them are listed. Or the benchmark
            does not exist.
        UnsupportedByServer: The server cannot list the tasks of the benchmark.
        FanbenchError: The server does not answer.
    """
    rules = rules_of(spec)
    _refuse_incomplete(spec)
    sources, skipped = await offload(partial(_read_sources, spec)) if spec.tasks else ([], ())
    benchmark = None
    if spec.benchmark:
        me = await username(client)
        benchmark, versions = await _look_at_benchmark(client, spec.benchmark, spec.benchmark_tasks, me)
        sources = _with_benchmark(sources, benchmark, versions, me)
    judge = await find_judge(client, spec.judge)
    choice, seen, notebooks = await _fetch(client, spec, sources, offload)
    await _refuse_unknown(client, sources, seen, known=spec.benchmark_tasks or ())
    # By their full names "me/task" and "task" may be the same task.
    by_name: dict[str, _Source] = {}
    for source, task in zip(sources, seen, strict=True):
        if task is not None:
            refuse_misfit(source.slug, task, choice)
            other = by_name.setdefault(join_task(task.slug), source)
            if other is not source:
                raise _duplicate(other, source)
    tasks = tuple(map(_planned_task, sources, seen, notebooks))
    repeats = 1 if spec.repeats is None else spec.repeats
    planned = expand_runs((task.slug for task in tasks), choice.labels, repeats)
    return SweepPlan(
        tasks=tasks,
        models=choice.labels,
        output=spec.output or DEFAULT_OUTPUT,
        repeats=repeats,
        judge=judge,
        rules=rules,
        choice=choice,
        skipped=skipped,
        rerun=_reruns(spec.rerun, planned),
        benchmark=benchmark,
    )


def _refuse_incomplete(spec: SweepSpec) -> None:
    if not (spec.tasks or spec.benchmark):
        hint = "Name task files, patterns such as 'tasks/*.py', or slugs."
        raise UsageError("No task is given.", hint=hint)
    if spec.all_models and spec.models:
        raise UsageError("models and all_models cannot be used together.", hint="Leave one of them out.")
    if not (spec.all_models or spec.models or spec.agents):
        raise UsageError(
            "No model is given.", hint="Name one or more with -m. `fanbench tasks models` lists them."
        )


def _planned_task(source: _Source, seen: Task | None, notebook: str | None) -> PlannedTask:
    if notebook is not None:
        identity = content_identity(notebook, source.datasets)
    else:
        identity = version_identity(seen.slug.version_number if seen else 0)
    return PlannedTask(
        source.slug,
        identity,
        seen,
        source.file,
        notebook,
        source.datasets,
        source.content.warnings([source.slug]) if source.content else (),
        source.scale,
        source.whole_page,
        source.page,
        source.benchmark_version,
    )


def _reruns(asked: Iterable[str], planned: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
    """Return the planned runs that names and patterns of the form `TASK:MODEL` stand for.

    Raises:
        UsageError: One has another form, or stands for none.
    """
    found: set[PlannedRun] = set()
    for name in asked:
        task, _, model = name.partition(":")
        if not task or not model:
            raise UsageError(
                f"--rerun takes TASK:MODEL, not {name!r}.",
                hint="Write * for all tasks, or for all models, such as 'my-task:*'.",
            )
        mine = [run for run in planned if _is_task(run.task, task) and _is_model(run.model, model)]
        if not mine:
            tasks = list(dict.fromkeys(run.task for run in planned))
            models = list(dict.fromkeys(run.model for run in planned))
            raise UsageError(
                f"--rerun {name}: the sweep has no such run.",
                hint=f"Its tasks are {first_few(tasks, 10)}. Its models are {first_few(models, 10)}.",
            )
        found.update(mine)
    return tuple(run for run in planned if run in found)


def _is_task(slug: str, name: str) -> bool:
    """Whether a task is meant by a name or a pattern, with or without its owner."""
    return fits(slug, name) if is_pattern(name) else slugify_task(name) in (slug, slug.rpartition("/")[2])


def _is_model(slug: str, name: str) -> bool:
    """Whether a model, or `MODEL@EFFORT`, is meant by a name or a pattern, in any of its spellings."""
    patterns = (name, normalize_label(name))
    return any(fits(each, pattern) for each in (slug, same_label(slug)) for pattern in patterns)


# --- Files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """A task before the server is asked; `content` is what was read of a task from a file.

    `scale` and `page` are what the sweep declares about the values and the page of the task.
    """

    slug: str
    file: Path | None = None
    content: TaskFile | None = None
    datasets: tuple[str, ...] = ()
    scale: Scale | None = None
    page: Metadata | None = None
    benchmark_version: int = 0

    def __str__(self) -> str:
        return f"{self.file}" if self.file else f"the slug {self.slug}"

    def is_same(self, other: _Source) -> bool:
        """Whether both are the same task of the same file, with the same datasets."""
        if self.file is None or other.file is None:
            same_file = self.file is other.file
        else:
            same_file = os.path.realpath(self.file) == os.path.realpath(other.file)
        return same_file and (self.slug, self.datasets) == (other.slug, other.datasets)

    @property
    def whole_page(self) -> Metadata | None:
        """What the page of the task is to say: what the sweep declares, and else what the file says."""
        in_file = self.content.page if self.content is not None else None
        if self.page is None or in_file is None:
            return self.page or in_file
        return self.page.applied_to(in_file)

    def with_declared(self, other: _Source) -> _Source:
        """Return the same task with the scale and the page that another mention of it declares, if that does.

        Raises:
            UsageError: It has other ones.
        """
        for what, mine, its in (("scales", self.scale, other.scale), ("pages", self.page, other.page)):
            if None not in (mine, its) and mine != its:
                raise UsageError(
                    f"Two {what} are declared for task '{self.slug}'.", hint="Leave one of them out."
                )
        return replace(self, scale=self.scale or other.scale, page=self.page or other.page)


_DATASET = re.compile(r"[^/\s]+/[^/\s]+")


def _read_sources(spec: SweepSpec) -> tuple[list[_Source], tuple[Path, ...]]:
    """Return all tasks in the order of the spec, the tasks of one file in the order of the file.

    The same task of the same file counts once, however it is named. The second result are the files of folders that
    have no task.
    """
    sources: dict[str, _Source] = {}
    skipped: list[Path] = []
    refused: dict[Path, FanbenchError] = {}
    for choice in spec.tasks:
        try:
            if choice.in_folder and choice.file is not None and not _has_tasks(choice.file):
                skipped.append(choice.file)
                continue
            found = _read_choice(choice, spec.datasets)
        except TaskFileError as error:
            refused[Path(error.file)] = error
            continue
        for source in found:
            other = sources.setdefault(source.slug, source)
            if not other.is_same(source):
                raise _duplicate(other, source)
            sources[source.slug] = other.with_declared(source)
    if refused:
        raise join_errors(refused)
    if not sources:
        if len(skipped) == 1:
            raise TaskFileError("This file has no task.", file=str(skipped[0]))
        folders = dict.fromkeys(str(file.parent) for file in skipped)
        raise TaskFileError(f"None of the {len(skipped)} files here has a task.", file=", ".join(folders))
    return list(sources.values()), tuple(dict.fromkeys(skipped))


def _has_tasks(file: Path) -> bool:
    """Return False if a file that was found in a folder is empty, or has no task to push."""
    return file.stat().st_size > 0 and bool(read_task_file(file).pushable)


def _read_choice(choice: TaskChoice, datasets: tuple[str, ...]) -> list[_Source]:
    if choice.file is None:
        return [_Source(slugify_task(choice.slug or ""), scale=choice.scale)]
    attached = tuple(dict.fromkeys(datasets if choice.datasets is None else choice.datasets))
    for dataset in attached:
        if not _DATASET.fullmatch(dataset):
            raise UsageError(f"'{dataset}' is not a dataset.", hint="Write OWNER/DATASET.")
    plans = plan_push([choice.file], choice.name, all_tasks=choice.name is None, datasets=attached)
    return [_Source(plan.slug, choice.file, plan.file, attached, choice.scale, choice.page) for plan in plans]


def _duplicate(other: _Source, source: _Source) -> UsageError:
    """Return the error for two sources of one task, which would become two versions of it, in an undefined order."""
    hint = "Leave one out, or rename one."
    if bool(other.file) != bool(source.file):
        hint = "Name only the file to push it, or only the slug to run the version that is on the server."
    elif other.file and source.file and _is_other_format(other.file, source.file):
        # The halves of a notebook that jupytext keeps in two formats. Only the user knows which one counts.
        pattern = shlex.quote(str(source.file.parent / "*.py"))
        hint = f"They look like one file in two formats. Run `fanbench sweep {pattern}` to leave out the notebooks."
    return UsageError(f"Task '{source.slug}' is given twice: by {other} and by {source}.", hint=hint)


def _is_other_format(one: Path, other: Path) -> bool:
    return one != other and one.with_suffix("") == other.with_suffix("")


async def _look_at_benchmark(
    client: Api, name: str, planned: tuple[str, ...] | None, me: str
) -> tuple[PlannedBenchmark, dict[str, int]]:
    """Return a benchmark with its tasks, and the versions of those that it has now.

    The tasks are those that were `planned` before, if that was done: then nothing that has become of the benchmark is
    an error.

    Raises:
        UsageError: The benchmark has no tasks, or its name is not valid.
        NotFound: It does not exist.
        UnsupportedByServer: The server cannot list its tasks.
    """
    owner, slug = await whole_name(client, name)
    name, is_own = f"{owner}/{slug}", slugify(owner) == slugify(me)
    try:
        listed = await tasks_of_benchmark(client, name)
    except FanbenchError as error:
        if planned is None:
            raise
        change = f"The benchmark {name} cannot be listed now: {error_line(str(error))}"
        return PlannedBenchmark(name, planned, change, is_own), {}
    versions = {
        task.slug.task_slug if task.slug.owner_slug == me else join_task(task.slug): task.slug.version_number
        for task in listed
    }
    if planned is not None:
        return PlannedBenchmark(name, planned, _change(name, planned, versions), is_own), versions
    if not listed:
        raise UsageError(
            f"The benchmark '{name}' has no tasks.",
            hint=f"Add some with `fanbench benchmarks add {name} TASK`.",
        )
    return PlannedBenchmark(name, tuple(versions), is_own=is_own), versions


def _change(name: str, planned: Sequence[str], now: Collection[str]) -> str:
    """Say in one line how the tasks that a benchmark has `now` differ from those that were planned."""
    added = [slug for slug in now if slug not in planned]
    gone = [slug for slug in planned if slug not in now]
    parts = [f"{first_few(added)} added"] if added else []
    parts += [f"{first_few(gone)} removed"] if gone else []
    if not parts:
        return ""
    return (
        f"The benchmark {name} has changed since this sweep was planned ({', '.join(parts)}); the sweep keeps its "
        "tasks. --fresh takes those of today."
    )


def _with_benchmark(
    named: Sequence[_Source], benchmark: PlannedBenchmark, versions: Mapping[str, int], me: str
) -> list[_Source]:
    """Return the tasks that are named, and those of a benchmark besides. These are run as they are on the server."""

    def short(source: _Source) -> str:
        return source.slug.removeprefix(f"{me}/")

    known = set(map(short, named))
    return [
        *(
            replace(source, benchmark_version=0 if source.file else versions.get(short(source), 0))
            for source in named
        ),
        *(
            _Source(slug, benchmark_version=versions.get(slug, 0))
            for slug in benchmark.tasks
            if slug not in known
        ),
    ]


# --- The server ---------------------------------------------------------------------------------------------


async def _fetch(
    client: Api,
    spec: SweepSpec,
    sources: Sequence[_Source],
    offload: Offload,
) -> tuple[ModelChoice, list[Task | None], list[str | None]]:
    """Return the models, and for each source its task on the server and its notebook.

    All at once: the client bounds the calls, and the first conversion spends a second on importing jupytext.
    """
    choice = ModelChoice(())
    seen: list[Task | None] = [None] * len(sources)
    notebooks: dict[TaskFile, str] = {}

    def convert_all() -> None:
        # Tasks of one file share its notebook.
        files = dict.fromkeys(source.content for source in sources if source.content is not None)
        notebooks.update((file, notebook_of(file)) for file in files)

    async def convert() -> None:
        await offload(convert_all)

    async def resolve() -> None:
        nonlocal choice
        asked = ["*"] if spec.all_models else spec.models
        choice = await find_candidates(client, asked, efforts=spec.efforts, agents=spec.agents)

    async def look(index: int) -> None:
        seen[index] = await task_if_any(client, sources[index].slug)

    jobs: list[Callable[[], Awaitable[None]]] = [convert, resolve]
    jobs += [partial(look, index) for index in range(len(sources))]
    for outcome in await settle(jobs, limit=len(jobs)):
        if isinstance(outcome, FanbenchError):
            raise outcome
    return choice, seen, [notebooks[source.content] if source.content else None for source in sources]


# How many of the server's tasks are searched for a name close to a mistyped one.
_SEARCHED = 500


async def _refuse_unknown(
    client: Api, sources: Sequence[_Source], seen: Sequence[Task | None], *, known: Collection[str]
) -> None:
    """Refuse all slugs that the server does not have, with the names of tasks that are close to them.

    Those that are `known` from an earlier plan are gone, and keep the sweep from nothing else.
    """
    unknown = [
        source.slug
        for source, task in zip(sources, seen, strict=True)
        if source.content is None and task is None and source.slug not in known
    ]
    if not unknown:
        return
    existing: list[str] = []
    try:
        async for task in client.list_tasks():
            existing.append(task.slug.task_slug)
            if len(existing) >= _SEARCHED:
                break
    except FanbenchError:
        pass  # The list only improves the message.
    lines = [f"No such task{'s' if len(unknown) > 1 else ''}:"]
    for slug in unknown:
        close = difflib.get_close_matches(slug, existing, n=2)
        lines.append(f"  {slug}" + (f" (did you mean {' or '.join(close)}?)" if close else ""))
    hint = (
        "Names of task files end in .py or .ipynb. Run `fanbench tasks list` to list the tasks on the server."
    )
    raise NotFound("\n".join(lines), call="GetBenchmarkTask", status=404, hint=hint)
