"""What the server and a worker of the Model Proxy tell each other, with both ends of the link in one process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.errors import LocalServerError
from fanbench.local.models import ModelEngine, ModelFault
from fanbench.local.models.pool import ModelPool
from fanbench.local.models.recordings import NotRecorded
from fanbench.local.models.upstream import ChatEndpoint
from fanbench.local.proxy_workers.broker import Broker
from fanbench.local.proxy_workers.link import FROM_SERVER, Answer, Fault, messages_of, open_link
from fanbench.local.proxy_workers.worker import ServerLink, ServerModel

from .held_upstream import PATIENCE, until

pytestmark = pytest.mark.anyio


class FakeModel(ModelEngine):
    """Answers with the request, or in two chunks, or raises its fault."""

    def __init__(self, fault: Exception | None = None) -> None:
        self._fault = fault
        self.left = anyio.Event()
        """Set when a stream has ended, however it did."""

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._fault is not None:
            raise self._fault
        return request

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        try:
            yield {"chunk": 1}
            if self._fault is not None:
                raise self._fault
            if request.get("endless"):
                await anyio.sleep_forever()
            yield {"chunk": 2}
        finally:
            self.left.set()


class FakeSlots:
    """Slots that are given to nobody until `free`, and who waits for them or has them."""

    def __init__(self) -> None:
        self.free = anyio.Event()
        self.waiting = 0
        self.taken = 0

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        self.waiting += 1
        try:
            await self.free.wait()
        finally:
            self.waiting -= 1
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    @property
    def endpoint(self) -> ChatEndpoint:
        return ChatEndpoint(slug="a/b", url="http://127.0.0.1:9", model="b", slot=self.slot, timeout=1.0)


class FakePool:
    """The part of a pool that brokers use, with a model for each engine."""

    def __init__(self, engines: dict[str, ModelEngine]) -> None:
        self._engines = engines

    @property
    def catalog(self) -> FakePool:
        return self

    def find(self, name: str) -> str | None:
        return name if name in self._engines else None

    def engine(self, name: str) -> ModelEngine:
        return self._engines[name]


class Pair:
    """The two ends of a link in one process: the broker of a server with `engines`, and the link of a worker."""

    def __init__(self, engines: dict[str, ModelEngine]) -> None:
        self.uses = 0
        """How many messages of the worker have come."""
        self.gone = anyio.Event()
        """Set once the process of the worker is gone."""
        self._pool = FakePool(engines)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Pair]:
        ours, theirs = socket.socketpair()
        server_reader, server_writer = await open_link(ours)
        reader, self._writer = await open_link(theirs)
        pool = cast("ModelPool", self._pool)
        self.broker = Broker(pool, lambda _digest, _text: None, lambda: None, self._used, server_writer)
        self.link = ServerLink(self._writer)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.broker.serve, server_reader, self.gone.wait)
            tasks.start_soon(self._read, reader)
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()
                for writer in (server_writer, self._writer):
                    writer.close()

    def die(self) -> None:
        """Close the end of the worker."""
        self._writer.close()

    def _used(self) -> None:
        self.uses += 1

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async for message in messages_of(reader, FROM_SERVER):
            assert isinstance(message, Answer | Fault)
            self.link.receive(message)


async def test_who_leaves_is_no_longer_waited_for() -> None:
    """A request that is given up while it waits for a slot leaves the queue in the server at once."""
    slots = FakeSlots()
    async with Pair({"a/b": slots.endpoint}).open() as pair, anyio.create_task_group() as tasks:

        async def take() -> None:
            async with pair.link.slots("a/b")():
                await anyio.sleep_forever()

        tasks.start_soon(take)
        await until(lambda: slots.waiting == 1)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await until(lambda: not slots.waiting)
            assert not pair.broker.busy


async def test_slots_come_back_once_the_process_is_gone() -> None:
    """What a worker had is given back after its link has ended, but not before its process is gone."""
    slots = FakeSlots()
    slots.free.set()
    async with Pair({"a/b": slots.endpoint}).open() as pair, pair.link.slots("a/b")():
        assert slots.taken == 1
        pair.die()
        await anyio.wait_all_tasks_blocked()
        assert slots.taken == 1
        pair.gone.set()
        await until(lambda: not slots.taken)


@pytest.mark.parametrize("kind", [ModelFault, NotRecorded])
async def test_faults_arrive_as_they_were(kind: type[ModelFault]) -> None:
    """A fault of a model in the server is the same fault in the worker, before an answer and within a stream."""
    model = FakeModel(kind("overloaded", status=429, retry_after="7"))
    async with Pair({"a/b": model}).open() as pair:
        engine = ServerModel("a/b", pair.link)
        chunks = engine.stream({})
        assert await anext(chunks) == {"chunk": 1}
        for answer in (anext(chunks), engine.complete({})):
            with pytest.raises(ModelFault) as raised:
                await answer
            fault = raised.value
            assert type(fault) is kind
            assert (fault.message, fault.status, fault.retry_after) == ("overloaded", 429, "7")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalServerError("models.toml is not TOML."), "models.toml is not TOML."),
        (ValueError("something unforeseen"), "model a/b: the server failed"),
    ],
)
async def test_other_errors_arrive_as_faults(error: Exception, message: str) -> None:
    """A request to which the server cannot find an answer ends in the worker, with what clients may know of it."""
    async with Pair({"a/b": FakeModel(error)}).open() as pair:
        with anyio.fail_after(PATIENCE), pytest.raises(ModelFault) as raised:
            await ServerModel("a/b", pair.link).complete({})
    assert (raised.value.message, raised.value.status) == (message, 500)


async def test_the_server_learns_that_a_worker_is_used() -> None:
    """Each message of a worker, from its request to its end, counts as use, which puts off the idle timeout."""
    async with Pair({"a/b": FakeModel()}).open() as pair:
        await ServerModel("a/b", pair.link).complete({})
        await until(lambda: pair.uses == 2)


async def test_a_stream_that_is_left_ends_in_the_server() -> None:
    """Chunks arrive as they come, and a stream that nobody reads any more ends where its model is."""
    model = FakeModel()
    async with Pair({"a/b": model}).open() as pair:
        engine = ServerModel("a/b", pair.link)
        assert [chunk async for chunk in engine.stream({})] == [{"chunk": 1}, {"chunk": 2}]
        model.left = anyio.Event()
        async with contextlib.aclosing(engine.stream({"endless": True})) as chunks:
            assert await anext(chunks) == {"chunk": 1}
        with anyio.fail_after(PATIENCE):
            await model.left.wait()


async def test_models_that_have_just_changed_are_faults() -> None:
    """A worker that has not yet seen a change of models.toml gets an error that says so, and no wrong model."""
    async with Pair({"a/b": FakeModel()}).open() as pair:
        with pytest.raises(ModelFault, match="model a/gone has just been removed") as raised:
            await ServerModel("a/gone", pair.link).complete({})
        assert raised.value.status == 404
        with pytest.raises(ModelFault, match="model a/b has just been changed") as raised:
            async with pair.link.slots("a/b")():
                pass
        assert (raised.value.status, raised.value.retry_after) == (503, "1")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(requests=st.lists(st.dictionaries(st.text(), _JSON, max_size=4), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_any_request_crosses_the_link(requests: list[dict[str, Any]]) -> None:
    """Whatever is in them, requests at the same time reach the server unchanged, and their answers the worker."""

    async def cross() -> None:
        async with Pair({"a/b": FakeModel()}).open() as pair, anyio.create_task_group() as tasks:

            async def one(request: dict[str, Any]) -> None:
                assert await ServerModel("a/b", pair.link).complete(request) == request

            for request in requests:
                tasks.start_soon(one, request)

    anyio.run(cross)
