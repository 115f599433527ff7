"""Calls about runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta

from starlette.responses import Response, StreamingResponse

from fanbench.errors import LocalServerError
from fanbench.local.logs import stored_as_list
from fanbench.local.models.catalog import ModelSpec
from fanbench.local.routes.tasks import find_benchmark, find_version
from fanbench.local.scheduler import Work
from fanbench.local.state.tables import LARGEST, LIVE_RUNS, RunRow, VersionRow, now
from fanbench.local.wire import OWNER, Services, WireError, page_size, read_token
from fanbench.wire.candidates import Candidate, config_slug
from fanbench.wire.messages import (
    BatchScheduleRequest,
    BatchScheduleResponse,
    CancelRunsRequest,
    CancelRunsResponse,
    CandidateType,
    CreationState,
    ListRunsRequest,
    ListRunsResponse,
    QueueSettings,
    QueueStatus,
    QueueStatusRequest,
    Run,
    RunRequest,
    RunResult,
    RunState,
    ScheduleResult,
    TaskSlug,
    TaskSlugs,
)
from fanbench.wire.queue import Enqueue, make_status, requested_enqueue
from fanbench.wire.slugs import normalize_model


async def schedule(services: Services, request: BatchScheduleRequest) -> BatchScheduleResponse:
    """Schedule each task on each model, tasks outermost. If a name is unknown, nothing is scheduled."""
    versions = [await find_version(services, slug) for slug in request.task_slugs]
    for version in versions:
        if version.state is not CreationState.COMPLETED:
            raise WireError(400, f"Task {version.slug} cannot be run: its creation is {version.state.label}")
    if request.agent_slugs:
        raise _no_agents(request)
    catalog = services.pool.catalog
    effort, candidates = request.reasoning_effort, list[Candidate]()
    for name in request.model_version_slugs:
        spec = catalog.find(name) or catalog.find(normalize_model(name))
        if spec is None:
            raise _model_not_found(services, name)
        if effort and effort not in spec.efforts:
            raise _effort_not_found(spec, effort)
        candidates.append(Candidate(normalize_model(spec.slug), effort))
    judge = catalog.find(request.judge_version_slug) if request.judge_version_slug else None
    if judge is None and request.judge_version_slug:
        raise _model_not_found(services, f"{request.judge_version_slug} (the judge)")
    enqueue = await _enqueued(services, request, versions)
    ids = await services.store.model_ids([name for each in candidates for name in (each.model, each.label)])
    results = []
    for version, each in itertools.product(versions, candidates):
        added = await services.store.add_run(
            version.id, each.model, judge.slug if judge else "", effort, enqueue
        )
        row = added if isinstance(added, RunRow) else None
        if row is not None:
            services.scheduler.submit(Work("run", row.id))
        results.append(
            ScheduleResult(
                benchmark_model_version_id=ids[each.model],
                benchmark_model_version_config_id=ids[each.label] if effort else 0,
                run_scheduled=row is not None,
                run_skipped_reason=added if isinstance(added, str) else "",
                run_id=row.id if row is not None else 0,
                benchmark_task_version_id=version.id,
                candidate_type=CandidateType.MODEL_VERSIONS,
            )
        )
    return BatchScheduleResponse(results=results)


async def _enqueued(
    services: Services, request: BatchScheduleRequest, versions: Sequence[VersionRow]
) -> Enqueue | None:
    """How the request puts runs into the queue; None if it does not. All runs wait in the same queue."""
    try:
        enqueue = requested_enqueue(request, OWNER)
    except ValueError as error:
        raise WireError(400, f"Invalid request: {error}") from None
    if (benchmark := request.benchmark) is not None:
        owner, slug = benchmark.owner_slug or OWNER, benchmark.benchmark_slug
        mapped = await find_benchmark(services, slug, benchmark.version_number, owner=owner)
        if missing := {version.slug for version in versions} - {version.slug for version in mapped}:
            raise WireError(400, f"Benchmark {owner}/{slug} does not have the task {min(missing)}")
    return enqueue


def _no_agents(request: BatchScheduleRequest) -> WireError:
    if request.reasoning_effort:
        return WireError(
            400, "An agent has a reasoning effort of its own: reasoningEffort is for models only"
        )
    return WireError(
        404, f"Agent not found: {request.agent_slugs[0]}. This server has no agents, only models"
    )


def _effort_not_found(spec: ModelSpec, effort: str) -> WireError:
    known = f"only {', '.join(spec.efforts)}" if spec.efforts else "and takes no effort"
    return WireError(
        400, f"Model {normalize_model(spec.slug)} does not have the reasoning effort {effort!r}, {known}"
    )


async def queue_status(services: Services, request: QueueStatusRequest) -> QueueStatus:
    """The runs in progress, and those that ended in the last 24 hours; all runs are the caller's."""
    counts = await services.store.count_runs(now() - timedelta(days=1))
    tasks = await services.store.benchmarks()
    numbers = {task.benchmark: task.id for task in reversed(tasks)}
    of_task = {task.task: task.benchmark for task in reversed(tasks)}
    ids = await services.store.model_ids([model for _, model, _, _, _ in counts])
    tallies = [
        (ids[model], numbers.get(benchmark) or numbers.get(of_task.get(task, ""), 0), state, number)
        for task, model, benchmark, state, number in counts
    ]
    settings = QueueSettings(enabled=True, max_concurrency=services.settings.runs_at_once)
    return make_status(tallies, {number: slug for slug, number in numbers.items()}, settings)


async def cancel_runs(services: Services, request: CancelRunsRequest) -> CancelRunsResponse:
    """Cancel runs in progress. When this returns, their processes have ended, and lists do not show them any more."""
    if (request.task_slugs is None) == (request.run_ids is None):
        raise WireError(400, "Give either taskSlugs or runIds")
    if request.model_version is not None and not request.model_version.model_version_slug:
        raise WireError(400, "modelVersion names no model")  # and not all of them
    versions = await _versions_of(services, request.task_slugs) if request.task_slugs else None
    ids = {*request.run_ids.ids} if request.run_ids else None
    candidate = request.model_version
    if request.agent_slug:  # no run of this server is one of an agent
        return CancelRunsResponse()
    spec = services.pool.catalog.find(candidate.model_version_slug) if candidate is not None else None
    before = await services.store.cancel_runs(
        versions=versions,
        ids=ids,
        model=normalize_model(spec.slug if spec else candidate.model_version_slug) if candidate else "",
        effort=candidate.reasoning_effort if candidate else "",
        states=LIVE_RUNS if request.include_active else (RunState.QUEUED,),
    )
    await services.scheduler.cancel([Work("run", run_id) for run_id in before])
    queued = sum(state is RunState.QUEUED for state in before.values())
    return CancelRunsResponse(queued_cancelled_count=queued, active_terminated_count=len(before) - queued)


async def _versions_of(services: Services, slugs: TaskSlugs) -> set[int]:
    """The ids of the versions of tasks: of all of them, where a slug names none."""
    found: set[int] = set()
    for slug in slugs.slugs:
        newest = await find_version(services, slug)
        found.update([newest.id] if slug.version_number else await services.store.versions_of(newest.slug))
    return found


def _model_not_found(services: Services, name: str) -> WireError:
    mistake = f". {services.pool.mistake}" if services.pool.mistake else ""
    return WireError(404, f"Benchmark model version not found: {name}{mistake}")


async def list_runs(services: Services, request: ListRunsRequest) -> ListRunsResponse:
    """The runs of one version, by default the newest, oldest run first."""
    version = await find_version(services, request.task_slug)
    models = [normalize_model(name) for name in request.model_version_slugs]
    size = page_size(request.page_size)
    after = read_token(request.page_token)
    rows, total = await services.store.runs(version.id, models, after=after, limit=size + 1)
    token = str(rows[size - 1].id) if len(rows) > size else ""
    slug = TaskSlug(owner_slug=OWNER, task_slug=version.slug, version_number=version.version)
    runs = [
        Run(
            task_slug=slug,
            model_version_slug=row.model,
            model_version_config_slug=config_slug(row.model, row.effort) if row.effort else "",
            id=row.id,
            state=row.state,
            start_time=row.started,
            end_time=row.ended,
            error_message=row.error,
            result=_result(row),
        )
        for row in rows[:size]
    ]
    return ListRunsResponse(runs=runs, total_results=total, next_page_token=token)


def _result(row: RunRow) -> RunResult | None:
    if row.numeric_result is None and row.boolean_result is None:
        return None
    return RunResult(numeric_result=row.numeric_result, boolean_result=row.boolean_result)


async def _find_run(services: Services, run_id: int) -> RunRow:
    row = await services.store.get(RunRow, run_id) if 0 < run_id <= LARGEST else None
    if row is None:
        raise WireError(404, f"Run not found: {run_id}")
    return row


async def run_logs(services: Services, request: RunRequest) -> Response:
    """Server-sent events while the run is in progress, one JSON list afterwards; 404 before, as on Kaggle."""
    live = services.scheduler.logs.get(request.run_id)
    if live is not None:
        events = (b"data: " + entry + b"\n\n" async for entry in live.follow())
        return StreamingResponse(events, media_type="text/event-stream")
    row = await _find_run(services, request.run_id)
    path = services.folder.log(row.id)
    if not row.state.terminal or not path.exists():
        raise WireError(404, f"Run {row.id} has no log yet")
    return StreamingResponse(stored_as_list(path), media_type="application/json")


async def run_output(services: Services, request: RunRequest) -> Response:
    row = await _find_run(services, request.run_id)
    if not row.state.terminal:
        raise WireError(404, f"Run {row.id} has no output yet: it is {row.state.label}")
    try:
        response = await services.outputs.response(row, include_source=request.include_source)
    except LocalServerError as error:  # clients try again
        raise WireError(503, f"The output of run {row.id} is not available now. {error}") from None
    if response is None:
        raise WireError(404, f"The output of run {row.id} is no longer where this server keeps outputs")
    return response
