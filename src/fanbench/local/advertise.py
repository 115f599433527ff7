"""The addresses of a server: the one for this machine, and those for runs and clients elsewhere."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from fanbench.config import is_server
from fanbench.errors import LocalServerError, UsageError
from fanbench.local.settings import ServerSettings

__all__ = ["Addresses", "addresses_for_workers", "addresses_of", "is_everywhere", "names_of"]

# Addresses for documentation, which nobody has. No packet is sent to them.
_OUTSIDE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


@dataclass(frozen=True)
class Addresses:
    """Base URLs of a server, without a slash at the end."""

    local: str
    """For clients on this machine."""
    advertised: str
    """For runs, and for clients on other machines."""
    model_proxy: str
    """The value of MODEL_PROXY_URL."""


def addresses_of(settings: ServerSettings, port: int, proxy_port: int | None = None) -> Addresses:
    """The addresses of a server that listens on `port`. Without `advertise`, all are on this machine.

    `proxy_port` is the port of the Model Proxy, if it has one of its own. An advertised URL is that of a reverse proxy,
    which passes requests to `/models` to that port.

    Raises:
        UsageError: `advertise` is no address.
    """
    local = _url("127.0.0.1" if is_everywhere(settings.host) else settings.host, port)
    advertised = _read(settings.advertise, port) if settings.advertise else local
    return _addresses(local, advertised, None if "://" in settings.advertise else proxy_port)


def addresses_for_workers(
    settings: ServerSettings, port: int, engine: str, proxy_port: int | None = None
) -> tuple[Addresses, str]:
    """The addresses of a server whose runs are on other machines, and a sentence that says where it is reached.

    Without `advertise`, a server that listens on all interfaces is reached by the one that leads out of this machine.
    `engine` is how the user has named the engine, for messages.

    Raises:
        LocalServerError: Other machines cannot reach the server, or its address for them is unknown.
        UsageError: `advertise` is no address.
    """
    addresses = addresses_of(settings, port, proxy_port)
    if settings.advertise or not is_everywhere(settings.host):
        url = addresses.advertised
        if _is_loopback(urlsplit(url).hostname or ""):
            if settings.advertise:
                said = f"Only workers on this machine reach this server at {url}, as --advertise says."
                return addresses, said
            raise LocalServerError(
                f"The workers of {engine} cannot reach {url}: on each machine, that address means the machine itself.",
                hint="Run `fanbench serve` with --host 0.0.0.0, and with --advertise HOST if it has several addresses.",
            )
        return addresses, f"Workers reach this server at {url}."
    host = _outward_host(settings.host)
    if host is None:
        raise LocalServerError(
            f"No interface leads out of this machine, so the workers of {engine} may not reach it.",
            hint="Name its address with `fanbench serve --advertise HOST`.",
        )
    url = _url(host, port)
    said = f"Workers reach this server at {url}, through the interface that leads out. --advertise names another."
    return _addresses(addresses.local, url, proxy_port), said


def names_of(settings: ServerSettings, addresses: Addresses) -> frozenset[str]:
    """The names by which clients may call the server, besides addresses and `localhost`."""
    advertised = urlsplit(addresses.advertised).hostname or ""
    return frozenset(name.lower() for name in (settings.host, advertised, *settings.allowed_hosts))


def is_everywhere(host: str) -> bool:
    """Whether a server on `host` listens on all interfaces."""
    return host in ("0.0.0.0", "::", "")  # noqa: S104 - a comparison


def _addresses(local: str, advertised: str, proxy_port: int | None) -> Addresses:
    proxy = advertised
    if proxy_port is not None:
        proxy = _url(urlsplit(advertised).hostname or "", proxy_port)
    return Addresses(local, advertised, f"{proxy}/models")


def _read(advertised: str, port: int) -> str:
    """The URL of `URL` or `HOST[:PORT]`."""
    url = advertised if "://" in advertised else _complete(advertised, port)
    if not is_server(url) or is_everywhere(urlsplit(url).hostname or ""):
        raise UsageError(
            f"--advertise {advertised!r} is not an address at which runs can reach this server.",
            hint="Write it as HOST, HOST:PORT or a URL such as https://bench.example.com.",
        )
    return url.rstrip("/")


def _complete(host: str, port: int) -> str:
    """The URL of `HOST[:PORT]`; empty if it is something else."""
    with suppress(ValueError):
        ipaddress.IPv6Address(host)
        return _url(host, port)
    with suppress(ValueError):
        parts = urlsplit(f"http://{host}")
        if parts.netloc == host:
            return f"http://{host}" if parts.port else f"http://{host}:{port}"
    return ""


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _outward_host(listening: str) -> str | None:
    """The address of the interface that leads out of this machine. `::` has IPv6 and IPv4, with the former first."""
    ways: Sequence[tuple[socket.AddressFamily, str]] = _OUTSIDE[::-1] if listening == "::" else _OUTSIDE[:1]
    for family, outside in ways:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))
            host: str = probe.getsockname()[0]
            if not (_is_loopback(host) or ipaddress.ip_address(host).is_link_local):
                return host
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
