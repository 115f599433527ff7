"""One run from start to end, whatever it does: its output, its time limit, and no process left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.to_thread

from fanbench.local.executor import Executor, RunProcess
from fanbench.local.executor.job import Exit, Job
from fanbench.local.executor.limits import excess

__all__ = ["Append", "RunEnd", "supervise"]

GRACE = 3.0
"""Seconds between the polite stop (SIGINT, so that a notebook is still written) and SIGKILL."""

DRAIN = 5.0
"""Seconds to read the last output of a run that has ended."""

WATCH_EVERY = 0.5
"""Seconds between two looks at what a run takes."""

_CHUNK = 1 << 16

Append = Callable[[str, bytes], None]
"""Receives the output: the stream's name and bytes, empty at the end of the stream."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    exit: Exit
    timed_out: bool
    excess: str | None = None
    """What the run took too much of, if it was killed because of that."""


async def supervise(
    executor: Executor,
    job: Job,
    append: Append,
    time_limit: float | None,
    *,
    streams: Sequence[str] = ("stdout", "stderr"),
) -> RunEnd:
    """Run `job` to its end, or stop it after `time_limit` seconds. However this ends, no process of it is left.

    Its output goes to `append`, by the names in `streams`; with one name, stdout and stderr share one pipe.

    Raises:
        LocalServerError: The process could not be started.
    """
    async with _started(executor, job, append, streams) as process, _watched(process, job) as reasons:
        with anyio.move_on_after(time_limit):
            return RunEnd(await process.wait(), timed_out=False, excess="".join(reasons) or None)
        process.signal(signal.SIGINT)
        with anyio.move_on_after(GRACE):
            return RunEnd(await process.wait(), timed_out=True)
        process.signal(signal.SIGKILL)
        return RunEnd(await process.wait(), timed_out=True)


@asynccontextmanager
async def _watched(process: RunProcess, job: Job) -> AsyncIterator[list[str]]:
    """Kill the run if it takes more than its job allows. The list then has the reason."""
    found: list[str] = []

    async def watch() -> None:
        pause = WATCH_EVERY
        while not found:
            await anyio.sleep(pause)
            begun = time.monotonic()
            if reason := await anyio.to_thread.run_sync(excess, job, process.pid):
                found.append(reason)
                process.signal(signal.SIGKILL)
            # Where there are many files, looking takes long, and is to be a small part of the time.
            pause = max(WATCH_EVERY, 20 * (time.monotonic() - begun))

    async with anyio.create_task_group() as tasks:
        if job.memory_mb or job.disk_mb:
            tasks.start_soon(watch)
        try:
            yield found
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _started(
    executor: Executor, job: Job, append: Append, streams: Sequence[str]
) -> AsyncIterator[RunProcess]:
    """The job's process, its output read all the while. At the end it is killed, if it still lives."""
    pipes = [os.pipe() for _ in streams]
    readers, writers = [reader for reader, _ in pipes], [writer for _, writer in pipes]
    try:
        try:
            process = await executor.start(job, writers[0], writers[-1])
        finally:
            for writer in writers:  # while we hold one, its reader never sees the end
                os.close(writer)
        async with anyio.create_task_group() as pumps:
            for name, reader in zip(streams, readers, strict=True):
                pumps.start_soon(_pump, reader, name, append)
            try:
                yield process
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(GRACE):
                    ended = False
                    while not ended:  # a process that has just been forked has no group yet
                        process.signal(signal.SIGKILL)
                        with anyio.move_on_after(0.1):
                            await process.wait()
                            ended = True
                # Pipes are drained in no time. Where orphans are not adopted, one may hold a pipe open.
                pumps.cancel_scope.deadline = anyio.current_time() + DRAIN
    finally:
        for reader in readers:
            os.close(reader)


async def _pump(reader: int, name: str, append: Append) -> None:
    os.set_blocking(reader, False)
    while True:
        await anyio.wait_readable(reader)
        data = os.read(reader, _CHUNK)
        append(name, data)
        if not data:
            return
