"""Bounded fan-out: many coroutines at once, their outcomes in the order in which they were asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import anyio

from fanbench.errors import FanbenchError

__all__ = ["Done", "InOrder", "Offload", "alone", "both", "gather", "settle"]

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
Job = Callable[[], Awaitable[T]]
Done = Callable[[int, T | FanbenchError], None]


class Offload(Protocol):
    """Runs a blocking job without blocking the event loop: `anyio.to_thread.run_sync`, or inline in tests."""

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]: ...


async def settle(
    jobs: Sequence[Job[T]], *, limit: int, done: Done[T] | None = None
) -> list[T | FanbenchError]:
    """The outcome of every job, `limit` of them at a time; one that fails does not end the others.

    `done(index, outcome)` is called as each ends. Only `FanbenchError`s are outcomes: anything else is a
    defect, and ends all.
    """
    outcomes: dict[int, T | FanbenchError] = {}
    limiter = anyio.CapacityLimiter(max(1, limit))

    async def run(index: int, job: Job[T]) -> None:
        async with limiter:
            outcomes[index] = await _outcome(job)
        if done is not None:
            done(index, outcomes[index])

    async with anyio.create_task_group() as group:
        for index, job in enumerate(jobs):
            group.start_soon(run, index, job)
    return [outcomes[index] for index in range(len(jobs))]


async def _outcome(job: Job[T]) -> T | FanbenchError:
    try:
        return await job()
    except FanbenchError as error:
        return error


async def gather(jobs: Sequence[Job[T]], *, limit: int) -> list[T]:
    """The results of all jobs, or the error of the first (by order) that failed; the others' as its notes."""
    outcomes = await settle(jobs, limit=limit)
    errors = [outcome for outcome in outcomes if isinstance(outcome, FanbenchError)]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"also: {other}")
        raise errors[0]
    return [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]


async def both(first: Job[A], second: Job[B]) -> tuple[A, B]:
    """The results of two jobs that run at once; if both fail, the first one's error."""
    outcomes: tuple[list[A | FanbenchError], list[B | FanbenchError]] = ([], [])

    async def run_first() -> None:
        outcomes[0].append(await _outcome(first))

    async def run_second() -> None:
        outcomes[1].append(await _outcome(second))

    with alone():
        async with anyio.create_task_group() as group:
            group.start_soon(run_first)
            group.start_soon(run_second)
    return _result(outcomes[0][0]), _result(outcomes[1][0])


def _result(outcome: T | FanbenchError) -> T:
    if isinstance(outcome, FanbenchError):
        raise outcome
    return outcome


@contextmanager
def alone() -> Iterator[None]:
    """An error that a task group raises by itself leaves the block by itself, not as a group of one."""
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
    """Passes outcomes on in the order of their index, each as soon as all before it are there."""

    def __init__(self, emit: Callable[[T], None]) -> None:
        self._emit = emit
        self._early: dict[int, T] = {}
        self._next = 0

    def __call__(self, index: int, outcome: T) -> None:
        self._early[index] = outcome
        while self._next in self._early:
            self._emit(self._early.pop(self._next))
            self._next += 1
