"""Runs are cancelled on a real server: those that are queued, and those whose processes run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from fanbench import Client
from fanbench.errors import BadRequest, NotFound
from fanbench.tasks import to_notebook
from fanbench.wire import protocol
from fanbench.wire.messages import (
    CancelRunsRequest,
    CancelRunsResponse,
    CreationState,
    ModelVersionCandidate,
    Run,
    RunState,
    TaskSlug,
    TaskSlugs,
)

from .server_process import (
    ServerProcess,
    command_line,
    print_pid,
    printed_pid,
    push,
    run_server,
    run_server_with_fake_sdk,
    task_source,
)
from .test_hostile_tasks import only_when_run

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with one worker, so that the second run waits for the first."""
    with run_server_with_fake_sdk(tmp_path_factory.mktemp("cancel"), "--workers", "1") as server:
        yield server


async def runs_of(client: Client, slug: str, version: int = 0) -> list[Run]:
    return [run async for run in client.list_runs(slug, version=version)]


async def sleeping(client: Client, server: ServerProcess, slug: str) -> tuple[Run, int, Run]:
    """Push a task that sleeps, and run it on two models: the running run, its process, and the queued run."""
    body = only_when_run(f"import os, time\n{print_pid()}\ntime.sleep(60)")
    task = await push(client, slug, task_source(slug, body))
    assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
    results = await client.schedule_runs(slug, ["wrong", "slow"])
    running, queued = await runs_of(client, slug)
    assert [result.run_id for result in results] == [running.id, queued.id]
    return running, await printed_pid(server.data / f"logs/{running.id}.jsonl"), queued


async def test_queued_runs_are_cancelled_by_default(client: Client, server: ServerProcess) -> None:
    """Without `include_active`, runs that have begun go on; the others are not listed any more, and never begin."""
    running, pid, queued = await sleeping(client, server, "queued")
    assert await client.cancel_runs("queued") == CancelRunsResponse(queued_cancelled_count=1)
    assert [run.id for run in await runs_of(client, "queued")] == [running.id]
    assert command_line(pid)
    assert await client.cancel_runs("queued", include_active=True) == CancelRunsResponse(
        active_terminated_count=1
    )
    assert not (server.data / f"logs/{queued.id}.jsonl").exists()


async def test_the_processes_of_running_runs_are_gone(client: Client, server: ServerProcess) -> None:
    """When the answer comes, the processes have ended, and the model may be scheduled again."""
    running, pid, queued = await sleeping(client, server, "running")
    answer = await client.cancel_runs(run_ids=[running.id, queued.id, 10**12, -1], include_active=True)
    assert answer == CancelRunsResponse(queued_cancelled_count=1, active_terminated_count=1)
    assert not command_line(pid)
    assert await runs_of(client, "running") == []
    log = "".join([entry.data async for entry in client.logs(running.id)])
    assert "pid" in log
    (again,) = await client.schedule_runs("running", ["wrong"])
    assert again.run_scheduled
    await client.cancel_runs("running", include_active=True)


async def test_only_what_was_asked_for_is_cancelled(client: Client, server: ServerProcess) -> None:
    """A model, a version and an agent narrow the runs down; a run that has ended cannot be cancelled."""
    running, _, queued = await sleeping(client, server, "narrow")
    assert await client.cancel_runs("narrow", agent="somebody", include_active=True) == CancelRunsResponse()
    answer = await client.cancel_runs("narrow", model="wrong", effort="high", include_active=True)
    assert answer == CancelRunsResponse()
    answer = await client.cancel_runs("narrow", model="test/slow", include_active=True)
    assert answer == CancelRunsResponse(queued_cancelled_count=1)
    assert [run.id for run in await runs_of(client, "narrow")] == [running.id]
    await client.create_task("narrow", to_notebook(task_source("narrow", "return True")))
    answer = await client.cancel_runs("narrow", include_active=True)
    assert answer == CancelRunsResponse(active_terminated_count=1)
    assert await client.cancel_runs(run_ids=[running.id, queued.id], include_active=True) == (
        CancelRunsResponse()
    )


async def test_an_unclear_request_cancels_nothing(client: Client, server: ServerProcess) -> None:
    """Unknown tasks are refused, and so is a request without tasks and run ids, which would match all runs."""
    with pytest.raises(NotFound):
        await client.cancel_runs("nothing")
    slugs = TaskSlugs(slugs=[TaskSlug(task_slug="queued")])
    for nameless in (ModelVersionCandidate(), ModelVersionCandidate(reasoning_effort="low")):
        request = CancelRunsRequest(task_slugs=slugs, model_version=nameless)
        with pytest.raises(BadRequest, match="names no model"):
            await client.transport.call(protocol.CANCEL_RUNS, request, CancelRunsResponse)
    with pytest.raises(BadRequest, match="either taskSlugs or runIds"):
        await client.transport.call(
            protocol.CANCEL_RUNS, CancelRunsRequest(include_active=True), CancelRunsResponse
        )


async def test_a_cancelled_run_does_not_come_back(tmp_path: Path, fake_sdk: None) -> None:
    """The next server on the data folder does not carry out what was cancelled, and does not list it."""
    data = tmp_path / "data"
    with run_server(data, "--workers", "1") as server:
        async with server.client() as client:
            await sleeping(client, server, "gone")
            await client.cancel_runs("gone", include_active=True)
        server.kill()
    with run_server(data, models=None) as server:
        async with server.client() as client:
            assert await runs_of(client, "gone") == []
            body = task_source("after", "return True")
            await push(client, "after", body)
            await client.schedule_runs("after", ["four"])
            with anyio.fail_after(30):
                while (await runs_of(client, "after"))[0].state is not RunState.COMPLETED:
                    await anyio.sleep(0.05)
    assert len(list((data / "runs").iterdir())) == 2
