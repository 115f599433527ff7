"""A new Python for every run: slower by seconds, and shares nothing with other runs (`--isolation process`)."""

from __future__ import annotations

import subprocess
import sys

import anyio
import anyio.abc
import msgspec

from fanbench._errors import LocalServerError
from fanbench.local.executor.job import Exit, Job


class FreshRun:
    def __init__(self, process: anyio.abc.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> Exit:
        return Exit(code=await self._process.wait())


class FreshExecutor:
    async def warm_up(self) -> None:
        """Nothing can be prepared: that is the point."""

    async def start(self, job: Job, stdout: int, stderr: int) -> FreshRun:
        command = [sys.executable, "-m", "fanbench.local.executor.child"]
        try:
            process = await anyio.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                cwd=job.working,
                env=job.environment,
                start_new_session=True,
            )
        except OSError as error:
            raise LocalServerError(f"cannot start a process for the run: {error}") from error
        if process.stdin is not None:
            async with process.stdin as stdin:
                await stdin.send(msgspec.json.encode(job))
        return FreshRun(process)
