"""Carries out pushes and runs: a bounded number of notebooks at a time, each to its verdict."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import structlog

from fanbench.errors import LocalServerError
from fanbench.local.environments import Environments
from fanbench.local.executor import Executor
from fanbench.local.executor.environment import add_packages, run_environment
from fanbench.local.executor.forkserver_executor import unusable_sdk
from fanbench.local.executor.job import Choice, Job
from fanbench.local.executor.supervise import supervise
from fanbench.local.folder import DataFolder
from fanbench.local.logs import LiveLog
from fanbench.local.models.catalog import Catalog, ModelSpec
from fanbench.local.models.pool import ModelPool
from fanbench.local.requirements import read_notebook_requirements
from fanbench.local.settings import ServerSettings
from fanbench.local.store import RunRow, Store, VersionRow, digest, now
from fanbench.local.verdicts import failure_of, judge_creation, judge_run, read_outcome
from fanbench.wire.messages import CreationState, RunState

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Work:
    """A version to validate, or a run."""

    kind: Literal["creation", "run"]
    id: int


class Scheduler:
    """First come, first served, by `settings.workers` workers."""

    def __init__(
        self,
        settings: ServerSettings,
        folder: DataFolder,
        store: Store,
        pool: ModelPool,
        executor: Executor,
        proxy_url: str,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._store = store
        self._pool = pool
        self._executor = executor
        self._proxy_url = proxy_url
        self.environments = Environments(folder.environments)
        self._send, self._receive = anyio.create_memory_object_stream[Work](math.inf)
        self._in_progress: dict[Work, tuple[anyio.CancelScope, anyio.Event]] = {}
        self.logs: dict[int, LiveLog] = {}
        """The logs of the runs in progress, by id."""
        self._waiting = 0
        self._stopping = False
        self._logs_of_keys: dict[str, LiveLog] = {}

    @property
    def busy(self) -> bool:
        return self._waiting > 0 or bool(self._in_progress)

    @property
    def in_progress(self) -> int:
        """The number of creations and runs that a worker is carrying out."""
        return len(self._in_progress)

    def submit(self, work: Work) -> None:
        self._waiting += 1
        self._send.send_nowait(work)

    def note(self, key_digest: str, text: str) -> None:
        """Append a line to the log of the run with this Model Proxy key, unless it is there already."""
        log = self._logs_of_keys.get(key_digest)
        if log is not None and not log.closed:
            log.note_once(text)

    async def cancel(self, works: Iterable[Work]) -> None:
        """Stop those of `works` that are in progress. When this returns, none of their processes is left."""
        in_progress = [self._in_progress[work] for work in works if work in self._in_progress]
        for scope, _ in in_progress:
            scope.cancel()
        for _, ended in in_progress:
            await ended.wait()

    async def stop(self, timeout: float) -> None:
        """Start nothing more, let what is in progress end within `timeout` seconds, and then end its processes.

        What is submitted from now on, what has not ended, and what fails because of the stop is left to the next
        server. A second call shortens the wait of the first.
        """
        self._stopping = True
        with anyio.move_on_after(timeout):
            for _, ended in [*self._in_progress.values()]:
                await ended.wait()
        await self.cancel([*self._in_progress])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        """Carry out what an earlier server left unfinished, then whatever is submitted."""
        versions, runs = await self._store.unfinished()
        for work in [*(Work("creation", id_) for id_ in versions), *(Work("run", id_) for id_ in runs)]:
            self.submit(work)
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
            if self._stopping:
                return
            self._waiting -= 1
            ended = anyio.Event()
            with anyio.CancelScope() as scope:
                self._in_progress[work] = scope, ended
                try:
                    await (self._create(work.id) if work.kind == "creation" else self._run(work.id))
                except Exception:  # noqa: BLE001 - one piece of work must not end the worker
                    _log.exception("work failed", kind=work.kind, id=work.id)
                    message = f"The server failed on this {work.kind}; see {self._folder.server_log}."
                    try:
                        if work.kind == "creation":
                            await self._finish_creation(work.id, CreationState.ERRORED, message)
                        else:
                            await self._finish_run(work.id, RunState.ERRORED, message)
                    except Exception:  # noqa: BLE001 - such as a full disk; the next server resumes the work
                        _log.exception("cannot record the failure", kind=work.kind, id=work.id)
                finally:
                    del self._in_progress[work]
                    ended.set()

    async def _create(self, version_id: int) -> None:
        """Validate a pushed version by running its notebook on the default model."""
        version = await self._store.get(VersionRow, version_id)
        if version is None:
            return
        await self._store.update(VersionRow, version.id, state=CreationState.RUNNING)
        folder = self._folder.creation(version.id)
        log = LiveLog(self._folder.creation_log(version.id), self._settings.log_limit_mb * 1_000_000)
        try:
            failure, choice = await self._execute(version, folder, log)
        finally:
            log.close()
        judge = partial(judge_creation, version.slug, folder / "working", failure, log.path, choice)
        state, error = await anyio.to_thread.run_sync(judge)
        await self._finish_creation(version.id, state, error)

    async def _finish_creation(self, version_id: int, state: CreationState, error: str) -> None:
        if not self._caused_by_stop(error):
            await self._store.update(VersionRow, version_id, state=state, error=error)

    async def _finish_run(self, run_id: int, state: RunState, error: str) -> None:
        if not self._caused_by_stop(error):
            await self._store.update(RunRow, run_id, state=state, error=error, ended=now())

    def _caused_by_stop(self, error: str) -> bool:
        # It need not be so: whoever stops a server may also stop what a run talks to, or signal the run itself. The
        # next server finds out, because what has no recorded end starts over.
        return self._stopping and bool(error)

    async def _run(self, run_id: int) -> None:
        run = await self._store.get(RunRow, run_id)
        if run is None:
            return
        await self._store.update(RunRow, run.id, state=RunState.RUNNING, started=now())
        folder = self._folder.run(run.id)
        log = LiveLog(self._folder.log(run.id), self._settings.log_limit_mb * 1_000_000)
        self.logs[run.id] = log
        try:
            failure, choice = await self._execute(run.version, folder, log, run.model, run.judge)
            judge = partial(judge_run, run.version.slug, folder / "working", failure, log.path, choice)
            state, error = await anyio.to_thread.run_sync(judge)
            await self._finish_run(run.id, state, error)
        finally:
            # After the state: clients that follow the log look at the run as soon as it ends.
            del self.logs[run.id]
            log.close()

    async def _execute(
        self, version: VersionRow, folder: Path, log: LiveLog, model: str = "", judge: str = ""
    ) -> tuple[str | None, Choice | None]:
        """Run the version's notebook in `folder` on `model` and with `judge`, or with the server's choice.

        Return why it failed, and what its `%choose` did.
        """
        limit = self._settings.run_timeout
        key = f"fbp-{secrets.token_urlsafe(24)}"
        try:
            catalog = self._pool.catalog
            models = _choose_models(catalog, self._pool.mistake, self._folder, model, judge)
            packages = await self._install_packages(version, log)
            self._logs_of_keys[digest(key)] = log
            job = Job(
                folder=str(folder),
                environment=add_packages(await self._environment(key, catalog, *models), packages),
                memory_mb=self._settings.run_memory_mb,
                disk_mb=self._settings.run_disk_mb,
                datasets=self._find_datasets(version),
                hidden=_hidden_folders(self._folder),
                visible=[str(self._folder.environments)],
            )
            await anyio.to_thread.run_sync(_prepare, job, self._folder.notebook(version.id))
            try:
                ended = await supervise(self._executor, job, log.append, limit)
            finally:
                with anyio.CancelScope(shield=True):
                    for left in (job.scratch, job.covers):
                        await anyio.to_thread.run_sync(partial(shutil.rmtree, left, ignore_errors=True))
            outcome = await anyio.to_thread.run_sync(read_outcome, job.outcome)
            if outcome is not None and outcome.sdk_failure is not None:
                raise unusable_sdk(outcome.sdk_failure, folder)
            failure = ended.excess or failure_of(outcome, ended.exit, limit if ended.timed_out else None)
            return failure, outcome.choice if outcome is not None else None
        except LocalServerError as error:
            message = f"{error}\n{error.hint}" if error.hint else str(error)
            log.note(message)
            return message, None
        finally:
            self._logs_of_keys.pop(digest(key), None)
            with anyio.CancelScope(shield=True):
                await self._store.revoke_token(key)

    async def _install_packages(self, version: VersionRow, log: LiveLog) -> Path | None:
        """The folder with the packages that the version needs in addition; None if it needs none."""
        notebook = self._folder.notebook(version.id)
        try:
            own = await anyio.to_thread.run_sync(read_notebook_requirements, notebook)
        except FileNotFoundError:  # the server died between the record of a push and its file
            hint = "Push the task again."
            raise LocalServerError("The notebook of this version is missing.", hint=hint) from None
        requirements = [*self._settings.requirements, *own]
        return await self.environments.prepare(requirements, lambda text: log.note(f"[fanbench] {text}"))

    async def _environment(
        self, key: str, catalog: Catalog, model: ModelSpec, judge: ModelSpec
    ) -> dict[str, str]:
        """The variables of a run, for which the Model Proxy accepts the `key` from now on."""
        # A margin, so that it is the time limit that ends a slow run, and not a refused key.
        expires = await self._store.add_token(key, timedelta(seconds=self._settings.run_timeout + 60))
        return run_environment(
            proxy_url=self._proxy_url,
            proxy_key=key,
            expires=expires.isoformat(),
            model=model.slug,
            judge=judge.slug,
            available=[other.slug for other in catalog.model],
            aliases=catalog.aliases,
            extra=self._settings.run_environment,
            constraints=await self.environments.constraints(),
        )

    def _find_datasets(self, version: VersionRow) -> dict[str, str]:
        """The folders of the version's datasets.

        Raises:
            LocalServerError: Some are no longer there. A task might run without them, and record a wrong result.
        """
        found = {name: self._settings.find_dataset(name) for name in version.datasets}
        if gone := [name for name, real in found.items() if real is None]:
            place = self._settings.dataset_folder.absolute()
            raise LocalServerError(
                f"There is no longer a dataset {', '.join(gone)} below {place}: put it there, "
                f"or start the server with `fanbench serve --datasets DIR{self._folder.flag}`."
            )
        return {name: str(real.resolve()) for name, real in found.items() if real}


def _hidden_folders(folder: DataFolder) -> list[str]:
    # Unlike `Path.home()`, this is no failure for a user who has no home.
    home = os.path.expanduser("~")
    temporary = dict.fromkeys([os.environ.get("TMPDIR", "/tmp"), "/tmp", "/var/tmp"])  # noqa: S108 - to hide them
    return [str(folder.root), home, *temporary]


def _choose_models(
    catalog: Catalog, mistake: str, folder: DataFolder, model: str, judge: str
) -> tuple[ModelSpec, ModelSpec]:
    """The model and the judge of a run; empty names stand for the server's choice.

    `mistake` is the one in `models.toml`, if there is one, which explains why a model is missing.

    Raises:
        LocalServerError: One of them no longer exists, or the server has no models.
    """
    for name in (model, judge):
        if name and catalog.find(name) is None:
            raise LocalServerError(f"The model {name} no longer exists.", hint=mistake or None)
    spec = catalog.find(model) if model else catalog.default_model
    if spec is None:
        hint = mistake or f"Run `fanbench models add smollm2{folder.flag}` to add one."
        raise LocalServerError("This server has no models.", hint=hint)
    return spec, catalog.find(judge or catalog.judge) or catalog.default_model or spec


def _prepare(job: Job, notebook: Path) -> None:
    """Create the job's folder with its notebook, and delete what an interrupted run left there."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.working.mkdir(parents=True)
    shutil.copyfile(notebook, job.source)
