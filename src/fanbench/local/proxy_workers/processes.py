"""Starts the workers of the Model Proxy, and replaces those that die."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import structlog
from anyio.abc import Process

from fanbench.errors import LocalServerError
from fanbench.local.folder import DataFolder
from fanbench.local.http_server import GRACEFUL_SECONDS
from fanbench.local.models.pool import ModelPool
from fanbench.local.proxy_workers.broker import Broker
from fanbench.local.proxy_workers.link import Setup, Stop, open_link

__all__ = ["ProxyWorkers"]

_log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds until a worker that died is replaced; each time twice as long, unless it had lived for longer than that."""

START_SECONDS = 60.0
"""How long a worker may take until it accepts requests."""

_END_SECONDS = GRACEFUL_SECONDS + 5.0
_LAST_SECONDS = 2.0
"""How long a worker whose link has ended may take to end, too."""


class ProxyWorkers:
    """The workers, which accept requests on `listener`. It stays open here for those that replace others."""

    def __init__(
        self,
        setup: Setup,
        folder: DataFolder,
        listener: socket.socket,
        pool: ModelPool,
        note: Callable[[str, str], None],
    ) -> None:
        self._setup = setup
        self._folder = folder
        self._listener = listener
        self._pool = pool
        self._note = note
        self._brokers: set[Broker] = set()
        self._stop = anyio.Event()
        self.last_used = time.monotonic()
        """When a worker has last said something."""

    @property
    def busy(self) -> bool:
        """Whether a worker has or waits for something that it asked for."""
        return any(broker.busy for broker in self._brokers)

    @asynccontextmanager
    async def running(self, count: int) -> AsyncIterator[ProxyWorkers]:
        """Run `count` workers. All of them accept requests when the block begins.

        Raises:
            LocalServerError: One of them does not start.
        """
        async with anyio.create_task_group() as tasks:
            started = [anyio.Event() for _ in range(count)]
            for each in started:
                tasks.start_soon(self._keep_one, each)
            with anyio.move_on_after(START_SECONDS) as waiting:
                for each in started:
                    await each.wait()
            if waiting.cancelled_caught:
                raise self._not_started(f"did not accept requests within {START_SECONDS:g} s")
            try:
                yield self
            finally:
                self._stop.set()
                for broker in self._brokers:
                    broker.send(Stop())
                tasks.cancel_scope.deadline = anyio.current_time() + _END_SECONDS

    async def _keep_one(self, started: anyio.Event) -> None:
        """Keep one worker running: replace it when it dies."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            begin = anyio.current_time()
            code = await self._run_one(started)
            if self._stop.is_set():
                return
            if not started.is_set():
                raise self._not_started(f"ended with code {code}")
            lived = anyio.current_time() - begin
            if lived > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            _log.error(
                "a process of the Model Proxy died", code=code, lived=round(lived, 1), replaced_in=pause
            )
            with anyio.move_on_after(pause):
                await self._stop.wait()
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_one(self, started: anyio.Event) -> int | None:
        """Start a worker and answer it until it ends. Return its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await self._start(theirs)
        reader, writer = await open_link(ours)
        broker = Broker(self._pool, self._note, started.set, self._used, writer)
        broker.send(self._setup)
        if self._stop.is_set():
            broker.send(Stop())
        self._brokers.add(broker)
        try:
            await broker.serve(reader, partial(_end, process))
        finally:
            self._brokers.remove(broker)
            writer.close()
            with anyio.CancelScope(shield=True):
                await _end(process)
        return process.returncode

    def _used(self) -> None:
        self.last_used = time.monotonic()

    async def _start(self, link: socket.socket) -> Process:
        passed = [link.fileno(), self._listener.fileno()]
        with self._folder.worker_log.open("ab") as log:
            return await anyio.open_process(
                # -P: nothing is imported from the folder in which the server was started.
                [sys.executable, "-P", "-m", "fanbench.local.proxy_workers.worker", *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
                start_new_session=True,
            )

    def _not_started(self, what: str) -> LocalServerError:
        return LocalServerError(
            f"A process of the Model Proxy {what}.", hint=f"See {self._folder.worker_log} for the reason."
        )


async def _end(process: Process) -> None:
    """Wait for a process whose link has ended, and kill it if it does not end soon."""
    with anyio.move_on_after(_LAST_SECONDS):
        await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.wait()
