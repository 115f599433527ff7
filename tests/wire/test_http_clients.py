"""The HTTP clients of a transport: how many there are, which is used next, and what making one costs."""

from __future__ import annotations

import ssl
from contextlib import ExitStack, suppress

import httpx
import pytest

from fanbench import Bearer, Client, Config, ConnectionFailed, NotFound, UsageError
from fanbench.wire.http_clients import HttpClients
from fanbench.wire.retry import RetryPolicy
from tests.wire.fake_server import Answer, FakeServer, Request


class Made:
    """A factory that keeps the clients it made."""

    def __init__(self) -> None:
        self.clients: list[httpx.AsyncClient] = []

    def __call__(self) -> httpx.AsyncClient:
        self.clients.append(httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))))
        return self.clients[-1]


@pytest.mark.parametrize(("shared", "at_once", "count"), [(False, 1, 1), (False, 3, 3), (True, 9, 1)])
@pytest.mark.anyio
async def test_each_request_has_a_client_of_its_own(shared: bool, at_once: int, count: int) -> None:
    """No two requests at a time have the same client, unless a single client is shared by all."""
    made = Made()
    clients = HttpClients(made, shared=shared)
    with ExitStack() as requests:
        taken = [requests.enter_context(clients.one()) for _ in range(at_once)]
    assert len(made.clients) == count
    assert len(set(map(id, taken))) == count
    with ExitStack() as requests:
        again = [requests.enter_context(clients.one()) for _ in range(at_once)]
    assert len(made.clients) == count
    assert sorted(map(id, again)) == sorted(map(id, taken))
    await clients.aclose()
    assert all(client.is_closed for client in made.clients)


@pytest.mark.anyio
async def test_the_client_used_last_is_used_next() -> None:
    """Requests that do not overlap use the same client, also after a failure."""
    made = Made()
    clients = HttpClients(made)
    with clients.one(), clients.one():
        pass
    taken = []
    for _ in range(5):
        with suppress(ZeroDivisionError), clients.one() as client:
            taken.append(client)
            raise ZeroDivisionError
    assert len(made.clients) == 2
    assert len(set(map(id, taken))) == 1
    await clients.aclose()


@pytest.mark.anyio
async def test_a_host_that_cannot_exist() -> None:
    """An endpoint that only the HTTP library finds invalid is a usage error, too."""
    with pytest.raises(UsageError, match="is not an endpoint"):
        async with Client(Config("http://☃.net", Bearer("t"))):
            pass


class Closable(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(404)

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.anyio
async def test_given_transport_is_closed_once() -> None:
    """A transport given by the caller serves all calls, and is closed once at the end."""
    transport = Closable()
    async with Client(Config("http://server", Bearer("t")), http=transport) as client:
        for _ in range(3):
            with pytest.raises(NotFound):
                await client.get_task("t")
        assert transport.closed == 0
    assert transport.closed == 1


@pytest.mark.anyio
async def test_plain_http_loads_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of a plain HTTP server on this machine loads the certificates only to follow a redirect to HTTPS."""
    loaded: list[bool] = []
    load = httpx.create_ssl_context

    def counted(trust_env: bool) -> ssl.SSLContext:
        loaded.append(trust_env)
        return load(trust_env=trust_env)

    monkeypatch.setattr(httpx, "create_ssl_context", counted)

    def redirect(_: Request) -> Answer:
        return Answer(b"", status=302, headers={"Location": server.url.replace("http:", "https:")})

    with FakeServer({"GetBenchmarkTaskQuota": [Answer({})], "GetBenchmarkTaskRunLogs": redirect}) as server:
        async with Client(Config(server.url, Bearer("t")), retry=RetryPolicy(attempts=1)) as client:
            await client.task_quota()
            assert loaded == []
            with pytest.raises(ConnectionFailed):
                await anext(client.logs(1))
    assert loaded == [False]
