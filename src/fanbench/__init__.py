"""Kaggle Benchmarks for people who run many: the same verbs, all of them at once.

The public face. Names are loaded when they are first used, so that `import fanbench` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fanbench._version import __version__

if TYPE_CHECKING:
    from fanbench._client import Client, local_server
    from fanbench._config import (
        Anonymous,
        Basic,
        Bearer,
        Config,
        Credentials,
        resolve_config,
    )
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
    from fanbench.api.messages import (
        BenchmarkModel,
        CreationState,
        LogEntry,
        Run,
        RunState,
        Task,
    )
    from fanbench.local.launcher import LocalServer, ensure_server
    from fanbench.results import ResultSet, RunResult, read_results
    from fanbench.verbs import (
        DownloadReport,
        DownloadRow,
        Pushed,
        RunReport,
        StillRunning,
        TaskStatus,
    )

__all__ = [
    "Anonymous",
    "ApiError",
    "BadAnswer",
    "BadRequest",
    "Basic",
    "Bearer",
    "BenchmarkModel",
    "Client",
    "Config",
    "Conflict",
    "ConnectionFailed",
    "CreationState",
    "Credentials",
    "CredentialsError",
    "DownloadReport",
    "DownloadRow",
    "FanbenchError",
    "Forbidden",
    "LocalServer",
    "LocalServerError",
    "LogEntry",
    "NotFound",
    "OutputError",
    "Pushed",
    "RateLimited",
    "ResultSet",
    "Run",
    "RunFailed",
    "RunReport",
    "RunResult",
    "RunState",
    "ServerFault",
    "StillRunning",
    "Task",
    "TaskFileError",
    "TaskStatus",
    "Unauthorized",
    "UsageError",
    "WaitTimeout",
    "__version__",
    "ensure_server",
    "local_server",
    "read_results",
    "resolve_config",
]

# Where the names that are no errors come from.
_HOMES = {
    "fanbench._client": ("Client", "local_server"),
    "fanbench._config": ("Anonymous", "Basic", "Bearer", "Config", "Credentials", "resolve_config"),
    "fanbench.api.messages": ("BenchmarkModel", "CreationState", "LogEntry", "Run", "RunState", "Task"),
    "fanbench.local.launcher": ("LocalServer", "ensure_server"),
    "fanbench.results": ("ResultSet", "RunResult", "read_results"),
    "fanbench.verbs": ("DownloadReport", "DownloadRow", "Pushed", "RunReport", "StillRunning", "TaskStatus"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF.get(name, "fanbench._errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
