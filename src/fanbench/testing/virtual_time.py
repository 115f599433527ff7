"""A clock that jumps over waits, so that a program that waits for hours ends in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import anyio
from anyio import to_thread

__all__ = ["run_in_virtual_time"]

T = TypeVar("T")


def run_in_virtual_time(
    main: Callable[[], Awaitable[T]], *, backend: Literal["asyncio", "trio"] = "asyncio"
) -> T:
    """Run `main` in an event loop whose clock jumps to the next deadline whenever all tasks wait.

    The clock stands still while a task computes, and while a thread of `anyio.to_thread` or
    `asyncio.to_thread` works. Sockets and other processes need real time: a program that waits for these
    cannot run here. (Use `SimulatedTransport` instead of `serve`.)
    """
    if backend == "trio":
        return _run_on_trio(main)

    async def watched() -> T:
        loop, limiter = asyncio.get_running_loop(), to_thread.current_default_thread_limiter()
        assert isinstance(loop, _VirtualLoop)
        loop.jumping.has_threads = lambda: limiter.borrowed_tokens > 0 or bool(loop.futures)
        return await main()

    return anyio.run(watched, backend="asyncio", backend_options={"loop_factory": _VirtualLoop})


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that moves the clock to the next deadline instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.has_threads: Callable[[], bool] = bool

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.has_threads():
            return super().select(None)  # the end of a thread wakes the loop
        self.now += timeout
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = _JumpingSelector()
        self.futures: set[asyncio.Future[Any]] = set()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now

    def run_in_executor(self, *arguments: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(*arguments)
        self.futures.add(future)
        future.add_done_callback(self.futures.discard)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self.jumping.has_threads = lambda: True  # the join has a time limit, to which the clock would jump
        await super().shutdown_default_executor()


def _run_on_trio(main: Callable[[], Awaitable[T]]) -> T:
    import math

    import trio
    from trio.testing import MockClock

    clock = MockClock(autojump_threshold=0)

    @dataclass(eq=False)
    class ClockStopper(trio.abc.Instrument):
        """Stops the clock while threads work."""

        limiter: anyio.CapacityLimiter
        stopped: bool = False

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if self.stopped != (self.limiter.borrowed_tokens > 0):
                self.stopped = not self.stopped
                clock.autojump_threshold = math.inf if self.stopped else 0

    async def watched() -> T:
        trio.lowlevel.add_instrument(ClockStopper(to_thread.current_default_thread_limiter()))
        return await main()

    return anyio.run(watched, backend="trio", backend_options={"clock": clock})
