"""The Model Proxy's two APIs over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from fanbench.errors import LocalServerError
from fanbench.local.models import ModelFault
from fanbench.local.proxy import genai
from fanbench.local.proxy.requests import read_chat, read_generate
from fanbench.local.wire import Services, WireError, read_body

_log = structlog.get_logger(__name__)

Handle = Callable[[Services, Request], Awaitable[Response]]
Shape = Callable[[int, str], dict[str, Any]]

_GENAI_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


async def chat_completions(services: Services, request: Request) -> Response:
    return await _guarded(_chat_completions, services, request, _openai_error)


async def generate_content(services: Services, request: Request) -> Response:
    return await _guarded(_generate_content, services, request, _genai_error)


async def _guarded(handle: Handle, services: Services, request: Request, shape: Shape) -> Response:
    """Report every error in the shape of the API; the server stays up."""
    try:
        return await handle(services, request)
    except ModelFault as fault:
        headers = {"retry-after": fault.retry_after} if fault.retry_after else None
        return JSONResponse(shape(fault.status, fault.message), status_code=fault.status, headers=headers)
    except WireError as error:
        return JSONResponse(shape(error.status, error.message), status_code=error.status)
    except LocalServerError as error:  # models.toml is invalid
        return JSONResponse(shape(500, str(error)), status_code=500)
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception:  # noqa: BLE001
        _log.exception("the Model Proxy failed", path=request.url.path)
        text = f"the Model Proxy failed; see {services.folder.server_log}"
        return JSONResponse(shape(500, text), status_code=500)


async def _chat_completions(services: Services, request: Request) -> Response:
    token = await services.proxy.authorize(_key(request))
    asked, body = read_chat(await read_body(request))
    spec = services.proxy.find(asked.model)
    if asked.stream:
        chunks = services.proxy.stream(token, spec, body)
        return await _stream(chunks, _event, end=b"data: [DONE]\n\n")
    return JSONResponse(await _unless_gone(request, partial(services.proxy.complete, token, spec, body)))


async def _generate_content(services: Services, request: Request) -> Response:
    model, _, method = request.path_params["call"].rpartition(":")
    token = await services.proxy.authorize(_key(request))
    asked = read_generate(await read_body(request))
    spec = services.proxy.find(model)
    chat = genai.to_chat(asked)
    if method == "streamGenerateContent":
        return await _stream(services.proxy.stream(token, spec, chat), _genai_event)
    if method != "generateContent":
        raise ModelFault(f"unknown method {method!r}", status=404)
    answer = await _unless_gone(request, partial(services.proxy.complete, token, spec, chat))
    return JSONResponse(genai.from_chat(answer, enum=genai.wants_enum(asked)))


async def _unless_gone(request: Request, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The result of `work`, which is cancelled if the client disconnects: a stopped run must not keep a model busy.

    Raises:
        ClientDisconnect: The client disconnected.
    """
    result: dict[str, Any] | None = None
    failure: Exception | None = None

    async def do() -> None:
        nonlocal result, failure
        try:
            result = await work()
        except Exception as error:  # noqa: BLE001 - raised below, outside of the group
            failure = error
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(do)
        await request.receive()  # after the body, only the end of the connection is left
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if result is None:
        raise ClientDisconnect
    return result


def _key(request: Request) -> str:
    if key := request.headers.get("x-goog-api-key"):
        return key
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else ""


async def _stream(
    chunks: AsyncGenerator[dict[str, Any], None], event: Callable[[dict[str, Any]], bytes], end: bytes = b""
) -> Response:
    """Stream the chunks, but answer only once the first has come: until then a fault can be an HTTP status."""
    first = await anext(chunks, None)

    async def events() -> AsyncIterator[bytes]:
        async with aclosing(chunks):
            try:
                if first is not None:
                    yield event(first)
                async for chunk in chunks:
                    yield event(chunk)
            except ModelFault as fault:
                yield _event({"error": {"message": fault.message, "code": fault.status}})
                return
        yield end

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _genai_event(chunk: dict[str, Any]) -> bytes:
    answer = genai.from_chunk(chunk)
    return _event(answer) if answer is not None else b""


def _openai_error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "model_proxy_error", "param": None, "code": status}}


def _genai_error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": _GENAI_STATUS.get(status, "INTERNAL")}}
