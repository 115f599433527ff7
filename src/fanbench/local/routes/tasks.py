"""Calls about tasks."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._util import files
from fanbench.errors import UsageError
from fanbench.local.executor.forkserver_executor import missing_extra
from fanbench.local.folder import PRIVATE
from fanbench.local.scheduler import Work
from fanbench.local.state.tables import LARGEST, VersionRow
from fanbench.local.wire import OWNER, Services, WireError, page_of
from fanbench.wire.messages import (
    CandidateType,
    CreateTaskRequest,
    CreationState,
    ListTasksRequest,
    ListTasksResponse,
    NotebookDefinition,
    PublishTaskRequest,
    Task,
    TaskDefinition,
    TaskOptions,
    TaskRequest,
    TaskSlug,
    TaskSource,
    UpdateTaskRequest,
    UpdateTaskResponse,
    UpdateTaskVersionRequest,
)
from fanbench.wire.metadata import PROVENANCE_LIMIT, requested_change, stored_tag
from fanbench.wire.slugs import slugify

TAGS = frozenset(
    {
        "biology", "chemistry", "coding", "common sense", "computer vision", "games", "geography", "history",
        "law", "mathematics", "medicine", "multilingual", "nlp", "physics", "reasoning", "safety", "tool use",
    }
)  # fmt: skip
"""The tags that tasks of this server can have."""

LONGEST_SLUG = 255
"""An index of PostgreSQL has room for 2,700 bytes."""


async def find_version(services: Services, slug: TaskSlug) -> VersionRow:
    """The version that `slug` names, by default the newest.

    Raises:
        WireError: It does not exist, or belongs to another user.
    """
    if slug.owner_slug not in ("", OWNER):
        raise WireError(
            403, f"Permission 'benchmarkTasks.get' was denied: this server only has tasks of {OWNER}"
        )
    known = 0 <= slug.version_number <= LARGEST
    row = await services.store.find_version(slug.task_slug, slug.version_number) if known else None
    if row is None:
        raise WireError(404, f"Task not found: {slug.task_slug}")
    return row


async def find_benchmark(
    services: Services, slug: str, version: int, *, owner: str = OWNER
) -> list[VersionRow]:
    """The versions of tasks in a benchmark, which has one version itself.

    Raises:
        WireError: It does not exist.
    """
    rows = await services.store.benchmark(slug) if owner == OWNER and version in (0, 1) else []
    if not rows:
        raise WireError(404, f"Benchmark not found: {owner}/{slug}")
    return rows


def _message(services: Services, row: VersionRow, definition: TaskDefinition | None = None) -> Task:
    return Task(
        slug=TaskSlug(owner_slug=OWNER, task_slug=row.slug, version_number=row.version),
        # Absolute: clients resolve a path against www.kaggle.com.
        url=f"{services.addresses.advertised}/benchmarks/tasks/{OWNER}/{row.slug}/{row.version}",
        creation_state=row.state,
        create_time=row.created,
        creation_error_message=row.error,
        is_public=row.public,
        source_kernel_id=row.id,
        is_backing_notebook_published=row.notebook_public,
        options=TaskOptions(dataset_data_sources=row.datasets) if row.datasets else None,
        source=TaskSource.CLI,
        candidate_type=CandidateType.MODEL_VERSIONS,
        description=row.description,
        tags=row.tags,
        provenance_sources=row.provenance,
        citations=row.citations,
        definition=definition,
    )


async def create_task(services: Services, request: CreateTaskRequest) -> Task:
    slug = request.slug
    try:
        wanted = slugify(slug)
    except UsageError as error:
        raise WireError(400, str(error)) from None
    if not wanted or wanted != slug:
        text = f"{slug!r} is not a task slug; write lower-case letters, digits and single hyphens"
        raise WireError(400, text)
    if len(slug) > LONGEST_SLUG:
        raise WireError(400, f"A task slug has at most {LONGEST_SLUG} characters; this one has {len(slug):,}")
    try:
        notebook = json.loads(request.text)
    except ValueError as error:
        raise WireError(400, f"The text of the task is not a notebook: {error}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise WireError(400, "The text of the task is not a notebook: it has no list of cells")
    datasets = request.options.dataset_data_sources if request.options else []
    unknown = [name for name in datasets if services.settings.find_dataset(name) is None]
    if unknown:
        names, place = ", ".join(unknown), services.settings.dataset_folder.absolute()
        message = (
            f"The following Kaggle datasets could not be resolved: {names}. This server looks below {place}"
        )
        raise WireError(404, message)
    row = await _store_version(services, slug, datasets, request.text)
    services.scheduler.submit(Work("creation", row.id))
    return _message(services, row)


async def _store_version(services: Services, slug: str, datasets: list[str], text: str) -> VersionRow:
    """Record a new version, whose notebook is on disk before its record, and in place before its creation."""
    temp = services.folder.temporary / f"{secrets.token_hex(8)}.ipynb"

    def move_to(target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temp.replace(target)

    try:
        await anyio.to_thread.run_sync(partial(files.write, temp, text, mode=PRIVATE))
        row = await services.store.add_version(slug, datasets)
        try:
            await anyio.to_thread.run_sync(move_to, services.folder.notebook(row.id))
        except OSError as error:
            await services.store.update(VersionRow, row.id, state=CreationState.ERRORED, error=str(error))
            raise
    except OSError as error:
        raise WireError(507, f"The server cannot store the task: {error.strerror}") from None
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(temp.unlink, missing_ok=True))
    return row


async def get_task(services: Services, request: TaskRequest) -> Task:
    row = await find_version(services, request.slug)
    if not request.include_definition:
        return _message(services, row)
    try:
        text = await anyio.Path(services.folder.notebook(row.id)).read_text(encoding="utf-8")
    except FileNotFoundError:  # the server died between the record of a push and its file
        text = ""
    return _message(services, row, TaskDefinition(notebook=NotebookDefinition(content=text)))


def _slug_filter(expression: str) -> Callable[[str], object]:
    """A test of slugs by a regular expression, whose time is linear in their length whatever the expression."""
    if not expression:
        return bool
    try:
        import re2
    except ImportError:
        raise missing_extra("no package google-re2") from None
    options = re2.Options()
    options.log_errors = False
    try:
        search: Callable[[str], object] = re2.compile(expression, options).search
    except UnicodeEncodeError as error:
        raise WireError(400, f"{expression!r} is not a regular expression: {error}") from None
    except re2.error as error:
        (reason,) = error.args
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        raise WireError(400, f"{expression!r} is not a regular expression: {text}") from None
    return search


async def list_tasks(services: Services, request: ListTasksRequest) -> ListTasksResponse:
    matches = _slug_filter(request.regex_filter)
    status = request.status_filter.upper().replace("-", "_")
    rows = [
        row
        for row in await _rows_in(services, request)
        if matches(row.slug) and (not status or status in (row.state.value, row.state.label))
    ]
    page, token = page_of(rows, request.page_size, request.page_token, request.skip)
    definitions = request.include_definition
    return ListTasksResponse(
        # Without the texts of the notebooks: a page of them would be large.
        tasks=[
            _message(services, row, TaskDefinition(notebook=NotebookDefinition()) if definitions else None)
            for row in page
        ],
        total_results=len(rows),
        next_page_token=token,
    )


async def _rows_in(services: Services, request: ListTasksRequest) -> list[VersionRow]:
    """All tasks, or those of the owner or the benchmark that a list is about."""
    if not request.benchmark_slug:
        mine = request.owner_slug in ("", OWNER)
        return await services.store.newest_versions() if mine else []
    return await find_benchmark(
        services, request.benchmark_slug, request.version_number, owner=request.owner_slug or OWNER
    )


async def publish_task(services: Services, request: PublishTaskRequest) -> Task:
    row = await find_version(services, request.slug)
    notebook = row.notebook_public or request.publish_backing_notebook
    await services.store.update(VersionRow, row.id, public=True, notebook_public=notebook)
    return _message(services, await find_version(services, request.slug))


async def update_task(services: Services, request: UpdateTaskRequest) -> UpdateTaskResponse:
    if request.slug.version_number:
        raise WireError(
            400, "UpdateBenchmarkTask takes no versionNumber; UpdateBenchmarkTaskVersion is for one version"
        )
    task, unknown = await _update(services, request)
    return UpdateTaskResponse(task=task, invalid_tags=unknown)


async def update_task_version(services: Services, request: UpdateTaskVersionRequest) -> Task:
    if not request.slug.version_number:
        raise WireError(400, "UpdateBenchmarkTaskVersion takes a versionNumber")
    task, _ = await _update(services, request)
    return task


async def _update(
    services: Services, request: UpdateTaskRequest | UpdateTaskVersionRequest
) -> tuple[Task, list[str]]:
    """Change what the page of a task says. Return the task, and the tags that do not exist."""
    row = await find_version(services, request.slug)
    try:
        wanted = requested_change(request)
    except ValueError as error:
        raise WireError(400, str(error)) from None
    if len(wanted.provenance or "") > PROVENANCE_LIMIT:
        raise WireError(400, f"provenanceSources has more than {PROVENANCE_LIMIT:,} characters")
    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in wanted.stored(TAGS).given.items()
    }
    await services.store.update_page(row, **values)
    unknown = [tag for tag in wanted.tags or () if stored_tag(tag) not in TAGS]
    return _message(services, await find_version(services, request.slug)), unknown


async def delete_task(services: Services, request: TaskRequest) -> Task:
    # An addition of this server: Kaggle has no such call.
    row = await find_version(services, request.slug)
    versions, runs = await services.store.delete_task(row.slug)
    await services.scheduler.cancel(
        [*(Work("creation", n) for n in versions), *(Work("run", n) for n in runs)]
    )
    folders = [services.folder.notebook(n).parent for n in versions]
    logs = [services.folder.creation_log(n) for n in versions] + [services.folder.log(n) for n in runs]

    def remove() -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for file in logs:
            file.unlink(missing_ok=True)

    await anyio.to_thread.run_sync(remove)
    await services.outputs.delete(runs)
    return _message(services, row)
