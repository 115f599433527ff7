"""One call over HTTP, as an onion: retry → limit → send → decode. One policy a function.

The limit lies inside the retry, so that a call that waits for its next attempt holds no slot. Each attempt
passes the gate and is heard by the adaptive limit of `fanbench.wire.adaptive_limit`.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

import anyio

from fanbench._util.debug_log import debug
from fanbench._version import __version__
from fanbench.config import KAGGLE, Anonymous, Basic, Bearer, Config, Credentials
from fanbench.errors import ApiError, BadAnswer, ConnectionFailed
from fanbench.wire.adaptive_limit import AdaptiveLimit
from fanbench.wire.messages import Message, encode
from fanbench.wire.pools import Pools
from fanbench.wire.protocol import Call
from fanbench.wire.responses import decode_answer, error_in, unexpected
from fanbench.wire.retry import NeverSent, RetryPolicy, retrying

if TYPE_CHECKING:
    import httpx

__all__ = ["Limits", "Transport"]

M = TypeVar("M", bound=Message)

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
CLOSE_TIMEOUT = 5.0
# Below the 5 seconds after which common servers close an idle connection: a call that is sent into a closing
# connection gets lost, and some calls must not be sent twice.
KEEP_ALIVE = 4.0
# Connections of one pool. One would be best by a little, if each did not take a millisecond to make.
POOL = 2
ERROR_BODY_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How many things are under way at one time. Streams and downloads do not stand in each other's way.

    `adaptive` lowers `calls` and `downloads` while the server is overloaded, and announces each change.
    """

    calls: anyio.CapacityLimiter
    streams: anyio.CapacityLimiter
    downloads: anyio.CapacityLimiter
    adaptive: AdaptiveLimit = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adaptive", AdaptiveLimit(self.calls, self.downloads))

    @classmethod
    def of(cls, concurrency: int) -> Limits:
        """`concurrency` calls and as many downloads; live logs, which mostly wait, are let be many more."""
        limiter = anyio.CapacityLimiter
        return cls(
            calls=limiter(concurrency), streams=limiter(max(64, concurrency)), downloads=limiter(concurrency)
        )


class Transport:
    """Sends calls to one server. `limits` are passed in, so that several may share them."""

    def __init__(
        self, config: Config, limits: Limits, retry: RetryPolicy, http: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.config = config
        self.limits = limits
        self.retry = retry
        self._base = base_url(config.endpoint)
        self._pools = _pools(config, http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._pools.aclose()

    async def call(self, call: Call, request: Message, kind: type[M]) -> M:
        """The answer to `request`."""
        attempt = partial(self._limited_call, call, encode(request), kind)
        return await retrying(self.retry, call, attempt)

    async def _limited_call(self, call: Call, body: bytes, kind: type[M], attempt: int) -> M:
        adaptive = self.limits.adaptive
        async with adaptive.slot(self.limits.calls, call, self.retry.total):
            with adaptive.observe(), self._pools.one() as http:
                response = await self._send(http, call, body, attempt)
                return decode_answer(
                    self.config, call, response.status_code, response.headers, response.content, kind
                )

    @asynccontextmanager
    async def stream(
        self,
        call: Call,
        request: Message,
        limiter: anyio.CapacityLimiter,
        *,
        headers: Mapping[str, str] | None = None,
        silence: float | None = READ_TIMEOUT,
    ) -> AsyncIterator[httpx.Response]:
        """A good answer whose body is still to be read; the slot is held until the block is left.

        Getting as far as the body is retried; a body that breaks off raises ConnectionFailed in the block.
        `silence` is the number of seconds that the body may keep quiet, None without end.
        """
        attempt = partial(self._limited_open, call, encode(request), limiter, headers or {}, silence)
        response, opened = await retrying(self.retry, call, attempt)
        async with opened:
            with self._errors_mapped(call):
                yield response

    async def _limited_open(
        self,
        call: Call,
        body: bytes,
        limiter: anyio.CapacityLimiter,
        headers: Mapping[str, str],
        silence: float | None,
        attempt: int,
    ) -> tuple[httpx.Response, AsyncExitStack]:
        async with AsyncExitStack() as opened:
            adaptive = self.limits.adaptive
            await opened.enter_async_context(adaptive.slot(limiter, call, self.retry.total))
            http = opened.enter_context(self._pools.one())
            with adaptive.observe():
                response = await self._send(
                    http, call, body, attempt, headers=headers, silence=silence, stream=True
                )
                opened.push_async_callback(_close, response)
                if response.status_code >= 300:
                    raise await self._error_of(call, response)
            return response, opened.pop_all()

    async def _error_of(self, call: Call, response: httpx.Response) -> ApiError:
        with self._errors_mapped(call):
            body = await read_at_most(response, ERROR_BODY_LIMIT)
        error = error_in(self.config, call, response.status_code, response.headers, body)
        return error or unexpected(self.config, call, response.status_code, body)

    async def _send(
        self,
        http: httpx.AsyncClient,
        call: Call,
        body: bytes,
        attempt: int,
        *,
        headers: Mapping[str, str] | None = None,
        silence: float | None = READ_TIMEOUT,
        stream: bool = False,
    ) -> httpx.Response:
        """Only streams follow redirects: an output may lie in another place than the API."""
        request = http.build_request(
            "POST", _url(self._base, call.path), content=body, headers=headers, timeout=_timeout(silence)
        )
        started = anyio.current_time()
        with self._errors_mapped(call):
            response = await http.send(request, stream=stream, follow_redirects=stream)
        ms = round((anyio.current_time() - started) * 1000, 1)
        debug("call", method=call.method, status=response.status_code, ms=ms, attempt=attempt)
        return response

    @contextmanager
    def _errors_mapped(self, call: Call) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise self._unreachable(call, error) from error
        except httpx.TimeoutException as error:
            message = f"{self.config.endpoint} does not answer {call.method}: timed out"
            raise ConnectionFailed(message, endpoint=self.config.endpoint) from error
        except httpx.TransportError as error:
            message = f"The connection to {self.config.endpoint} broke off in {call.method}: {_reason(error)}"
            raise ConnectionFailed(message, endpoint=self.config.endpoint) from error
        except (httpx.DecodingError, httpx.TooManyRedirects) as error:
            message = f"The answer from {self.config.endpoint} cannot be read: {_reason(error)}"
            raise BadAnswer(message, call=call.method, status=200) from error

    def _unreachable(self, call: Call, error: Exception) -> NeverSent:
        return NeverSent(
            f"Cannot connect to {self.config.endpoint} for {call.method}: {_reason(error)}",
            endpoint=self.config.endpoint,
            hint="Does the server run, is the endpoint right, and is there a network?",
        )


def base_url(endpoint: str) -> str:
    """Kaggle has a host of its own for the API; any other server has it below `/api`."""
    return endpoint if endpoint == KAGGLE else f"{endpoint}/api"


def authorization(credentials: Credentials) -> dict[str, str]:
    match credentials:
        case Bearer(token=token):
            return {"Authorization": f"Bearer {token}"}
        case Basic(username=username, key=key):
            pair = base64.b64encode(f"{username}:{key}".encode()).decode("ascii")
            return {"Authorization": f"Basic {pair}"}
        case Anonymous():
            return {}


def secrets_of(credentials: Credentials) -> list[str]:
    """What must never be shown: the words as they are, and as they travel."""
    match credentials:
        case Bearer(token=token):
            words = [token]
        case Basic(key=key):
            words = [key]
        case Anonymous():
            words = []
    return [*words, *(header.partition(" ")[2] for header in authorization(credentials).values())]


async def pieces_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it comes; to be closed (`aclosing`) where it may be left early.

    The HTTP library reads through a chain of generators and closes only the outermost of them. Read on, once
    the connection is closed, they all end; left to the garbage collector, they make trio complain.
    """
    body = response.aiter_bytes()
    try:
        async for piece in body:
            yield piece
    finally:
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True), suppress(Exception):
            await response.aclose()
            async for _ in body:
                pass


async def read_at_most(response: httpx.Response, limit: int) -> bytes:
    """The first `limit` bytes of the body, or a little more."""
    body = bytearray()
    async with aclosing(pieces_of(response)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) >= limit:
                break
    return bytes(body)


def _pools(config: Config, transport: httpx.AsyncBaseTransport | None) -> Pools:
    import httpx

    # A company's proxy, set in the environment, cannot reach a server on this machine.
    on_this_machine = urlsplit(config.endpoint).hostname in ("localhost", "127.0.0.1", "::1")
    trust_env = not on_this_machine
    headers = authorization(config.credentials)
    headers |= {"User-Agent": f"fanbench/{__version__}", "Content-Type": "application/json"}
    # Our limiters bound the connections; a bound of the pool's own would only time out.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE)
    client = partial(httpx.AsyncClient, headers=headers, limits=limits, trust_env=trust_env)
    if transport is not None:
        return Pools(
            partial(client, transport=transport), None
        )  # One client, because it closes the transport.
    # Loading the certificates takes longer than everything else in a start, so they are loaded once, and for
    # a plain HTTP server on this machine not before a redirect leads to an HTTPS address.
    context = cache(partial(httpx.create_ssl_context, trust_env=trust_env))
    if on_this_machine and config.endpoint.startswith("http://"):
        from fanbench.wire.lazy_https import LazyHttps

        https = partial(LazyHttps, lambda: httpx.AsyncHTTPTransport(verify=context(), limits=limits))
        # A context without certificates trusts nobody. It is never used: `mounts` has all of HTTPS.
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return Pools(lambda: client(verify=plain, mounts={"https://": https()}), POOL)
    return Pools(partial(client, verify=context()), POOL)


@lru_cache(maxsize=64)
def _url(base: str, path: str) -> httpx.URL:
    """Parsed once: that takes as long as all that we do ourselves for a call."""
    import httpx

    return httpx.URL(base + path)


@lru_cache(maxsize=8)
def _timeout(silence: float | None) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT, read=silence, pool=None)


async def _close(response: httpx.Response) -> None:
    with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
        await response.aclose()


def _reason(error: Exception) -> str:
    """What the system said at the bottom: the libraries above say "All connection attempts failed"."""
    bottom: BaseException = error
    while (deeper := _beneath(bottom)) is not None:
        bottom = deeper
    if isinstance(bottom, OSError) and bottom.errno is not None and bottom.errno > 0:
        return os.strerror(bottom.errno)
    return str(bottom).rstrip(".") or str(error) or type(error).__name__


def _beneath(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ or error.__context__
