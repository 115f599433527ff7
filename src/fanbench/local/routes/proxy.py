"""The Model Proxy, through which runs use models: its two APIs, and what each request costs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fanbench.errors import LocalServerError
from fanbench.local.aliases import unknown_model
from fanbench.local.folder import DataFolder
from fanbench.local.models import ModelFault
from fanbench.local.models.catalog import ModelSpec
from fanbench.local.models.pool import ModelPool
from fanbench.local.models.recordings import NotRecorded
from fanbench.local.proxy import genai
from fanbench.local.proxy.media import check_media
from fanbench.local.proxy.requests import ChatRequest, GenerateRequest, read_request
from fanbench.local.state.store import Store
from fanbench.local.state.tables import TokenRow, UsageRow, now
from fanbench.local.wire import TOO_DEEP, WireError, read_body

_log = structlog.get_logger(__name__)

Handle = Callable[["ModelProxy", Request], Awaitable[Response]]
T = TypeVar("T")
Shape = Callable[[int, str], dict[str, Any]]

_GENAI_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


@dataclass(frozen=True, kw_only=True)
class ModelProxy:
    """What the Model Proxy needs, in whichever process it is."""

    store: Store
    pool: ModelPool
    note: Callable[[str, str], None]
    """Appends a line to the log of the run with the key of this digest."""
    folder: DataFolder

    def routes(self) -> list[Route]:
        """The routes of its two APIs."""
        chat = partial(_answer, chat_completions, openai_error, self)
        genai = partial(_answer, generate_content, genai_error, self)
        return [
            Route("/models/openapi/chat/completions", chat, methods=["POST"]),
            Route("/models/genai/{version}/models/{call:path}", genai, methods=["POST"]),
        ]


async def _answer(handle: Handle, shape: Shape, proxy: ModelProxy, request: Request) -> Response:
    """Report every error in the `shape` of the API; the server stays up."""
    try:
        return await handle(proxy, request)
    except ModelFault as fault:
        headers = {"retry-after": fault.retry_after} if fault.retry_after else None
        return JSONResponse(shape(fault.status, fault.message), status_code=fault.status, headers=headers)
    except WireError as error:
        return JSONResponse(shape(error.status, error.message), status_code=error.status)
    except RecursionError:
        return JSONResponse(shape(400, TOO_DEEP), status_code=400)
    except LocalServerError as error:  # models.toml is invalid
        return JSONResponse(shape(500, str(error)), status_code=500)
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception:  # noqa: BLE001
        _log.exception("the Model Proxy failed", path=request.url.path)
        text = f"the Model Proxy failed; see {proxy.folder.server_log}"
        return JSONResponse(shape(500, text), status_code=500)


async def chat_completions(proxy: ModelProxy, request: Request) -> Response:
    token = await _authorize(proxy, request)
    body = await read_body(request)
    asked = read_request(body, ChatRequest, "chat completion")
    spec = _find_model(proxy, token, asked.model)
    chat: dict[str, Any] = msgspec.json.decode(body)  # an upstream gets all of it
    check_media(chat, spec, proxy.pool.catalog.model)
    if asked.stream:
        return await _stream(request, _chunks(proxy, token, spec, chat), end=b"data: [DONE]\n\n")
    return JSONResponse(await _unless_gone(request, partial(_complete, proxy, token, spec, chat)))


async def generate_content(proxy: ModelProxy, request: Request) -> Response:
    model, _, method = request.path_params["call"].rpartition(":")
    token = await _authorize(proxy, request)
    asked = read_request(await read_body(request), GenerateRequest, "generateContent")
    spec = _find_model(proxy, token, model)
    chat = genai.to_chat(asked)
    check_media(chat, spec, proxy.pool.catalog.model)
    if method == "streamGenerateContent":
        return await _stream(request, _chunks(proxy, token, spec, chat), genai.ChunkTranslator())
    if method != "generateContent":
        raise ModelFault(f"unknown method {method!r}", status=404)
    answer = await _unless_gone(request, partial(_complete, proxy, token, spec, chat))
    config = asked.generation_config
    enum = config is not None and config.response_mime_type == "text/x.enum"
    return JSONResponse(genai.from_chat(answer, enum=enum))


async def _authorize(proxy: ModelProxy, request: Request) -> TokenRow:
    """Look up the token with the request's key. Raises ModelFault if the key is unknown or has expired."""
    key = request.headers.get("x-goog-api-key", "")
    if not key:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = given if scheme.lower() == "bearer" else ""
    token = await proxy.store.find_token(key) if key else None
    if token is None:
        raise ModelFault("the Model Proxy does not know this key", status=401)
    if token.expires <= now():
        text = "this Model Proxy key has expired; run `fanbench auth -y` to get a new one"
        raise ModelFault(text, status=401)
    return token


def _find_model(proxy: ModelProxy, token: TokenRow, name: str) -> ModelSpec:
    """The model for a request. If it is an alias, the log of the run says so: its run file has the task's name."""
    catalog = proxy.pool.catalog
    spec = catalog.find_for_task(name)
    if spec is None:
        known = [model.slug for model in catalog.model]
        explanation = [unknown_model(name, known, proxy.folder.flag), proxy.pool.mistake]
        raise ModelFault(" ".join(filter(None, explanation)), status=404)
    if catalog.find(name) is None:
        proxy.note(token.digest, f"[fanbench] {spec.slug} answers for {name} (alias)")
    return spec


def _prepare(token: TokenRow, spec: ModelSpec, request: dict[str, Any]) -> dict[str, Any]:
    """The request for the engine, at the effort of the run unless it has its own. A judge has none of a run's."""
    prepared = spec.prepare(request)
    if token.effort and token.model == spec.slug:
        prepared.setdefault("reasoning_effort", token.effort)
    return prepared


async def _complete(
    proxy: ModelProxy, token: TokenRow, spec: ModelSpec, request: dict[str, Any]
) -> dict[str, Any]:
    start = time.monotonic()
    with _missing_recordings_noted(proxy, token):
        answer = await proxy.pool.engine(spec).complete(_prepare(token, spec, request))
    usage = await _count(proxy, token, spec, answer.get("usage"), time.monotonic() - start)
    return answer | {"model": spec.slug, "usage": usage}


async def _chunks(
    proxy: ModelProxy, token: TokenRow, spec: ModelSpec, request: dict[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    start = time.monotonic()
    with _missing_recordings_noted(proxy, token):
        async for chunk in proxy.pool.engine(spec).stream(_prepare(token, spec, request)):
            chunk["model"] = spec.slug
            if chunk.get("usage"):
                chunk["usage"] = await _count(proxy, token, spec, chunk["usage"], time.monotonic() - start)
            yield chunk


@contextmanager
def _missing_recordings_noted(proxy: ModelProxy, token: TokenRow) -> Iterator[None]:
    """Say in the run's log what was not recorded: clients show a message of several lines in one."""
    try:
        yield
    except NotRecorded as fault:
        proxy.note(token.digest, f"[fanbench] {fault.message}")
        raise


async def _count(
    proxy: ModelProxy, token: TokenRow, spec: ModelSpec, usage: dict[str, Any] | None, seconds: float
) -> dict[str, Any]:
    """Record the usage of a request. Return it with the cost and latency that the SDK reads."""
    usage = dict(usage or {})
    tokens_in, tokens_out = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    usage |= {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    usage["total_tokens"] = usage.get("total_tokens") or tokens_in + tokens_out
    usage["total_backend_latency_ms"] = round(seconds * 1000)
    cost, price = usage.pop("cost", None), spec.prices
    if not cost and price is not None:
        # $1 per million tokens is 1000 nanodollars per token.
        cost = {
            "input_tokens_cost_nanodollars": round(tokens_in * price[0] * 1000),
            "output_tokens_cost_nanodollars": round(tokens_out * price[1] * 1000),
        }
    if cost:
        usage["cost"] = cost
    row = UsageRow(
        token_id=token.id,
        model=spec.slug,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cost_nanodollars=sum(int(value or 0) for value in (cost or {}).values()),
    )
    await proxy.store.add_usage(row)
    return usage


async def _unless_gone(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, which is cancelled if the client disconnects: a stopped run must not keep a model busy.

    Raises:
        ClientDisconnect: The client disconnected.
    """
    results: list[T] = []
    failure: Exception | None = None

    async def do() -> None:
        nonlocal failure
        try:
            results.append(await work())
        except Exception as error:  # noqa: BLE001 - raised below, outside of the group
            failure = error
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(do)
        await request.receive()  # after the body, only the end of the connection is left
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not results:
        raise ClientDisconnect
    return results[0]


async def _stream(
    request: Request,
    chunks: AsyncGenerator[dict[str, Any], None],
    convert: Callable[[dict[str, Any]], dict[str, Any] | None] = dict,
    end: bytes = b"",
) -> Response:
    """Stream the chunks, but answer only once the first has come: until then a fault can be an HTTP status."""
    first = await _unless_gone(request, lambda: anext(chunks, None))

    async def events() -> AsyncIterator[bytes]:
        async with aclosing(chunks):
            try:
                if first is not None:
                    yield _event(convert(first))
                async for chunk in chunks:
                    yield _event(convert(chunk))
            except ModelFault as fault:
                yield _event({"error": {"message": fault.message, "code": fault.status}})
                return
        yield end

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(content: dict[str, Any] | None) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n" if content is not None else b""


def openai_error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "model_proxy_error", "param": None, "code": status}}


def genai_error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": _GENAI_STATUS.get(status, "INTERNAL")}}
