"""Proxies from the environment: they are used, and their faults are told from those of the server."""

from __future__ import annotations

import gc
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fanbench import Bearer, Client, Config, ConnectionFailed, CredentialsError, UsageError
from fanbench.errors import FanbenchError
from fanbench.wire.retry import RetryPolicy
from tests.wire.fake_server import Answer, FakeServer

QUOTA = "GetBenchmarkTaskQuota"
PASSWORD = "s3cret-word"
USER = f"me:{PASSWORD}@"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def client(endpoint: str) -> Client:
    return Client(Config(endpoint, Bearer("t")), retry=RetryPolicy(random=lambda: 0.0))


async def failure(endpoint: str) -> FanbenchError:
    with pytest.raises(FanbenchError) as caught:
        async with client(endpoint) as calls:
            await calls.task_quota()
    assert PASSWORD not in f"{caught.value} {caught.value.hint}"
    return caught.value


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on a port of its own that answers each connection with a call of `answer`."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            answer(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def socks5(target: tuple[str, int] | None, password: str = "") -> Callable[[socket.socket], None]:
    """A SOCKS5 proxy (RFC 1928 and 1929) that connects to `target`, whatever is asked for; None is refused."""

    def serve(client: socket.socket) -> None:
        client.recv(2 + client.recv(2, socket.MSG_PEEK)[1])
        client.sendall(b"\x05\x02" if password else b"\x05\x00")
        if password:
            request = client.recv(513)
            good = request.endswith(bytes([len(password)]) + password.encode())
            client.sendall(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        client.recv(300)
        rest = b"\x00\x01" + bytes(6)
        if target is None:
            client.sendall(b"\x05\x05" + rest)
            return
        with socket.create_connection(target) as server:
            client.sendall(b"\x05\x00" + rest)
            back = threading.Thread(target=copy, args=(server, client))
            back.start()
            copy(client, server)
            back.join()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    return serve


def http_answer(status: str) -> Callable[[socket.socket], None]:
    def serve(client: socket.socket) -> None:
        client.recv(1 << 16)
        client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return serve


@pytest.mark.anyio
async def test_calls_pass_through_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls pass through HTTP_PROXY, but for the hosts in NO_PROXY."""
    with FakeServer({QUOTA: [Answer({})]}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with client("http://kaggle.invalid") as calls:
            await calls.task_quota()
        assert len(proxy.requests) == 1
        monkeypatch.setenv("NO_PROXY", "other.invalid, kaggle.invalid")
        assert "http://kaggle.invalid" in str(await failure("http://kaggle.invalid"))
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("password", ["", PASSWORD])
@pytest.mark.anyio
async def test_calls_pass_through_a_socks_proxy(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """Calls pass through a SOCKS5 proxy, with or without a password; the proxy resolves the server's name."""
    pytest.importorskip("socksio")
    with FakeServer({QUOTA: [Answer({})]}) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with listening(socks5((host, int(port)), password)) as proxy:
            user = f"me:{password}@" if password else ""
            for scheme in ("socks5", "socks5h"):
                monkeypatch.setenv("ALL_PROXY", f"{scheme}://{user}127.0.0.1:{proxy}")
                async with client("http://kaggle.invalid") as calls:
                    await calls.task_quota()
        assert len(server.requests) == 2


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.anyio
async def test_a_proxy_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """If nothing listens at the proxy's address, the error names the proxy, not the server."""
    if scheme == "socks5":
        pytest.importorskip("socksio")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{USER}127.0.0.1:{port}")
    error = await failure("https://kaggle.invalid")
    assert isinstance(error, ConnectionFailed)
    assert str(error) == f"The proxy {scheme}://127.0.0.1:{port} does not answer: Connection refused."
    assert "HTTPS_PROXY" in (error.hint or "")


@pytest.mark.parametrize(
    ("endpoint", "user", "says"),
    [
        ("https://kaggle.invalid", USER, "does not accept the user name and password"),
        ("http://kaggle.invalid", "", "does not accept connections without a user name and password"),
    ],
)
@pytest.mark.anyio
async def test_a_proxy_that_wants_a_password(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, user: str, says: str
) -> None:
    """HTTP 407 is an error of credentials that names the proxy, with a tunnel and without one."""
    with listening(http_answer("407 Proxy Authentication Required")) as port:
        monkeypatch.setenv("ALL_PROXY", f"http://{user}127.0.0.1:{port}")
        error = await failure(endpoint)
    assert isinstance(error, CredentialsError)
    assert str(error) == f"The proxy http://127.0.0.1:{port} {says}."


@pytest.mark.parametrize(
    ("scheme", "user", "serve", "kind", "says"),
    [
        ("http", USER, http_answer("502 Bad Gateway"), ConnectionFailed, "502 Bad Gateway"),
        ("socks5", "", socks5(None), ConnectionFailed, "Connection refused"),
        ("socks5", USER, socks5(None, "other"), CredentialsError, "user name and password"),
        ("socks5", "", http_answer("400 Bad Request"), ConnectionFailed, "does not speak SOCKS5"),
    ],
)
# httpcore leaves the connection to a SOCKS proxy to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.anyio
async def test_a_proxy_that_does_not_connect(
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    user: str,
    serve: Callable[[socket.socket], None],
    kind: type[FanbenchError],
    says: str,
) -> None:
    """A proxy that does not connect to the server is named, with its reason."""
    if scheme == "socks5":
        pytest.importorskip("socksio")
    with listening(serve) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{user}127.0.0.1:{port}")
        error = await failure("https://kaggle.invalid")
    assert isinstance(error, kind)
    assert str(error).startswith(f"The proxy {scheme}://127.0.0.1:{port} ")
    assert says in str(error)
    del error
    gc.collect()


@pytest.mark.parametrize(
    "address",
    ["http://", "http://h:99999", "http://h:x", "ftp://h:1", "socks://h:1", "http://[::1", "a b://c"],
)
@pytest.mark.anyio
async def test_an_invalid_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """An address that is none is a usage error that names the variable."""
    monkeypatch.setenv("ALL_PROXY", address)
    error = await failure("https://kaggle.invalid")
    assert isinstance(error, UsageError)
    assert str(error) == "ALL_PROXY does not contain the address of a proxy."


@pytest.mark.anyio
async def test_socks_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package for SOCKS, the error names the package and the extra."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socksio", None)
    error = await failure("https://kaggle.invalid")
    assert isinstance(error, UsageError)
    assert "socksio" in str(error)
    assert "fanbench[socks]" in (error.hint or "")


@pytest.mark.anyio
async def test_certificates_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate file that does not exist is a usage error that names the variable."""
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    error = await failure("https://kaggle.invalid")
    assert isinstance(error, UsageError)
    assert "SSL_CERT_FILE" in str(error)
