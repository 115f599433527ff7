"""The server's end of the parent of the runs (`zygote.py`): starts it, asks it for runs, hears how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import anyio
import anyio.abc
import msgspec

from fanbench.errors import LocalServerError
from fanbench.local.executor.job import Exit, Job
from fanbench.local.executor.zygote import Ended, Notice, Ready, Refused, Started
from fanbench.local.settings import Isolation

READY_TIMEOUT = 120.0
"""Seconds for the import of the SDK, on the slowest of machines."""

LOST = Exit(code=-9, lost=True)

_decode_notice: Callable[[bytes], Notice] = msgspec.json.Decoder(Notice).decode


class StartedRun:
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


class _Gone(Exception):
    """The parent died before it took a run: a new one can be asked."""


class _Parent:
    """One life of the parent."""

    def __init__(self, isolation: Isolation, log: IO[bytes]) -> None:
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-m", "fanbench.local.executor.zygote", str(theirs.fileno()), isolation]
        with theirs, _sigint_blocked():
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
            except OSError:
                data = b""
            if not data:
                self.alive = False
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _decode_notice(line)

    async def send(self, job: Job, descriptors: list[int]) -> None:
        """Raises _Gone."""
        data = memoryview(msgspec.json.encode(job) + b"\n")
        try:
            sent = socket.send_fds(self._control, [data], descriptors)
            while sent < len(data):
                await anyio.wait_writable(self._control)
                sent += self._control.send(data[sent:])
        except OSError as error:
            raise _Gone from error

    def close(self) -> None:
        """Closing the socket tells the parent to kill its children and go."""
        self.alive = False
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """A terminal's Ctrl-C is for all its processes: one that begins here is not ended by it before it can say no."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ParentExecutor:
    """Starts the parent at first need, and again should it die."""

    def __init__(self, isolation: Isolation, log: Path) -> None:
        self._isolation = isolation
        self._log = log
        self._parent: _Parent | None = None
        self._lock = anyio.Lock()
        self._answers: list[StartedRun | Refused] = []
        self._news = anyio.Condition()
        self._runs: dict[int, StartedRun] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ParentExecutor]:
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

    async def start(self, job: Job, stdout: int, stderr: int) -> StartedRun:
        async with self._lock:  # one request at a time: the answer carries no name
            try:
                return await self._ask(job, [stdout, stderr])
            except _Gone:
                pass
            try:
                return await self._ask(job, [stdout, stderr])
            except _Gone:
                raise LocalServerError(
                    "the parent of the runs dies again and again", hint=f"see {self._log}"
                ) from None

    async def _ask(self, job: Job, descriptors: list[int]) -> StartedRun:
        parent = await self._ensure_parent()
        # A run that was asked for must be taken, or the next caller would be given it.
        with anyio.CancelScope(shield=True):
            await parent.send(job, descriptors)
            answer = await self._next_answer(parent)
        if isinstance(answer, Refused):
            raise LocalServerError(f"no process can be started for the run: {answer.reason}")
        return answer

    async def _next_answer(self, parent: _Parent) -> StartedRun | Refused:
        async with self._news:
            while not self._answers:
                if not parent.alive:
                    raise _Gone
                await self._news.wait()
            return self._answers.pop(0)

    async def _ensure_parent(self) -> _Parent:
        if self._parent is not None and self._parent.alive:
            return self._parent
        if self._tasks is None:
            raise RuntimeError("enter running() first")
        self._parent = await self._new_parent()
        self._tasks.start_soon(self._listen, self._parent)
        return self._parent

    async def _new_parent(self) -> _Parent:
        with self._log.open("ab") as log:
            parent = _Parent(self._isolation, log)
        try:
            ready = None
            with anyio.move_on_after(READY_TIMEOUT):
                ready = await parent.read()
            if not isinstance(ready, Ready) or ready.error is not None:
                raise unusable_sdk(ready.error if isinstance(ready, Ready) else None, self._log)
        except BaseException:
            parent.close()
            raise
        return parent

    async def _listen(self, parent: _Parent) -> None:
        while (notice := await parent.read()) is not None:
            match notice:
                case Started(pid=pid):
                    run = self._runs[pid] = StartedRun(pid)
                    await self._tell(run)
                case Refused():
                    await self._tell(notice)
                case Ended(pid=pid, code=code):
                    self._runs.pop(pid).end(Exit(code=code))
                case Ready():
                    pass
        for run in self._runs.values():
            run.end(LOST)
        self._runs.clear()
        await self._tell(None)
        parent.close()

    async def _tell(self, answer: StartedRun | Refused | None) -> None:
        async with self._news:
            if answer is not None:
                self._answers.append(answer)
            self._news.notify_all()


def unusable_sdk(failure: str | None, log: Path) -> LocalServerError:
    """The import of the SDK failed with this traceback: what it means and what to do."""
    if failure is None:
        return LocalServerError("the parent of the runs ended at once, or hangs", hint=f"see {log}")
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
