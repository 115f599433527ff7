"""The client with the verbs on it: what the command line does, as coroutines for Python."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, overload

import anyio
import anyio.to_thread

from fanbench._util.polling import POLL_INTERVAL, Pace
from fanbench.config import Config, resolve_config
from fanbench.errors import FanbenchError, NotFound
from fanbench.operations import download as download_verb
from fanbench.operations import push as push_verb
from fanbench.operations import run as run_verb
from fanbench.operations import start as start_verb
from fanbench.operations import status as status_verb
from fanbench.operations import watch as wait_verb
from fanbench.operations.download import DownloadReport
from fanbench.operations.events import Report, silent
from fanbench.operations.polls import RunPoll
from fanbench.operations.push import Pushed
from fanbench.operations.run import RunReport
from fanbench.operations.status import TaskStatus
from fanbench.operations.streams import follow_log
from fanbench.operations.watch import Watch
from fanbench.wire import api_client as api
from fanbench.wire.messages import Run

if TYPE_CHECKING:
    from fanbench.local.launcher import LocalServer

__all__ = ["Client", "local_server"]

T = TypeVar("T")
AnyPath = str | os.PathLike[str]


class Client(api.Client):
    """Kaggle Benchmarks for Python programs. Use it as `async with Client() as client:`.

    `Client()` finds endpoint and credentials as the command line does, `Client(config)` takes what
    `resolve_config` gave, and `Client.local()` is one of the local server. Runs on asyncio and trio.

    Here are the verbs: `push`, `run`, `wait`, `lines`, `download`, `status`. They take names as people write
    them, work on several things at once (`config.concurrency` calls at a time), and tell a `report` callback
    what happens (events of `fanbench.operations.events`). Below them is one coroutine for each call of the wire:
    `create_task`, `get_task`, `list_tasks`, `schedule_runs`, `list_runs`, `logs`, `download_output`, ….

    All times are in seconds. All errors are `fanbench.FanbenchError`s: besides those that a method names, any
    may raise ConnectionFailed, Unauthorized, Forbidden, RateLimited, ServerFault, BadRequest or BadAnswer. But
    a client that is not open, or no more, raises RuntimeError.
    """

    @classmethod
    @asynccontextmanager
    async def local(
        cls, data: AnyPath | None = None, *, concurrency: int | None = None
    ) -> AsyncGenerator[Self, None]:
        """A client of the local server, which is started in the background if it does not run.

        `data` is the server's folder (default: that of the command line). As after `--local`, the server goes
        on, and ends itself when idle; see `local_server` for one that ends with the block.

        Raises:
            LocalServerError: it cannot be started.
        """
        from fanbench.local.launcher import ensure_server

        server = await ensure_server(_path(data))
        async with cls(_config_of(server, concurrency)) as client:
            yield client

    def _opened(self) -> Self:
        """Asked before a verb begins several things at once: each of these would fail for itself.

        Raises:
            RuntimeError: the client is not open.
        """
        _ = self.transport
        return self

    # --- Push ---

    # The first of each pair is for a single name: a text is a sequence, too, but never meant as one.
    @overload
    async def push(  # type: ignore[overload-overlap]
        self,
        files: AnyPath,
        *,
        task: str | None = None,
        datasets: Sequence[str] = (),
        allow_no_run: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        report: Report = silent,
    ) -> Pushed: ...
    @overload
    async def push(
        self,
        files: AnyPath | Sequence[AnyPath],
        *,
        all_tasks: bool = False,
        datasets: Sequence[str] = (),
        allow_no_run: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        report: Report = silent,
    ) -> list[Pushed | FanbenchError]: ...
    async def push(
        self,
        files: AnyPath | Sequence[AnyPath],
        *,
        task: str | None = None,
        all_tasks: bool = False,
        datasets: Sequence[str] = (),
        allow_no_run: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        report: Report = silent,
    ) -> Pushed | list[Pushed | FanbenchError]:
        """Checks task files and makes a version of the task of each; with `wait`, until they are created.

        Of one file, the `Pushed`, or its error is raised; `task` names the one of several tasks in it. Of a
        list of files, or with `all_tasks` of all tasks in them, a list in their order, where an error stands
        for one that failed on the server: it ends none of the others. `datasets` are "owner/slug".

        Raises:
            TaskFileError: a file that a push would refuse: nothing has been sent.
            UsageError: two tasks with one name, a task that is not in the file.
            RunFailed: the server refused the version, or its creation failed.
            StillRunning: `timeout` is over.
        """
        given = [files] if isinstance(files, str | os.PathLike) else list(files)
        paths = [Path(file) for file in given]
        plan = partial(push_verb.plan_push, paths, task, all_tasks=all_tasks, allow_no_run=allow_no_run)
        outcomes = await push_verb.push_all(
            self._opened(),
            await anyio.to_thread.run_sync(plan),
            datasets=datasets,
            wait=wait,
            timeout=timeout,
            poll_interval=poll_interval,
            report=report,
        )
        return _only(outcomes) if isinstance(files, str | os.PathLike) and not all_tasks else outcomes

    # --- Runs ---

    async def run(
        self,
        tasks: str | Sequence[str],
        models: str | Sequence[str],
        *,
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        logs: bool = False,
        report: Report = silent,
    ) -> RunReport:
        """Runs each task on each model: one call a task, all tasks at once.

        The report has a launch for each task, a row in it for each model (scheduled, or skipped and why), and
        the `runs` that came of it: as they began, or, with `wait`, as they ended, well or badly. Models are
        written as `gemini-2.5-pro`, `google/gemini-2.5-pro` or as a pattern, `gemini-*`. `timeout`,
        `poll_interval` and `logs` (report every log line) are for the wait.

        Raises:
            UsageError: a name is none, or a model is unknown: nothing has been scheduled.
            NotFound, FanbenchError: the only task does not exist, or is not ready; of several, it is in the
                report's `failures`.
            StillRunning: `timeout` is over.
        """
        if not wait:
            return await start_verb.start_runs(self._opened(), _list(tasks), _list(models), report=report)
        return await run_verb.run_tasks(
            self._opened(),
            _list(tasks),
            _list(models),
            wait=True,
            timeout=timeout,
            poll_interval=poll_interval,
            logs=logs,
            report=report,
        )

    async def wait(
        self,
        *what: Run | str,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        logs: bool = False,
        report: Report = silent,
    ) -> list[Run]:
        """The runs once all have ended, well or badly: see their `state` and `error_message`.

        `what` are runs, in whose order the answer comes, or names of tasks: all runs that a task has now.
        The end of a run is seen at once, as its log stream ends; polls are `poll_interval` apart at most.

        Raises:
            NotFound: there is no such task.
            StillRunning: `timeout` is over; its `runs` are those that go on.
        """
        wanted = [run for item in what for run in await self._runs(item)]
        ids: dict[str, set[int]] = {}
        for run in wanted:
            ids.setdefault(_task_of(run), set()).add(run.id)
        watches = [Watch(slug, ids=frozenset(numbers)) for slug, numbers in ids.items()]
        ended = await wait_verb.wait_for_runs(
            self._opened(), *watches, timeout=timeout, poll_interval=poll_interval, logs=logs, report=report
        )
        by_id = {run.id: run for run in ended}
        return [by_id[number] for number in dict.fromkeys(run.id for run in wanted)]

    async def _runs(self, item: Run | str) -> Sequence[Run]:
        return [item] if isinstance(item, Run) else (await self.status(item)).runs

    async def lines(self, run: Run, *, poll_interval: float = POLL_INTERVAL) -> AsyncGenerator[str, None]:
        """The log of a run as whole lines without their ends, from its start until the run ends.

        A queued run is waited for, and a stream that breaks is taken up again: no line gets lost or comes
        twice. Close it (`contextlib.aclosing`) when leaving early.

        Raises:
            NotFound: the run has ended, and the server has no log of it.
            FanbenchError: the stream broke too often.
        """
        from fanbench.wire.log_stream import lines

        poll = RunPoll(self._opened(), _task_of(run), [run.model_version_slug], silent)
        pace, over = Pace(poll_interval), run.state.terminal
        while True:
            try:
                async with aclosing(lines(follow_log(self, run.id))) as texts:
                    async for text in texts:
                        yield text
                return
            except NotFound:
                if over:
                    raise
            over = any(other.id == run.id and other.state.terminal for other in await poll.ask() or ())
            if not over:
                await anyio.sleep(pace.next())

    # --- Results ---

    @overload
    async def download(  # type: ignore[overload-overlap]
        self,
        tasks: str,
        models: str | Sequence[str] = (),
        *,
        output: AnyPath = ".",
        include_source: bool = False,
        force: bool = False,
        report: Report = silent,
    ) -> DownloadReport: ...
    @overload
    async def download(
        self,
        tasks: Sequence[str],
        models: str | Sequence[str] = (),
        *,
        output: AnyPath = ".",
        include_source: bool = False,
        force: bool = False,
        report: Report = silent,
    ) -> list[DownloadReport | FanbenchError]: ...
    async def download(
        self,
        tasks: str | Sequence[str],
        models: str | Sequence[str] = (),
        *,
        output: AnyPath = ".",
        include_source: bool = False,
        force: bool = False,
        report: Report = silent,
    ) -> DownloadReport | list[DownloadReport | FanbenchError]:
        """Downloads the outputs of ended runs to `<output>/<task>/<version>/<model>/<run_id>/`.

        The report has a row for each run: done, cached (it was there; `force` downloads it again), or what
        went wrong with it, which ends none of the others and harms no earlier copy. Sizes are in bytes. Of a
        list of tasks, a list in their order, where an error stands for a task that failed as a whole.
        `fanbench.read_results` reads what is there then.

        Raises:
            NotFound: there is no such task.
            OutputError: `output` cannot be written to.
        """
        outcomes = await download_verb.download_tasks(
            self._opened(),
            _list(tasks),
            _list(models),
            output=Path(output),
            include_source=include_source,
            force=force,
            report=report,
        )
        return _only(outcomes) if isinstance(tasks, str) else outcomes

    @overload
    async def status(  # type: ignore[overload-overlap]
        self, tasks: str, models: str | Sequence[str] = ()
    ) -> TaskStatus: ...
    @overload
    async def status(
        self, tasks: Sequence[str], models: str | Sequence[str] = ()
    ) -> list[TaskStatus | FanbenchError]: ...
    async def status(
        self, tasks: str | Sequence[str], models: str | Sequence[str] = ()
    ) -> TaskStatus | list[TaskStatus | FanbenchError]:
        """A task and its runs, those of `models` only where some are given.

        Of a list of tasks, a list in their order, where an error stands for a task that failed.

        Raises:
            NotFound: there is no such task.
        """
        outcomes = await status_verb.task_statuses(self._opened(), _list(tasks), _list(models))
        return _only(outcomes) if isinstance(tasks, str) else outcomes


@asynccontextmanager
async def local_server(
    data: AnyPath | None = None, *, datasets: AnyPath | None = None
) -> AsyncGenerator[LocalServer, None]:
    """The local server (`url`, `token`, `pid`); one that was started here ends with the block.

    `data` is its folder (default: that of the command line), `datasets` a folder of `OWNER/SLUG/` folders
    that tasks may attach (for a server that is started here).

    Raises:
        LocalServerError: it cannot be started, or does not end.
    """
    from fanbench.local.launcher import ensure_server, stop_server

    server = await ensure_server(_path(data), datasets=_path(datasets))
    try:
        yield server
    finally:
        if server.started:
            with anyio.CancelScope(shield=True):
                await stop_server(_path(data))


def _config_of(server: LocalServer, concurrency: int | None) -> Config:
    # Nothing in the environment is to turn this client elsewhere.
    return resolve_config(endpoint=server.url, token=server.token, concurrency=concurrency, env={})


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)


def _list(names: str | Sequence[str]) -> list[str]:
    """A text is one name, and not the sequence of its letters."""
    return [names] if isinstance(names, str) else list(names)


def _only(outcomes: Sequence[T | FanbenchError]) -> T:
    (outcome,) = outcomes
    if isinstance(outcome, FanbenchError):
        raise outcome
    return outcome


def _task_of(run: Run) -> str:
    slug = run.task_slug
    return f"{slug.owner_slug}/{slug.task_slug}" if slug.owner_slug else slug.task_slug
