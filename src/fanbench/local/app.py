"""The HTTP application: routes requests to the handlers of calls, and encodes their results."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fanbench.errors import LocalServerError
from fanbench.local.advertise import names_of
from fanbench.local.origins import OwnNames
from fanbench.local.routes import accounts, benchmarks, pages, runs, tasks
from fanbench.local.routes.proxy import ModelProxy
from fanbench.local.wire import (
    JSON,
    MAX_BODY,
    MAX_BODY_OF_STRANGERS,
    TOO_DEEP,
    Services,
    WireError,
    authorize,
    error_response,
    read_body,
)
from fanbench.wire import protocol
from fanbench.wire.messages import (
    AddTasksRequest,
    BatchScheduleRequest,
    CancelRunsRequest,
    CreateTaskRequest,
    GetLeaderboardRequest,
    IntrospectTokenRequest,
    ListConfigsRequest,
    ListModelsRequest,
    ListRunsRequest,
    ListTasksRequest,
    Message,
    PublishTaskRequest,
    QueueStatusRequest,
    RunRequest,
    TaskRequest,
    UpdateTaskRequest,
    UpdateTaskVersionRequest,
    decode,
    encode,
)

_log = structlog.get_logger(__name__)

Handler = Callable[[Services, Any], Awaitable[Message | Response]]

CALLS: dict[protocol.Call, tuple[type[Message], Handler]] = {
    protocol.CREATE_TASK: (CreateTaskRequest, tasks.create_task),
    protocol.GET_TASK: (TaskRequest, tasks.get_task),
    protocol.LIST_TASKS: (ListTasksRequest, tasks.list_tasks),
    protocol.PUBLISH_TASK: (PublishTaskRequest, tasks.publish_task),
    protocol.UPDATE_TASK: (UpdateTaskRequest, tasks.update_task),
    protocol.UPDATE_TASK_VERSION: (UpdateTaskVersionRequest, tasks.update_task_version),
    protocol.DELETE_TASK: (TaskRequest, tasks.delete_task),
    protocol.SCHEDULE_RUNS: (BatchScheduleRequest, runs.schedule),
    protocol.GET_QUEUE_STATUS: (QueueStatusRequest, runs.queue_status),
    protocol.CANCEL_RUNS: (CancelRunsRequest, runs.cancel_runs),
    protocol.LIST_RUNS: (ListRunsRequest, runs.list_runs),
    protocol.GET_LOGS: (RunRequest, runs.run_logs),
    protocol.DOWNLOAD_OUTPUT: (RunRequest, runs.run_output),
    protocol.LIST_MODELS: (ListModelsRequest, accounts.list_models),
    protocol.LIST_CONFIGS: (ListConfigsRequest, accounts.list_configs),
    protocol.ADD_TASKS: (AddTasksRequest, benchmarks.add_tasks),
    protocol.REMOVE_TASKS: (AddTasksRequest, benchmarks.remove_tasks),
    protocol.GET_LEADERBOARD: (GetLeaderboardRequest, benchmarks.leaderboard),
    protocol.GET_TASK_QUOTA: (TaskRequest, accounts.task_quota),
    protocol.CREATE_PROXY_TOKEN: (TaskRequest, accounts.create_proxy_token),
    protocol.GET_PROXY_QUOTAS: (TaskRequest, accounts.proxy_quotas),
    protocol.INTROSPECT_TOKEN: (IntrospectTokenRequest, accounts.introspect_token),
}
_BY_PATH = {call.path: call for call in CALLS}


class App:
    """The ASGI application. It counts the requests being answered, log streams among them, for the idle timeout."""

    def __init__(self, services: Services) -> None:
        self.open_requests = 0
        self.last_request = time.monotonic()
        answer, task_page = partial(_answer, services), partial(pages.task_page, services)
        proxy = ModelProxy(
            store=services.store, pool=services.pool, note=services.scheduler.note, folder=services.folder
        )
        routes = Starlette(
            routes=[
                Route("/v1/{service}/{method}", answer, methods=["POST"]),
                Route("/api/v1/{service}/{method}", answer, methods=["POST"]),
                *proxy.routes(),
                Route("/", partial(pages.start_page, services)),
                Route("/benchmarks/tasks/{owner}/{slug}", task_page),
                Route("/benchmarks/tasks/{owner}/{slug}/{version:int}", task_page),
                Route("/health", JSONResponse({"server": "fanbench"}), methods=["GET"]),
            ]
        )
        self._app = OwnNames(routes, names_of(services.settings, services.addresses))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.open_requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.open_requests -= 1
            self.last_request = time.monotonic()


async def _answer(services: Services, request: Request) -> Response:
    """Answer one call of the protocol. Every error becomes an `ErrorBody`, and the server stays up."""
    call = _BY_PATH.get(request.url.path.removeprefix("/api"))
    try:
        # The call that asks whether a token is valid does not need a valid one.
        open_to_all = call is protocol.INTROSPECT_TOKEN
        if not open_to_all:
            authorize(services, request)
        if call is None:
            raise WireError(404, f"Unknown call {request.url.path}")
        kind, handler = CALLS[call]
        body = await read_body(request, MAX_BODY_OF_STRANGERS if open_to_all else MAX_BODY)
        try:
            message = decode(body or b"{}", kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(400, f"Invalid request: {error}") from None
        result = await handler(services, message)
    except WireError as error:
        status, text = error.status, error.message
    except RecursionError:
        status, text = 400, TOO_DEEP
    except LocalServerError as error:  # models.toml is invalid; a 500 would make clients try again
        status, text = 400, " ".join(filter(None, [str(error), error.hint]))
    except ClientDisconnect:
        status, text = 400, "The client disconnected"
    except Exception:  # noqa: BLE001 - the server stays up, and names the log
        _log.exception("call failed", call=request.url.path)
        status, text = 500, f"The server failed; see {services.folder.server_log}"
    else:
        return result if isinstance(result, Response) else Response(encode(result), media_type=JSON)
    return error_response(status, text)
