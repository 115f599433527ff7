"""The simulated Kaggle over HTTP: on a socket for any program, or as a transport for a client in this process."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from itertools import chain

import anyio
import httpx
import msgspec

from fanbench.errors import ApiError, BadAnswer, ConnectionFailed, FanbenchError, error_for_status
from fanbench.faults.answers import HttpAnswer, pieces_of
from fanbench.faults.damage import error_answer, html_answer
from fanbench.faults.fault import API_CALLS, Fault, connection_lost
from fanbench.testing.kaggle import SimulatedKaggle
from fanbench.wire import protocol
from fanbench.wire.messages import (
    AddTasksRequest,
    BatchScheduleRequest,
    BatchScheduleResponse,
    CancelRunsRequest,
    CreateTaskRequest,
    GetLeaderboardRequest,
    IntrospectTokenRequest,
    ListConfigsRequest,
    ListConfigsResponse,
    ListModelsResponse,
    ListRunsRequest,
    ListRunsResponse,
    ListTasksRequest,
    ListTasksResponse,
    LogEntry,
    Message,
    ModelVersionCandidate,
    PublishTaskRequest,
    RunRequest,
    TaskRequest,
    UpdateTaskRequest,
    UpdateTaskResponse,
    UpdateTaskVersionRequest,
    decode,
    encode,
)
from fanbench.wire.metadata import requested_change
from fanbench.wire.queue import Enqueue, requested_enqueue
from fanbench.wire.slugs import join_task

__all__ = ["HttpAnswer", "SimulatedServer", "SimulatedTransport", "answer", "serve"]


_METHODS = {call.path: call.method for call in vars(protocol).values() if isinstance(call, protocol.Call)}


async def answer(kaggle: SimulatedKaggle, path: str, body: bytes) -> HttpAnswer:
    """Answer one request: `path` is that of a call, with or without `/api` before it.

    Raises:
        ConnectionFailed: The connection breaks before an answer is sent.
    """
    path = path.removeprefix("/api")
    call = API_CALLS.get(path)
    if call is None:
        return _problem(404, "No such call.")
    hit = kaggle.choose_fault(call)
    fault = hit.fault if hit is not None and hit.fault.replaces_answer else None

    async def work() -> HttpAnswer:
        with kaggle.failing_with(fault):
            return await _own_answer(kaggle, _METHODS[path], body, fault)

    return await kaggle.injector.respond(hit, call, lambda: body, work)


async def _own_answer(kaggle: SimulatedKaggle, method: str, body: bytes, fault: Fault | None) -> HttpAnswer:
    """What the simulation answers, which has met `fault` if it is one that replaces the answer."""
    try:
        result = await _call(kaggle, method, body)
    except ApiError as error:
        if fault is not None and fault.raises is None and error.status == fault.status:
            return error_answer(fault, kaggle.wall())
        if isinstance(error, BadAnswer):
            return html_answer()
        after = error.retry_after
        headers = {} if after is None else {"Retry-After": f"{after:g}"}
        return _problem(error.status, error.message, headers)
    except FanbenchError as error:
        raise connection_lost() from error
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        return _problem(400, str(error))
    return _json(encode(result)) if isinstance(result, Message) else result


async def _call(kaggle: SimulatedKaggle, method: str, body: bytes) -> Message | HttpAnswer:
    """Make the call of a request on the simulation: one of those of tasks here, then runs, then the others."""
    match method:
        case "CreateBenchmarkTask":
            create = decode(body, CreateTaskRequest)
            datasets = create.options.dataset_data_sources if create.options else ()
            return await kaggle.create_task(create.slug, create.text, datasets=datasets)
        case "GetBenchmarkTask":
            get = decode(body, TaskRequest)
            return await kaggle.get_task(
                join_task(get.slug),
                version=get.slug.version_number,
                include_definition=get.include_definition,
            )
        case "ListBenchmarkTasks":
            tasks = decode(body, ListTasksRequest)
            start, size = int(tasks.page_token or tasks.skip), tasks.page_size
            scope = (tasks.owner_slug, tasks.benchmark_slug, tasks.version_number)
            page, following = await kaggle.page_of_tasks(
                tasks.regex_filter,
                tasks.status_filter,
                start,
                size,
                scope=scope,
                include_definition=tasks.include_definition,
            )
            total = len(kaggle.tasks)
            return ListTasksResponse(tasks=page, total_results=total, next_page_token=str(following or ""))
        case "PublishBenchmarkTask":
            publish = decode(body, PublishTaskRequest)
            with_notebook = publish.publish_backing_notebook
            return await kaggle.publish_task(join_task(publish.slug), publish_notebook=with_notebook)
        case "UpdateBenchmarkTask":
            return await _update(kaggle, decode(body, UpdateTaskRequest))
        case "UpdateBenchmarkTaskVersion":
            updated = (await _update(kaggle, decode(body, UpdateTaskVersionRequest))).task
            assert updated is not None
            return updated
        case "DeleteBenchmarkTask":
            await kaggle.delete_task(join_task(decode(body, TaskRequest).slug))
            return Message()
        case _:
            return await _call_of_runs(kaggle, method, body)


async def _call_of_runs(kaggle: SimulatedKaggle, method: str, body: bytes) -> Message | HttpAnswer:
    match method:
        case "BatchScheduleBenchmarkTaskRuns":
            batch = decode(body, BatchScheduleRequest)
            results = [
                await kaggle.schedule_runs(
                    join_task(slug),
                    batch.model_version_slugs,
                    version=slug.version_number,
                    effort=batch.reasoning_effort,
                    agents=batch.agent_slugs,
                    enqueue=_enqueue(batch, kaggle.username),
                )
                for slug in batch.task_slugs
            ]
            return BatchScheduleResponse(results=list(chain.from_iterable(results)))
        case "ApiGetBenchmarkSchedulerStatus":
            return await kaggle.queue_status()
        case "ApiCancelBenchmarkTaskRuns":
            cancel = decode(body, CancelRunsRequest)
            candidate = cancel.model_version or ModelVersionCandidate()
            return await kaggle.cancel_runs(
                [join_task(slug) for slug in cancel.task_slugs.slugs] if cancel.task_slugs else (),
                run_ids=cancel.run_ids.ids if cancel.run_ids else (),
                model=candidate.model_version_slug,
                effort=candidate.reasoning_effort,
                agent=cancel.agent_slug,
                include_active=cancel.include_active,
            )
        case "ListBenchmarkTaskRuns":
            runs = decode(body, ListRunsRequest)
            task, start, size = join_task(runs.task_slug), int(runs.page_token or runs.skip), runs.page_size
            listed, following = await kaggle.page_of_runs(
                task, runs.model_version_slugs, start, size, version=runs.task_slug.version_number
            )
            total = len(kaggle.tasks[task].runs) if task in kaggle.tasks else len(listed)
            return ListRunsResponse(runs=listed, total_results=total, next_page_token=str(following or ""))
        case "GetBenchmarkTaskRunLogs":
            live, entries = await kaggle.open_log(decode(body, RunRequest).run_id)
            if live:
                return HttpAnswer(headers={"Content-Type": "text/event-stream"}, body=_events(entries))
            return _json(msgspec.json.encode([entry async for entry in entries]))
        case "DownloadBenchmarkTaskRunOutput":
            run = decode(body, RunRequest)
            files, damage = await kaggle.open_output(run.run_id, include_source=run.include_source)
            return _zip_answer(_zip(tuple(files.items())), damage)
        case _:
            return await _other_call(kaggle, method, body)


async def _other_call(kaggle: SimulatedKaggle, method: str, body: bytes) -> Message | HttpAnswer:
    match method:
        case "ListBenchmarkModels":
            return ListModelsResponse(benchmark_models=await kaggle.list_models())
        case "ListBenchmarkModelVersionConfigs":
            ids = decode(body, ListConfigsRequest).benchmark_model_version_ids
            return ListConfigsResponse(configs=await kaggle.list_configs(ids))
        case "AddTasksToBenchmark":
            add = decode(body, AddTasksRequest)
            return await kaggle.add_tasks(
                add.benchmark_slug, [*map(join_task, add.task_slugs)], version=add.version_number
            )
        case "RemoveTasksFromBenchmark":
            remove = decode(body, AddTasksRequest)
            return await kaggle.remove_tasks(
                remove.benchmark_slug, [*map(join_task, remove.task_slugs)], version=remove.version_number
            )
        case "GetBenchmarkLeaderboard":
            board = decode(body, GetLeaderboardRequest)
            version = board.version_number or None
            return await kaggle.leaderboard(board.owner_slug, board.benchmark_slug, version=version)
        case "GetBenchmarkTaskQuota":
            return await kaggle.task_quota()
        case "GetModelProxyQuotas":
            return await kaggle.proxy_quotas()
        case "CreateDefaultModelProxyToken":
            return await kaggle.create_proxy_token()
        case "IntrospectToken":
            return await kaggle.introspect_token(decode(body, IntrospectTokenRequest).token)
        case _:
            return _problem(404, "No such call.")


def _enqueue(request: BatchScheduleRequest, owner: str) -> Enqueue | None:
    try:
        return requested_enqueue(request, owner)
    except ValueError as error:
        raise error_for_status("schedule_runs", 400, str(error)) from None


async def _update(
    kaggle: SimulatedKaggle, request: UpdateTaskRequest | UpdateTaskVersionRequest
) -> UpdateTaskResponse:
    version = request.slug.version_number
    try:
        change = requested_change(request)
    except ValueError as error:
        raise error_for_status("update_task", 400, str(error)) from None
    if bool(version) != isinstance(request, UpdateTaskVersionRequest):
        raise error_for_status("update_task", 400, "The version does not go with this call.")
    return await kaggle.update_task(join_task(request.slug), version=version, **change.given)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> HttpAnswer:
    return HttpAnswer(status, {"Content-Type": "application/json", **(headers or {})}, body)


def _problem(status: int, message: str, headers: dict[str, str] | None = None) -> HttpAnswer:
    return _json(json.dumps({"code": status, "message": message}).encode(), status, headers)


async def _events(entries: AsyncGenerator[LogEntry, None]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(entries):
            async for entry in entries:
                yield b"data: %b\n\n" % msgspec.json.encode(entry)
    except FanbenchError as error:  # the status has been sent
        raise connection_lost() from error


def _zip_answer(archive: bytes, damage: str | None) -> HttpAnswer:
    """Answer with a zip: whole, cut in half ("bad zip"), or with a connection that breaks in the middle ("broken")."""
    half = archive[: len(archive) // 2]

    async def break_off() -> AsyncGenerator[bytes, None]:
        yield half
        raise connection_lost()

    headers = {"Content-Type": "application/zip"}
    if damage == "broken":
        return HttpAnswer(headers=headers, body=break_off(), length=len(archive))
    return HttpAnswer(headers=headers, body=half if damage else archive)


@lru_cache(maxsize=32)
def _zip(files: tuple[tuple[str, bytes], ...]) -> bytes:
    """A zip of `files`. Large outputs that many runs share are compressed once."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


# --- In this process ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class SimulatedTransport(httpx.AsyncBaseTransport):
    """Connects a real client (`Client(..., http=...)`) to a simulated Kaggle without a socket, also in virtual time."""

    kaggle: SimulatedKaggle

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        patience = request.extensions.get("timeout", {}).get("read")
        try:
            with _in_time(patience):
                found = await answer(self.kaggle, request.url.path, await request.aread())
        except ConnectionFailed as error:
            raise httpx.ReadError(error.message) from None
        if isinstance(found.body, bytes) and found.length is None:
            return httpx.Response(found.status, headers=found.headers, content=found.body)
        stream = _Stream(pieces_of(found), found.length, patience)
        return httpx.Response(found.status, headers=found.all_headers(), stream=stream)


@dataclass(eq=False)
class _Stream(httpx.AsyncByteStream):
    """A body as a client reads it from a connection: up to its announced length, and no longer than it is patient."""

    pieces: AsyncGenerator[bytes, None]
    length: int | None
    patience: float | None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        missing = self.length
        try:
            while missing != 0:
                with _in_time(self.patience):
                    piece = await anext(self.pieces, None)
                if piece is None:
                    break
                yield piece if missing is None else piece[:missing]
                missing = None if missing is None else max(0, missing - len(piece))
        except ConnectionFailed as error:
            raise httpx.ReadError(error.message) from None
        if missing:
            raise httpx.RemoteProtocolError("the connection was closed before the end of the body")

    async def aclose(self) -> None:
        await self.pieces.aclose()


@contextmanager
def _in_time(seconds: float | None) -> Iterator[None]:
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise httpx.ReadTimeout("timed out") from None


# --- On a socket --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SimulatedServer:
    """A simulated Kaggle on a socket of this machine, as `serve` starts it."""

    kaggle: SimulatedKaggle
    url: str


@contextmanager
def serve(kaggle: SimulatedKaggle, *, port: int = 0) -> Iterator[SimulatedServer]:
    """Serve `kaggle` over HTTP from a thread of its own, in real time.

    Programs reach it with `fanbench --endpoint URL` or with the environment variable `FANBENCH_ENDPOINT`. It accepts
    any token. Port 0 stands for a free one.

    Raises:
        OSError: The port is taken.
    """
    loop = asyncio.new_event_loop()
    listening: Future[int] = Future()
    stop = asyncio.Event()

    async def main() -> None:
        connections: set[asyncio.Transport] = set()
        try:
            server = await loop.create_server(
                lambda: _Connection(kaggle, connections), "127.0.0.1", port, backlog=1000
            )
        except OSError as error:
            listening.set_exception(error)
            return
        listening.set_result(server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close()
        for connection in list(connections):
            connection.abort()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    kaggle.use_clock(time.monotonic, loop.call_soon_threadsafe)
    thread = threading.Thread(target=run, name="simulated Kaggle", daemon=True)
    thread.start()
    try:
        yield SimulatedServer(kaggle, f"http://127.0.0.1:{listening.result()}")
    finally:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        kaggle.use_clock()


@dataclass(eq=False)
class _Connection(asyncio.Protocol):
    """HTTP/1.1 on a connection that stays open: one request at a time."""

    _kaggle: SimulatedKaggle
    _connections: set[asyncio.Transport]
    _input: bytearray = field(default_factory=bytearray)
    _task: asyncio.Task[None] | None = None
    _writable: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self._transport)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._input += data
        if self._task is None or self._task.done():
            self._answer_next()

    def _answer_next(self, _answered: object = None) -> None:
        """Answer the next request if all of it has come. It may have come before the last answer has ended."""
        end = self._input.find(b"\r\n\r\n")
        if end < 0 or self._transport.is_closing():
            return
        head = bytes(self._input[:end])
        _, _, rest = head.lower().partition(b"\r\ncontent-length:")
        body_end = end + 4 + int(rest.partition(b"\r\n")[0] or 0)
        if len(self._input) < body_end:
            return
        path = head.split(b" ", 2)[1].decode()
        body = bytes(self._input[end + 4 : body_end])
        del self._input[:body_end]
        self._task = asyncio.get_running_loop().create_task(self._respond(path, body))
        self._task.add_done_callback(self._answer_next)

    async def _respond(self, path: str, body: bytes) -> None:
        try:
            found = await answer(self._kaggle, path, body)
            lines = [f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}"]
            lines += [f"{name}: {value}" for name, value in found.all_headers().items()]
            head = "\r\n".join([*lines, "", ""]).encode()
            if isinstance(found.body, bytes):
                self._transport.write(head + found.body)
                sent = len(found.body)
            else:
                self._transport.write(head)
                sent = await self._write_pieces(found.body, in_chunks=found.length is None)
            if found.length is not None and sent < found.length:
                self._transport.close()
        except BaseException as error:
            self._transport.abort()
            if not isinstance(error, ConnectionFailed):
                raise

    async def _write_pieces(self, body: AsyncGenerator[bytes, None], *, in_chunks: bool) -> int:
        """Write a body, no faster than it is read. Return its length."""
        sent = 0
        async with aclosing(body) as pieces:
            async for piece in pieces:
                await self._writable.wait()
                sent += len(piece)
                if piece:  # an empty chunk would be the end
                    self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if in_chunks else piece)
        if in_chunks:
            self._transport.write(b"0\r\n\r\n")
        return sent
