"""The sockets on which the server listens. Importable without the extra."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from fanbench.errors import LocalServerError

__all__ = ["BACKLOG", "listen_on"]

BACKLOG = 2048
"""The most connections that wait until they are accepted."""


def listen_on(host: str, port: int, *, any_port: bool, in_use: Callable[[int], str]) -> socket.socket:
    """A socket that listens on the port, or with `any_port` on another one if that is in use.

    `in_use` makes the hint for a port that is in use.

    Raises:
        LocalServerError: The port is in use, or the address cannot be listened on.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise LocalServerError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from None
        if any_port:
            return listen_on(host, 0, any_port=False, in_use=in_use)
        raise LocalServerError(f"The port {port} of {host} is in use.", hint=in_use(port)) from None
    return listener
