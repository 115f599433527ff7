"""Answers of the local server that fail on purpose, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import anyio
import httpx
import pytest

from fanbench import Client, ConnectionFailed, resolve_config
from fanbench.local.folder import DataFolder
from fanbench.local.kept_options import read_options
from fanbench.wire.retry import RetryPolicy

from .server_process import run_server

pytestmark = pytest.mark.anyio

# The answers to the calls of `list_tasks`, in this order.
ANSWERS = [
    'status = 429\nretry_after = "soon"',
    "status = 503\nretry_after_date = 2.0",
    'damage = "reset"',
    'damage = "cut"',
    'damage = "short"',
    'damage = "long"',
    "delay = 0.2",
    'damage = "html"',
    'damage = "clock"\nskew = -86400.0',
    'damage = "drip"\nrate = 1000',
    'damage = "stall"',
    'damage = "flood"',
    'damage = "bomb"',
]
PATH = "/v1/benchmarks.BenchmarkTasksApiService/ListBenchmarkTasks"
FAULTS = "".join(
    f'[[fault]]\ncall = "list_tasks"\nfirst = {number}\n{fault}\n' for number, fault in enumerate(ANSWERS, 1)
)
MORE = """
[[fault]]
call = "create_task"
damage = "reset"
took_effect = true
[[fault]]
call = "model"
status = 429
retry_after = 7
"""


@dataclass
class Faulty:
    """A server with faults: its address, its token, and the file with what it prints."""

    url: str
    token: str
    out: Path


@pytest.fixture
async def faulty(tmp_path: Path) -> AsyncIterator[Faulty]:
    file = tmp_path / "faults.toml"
    file.write_text(FAULTS + MORE)
    with run_server(tmp_path / "data", "--faults", str(file), runs=False) as server:
        yield Faulty(server.address.url, server.address.token, tmp_path / "data.out")


async def test_each_fault_on_a_socket(faulty: Faulty) -> None:
    """Each fault reaches a client on a socket as it is described, one after the other."""
    with anyio.fail_after(60):
        while "answers fail on purpose" not in faulty.out.read_text():
            await anyio.sleep(0.02)
    headers = {"Authorization": f"Bearer {faulty.token}"}
    async with httpx.AsyncClient(base_url=faulty.url, headers=headers, trust_env=False, timeout=60.0) as http:

        async def ask(seconds: float = 60.0) -> httpx.Response:
            return await http.post(PATH, json={}, timeout=seconds)

        limited = await ask()
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "soon")
        busy = await ask()
        sent, again = (parsedate_to_datetime(busy.headers[name]) for name in ("date", "retry-after"))
        assert (busy.status_code, (again - sent).total_seconds()) == (503, 2)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await ask()
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await ask()
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            await ask()
        assert (await ask()).json() == {}
    async with httpx.AsyncClient(base_url=faulty.url, headers=headers, trust_env=False, timeout=60.0) as http:
        began = anyio.current_time()
        assert (await ask()).json() == {}
        assert anyio.current_time() - began >= 0.2
        page = await ask()
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
        old = await ask()
        assert (parsedate_to_datetime(old.headers["date"]) - sent).total_seconds() < -80_000
        assert (await ask()).json() == {}
        with pytest.raises(httpx.ReadTimeout):
            await ask(1.0)
        for _ in range(2):
            async with http.stream("POST", PATH, json={}) as endless:
                size = 0
                async for piece in endless.aiter_bytes():
                    size += len(piece)
                    if size > 20 << 20:
                        break
            assert size > 20 << 20
        assert (await ask()).status_code == 200


async def test_a_lost_answer_of_work_that_was_done(faulty: Faulty, tmp_path: Path) -> None:
    """A reset after the work leaves the task on the server, and a prompt is limited in the shape of its API.

    The next server on the data folder has no faults.
    """
    config = resolve_config(endpoint=faulty.url, token=faulty.token, env={})
    once = RetryPolicy(attempts=1, connect_attempts=1)
    async with Client(config, retry=once) as client:
        with pytest.raises(ConnectionFailed):
            await client.create_task("t", '{"cells": []}')
        assert (await client.get_task("t")).slug.version_number == 1
    async with httpx.AsyncClient(base_url=faulty.url, trust_env=False) as http:
        limited = await http.post("/models/openapi/chat/completions", json={})
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
        assert limited.json()["error"]["code"] == 429
    assert read_options(DataFolder(tmp_path / "data")).faults is None
