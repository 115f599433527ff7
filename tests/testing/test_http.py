"""A real client meets the same Kaggle over HTTP, on a socket or on a transport, as a caller in the process."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from fanbench import (
    Anonymous,
    BadRequest,
    Client,
    Config,
    ConnectionFailed,
    NotFound,
    RateLimited,
    ServerFault,
)
from fanbench.testing import (
    Fault,
    RunScript,
    Scenario,
    SimulatedKaggle,
    SimulatedTransport,
    run_in_virtual_time,
    serve,
)
from fanbench.wire.downloads import BadZip
from fanbench.wire.messages import Citation, Leaderboard, LeaderboardRow, LogEntry, RunState, SkipPolicy
from fanbench.wire.metadata import Metadata
from fanbench.wire.queue import Enqueue
from fanbench.wire.retry import RetryPolicy
from tests.e2e.kagglesdk_calls import classes, objections

WAYS = ["in process", "transport", "socket"]
ONCE = RetryPolicy(attempts=1, connect_attempts=1)


@asynccontextmanager
async def connected(kaggle: SimulatedKaggle, way: str) -> AsyncIterator[Any]:
    """A caller of `kaggle`: itself, or a real client."""
    match way:
        case "in process":
            yield kaggle
        case "transport":
            async with Client(kaggle.config, http=SimulatedTransport(kaggle), retry=ONCE) as client:
                yield client
        case _:
            with serve(kaggle) as server:
                async with Client(Config(server.url, Anonymous()), retry=ONCE) as client:
                    yield client


async def everything(client: Any, folder: Path) -> list[object]:
    """Make every call, and return everything that a caller can learn except times."""
    seen: list[object] = []

    async def learn(call: Awaitable[Any]) -> None:
        try:
            seen.append(await call)
        except (NotFound, BadRequest, ServerFault, RateLimited, BadZip, ConnectionFailed) as error:
            seen.append(type(error))

    async def log(run_id: int) -> str:
        return "".join([entry.data async for entry in client.logs(run_id)])

    await learn(client.get_task("t"))
    pushed = await client.create_task("t", '{"cells": []}', datasets=["me/data"])
    shown = await client.get_task("t")
    seen.extend((task.slug, task.creation_state, task.options) for task in (pushed, shown))
    for models in (["a", "b"], ["a", "skipped"], ["unknown"]):
        await learn(client.schedule_runs("t", models))
    await learn(log(1001))
    await learn(log(7))
    while not all([run.state.terminal async for run in client.list_runs("t")]):
        await anyio.sleep(0.05)
    await learn(log(1001))
    for source in (False, True):
        done = await client.download_output(1001, folder / "1001", include_source=source)
        seen.append((sorted(done.files), {name: (done.path / name).read_bytes() for name in done.files}))
    await learn(client.cancel_runs(run_ids=[1001], include_active=True))
    await learn(client.schedule_runs("t", ["a"]))
    await learn(client.cancel_runs("t", model="b", include_active=True))
    await learn(client.cancel_runs("t", model="a", effort="high", include_active=True))
    await learn(client.cancel_runs("none"))
    seen.append([run.id async for run in client.list_runs("t", models=["a"])])
    runs = [run async for run in client.list_runs("t", models=["b"])]
    seen.append(
        [(run.id, run.task_slug, run.model_version_slug, run.state, run.error_message) for run in runs]
    )
    for _ in range(3):
        await learn(client.download_output(1002, folder / "1002"))
    seen[-3:] = [outcome if isinstance(outcome, type) else "downloaded" for outcome in seen[-3:]]
    seen += await pages_and_benchmarks(client, learn)
    published = await client.publish_task("t", publish_notebook=True)
    seen.append((published.is_public, published.is_backing_notebook_published))
    seen.append([task.slug async for task in client.list_tasks(regex="^t", status="COMPLETED")])
    seen.append([task.slug async for task in client.list_tasks(status="ERRORED")])
    for call in (
        client.list_models(),
        client.leaderboard("me", "board"),
        client.leaderboard("me", "none"),
        client.task_quota(),
        client.proxy_quotas(),
        client.introspect_token("t"),
        client.schedule_runs("t", ["a", "skipped"], enqueue=Enqueue(skip=SkipPolicy.ALL)),
        client.schedule_runs("t", ["a"], enqueue=Enqueue(benchmark="me/none")),
        client.queue_status(),
        client.delete_task("t"),
        client.delete_task("t"),
    ):
        await learn(call)
    seen.append((await client.create_proxy_token()).token)
    return seen


async def pages_and_benchmarks(
    client: Any, learn: Callable[[Awaitable[Any]], Awaitable[None]]
) -> list[object]:
    """Change what pages say and which tasks are in the benchmark `me/board`."""
    citations = [Citation(title="A", url="a.org"), Citation(title="B", url="ftp://b")]
    seen: list[object] = []
    answer = await client.update_task("t", description="# T", tags=["Reasoning ", "new"], citations=citations)
    seen += [answer.invalid_tags, Metadata.of(answer.task)]
    answer = await client.update_task("t", version=1, provenance="p", description="")
    seen.append(Metadata.of(answer.task))
    for call in (
        client.update_task("t", version=7, provenance="p"),
        client.update_task("t", provenance="p" * 4001),
        client.add_tasks("board", ["t", "t"]),
        client.add_tasks("board", "t", version=1),
        client.add_tasks("none", "t"),
        client.add_tasks("board", "none"),
        client.remove_tasks("board", ["none", "t"], version=2),
    ):
        await learn(call)
    seen.append([task.slug async for task in client.list_tasks(owner="me", benchmark="board")])
    await learn(client.remove_tasks("board", ["none", "t"]))
    seen.append([task.slug async for task in client.list_tasks(owner="me", benchmark="board", version=1)])
    seen.append([task.slug async for task in client.list_tasks(owner="them")])
    return seen


async def read_into(seen: list[str], entries: AsyncIterable[LogEntry]) -> None:
    async for entry in entries:
        seen.append(entry.data)


def a_kaggle() -> SimulatedKaggle:
    output = {"t.run.json": b"{}", "kernel/out.txt": b"out"}
    runs = {
        "a": RunScript(running=0.2, log=((0.0, "a\n"), (0.1, "b\n")), output=output),
        "b": RunScript(running=0.0, end=RunState.ERRORED, error="no", broken_downloads=1, bad_zips=1),
        "skipped": None,
    }
    scenario = Scenario(latency=0.0, creation=0.0, runs=runs, can_delete=True, page_size=1)
    kaggle = SimulatedKaggle(scenario, models=["a", "b", "skipped"])
    kaggle.benchmarks["me", "board"] = []
    kaggle.leaderboards["me", "board"] = Leaderboard(rows=[LeaderboardRow(model_version_name="A")])
    return kaggle


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS[1:])
async def test_every_call_answers_alike(way: str, tmp_path: Path) -> None:
    """Every call has the same answers and errors over HTTP as in the process."""
    answers = []
    for each in ("in process", way):
        async with connected(a_kaggle(), each) as client:
            answers.append(await everything(client, tmp_path / each))
    assert answers[0] == answers[1]


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_faults_are_alike(way: str) -> None:
    """A fault raises the same error in the process and over HTTP, and the call after it succeeds."""
    faults = (
        Fault("get_task", 429, retry_after=0.25),
        Fault("get_task", 503, first=2),
        Fault("get_task", 500, first=3),
        Fault("get_task", first=4),
        Fault("get_task", first=5, raises=NotFound("Gone.", call="GetBenchmarkTask", status=404)),
        Fault("create_task", took_effect=True),
    )
    kaggle = SimulatedKaggle(Scenario(latency=0.0, creation=0.0, faults=faults))
    async with connected(kaggle, way) as client:
        with pytest.raises(ConnectionFailed):
            await client.create_task("t", "{}")
        with pytest.raises(RateLimited) as limited:
            await client.get_task("t")
        assert limited.value.retry_after == 0.25
        for _ in range(2):
            with pytest.raises(ServerFault):
                await client.get_task("t")
        with pytest.raises(ConnectionFailed):
            await client.get_task("t")
        with pytest.raises(NotFound, match="Gone"):
            await client.get_task("t")
        assert (await client.get_task("t")).slug.version_number == 1


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_a_live_log_breaks_alike(way: str) -> None:
    """A log that is cut delivers the lines before the cut, and then raises ConnectionFailed."""
    # A stream breaks off at the next of these times, however late it is opened.
    cuts = tuple(number / 10 for number in range(1, 300))
    script = RunScript(running=60.0, log=((0.0, "a\n"), (50.0, "b\n")), log_cuts=cuts)
    kaggle = SimulatedKaggle(Scenario(latency=0.0, creation=0.0, runs=script))
    async with connected(kaggle, way) as client:
        await client.create_task("t", "{}")
        await client.schedule_runs("t", ["a"])
        seen: list[str] = []
        with pytest.raises(ConnectionFailed):
            await read_into(seen, client.logs(1001))
        assert seen == ["a\n"]


def test_a_client_retries_in_virtual_time() -> None:
    """A client waits as long as the server asks, and no time passes in reality."""
    kaggle = SimulatedKaggle(Scenario(faults=(Fault("get_task", 429, retry_after=30.0),)))
    kaggle.add_task("t")

    async def main() -> None:
        async with Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
            await client.get_task("t")

    run_in_virtual_time(main)
    first, second = kaggle.times("get_task")
    assert 30.0 <= second - first < 40.0


# --- The wire -----------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_vendor_reads_all_answers(tmp_path: Path) -> None:
    """The vendor's own classes know every field of every answer, and write the same JSON."""
    kaggle, exchanges, vendors = a_kaggle(), [], classes()

    class Wiretap(SimulatedTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if response.headers["content-type"] == "application/json":
                body = json.loads(await response.aread())
                exchanges.append((request.url.path.removeprefix("/api/v1/"), response.status_code, body))
            return response

    async with Client(kaggle.config, http=Wiretap(kaggle), retry=ONCE) as client:
        await everything(client, tmp_path)
    kinds = {name for name, status, _ in exchanges if status == 200}
    assert len(kinds) == 20
    assert kinds - vendors.keys() == {"benchmarks.BenchmarkTasksApiService/DeleteBenchmarkTask"}
    for name, status, body in exchanges:
        if status != 200:
            assert (set(body), body["code"]) == ({"code", "message"}, status)
        elif name in vendors and vendors[name].answer is not None:
            assert list(objections(body, vendors[name].answer)) == []
            assert vendors[name].answer.from_dict(body).to_dict() == body


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_invalid_requests_are_refused(prefix: str) -> None:
    """An unknown call is not found, and a body that is not the call's message is a bad request."""
    with serve(SimulatedKaggle()) as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
            unknown = await http.post(f"{prefix}/benchmarks.BenchmarkTasksApiService/Nothing", json={})
            assert unknown.status_code == 404
            path = f"{prefix}/benchmarks.BenchmarkTasksApiService/GetBenchmarkTask"
            for body in (b"no JSON", b'{"slug": 3}'):
                assert (await http.post(path, content=body)).status_code == 400
            assert (await http.post(path, json={"slug": {"taskSlug": "t"}})).status_code == 404


def test_a_server_follows_the_systems_clock() -> None:
    """A server continues the simulation in real time, and any thread may read its clock."""
    kaggle = SimulatedKaggle()
    run_in_virtual_time(lambda: anyio.sleep(kaggle.now() + 100.0))
    before = kaggle.now()
    with serve(kaggle):
        time.sleep(0.05)
        assert before + 0.05 <= kaggle.now() < before + 60.0
    assert kaggle.now() < before + 60.0


def test_a_port_that_is_taken() -> None:
    """A server that cannot listen raises the system's error in the caller."""
    with serve(SimulatedKaggle()) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), serve(SimulatedKaggle(), port=port):
            pass
