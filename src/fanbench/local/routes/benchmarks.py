"""Calls about benchmarks: collections of tasks."""

from __future__ import annotations

from fanbench.local.routes.tasks import LONGEST_SLUG, find_benchmark, find_version
from fanbench.local.state.tables import RunRow, VersionRow
from fanbench.local.wire import OWNER, Services, WireError
from fanbench.wire.candidates import Candidate, config_name, config_slug
from fanbench.wire.messages import (
    AddTasksRequest,
    AddTasksResponse,
    BenchmarkResult,
    CandidateClass,
    GetLeaderboardRequest,
    Leaderboard,
    LeaderboardRow,
    NumericResult,
    RemoveTasksResponse,
    TaskResult,
    TaskSlug,
)
from fanbench.wire.slugs import slugify

_MOST_TASKS = 1000


async def add_tasks(services: Services, request: AddTasksRequest) -> AddTasksResponse:
    """Add tasks to a benchmark. On Kaggle's site one is made first; here, adding the first task makes it."""
    slug = request.benchmark_slug
    if not slug.isascii() or slugify(slug) != slug or not 0 < len(slug) <= LONGEST_SLUG:
        raise WireError(400, f"{slug[:LONGEST_SLUG]!r} is not the slug of a benchmark")
    if request.version_number not in (0, 1):
        raise WireError(404, f"Benchmark not found: {OWNER}/{slug} has version 1 only")
    added, skipped = list[TaskSlug](), list[TaskSlug]()
    for row in await _tasks(services, request):
        is_new = await services.store.add_to_benchmark(slug, row)
        (added if is_new else skipped).append(_slug(row))
    return AddTasksResponse(added_tasks=added, skipped_tasks=skipped)


async def remove_tasks(services: Services, request: AddTasksRequest) -> RemoveTasksResponse:
    slug = request.benchmark_slug
    there = {row.slug: row for row in await find_benchmark(services, slug, request.version_number)}
    removed, skipped = list[TaskSlug](), list[TaskSlug]()
    for row in await _tasks(services, request):
        if row.slug not in there:
            skipped.append(_slug(row))
            continue
        await services.store.remove_from_benchmark(slug, row.slug)
        removed.append(_slug(there[row.slug]))
    return RemoveTasksResponse(removed_tasks=removed, skipped_tasks=skipped)


async def leaderboard(services: Services, request: GetLeaderboardRequest) -> Leaderboard:
    """A row for each model and effort with the newest result in each task. The scale of the tasks is not known."""
    versions = await find_benchmark(
        services, request.benchmark_slug, request.version_number, owner=request.owner_slug or OWNER
    )
    found: dict[Candidate, list[RunRow]] = {}
    for run in await services.store.results([version.id for version in versions]):
        found.setdefault(Candidate(run.model, run.effort), []).append(run)
    return Leaderboard(rows=[_row(services, each, found[each]) for each in sorted(found)])


def _row(services: Services, candidate: Candidate, runs: list[RunRow]) -> LeaderboardRow:
    model, effort, _ = candidate
    spec = services.pool.catalog.find(model)
    name = (spec.name if spec else None) or model
    return LeaderboardRow(
        model_version_name=name,
        model_version_slug=model,
        model_version_config_name=config_name(name, effort) if effort else "",
        model_version_config_slug=config_slug(model, effort) if effort else "",
        candidate_class=CandidateClass.MODEL_VERSION_CONFIG if effort else CandidateClass.MODEL_VERSION,
        task_results=[
            TaskResult(
                benchmark_task_name=run.version.slug,
                benchmark_task_slug=run.version.slug,
                task_version=run.version.version,
                result=_result(run),
            )
            for run in sorted(runs, key=lambda run: run.version.slug)
        ],
    )


def _result(run: RunRow) -> BenchmarkResult:
    number = run.numeric_result
    return BenchmarkResult(
        numeric_result=None if number is None else NumericResult(value=number),
        boolean_result=run.boolean_result,
        evaluation_date=run.ended,
    )


async def _tasks(services: Services, request: AddTasksRequest) -> list[VersionRow]:
    """The versions of the tasks that the request names, each task once."""
    if not 0 < len(request.task_slugs) <= _MOST_TASKS:
        raise WireError(400, f"Give 1 to {_MOST_TASKS:,} taskSlugs")
    rows = [await find_version(services, slug) for slug in request.task_slugs]
    return list({row.slug: row for row in rows}.values())


def _slug(row: VersionRow) -> TaskSlug:
    return TaskSlug(owner_slug=OWNER, task_slug=row.slug, version_number=row.version)
