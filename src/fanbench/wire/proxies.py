"""Proxies that the environment names: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.

Python's own `urllib.request` reads these variables, and the system's settings on macOS and Windows, as Kaggle's
tools do. httpx reads them as well, but its errors do not tell a proxy that is down from a server that is down.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from fanbench._util.install import install_command
from fanbench.errors import CredentialsError, UsageError, reason_of, root_cause
from fanbench.wire.retry import NeverSent

__all__ = ["ProxiedTransport", "proxy_for"]

_SCHEMES = ("http", "https", "socks5", "socks5h")
_FORM = "http://HOST:PORT, http://USER:PASSWORD@HOST:PORT or socks5://HOST:PORT"


def proxy_for(url: str) -> httpx.Proxy | None:
    """Return the proxy through which the environment sends requests to `url`, or None.

    Raises:
        UsageError: The proxy's address is invalid, or it is a SOCKS proxy and `socksio` is not installed.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    kind = parts.scheme if parts.scheme in proxies else "all"
    given = proxies.get(kind, "").strip()
    if not given or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    variable = f"{kind.upper()}_PROXY"
    address = given if "://" in given else f"http://{given}"
    with suppress(ValueError, httpx.InvalidURL):
        # Reading the port raises ValueError if it is out of range.
        split, proxy = urlsplit(address), httpx.Proxy(address.replace("socks5h://", "socks5://", 1))
        if split.scheme in _SCHEMES and split.hostname and (split.port is None or split.port > 0):
            if split.scheme.startswith("socks") and find_spec("socksio") is None:
                raise UsageError(
                    f"{variable} names a SOCKS proxy, for which fanbench needs the package socksio.",
                    hint=f"Add the extra fanbench[socks]: `{install_command('socks')}`.",
                )
            return proxy
    raise UsageError(
        f"{variable} does not contain the address of a proxy.", hint=f"Write it as {_FORM}, or unset it."
    )


class ProxiedTransport(httpx.AsyncBaseTransport):
    """Sends each request as the environment says: through a proxy, or directly.

    `connect` makes the transport for a proxy, or for None the direct one. Errors of a proxy become ours, and name
    the proxy without its password.
    """

    def __init__(self, connect: Callable[[httpx.Proxy | None], httpx.AsyncBaseTransport]) -> None:
        self._connect = connect
        self._proxies: dict[str, httpx.Proxy | None] = {}
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        server = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        if server not in self._proxies:
            self._proxies[server] = proxy_for(server)
        proxy = self._proxies[server]
        name = str(proxy.url) if proxy else ""
        if name not in self._transports:
            self._transports[name] = self._connect(proxy)
        send = self._transports[name].handle_async_request
        return await (send(request) if proxy is None else _through(proxy, send(request), server))

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


async def _through(proxy: httpx.Proxy, answer: Awaitable[httpx.Response], server: str) -> httpx.Response:
    """Return the answer that comes through the proxy.

    Raises:
        CredentialsError: The proxy wants other credentials.
        NeverSent: The proxy cannot be reached, does not speak its protocol, or does not connect to the server.
    """
    try:
        response = await answer
    except httpx.ProxyError as error:
        reason = str(error)
        if reason.startswith("407") or "password" in reason or "NO ACCEPTABLE METHODS" in reason:
            raise _refused(proxy) from error
        raise NeverSent(
            f"The proxy {proxy.url} does not connect to {server}: {reason.rstrip('.')}.",
            endpoint=server,
            hint="Check the endpoint, or add its host to NO_PROXY.",
        ) from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        if isinstance(root_cause(error), ssl.SSLError):
            raise  # It is the server's certificate that is not accepted.
        raise _down(proxy, server, f"does not answer: {reason_of(error)}") from error
    except httpx.HTTPError:
        raise
    except Exception as error:
        # httpx does not map the errors of its SOCKS library.
        if proxy.url.scheme.startswith("socks"):
            raise _down(proxy, server, "does not speak SOCKS5") from error
        raise
    if response.status_code == 407:
        await response.aclose()
        raise _refused(proxy)
    return response


# httpx has taken the user name and the password out of `proxy.url`.


def _refused(proxy: httpx.Proxy) -> CredentialsError:
    what = "the user name and password" if proxy.auth else "connections without a user name and password"
    return CredentialsError(
        f"The proxy {proxy.url} does not accept {what}.",
        hint=f"Write its address in the variable as {proxy.url.scheme}://USER:PASSWORD@HOST:PORT.",
    )


def _down(proxy: httpx.Proxy, server: str, what: str) -> NeverSent:
    return NeverSent(
        f"The proxy {proxy.url} {what}.",
        endpoint=server,
        hint="Correct or unset the variable that names it: HTTPS_PROXY, HTTP_PROXY or ALL_PROXY.",
    )
