"""The HTTP application: from a request to a call of the wire, and from what it gives to an answer."""

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

from fanbench.errors import LocalServerError
from fanbench.local.routes import accounts, proxy, runs, tasks
from fanbench.local.routes.page import task_page
from fanbench.local.wire import Services, WireError, read_body
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

INTROSPECT = "security.OAuthService/IntrospectToken"
_TASKS = "benchmarks.BenchmarkTasksApiService"
CALLS: dict[str, tuple[type[Message], Handler]] = {
    f"{_TASKS}/CreateBenchmarkTask": (CreateTaskRequest, tasks.create_task),
    f"{_TASKS}/GetBenchmarkTask": (TaskRequest, tasks.get_task),
    f"{_TASKS}/ListBenchmarkTasks": (ListTasksRequest, tasks.list_tasks),
    f"{_TASKS}/PublishBenchmarkTask": (PublishTaskRequest, tasks.publish_task),
    f"{_TASKS}/DeleteBenchmarkTask": (TaskRequest, tasks.delete_task),
    f"{_TASKS}/GetBenchmarkTaskQuota": (TaskRequest, tasks.task_quota),
    f"{_TASKS}/BatchScheduleBenchmarkTaskRuns": (BatchScheduleRequest, runs.schedule),
    f"{_TASKS}/ListBenchmarkTaskRuns": (ListRunsRequest, runs.list_runs),
    f"{_TASKS}/GetBenchmarkTaskRunLogs": (RunRequest, runs.run_logs),
    f"{_TASKS}/DownloadBenchmarkTaskRunOutput": (RunRequest, runs.run_output),
    "benchmarks.BenchmarksApiService/ListBenchmarkModels": (ListModelsRequest, accounts.list_models),
    "benchmarks.BenchmarksApiService/GetBenchmarkLeaderboard": (GetLeaderboardRequest, accounts.leaderboard),
    "models.ModelProxyApiService/CreateDefaultModelProxyToken": (TaskRequest, accounts.create_proxy_token),
    "models.ModelProxyApiService/GetModelProxyQuotas": (TaskRequest, accounts.proxy_quotas),
    INTROSPECT: (IntrospectTokenRequest, accounts.introspect_token),
}


class Activity:
    """When somebody last asked for something, and whether somebody is being answered."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.open = 0


def build_app(services: Services, activity: Activity) -> Starlette:
    async def call(request: Request) -> Response:
        return await _answer(services, request)

    async def chat(request: Request) -> Response:
        return await proxy.chat_completions(services, request)

    async def gemini(request: Request) -> Response:
        return await proxy.generate_content(services, request)

    async def page(request: Request) -> Response:
        return await task_page(services, request)

    app = Starlette(
        routes=[
            Route("/v1/{service}/{method}", call, methods=["POST"]),
            Route("/api/v1/{service}/{method}", call, methods=["POST"]),
            Route("/models/openapi/chat/completions", chat, methods=["POST"]),
            Route("/models/genai/{version}/models/{call:path}", gemini, methods=["POST"]),
            Route("/benchmarks/tasks/{owner}/{slug}", page, methods=["GET"]),
            Route("/benchmarks/tasks/{owner}/{slug}/{version:int}", page, methods=["GET"]),
            Route("/health", _health, methods=["GET"]),
        ]
    )
    app.add_middleware(_CountActivity, activity=activity)
    return app


class _CountActivity:
    """Pure ASGI, so that streams are counted until their end."""

    def __init__(self, app: Any, activity: Activity) -> None:
        self._app = app
        self._activity = activity

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._activity.open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._activity.open -= 1
            self._activity.last = time.monotonic()


async def _health(_request: Request) -> Response:
    return JSONResponse({"server": "fanbench"})


async def _answer(services: Services, request: Request) -> Response:
    name = f"{request.path_params['service']}/{request.path_params['method']}"
    try:
        if name != INTROSPECT:  # asks about a token, and so must be open to one that is not valid
            _authorize(services, request)
        if name not in CALLS:
            raise WireError(404, f"No call {name} here")
        kind, handler = CALLS[name]
        result = await handler(services, _decode(await read_body(request), kind))
    except WireError as error:
        return _error(error.status, error.message)
    except LocalServerError as error:  # models.toml is wrong: no use in asking again, as for a 500
        return _error(400, str(error))
    except ClientDisconnect:
        return _error(400, "The request was broken off")
    except Exception:  # noqa: BLE001 - the server stays up, and says where to look
        _log.exception("call failed", call=name)
        return _error(500, f"The server failed on {name}; see {services.folder.server_log}")
    if isinstance(result, Response):
        return result
    return Response(encode(result), media_type="application/json")


def _authorize(services: Services, request: Request) -> None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    given = _basic_key(value) if scheme.lower() == "basic" else value
    if not secrets.compare_digest(given.encode(), services.token.encode()):
        raise WireError(401, f"Unauthenticated: this server's token is in {services.folder.token_file}")


def _basic_key(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _decode(body: bytes, kind: type[Message]) -> Message:
    try:
        return decode(body or b"{}", kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(400, f"Invalid request: {error}") from None


def _error(status: int, message: str) -> Response:
    body = encode(ErrorBody(code=status, message=message))
    return Response(body, status_code=status, media_type="application/json")
