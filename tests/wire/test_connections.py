"""The client on real sockets: servers that are down, connections that break, limits, and its life cycle."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from fanbench import Anonymous, Bearer, Client, Config, ConnectionFailed, Unauthorized
from fanbench.local.address import LocalServer
from fanbench.wire.retry import RetryPolicy
from tests.wire.conftest import TOKEN, Connect
from tests.wire.fake_server import CUT, Answer, FakeServer, Script, problem

pytestmark = pytest.mark.anyio

TASK = {"slug": {"ownerSlug": "me", "taskSlug": "a", "versionNumber": 2}}
ONCE = RetryPolicy(attempts=1)


async def test_a_server_that_is_down() -> None:
    """The error of a refused connection names the endpoint, the reason, and what to check."""
    with FakeServer({}) as server:
        url = server.url
    async with Client(Config(url, Bearer(TOKEN)), retry=ONCE) as client:
        with pytest.raises(ConnectionFailed, match=f"Cannot connect to {url} for GetBenchmarkTask") as caught:
            await client.get_task("a")
    assert "refused" in str(caught.value)
    assert caught.value.endpoint == url
    assert caught.value.hint


async def test_a_host_that_does_not_exist() -> None:
    """A host name that cannot be resolved is a failed connection."""
    async with Client(Config("http://nowhere.invalid", Bearer(TOKEN)), retry=ONCE) as client:
        with pytest.raises(ConnectionFailed, match=r"Cannot connect to http://nowhere\.invalid"):
            await client.get_task("a")


@pytest.mark.parametrize("body", [[CUT], [b'{"slug": ', CUT]])
async def test_a_broken_answer_is_asked_for_again(connect: Connect, body: list[Any]) -> None:
    """If the connection breaks in the middle of an answer, the call is repeated."""
    with FakeServer({"GetBenchmarkTask": [Answer(body, length=100), Answer(TASK)]}) as server:
        async with connect(server) as client:
            assert (await client.get_task("a")).slug.task_slug == "a"
    assert len(server.requests) == 2


async def test_a_body_that_is_too_short() -> None:
    """An answer shorter than its Content-Length is a broken connection."""
    with FakeServer({"GetBenchmarkTask": [Answer([b"{}", CUT], length=50)]}) as server:
        async with Client(Config(server.url, Bearer(TOKEN)), retry=ONCE) as client:
            with pytest.raises(ConnectionFailed, match="broke off in GetBenchmarkTask"):
                await client.get_task("a")


async def test_cookies_are_sent_back(connect: Connect) -> None:
    """A cookie that an answer sets is sent with the next request; without one, no cookies are sent."""
    answers = [Answer(TASK), Answer(TASK, headers={"Set-Cookie": "server=3; Path=/"}), Answer(TASK)]
    with FakeServer({"GetBenchmarkTask": answers}) as server:
        async with connect(server) as client:
            for _ in range(4):
                await client.get_task("a")
    sent = [request.headers.get("Cookie") for request in server.requests]
    assert sent == [None, None, "server=3", "server=3"]


# --- Limits ---


async def test_concurrency_is_bounded() -> None:
    """However many calls are made, at most `concurrency` are in flight."""
    with FakeServer({"GetBenchmarkTask": [Answer(TASK, delay=0.02)]}) as server:
        async with (
            Client(Config(server.url, Bearer(TOKEN), concurrency=3)) as client,
            anyio.create_task_group() as group,
        ):
            for _ in range(12):
                group.start_soon(client.get_task, "a")
    assert len(server.requests) == 12
    assert server.most_at_once == 3


async def test_cancelled_calls_release_their_slot(connect: Connect) -> None:
    """A cancelled call does not keep its slot."""
    with FakeServer({"GetBenchmarkTask": [Answer(TASK, delay=30)]}) as server:
        async with connect(server) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get_task, "a")
                with anyio.fail_after(30):
                    while not server.requests:  # it waits for the answer from then on
                        await anyio.sleep(0.01)
                assert client.transport.limits.calls.borrowed_tokens == 1
                tasks.cancel_scope.cancel()
            assert client.transport.limits.calls.borrowed_tokens == 0


async def test_a_client_must_be_open() -> None:
    """A call on a client that is not open raises an error that explains how to open it."""
    client = Client(Config("http://x", Anonymous()))
    with pytest.raises(RuntimeError, match="async with"):
        await client.get_task("a")


async def test_a_client_can_be_opened_again(connect: Connect) -> None:
    """A client can be opened again after its block."""
    with FakeServer({"GetBenchmarkTaskQuota": [Answer({})]}) as server:
        client = connect(server)
        for _ in range(2):
            async with client:
                await client.task_quota()
    assert len(server.requests) == 2


async def test_proxies_are_not_used_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy set in the environment is not used for a server on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with FakeServer({"GetBenchmarkTaskQuota": [Answer({})]}) as server:
        async with Client(Config(server.url, Anonymous()), retry=ONCE) as client:
            await client.task_quota()
    assert len(server.requests) == 1


def test_opening_a_client_does_not_load_rich() -> None:
    """The first client imports httpx without its command line, whose modules can still be imported later."""
    code = (
        "import asyncio, sys; from fanbench import Anonymous, Client, Config\n"
        "async def main():\n"
        "    async with Client(Config('http://localhost', Anonymous())): pass\n"
        "asyncio.run(main()); print('rich' in sys.modules); import httpx._main"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("other", ["nobody", "another server"])
async def test_a_local_server_is_followed_to_its_new_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """If nobody, or another server, is at the old port, all calls go on where the data folder's server listens now.

    Calls that must not be made twice do so, too, and one look is enough for all that are in flight.
    """
    looks = 0
    calls_of = ("GetBenchmarkTask", "CreateBenchmarkTask")
    answers: Script = {call: [Answer(TASK)] * 3 for call in calls_of}
    with ExitStack() as servers:
        old = servers.enter_context(FakeServer({call: [problem(401)] * 3 for call in calls_of}))
        new = servers.enter_context(FakeServer(answers))
        if other == "nobody":
            with FakeServer({}) as old:
                pass

        async def ensure_server(data: Path) -> LocalServer:
            nonlocal looks
            looks += 1
            return LocalServer(new.url, TOKEN, started=False, pid=1, data=data, stop_timeout=5)

        monkeypatch.setattr("fanbench.local.launcher.ensure_server", ensure_server)
        config = Config(old.url, Bearer(TOKEN), local_data=tmp_path)
        async with Client(config, retry=ONCE) as client, anyio.create_task_group() as calls:
            for number in range(3):
                calls.start_soon(client.get_task, f"a{number}")
                calls.start_soon(client.create_task, f"b{number}", "{}")
    assert len(new.requests) == 6
    assert looks == 1


async def test_a_local_server_is_started_again_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends after each start is started five times, and then its end is an error."""
    started: list[LocalServer] = []

    async def ensure_server(data: Path) -> LocalServer:
        with FakeServer({}) as server:
            return LocalServer(server.url, TOKEN, started=True, pid=1, data=data, stop_timeout=5)

    monkeypatch.setattr("fanbench.local.launcher.ensure_server", ensure_server)
    with FakeServer({}) as gone:
        config = Config(gone.url, Bearer(TOKEN), local_data=tmp_path)
    async with Client(config, retry=ONCE, started=started.append) as client:
        for _ in range(8):
            with pytest.raises(ConnectionFailed, match="refused"):
                await client.get_task("a")
    assert len(started) == 5


async def test_a_token_that_a_local_server_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server is still where it was, a refused token is an error, whose hint is to leave the option out."""
    with FakeServer({"GetBenchmarkTask": [problem(401)]}) as server:

        async def ensure_server(data: Path) -> LocalServer:
            return LocalServer(server.url, "other", started=False, pid=1, data=data, stop_timeout=5)

        monkeypatch.setattr("fanbench.local.launcher.ensure_server", ensure_server)
        async with Client(Config(server.url, Bearer(TOKEN), local_data=tmp_path), retry=ONCE) as client:
            with pytest.raises(Unauthorized) as caught:
                await client.get_task("a")
    assert len(server.requests) == 1
    assert "Leave out --token" in str(caught.value.hint)
