"""The executor whose runs are children of a forkserver: starts it at first need, and asks it for runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from fanbench._util.install import install_command
from fanbench._util.text import last_line
from fanbench.errors import LocalServerError
from fanbench.local.executor import Isolation, Protection
from fanbench.local.executor.environment import forkserver_environment
from fanbench.local.executor.forkserver import Ended, Notice, Ready, Refused, Started
from fanbench.local.executor.job import Exit, Job

__all__ = ["ForkedRun", "ForkserverExecutor", "missing_extra", "unusable_sdk"]

READY_TIMEOUT = 120.0
"""Seconds for the import of the SDK, on the slowest of machines."""

_decode_notice: Callable[[bytes], Notice] = msgspec.json.Decoder(Notice).decode


class ForkedRun:
    """The process of a run. `pid` is also the id of its process group, and `exit` is set once it has `ended`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended = anyio.Event()
        self.exit = Exit(code=-9, lost=True)

    async def wait(self) -> Exit:
        await self.ended.wait()
        return self.exit

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class _Forkserver:
    """One forkserver process, from its start to its death."""

    def __init__(self, isolation: Isolation, log: Path | None, *, apart: bool) -> None:
        self._control, theirs = socket.socketpair()
        self._buffer = b""
        self._runs: dict[int, ForkedRun] = {}
        self._put_answer, self._answers = anyio.create_memory_object_stream[ForkedRun | Refused](1)
        self._listening = anyio.CancelScope(shield=True)
        self.alive, self.ready = True, False
        self.obstacles: dict[Protection, str] = {}
        """What runs cannot have of their own, and why, once it is ready."""
        command = [
            sys.executable,
            "-m",
            "fanbench.local.executor.forkserver",
            str(theirs.fileno()),
            isolation,
            *(["apart"] if apart else []),
        ]
        # Ctrl-C in a terminal reaches all its processes: keep it from this one until it can ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with theirs, open(log or os.devnull, "ab") as output:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    env=forkserver_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output if log else None,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._control.setblocking(False)

    async def read(self) -> Notice | None:
        """The next notice; None once the forkserver is gone."""
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

    async def start(self, job: Job, descriptors: list[int]) -> ForkedRun | Refused | None:
        """Ask for one run; None if the forkserver has died. Callers take turns: an answer does not name its request."""
        data = memoryview(msgspec.json.encode(job) + b"\n")
        try:
            sent = socket.send_fds(self._control, [data], descriptors)
            while sent < len(data):
                await anyio.wait_writable(self._control)
                sent += self._control.send(data[sent:])
            return await self._answers.receive()
        except (OSError, anyio.EndOfStream, anyio.ClosedResourceError):
            return None

    async def listen(self) -> None:
        """Pass on notices until the forkserver is gone, or we close it; its runs are lost then.

        Shielded: callers that are cancelled still wait until their runs have ended.
        """
        with self._listening:
            while (notice := await self.read()) is not None:
                match notice:
                    case Started(pid=pid):
                        run = self._runs[pid] = ForkedRun(pid)
                        await self._put_answer.send(run)
                    case Refused():
                        await self._put_answer.send(notice)
                    case Ended(pid=pid, code=code):
                        run = self._runs.pop(pid)
                        run.exit = Exit(code=code)
                        run.ended.set()
                    case Ready():
                        pass
        for run in self._runs.values():
            run.ended.set()
        await self.close()

    async def close(self) -> None:
        """Close the socket, upon which the forkserver kills its runs and ends."""
        self.alive = False
        if not self.ready:
            self._process.kill()  # it has no runs, and may take seconds to import the SDK
        self._listening.cancel()
        self._put_answer.close()
        self._answers.close()
        self._control.close()
        with anyio.CancelScope(shield=True):
            try:
                await anyio.to_thread.run_sync(self._process.wait, 5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await anyio.to_thread.run_sync(self._process.wait)


class ForkserverExecutor:
    """Executes jobs in forks of a forkserver, which it replaces if it dies.

    The forkserver writes what it has to report to `log`, or to our stderr if that is None. Runs that are `apart` see
    only their own processes, where the system allows that.
    """

    def __init__(self, tasks: TaskGroup, isolation: Isolation, log: Path | None, *, apart: bool) -> None:
        self._tasks = tasks
        self._isolation: Isolation = isolation
        self._log = log
        self._apart = apart
        self._forkserver: _Forkserver | None = None
        self._lock = anyio.Lock()

    @staticmethod
    @asynccontextmanager
    async def open(
        isolation: Isolation, log: Path | None, *, apart: bool = False
    ) -> AsyncIterator[ForkserverExecutor]:
        async with anyio.create_task_group() as tasks:
            executor = ForkserverExecutor(tasks, isolation, log, apart=apart)
            try:
                yield executor
            finally:
                tasks.cancel_scope.cancel()
                # With the lock, so that a forkserver that is just becoming ready is closed, too.
                with anyio.CancelScope(shield=True):
                    async with executor._lock:
                        if executor._forkserver is not None:
                            await executor._forkserver.close()

    def warm_up(
        self,
        on_failure: Callable[[LocalServerError], None],
        on_obstacle: Callable[[Protection, str], None] = lambda _what, _reason: None,
    ) -> None:
        """Start the forkserver in the background.

        `on_failure` receives what `start` would raise, and `on_obstacle` what runs cannot have of their
        own, and why.
        """

        async def warm_up() -> None:
            try:
                async with self._lock:
                    forkserver = await self._ensure_forkserver()
                for what, reason in forkserver.obstacles.items():
                    on_obstacle(what, reason)
            except LocalServerError as error:
                on_failure(error)

        self._tasks.start_soon(warm_up)

    async def start(self, job: Job, stdout: int, stderr: int) -> ForkedRun:
        """Start the job's process with its output going to the two descriptors, which stay the caller's.

        Raises:
            LocalServerError: Processes cannot be started here; the hint has the remedy.
        """
        if job.script and self._isolation != "process":
            raise ValueError('A script needs isolation "process".')
        async with self._lock:
            for _ in range(2):
                forkserver = await self._ensure_forkserver()
                # Shielded: the answer to a request must be read, or the next caller would receive it.
                with anyio.CancelScope(shield=True):
                    answer = await forkserver.start(job, [stdout, stderr])
                if isinstance(answer, Refused):
                    raise LocalServerError(f"No process can be started for the run: {answer.reason}.")
                if answer is not None:
                    return answer
        hint = f"See {self._log}." if self._log else None
        raise LocalServerError("The parent process of all runs dies repeatedly.", hint=hint)

    async def _ensure_forkserver(self) -> _Forkserver:
        if self._forkserver is not None and self._forkserver.alive:
            return self._forkserver
        forkserver = _Forkserver(self._isolation, self._log, apart=self._apart)
        try:
            ready = None
            with anyio.move_on_after(READY_TIMEOUT):
                ready = await forkserver.read()
            if not isinstance(ready, Ready) or ready.error is not None:
                raise unusable_sdk(ready.error if isinstance(ready, Ready) else None, self._log)
            forkserver.ready = True
            forkserver.obstacles = ready.obstacles
        except BaseException:
            await forkserver.close()
            raise
        self._forkserver = forkserver
        self._tasks.start_soon(forkserver.listen)
        return forkserver


def unusable_sdk(failure: str | None, log: Path | None) -> LocalServerError:
    """Explain a failed import of the SDK from its traceback, and name the remedy."""
    hint = f"See {log}." if log else None
    if failure is None:
        return LocalServerError("The parent process of all runs ended at once, or hangs.", hint=hint)
    last = last_line(failure)
    if "No module named 'kaggle_benchmarks'" in failure or "No module named 'IPython'" in failure:
        return missing_extra(last)
    if "hishel" in failure:
        message = f"The SDK kaggle-benchmarks cannot be imported with this version of hishel: {last}"
        return LocalServerError(message, hint=f"Run `{sys.executable} -m pip install 'hishel[httpx]<2'`.")
    return LocalServerError(f"The SDK kaggle-benchmarks cannot be imported: {last}", hint=hint)


def missing_extra(detail: str) -> LocalServerError:
    return LocalServerError(
        f"The local server is not installed: {detail}.", hint=f"Run `{install_command()}`."
    )
