"""The Model Proxy in processes of its own: what they share, and how they live and die."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.abc
import httpx
import pytest
from sqlalchemy import select

from fanbench import LocalServerError
from fanbench.local.folder import DataFolder
from fanbench.local.models.pool import ModelPool
from fanbench.local.proxy_workers.link import Setup
from fanbench.local.proxy_workers.processes import ProxyWorkers
from fanbench.local.state.store import Store
from fanbench.local.state.tables import UsageRow
from fanbench.wire.messages import RunState
from tests.postgres import PASSWORD, Postgres

from .held_upstream import PATIENCE, HeldUpstream, held_upstream, until
from .server_process import (
    TASK,
    ServerProcess,
    children_with,
    command_line,
    log_text,
    push,
    run,
    run_server,
)

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

LIMIT = 3


def models(upstream: HeldUpstream) -> str:
    entries = "".join(
        f'[[model]]\nslug = "{slug}"\nkind = "upstream"\nurl = "{upstream.url}"\nconcurrency = {limit}\n'
        for slug, limit in (("vendor/one", 1), ("vendor/few", LIMIT))
    )
    entries += "".join(
        f'[[model]]\nslug = "{slug}"\nkind = "scripted"\nreply = "4"\n'
        for slug in ("test/four", "test/counted")
    )
    return f'default = "test/four"\n{entries}'


@pytest.fixture(scope="module")
async def module_upstream() -> AsyncIterator[HeldUpstream]:
    async with held_upstream() as upstream:
        yield upstream


@pytest.fixture
async def upstream(module_upstream: HeldUpstream) -> HeldUpstream:
    """The upstream of all tests, when it has no requests of the last one left."""
    module_upstream.answer(len(module_upstream.held))
    await module_upstream.until(0)
    module_upstream.most = 0
    module_upstream.texts.clear()
    return module_upstream


@pytest.fixture(scope="module")
def shared_workers(
    tmp_path_factory: pytest.TempPathFactory, module_upstream: HeldUpstream
) -> Iterator[ServerProcess]:
    """A server with three processes of the Model Proxy, for all tests that do not harm them."""
    data, options = tmp_path_factory.mktemp("workers") / "data", ["--proxy-workers", "3"]
    with run_server(data, *options, models=models(module_upstream), runs=False) as server:
        yield server


@pytest.fixture(params=["server", "workers"])
def either(request: pytest.FixtureRequest, tmp_path: Path, upstream: HeldUpstream) -> Iterator[ServerProcess]:
    """A server that answers as the Model Proxy itself, and one with processes that do."""
    if request.param == "workers":
        yield request.getfixturevalue("shared_workers")
        return
    with run_server(tmp_path / "data", models=models(upstream), runs=False) as server:
        yield server


@pytest.fixture
def workers(tmp_path: Path, upstream: HeldUpstream) -> Iterator[ServerProcess]:
    """A server with two processes of the Model Proxy."""
    options = ["--proxy-workers", "2"]
    with run_server(tmp_path / "data", *options, models=models(upstream), runs=False) as server:
        yield server


class Clients:
    """Clients of a Model Proxy, each with a connection of its own."""

    def __init__(self, tasks: anyio.abc.TaskGroup, url: str, key: str) -> None:
        self._tasks = tasks
        self.url = f"{url}/openapi/chat/completions"
        self._headers = {"authorization": f"Bearer {key}"}
        self.statuses: dict[str, int] = {}
        """The statuses of the answers by the text of the request; 0 if the connection broke."""
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._ended: dict[str, anyio.Event] = {}

    async def ask(self, text: str, model: str, *, stream: bool = False) -> httpx.Response:
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            return await http.post(self.url, json=body, headers=self._headers)

    def start(self, text: str, model: str, *, stream: bool = False) -> None:
        """Ask in the background."""
        self._scopes[text], self._ended[text] = anyio.CancelScope(), anyio.Event()
        self._tasks.start_soon(self._ask, text, model, stream)

    async def _ask(self, text: str, model: str, stream: bool) -> None:
        with self._scopes[text]:
            try:
                self.statuses[text] = (await self.ask(text, model, stream=stream)).status_code
            except httpx.TransportError:
                self.statuses[text] = 0
        self._ended[text].set()

    def leave(self, text: str) -> None:
        """Close the connection of a request."""
        self._scopes[text].cancel()

    @property
    def started(self) -> list[str]:
        """The texts of the requests in the background."""
        return [*self._ended]

    @property
    def ended_ones(self) -> set[str]:
        """The texts of those that have ended, with an answer or without."""
        return {text for text, ended in self._ended.items() if ended.is_set()}

    async def until_ended(self, text: str) -> None:
        """Wait until a request has ended, with an answer or without."""
        with anyio.fail_after(PATIENCE):
            await self._ended[text].wait()

    async def until_answered(self, count: int) -> None:
        """Wait until so many requests have ended."""
        await until(lambda: len(self.statuses) == count)

    async def ended(self, *texts: str) -> list[int]:
        """The statuses of the answers to these requests, once they have come."""
        for text in texts:
            await self.until_ended(text)
        return [self.statuses[text] for text in texts]


@contextlib.asynccontextmanager
async def clients_of(server: ServerProcess) -> AsyncIterator[Clients]:
    async with server.client() as client:
        token = await client.create_proxy_token()
    async with anyio.create_task_group() as tasks:
        yield Clients(tasks, token.base_uri, token.token)
        tasks.cancel_scope.cancel()


def worker_pids(server: ServerProcess) -> set[int]:
    """The processes of the Model Proxy."""
    return {*children_with(server.address.pid, "proxy_workers.worker")}


def connections(pid: int, port: int) -> int:
    """The number of connections of the process from or to this port."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it has just been closed
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    established = [line for line in lines if line[3] == "01" and line[9] in inodes]
    return sum(f":{port:04X}" in (line[1][8:], line[2][8:]) for line in established)


async def test_all_workers_share_the_limit_of_an_upstream(
    shared_workers: ServerProcess, upstream: HeldUpstream
) -> None:
    """An upstream never has more requests than its limit, has that many as long as some wait, and all are answered."""
    texts = [str(number) for number in range(20)]
    async with clients_of(shared_workers) as clients:
        for text in texts:
            clients.start(text, "vendor/few", stream=int(text) % 3 == 0)
        for left in range(len(texts), 0, -1):
            await upstream.until(min(LIMIT, left))
            upstream.answer()
            await clients.until_answered(len(texts) - left + 1)
        assert set(await clients.ended(*texts)) == {200}
    assert upstream.most == LIMIT


async def test_no_order_of_requests_exceeds_the_limit(
    shared_workers: ServerProcess, upstream: HeldUpstream
) -> None:
    """However requests come, are answered and are given up, an upstream has as many as its limit and no more."""
    chance = random.Random("3")
    async with clients_of(shared_workers) as clients:
        for _ in range(50):
            open_ones = [text for text in clients.started if text not in clients.ended_ones]
            match chance.choice(["ask", "ask", "leave", "answer"]):
                case "leave" if open_ones:
                    gone = chance.choice(open_ones)
                    clients.leave(gone)
                    await clients.until_ended(gone)
                case "answer" if asking := [held for held in upstream.held if held.text in open_ones]:
                    asking[0].answered.set()
                    await clients.until_ended(asking[0].text)
                case _:
                    clients.start(str(len(clients.started)), "vendor/few", stream=chance.random() < 0.3)
            await upstream.until(min(LIMIT, len(clients.started) - len(clients.ended_ones)))
        while left := len(clients.started) - len(clients.ended_ones):
            await upstream.until(min(LIMIT, left))
            oldest = upstream.held[0].text
            upstream.answer()
            await clients.until_ended(oldest)
        assert set(clients.statuses.values()) == {200}
    assert upstream.most == LIMIT


async def test_the_slots_of_a_dead_worker_are_given_back(
    workers: ServerProcess, upstream: HeldUpstream
) -> None:
    """After kill -9 of a worker its requests break, the others go on within the limit, and it is replaced."""
    async with clients_of(workers) as clients:
        port = httpx.URL(clients.url).port or 0
        before = worker_pids(workers)
        while min(connections(pid, port) for pid in before) < LIMIT + 1:
            clients.start(str(len(clients.started)), "vendor/few")
            await until(lambda: sum(connections(pid, port) for pid in before) == len(clients.started))
        await upstream.until(LIMIT)
        upstream_port = httpx.URL(upstream.url).port or 0
        victim = max(before, key=lambda pid: connections(pid, upstream_port))
        lost = connections(victim, port)
        os.kill(victim, signal.SIGKILL)
        await clients.until_answered(lost)
        assert set(clients.statuses.values()) == {0}
        await upstream.until(LIMIT)
        await until(lambda: len(worker_pids(workers) - before) == 1)
        clients.start("after", "vendor/few")
        for left in range(len(clients.started) - lost, 0, -1):
            await upstream.until(min(LIMIT, left))
            upstream.answer()
            await clients.until_answered(len(clients.started) - left + 1)
        assert sorted({*clients.statuses.values()}) == [0, 200]
        assert clients.statuses["after"] == 200
    assert upstream.most == LIMIT
    assert "a process of the Model Proxy died" in (workers.data / "server.log").read_text()


async def test_who_leaves_while_waiting_takes_no_slot(either: ServerProcess, upstream: HeldUpstream) -> None:
    """A request whose client goes away while it waits for a slot leaves it to the next one."""
    for stream in (False, True):
        first, second, third = (f"{word}, {stream}" for word in ("first", "second", "third"))
        async with clients_of(either) as clients:
            clients.start(first, "vendor/one")
            await upstream.until(1)
            clients.start(second, "vendor/one", stream=stream)
            await _read_by(either, clients)
            clients.leave(second)
            clients.start(third, "vendor/one")
            upstream.answer()
            await upstream.until_asked(third)
            await upstream.until(1)
            upstream.answer()
            assert await clients.ended(first, third) == [200, 200]
    assert upstream.most == 1


async def _read_by(server: ServerProcess, clients: Clients) -> None:
    """Give the Model Proxy the time of a whole other request to read what was sent before."""
    assert (await clients.ask("hello", "test/four")).status_code == 200


async def test_workers_die_with_the_server_which_can_start_again(
    workers: ServerProcess, upstream: HeldUpstream
) -> None:
    """After kill -9 of the server no worker is left, even with requests in progress, and both ports are free."""
    async with clients_of(workers) as clients:
        clients.start("first", "vendor/one")
        await upstream.until(1)
        pids = worker_pids(workers)
        workers.kill()
        await until(lambda: not any("proxy_workers" in command_line(pid) for pid in pids))
        assert await clients.ended("first") == [0]
        ports = [str(httpx.URL(url).port) for url in (workers.address.url, clients.url)]
    options = ["--port", ports[0], "--proxy-port", ports[1], "--proxy-workers", "1"]
    with run_server(workers.data, *options, models=None, runs=False) as again:
        async with clients_of(again) as clients:
            assert clients.url.startswith(f"http://127.0.0.1:{ports[1]}/")
            assert (await clients.ask("hello", "test/four")).status_code == 200


async def test_signals_are_for_the_server_alone(workers: ServerProcess, upstream: HeldUpstream) -> None:
    """Signals to workers change nothing; a server that is stopped lets requests in progress end, then its workers."""
    pids = worker_pids(workers)
    for pid in pids:
        assert os.getsid(pid) == pid, "Ctrl-C in the terminal of the server would reach it"
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    async with clients_of(workers) as clients:
        clients.start("first", "vendor/one")
        await upstream.until(1)
        assert worker_pids(workers) == pids
        os.kill(workers.address.pid, signal.SIGTERM)
        await until(lambda: not (workers.data / "server.json").exists())
        upstream.answer()
        assert await clients.ended("first") == [200]
    assert workers.process.wait(PATIENCE) == 0
    assert not any("proxy_workers" in command_line(pid) for pid in pids)


async def test_a_port_in_use_is_an_error_at_the_start(tmp_path: Path) -> None:
    """A server whose Model Proxy cannot have its port does not start, and says how to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ["--proxy-workers", "1", "--proxy-port", port]
        with pytest.raises(AssertionError) as error, run_server(tmp_path / "data", *options, runs=False):
            pass
    assert f"The port {port} of 127.0.0.1 is in use." in str(error.value)
    assert "--proxy-port" in str(error.value)


async def test_runs_use_the_workers(tmp_path: Path, fake_sdk: None, upstream: HeldUpstream) -> None:
    """A run asks a worker, and what concerns its model by an alias is in its log."""
    options = ["--proxy-workers", "1", "--model-alias", "google/gemini=test/four"]
    source = TASK.replace("llm.prompt", "kbench.llms['google/gemini'].prompt")
    with run_server(tmp_path / "data", *options, models=models(upstream)) as server:
        async with server.client() as client, clients_of(server) as clients:
            task = await push(client, "two-plus-two", source)
            assert task.creation_error_message == ""
            (ended,) = await run(client, "two-plus-two", "four")
            assert ended.state is RunState.COMPLETED, ended.error_message
            log = await log_text(client, ended.id)
            assert log.count("test/four answers for google/gemini (alias)") == 1
            assert httpx.URL(clients.url).port != httpx.URL(server.address.url).port


async def test_workers_answer_as_the_server_does_and_count_once(shared_workers: ServerProcess) -> None:
    """A big request to a model of the server is answered as a whole and in chunks, and counted once each."""
    async with clients_of(shared_workers) as clients:
        text = "word " * 200_000
        whole = await clients.ask(text, "test/counted")
        assert whole.json()["choices"][0]["message"]["content"] == "4"
        assert whole.json()["usage"]["prompt_tokens"] == 200_000
        streamed = await clients.ask(text, "test/counted", stream=True)
        assert '"prompt_tokens": 200000' in streamed.text
        assert streamed.text.endswith("data: [DONE]\n\n")
        too_big = await clients.ask("x" * (65 << 20), "test/counted")
        assert too_big.status_code == 413
    assert await counted(DataFolder(shared_workers.data).database, "test/counted", 2) == [200_000, 200_000]


async def test_workers_record_and_replay(tmp_path: Path, upstream: HeldUpstream) -> None:
    """With workers, answers are recorded and replayed as by the server itself, and what was not recorded is refused."""
    data, answers = tmp_path / "data", str(tmp_path / "answers")
    options = ["--proxy-workers", "2"]
    with run_server(data, *options, "--record", answers, models=models(upstream), runs=False) as server:
        async with clients_of(server) as clients:
            for number, text in enumerate(("first", "second"), 1):
                clients.start(text, "vendor/few", stream=text == "second")
                await upstream.until(1)
                upstream.answer()
                assert await clients.ended(text) == [200]
                assert len(list(Path(answers).glob("*.json"))) == number
    options = ["--proxy-workers", "1", "--replay", answers]
    with run_server(data, *options, models=None, runs=False) as server:
        async with clients_of(server) as clients:
            again = (await clients.ask("first", "vendor/few")).json()
            assert again["choices"][0]["message"]["content"] == "first"
            assert '"content": "second"' in (await clients.ask("second", "vendor/few", stream=True)).text
            for stream in (False, True):
                unknown = await clients.ask("third", "vendor/few", stream=stream)
                assert unknown.status_code == 404
                assert "was not recorded" in unknown.json()["error"]["message"]
    assert upstream.texts == ["first", "second"]


async def test_workers_follow_the_list_of_models(shared_workers: ServerProcess) -> None:
    """A model that is added or changed while workers run is there for the next request of each of them."""
    async with clients_of(shared_workers) as clients:
        assert (await clients.ask("hello", "test/new")).status_code == 404
        for reply in ("one", "another"):
            file = shared_workers.data / "models.toml"
            entry = f'[[model]]\nslug = "test/new"\nkind = "scripted"\nreply = "{reply}"\n'
            file.write_text(file.read_text().partition('[[model]]\nslug = "test/new"')[0] + entry)
            for _ in range(10):
                answer = (await clients.ask("hello", "test/new")).json()
                assert answer["choices"][0]["message"]["content"] == reply


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--proxy-workers", "2", "--faults", "flaky"], "--faults and --proxy-workers exclude each other"),
        (["--proxy-port", "1"], "--proxy-port is for the processes of --proxy-workers"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, options: list[str], words: str
) -> None:
    """What a server with processes of the Model Proxy cannot do is an error at its start."""
    with pytest.raises(AssertionError, match=words), run_server(tmp_path / "data", *options, runs=False):
        pass


async def test_workers_that_do_not_start_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose workers end at once does not start, and names the file with the reason."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    folder = DataFolder(tmp_path)
    setup = Setup(data=str(tmp_path), database="", aliases={}, judge="", recorded=False, names=[])
    async with ModelPool.open(folder, 600.0, {}, "") as pool:
        with socket.socket() as listener:
            workers = ProxyWorkers(setup, folder, listener, pool, lambda _digest, _text: None)
            with pytest.raises(ExceptionGroup) as error:
                async with workers.running(2):
                    pytest.fail("they have started")
    failed = error.value.exceptions[0]
    assert isinstance(failed, LocalServerError)
    assert str(failed) == "A process of the Model Proxy ended with code 1."
    assert "worker.log" in (failed.hint or "")


async def test_usage_is_counted_in_postgresql(
    tmp_path: Path, postgres: Postgres, upstream: HeldUpstream
) -> None:
    """Workers know the keys in PostgreSQL and count each request there, and the password is in no command line."""
    database, options = postgres.create_database(), ["--proxy-workers", "2", "--database"]
    with run_server(tmp_path / "data", *options, database, models=models(upstream), runs=False) as server:
        pids = worker_pids(server)
        assert len(pids) == 2
        assert not any(PASSWORD in command_line(pid) for pid in pids)
        async with clients_of(server) as clients:
            texts = [f"word {number}" for number in range(20)]
            for text in texts:
                clients.start(text, "test/four")
            assert await clients.ended(*texts) == [200] * 20
    assert await counted(database, "test/four", 20) == [2] * 20


async def counted(database: Path | str, model: str, count: int) -> list[int]:
    """The input tokens of all requests to the model in the database, once there are so many."""
    of_model = select(UsageRow.input_tokens).where(UsageRow.model == model)
    async with Store.open(database) as store:
        with anyio.fail_after(PATIENCE):
            while True:
                async with store._session() as session:
                    found = list(await session.scalars(of_model))
                if len(found) >= count:
                    return found
                await anyio.sleep(0.02)
