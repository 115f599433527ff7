"""Carries out what was pushed and scheduled: a bounded number of notebooks at a time, each to its verdict."""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import structlog

from fanbench._errors import LocalServerError
from fanbench.api.messages import CreationState, RunState
from fanbench.local.clock import now
from fanbench.local.datasets import dataset_folders
from fanbench.local.environment import run_environment
from fanbench.local.executor import Executor
from fanbench.local.executor.job import Job
from fanbench.local.executor.supervise import supervise
from fanbench.local.folder import DataFolder
from fanbench.local.logs import RunLog
from fanbench.local.models.catalog import Catalog, ModelSpec
from fanbench.local.models.pool import ModelPool
from fanbench.local.settings import Settings
from fanbench.local.store import Store, TaskVersion
from fanbench.local.verdicts import Verdict, judge_creation, judge_run

_log = structlog.get_logger(__name__)

NO_DEFAULT_MODEL = "This server has no models yet. `fanbench models add smollm2` makes one available."


@dataclass(frozen=True)
class Work:
    """A version to validate, or a run."""

    kind: Literal["creation", "run"]
    id: int


class Scheduler:
    """First come, first served, by `settings.workers` workers."""

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        store: Store,
        pool: ModelPool,
        executor: Executor,
        base_url: str,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._store = store
        self._pool = pool
        self._executor = executor
        self._proxy_url = f"{base_url}/models"
        self._send, self._receive = anyio.create_memory_object_stream[Work](math.inf)
        self._doing: dict[Work, tuple[anyio.CancelScope, anyio.Event]] = {}
        self._logs: dict[int, RunLog] = {}
        self._waiting = 0

    @property
    def busy(self) -> bool:
        return self._waiting > 0 or bool(self._doing)

    def submit(self, work: Work) -> None:
        self._waiting += 1
        self._send.send_nowait(work)

    def log(self, run_id: int) -> RunLog | None:
        """The log of a run that is going on."""
        return self._logs.get(run_id)

    async def cancel(self, works: Iterable[Work]) -> None:
        """Stop what is being done of `works`; when this returns, none of their processes is left."""
        doing = [self._doing[work] for work in works if work in self._doing]
        for scope, _ in doing:
            scope.cancel()
        for _, ended in doing:
            await ended.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        """Take up what an earlier server left undone, then whatever is submitted."""
        for version in await self._store.pending_versions():
            self.submit(Work("creation", version.id))
        for run in await self._store.live_runs():
            self.submit(Work("run", run.id))
        async with anyio.create_task_group() as workers:
            for _ in range(self._settings.workers):
                workers.start_soon(self._work)
            try:
                yield self
            finally:
                workers.cancel_scope.cancel()

    async def _work(self) -> None:
        while True:
            work = await self._receive.receive()
            self._waiting -= 1
            ended = anyio.Event()
            with anyio.CancelScope() as scope:
                self._doing[work] = scope, ended
                try:
                    await (self._create(work) if work.kind == "creation" else self._run(work))
                except Exception:  # noqa: BLE001 - one piece of work must not end the worker
                    _log.exception("work failed", kind=work.kind, id=work.id)
                    await self._give_up(work)
                finally:
                    del self._doing[work]
                    ended.set()

    async def _give_up(self, work: Work) -> None:
        message = f"The server failed on this {work.kind}; see {self._folder.server_log}."
        if work.kind == "creation":
            await self._store.update_version(work.id, state=CreationState.ERRORED.value, error=message)
        else:
            ended = now().isoformat()
            await self._store.update_run(work.id, state=RunState.ERRORED.value, error=message, ended=ended)

    async def _create(self, work: Work) -> None:
        """Validate a pushed version by running its notebook on the default model."""
        version = await self._store.version(work.id)
        if version is None:
            return
        await self._store.update_version(version.id, state=CreationState.RUNNING.value)
        model = self._pool.catalog.default_model
        if model is None:
            verdict = Verdict(CreationState.ERRORED.value, NO_DEFAULT_MODEL)
        else:
            log = self._new_log(self._folder.creation_log(version.id))
            try:
                folder = self._folder.creation(version.id)
                failure = await self._execute(version, model, folder, log, f"creation-{version.id}", None)
                verdict = judge_creation(version.slug, folder / "working", failure)
            finally:
                log.close()
        await self._store.update_version(version.id, state=verdict.state, error=verdict.error)

    async def _run(self, work: Work) -> None:
        run = await self._store.run(work.id)
        if run is None:
            return
        await self._store.update_run(run.id, state=RunState.RUNNING.value, started=now().isoformat())
        log = self._logs[run.id] = self._new_log(self._folder.log(run.id))
        try:
            model = self._pool.catalog.find(run.model)
            if model is None:
                failure: str | None = f"The model {run.model} is not there any more."
                log.note(str(failure))
            else:
                folder = self._folder.run(run.id)
                failure = await self._execute(run.version, model, folder, log, f"run-{run.id}", run.id)
            verdict = judge_run(run.version.slug, self._folder.run(run.id) / "working", failure)
            await self._store.update_run(
                run.id, state=verdict.state, error=verdict.error, ended=now().isoformat()
            )
        finally:
            # After the state: who follows the log may look at the run as soon as it ends.
            del self._logs[run.id]
            log.close()

    def _new_log(self, path: Path) -> RunLog:
        return RunLog(path, self._settings.log_limit_mb * 1_000_000)

    async def _execute(
        self, version: TaskVersion, model: ModelSpec, folder: Path, log: RunLog, mark: str, run_id: int | None
    ) -> str | None:
        """Run the version's notebook in `folder`; what went wrong."""
        token = f"fbp-{secrets.token_urlsafe(24)}"
        lifetime = timedelta(seconds=self._settings.run_timeout + 60)
        expires = await self._store.add_token(token, lifetime, run_id)
        catalog = self._pool.catalog
        job = Job(
            folder=str(folder),
            environment=run_environment(
                mark=f"{mark}-{token[-8:]}",
                proxy_url=self._proxy_url,
                proxy_key=token,
                expires=expires.isoformat(),
                model=model.slug,
                judge=_judge(catalog, model).slug,
                available=[spec.slug for spec in catalog.model],
                extra=self._settings.run_environment,
            ),
            memory_mb=self._settings.run_memory_mb,
            datasets=dataset_folders(self._settings.datasets, version.datasets),
        )
        try:
            await anyio.to_thread.run_sync(_prepare, job, self._folder.notebook(version.id))
            return await supervise(self._executor, job, log.append, self._settings.run_timeout)
        except LocalServerError as error:
            message = f"{error}\n{error.hint}" if error.hint else str(error)
            log.note(message)
            return message
        finally:
            with anyio.CancelScope(shield=True):
                await self._store.revoke_token(token)


def _judge(catalog: Catalog, model: ModelSpec) -> ModelSpec:
    return catalog.judge_model or model


def _prepare(job: Job, notebook: Path) -> None:
    """An empty folder with the notebook beside the working folder, whatever an interrupted run left there."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.working.mkdir(parents=True)
    try:
        shutil.copyfile(notebook, job.source)
    except FileNotFoundError:  # the server died between the record of a push and its file
        raise LocalServerError(
            "the notebook of this version is not there", hint="push the task again"
        ) from None
