"""The HTTP clients of a transport: one for each request in flight, and quick to make."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from types import ModuleType
from typing import Any, cast
from urllib.request import getproxies

import anyio

from fanbench.config import is_on_this_machine
from fanbench.errors import UsageError, reason_of

_UNLOADED = "httpx" not in sys.modules
if _UNLOADED:
    # As if httpx's command line were not installed: it imports rich and pygments, which takes long.
    sys.modules["httpx._main"] = cast("ModuleType", None)
try:
    import httpx

    from fanbench.wire.proxies import ProxiedTransport, proxy_for
finally:
    if _UNLOADED:
        del sys.modules["httpx._main"]

__all__ = ["HttpClients", "open_clients"]

# Less than the 5 seconds after which common servers close an idle connection: a call sent into a closing
# connection gets lost, and some calls must not be sent twice.
KEEP_ALIVE = 4.0


class HttpClients:
    """Lends HTTP clients, each to one request at a time, or with `shared` the same one to all.

    The pool inside an HTTP client examines all its connections twice per request, with a system call for each
    idle one: with 64 connections, that is most of a request's CPU time. See benchmarks/README.md.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], *, shared: bool = False) -> None:
        self._make = make
        self._shared = make() if shared else None
        self._all = [self._shared] if self._shared else []
        # The client used last is taken first, so that as few connections as possible are in use and stay open.
        self._free: list[httpx.AsyncClient] = []

    @contextmanager
    def one(self) -> Iterator[httpx.AsyncClient]:
        """Lend a client for one request, until its answer is read."""
        if self._shared is not None:
            yield self._shared
            return
        if not self._free:
            self._all.append(self._make())
            self._free.append(self._all[-1])
        client = self._free.pop()
        try:
            yield client
        finally:
            self._free.append(client)

    async def aclose(self) -> None:
        async with anyio.create_task_group() as group:
            for client in self._all:
                group.start_soon(client.aclose)


def open_clients(
    endpoint: str, headers: Mapping[str, str], transport: httpx.AsyncBaseTransport | None = None
) -> HttpClients:
    """Return the clients for one server. All requests pass through `transport` if it is given.

    Raises:
        UsageError: The endpoint has a host that cannot exist, or the environment names no valid proxy.
    """
    try:
        httpx.URL(endpoint)
    except httpx.InvalidURL as error:
        raise UsageError(f"{endpoint!r} is not an endpoint: {str(error).rstrip('.')}.") from None
    # A company's proxy, set in the environment, cannot reach a server on this machine.
    on_this_machine = is_on_this_machine(endpoint)
    trust_env = not on_this_machine
    # Our limiters bound the connections; a bound of the pool's own would only time out.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE)
    client = partial(_HttpClient, headers=headers, limits=limits, trust_env=trust_env)
    if transport is not None:
        return HttpClients(
            partial(client, transport=transport), shared=True
        )  # closing it closes the transport
    # Loading the certificates takes longer than everything else in a start, so they are loaded once, and for
    # a plain HTTP server on this machine not before a redirect leads to an HTTPS address.
    context = cache(partial(_create_ssl_context, trust_env=trust_env))
    if on_this_machine and endpoint.startswith("http://"):
        https = partial(_LazyHttps, lambda: httpx.AsyncHTTPTransport(verify=context(), limits=limits))
        # A context without certificates trusts no server. It is never used, because `mounts` handles HTTPS.
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return HttpClients(lambda: client(verify=plain, mounts={"https://": https()}))
    if not on_this_machine and getproxies():
        proxy_for(endpoint)  # An invalid address is an error now, not one of the first call.

        def connect(proxy: httpx.Proxy | None) -> httpx.AsyncBaseTransport:
            return httpx.AsyncHTTPTransport(verify=context(), limits=limits, proxy=proxy)

        return HttpClients(
            lambda: client(trust_env=False, verify=context(), mounts={"all://": ProxiedTransport(connect)})
        )
    return HttpClients(partial(client, verify=context()))


def _create_ssl_context(*, trust_env: bool) -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context(trust_env=trust_env)
    except OSError as error:  # An SSLError is one, too.
        raise UsageError(
            f"The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {reason_of(error)}.",
            hint="Correct or unset the variable.",
        ) from error


class _LazyHttps(httpx.AsyncBaseTransport):
    """Passes requests on to the transport that `make` returns, which is called for the first of them."""

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._transport: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._transport is None:
            self._transport = self._make()
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()


class _Cookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Keep the cookies that the response sets. Looking for them takes longer than building the request."""
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


class _HttpClient(httpx.AsyncClient):
    """An `httpx.AsyncClient` that reads the cookies of a response only if it sets some."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._kept = _Cookies()

    @property
    def cookies(self) -> httpx.Cookies:
        """The cookies of earlier responses, which are sent with the next request."""
        return self._kept

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._kept = _Cookies(cookies)
