"""The vendor's own message classes decode everything that our client sends and our server answers.

Our client makes every call of the protocol on a local server, and all exchanges are recorded.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from fanbench import Client, Enqueue, FanbenchError, SkipPolicy, resolve_config
from fanbench.wire import protocol
from fanbench.wire.messages import Citation
from fanbench.wire.protocol import Call
from tests.e2e.kagglesdk_calls import classes, objections
from tests.local.server_process import TASK, ServerProcess, push, run, task_source

pytestmark = pytest.mark.e2e

CALLS = {f"{call.service}/{call.method}": call for call in vars(protocol).values() if isinstance(call, Call)}
# Kaggle has no such call.
OURS_ONLY = {"benchmarks.BenchmarkTasksApiService/DeleteBenchmarkTask"}
VENDORS = classes()


@dataclass(frozen=True)
class Exchange:
    """One request with its answer, whose body is kept only if it is JSON."""

    name: str
    sent: Any
    status: int
    answer: Any


class Wiretap(httpx.AsyncBaseTransport):
    """Forwards all requests, and records the exchanges."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._below = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent = json.loads(await request.aread())
        response = await self._below.handle_async_request(request)
        name = request.url.path.removeprefix("/api/v1/")
        if "json" not in response.headers["content-type"]:
            self.exchanges.append(Exchange(name, sent, response.status_code, None))
            return response
        body = await response.aread()
        await response.aclose()
        self.exchanges.append(Exchange(name, sent, response.status_code, json.loads(body)))
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    async def aclose(self) -> None:
        await self._below.aclose()


async def _everything(client: Client, token: str, folder: Path) -> None:
    """Make every call, so that every kind of answer of this server occurs."""
    await push(client, "heard", TASK.replace("two-plus-two", "heard"))
    await push(client, "heard", TASK.replace("two-plus-two", "heard"))
    await push(client, "heard-fails", "# %%\n1 / 0")
    body = "print('begun')\nllm.prompt('x')\nreturn True"
    await push(client, "heard-talks", task_source("heard-talks", body))
    runs = await run(client, "heard", "four", "wrong", "test/broken")
    await _read_live_log(client)
    for each in runs:
        _ = [entry async for entry in client.logs(each.id)]
    await client.download_output(runs[0].id, folder / "output")
    await client.download_output(runs[0].id, folder / "output", include_source=True)
    await client.publish_task("heard", publish_notebook=False)
    await client.publish_task("local/heard")
    _ = [task async for task in client.list_tasks(page_size=1)]
    _ = [task async for task in client.list_tasks(include_definition=True)]
    assert (await client.get_task("heard", include_definition=True)).definition
    _ = [task async for task in client.list_tasks(regex="^heard", status="errored")]
    _ = [each async for each in client.list_runs("heard", models=["four", "test/wrong"])]
    await client.schedule_runs("heard", ["thinker"], effort="high")
    _ = [each async for each in client.list_runs("heard", models=["thinker@high"])]
    await client.list_models()
    await client.list_configs()
    await client.task_quota()
    await client.proxy_quotas()
    await client.create_proxy_token()
    await client.introspect_token(token)
    await client.introspect_token("wrong")
    await _cancel(client)
    await _describe(client)
    await client.delete_task("heard-fails")
    for refused in (
        client.leaderboard("me", "none", version=2),
        client.get_task("no-such-task"),
        client.schedule_runs("heard", ["thinker"], effort="extreme"),
        client.schedule_runs("heard", agents=["coder"]),
    ):
        with suppress(FanbenchError):
            await refused


async def _describe(client: Client) -> None:
    """Change the page of a task, and the tasks of a benchmark."""
    citations = [Citation(title="A paper", url="arxiv.org/abs/1"), Citation(title="No URL", url="ftp://x")]
    updated = await client.update_task(
        "heard",
        description="# Sums",
        tags=["Mathematics", "unheard of"],
        provenance="Me",
        citations=citations,
    )
    assert updated.invalid_tags == ["unheard of"]
    await client.update_task("heard", version=1, description="", citations=citations, provenance="")
    await client.add_tasks("talks", ["heard", "heard-talks"])
    await client.add_tasks("talks", ["heard", "heard-fails"], version=1)
    _ = [task async for task in client.list_tasks(owner="local", benchmark="talks", version=1)]
    assert (await client.leaderboard("local", "talks", version=1)).rows
    await _enqueue(client)
    await client.remove_tasks("talks", ["heard", "heard-fails"])
    await client.remove_tasks("talks", "heard", version=1)


async def _enqueue(client: Client) -> None:
    """Put runs into the queue in all ways, and look at it."""
    for enqueue in (
        Enqueue(),
        Enqueue(skip=SkipPolicy.ALL, benchmark="local/talks"),
        Enqueue(skip=SkipPolicy.MISSING_ONLY),
        Enqueue(skip=SkipPolicy.STALER_THAN, stale_after=3600.0),
    ):
        await client.schedule_runs("heard", ["four"], enqueue=enqueue)
    status = await client.queue_status()
    assert status.settings is not None
    assert status.benchmark_stats[0].benchmark_name == "talks"


async def _cancel(client: Client) -> None:
    (scheduled,) = await client.schedule_runs("heard-talks", ["slow"])
    await client.cancel_runs("heard-talks", model="slow", effort="high")
    await client.cancel_runs("heard-talks", agent="an-agent")
    answer = await client.cancel_runs(run_ids=[scheduled.run_id], include_active=True)
    assert answer.queued_cancelled_count + answer.active_terminated_count == 1


async def _read_live_log(client: Client) -> None:
    first, second = [await client.schedule_runs("heard-talks", ["slow"]) for _ in range(2)]
    assert [first[0].run_scheduled, second[0].run_scheduled] == [True, False]
    while True:
        (current,) = [each async for each in client.list_runs("heard-talks")]
        with suppress(FanbenchError):
            _ = [entry async for entry in client.logs(current.id)]
            return
        await anyio.sleep(0.02)  # queued: no log yet


@pytest.fixture(scope="module")
def exchanges(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> list[Exchange]:
    wiretap = Wiretap()
    address = server.address

    async def drive() -> None:
        config = resolve_config(endpoint=address.url, token=address.token, env={})
        async with Client(config, http=wiretap) as client:
            await _everything(client, address.token, tmp_path_factory.mktemp("heard"))

    anyio.run(drive)
    return wiretap.exchanges


def named(exchanges: list[Exchange], name: str) -> list[Exchange]:
    return [exchange for exchange in exchanges if exchange.name == name]


def test_every_call_of_ours_is_one_of_the_vendors() -> None:
    """Services and methods are spelled as in the vendor's SDK."""
    assert set(CALLS) - set(VENDORS) == OURS_ONLY


@pytest.mark.parametrize("name", CALLS)
def test_the_vendor_reads_what_the_client_sends(exchanges: list[Exchange], name: str) -> None:
    """The vendor's class decodes each request completely, and encodes it identically."""
    request = VENDORS["benchmarks.BenchmarkTasksApiService/GetBenchmarkTask" if name in OURS_ONLY else name]
    assert named(exchanges, name)
    for exchange in named(exchanges, name):
        assert list(objections(exchange.sent, request.request)) == []
        assert request.request.from_dict(exchange.sent).to_dict() == exchange.sent


@pytest.mark.parametrize("name", [name for name in CALLS if name in VENDORS and VENDORS[name].answer])
def test_the_vendor_reads_what_the_server_answers(exchanges: list[Exchange], name: str) -> None:
    """Each answer has known fields only, legal values, times with milliseconds, and no defaults."""
    answers = [exchange.answer for exchange in named(exchanges, name) if exchange.status == 200]
    assert answers
    for answer in answers:
        for model in answer.get("benchmarkModels", []):
            model["version"].pop("aliases")  # an addition of the local server, which the vendor ignores
        if definition := answer.get("definition"):
            assert "cells" in definition["notebook"].pop("content")  # so is this
        assert list(objections(answer, VENDORS[name].answer)) == []
        assert VENDORS[name].answer.from_dict(answer).to_dict() == answer


def test_errors_have_a_code_and_a_message(exchanges: list[Exchange]) -> None:
    """Every error is an object with a code, which is the HTTP status, and a message."""
    refused = [exchange for exchange in exchanges if exchange.status >= 400]
    assert {exchange.name.rpartition("/")[2] for exchange in refused} >= {
        "GetBenchmarkLeaderboard",
        "GetBenchmarkTask",
    }
    for exchange in refused:
        assert set(exchange.answer) == {"code", "message"}
        assert exchange.answer["code"] == exchange.status
        assert exchange.answer["message"]


def test_a_log_is_a_list_of_entries(exchanges: list[Exchange]) -> None:
    """The log of a finished run is a list of objects with a stream's name, seconds and text, and nothing else."""
    logs = [
        exchange.answer for exchange in named(exchanges, _path(protocol.GET_LOGS)) if exchange.status == 200
    ]
    kept = [log for log in logs if log is not None]
    assert len(kept) == 3
    for entry in [entry for log in kept for entry in log]:
        assert {name: type(value) for name, value in entry.items()} in _entry_shapes()
        assert entry["stream_name"] in ("stdout", "stderr")


def _entry_shapes() -> list[dict[str, type]]:
    return [{"stream_name": str, "time": kind, "data": str} for kind in (int, float)]


def _path(call: Call) -> str:
    return f"{call.service}/{call.method}"


def test_states_of_every_kind_occur(exchanges: list[Exchange]) -> None:
    """The exchanges include successful and failed, queued, running and finished runs."""
    runs = [
        each
        for exchange in named(exchanges, _path(protocol.LIST_RUNS))
        for each in exchange.answer.get("runs", [])
    ]
    words = {each["state"].rpartition("_")[2] for each in runs}
    assert words >= {"COMPLETED", "ERRORED", "RUNNING"}
    asked = [each for each in named(exchanges, _path(protocol.GET_TASK)) if each.status == 200]
    creations = {exchange.answer["creationState"] for exchange in asked}
    assert {state.rpartition("_")[2] for state in creations} >= {"COMPLETED", "ERRORED"}
    skipped = [
        result
        for exchange in named(exchanges, _path(protocol.SCHEDULE_RUNS))
        for result in exchange.answer.get("results", [])
        if "runSkippedReason" in result
    ]
    assert len(skipped) == 4


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def http(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.address.url) as http:
        yield http


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_both_bases_and_both_schemes_of_credentials(
    server: ServerProcess, http: httpx.AsyncClient, prefix: str
) -> None:
    """Requests below `/v1` and `/api/v1`, with a token or a key, get the same answer."""
    path = f"{prefix}/benchmarks.BenchmarksApiService/ListBenchmarkModels"
    by_token = await http.post(path, json={}, headers={"Authorization": f"Bearer {server.address.token}"})
    by_key = await http.post(path, json={}, auth=("anybody", server.address.token))
    nobody = await http.post(path, json={})
    assert by_token.json() == by_key.json() != {}
    assert nobody.status_code == 401
