"""Kaggle Benchmarks for people who run many: the same verbs, all of them at once.

The public face. Names are loaded when they are first used, so that `import fanbench` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fanbench._version import __version__

if TYPE_CHECKING:
    from fanbench._config import Anonymous, Basic, Bearer, Config, Credentials, resolve_config
    from fanbench._errors import (
        ApiError,
        BadAnswer,
        BadRequest,
        Conflict,
        ConnectionFailed,
        CredentialsError,
        FanbenchError,
        Forbidden,
        LocalServerError,
        NotFound,
        OutputError,
        RateLimited,
        RunFailed,
        ServerFault,
        TaskFileError,
        Unauthorized,
        UsageError,
        WaitTimeout,
    )
    from fanbench.api.client import Client

__all__ = [
    "Anonymous",
    "ApiError",
    "BadAnswer",
    "BadRequest",
    "Basic",
    "Bearer",
    "Client",
    "Config",
    "Conflict",
    "ConnectionFailed",
    "Credentials",
    "CredentialsError",
    "FanbenchError",
    "Forbidden",
    "LocalServerError",
    "NotFound",
    "OutputError",
    "RateLimited",
    "RunFailed",
    "ServerFault",
    "TaskFileError",
    "Unauthorized",
    "UsageError",
    "WaitTimeout",
    "__version__",
    "resolve_config",
]

_HOMES = dict.fromkeys(
    ("Anonymous", "Basic", "Bearer", "Config", "Credentials", "resolve_config"), "fanbench._config"
)
_HOMES["Client"] = "fanbench.api.client"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "fanbench._errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
