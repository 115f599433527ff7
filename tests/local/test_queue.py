"""The queue of the local server, which is that of all its runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fanbench import Client
from fanbench.errors import BadRequest, NotFound
from fanbench.wire import protocol
from fanbench.wire.messages import (
    BatchScheduleRequest,
    BatchScheduleResponse,
    RunState,
    SkipPolicy,
    TaskSlug,
)
from fanbench.wire.queue import IN_PROGRESS, Enqueue

from .server_process import ServerProcess, push, run_server_with_fake_sdk, task_source
from .test_hostile_tasks import only_when_run

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

ALL = Enqueue(skip=SkipPolicy.ALL, benchmark="local/board")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with run_server_with_fake_sdk(tmp_path_factory.mktemp("queue"), "--workers", "1") as server:
        yield server


async def test_runs_beside_each_other(client: Client, server: ServerProcess) -> None:
    """Of one model, ALL takes several runs; the status counts them until they have ended or are cancelled."""
    await push(client, "beside", task_source("beside", only_when_run("import time\ntime.sleep(60)")))
    await push(client, "other", task_source("other", "return True"))
    await client.add_tasks("board", ["beside"])
    for _ in range(2):
        (result,) = await client.schedule_runs("beside", ["wrong"], enqueue=ALL)
        assert result.run_scheduled
    for enqueue in (None, Enqueue(), Enqueue(skip=SkipPolicy.STALER_THAN, stale_after=0.0)):
        (result,) = await client.schedule_runs("beside", ["wrong"], enqueue=enqueue)
        assert result.run_skipped_reason == IN_PROGRESS
    status = await client.queue_status()
    assert sum(each.count for each in status.state_counts) == 2
    assert status.settings is not None
    assert (status.settings.enabled, status.settings.max_concurrency) == (True, 1)
    (model,) = status.model_version_stats
    models = {each.version.id: each.slug for each in await client.list_models() if each.version}
    assert models[model.benchmark_model_version_id] == "wrong"
    assert [each.benchmark_name for each in status.benchmark_stats] == ["board"]
    await client.cancel_runs("beside", include_active=True)
    assert (await client.queue_status()).model_version_stats == []
    with pytest.raises(BadRequest, match="does not have the task other"):
        await client.schedule_runs("other", ["wrong"], enqueue=ALL)
    with pytest.raises(NotFound, match="Benchmark not found"):
        await client.schedule_runs("other", ["wrong"], enqueue=Enqueue(benchmark="somebody/board"))
    await client.schedule_runs("other", ["four"])
    await client.wait("other")
    status = await client.queue_status()
    assert [(each.state, each.count) for each in status.recent_state_counts] == [(RunState.COMPLETED, 1)]
    assert [(each.benchmark_id, each.benchmark_name) for each in status.benchmark_stats] == [(0, "")]


async def test_terms_without_the_queue_are_refused(client: Client, server: ServerProcess) -> None:
    """A request that says how to enqueue, but not that it does, is refused as Kaggle's documentation says."""
    await push(client, "terms", task_source("terms", "return True"))
    request = BatchScheduleRequest(
        task_slugs=[TaskSlug(task_slug="terms")],
        model_version_slugs=["four"],
        skip_policy=SkipPolicy.MISSING_ONLY,
    )
    with pytest.raises(BadRequest, match="only for enqueue"):
        await client.transport.call(protocol.SCHEDULE_RUNS, request, BatchScheduleResponse)
    assert [run async for run in client.list_runs("terms")] == []
