"""What the pages of tasks say, and collections of tasks, on a real server."""

from __future__ import annotations

import pytest

from fanbench import Citation, Client
from fanbench.errors import BadRequest, NotFound
from fanbench.wire.messages import (
    AddTasksRequest,
    AddTasksResponse,
    NumericResult,
    Task,
    TaskSlug,
    UpdateTaskRequest,
    UpdateTaskResponse,
)
from fanbench.wire.protocol import ADD_TASKS, UPDATE_TASK

from .server_process import TASK, push, run, task_source

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


async def pushed(client: Client, slug: str) -> Task:
    return await push(client, slug, task_source(slug, "return True"))


async def test_a_page_is_changed_by_parts(client: Client) -> None:
    """Only what is given changes; tags are matched and stored in lower case, citations need an http(s) URL."""
    await pushed(client, "paged-a")
    answer = await client.update_task("paged-a", description="# A\n<b>x</b>", tags=[" Mathematics", "Novel"])
    assert answer.invalid_tags == ["Novel"]
    assert answer.task is not None
    assert (answer.task.description, answer.task.tags) == ("# A\n<b>x</b>", ["mathematics"])
    citations = [Citation(title="T", url="a.org"), Citation(title="U", url="ftp://u")]
    await client.update_task("paged-a", provenance="by me \0", citations=citations)
    task = await client.get_task("paged-a")
    assert (task.description, task.tags) == ("# A\n<b>x</b>", ["mathematics"])
    assert task.provenance_sources == "by me \ufffd"
    assert task.citations == [Citation(title="T", url="http://a.org")]
    (listed,) = [each async for each in client.list_tasks(regex="^paged-a$")]
    assert listed == task


async def test_versions_have_pages_and_tasks_have_tags(client: Client) -> None:
    """A new version takes over the page; later, each version has its own, and all have the task's tags."""
    await pushed(client, "paged-b")
    await client.update_task("paged-b", description="first", tags=["games"])
    second = await pushed(client, "paged-b")
    assert (second.slug.version_number, second.description, second.tags) == (2, "first", ["games"])
    await client.update_task("paged-b", version=1, description="old")
    await client.update_task("paged-b", tags=["law"], description="new")
    found = [await client.get_task("paged-b", version=number) for number in (1, 2)]
    assert [(each.description, each.tags) for each in found] == [("old", ["law"]), ("new", ["law"])]


async def test_changes_that_are_refused(client: Client) -> None:
    """A provenance that is too long, an unknown task or version, and a mask of nothing are refused."""
    await pushed(client, "paged-c")
    with pytest.raises(BadRequest, match="more than 4,000 characters"):
        await client.update_task("paged-c", provenance="p" * 4001)
    for call in (client.update_task("no", tags=[]), client.update_task("paged-c", version=2, provenance="")):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(BadRequest, match="names nothing to change"):
        await client.transport.call(
            UPDATE_TASK, UpdateTaskRequest(slug=TaskSlug(task_slug="paged-c")), UpdateTaskResponse
        )


async def test_a_benchmark_has_tasks(client: Client) -> None:
    """Tasks are added once, listed in that order, and removed; a deleted task is in no benchmark."""
    slugs = [(await pushed(client, slug)).slug for slug in ("one", "two", "three")]
    answer = await client.add_tasks("trio", ["two", "one", "one"])
    assert answer.added_tasks == [slugs[1], slugs[0]]
    answer = await client.add_tasks("trio", ["three", "one"])
    assert (answer.added_tasks, answer.skipped_tasks) == ([slugs[2]], [slugs[0]])

    async def listed(**scope: object) -> list[str]:
        tasks = client.list_tasks(benchmark="trio", page_size=2, **scope)  # type: ignore[arg-type]
        return [task.slug.task_slug async for task in tasks]

    assert await listed(owner="local", version=1) == ["two", "one", "three"]
    assert await listed(regex="^t", owner="local") == ["two", "three"]
    removed = await client.remove_tasks("trio", ["two", "three"])
    assert removed.removed_tasks == [slugs[1], slugs[2]]
    removed = await client.remove_tasks("trio", ["two"])
    assert (removed.removed_tasks, removed.skipped_tasks) == ([], [slugs[1]])
    await client.delete_task("one")
    for scope in ({}, {"owner": "other"}, {"version": 2}):
        with pytest.raises(NotFound, match="Benchmark not found"):
            await listed(**scope)


async def test_benchmarks_that_are_refused(client: Client) -> None:
    """A benchmark needs a slug, one version, and tasks that exist."""
    await pushed(client, "alone")
    with pytest.raises(BadRequest, match="is not the slug of a benchmark"):
        await client.add_tasks("Not A Slug", "alone")
    with pytest.raises(NotFound, match="version 1 only"):
        await client.add_tasks("bench", "alone", version=2)
    with pytest.raises(NotFound, match="Task not found"):
        await client.add_tasks("bench", ["alone", "none"])
    with pytest.raises(BadRequest, match="taskSlugs"):
        await client.transport.call(ADD_TASKS, AddTasksRequest(benchmark_slug="bench"), AddTasksResponse)
    with pytest.raises(NotFound, match="Benchmark not found"):
        await client.remove_tasks("bench", "alone")


async def test_tasks_of_other_owners_are_listed_by_owner(client: Client) -> None:
    """This server has tasks of one owner only."""
    await pushed(client, "mine")
    assert [task async for task in client.list_tasks(owner="other")] == []
    assert "mine" in [task.slug.task_slug async for task in client.list_tasks(owner="local")]


async def test_a_benchmark_has_a_leaderboard(client: Client) -> None:
    """It has the newest result of each model and effort in each task, and none of runs that errored."""
    await push(client, "adds", TASK.replace("two-plus-two", "adds"))
    await push(client, "scores", task_source("scores", "return 0.25"))
    await client.add_tasks("board", ["scores", "adds"])
    assert (await client.leaderboard("local", "board")).rows == []
    await run(client, "adds", "four", "wrong", "test/broken")
    await run(client, "scores", "four")
    await client.schedule_runs("scores", ["thinker"], effort="high")
    await client.wait("scores")
    board = await client.leaderboard("local", "board", version=1)
    found = {
        row.slug: {
            each.benchmark_task_slug: each.result
            and (each.result.numeric_result or each.result.boolean_result)
            for each in row.task_results
        }
        for row in board.rows
    }
    assert found == {
        "four": {"adds": True, "scores": NumericResult(value=0.25)},
        "wrong": {"adds": False},
        "thinker-high-reasoning-effort": {"scores": NumericResult(value=0.25)},
    }
    with pytest.raises(NotFound):
        await client.leaderboard("somebody", "board")
