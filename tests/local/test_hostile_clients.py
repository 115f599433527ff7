"""Clients that misbehave: the server answers the others all the while, and says what it refuses."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
import uvicorn
from anyio.abc import SocketStream
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fanbench.local import connections, wire
from fanbench.local.app import CALLS
from fanbench.local.connections import limited_to
from fanbench.local.origins import refusal
from fanbench.tasks import to_notebook
from fanbench.wire import protocol

from .server_process import TASK, ServerProcess, run_server

pytestmark = pytest.mark.anyio

OPEN_FILES = 160


@pytest.fixture(scope="module")
def frugal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that may open few files."""
    data = tmp_path_factory.mktemp("frugal") / "data"
    options = ["--workers", "2", "--stop-timeout", "0"]
    with run_server(data, *options, runs=False, open_files=OPEN_FILES) as server:
        yield server


@pytest.fixture
async def http(frugal: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {frugal.address.token}"}
    async with httpx.AsyncClient(base_url=frugal.address.url, headers=headers, timeout=60) as client:
        yield client


def path_of(call: protocol.Call) -> str:
    return f"/api{call.path}"


# --- Sockets ------------------------------------------------------------------------------------------------


async def test_idle_sockets_keep_nobody_out(frugal: ServerProcess, http: httpx.AsyncClient) -> None:
    """With more idle sockets than the server may open files, it answers, and does not run out of files."""
    host, port = frugal.address.url.removeprefix("http://").split(":")
    with ExitStack() as idle:
        for _ in range(2 * OPEN_FILES):
            idle.enter_context(socket.create_connection((host, int(port)), timeout=60))
        for _ in range(3):
            assert (await http.post(path_of(protocol.LIST_MODELS), json={})).status_code == 200
        assert len([*Path(f"/proc/{frugal.address.pid}/fd").iterdir()]) < OPEN_FILES
    assert "out of system resource" not in (frugal.data / "server.log").read_text()


def test_too_few_files_are_an_error_at_the_start(tmp_path: Path) -> None:
    """Where the system allows too few open files, the server does not start, and says how many it needs."""
    command = [sys.executable, "-m", "fanbench", "serve", "--data", str(tmp_path / "data"), "--port", "0"]
    limited = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *command, "--workers", "2"]
    refused = subprocess.run(limited, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "The system allows 64 open files, and a server with 2 workers needs 116." in refused.stderr
    assert "ulimit -n 1024" in refused.stderr


@asynccontextmanager
async def serving(limit: int) -> AsyncIterator[int]:
    """The port of a server in this process, with at most `limit` connections."""

    async def flood(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * (1 << 16)
                await anyio.lowlevel.checkpoint()

        return StreamingResponse(pieces())

    async def body(request: Request) -> Response:
        try:
            return PlainTextResponse(str(len(await wire.read_body(request))))
        except wire.WireError as error:
            return PlainTextResponse(error.message, status_code=error.status)

    routes = [Route("/", PlainTextResponse("hello")), Route("/flood", flood)]
    config = uvicorn.Config(
        Starlette(routes=[*routes, Route("/body", body, methods=["POST"])]),
        lifespan="off",
        log_config=None,
        http=limited_to(limit),
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        try:
            yield listener.getsockname()[1]
        finally:
            await server.shutdown(sockets=[listener])


async def is_closed(stream: SocketStream) -> bool:
    """Read what is left; whether the other end closes within five seconds."""
    with anyio.move_on_after(5):
        try:
            while True:
                await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True
    return False


@pytest.mark.parametrize(
    "words",
    [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGE"],
    ids=["silent", "half-a-head", "after-an-answer"],
)
async def test_a_socket_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    """A connection ends if the head of a request does not come, at its beginning or after an answer."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    async with serving(10) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        if words:
            await stream.send(words)
        assert await is_closed(stream)


async def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection ends if the client reads nothing of its answer for a while."""
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
    async with serving(10) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await anyio.sleep(1)  # our buffers are full after a moment, and its timer runs from then on
        assert await is_closed(stream)


async def test_a_body_that_drips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time gives 408, however steadily it comes."""
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.3)
    async with serving(10) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        received = b""
        with anyio.fail_after(60):
            while not received:
                await stream.send(b"x")
                with anyio.move_on_after(0.05):
                    received = await stream.receive()
    assert b"408" in received.splitlines()[0]


async def test_the_oldest_unused_connection_gives_way() -> None:
    """At the limit a new connection ends the one that is unused for longest, and never one with an answer."""
    async with serving(3) as port:
        streams = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(3)]
        await streams[0].send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await streams[0].receive()
        streams.append(await anyio.connect_tcp("127.0.0.1", port))
        with anyio.fail_after(60):
            assert await is_closed(streams[1])
            for stream in streams[2:]:
                await stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200" in await stream.receive()
            await streams[0].receive()
        for stream in streams:
            await anyio.aclose_forcefully(stream)


# --- Requests -----------------------------------------------------------------------------------------------

NESTED = ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.path.rpartition("/")[2])
async def test_deep_json_is_refused_by_every_call(http: httpx.AsyncClient, call: protocol.Call) -> None:
    """JSON that is nested 100,000 deep gives 400, wherever it is in the request."""
    for nested in NESTED:
        for body in (nested, f'{{"unknown": {nested}}}', f'{{"slug": {nested}}}'):
            response = await http.post(path_of(call), content=body)
            expected = 413 if call is protocol.INTROSPECT_TOKEN else 400
            assert (response.status_code, response.json()["code"]) == (expected, expected), body[:30]


async def test_deep_json_is_refused_within_a_task(http: httpx.AsyncClient) -> None:
    """A notebook that is nested 100,000 deep gives 400."""
    for nested in NESTED:
        response = await http.post(path_of(protocol.CREATE_TASK), json={"slug": "deep", "text": nested})
        assert response.status_code == 400, response.text


async def test_deep_json_is_refused_by_the_model_proxy(http: httpx.AsyncClient) -> None:
    """JSON that is nested 100,000 deep gives 400 through both APIs of the Model Proxy."""
    token = (await http.post(path_of(protocol.CREATE_PROXY_TOKEN), json={})).json()["token"]
    headers = {"authorization": f"Bearer {token}"}
    chat = '"model": "test/four", "messages": [{"role": "user", "content": "hi"}]'
    paths = {
        "/models/openapi/chat/completions": chat,
        "/models/genai/v1/models/test/four:generateContent": '"contents": [{"parts": [{"text": "hi"}]}]',
    }
    for path, fields in paths.items():
        assert (await http.post(path, content=f"{{{fields}}}", headers=headers)).status_code == 200
        for nested in NESTED:
            for body in (nested, f'{{{fields}, "tools": {nested}}}', f'{{{fields}, "unknown": {nested}}}'):
                response = await http.post(path, content=body, headers=headers)
                assert response.status_code == 400, response.text
                assert response.json()["error"]["message"]


async def test_without_a_token_little_is_read(frugal: ServerProcess) -> None:
    """A large body without a valid token is refused before most of it has been sent, by every route that takes one."""
    paths = [path_of(call) for call in CALLS]
    paths += ["/models/openapi/chat/completions", "/models/genai/v1/models/test/four:generateContent"]
    host, port = frugal.address.url.removeprefix("http://").split(":")
    for path in paths:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {60 << 20}\r\n\r\n"
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(head.encode() + b" " * (wire.MAX_BODY_OF_STRANGERS + 1))
            with anyio.fail_after(60):
                answer = await stream.receive()
        assert answer.split()[1] in (b"401", b"413"), path


async def test_no_expression_freezes_the_server(http: httpx.AsyncClient) -> None:
    """An expression that takes other engines for ever is answered at once, and an invalid one is explained."""
    await http.post(path_of(protocol.CREATE_TASK), json={"slug": "a" * 40, "text": to_notebook(TASK)})
    for expression, count in (("(a|a)*b", 0), ("(a*)*$", 1), ("^a+$", 1), ("", 1)):
        response = await http.post(path_of(protocol.LIST_TASKS), json={"regexFilter": expression})
        assert response.json().get("totalResults", 0) == count, response.text
    for expression in ("(", "(a{1000}){1000}", r"(a)\1"):
        response = await http.post(path_of(protocol.LIST_TASKS), json={"regexFilter": expression})
        assert response.status_code == 400
        assert "is not a regular expression" in response.json()["message"]


# --- Pages of others ----------------------------------------------------------------------------------------

NAMED = "bench.example"


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("127.0.0.1:7777", None, True),
        ("localhost:7777", None, True),
        ("LOCALHOST", None, True),
        ("tasks.localhost:1", None, True),
        ("[::1]:7777", None, True),
        ("192.168.0.9:7777", None, True),
        (NAMED, None, True),
        ("Bench.Example.:7777", None, True),
        ("attacker.example:7777", None, False),
        ("127.0.0.1.attacker.example", None, False),
        ("localhost.attacker.example", None, False),
        ("xlocalhost", None, False),
        ("[::1", None, False),
        ("127.0.0.1:7777", "http://127.0.0.1:7777", True),
        ("localhost:7777", "https://localhost:7777", True),
        ("127.0.0.1:7777", "http://127.0.0.1:8888", False),
        ("127.0.0.1:7777", "http://attacker.example", False),
        ("attacker.example", "http://attacker.example", False),
        ("127.0.0.1:7777", "null", False),
        ("127.0.0.1:7777", "", False),
    ],
)
def test_only_pages_of_this_server_may_use_it(host: str, origin: str | None, allowed: bool) -> None:
    """A name that is not the server's, and an origin that is not the host, are refused."""
    headers = {"host": host} | ({"origin": origin} if origin is not None else {})
    assert (refusal(Headers(headers), {NAMED}) is None) == allowed


async def test_every_route_refuses_pages_of_others(http: httpx.AsyncClient, frugal: ServerProcess) -> None:
    """Whatever the route and the token, a wrong Host or Origin gives 403."""
    posts = [path_of(call) for call in CALLS]
    posts += ["/models/openapi/chat/completions", "/models/genai/v1/models/test/four:generateContent"]
    requests = [("POST", path) for path in posts]
    requests += [("GET", "/"), ("GET", "/health"), ("GET", "/benchmarks/tasks/local/t"), ("GET", "/nowhere")]
    for bad in ({"host": "attacker.example"}, {"origin": "http://attacker.example"}):
        for method, path in requests:
            response = await http.request(method, path, json={}, headers=bad)
            assert (response.status_code, response.json()["code"]) == (403, 403), path
    own = {"origin": frugal.address.url}
    assert (await http.post(path_of(protocol.LIST_MODELS), json={}, headers=own)).status_code == 200
