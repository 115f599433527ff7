"""The clock jumps over waits, and stands still while something works."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import anyio
import pytest

from fanbench.testing import run_in_virtual_time

Backend = Literal["asyncio", "trio"]
both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@both_backends
def test_hours_pass_at_once(backend: Backend) -> None:
    """Sleeps and deadlines take their exact time on the clock, and none in reality."""
    order: list[tuple[float, str]] = []

    async def sleep(start: float, seconds: float, name: str) -> None:
        await anyio.sleep(seconds)
        order.append((anyio.current_time() - start, name))

    async def main() -> str:
        start = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(sleep, start, 7200.0, "two hours")
            group.start_soon(sleep, start, 0.5, "half a second")
            with anyio.move_on_after(3600):
                await anyio.sleep_forever()
            order.append((anyio.current_time() - start, "deadline"))
        return "result"

    began = time.monotonic()
    assert run_in_virtual_time(main, backend=backend) == "result"
    assert order == [(0.5, "half a second"), (3600.0, "deadline"), (7200.0, "two hours")]
    assert time.monotonic() - began < 60


@both_backends
def test_the_clock_stands_still_while_threads_work(backend: Backend) -> None:
    """A deadline does not pass while a thread works, however long that takes in reality."""

    async def main() -> None:
        with anyio.fail_after(1.0):
            await anyio.to_thread.run_sync(time.sleep, 0.05)
            began = anyio.current_time()
            await anyio.sleep(0.9)
        assert anyio.current_time() - began == pytest.approx(0.9)

    run_in_virtual_time(main, backend=backend)


def test_threads_of_asyncio() -> None:
    """The clock also stands still while asyncio's own threads work, even if a timer is due meanwhile."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        rung: list[float] = []
        loop.call_later(1.0, lambda: rung.append(loop.time()))
        await asyncio.to_thread(time.sleep, 0.05)
        assert rung == []
        await asyncio.sleep(5.0)
        assert rung == [1.0]
        return loop.time()

    assert run_in_virtual_time(main) == 5.0
