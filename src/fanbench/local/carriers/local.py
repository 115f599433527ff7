"""Carries out jobs on this machine, in processes of the forkserver and folders below a root."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from fanbench._util import files
from fanbench.errors import LocalServerError
from fanbench.local.carriers import Started
from fanbench.local.carriers.job import NotebookJob, Outcome, RunLost
from fanbench.local.environments import Environments
from fanbench.local.executor import Executor, Isolation, Protection
from fanbench.local.executor.environment import add_packages, run_environment
from fanbench.local.executor.forkserver_executor import ForkserverExecutor, unusable_sdk
from fanbench.local.executor.job import Job
from fanbench.local.executor.supervise import Append, RunEnd, supervise
from fanbench.local.object_store import shared_folder, upload_output
from fanbench.local.settings import find_datasets
from fanbench.local.verdicts import failure_of, read_outcome, read_run_files

__all__ = ["KEY_MARGIN", "LocalCarrier"]

KEY_MARGIN = 60.0
"""Seconds for which a key outlives the time limit, so that it is the limit that ends a slow run, not a refused key."""


class LocalCarrier:
    """Leaves the folder of each job, with its output in `working`, below `root`, unless the output is uploaded."""

    def __init__(
        self,
        root: Path,
        environments: Environments,
        datasets: Path,
        executor: Executor,
        hidden: Sequence[str] = (),
        where: str = "",
    ) -> None:
        self._root = root
        self._environments = environments
        self._datasets = datasets
        self._executor = executor
        self._hidden = hidden
        self._where = where

    @staticmethod
    @asynccontextmanager
    async def open(
        root: Path,
        environments: Environments,
        datasets: Path,
        isolation: Isolation,
        log: Path,
        hidden: Sequence[str] = (),
        where: str = "",
    ) -> AsyncIterator[LocalCarrier]:
        """A carrier that finds datasets as `datasets/OWNER/SLUG`. The forkserver writes what it reports to `log`.

        `where` names this machine in messages about it, such as ` on the node 10.0.0.5`.
        Runs do not see `root`, the home folder, those for temporary files, and what is `hidden` besides.
        """
        async with ForkserverExecutor.open(isolation, log, apart=True) as executor:
            yield LocalCarrier(root, environments, datasets, executor, hidden, where)

    def warm_up(
        self, on_failure: Callable[[LocalServerError], None], on_obstacle: Callable[[Protection, str], None]
    ) -> None:
        self._executor.warm_up(on_failure, on_obstacle)

    async def run(self, job: NotebookJob, started: Started, append: Append) -> Outcome:
        """See `Carrier.run`."""
        await started()
        hint = "Put it there, or name another folder with `fanbench serve --datasets DIR`."
        datasets = find_datasets(self._datasets, job.datasets, hint=hint)
        packages = await self._environments.prepare(
            job.requirements, lambda text: append("stderr", f"[fanbench] {text}\n".encode())
        )
        process = Job(
            folder=str(self._root / job.name),
            environment=add_packages(await self._environment(job), packages),
            memory_mb=job.memory_mb,
            disk_mb=job.disk_mb,
            datasets={name: str(folder) for name, folder in datasets.items()},
            hidden=self._hidden_folders(job),
            visible=[str(self._environments.root)],
        )
        await anyio.to_thread.run_sync(_prepare, process, job.notebook)
        try:
            ended = await supervise(self._executor, process, append, job.time_limit)
        finally:
            with anyio.CancelScope(shield=True):
                for left in (process.scratch, process.covers):
                    await anyio.to_thread.run_sync(partial(shutil.rmtree, left, ignore_errors=True))
        outcome = await anyio.to_thread.run_sync(_read, process, ended, job.time_limit)
        return await self._upload(job, outcome, append) if job.outputs else outcome

    async def _upload(self, job: NotebookJob, outcome: Outcome, append: Append) -> Outcome:
        """Upload the output and delete its folder on this machine. If that is not possible, the run has failed."""
        folder = self._root / job.name
        try:
            await upload_output(folder, job.outputs)
        except LocalServerError as error:
            reason = f"The output{self._where} was not stored: {error}"
            append("stderr", f"[fanbench] {reason}\n[fanbench] {error.hint}\n".encode())
            return msgspec.structs.replace(outcome, failure=outcome.failure or reason)
        await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))
        return outcome

    async def _environment(self, job: NotebookJob) -> dict[str, str]:
        expires = datetime.now(UTC) + timedelta(seconds=job.time_limit + KEY_MARGIN)
        return run_environment(
            job.variables,
            expires=expires.isoformat(timespec="milliseconds"),
            pass_on=job.pass_on,
            constraints=await self._environments.constraints(),
        )

    def _hidden_folders(self, job: NotebookJob) -> list[str]:
        # Not `Path.home()`, which fails for a user without a home folder.
        home = os.path.expanduser("~")
        temporary = dict.fromkeys([os.environ.get("TMPDIR", "/tmp"), "/tmp", "/var/tmp"])  # noqa: S108 - to hide them
        return [str(self._root), home, *temporary, *self._hidden, *shared_folder(job.outputs)]


def _prepare(job: Job, notebook: str) -> None:
    """Create the job's folder with its notebook, and delete what an interrupted run left there."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.working.mkdir(parents=True)
    files.write(job.source, notebook, durable=False)


def _read(job: Job, ended: RunEnd, time_limit: float) -> Outcome:
    """The outcome of the job from what its process has left behind.

    Raises:
        LocalServerError: The SDK cannot be imported.
        RunLost: The parent of all runs died.
    """
    if ended.exit.lost:
        raise RunLost("the parent process of all runs died, was killed or ran out of memory")
    reported = read_outcome(job.outcome)
    if reported is not None and reported.sdk_failure is not None:
        raise unusable_sdk(reported.sdk_failure, Path(job.folder))
    return Outcome(
        failure=ended.excess or failure_of(reported, ended.exit, time_limit if ended.timed_out else None),
        choice=reported.choice if reported is not None else None,
        run_files=read_run_files(job.working),
    )
