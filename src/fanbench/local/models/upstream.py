"""A model behind an OpenAI-compatible endpoint, on the network or in a process of ours."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec
from httpx_sse import EventSource, SSEError

from fanbench.errors import FanbenchError, reason_of
from fanbench.local.models import UNREACHABLE, BaseSpec, ModelEngine, ModelFault
from fanbench.wire.http_clients import HttpClients, open_clients

_KEEP_STATUS = frozenset({400, 401, 403, 404, 413, 422, 429})
"""Statuses that concern the request are passed on; the upstream's own problems become UNREACHABLE."""

_SHORTEST_SECRET = 12
"""A shorter key, such as `ollama` for an endpoint that asks for none, may be a word of an answer."""


Slot = Callable[[], AbstractAsyncContextManager[None]]
"""Makes contexts in which one request may be sent. Entering one waits until there are few enough others."""


def slots(concurrency: int) -> Slot:
    """Slots for `concurrency` requests at the same time, first come, first served."""
    limit = anyio.CapacityLimiter(concurrency)

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        # A borrower of its own: the task that ends a stream need not be the one that began it.
        borrower = object()
        await limit.acquire_on_behalf_of(borrower)
        try:
            yield
        finally:
            limit.release_on_behalf_of(borrower)

    return slot


class Upstream(BaseSpec, frozen=True, kw_only=True, tag="upstream"):
    """An OpenAI-compatible endpoint: Ollama, vLLM, a vendor, Kaggle's own proxy."""

    url: str
    """The base URL, to which `/chat/completions` is added."""
    model: str = ""
    """The endpoint's name for the model; if empty, the slug."""
    key_env: str = ""
    """The variable in the server's environment that has the key."""
    concurrency: int = 8
    """The most requests at the same time."""
    timeout: float = 600.0
    """Seconds without any data."""

    recorded: ClassVar[bool] = True
    takes_efforts: ClassVar[bool] = True
    free: ClassVar[bool] = False
    open_ended: ClassVar[bool] = True

    @property
    def source(self) -> str:
        return self.url

    def check(self) -> None:
        try:
            url = urlsplit(self.url)
            valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"{self.url!r} is not a URL of an endpoint")

    def make_engine(self, log: Path) -> ModelEngine:
        return self.connect(slots(self.concurrency))

    def connect(self, slot: Slot) -> ChatEndpoint:
        """The engine, which sends each request in a `slot`. Raises ModelFault if there is no key."""
        key = os.environ.get(self.key_env) if self.key_env else ""
        if key is None:
            text = f"the variable {self.key_env}, which models.toml names, is not set in the server"
            raise ModelFault(f"model {self.slug}: {text}", status=401)
        return ChatEndpoint(
            slug=self.slug,
            url=self.url,
            model=self.model or self.slug,
            key=key,
            slot=slot,
            timeout=self.timeout,
        )


class _Part(msgspec.Struct):
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    message: _Part | None = None
    delta: _Part | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost: dict[str, float | None] | None = None


class _Answer(msgspec.Struct):
    """The parts of an answer, or of a chunk of one, that we rely on. Real answers may have more."""

    choices: list[_Choice]
    usage: _Usage | None = None


class ChatEndpoint(ModelEngine):
    """Requests chat completions from `url`, each in a `slot`."""

    def __init__(
        self,
        *,
        slug: str,
        url: str,
        model: str,
        key: str = "",
        slot: Slot,
        timeout: float,
    ) -> None:
        self.slot = slot
        self._slug = slug
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._key = key
        self._timeout = httpx.Timeout(timeout, connect=10.0)
        self._clients: HttpClients | None = None

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._send({**request, "stream": False}) as response:
            return self._decode(await response.aread())

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        wanted = {**request, "stream": True, "stream_options": {"include_usage": True}}
        empty = True
        async with self._send(wanted) as response:
            try:
                async for event in EventSource(response).aiter_sse():
                    if event.data == "[DONE]":
                        break
                    yield self._decode(event.data.encode())
                    empty = False
            except SSEError as error:
                raise self._fault(f"sent no stream: {error}") from None
        if empty:
            raise self._fault("sent an empty stream")

    def _decode(self, body: bytes) -> dict[str, Any]:
        """Decode an answer. Raises ModelFault if it is not a chat completion."""
        if len(self._key) >= _SHORTEST_SECRET:
            # Some endpoints echo what they were sent, and answers reach logs, outputs and recordings.
            body = body.replace(self._key.encode(), b"[key]")
        try:
            answer: dict[str, Any] = msgspec.json.decode(body)
            msgspec.convert(answer, _Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # ValidationError is a DecodeError, and names the place of the mistake.
            raise self._fault(f"sent no chat completion ({error}): {_beginning(body)}") from None
        return answer

    @asynccontextmanager
    async def _send(self, request: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        self.busy += 1
        try:
            async with self.slot(), self._post({**request, "model": self._model}) as response:
                if (status := response.status_code) >= 400:
                    body = await response.aread()
                    try:
                        error = json.loads(body)
                        error = error.get("error", error)
                        text = str(error.get("message", error) if isinstance(error, dict) else error)
                    except (ValueError, AttributeError):
                        text = _beginning(body)
                    kept = status if status in _KEEP_STATUS else UNREACHABLE
                    fault = self._fault(f"answered {status}: {text}", status=kept)
                    fault.retry_after = response.headers.get("retry-after")
                    raise fault
                yield response
        except httpx.TimeoutException:
            raise self._fault("did not answer in time", status=504) from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise self._fault(f"cannot be reached: {reason_of(error)}") from None
        except FanbenchError as error:  # of a proxy
            raise self._fault(f"cannot be reached: {error.message.removesuffix('.')}") from None
        finally:
            self.busy -= 1

    @asynccontextmanager
    async def _post(self, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        if self._clients is None:
            # Not before the first request: certificates take a while to load, and may be missing.
            headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
            self._clients = open_clients(self._url, headers)
        with self._clients.one() as http:
            async with http.stream("POST", self._url, json=body, timeout=self._timeout) as response:
                yield response

    def _fault(self, what: str, *, status: int = UNREACHABLE) -> ModelFault:
        url = urlsplit(self._url)
        # A URL may have a password, and runs see the error.
        shown = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
        text = f"model {self._slug}: {shown} {what}"
        # Vendors quote a refused key in their errors.
        return ModelFault(text.replace(self._key, "[key]") if self._key else text, status=status)

    async def close(self) -> None:
        if self._clients is not None:
            await self._clients.aclose()


def _beginning(body: bytes) -> str:
    return repr(body[:120].decode("utf-8", "replace"))
