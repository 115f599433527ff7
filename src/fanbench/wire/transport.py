"""One call over HTTP in layers: retry → limit → send → decode, one policy per function.

The limit is inside the retry, so that a call waiting for its next attempt holds no slot. Every attempt respects
and informs the adaptive limit of `fanbench.wire.adaptive_limit`.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from fanbench._util.debug_log import debug
from fanbench.config import KAGGLE, Anonymous, Basic, Bearer, Config, Credentials, is_on_this_machine
from fanbench.errors import BadAnswer, ConnectionFailed, Unauthorized, reason_of, root_cause
from fanbench.version import __version__
from fanbench.wire.adaptive_limit import AdaptiveLimit
from fanbench.wire.messages import Message, encode
from fanbench.wire.protocol import Call
from fanbench.wire.responses import decode_answer, error_of, invalid_answer
from fanbench.wire.retry import NeverSent, NobodyListens, RetryPolicy, retrying

if TYPE_CHECKING:
    import httpx

__all__ = ["CallLimits", "Transport"]

M = TypeVar("M", bound=Message)
T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
#: Seconds that one attempt of a call may take, up to the last byte of its answer. A server that sends a byte now and
#: then would otherwise never be timed out.
ANSWER_TIMEOUT = 60.0
#: The same for the first attempt of a call that may be sent again; each further attempt has twice as long. A server
#: that is only slow is given the time in the end, and an answer that got lost costs less of it.
FIRST_ANSWER_TIMEOUT = 15.0
#: The same for the headers of a stream whose body may pause for any time.
HEADERS_TIMEOUT = 300.0
CLOSE_TIMEOUT = 5.0
#: The largest answer of a call, in bytes. A list of 10,000 runs has 6 MB.
ANSWER_LIMIT = 64 << 20
ERROR_BODY_LIMIT = 1 << 20
MAX_REDIRECTS = 20
_START_AGAIN = "Start the server again with `fanbench serve`; with --local, run the same command again."


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How many calls, log streams and downloads may be in flight; none of the three delays another.

    `adaptive` lowers `calls` and `downloads` while the server is overloaded, and announces each change.
    """

    calls: anyio.CapacityLimiter
    streams: anyio.CapacityLimiter
    downloads: anyio.CapacityLimiter
    adaptive: AdaptiveLimit = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "adaptive", AdaptiveLimit(self.calls, self.downloads))

    @classmethod
    def of(cls, concurrency: int) -> CallLimits:
        """Allow `concurrency` calls and as many downloads; more live logs, because these mostly wait."""
        limiter = anyio.CapacityLimiter
        return cls(
            calls=limiter(concurrency), streams=limiter(max(64, concurrency)), downloads=limiter(concurrency)
        )


class Transport:
    """Sends calls to one server. Several transports may share their `limits`.

    `locate` returns the URL at which the server listens now. It is called when nobody listens at the known one, or
    somebody else, and may start the server.
    """

    def __init__(
        self,
        config: Config,
        limits: CallLimits,
        retry: RetryPolicy,
        http: httpx.AsyncBaseTransport | None = None,
        locate: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        from fanbench.wire.http_clients import open_clients

        self.config = config
        self.limits = limits
        self.retry = retry
        self._locate = locate
        self._locating = anyio.Lock()
        self._clients = open_clients(
            config.endpoint,
            {
                **authorization(config.credentials),
                "User-Agent": f"fanbench/{__version__}",
                "Content-Type": "application/json",
            },
            http,
        )
        self._headers: dict[frozenset[tuple[str, str]], httpx.Headers] = {}
        #: The newest release of the package `kaggle`, as the server's answers name it; empty if they do not.
        self.newest_release = ""

    async def aclose(self) -> None:
        await self._clients.aclose()

    @property
    def _base(self) -> str:
        """Kaggle has a host of its own for the API; other servers have it below `/api`."""
        endpoint = self.config.endpoint
        return endpoint if endpoint == KAGGLE else f"{endpoint}/api"

    async def _sent_where_it_listens(self, send: Callable[[int], Awaitable[T]], number: int) -> T:
        """Return the result of `send(number)`. If the server has moved, find it and send the request there.

        The first request has not reached the server, so that this is safe for all calls.
        """
        endpoint = self.config.endpoint
        try:
            return await send(number)
        except (NobodyListens, Unauthorized):
            # Another server on the old port does not know our token.
            if self._locate is None or not await self._follow(endpoint, self._locate):
                raise
        return await send(number)

    async def _follow(self, endpoint: str, locate: Callable[[], Awaitable[str]]) -> bool:
        """Turn to where the server listens. Return False if that is still `endpoint`, which a request has tried."""
        async with self._locating:  # many requests fail at the same time, and one look is enough
            if self.config.endpoint == endpoint:
                found = await locate()
                debug("server located", endpoint=found, before=endpoint)
                self.config = replace(self.config, endpoint=found)
        return self.config.endpoint != endpoint

    async def call(self, call: Call, request: Message, kind: type[M]) -> M:
        """Send `request` and return the answer."""
        body = encode(request)

        async def attempt(number: int) -> M:
            async with self.limits.adaptive.slot(self.limits.calls, call, self.retry.total):
                with self.limits.adaptive.observe(), self._clients.one() as http:
                    with self._errors_mapped(call):
                        response, answer = await self._exchange(http, call, body, number)
                    return decode_answer(self.config, call, response, answer, kind)

        return await retrying(self.retry, call, partial(self._sent_where_it_listens, attempt))

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
        """Send `request` and yield a successful answer whose body is still to be read.

        A slot of `limiter` is held until the end of the block. Everything before the body is retried; a body
        that breaks raises ConnectionFailed in the block. `silence` is the number of seconds for which the body
        may pause, or None for no limit.
        """
        content = encode(request)

        async def attempt(number: int) -> tuple[httpx.Response, AsyncExitStack]:
            async with AsyncExitStack() as opened:
                slot = self.limits.adaptive.slot(limiter, call, self.retry.total)
                await opened.enter_async_context(slot)
                http = opened.enter_context(self._clients.one())
                is_log = limiter is self.limits.streams
                with self.limits.adaptive.observe(may_be_silent=is_log), self._errors_mapped(call):
                    request = self._request(http, call, content, headers=headers, silence=silence)
                    with _in_time(request, silence or HEADERS_TIMEOUT):
                        response = await self._send(http, call, request, number, follow_redirects=True)
                        opened.push_async_callback(_close, response)
                        if response.status_code >= 300:
                            body = await read_at_most(response, ERROR_BODY_LIMIT)
                            raise error_of(self.config, call, response, body)
                return response, opened.pop_all()

        where_it_listens = partial(self._sent_where_it_listens, attempt)
        response, opened = await retrying(self.retry, call, where_it_listens)
        async with opened:
            with self._errors_mapped(call):
                yield response

    async def _exchange(
        self, http: httpx.AsyncClient, call: Call, body: bytes, attempt: int
    ) -> tuple[httpx.Response, bytes]:
        """Send one request and read the answer, which has a bound in time and in bytes."""
        request = self._request(http, call, body)
        with _in_time(request, _answer_timeout(call, attempt)):
            response = await self._send(http, call, request, attempt)
            try:
                answer = await read_at_most(response, ANSWER_LIMIT + 1)
            finally:
                await _close(response)
        if len(answer) > ANSWER_LIMIT:
            raise invalid_answer(call, f"it has more than {ANSWER_LIMIT >> 20} MB")
        return response, answer

    def _request(
        self,
        http: httpx.AsyncClient,
        call: Call,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        silence: float | None = READ_TIMEOUT,
    ) -> httpx.Request:
        import httpx

        return httpx.Request(
            "POST",
            _url(self._base, call.path),
            headers=self._merged_headers(http, headers),
            cookies=http.cookies or None,
            content=body,
            extensions={"timeout": _timeout(silence)},
        )

    async def _send(
        self,
        http: httpx.AsyncClient,
        call: Call,
        request: httpx.Request,
        attempt: int,
        *,
        follow_redirects: bool = False,
    ) -> httpx.Response:
        """Send one request; the body of the answer is still to be read.

        Only streams follow redirects, because an output may be stored elsewhere. The HTTP library would read the
        whole body of a redirect, which may be endless.
        """
        import httpx

        started = time.perf_counter()
        response = await http.send(request, stream=True)
        redirects = 0
        while follow_redirects and response.next_request is not None:
            await _close(response)
            redirects += 1
            if redirects > MAX_REDIRECTS:
                raise httpx.TooManyRedirects("too many redirects", request=request)
            response = await http.send(response.next_request, stream=True)
        ms = round((time.perf_counter() - started) * 1000, 1)
        debug("call", method=call.method, status=response.status_code, ms=ms, attempt=attempt)
        self.newest_release = response.headers.get("X-Kaggle-APIVersion", self.newest_release)
        return response

    def _merged_headers(self, http: httpx.AsyncClient, more: Mapping[str, str] | None) -> httpx.Headers:
        """Return the headers of a request. Each kind is merged once, which takes as long as the rest of a request.

        All clients have the same headers. A resumed download asks for a range of its own and is not kept.
        """
        import httpx

        kind = frozenset(more.items()) if more else frozenset()
        merged = self._headers.get(kind)
        if merged is None:
            merged = httpx.Headers(http.headers)
            merged.update(more)
            if "Range" not in merged:
                self._headers[kind] = merged
        return merged

    @contextmanager
    def _errors_mapped(self, call: Call) -> Iterator[None]:
        """Turn the errors of the HTTP library into ours."""
        import httpx

        endpoint = self.config.endpoint
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            cause = root_cause(error)
            refused = isinstance(cause, ConnectionRefusedError)
            kind, hint = NeverSent, "Check that the server is running, the endpoint, and the network."
            if refused and (self._locate is not None or is_on_this_machine(endpoint)):
                kind, hint = NobodyListens, _START_AGAIN
            elif isinstance(cause, ssl.SSLError):
                hint = (
                    "If a proxy of your company signs the connections, set SSL_CERT_FILE to its certificate."
                )
            message = f"Cannot connect to {endpoint} for {call.method}: {reason_of(error)}."
            raise kind(message, endpoint=endpoint, hint=hint) from error
        except httpx.TimeoutException as error:
            message = f"{endpoint} does not answer {call.method}: {str(error) or 'timed out'}."
            raise ConnectionFailed(message, endpoint=endpoint) from error
        except httpx.TransportError as error:
            message = f"The connection to {endpoint} broke off in {call.method}: {reason_of(error)}."
            raise ConnectionFailed(message, endpoint=endpoint) from error
        except (httpx.DecodingError, httpx.TooManyRedirects, httpx.InvalidURL) as error:
            message = f"The answer from {endpoint} cannot be read: {reason_of(error)}"
            raise BadAnswer(message, call=call.method, status=200) from error


def authorization(credentials: Credentials) -> dict[str, str]:
    """Return the headers that carry the credentials."""
    match credentials:
        case Bearer(token=token):
            return {"Authorization": f"Bearer {token}"}
        case Basic(username=username, key=key):
            pair = base64.b64encode(f"{username}:{key}".encode()).decode("ascii")
            return {"Authorization": f"Basic {pair}"}
        case Anonymous():
            return {}


def secrets_of(credentials: Credentials) -> list[str]:
    """Return the strings that must never be shown: the secrets as they are and as they are sent."""
    match credentials:
        case Bearer(token=secret) | Basic(key=secret):
            return [secret, *(value.partition(" ")[2] for value in authorization(credentials).values())]
        case Anonymous():
            return []


async def pieces_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives; close the generator (`aclosing`) when leaving early.

    The HTTP library reads through a chain of generators and closes only the outermost one. Once the connection
    is closed, reading on ends them all; left to the garbage collector, they would make trio complain. A body
    that was read to its end has ended them already.
    """
    body = response.aiter_bytes()
    try:
        async for piece in body:
            yield piece
    except BaseException:
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True), suppress(Exception):
            await response.aclose()
            async for _ in body:
                pass
        raise


async def read_at_most(response: httpx.Response, limit: int) -> bytes:
    """Return the first `limit` bytes of the body, or slightly more."""
    body = bytearray()
    async with aclosing(pieces_of(response)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) >= limit:
                break
    return bytes(body)


@lru_cache(maxsize=64)
def _url(base: str, path: str) -> httpx.URL:
    """Parse a URL once: parsing takes as long as everything else that we do for a call."""
    import httpx

    return httpx.URL(base + path)


@lru_cache(maxsize=8)
def _timeout(silence: float | None) -> dict[str, float | None]:
    import httpx

    return httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT, read=silence, pool=None).as_dict()


def _answer_timeout(call: Call, attempt: int) -> float:
    if not call.idempotent:
        return ANSWER_TIMEOUT
    return min(ANSWER_TIMEOUT, FIRST_ANSWER_TIMEOUT * 2.0 ** min(attempt - 1, 8))


@contextmanager
def _in_time(request: httpx.Request, seconds: float) -> Iterator[None]:
    """Bound a block in which `request` is sent and answered, as if the HTTP library itself had timed out."""
    import httpx

    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        message = f"timed out after {seconds:g} s"
        raise httpx.ReadTimeout(message, request=request) from None


async def _close(response: httpx.Response) -> None:
    if not response.is_closed:
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await response.aclose()
