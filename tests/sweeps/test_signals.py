"""How the parts of a sweep wake each other."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from fanbench.sweeps._engine.signals import Bell, Later, Queue
from tests.wire.scripted import in_virtual_time


def test_a_bell_is_heard_later() -> None:
    """Rung while nobody waits, it wakes the next who does, once; else a wait takes its time."""

    async def main() -> list[float]:
        bell, times = Bell(), [anyio.current_time()]
        bell.ring()
        bell.ring()
        await bell.wait(5.0)
        times.append(anyio.current_time())
        await bell.wait(5.0)
        times.append(anyio.current_time())
        return [time - times[0] for time in times]

    assert in_virtual_time(main) == [0.0, 0.0, 5.0]


def test_a_queue_feeds_its_workers() -> None:
    """All is done, by as many as there are, and `idle` tells how many wait."""

    async def main() -> tuple[list[int], float, int]:
        queue, done = Queue[int](), list[int]()

        async def work() -> None:
            while True:
                item = await queue.get()
                await anyio.sleep(1.0)
                done.append(item)

        async with anyio.create_task_group() as group:
            began = anyio.current_time()
            for _ in range(3):
                group.start_soon(work)
            await anyio.lowlevel.checkpoint()
            for item in range(6):
                queue.put(item)
            while len(done) < 6:
                await anyio.sleep(0.5)
            seconds, idle = anyio.current_time() - began, queue.idle
            group.cancel_scope.cancel()
        return sorted(done), seconds, idle

    done, seconds, idle = in_virtual_time(main)
    assert done == [0, 1, 2, 3, 4, 5]
    assert seconds == pytest.approx(2.0, abs=0.5)
    assert idle == 3


def test_later_keeps_the_time() -> None:
    """Things come when they are due, in the order of time, also those that are put while it waits."""

    async def main() -> list[tuple[str, float]]:
        came: list[tuple[str, float]] = []
        later = Later[str](lambda item: came.append((item, anyio.current_time() - began)))
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(later.run)
            later.put("late", 10.0)
            await anyio.sleep(1.0)
            later.put("soon", 2.0)
            await anyio.sleep(20.0)
            group.cancel_scope.cancel()
        return came

    assert in_virtual_time(main) == [("soon", 3.0), ("late", 10.0)]
