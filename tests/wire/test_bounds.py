"""Nothing that a server sends is waited for or kept without a bound: neither time nor memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from fanbench import BadAnswer, Bearer, Client, Config, ConnectionFailed, FanbenchError
from fanbench.wire.log_stream import follow_log
from fanbench.wire.retry import Retry, RetryPolicy
from tests.wire.fake_server import Answer, FakeServer
from tests.wire.scripted import in_virtual_time

ONCE = RetryPolicy(attempts=1)
LINE = b'data: {"stream_name": "stdout", "time": 0, "data": "line\\n"}\n\n'


class Served(httpx.AsyncBaseTransport):
    """Answers every request with a new body; `times` has the seconds of each request."""

    def __init__(
        self, body: Callable[[], AsyncGenerator[bytes, None]], status: int = 200, **headers: str
    ) -> None:
        self._body = body
        self._status = status
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.times: list[float] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.times.append(anyio.current_time())
        return httpx.Response(self._status, headers=self._headers, stream=Body(self._body()))


class Body(httpx.AsyncByteStream):
    """A body that ends once it is closed, as that of a real connection does."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                if self._closed:
                    return
                yield piece

    async def aclose(self) -> None:
        self._closed = True


async def drip() -> AsyncGenerator[bytes, None]:
    """One byte each second, without end."""
    while True:
        yield b" "
        await anyio.sleep(1)


async def flood(piece: bytes = b" " * (1 << 20)) -> AsyncGenerator[bytes, None]:
    """As many bytes as anybody reads."""
    while True:
        yield piece
        await anyio.lowlevel.checkpoint()


def seconds_until_error(
    http: Served, work: Callable[[Client], Awaitable[Any]], policy: RetryPolicy = ONCE
) -> tuple[float, FanbenchError]:
    """Run `work` on a client until it fails; return the seconds that it took, and its error."""

    async def main() -> tuple[float, FanbenchError]:
        began = anyio.current_time()
        async with Client(Config("http://server", Bearer("t")), http=http, retry=policy) as client:
            try:
                await work(client)
            except FanbenchError as error:
                return anyio.current_time() - began, error
        raise AssertionError("no error")

    result: tuple[float, FanbenchError] = in_virtual_time(main)
    return result


# --- Time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_that_drips_is_timed_out(status: int) -> None:
    """An answer or error of which a byte comes every second is timed out after 15 seconds."""
    took, error = seconds_until_error(Served(drip, status), lambda client: client.task_quota())
    assert isinstance(error, ConnectionFailed)
    assert took == 15


def test_a_download_that_drips_is_given_up(tmp_path: Path) -> None:
    """A download of a byte each second is given up after three tries of half a minute, each of them reported."""
    seen: list[Retry] = []
    http = Served(drip, Content_Type="application/zip", ETag='"v1"', Accept_Ranges="bytes")
    policy = RetryPolicy(random=lambda: 0.0, on_retry=seen.append)
    took, error = seconds_until_error(http, lambda client: client.download_output(7, tmp_path / "7"), policy)
    assert isinstance(error, ConnectionFailed)
    assert "only 31 bytes within 30 s" in str(error)
    assert took == pytest.approx(90, abs=5)
    assert [retry.call for retry in seen] == ["DownloadBenchmarkTaskRunOutput"] * 2
    assert list(tmp_path.iterdir()) == []


def test_a_slow_download_is_waited_for(tmp_path: Path) -> None:
    """A download that brings a few kilobytes each second is not given up."""

    async def slow() -> AsyncGenerator[bytes, None]:
        for _ in range(120):
            yield b"x" * 2000
            await anyio.sleep(1)

    http = Served(slow, Content_Type="application/zip")
    took, error = seconds_until_error(http, lambda client: client.download_output(7, tmp_path / "7"))
    assert "The zip is damaged" in str(error)
    assert took == 120


async def heartbeats() -> AsyncGenerator[bytes, None]:
    """A live log of one line, after which only comments come."""
    yield LINE
    while True:
        yield b": still here\n\n"
        await anyio.sleep(1)


async def stuck() -> AsyncGenerator[bytes, None]:
    """A live log of one line, after which nothing comes, which the HTTP library notices."""
    yield LINE
    await anyio.sleep(15)
    raise httpx.ReadTimeout("")


async def dripping() -> AsyncGenerator[bytes, None]:
    """A stored log of one line, after which a blank comes every second."""
    yield b'[{"stream_name": "stdout", "time": 0, "data": "line\\n"},'
    while True:
        yield b" "
        await anyio.sleep(1)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (heartbeats, "text/event-stream"),
        (stuck, "text/event-stream"),
        (dripping, "application/json"),
        (dripping, "text/plain"),
    ],
)
def test_the_log_of_an_ended_run_that_does_not_end(
    body: Callable[[], AsyncGenerator[bytes, None]], kind: str
) -> None:
    """A run whose log is silent is probed after 15 seconds; if it has ended, the log is read only once more."""
    http, probed, lines = Served(body, Content_Type=kind), [], []

    async def read(client: Client) -> None:
        async def probe() -> bool:
            probed.append(anyio.current_time() - http.times[0])
            return True

        async with aclosing(follow_log(client, 7, probe=probe)) as entries:
            async for entry in entries:
                lines.append(entry.data)

    took, error = seconds_until_error(http, read)
    assert "The log of run 7 does not end, although the run has" in str(error)
    assert len(probed) == 1
    assert probed[0] <= 20
    assert took <= 40
    assert "line" in "".join(lines)


def test_the_log_of_a_silent_run_is_waited_for() -> None:
    """As long as a silent run has not ended, its log is opened again, after pauses that double up to 5 minutes."""
    http = Served(heartbeats, Content_Type="text/event-stream")

    async def read(client: Client) -> None:
        async def probe() -> bool:
            return anyio.current_time() - http.times[0] > 2000

        async with aclosing(follow_log(client, 7, probe=probe)) as entries:
            async for _ in entries:
                pass

    _, error = seconds_until_error(http, read)
    assert "does not end" in str(error)
    pauses = [later - earlier for earlier, later in pairwise(http.times)]
    assert pauses == pytest.approx([15, 30, 60, 120, 240, *[300] * (len(pauses) - 5)], abs=5)
    assert len(pauses) > 8


def test_pages_without_end() -> None:
    """A list whose pages bring nothing new, each with another token, ends in an error."""
    page = count()

    async def body() -> AsyncGenerator[bytes, None]:
        run = {"id": 1, "modelVersionSlug": "m"}
        yield json.dumps({"runs": [run], "nextPageToken": f"page {next(page)}"}).encode()

    async def read(client: Client) -> None:
        assert [run.id async for run in client.list_runs("a")] == [1]

    http = Served(body)
    _, error = seconds_until_error(http, read)
    assert "100 pages of the list in a row have nothing new" in str(error)
    assert len(http.times) == 101


@pytest.mark.parametrize("rest", [b"", b', "totalResults": null', b', "nextPageToken": null'])
def test_a_list_that_is_null(rest: bytes) -> None:
    """A list of runs that is null is an error, because an empty one would mean that there are none."""

    async def body() -> AsyncGenerator[bytes, None]:
        yield b'{"runs": null%b}' % rest

    async def read(client: Client) -> None:
        _ = [run async for run in client.list_runs("a")]

    _, error = seconds_until_error(Served(body), read)
    assert isinstance(error, BadAnswer)
    assert "got `null` - at `$.runs`" in str(error)


# --- Memory -------------------------------------------------------------------------------------------------


def peak(work: Callable[[], object]) -> int:
    """The bytes that `work` has allocated at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    from fanbench.wire import log_decoder, transport

    monkeypatch.setattr(transport, "ANSWER_LIMIT", 4 << 20)
    monkeypatch.setattr(log_decoder, "_LONGEST_ENTRY", 4 << 20)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_answers_without_end(status: int, small_limits: None) -> None:
    """Of an answer or error without end, only so much is read as an answer may have."""

    def work() -> None:
        _, error = seconds_until_error(Served(flood, status), lambda client: client.task_quota())
        assert isinstance(error, BadAnswer) or status != 200
        assert status != 200 or "more than 4 MB" in str(error)

    assert peak(work) < 20 << 20


def test_redirects_without_end(tmp_path: Path) -> None:
    """The body of a redirect is not read, and redirects that go on are followed twenty times."""
    http = Served(flood, 302, Location="/next")
    took, error = seconds_until_error(http, lambda client: client.download_output(7, tmp_path / "7"))
    assert isinstance(error, BadAnswer)
    assert "too many redirects" in str(error)
    assert (took, len(http.times)) == (0, 21)


@pytest.mark.parametrize("target", ["javascript:1", "http://[", "file:///etc/passwd", "http://a:b:c/", "//"])
def test_redirects_to_nowhere(target: str, tmp_path: Path) -> None:
    """A redirect to an address that is none is the failure of that download."""
    http = Served(flood, 302, Location=target)
    _, error = seconds_until_error(http, lambda client: client.download_output(7, tmp_path / "7"))
    assert isinstance(error, BadAnswer | ConnectionFailed)


def read_all_of(client: Client) -> Awaitable[None]:
    async def read() -> None:
        async with aclosing(client.logs(7)) as entries:
            async for _ in entries:
                pass

    return read()


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"data: ", "text/event-stream"),
        (b"data: \ndata: ", "text/event-stream"),
        (b'[{"data": "', "application/json"),
        (b"[", "application/json"),
    ],
)
def test_entries_without_end(start: bytes, kind: str, small_limits: None) -> None:
    """An event or entry without end is an error of that log."""

    async def body() -> AsyncGenerator[bytes, None]:
        yield start
        async with aclosing(flood()) as pieces:
            async for piece in pieces:
                yield piece

    def work() -> None:
        _, error = seconds_until_error(Served(body, Content_Type=kind), read_all_of)
        assert isinstance(error, BadAnswer)
        assert "an entry of the log has more than" in str(error)

    assert peak(work) < 60 << 20


@pytest.mark.anyio
async def test_compressed_answers_without_end(small_limits: None) -> None:
    """A small compressed answer that expands beyond the bound is an error."""
    import gzip

    bomb = gzip.compress(json.dumps({"message": "x" * (64 << 20)}).encode())
    answer = Answer(bomb, headers={"Content-Encoding": "gzip"})
    with FakeServer({"GetBenchmarkTaskQuota": [answer]}) as server:
        async with Client(Config(server.url, Bearer("t")), retry=ONCE) as client:
            with pytest.raises(BadAnswer, match="more than 4 MB"):
                await client.task_quota()
