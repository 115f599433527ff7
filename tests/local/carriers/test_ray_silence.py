"""What a server takes for silence: of a worker, of the process that uses Ray, and not its own. In virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.abc import Process

from fanbench._util.frames import framed
from fanbench.local.carriers.job import Outcome, RunLost
from fanbench.local.carriers.ray.carrier import Cluster, _Call, _Driver, _NotAccepted
from fanbench.local.carriers.ray.messages import (
    Accepted,
    Alive,
    Beat,
    Finished,
    Message,
    Notice,
    Said,
    encode,
)
from fanbench.testing import run_in_virtual_time

CLUSTER = Cluster(folder=Path("/nowhere"), datasets=Path("/nowhere"))
FINISHED = Finished(Outcome())


class DriverProcess:
    """A driver that says what a test wants, on pipes of which the one for orders may be full."""

    def __init__(self, orders: float) -> None:
        self.stdin, self.orders = anyio.create_memory_object_stream[bytes](orders)
        self.said, self.stdout = anyio.create_memory_object_stream[bytes](100)
        self.killed = anyio.Event()

    async def say(self, *notices: Notice) -> None:
        for notice in notices:
            await self.said.send(framed(encode(notice)))

    async def beat(self, number: int) -> None:
        for _ in range(number):
            await anyio.sleep(CLUSTER.alive_every)
            await self.say(Beat())

    def kill(self) -> None:
        self.killed.set()
        self.said.close()
        self.orders.close()

    async def wait(self) -> None:
        await self.killed.wait()


def said(*messages: Message) -> list[Said]:
    return [Said(0, encode(message)) for message in messages]


@asynccontextmanager
async def connected(orders: float = 100) -> AsyncIterator[tuple[DriverProcess, _Driver]]:
    process = DriverProcess(orders)
    driver = _Driver(cast("Process", process), AsyncExitStack())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.listen)
        tasks.start_soon(driver.watch, CLUSTER)
        yield process, driver
        process.kill()
    process.stdout.close()


async def messages_of(call: _Call) -> list[Message]:
    return [message async for message in call.messages(CLUSTER)]


def test_a_driver_that_says_nothing_is_killed() -> None:
    """Its runs are lost after the silence, those that wait go to the next driver, and a full pipe keeps nobody."""

    async def waiting() -> None:
        async with connected(orders=1) as (process, driver):
            with pytest.raises(_NotAccepted):
                async with driver.submitted(b"first") as call, driver.submitted(b"second"):
                    await messages_of(call)
            assert process.killed.is_set()

    async def in_progress() -> None:
        async with connected() as (process, driver):
            async with driver.submitted(b"") as call:
                await process.say(*said(Accepted("a", has_token=True)))
                with pytest.raises(RunLost, match="the connection to Ray was lost"):
                    await messages_of(call)
            assert process.killed.is_set()

    for scenario in (waiting, in_progress):
        run_in_virtual_time(_timed(scenario))


def test_a_silent_worker_loses_its_run() -> None:
    """While the driver gives signs of life, the silence is the worker's, whose run alone is lost."""

    async def main() -> None:
        async with connected() as (process, driver), driver.submitted(b"") as call:
            await process.say(*said(Accepted("a", has_token=True)))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(process.beat, 8)
                with pytest.raises(RunLost, match="its node a has said nothing for 30 s"):
                    await messages_of(call)
            assert driver.alive

    run_in_virtual_time(_timed(main))


def test_a_job_may_wait_for_any_time() -> None:
    """No silence counts before a worker has the job."""

    async def main() -> None:
        async with connected() as (process, driver), driver.submitted(b"") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(process.beat, 100)
                with anyio.move_on_after(99 * CLUSTER.alive_every) as waited:
                    await messages_of(call)
            assert waited.cancelled_caught
            await process.say(*said(FINISHED))

    run_in_virtual_time(_timed(main))


def test_a_server_that_does_not_listen_loses_nothing() -> None:
    """What workers have said while the server waited for its database, or stood still, is no silence."""

    async def main() -> None:
        async with connected() as (process, driver), driver.submitted(b"") as call:
            heard: list[Message] = []
            async with anyio.create_task_group() as tasks:

                async def keep_up() -> None:
                    async for message in call.messages(CLUSTER):
                        heard.append(message)
                        if isinstance(message, Accepted):
                            await anyio.sleep(300)
                        if isinstance(message, Finished):
                            return

                tasks.start_soon(keep_up)
                await process.say(*said(Accepted("a", has_token=True)))
                for _ in range(65):
                    await process.beat(1)
                    await process.say(*said(Alive()))
                await process.say(*said(FINISHED))
            assert isinstance(heard[-1], Finished)
            assert driver.alive

    run_in_virtual_time(_timed(main))


def _timed(main: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[None]]:
    async def bounded() -> None:
        with anyio.fail_after(3600):
            await main()

    return bounded
