"""A model behind an OpenAI-compatible endpoint on the network, or in a process beside us."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from httpx_sse import EventSource, SSEError

from fanbench.local.models import UNREACHABLE, ModelFault

_KEEP_STATUS = frozenset({400, 401, 403, 404, 413, 422, 429})
"""What the upstream says of the request is passed on; what is its own trouble becomes UNREACHABLE."""


class ChatEndpoint:
    """Chat completions at `url`, at most `concurrency` requests at the same time."""

    def __init__(
        self,
        *,
        slug: str,
        url: str,
        model: str,
        key: str = "",
        concurrency: int,
        timeout: float,
        extra: Mapping[str, Any] = {},
    ) -> None:
        self._slug = slug
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._extra = extra
        self._limit = anyio.CapacityLimiter(concurrency)
        self._http = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._send({**request, "stream": False}) as response:
            body = await response.aread()
            try:
                answer = json.loads(body)
                _ = answer["choices"]
            except (ValueError, TypeError, KeyError):
                raise self._fault(f"answered with no chat completion: {_start(body)}") from None
            return answer  # type: ignore[no-any-return]

    async def stream(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        wanted = {**request, "stream": True, "stream_options": {"include_usage": True}}
        async with self._send(wanted) as response:
            try:
                async for event in EventSource(response).aiter_sse():
                    if event.data == "[DONE]":
                        return
                    yield json.loads(event.data)
            except (ValueError, SSEError) as error:
                raise self._fault(f"sent a broken stream: {error}") from None

    @asynccontextmanager
    async def _send(self, request: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        body = {**self._extra, **request, "model": self._model}
        async with self._limit:
            try:
                async with self._http.stream("POST", self._url, json=body) as response:
                    if response.status_code >= 400:
                        raise self._refusal(response, await response.aread())
                    yield response
            except httpx.TimeoutException:
                raise self._fault("did not answer in time", status=504) from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._fault(f"cannot be reached: {error or type(error).__name__}") from None

    def _refusal(self, response: httpx.Response, body: bytes) -> ModelFault:
        status = response.status_code
        kept = status if status in _KEEP_STATUS else UNREACHABLE
        fault = self._fault(f"answered {status}: {_error_message(body)}", status=kept)
        fault.retry_after = response.headers.get("retry-after")
        return fault

    def _fault(self, what: str, *, status: int = UNREACHABLE) -> ModelFault:
        return ModelFault(f"model {self._slug}: {self._url} {what}", status=status)

    async def close(self) -> None:
        await self._http.aclose()


def _error_message(body: bytes) -> str:
    try:
        error = json.loads(body)
        error = error.get("error", error)
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        return _start(body)


def _start(body: bytes) -> str:
    return repr(body[:120].decode("utf-8", "replace"))
