"""The HTTP application: routes requests to the handlers of calls, and encodes their results."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fanbench.errors import LocalServerError
from fanbench.local.routes import accounts, proxy, runs, tasks
from fanbench.local.routes.page import task_page
from fanbench.local.wire import Services, WireError, read_body
from fanbench.wire import protocol
from fanbench.wire.messages import (
    BatchScheduleRequest,
    CreateTaskRequest,
    ErrorBody,
    GetLeaderboardRequest,
    IntrospectTokenRequest,
    ListModelsRequest,
    ListRunsRequest,
    ListTasksRequest,
    Message,
    PublishTaskRequest,
    RunRequest,
    TaskRequest,
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
    protocol.DELETE_TASK: (TaskRequest, tasks.delete_task),
    protocol.GET_TASK_QUOTA: (TaskRequest, tasks.task_quota),
    protocol.SCHEDULE_RUNS: (BatchScheduleRequest, runs.schedule),
    protocol.LIST_RUNS: (ListRunsRequest, runs.list_runs),
    protocol.GET_LOGS: (RunRequest, runs.run_logs),
    protocol.DOWNLOAD_OUTPUT: (RunRequest, runs.run_output),
    protocol.LIST_MODELS: (ListModelsRequest, accounts.list_models),
    protocol.GET_LEADERBOARD: (GetLeaderboardRequest, accounts.leaderboard),
    protocol.CREATE_PROXY_TOKEN: (TaskRequest, accounts.create_proxy_token),
    protocol.GET_PROXY_QUOTAS: (TaskRequest, accounts.proxy_quotas),
    protocol.INTROSPECT_TOKEN: (IntrospectTokenRequest, accounts.introspect_token),
}
_BY_PATH = {call.path: call for call in CALLS}


class Activity:
    """When the last request ended, and how many are being answered. Pure ASGI middleware, as streams count too."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.open = 0

    def around(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self.open += 1
            try:
                await app(scope, receive, send)
            finally:
                self.open -= 1
                self.last = time.monotonic()

        return counted


def build_app(services: Services, activity: Activity) -> ASGIApp:
    def bind(handler: Callable[[Services, Request], Awaitable[Response]]) -> Any:
        async def endpoint(request: Request) -> Response:
            return await handler(services, request)

        return endpoint

    async def health(_services: Services, _request: Request) -> Response:
        return JSONResponse({"server": "fanbench"})

    app = Starlette(
        routes=[
            Route("/v1/{service}/{method}", bind(_answer), methods=["POST"]),
            Route("/api/v1/{service}/{method}", bind(_answer), methods=["POST"]),
            Route("/models/openapi/chat/completions", bind(proxy.chat_completions), methods=["POST"]),
            Route(
                "/models/genai/{version}/models/{call:path}", bind(proxy.generate_content), methods=["POST"]
            ),
            Route("/benchmarks/tasks/{owner}/{slug}", bind(task_page), methods=["GET"]),
            Route("/benchmarks/tasks/{owner}/{slug}/{version:int}", bind(task_page), methods=["GET"]),
            Route("/health", bind(health), methods=["GET"]),
        ]
    )
    return activity.around(app)


async def _answer(services: Services, request: Request) -> Response:
    """Answer one call of the protocol. Every error becomes an `ErrorBody`, and the server stays up."""
    call = _BY_PATH.get(request.url.path.removeprefix("/api"))
    try:
        if (
            call is not protocol.INTROSPECT_TOKEN
        ):  # it asks whether a token is valid, so it needs no valid one
            _authorize(services, request)
        if call is None:
            raise WireError(404, f"Unknown call {request.url.path}")
        kind, handler = CALLS[call]
        body = await read_body(request)
        try:
            message = decode(body or b"{}", kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireError(400, f"Invalid request: {error}") from None
        result = await handler(services, message)
    except WireError as error:
        return _error(error.status, error.message)
    except LocalServerError as error:  # models.toml is invalid; a 500 would make clients try again
        return _error(400, str(error))
    except ClientDisconnect:
        return _error(400, "The client disconnected")
    except Exception:  # noqa: BLE001 - the server stays up, and names the log
        _log.exception("call failed", call=request.url.path)
        return _error(500, f"The server failed; see {services.folder.server_log}")
    if isinstance(result, Response):
        return result
    return Response(encode(result), media_type="application/json")


def _authorize(services: Services, request: Request) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if not secrets.compare_digest(given.encode(), services.token.encode()):
        raise WireError(401, f"Unauthenticated: this server's token is in {services.folder.token_file}")


def _error(status: int, message: str) -> Response:
    body = encode(ErrorBody(code=status, message=message))
    return Response(body, status_code=status, media_type="application/json")
