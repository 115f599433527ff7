"""The server's end of the warm parent (`zygote.py`): starts it, asks it for forks, hears how they end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import anyio
import anyio.abc
import msgspec

from fanbench._errors import LocalServerError
from fanbench.local.executor.job import Exit, Job
from fanbench.local.executor.zygote import Ended, Notice, Ready, Started

_decode_notice: Callable[[bytes], Notice] = msgspec.json.Decoder(Notice).decode

LOST = Exit(code=-9)
"""How a run ended whose parent died with it."""


class ForkedRun:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = anyio.Event()
        self._exit = LOST

    def end(self, exit_: Exit) -> None:
        self._exit = exit_
        self._ended.set()

    async def wait(self) -> Exit:
        await self._ended.wait()
        return self._exit


class _Parent:
    """One life of the warm parent."""

    def __init__(self, log: IO[bytes]) -> None:
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-m", "fanbench.local.executor.zygote", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._control.setblocking(False)
        self._buffer = b""
        self.alive = True

    async def read(self) -> Notice | None:
        """The next notice; `None` once the parent is gone."""
        while b"\n" not in self._buffer:
            await anyio.wait_readable(self._control)
            try:
                data = self._control.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self.alive = False
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _decode_notice(line)

    async def send(self, job: Job, descriptors: list[int]) -> None:
        data = memoryview(msgspec.json.encode(job) + b"\n")
        try:
            sent = socket.send_fds(self._control, [data], descriptors)
            while sent < len(data):
                await anyio.wait_writable(self._control)
                sent += self._control.send(data[sent:])
        except OSError as error:
            raise LocalServerError(f"the warm parent of the runs is gone: {error}") from error

    def close(self) -> None:
        """Closing the socket tells the parent to kill its children and go."""
        self.alive = False
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class WarmExecutor:
    """Starts the parent at first need, and again should it die."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._parent: _Parent | None = None
        self._lock = anyio.Lock()
        self._started: list[ForkedRun] = []
        self._news = anyio.Condition()
        self._runs: dict[int, ForkedRun] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WarmExecutor]:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()
                if self._parent is not None:
                    self._parent.close()

    async def warm_up(self) -> None:
        async with self._lock:
            await self._ensure_parent()

    async def start(self, job: Job, stdout: int, stderr: int) -> ForkedRun:
        async with self._lock:  # one request at a time: the answer carries no name
            parent = await self._ensure_parent()
            # A fork that was asked for must be taken, or the next caller would be given it.
            with anyio.CancelScope(shield=True):
                await parent.send(job, [stdout, stderr])
                started = await self._next_started(parent)
        return started

    async def _next_started(self, parent: _Parent) -> ForkedRun:
        async with self._news:
            while not self._started:
                if not parent.alive:
                    raise LocalServerError("the warm parent of the runs died while it started one")
                await self._news.wait()
            return self._started.pop(0)

    async def _ensure_parent(self) -> _Parent:
        if self._parent is not None and self._parent.alive:
            return self._parent
        if self._tasks is None:
            raise RuntimeError("enter running() first")
        with self._log.open("ab") as log:
            parent = _Parent(log)
        ready = await parent.read()
        if not isinstance(ready, Ready) or ready.error is not None:
            parent.close()
            raise unusable_sdk(ready.error if isinstance(ready, Ready) else None, self._log)
        self._parent = parent
        self._tasks.start_soon(self._listen, parent)
        return parent

    async def _listen(self, parent: _Parent) -> None:
        while (notice := await parent.read()) is not None:
            match notice:
                case Started(pid=pid):
                    run = self._runs[pid] = ForkedRun(pid)
                    await self._tell(run)
                case Ended(pid=pid, code=code, max_rss_mb=rss, cpu_seconds=cpu):
                    self._runs.pop(pid).end(Exit(code=code, max_rss_mb=rss, cpu_seconds=cpu))
                case Ready():
                    pass
        for run in self._runs.values():
            run.end(LOST)
        self._runs.clear()
        await self._tell(None)

    async def _tell(self, run: ForkedRun | None) -> None:
        async with self._news:
            if run is not None:
                self._started.append(run)
            self._news.notify_all()


def unusable_sdk(failure: str | None, log: Path) -> LocalServerError:
    """The import of the SDK failed with this traceback: what it means and what to do."""
    if failure is None:
        return LocalServerError("the warm parent of the runs ended at once", hint=f"see {log}")
    last = failure.strip().splitlines()[-1]
    if "No module named 'kaggle_benchmarks'" in failure or "No module named 'IPython'" in failure:
        return missing_extra(last)
    if "hishel" in failure:
        message = f"the SDK kaggle-benchmarks cannot be imported with this version of hishel: {last}"
        return LocalServerError(message, hint=f"{os.fspath(sys.executable)} -m pip install 'hishel[httpx]<2'")
    return LocalServerError(f"the SDK kaggle-benchmarks cannot be imported: {last}", hint=f"see {log}")


def missing_extra(detail: str) -> LocalServerError:
    return LocalServerError(
        f"the local server is not installed: {detail}", hint="pip install 'fanbench[local]' installs it"
    )
