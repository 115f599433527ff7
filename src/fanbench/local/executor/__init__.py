"""Runs notebooks in processes of their own.

`Executor` is the seam. `zygote` is the parent of all runs, `parent` the server's end of it: by default it has
imported the SDK and forks itself (0.3 s a run), with `--isolation process` it starts a new Python (2 s a run).
`supervise` takes one run from start to end; `child` and what it imports is the code in the run's own process.
"""

from __future__ import annotations

from typing import Protocol

from fanbench.local.executor.job import Exit, Job

__all__ = ["Executor", "RunProcess"]


class RunProcess(Protocol):
    @property
    def pid(self) -> int:
        """Also the id of its process group."""

    async def wait(self) -> Exit: ...


class Executor(Protocol):
    async def start(self, job: Job, stdout: int, stderr: int) -> RunProcess:
        """Start the job's process, its output going to the two descriptors, which stay the caller's.

        Raises:
            LocalServerError: no such process can be started here, and what to do about it.
        """
        ...

    async def warm_up(self) -> None:
        """Get ready ahead of the first run. Raises as `start` does."""
