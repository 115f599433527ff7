"""The client: one coroutine a call, typed both ways."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from fanbench.config import Config, resolve_config
from fanbench.errors import BadAnswer, UsageError
from fanbench.wire import protocol
from fanbench.wire.downloads import Downloaded, Progress, download_output
from fanbench.wire.messages import (
    BatchScheduleRequest,
    BatchScheduleResponse,
    BenchmarkModel,
    CreateTaskRequest,
    GetLeaderboardRequest,
    IntrospectTokenRequest,
    IntrospectTokenResponse,
    Leaderboard,
    ListModelsRequest,
    ListModelsResponse,
    ListRunsRequest,
    ListRunsResponse,
    ListTasksRequest,
    ListTasksResponse,
    LogEntry,
    Message,
    ModelProxyQuotas,
    ModelProxyToken,
    PublishTaskRequest,
    Run,
    ScheduleResult,
    Task,
    TaskOptions,
    TaskQuota,
    TaskRequest,
)
from fanbench.wire.protocol import Call
from fanbench.wire.retry import RetryPolicy
from fanbench.wire.slugs import normalize_model, split_task
from fanbench.wire.transport import Limits, Transport

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "Limits", "RetryPolicy"]

PAGE_SIZE = 100
DEFAULT_RETRY = RetryPolicy()


M = TypeVar("M", bound=Message)
T = TypeVar("T")


class Client:
    """Kaggle Benchmarks, or a server that speaks like it. Use it as `async with Client() as client:`.

    Tasks are named "slug" or "owner/slug", already slugified (`fanbench.wire.slugs.slugify_task`). Idempotent
    calls are tried again as `retry` says; `limits` may be shared by several clients.

    Every call raises ConnectionFailed, RateLimited, ServerFault (after the retries), Unauthorized, Forbidden,
    BadRequest and BadAnswer; NotFound where it names something. Each carries the call and the server's words.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        limits: Limits | None = None,
        http: httpx.AsyncBaseTransport | None = None,
        retry: RetryPolicy = DEFAULT_RETRY,
    ) -> None:
        self.config = config or resolve_config()
        self._limits = limits
        self._http = http
        self._retry = retry
        self._open: Transport | None = None

    async def __aenter__(self) -> Self:
        limits = self._limits or Limits.of(self.config.concurrency)
        self._open = Transport(self.config, limits, self._retry, self._http)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transport, self._open = self._open, None
        if transport is not None:
            await transport.aclose()

    @property
    def transport(self) -> Transport:
        """What sends the calls.

        Raises:
            RuntimeError: the client is not open.
        """
        if self._open is None:
            raise RuntimeError("The client is not open: use it in `async with Client() as client:`.")
        return self._open

    # --- Tasks ---

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        """Push a version of the task. `text` is the notebook's JSON, `datasets` are "owner/slug".

        Sent again only where the server surely did not take it the first time.
        """
        options = TaskOptions(dataset_data_sources=list(datasets)) if datasets else None
        return await self._call(
            protocol.CREATE_TASK, CreateTaskRequest(slug=slug, text=text, options=options), Task
        )

    async def get_task(self, task: str) -> Task:
        """The task in its newest version.

        Raises:
            NotFound: there is no such task. Of a foreign one that is not public, Kaggle says Forbidden.
        """
        return await self._call(protocol.GET_TASK, TaskRequest(slug=split_task(task)), Task)

    def list_tasks(
        self, *, regex: str | None = None, status: str | None = None, page_size: int = PAGE_SIZE
    ) -> AsyncIterator[Task]:
        """All tasks of the caller, page after page; `status` is a state word such as "COMPLETED"."""

        async def fetch(token: str) -> tuple[list[Task], str]:
            request = ListTasksRequest(
                regex_filter=regex or "", status_filter=status or "", page_size=page_size, page_token=token
            )
            page = await self._call(protocol.LIST_TASKS, request, ListTasksResponse)
            return page.tasks, page.next_page_token

        return _Listing(protocol.LIST_TASKS, fetch)

    async def publish_task(self, task: str, *, publish_notebook: bool = True) -> Task:
        """Make the task public, and the notebook behind it.

        Raises:
            NotFound: there is no such task.
        """
        request = PublishTaskRequest(slug=split_task(task), publish_backing_notebook=publish_notebook)
        return await self._call(protocol.PUBLISH_TASK, request, Task)

    async def delete_task(self, task: str) -> None:
        """Only the local server can do this; Kaggle answers NotFound or a ServerFault of status 501."""
        await self._call(protocol.DELETE_TASK, TaskRequest(slug=split_task(task)), Message)

    # --- Runs ---

    async def schedule_runs(self, task: str, models: Sequence[str]) -> list[ScheduleResult]:
        """Start one run a model; the results are in the order of `models`.

        Sent again only where the server surely did not take it the first time.
        """
        if not models:
            raise UsageError("There is no model to run the task on.")
        request = BatchScheduleRequest(
            task_slugs=[split_task(task)], model_version_slugs=[normalize_model(model) for model in models]
        )
        answer = await self._call(protocol.SCHEDULE_RUNS, request, BatchScheduleResponse)
        if len(answer.results) != len(models):
            raise _bad(
                protocol.SCHEDULE_RUNS, f"{len(answer.results)} results came back for {len(models)} models"
            )
        return answer.results

    def list_runs(self, task: str, *, models: Sequence[str] = ()) -> AsyncIterator[Run]:
        """All runs of the task, of `models` only where some are given, each run once."""
        wanted = [normalize_model(model) for model in models]
        seen: set[int] = set()

        async def fetch(token: str) -> tuple[list[Run], str]:
            request = ListRunsRequest(
                task_slug=split_task(task), model_version_slugs=wanted, page_size=PAGE_SIZE, page_token=token
            )
            page = await self._call(protocol.LIST_RUNS, request, ListRunsResponse)
            # A run that is scheduled meanwhile moves the others to the next page: they come twice.
            new = [run for run in page.runs if run.id not in seen and _is_wanted(run, wanted)]
            seen.update(run.id for run in new)
            return new, page.next_page_token

        return _Listing(protocol.LIST_RUNS, fetch)

    def logs(self, run_id: int, *, silence: float | None = None) -> AsyncGenerator[LogEntry, None]:
        """The run's log from its start, live while it runs; to be closed (`aclosing`) if left early.

        `silence` is the number of seconds without a word after which a live stream counts as broken. A
        broken stream raises ConnectionFailed: `fanbench.wire.log_stream.follow` takes it up again.

        Raises:
            NotFound: the run is still queued, or there is no such run.
        """
        from fanbench.wire.log_stream import read_log

        return read_log(self.transport, run_id, silence=silence)

    async def download_output(
        self, run_id: int, target: Path, *, include_source: bool = False, progress: Progress | None = None
    ) -> Downloaded:
        """The run's output as the folder `target`, which is replaced in one step, or left as it was.

        `progress` gets the bytes so far and, where the server says so, of how many.

        Raises:
            OutputError: the folder cannot be written, or (BadZip) the download is damaged or unsafe.
            NotFound: there is no such run.
        """
        return await download_output(
            self.transport, run_id, target, include_source=include_source, progress=progress
        )

    # --- Models, leaderboards, quotas, tokens ---

    async def list_models(self) -> list[BenchmarkModel]:
        """All models, in the server's order."""

        async def fetch(token: str) -> tuple[list[BenchmarkModel], str]:
            request = ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
            page = await self._call(protocol.LIST_MODELS, request, ListModelsResponse)
            return page.benchmark_models, page.next_page_token

        return [model async for model in _Listing(protocol.LIST_MODELS, fetch)]

    async def leaderboard(self, owner: str, benchmark: str, *, version: int | None = None) -> Leaderboard:
        """The leaderboard of a benchmark, of its newest version where none is given.

        Raises:
            NotFound: there is no such benchmark.
        """
        request = GetLeaderboardRequest(
            owner_slug=owner, benchmark_slug=benchmark, version_number=version or 0
        )
        return await self._call(protocol.GET_LEADERBOARD, request, Leaderboard)

    async def task_quota(self) -> TaskQuota:
        """How many runs the caller may begin a day, and has."""
        return await self._call(protocol.GET_TASK_QUOTA, Message(), TaskQuota)

    async def proxy_quotas(self) -> ModelProxyQuotas:
        """What the caller may spend on the Model Proxy, and has, in US dollars a day and a month."""
        return await self._call(protocol.GET_PROXY_QUOTAS, Message(), ModelProxyQuotas)

    async def create_proxy_token(self) -> ModelProxyToken:
        """A new token for the Model Proxy, good for about two hours; the one before it may end."""
        return await self._call(protocol.CREATE_PROXY_TOKEN, Message(), ModelProxyToken)

    async def introspect_token(self, token: str) -> IntrospectTokenResponse:
        """Whose an API token is, and whether it is good."""
        return await self._call(
            protocol.INTROSPECT_TOKEN, IntrospectTokenRequest(token=token), IntrospectTokenResponse
        )

    async def _call(self, call: Call, request: Message, kind: type[M]) -> M:
        return await self.transport.call(call, request, kind)


def _is_wanted(run: Run, models: Sequence[str]) -> bool:
    """The server may ignore the filter."""
    return not models or normalize_model(run.model_version_slug) in models


class _Listing(AsyncIterator[T]):
    """The items of every page. No generator: there is nothing to close for a caller that stops early."""

    def __init__(self, call: Call, fetch: Callable[[str], Awaitable[tuple[Sequence[T], str]]]) -> None:
        self._call = call
        self._fetch = fetch
        self._items: Iterator[T] = iter(())
        self._token: str | None = ""
        self._seen: set[str] = set()

    async def __anext__(self) -> T:
        while True:
            for item in self._items:
                return item
            if self._token is None:
                raise StopAsyncIteration
            await self._turn_page(self._token)

    async def _turn_page(self, token: str) -> None:
        """A token that comes a second time would lead round in a circle."""
        if token in self._seen:
            raise _bad(self._call, "the pages of the list go round in a circle")
        self._seen.add(token)
        items, following = await self._fetch(token)
        self._items, self._token = iter(items), following or None


def _bad(call: Call, what: str) -> BadAnswer:
    return BadAnswer(f"The server's answer makes no sense: {what}", call=call.method, status=200)
