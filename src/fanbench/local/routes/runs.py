"""BenchmarkTasksApiService: what is about runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio.to_thread
from starlette.responses import FileResponse, Response, StreamingResponse

from fanbench.local.clock import parse
from fanbench.local.logs import stored_as_list
from fanbench.local.routes.paging import page_size, read_token
from fanbench.local.routes.tasks import find_version
from fanbench.local.scheduler import Work
from fanbench.local.store import RunRow, TaskVersion
from fanbench.local.wire import OWNER, Services, WireError
from fanbench.local.zips import output_zip
from fanbench.wire.messages import (
    BatchScheduleRequest,
    BatchScheduleResponse,
    CreationState,
    ListRunsRequest,
    ListRunsResponse,
    Run,
    RunRequest,
    RunState,
    ScheduleResult,
    TaskSlug,
)
from fanbench.wire.slugs import normalize_model


def run_message(row: RunRow) -> Run:
    version = row.version
    return Run(
        task_slug=TaskSlug(owner_slug=OWNER, task_slug=version.slug, version_number=version.version),
        model_version_slug=row.model,
        id=row.id,
        state=RunState(row.state),
        start_time=parse(row.started),
        end_time=parse(row.ended),
        error_message=row.error,
    )


async def schedule(services: Services, request: BatchScheduleRequest) -> BatchScheduleResponse:
    """One result for each task and model, tasks outermost. All or nothing where a name is unknown."""
    versions = [await find_version(services, slug) for slug in request.task_slugs]
    for version in versions:
        if version.state != CreationState.COMPLETED.value:
            word = CreationState(version.state).label
            raise WireError(400, f"Task {version.slug} cannot be run: its creation is {word}")
    models = [_known_model(services, name) for name in request.model_version_slugs]
    ids = await services.store.model_ids(models)
    results = [
        await _schedule_one(services, version, model, ids[model]) for version in versions for model in models
    ]
    return BatchScheduleResponse(results=results)


def _known_model(services: Services, name: str) -> str:
    spec = services.pool.catalog.find(name) or services.pool.catalog.find(normalize_model(name))
    if spec is None:
        raise WireError(404, f"Benchmark model version not found: {name}")
    return normalize_model(spec.slug)


async def _schedule_one(
    services: Services, version: TaskVersion, model: str, model_id: int
) -> ScheduleResult:
    row = await services.store.add_run(version.id, model)
    if row is not None:
        services.scheduler.submit(Work("run", row.id))
    return ScheduleResult(
        benchmark_model_version_id=model_id,
        run_scheduled=row is not None,
        run_skipped_reason="" if row is not None else "A run of this task version and model is in progress",
        benchmark_task_version_id=version.id,
    )


async def list_runs(services: Services, request: ListRunsRequest) -> ListRunsResponse:
    """Runs of one version (the newest, where none is named), oldest first."""
    version = await find_version(services, request.task_slug)
    models = [normalize_model(name) for name in request.model_version_slugs]
    size = page_size(request.page_size)
    after = read_token(request.page_token)
    rows, total = await services.store.runs(version.id, models, after=after, limit=size + 1)
    token = str(rows[size - 1].id) if len(rows) > size else ""
    return ListRunsResponse(
        runs=[run_message(row) for row in rows[:size]], total_results=total, next_page_token=token
    )


async def _find_run(services: Services, run_id: int) -> RunRow:
    # More than 63 bits are no number of ours, and none that SQLite takes.
    row = await services.store.run(run_id) if 0 < run_id < 2**63 else None
    if row is None:
        raise WireError(404, f"Run not found: {run_id}")
    return row


async def run_logs(services: Services, request: RunRequest) -> Response:
    """Going on: server-sent events until it ends. Ended: one JSON list. Queued: 404, as on Kaggle."""
    live = services.scheduler.log(request.run_id)
    if live is not None:
        return StreamingResponse(_events(live.follow()), media_type="text/event-stream")
    row = await _find_run(services, request.run_id)
    path = services.folder.log(row.id)
    if not RunState(row.state).terminal or not path.exists():
        raise WireError(404, f"Run {row.id} has no log yet")
    return StreamingResponse(stored_as_list(path), media_type="application/json")


async def _events(entries: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for entry in entries:
        yield b"data: " + entry + b"\n\n"


async def run_output(services: Services, request: RunRequest) -> Response:
    row = await _find_run(services, request.run_id)
    if not RunState(row.state).terminal:
        raise WireError(404, f"Run {row.id} has no output yet: it is {RunState(row.state).label}")
    make = partial(output_zip, services.folder.run(row.id), include_source=request.include_source)
    path: Path = await anyio.to_thread.run_sync(make)
    # Starlette gives Content-Length and ETag, and answers Range.
    return FileResponse(path, media_type="application/zip", filename=f"run-{row.id}.zip")
