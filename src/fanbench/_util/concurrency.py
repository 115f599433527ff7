"""Many coroutines at once, with a limit, and their outcomes in the order in which the jobs were given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar, cast

import anyio

from fanbench.errors import FanbenchError

__all__ = ["Done", "InOrder", "Offload", "both", "gather", "settle", "unwrap_single_error"]

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
AsyncCall = Callable[[], Awaitable[T]]
Done = Callable[[int, T | FanbenchError], None]


class Offload(Protocol):
    """Runs a blocking job without blocking the event loop: `anyio.to_thread.run_sync`, or inline in tests."""

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]: ...


async def settle(
    jobs: Sequence[AsyncCall[T]], *, limit: int, done: Done[T] | None = None
) -> list[T | FanbenchError]:
    """Run all jobs, `limit` of them at a time, and return one outcome per job: its result or its FanbenchError.

    `done(index, outcome)` is called as each job ends. Any other exception is a bug and cancels all jobs.
    """
    outcomes: dict[int, T | FanbenchError] = {}
    limiter = anyio.CapacityLimiter(max(1, limit))

    async def run(index: int, job: AsyncCall[T]) -> None:
        async with limiter:
            try:
                outcomes[index] = await job()
            except FanbenchError as error:
                outcomes[index] = error
        if done is not None:
            done(index, outcomes[index])

    async with anyio.create_task_group() as group:
        for index, job in enumerate(jobs):
            group.start_soon(run, index, job)
    return [outcomes[index] for index in range(len(jobs))]


async def gather(jobs: Sequence[AsyncCall[T]], *, limit: int) -> list[T]:
    """Return the results of all jobs, or raise the error of the first that failed, the others as its notes."""
    outcomes = await settle(jobs, limit=limit)
    errors = [outcome for outcome in outcomes if isinstance(outcome, FanbenchError)]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"also: {other}")
        raise errors[0]
    return [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]


async def both(first: AsyncCall[A], second: AsyncCall[B]) -> tuple[A, B]:
    """Run two jobs at once and return both results; if both fail, raise the first one's error."""
    jobs: list[AsyncCall[A | B]] = [first, second]
    with unwrap_single_error():
        outcomes = await settle(jobs, limit=2)
    for outcome in outcomes:
        if isinstance(outcome, FanbenchError):
            raise outcome
    return cast("tuple[A, B]", tuple(outcomes))


@contextmanager
def unwrap_single_error() -> Iterator[None]:
    """Raise the only error of a task group as itself, and not as a group of one."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is group:
            raise
        raise error from None


class InOrder(Generic[T]):
    """Emits what concurrent jobs produce in the order of the jobs.

    The items of the first job that has not ended are emitted at once, those of later jobs once it is their turn.
    """

    def __init__(self, emit: Callable[[T], None]) -> None:
        self._emit = emit
        self._current = 0
        self._kept: dict[int, list[T]] = {}
        self._ended: set[int] = set()

    def add(self, index: int, item: T) -> None:
        """Emit `item` of the job `index`, now or when it is its turn."""
        if index == self._current:
            self._emit(item)
        else:
            self._kept.setdefault(index, []).append(item)

    def end(self, index: int) -> None:
        """The job `index` has ended, so the next one may have its turn."""
        self._ended.add(index)
        while self._current in self._ended:
            self._current += 1
            for item in self._kept.pop(self._current, ()):
                self._emit(item)

    def __call__(self, index: int, item: T) -> None:
        """Emit the only item of the job `index`, which has ended."""
        self.add(index, item)
        self.end(index)
