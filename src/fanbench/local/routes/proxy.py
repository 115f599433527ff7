"""The Model Proxy's two APIs over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from fanbench._errors import LocalServerError
from fanbench.local.models import ModelFault
from fanbench.local.proxy import genai
from fanbench.local.wire import Services

_GENAI_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


async def chat_completions(services: Services, request: Request) -> Response:
    try:
        token = await services.proxy.authorize(_key(request))
        body = await _body(request)
        spec = services.proxy.find(str(body.get("model", "")))
        if body.get("stream"):
            chunks = services.proxy.stream(token, spec, body)
            return await _stream(chunks, _openai_event, end=b"data: [DONE]\n\n")
        return JSONResponse(await services.proxy.complete(token, spec, body))
    except (ModelFault, LocalServerError) as error:
        return _refuse(error, _openai_error)


async def generate_content(services: Services, request: Request) -> Response:
    model, _, method = request.path_params["call"].rpartition(":")
    try:
        token = await services.proxy.authorize(_key(request))
        body = await _body(request)
        spec = services.proxy.find(model)
        chat = genai.to_chat(body)
        if method == "streamGenerateContent":
            return await _stream(services.proxy.stream(token, spec, chat), _genai_event)
        if method != "generateContent":
            raise ModelFault(f"no method {method!r} here", status=404)
        answer = await services.proxy.complete(token, spec, chat)
        return JSONResponse(genai.from_chat(answer, enum=genai.wants_enum(body)))
    except (ModelFault, LocalServerError) as error:
        return _refuse(error, _genai_error)


def _key(request: Request) -> str:
    if key := request.headers.get("x-goog-api-key"):
        return key
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else ""


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (ValueError, UnicodeDecodeError):
        raise ModelFault("the request is not JSON", status=400) from None
    if not isinstance(body, dict) or not isinstance(body.get("messages", body.get("contents", [])), list):
        raise ModelFault("the request is not a list of messages to a model", status=400)
    return body


async def _stream(
    chunks: AsyncIterator[dict[str, Any]], event: Callable[[dict[str, Any]], bytes], end: bytes = b""
) -> Response:
    """Begin only when the first chunk is there: until then a fault can still be an HTTP status."""
    first = await anext(chunks, None)

    async def events() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield event(first)
            async for chunk in chunks:
                yield event(chunk)
        except ModelFault as fault:
            yield _event({"error": {"message": fault.message, "code": fault.status}})
        yield end

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _openai_event(chunk: dict[str, Any]) -> bytes:
    return _event(chunk)


def _genai_event(chunk: dict[str, Any]) -> bytes:
    answer = genai.from_chunk(chunk)
    return _event(answer) if answer is not None else b""


def _refuse(error: ModelFault | LocalServerError, shape: Callable[[int, str], dict[str, Any]]) -> Response:
    if isinstance(error, LocalServerError):
        return JSONResponse(shape(500, str(error)), status_code=500)
    headers = {"retry-after": error.retry_after} if error.retry_after else None
    return JSONResponse(shape(error.status, error.message), status_code=error.status, headers=headers)


def _openai_error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "model_proxy_error", "param": None, "code": status}}


def _genai_error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": _GENAI_STATUS.get(status, "INTERNAL")}}
