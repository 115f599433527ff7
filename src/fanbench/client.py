"""The client: every operation of the command line, and every call of the API, as a coroutine."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import anyio
import anyio.to_thread

from fanbench._util.polling import POLL_INTERVAL
from fanbench.config import Config, resolve_config
from fanbench.errors import ApiError, FanbenchError, UsageError
from fanbench.operations.events import Emit, ignore_events
from fanbench.operations.lookup import NO_SUCH_CALL
from fanbench.wire import protocol
from fanbench.wire.candidates import Candidate, same_label, with_efforts
from fanbench.wire.messages import (
    AddTasksRequest,
    AddTasksResponse,
    BatchScheduleRequest,
    BatchScheduleResponse,
    BenchmarkModel,
    CancelRunsRequest,
    CancelRunsResponse,
    Citation,
    CreateTaskRequest,
    GetLeaderboardRequest,
    IntrospectTokenRequest,
    IntrospectTokenResponse,
    Leaderboard,
    ListConfigsRequest,
    ListConfigsResponse,
    ListModelsRequest,
    ListModelsResponse,
    ListRunsRequest,
    ListRunsResponse,
    ListTasksRequest,
    ListTasksResponse,
    LogEntry,
    Message,
    ModelConfig,
    ModelProxyQuotas,
    ModelProxyToken,
    ModelVersionCandidate,
    PublishTaskRequest,
    QueueStatus,
    QueueStatusRequest,
    RemoveTasksResponse,
    Run,
    RunIds,
    ScheduleResult,
    SkipPolicy,
    Task,
    TaskOptions,
    TaskQuota,
    TaskRequest,
    TaskSlugs,
    UpdateTaskRequest,
    UpdateTaskResponse,
    UpdateTaskVersionRequest,
)
from fanbench.wire.metadata import Metadata
from fanbench.wire.pages import Pages
from fanbench.wire.queue import Enqueue
from fanbench.wire.responses import invalid_answer
from fanbench.wire.retry import RetryPolicy
from fanbench.wire.slugs import join_task, normalize_model, split_task
from fanbench.wire.transport import CallLimits, Transport

if TYPE_CHECKING:
    import httpx

    from fanbench.local.address import LocalServer
    from fanbench.operations.download import DownloadReport
    from fanbench.operations.push import Pushed
    from fanbench.operations.queue import EnqueueMode, Skip
    from fanbench.operations.run import RunReport
    from fanbench.operations.status import TaskStatus
    from fanbench.wire.downloads import Downloaded, ProgressCallback

__all__ = ["Client", "local_config", "local_server"]

T = TypeVar("T")
AnyPath = str | os.PathLike[str]
Name = TypeVar("Name", bound=AnyPath)

PAGE_SIZE = 100
DEFAULT_RETRY = RetryPolicy()
LOCAL_RESTARTS = 5
"""How often a client starts a local server that has ended: one that its runs bring down must not come back for ever."""


class Client:
    """Kaggle Benchmarks for Python programs. Use it as `async with Client() as client:`.

    `Client()` finds the endpoint and credentials as the command line does, `Client(config)` takes the result
    of `resolve_config`, and `Client.local()` connects to the local server. It runs on asyncio and trio.
    Idempotent calls are retried according to `retry`; several clients may share their `limits`.

    With `config.local_data`, as from `Client.local()`, the client follows the local server of that data folder when it
    comes back at another URL, and starts it again when it has ended; `started` is called with it.

    The operations `push`, `run`, `wait`, `lines`, `download` and `status` accept task and model names as
    people write them, work on several things at once (`config.concurrency` calls at a time), and pass events
    (see `fanbench.operations.events`) to an `emit` callback. Below them is one coroutine per call of the API:
    `create_task`, `get_task`, `list_tasks`, `schedule_runs`, `list_runs`, `logs`, `download_output` and so on.
    These take tasks as "slug" or "owner/slug", already slugified (`fanbench.wire.slugs.slugify_task`).

    All times are in seconds. All errors are `fanbench.FanbenchError`s, with the call and the server's own
    message where there is one. Besides those that a method names, any method may raise UsageError (a name is not
    valid), ConnectionFailed, RateLimited or ServerFault (after the retries), Unauthorized, Forbidden, BadRequest or
    BadAnswer. Using a client that is not open raises RuntimeError.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        limits: CallLimits | None = None,
        http: httpx.AsyncBaseTransport | None = None,
        retry: RetryPolicy = DEFAULT_RETRY,
        started: Callable[[LocalServer], None] | None = None,
    ) -> None:
        self.config = config or resolve_config()
        self._started = started
        self._limits = limits
        self._http = http
        self._retry = retry
        self._transport: Transport | None = None
        self._restarts_left = LOCAL_RESTARTS
        #: The efforts of configurations by their slugs, as far as they were needed.
        self._efforts: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def local(
        cls, data: AnyPath | None = None, *, concurrency: int | None = None
    ) -> AsyncGenerator[Self, None]:
        """Connect to the local server, starting it in the background if it is not running.

        `data` is the server's folder (default: the one that the command line uses). As with `--local`, the
        server outlives the block and stops when idle; `local_server` starts one that ends with the block.

        Raises:
            LocalServerError: The server cannot be started.
        """
        async with cls(await local_config(data, concurrency=concurrency)) as client:
            yield client

    async def __aenter__(self) -> Self:
        limits = self._limits or CallLimits.of(self.config.concurrency)
        locate = None if self.config.local_data is None else partial(self._locate, self.config.local_data)
        self._lookup = anyio.Lock()
        self._transport = Transport(self.config, limits, self._retry, self._http, locate)
        return self

    async def _locate(self, data: Path) -> str:
        """Where the local server of the data folder listens. It is started if necessary, but not again and again."""
        from fanbench.local.address import find_server
        from fanbench.local.launcher import ensure_server

        if self._restarts_left == 0:
            server = await anyio.to_thread.run_sync(find_server, data)
            return server.url if server is not None else self.transport.config.endpoint
        server = await ensure_server(data)
        if server.started:
            self._restarts_left -= 1
            if self._started is not None:
                self._started(server)
        return server.url

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    @property
    def transport(self) -> Transport:
        """The open connection to the server.

        Raises:
            RuntimeError: The client is not open.
        """
        if self._transport is None:
            raise RuntimeError("The client is not open: use it in `async with Client() as client:`.")
        return self._transport

    # --- Operations ---

    # Each operation reads `self.transport` first: on a client that is not open, it then fails once as a
    # whole instead of once for each of its items.

    # In each pair of overloads the first is for a single name: a str is a sequence, too, but never meant as one.
    @overload
    async def push(  # type: ignore[overload-overlap]
        self,
        files: AnyPath,
        *,
        task: str | None = None,
        datasets: Sequence[str] = (),
        allow_no_run: bool = False,
        if_changed: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        emit: Emit = ignore_events,
    ) -> Pushed: ...
    @overload
    async def push(
        self,
        files: AnyPath | Sequence[AnyPath],
        *,
        all_tasks: bool = False,
        datasets: Sequence[str] = (),
        allow_no_run: bool = False,
        if_changed: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        emit: Emit = ignore_events,
    ) -> list[Pushed | FanbenchError]: ...
    async def push(
        self,
        files: AnyPath | Sequence[AnyPath],
        *,
        task: str | None = None,
        all_tasks: bool = False,
        datasets: Sequence[str] = (),
        allow_no_run: bool = False,
        if_changed: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        emit: Emit = ignore_events,
    ) -> Pushed | list[Pushed | FanbenchError]:
        """Check task files (`.py` or `.ipynb`) and push a new version of each task.

        With `wait`, return once the server has created them. With `if_changed`, a task whose newest version on the
        server certainly has the same content is not pushed: its `Pushed` is `unchanged`.

        For a single file, returns its `Pushed` or raises its error; `task` selects one of several tasks in
        the file. For a list of files, or with `all_tasks`, returns one outcome per task in the order given:
        an error stands for a task that failed on the server and does not affect the others. `datasets` are
        "owner/slug".

        Raises:
            TaskFileError: A file has errors that a push would refuse. Nothing has been sent.
            UsageError: Two tasks have the same name, or a task is not in the file.
            FanbenchError: The server refused the version, or an earlier one is still being created and `wait` is off.
            RunFailed: The creation of the version failed.
            StillRunning: `timeout` has passed.
        """
        from fanbench.operations.push import plan_push, push_tasks

        _ = self.transport
        single = isinstance(files, str | os.PathLike)
        paths = [Path(file) for file in _list(files)]
        plan = partial(
            plan_push, paths, task, all_tasks=all_tasks, allow_no_run=allow_no_run, datasets=datasets
        )
        outcomes = await push_tasks(
            self,
            await anyio.to_thread.run_sync(plan),
            datasets=datasets,
            if_changed=if_changed,
            wait=wait,
            timeout=timeout,
            poll_interval=poll_interval,
            emit=emit,
        )
        return _only(outcomes) if single and not all_tasks else outcomes

    async def run(
        self,
        tasks: str | Sequence[str],
        models: str | Sequence[str] = (),
        *,
        efforts: str | Sequence[str] = (),
        agents: str | Sequence[str] = (),
        wait: bool = False,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        logs: bool = False,
        judge: str | None = None,
        enqueue: EnqueueMode = "never",
        skip: Skip | None = None,
        stale_after: float | None = None,
        emit: Emit = ignore_events,
    ) -> RunReport:
        """Run each task on each model, or on each agent: one call per task, all tasks at once.

        The report has one launch per task with one row per model (scheduled, or skipped and why), and the
        `runs` that were started: as scheduled or, with `wait`, in their final state. Models are written as
        `gemini-2.5-pro`, `google/gemini-2.5-pro` or a pattern such as `gemini-*`. With `efforts`, such as "low" and
        "high", tasks run on each model at each reasoning effort, and rows are called `MODEL@EFFORT`; a model may also
        be written like this. `agents` are slugs, for tasks that are run on agents. `timeout`, `poll_interval`
        and `logs` (report every log line) apply to the wait. `judge` is the model behind `judge_llm` in the runs,
        which only a local server lets you choose. With `enqueue`, "auto" or "always", the runs are put into the
        server's queue, if the account has one or else not at all. With "always", `skip` leaves models alone: those with
        "any" run of the task, or with a latest run that has "completed", though not longer ago than `stale_after`
        seconds.

        Raises:
            UsageError: A name is invalid, a model is unknown or lacks an effort, a task is not run on agents, or a
                judge is given to Kaggle. Nothing has been scheduled.
            NotFound: The only task does not exist. With several tasks, it is in the report's `failures`.
            FanbenchError: The only task is not ready. With several tasks, it is in the report's `failures`.
            StillRunning: `timeout` has passed.
        """
        _ = self.transport
        from fanbench.operations.run import run_tasks

        return await run_tasks(
            self,
            _list(tasks),
            _list(models),
            efforts=_list(efforts),
            agents=_list(agents),
            until="ended" if wait else "listed",
            timeout=timeout,
            poll_interval=poll_interval,
            logs=logs,
            judge=judge,
            enqueue=enqueue,
            skip=skip,
            stale_after=stale_after,
            emit=emit,
        )

    async def wait(
        self,
        *what: Run | str,
        timeout: float | None = None,
        poll_interval: float = POLL_INTERVAL,
        logs: bool = False,
        emit: Emit = ignore_events,
    ) -> list[Run]:
        """Return the runs once all have ended; see their `state` and `error_message` for how.

        `what` holds runs, which are returned in that order, or names of tasks, which stand for all runs that
        the task has now. The end of a run is noticed as soon as its log stream ends; polls are at most
        `poll_interval` apart.

        Raises:
            NotFound: A task does not exist.
            StillRunning: `timeout` has passed; the error's `runs` are those that have not ended.
        """
        from fanbench.operations.watch import RunSelection, wait_for_runs

        _ = self.transport
        wanted: list[Run] = []
        for item in what:
            wanted += [item] if isinstance(item, Run) else (await self.status(item)).runs
        ids: dict[str, set[int]] = {}
        for run in wanted:
            ids.setdefault(join_task(run.task_slug), set()).add(run.id)
        selections = [RunSelection(slug, ids=frozenset(numbers)) for slug, numbers in ids.items()]
        ended = await wait_for_runs(
            self, *selections, timeout=timeout, poll_interval=poll_interval, logs=logs, emit=emit
        )
        by_id = {run.id: run for run in ended}
        return [by_id[number] for number in dict.fromkeys(run.id for run in wanted)]

    async def lines(self, run: Run, *, poll_interval: float = POLL_INTERVAL) -> AsyncGenerator[str, None]:
        """Yield the log of a run as whole lines without line ends, from its start until the run ends.

        Waits for a queued run, and resumes a stream that breaks, ends early or is garbled, without losing or
        repeating a line. What a live stream lacks is read in the stored log once the run has ended. Close the
        generator (`contextlib.aclosing`) when leaving early.

        Raises:
            NotFound: The run has ended, and the server has no log of it.
            ConnectionFailed: The stream broke too often, or was damaged on its way and is not what is stored.
            FanbenchError: The log, or the state of the run, cannot be read.
        """
        from fanbench.operations.watch import END_LAG, RunWatcher
        from fanbench.wire.log_lines import lines
        from fanbench.wire.log_stream import follow_log

        _ = self.transport
        candidate = Candidate.of_run(run)
        models = [candidate.label] if candidate.model == normalize_model(run.model_version_slug) else []
        watcher = RunWatcher(self, join_task(run.task_slug), models, known=[run], poll_interval=poll_interval)

        async def missing() -> bool:
            """Poll until it is worth trying again; a run that has ended without a log has none."""
            if watcher.states[run.id].terminal:
                return False
            await watcher.poll()
            if not watcher.states[run.id].terminal:
                await watcher.wait_for_next_poll()
            return True

        async def probe() -> bool:
            if not watcher.states[run.id].terminal:
                await watcher.poll()
            return watcher.states[run.id].terminal

        async def ended() -> bool:
            """Poll until a list shows the end of the run, which it may do late."""
            watcher.hurry()
            with anyio.move_on_after(END_LAG):
                while not await probe():
                    await watcher.wait_for_next_poll()
            return watcher.states[run.id].terminal

        over = watcher.states[run.id].terminal
        log = follow_log(self, run.id, ended=ended, read_on=True, over=over, missing=missing, probe=probe)
        async with aclosing(lines(log)) as texts:
            async for text in texts:
                yield text

    @overload
    async def download(  # type: ignore[overload-overlap]
        self,
        tasks: str,
        models: str | Sequence[str] = (),
        *,
        output: AnyPath = ".",
        include_source: bool = False,
        force: bool = False,
        emit: Emit = ignore_events,
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
        emit: Emit = ignore_events,
    ) -> list[DownloadReport | FanbenchError]: ...
    async def download(
        self,
        tasks: str | Sequence[str],
        models: str | Sequence[str] = (),
        *,
        output: AnyPath = ".",
        include_source: bool = False,
        force: bool = False,
        emit: Emit = ignore_events,
    ) -> DownloadReport | list[DownloadReport | FanbenchError]:
        """Download the outputs of ended runs to `<output>/<task>/<version>/<model>/<run_id>/`.

        The report has one row per run: downloaded, cached (already there; `force` downloads it again) or
        failed. A failure neither stops the other downloads nor harms an earlier copy. Sizes are in bytes. For
        a list of tasks, returns one report per task in the order given; an error stands for a task that failed
        as a whole. Read the files with `fanbench.read_results`.

        Raises:
            NotFound: The task does not exist.
            OutputError: `output` cannot be written to.
        """
        from fanbench.operations.download import download_tasks

        _ = self.transport
        outcomes = await download_tasks(
            self,
            _list(tasks),
            _list(models),
            output=Path(output),
            include_source=include_source,
            force=force,
            emit=emit,
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
        """Return a task with its runs, or only the runs on `models` if any are given.

        For a list of tasks, returns one outcome per task in the order given; an error stands for a task that
        failed.

        Raises:
            NotFound: The task does not exist.
        """
        from fanbench.operations.status import task_statuses

        _ = self.transport
        outcomes = await task_statuses(self, _list(tasks), _list(models))
        return _only(outcomes) if isinstance(tasks, str) else outcomes

    # --- Calls: tasks ---

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        """Create a new version of the task. `text` is the notebook's JSON; `datasets` are "owner/slug".

        The call is retried only if the server certainly did not carry it out.
        """
        options = TaskOptions(dataset_data_sources=list(datasets)) if datasets else None
        request = CreateTaskRequest(slug=slug, text=text, options=options)
        return await self.transport.call(protocol.CREATE_TASK, request, Task)

    async def get_task(self, task: str, *, version: int = 0, include_definition: bool = False) -> Task:
        """Return one `version` of the task; 0 stands for the newest.

        `include_definition` asks for what is behind it (`Task.definition`), which a server may not say.

        Raises:
            NotFound: The task does not exist.
            Forbidden: Kaggle's answer for another user's task that is not public.
        """
        request = TaskRequest(slug=split_task(task, version), include_definition=include_definition)
        return await self.transport.call(protocol.GET_TASK, request, Task)

    def list_tasks(
        self,
        *,
        regex: str | None = None,
        status: str | None = None,
        owner: str = "",
        benchmark: str = "",
        version: int = 0,
        include_definition: bool = False,
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[Task]:
        """Iterate over the caller's tasks, over those of another `owner`, or over those of a benchmark.

        `status` is the name of a creation state such as "COMPLETED". With `benchmark`, a slug, `owner` is the owner of
        the benchmark, and `version` the benchmark's; 0 stands for its published version, or else its draft. An
        older server ignores these three. `include_definition` is that of `get_task`.
        """

        async def fetch(token: str) -> tuple[list[Task], str]:
            request = ListTasksRequest(
                regex_filter=regex or "",
                status_filter=status or "",
                owner_slug=owner,
                benchmark_slug=benchmark,
                version_number=version,
                include_definition=include_definition,
                page_size=page_size,
                page_token=token,
            )
            page = await self.transport.call(protocol.LIST_TASKS, request, ListTasksResponse)
            return page.tasks, page.next_page_token

        return Pages(protocol.LIST_TASKS, fetch)

    async def publish_task(self, task: str, *, publish_notebook: bool = True) -> Task:
        """Make the task public, and with `publish_notebook` the notebook behind it.

        Raises:
            NotFound: The task does not exist.
        """
        request = PublishTaskRequest(slug=split_task(task), publish_backing_notebook=publish_notebook)
        return await self.transport.call(protocol.PUBLISH_TASK, request, Task)

    async def update_task(
        self,
        task: str,
        *,
        version: int = 0,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        provenance: str | None = None,
        citations: Sequence[Citation] | None = None,
    ) -> UpdateTaskResponse:
        """Change what the page of the task's `version` says, by default of the newest: only what is not None.

        An empty value removes what is there. The answer has the task as the server stored it: HTML in the Markdown of
        `description` may be changed, tags are in lower case, and citations without an http(s) URL are dropped. It also
        has the tags that the server does not know, which are left out. `provenance` has at most 4,000 characters.

        Raises:
            UsageError: There is nothing to change, or tags are given for a version, which has none of its own. Nothing
                has been sent.
            NotFound: The task does not exist, or the server does not have this call.
            BadRequest: The provenance is too long.
        """
        change = Metadata(
            description=description,
            tags=None if tags is None else tuple(tags),
            provenance=provenance,
            citations=None if citations is None else tuple(citations),
        )
        if not change.given:
            raise UsageError("Nothing was given to change.")
        if version and tags is not None:
            raise UsageError(
                "Tags belong to a task, not to one of its versions.", hint="Leave the version out."
            )
        values: dict[str, Any] = {
            "slug": split_task(task, version),
            "description": description or "",
            "provenance_sources": provenance or "",
            "citations": list(citations or ()),
            "update_mask": change.mask,
        }
        if version:
            of_version = UpdateTaskVersionRequest(**values)
            updated = await self.transport.call(protocol.UPDATE_TASK_VERSION, of_version, Task)
            return UpdateTaskResponse(task=updated)
        request = UpdateTaskRequest(**values, tags=list(tags or ()))
        return await self.transport.call(protocol.UPDATE_TASK, request, UpdateTaskResponse)

    async def delete_task(self, task: str) -> None:
        """Delete the task. Only the local server supports it.

        Raises:
            NotFound: The task does not exist, or the server is Kaggle.
            ServerFault: Status 501: the server is Kaggle.
        """
        await self.transport.call(protocol.DELETE_TASK, TaskRequest(slug=split_task(task)), Message)

    # --- Calls: runs ---

    async def schedule_runs(
        self,
        task: str,
        models: Sequence[str] = (),
        *,
        version: int = 0,
        judge: str = "",
        effort: str = "",
        agents: Sequence[str] = (),
        enqueue: Enqueue | None = None,
    ) -> list[ScheduleResult]:
        """Start one run of a task's `version` per model, or per agent, and return one result each in the order given.

        Version 0 stands for the newest. `effort` is the reasoning effort of all models, such as "high"; empty for the
        server's choice. An agent has an effort of its own. With `enqueue`, the runs are put into the server's queue.

        The call is retried only if the server certainly did not carry it out.

        Raises:
            UsageError: There are neither models nor agents, or both, or agents and an effort. Nothing has been sent.
            NotFound: The task, a model or an agent does not exist; or, with `enqueue`, the account has no queue.
            BadRequest: A model lacks the effort, or the benchmark of `enqueue` lacks the task.
        """
        if not models and not agents:
            raise UsageError("No models were given to run the task on.")
        if agents and (models or effort):
            what = "models" if models else "an effort"
            raise UsageError(f"One call cannot schedule agents with {what}.", hint="Make two calls.")
        request = BatchScheduleRequest(
            task_slugs=[split_task(task, version)],
            model_version_slugs=[normalize_model(model) for model in models],
            agent_slugs=list(agents),
            reasoning_effort=effort,
            judge_version_slug=normalize_model(judge),
            enqueue=enqueue is not None,
            skip_policy=enqueue.skip if enqueue else SkipPolicy.UNSPECIFIED,
            stale_after=enqueue.duration if enqueue else "",
            benchmark=enqueue.benchmark_slug if enqueue else None,
        )
        answer = await self.transport.call(protocol.SCHEDULE_RUNS, request, BatchScheduleResponse)
        if len(answer.results) != len(models) + len(agents):
            asked = f"{len(agents)} agents" if agents else f"{len(models)} models"
            problem = f"{len(answer.results)} results came back for {asked}"
            raise invalid_answer(protocol.SCHEDULE_RUNS, problem)
        return answer.results

    async def queue_status(self) -> QueueStatus:
        """Return how many runs of the caller are queued and running, and how those of the last 24 hours have ended.

        They are counted however they were scheduled, for all models together, per model, and per benchmark.

        Raises:
            ApiError: Status 404, 405 or 501: the server is older than this call.
        """
        return await self.transport.call(protocol.GET_QUEUE_STATUS, QueueStatusRequest(), QueueStatus)

    async def cancel_runs(
        self,
        tasks: str | Sequence[str] = (),
        *,
        run_ids: Sequence[int] = (),
        model: str = "",
        effort: str = "",
        agent: str = "",
        include_active: bool = False,
    ) -> CancelRunsResponse:
        """Cancel runs of the caller: all of `tasks`, or exactly those with `run_ids`.

        They may be narrowed to those of one `model`, at one reasoning `effort` or at any, or to those of one `agent`.
        Runs that have started are left alone without `include_active`. The answer counts the runs that were cancelled.
        A run that the server cannot reach goes on and is not counted: ask again. A cancelled run is not listed any
        more.

        Raises:
            UsageError: Neither or both of `tasks` and `run_ids` are given, both a model and an agent, or an effort
                without a model. Nothing has been sent.
            NotFound: A task does not exist, or the server does not have this call.
        """
        slugs = [split_task(task) for task in _list(tasks)]
        if bool(slugs) == bool(run_ids):
            raise UsageError("Give either tasks or run ids to cancel.")
        if agent and model:
            raise UsageError("Give either a model or an agent whose runs to cancel.")
        if effort and not model:
            raise UsageError(
                "The effort has no model.", hint="Give the model whose runs at this effort to cancel."
            )
        candidate = ModelVersionCandidate(model_version_slug=normalize_model(model), reasoning_effort=effort)
        request = CancelRunsRequest(
            task_slugs=TaskSlugs(slugs=slugs) if slugs else None,
            run_ids=RunIds(ids=list(run_ids)) if run_ids else None,
            model_version=candidate if model else None,
            agent_slug=agent,
            include_active=include_active,
        )
        return await self.transport.call(protocol.CANCEL_RUNS, request, CancelRunsResponse)

    def list_runs(self, task: str, *, models: Sequence[str] = (), version: int = 0) -> AsyncIterator[Run]:
        """Iterate over the runs of a task's `version`, each once, or only over those on `models` if any are given.

        Version 0 stands for the newest. "MODEL" selects the runs without an effort, and "MODEL@EFFORT" those at one.
        """
        wanted = list(dict.fromkeys(Candidate.parse(model).model for model in models))
        known = set(map(same_label, models))
        seen: set[int] = set()

        async def fetch(token: str) -> tuple[list[Run], str]:
            request = ListRunsRequest(
                task_slug=split_task(task, version),
                model_version_slugs=wanted,
                page_size=PAGE_SIZE,
                page_token=token,
            )
            page = await self.transport.call(protocol.LIST_RUNS, request, ListRunsResponse)
            # A run scheduled in the meantime pushes others to the next page, where they appear a second time;
            # and servers may ignore the filter.
            new = {
                run.id: run
                for run in await self._with_efforts(page.runs)
                if run.id not in seen and (not known or same_label(Candidate.of_run(run).label) in known)
            }
            seen.update(new)
            return list(new.values()), page.next_page_token

        return Pages(protocol.LIST_RUNS, fetch)

    async def _with_efforts(self, runs: list[Run]) -> list[Run]:
        """Return the runs with the efforts of their configurations, which are asked for when a new one turns up."""
        configs = {run.model_version_config_slug for run in runs} - {""}
        if not configs <= self._efforts.keys():
            async with self._lookup:  # of several lists at once, the first asks for all
                if not configs <= self._efforts.keys():
                    # One that is not listed is not looked for again.
                    self._efforts = dict.fromkeys(configs, "") | self._efforts | await self._list_efforts()
        return with_efforts(runs, self._efforts)

    async def _list_efforts(self) -> dict[str, str]:
        """The efforts of all configurations by their slugs; none if the server does not show them."""
        try:
            return {config.slug: config.reasoning_effort for config in await self.list_configs()}
        except ApiError as error:
            if error.status not in (403, *NO_SUCH_CALL):
                raise
            return {}

    def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        """Stream the run's log from its start; close the generator (`aclosing`) when leaving early.

        `silence` is the number of seconds without data after which a live stream counts as broken. A broken
        stream raises ConnectionFailed; `lines` resumes it instead. With `merge`, entries of one stream that arrive
        together become one, with the time of the last: long logs are read faster, for readers of the text only.

        Raises:
            NotFound: The run does not exist or is still queued.
        """
        from fanbench.wire.log_stream import read_log

        return read_log(self.transport, run_id, silence=silence, merge=merge)

    async def download_output(
        self,
        run_id: int,
        target: Path,
        *,
        include_source: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Downloaded:
        """Download the run's output as the folder `target`, which is replaced in one step or left untouched.

        `progress` is called with the bytes received and the total, or None if the server does not announce it.

        Raises:
            OutputError: The folder cannot be written, or (BadZip) the download is damaged or unsafe.
            NotFound: The run does not exist.
        """
        from fanbench.wire.downloads import download_output

        return await download_output(
            self.transport, run_id, target, include_source=include_source, progress=progress
        )

    # --- Calls: benchmarks ---

    async def add_tasks(
        self, benchmark: str, tasks: str | Sequence[str], *, version: int = 0
    ) -> AddTasksResponse:
        """Add tasks to a benchmark of the caller, "BENCHMARK" or "OWNER/BENCHMARK". They may be of other owners.

        `version` is the benchmark's; 0 stands for its published version, or else its draft. The answer has the tasks
        that were added, and those that were there already.

        Raises:
            UsageError: The benchmark is somebody else's, or there are no tasks. Nothing has been changed.
            NotFound: The benchmark or a task does not exist, or the server does not have this call.
        """
        request = await self._benchmark_tasks(benchmark, _list(tasks), version)
        return await self.transport.call(protocol.ADD_TASKS, request, AddTasksResponse)

    async def remove_tasks(
        self, benchmark: str, tasks: str | Sequence[str], *, version: int = 0
    ) -> RemoveTasksResponse:
        """Remove tasks from a benchmark of the caller; the tasks themselves stay. See `add_tasks`.

        The answer has the tasks that were removed, and those that were not there.

        Raises:
            UsageError: The benchmark is somebody else's, or there are no tasks. Nothing has been changed.
            NotFound: The benchmark or a task does not exist, or the server does not have this call.
        """
        request = await self._benchmark_tasks(benchmark, _list(tasks), version)
        return await self.transport.call(protocol.REMOVE_TASKS, request, RemoveTasksResponse)

    async def _benchmark_tasks(self, benchmark: str, tasks: Sequence[str], version: int) -> AddTasksRequest:
        """The request for a benchmark of the caller: it has no owner, because servers look among the caller's only."""
        if not tasks:
            raise UsageError("No tasks were given.")
        if "/" in benchmark:
            from fanbench.operations.benchmarks import own_benchmark

            _, benchmark = await own_benchmark(self, benchmark)
        return AddTasksRequest(
            benchmark_slug=benchmark, version_number=version, task_slugs=[split_task(task) for task in tasks]
        )

    # --- Calls: models, leaderboards, quotas, tokens ---

    async def list_models(self) -> list[BenchmarkModel]:
        """Return all models in the server's order."""

        async def fetch(token: str) -> tuple[list[BenchmarkModel], str]:
            request = ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
            page = await self.transport.call(protocol.LIST_MODELS, request, ListModelsResponse)
            return page.benchmark_models, page.next_page_token

        return [model async for model in Pages(protocol.LIST_MODELS, fetch)]

    async def list_configs(self, version_ids: Sequence[int] = ()) -> list[ModelConfig]:
        """Return the configurations of all models, or of the model versions with these ids (`ModelVersion.id`).

        Each is a model at one reasoning effort, or (empty) at its provider's default.

        Raises:
            ApiError: Status 404, 405 or 501: the server is older than this call.
        """

        async def fetch(token: str) -> tuple[list[ModelConfig], str]:
            request = ListConfigsRequest(
                benchmark_model_version_ids=list(version_ids), page_size=PAGE_SIZE, page_token=token
            )
            page = await self.transport.call(protocol.LIST_CONFIGS, request, ListConfigsResponse)
            return page.configs, page.next_page_token

        return [config async for config in Pages(protocol.LIST_CONFIGS, fetch)]

    async def leaderboard(self, owner: str, benchmark: str, *, version: int | None = None) -> Leaderboard:
        """Return the leaderboard of a benchmark, by default of its newest version.

        Raises:
            NotFound: The benchmark does not exist.
        """
        request = GetLeaderboardRequest(
            owner_slug=owner, benchmark_slug=benchmark, version_number=version or 0
        )
        return await self.transport.call(protocol.GET_LEADERBOARD, request, Leaderboard)

    async def task_quota(self) -> TaskQuota:
        """Return how many runs the caller may start per day, and how many are used."""
        return await self.transport.call(protocol.GET_TASK_QUOTA, Message(), TaskQuota)

    async def proxy_quotas(self) -> ModelProxyQuotas:
        """Return the caller's Model Proxy budget and spending, in US dollars per day and per month."""
        return await self.transport.call(protocol.GET_PROXY_QUOTAS, Message(), ModelProxyQuotas)

    async def create_proxy_token(self) -> ModelProxyToken:
        """Create a token for the Model Proxy, valid for about two hours; the previous one may be revoked."""
        return await self.transport.call(protocol.CREATE_PROXY_TOKEN, Message(), ModelProxyToken)

    async def introspect_token(self, token: str) -> IntrospectTokenResponse:
        """Return the owner of an API token and whether it is valid."""
        request = IntrospectTokenRequest(token=token)
        return await self.transport.call(protocol.INTROSPECT_TOKEN, request, IntrospectTokenResponse)


async def local_config(data: AnyPath | None = None, *, concurrency: int | None = None) -> Config:
    """Return the configuration of a client that follows the local server of `data`, which is started if necessary.

    Raises:
        LocalServerError: The server cannot be started.
    """
    from fanbench.local.launcher import ensure_server

    server = await ensure_server(None if data is None else Path(data))
    # An empty environment: its variables must not redirect this client to another server.
    config = resolve_config(endpoint=server.url, token=server.token, concurrency=concurrency, env={})
    return replace(config, local_data=server.data)


@asynccontextmanager
async def local_server(
    data: AnyPath | None = None, *, datasets: AnyPath | None = None
) -> AsyncGenerator[LocalServer, None]:
    """Run the local server (`url`, `token`, `pid`) for the duration of the block.

    A server that is already running is used and left running. `data` is the server's folder (default: the one
    that the command line uses). `datasets` is a folder of `OWNER/SLUG/` folders that tasks may attach; it only
    takes effect if the server is started here.

    Raises:
        LocalServerError: The server cannot be started or does not stop.
    """
    from fanbench.local.launcher import ensure_server, stop_server

    folder = None if data is None else Path(data)
    server = await ensure_server(folder, datasets=None if datasets is None else Path(datasets))
    try:
        yield server
    finally:
        if server.started:
            with anyio.CancelScope(shield=True):
                await stop_server(folder)


def _list(names: Name | Sequence[Name]) -> list[Name]:
    """Treat a str as one name, not as the sequence of its characters."""
    return [names] if isinstance(names, str | os.PathLike) else list(names)


def _only(outcomes: Sequence[T | FanbenchError]) -> T:
    (outcome,) = outcomes
    if isinstance(outcome, FanbenchError):
        raise outcome
    return outcome
