"""Executes pushes and runs through a carrier, a bounded number at a time, and records how they end."""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import structlog

from fanbench.errors import LocalServerError
from fanbench.local.carriers import Carrier
from fanbench.local.carriers.job import NotebookJob, Outcome, RunLost
from fanbench.local.carriers.local import KEY_MARGIN
from fanbench.local.environments import TIME_LIMIT
from fanbench.local.executor.environment import model_variables
from fanbench.local.folder import DataFolder
from fanbench.local.logs import LiveLog
from fanbench.local.models.catalog import Catalog, ModelSpec
from fanbench.local.models.pool import ModelPool
from fanbench.local.outputs import Outputs
from fanbench.local.requirements import read_notebook_requirements
from fanbench.local.settings import ServerSettings
from fanbench.local.state.store import Store, digest
from fanbench.local.state.tables import RunRow, VersionRow, now
from fanbench.local.verdicts import judge_creation, judge_run, result_of_run
from fanbench.wire.messages import CreationState, RunState

_log = structlog.get_logger(__name__)

_ATTEMPTS = 2
"""How often a run is begun if its machine is lost. A run that brings its machine down must not bring all down."""


@dataclass(frozen=True)
class Work:
    """A version to validate, or a run."""

    kind: Literal["creation", "run"]
    id: int


@dataclass(frozen=True)
class _Progress:
    """Work that a worker has taken up. It may still wait for a machine."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    started: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, kw_only=True)
class _Execution:
    """A notebook to be carried out. Each attempt has a number, from 1."""

    version: VersionRow
    folder: Path
    log: LiveLog
    started: Callable[[int], Awaitable[None]]
    """Awaited when an attempt leaves the queue of the carrier."""
    model: str = ""
    """Empty for the server's choice."""
    judge: str = ""
    """Empty for the server's choice."""
    effort: str = ""
    """The reasoning effort of the model; empty for the model as it is."""
    place: Callable[[int], str] = lambda _attempt: ""
    """Where the output of an attempt goes."""


class Scheduler:
    """First come, first served, by `settings.runs_at_once` workers."""

    def __init__(
        self,
        settings: ServerSettings,
        folder: DataFolder,
        store: Store,
        pool: ModelPool,
        carrier: Carrier,
        outputs: Outputs,
        proxy_url: str,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._store = store
        self._pool = pool
        self._carrier = carrier
        self._outputs = outputs
        self._proxy_url = proxy_url
        self._send, self._receive = anyio.create_memory_object_stream[Work](math.inf)
        self._in_progress: dict[Work, _Progress] = {}
        self.logs: dict[int, LiveLog] = {}
        """The logs of the runs that have started and not ended, by id."""
        self._waiting = 0
        self._stopping = False
        self._logs_of_keys: dict[str, LiveLog] = {}

    @property
    def busy(self) -> bool:
        return self._waiting > 0 or bool(self._in_progress)

    @property
    def in_progress(self) -> int:
        """The number of creations and runs that have started and not ended."""
        return sum(progress.started.is_set() for progress in self._in_progress.values())

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
        for progress in in_progress:
            progress.scope.cancel()
        for progress in in_progress:
            await progress.ended.wait()

    async def stop(self, timeout: float) -> None:
        """Start nothing more, let what is in progress end within `timeout` seconds, and then end its processes.

        What is submitted from now on, what has not ended, and what fails because of the stop is left to the next
        server. A second call shortens the wait of the first.
        """
        self._stopping = True
        await self.cancel([work for work, each in self._in_progress.items() if not each.started.is_set()])
        with anyio.move_on_after(timeout):
            for progress in [*self._in_progress.values()]:
                await progress.ended.wait()
        await self.cancel([*self._in_progress])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scheduler]:
        """Carry out what an earlier server left unfinished, then whatever is submitted."""
        versions, runs = await self._store.unfinished()
        for work in [*(Work("creation", id_) for id_ in versions), *(Work("run", id_) for id_ in runs)]:
            self.submit(work)
        async with anyio.create_task_group() as workers:
            for _ in range(self._settings.runs_at_once):
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
            progress = self._in_progress[work] = _Progress()
            with progress.scope:
                try:
                    await (self._create if work.kind == "creation" else self._run)(work.id, progress)
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
                    progress.ended.set()

    async def _create(self, version_id: int, progress: _Progress) -> None:
        """Validate a pushed version by running its notebook on the default model."""
        version = await self._store.get(VersionRow, version_id)
        if version is None:
            return
        log = LiveLog(self._folder.creation_log(version.id), self._settings.log_limit_mb * 1_000_000)

        async def started(_attempt: int) -> None:
            log.open()
            await self._store.update(VersionRow, version.id, state=CreationState.RUNNING)
            progress.started.set()

        folder = self._folder.creation(version.id)
        try:
            outcome = await self._execute(
                _Execution(version=version, folder=folder, log=log, started=started)
            )
        finally:
            log.close()
        state, error = await anyio.to_thread.run_sync(judge_creation, version.slug, outcome, log.path)
        await self._finish_creation(version.id, state, error)

    async def _finish_creation(self, version_id: int, state: CreationState, error: str) -> None:
        if not self._caused_by_stop(error):
            await self._store.update(VersionRow, version_id, state=state, error=error)

    async def _finish_run(
        self, run_id: int, state: RunState, error: str, result: bool | float | None = None
    ) -> None:
        if not self._caused_by_stop(error):
            name = "boolean_result" if isinstance(result, bool) else "numeric_result"
            values = {} if result is None else {name: result}
            await self._store.update(RunRow, run_id, state=state, error=error, ended=now(), **values)

    def _caused_by_stop(self, error: str) -> bool:
        # Any error may be: whoever stops a server may also stop what a run talks to, or signal the run itself. The next
        # server finds out, because it starts over what has no recorded end.
        return self._stopping and bool(error)

    async def _run(self, run_id: int, progress: _Progress) -> None:
        run = await self._store.get(RunRow, run_id)
        if run is None or run.cancelled:
            return
        log = LiveLog(self._folder.log(run.id), self._settings.log_limit_mb * 1_000_000)

        async def started(attempt: int) -> None:
            log.open()
            first = {} if run.id in self.logs else {"started": now()}
            number = run.attempt + attempt
            await self._store.update(RunRow, run.id, state=RunState.RUNNING, attempt=number, **first)
            self.logs[run.id] = log
            progress.started.set()

        execution = _Execution(
            version=run.version,
            folder=self._folder.run(run.id),
            log=log,
            started=started,
            model=run.model,
            judge=run.judge,
            effort=run.effort,
            place=lambda attempt: self._outputs.place(run.id, run.attempt + attempt),
        )
        try:
            await self._outputs.delete_here([run.id])
            outcome = await self._execute(execution)
            state, error = await anyio.to_thread.run_sync(judge_run, run.version.slug, outcome, log.path)
            result = None
            if state is RunState.COMPLETED:
                result = result_of_run(run.version.slug, run.model, outcome.run_files)
            await self._finish_run(run.id, state, error, result)
        finally:
            # After the state: clients that follow the log look at the run as soon as it ends.
            self.logs.pop(run.id, None)
            log.close()

    async def _execute(self, execution: _Execution) -> Outcome:
        """Execute the notebook, again if its machine is lost. If the server cannot, the run has failed."""
        log = execution.log
        try:
            model, judge = _choose_models(
                self._pool.catalog, self._pool.mistake, self._folder, execution.model, execution.judge
            )
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return await self._attempt(execution, attempt, model, judge)
                except RunLost as lost:
                    if self._stopping or attempt == _ATTEMPTS:
                        raise LocalServerError(f"The run was lost: {lost}.") from None
                    log.note(f"[fanbench] The run was lost: {lost}. It starts again: attempt {attempt + 1}.")
            raise AssertionError("unreachable")
        except LocalServerError as error:
            message = f"{error}\n{error.hint}" if error.hint else str(error)
            log.note(message)
            return Outcome(failure=message)

    async def _attempt(
        self, execution: _Execution, attempt: int, model: ModelSpec, judge: ModelSpec
    ) -> Outcome:
        """Execute the notebook once, with a new key: what may be left of a lost attempt has no valid one."""
        settings, version, log = self._settings, execution.version, execution.log
        key = f"fbp-{secrets.token_urlsafe(24)}"
        notebook, own_requirements = await anyio.to_thread.run_sync(self._read_notebook, version)
        job = NotebookJob(
            name=str(execution.folder.relative_to(self._folder.root)),
            notebook=notebook,
            variables=self._variables(key, model, judge),
            pass_on=settings.run_environment,
            requirements=[*settings.requirements, *own_requirements],
            datasets=version.datasets,
            time_limit=settings.run_timeout,
            memory_mb=settings.run_memory_mb,
            disk_mb=settings.run_disk_mb,
            outputs=execution.place(attempt),
        )

        async def begin() -> None:
            lifetime = timedelta(seconds=TIME_LIMIT + job.time_limit + KEY_MARGIN)
            await self._store.add_token(key, lifetime, model.slug, execution.effort)
            await execution.started(attempt)

        self._logs_of_keys[digest(key)] = log
        try:
            return await self._carrier.run(job, begin, log.append)
        finally:
            self._logs_of_keys.pop(digest(key), None)
            with anyio.CancelScope(shield=True):
                await self._store.revoke_token(key)

    def _read_notebook(self, version: VersionRow) -> tuple[str, list[str]]:
        """The text of the version's notebook, and the packages that it asks for."""
        notebook = self._folder.notebook(version.id)
        try:
            return notebook.read_text(encoding="utf-8"), [*read_notebook_requirements(notebook)]
        except FileNotFoundError:  # the server died between the record of a push and its file
            hint = "Push the task again."
            raise LocalServerError("The notebook of this version is missing.", hint=hint) from None

    def _variables(self, key: str, model: ModelSpec, judge: ModelSpec) -> dict[str, str]:
        catalog = self._pool.catalog
        return model_variables(
            proxy_url=self._proxy_url,
            proxy_key=key,
            model=model.slug,
            judge=judge.slug,
            available=[other.slug for other in catalog.model],
            aliases=catalog.aliases,
        )


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
