"""Kaggle Benchmarks for people who run many: the same verbs, all of them at once.

The public face. Names are loaded when they are first used, so that `import fanbench` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fanbench._version import __version__

if TYPE_CHECKING:
    from fanbench.client import Client, local_server
    from fanbench.config import (
        Anonymous,
        Basic,
        Bearer,
        Config,
        Credentials,
        resolve_config,
    )
    from fanbench.errors import (
        ApiError,
        BadAnswer,
        BadRequest,
        BudgetReached,
        Conflict,
        ConnectionFailed,
        CredentialsError,
        FanbenchError,
        Forbidden,
        JournalError,
        LocalServerError,
        NotFound,
        OutputError,
        RateLimited,
        RunFailed,
        ServerFault,
        SweepError,
        SweepLocked,
        TaskFileError,
        Unauthorized,
        UsageError,
        WaitTimeout,
    )
    from fanbench.local.launcher import LocalServer, ensure_server
    from fanbench.operations import (
        DownloadReport,
        DownloadRow,
        Pushed,
        RunReport,
        StillRunning,
        TaskStatus,
    )
    from fanbench.results import ResultSet, RunResult, read_results
    from fanbench.sweeps.events import SweepEvent
    from fanbench.sweeps.plan import SweepPlan
    from fanbench.sweeps.report import RunRow, RunStatus, SweepReport
    from fanbench.sweeps.run_sweep import plan_sweep, sweep
    from fanbench.sweeps.sweep import Sweep
    from fanbench.wire.messages import (
        BenchmarkModel,
        CreationState,
        LogEntry,
        Run,
        RunState,
        Task,
    )

__all__ = [
    "Anonymous",
    "ApiError",
    "BadAnswer",
    "BadRequest",
    "Basic",
    "Bearer",
    "BenchmarkModel",
    "BudgetReached",
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
    "JournalError",
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
    "RunRow",
    "RunState",
    "RunStatus",
    "ServerFault",
    "StillRunning",
    "Sweep",
    "SweepError",
    "SweepEvent",
    "SweepLocked",
    "SweepPlan",
    "SweepReport",
    "Task",
    "TaskFileError",
    "TaskStatus",
    "Unauthorized",
    "UsageError",
    "WaitTimeout",
    "__version__",
    "ensure_server",
    "local_server",
    "plan_sweep",
    "read_results",
    "resolve_config",
    "sweep",
]

# Where the names that are no errors come from.
_HOMES = {
    "fanbench.client": ("Client", "local_server"),
    "fanbench.config": ("Anonymous", "Basic", "Bearer", "Config", "Credentials", "resolve_config"),
    "fanbench.wire.messages": ("BenchmarkModel", "CreationState", "LogEntry", "Run", "RunState", "Task"),
    "fanbench.local.launcher": ("LocalServer", "ensure_server"),
    "fanbench.results": ("ResultSet", "RunResult", "read_results"),
    "fanbench.sweeps.events": ("SweepEvent",),
    "fanbench.sweeps.plan": ("SweepPlan",),
    "fanbench.sweeps.report": ("RunRow", "RunStatus", "SweepReport"),
    "fanbench.sweeps.run_sweep": ("plan_sweep", "sweep"),
    "fanbench.sweeps.sweep": ("Sweep",),
    "fanbench.operations": (
        "DownloadReport",
        "DownloadRow",
        "Pushed",
        "RunReport",
        "StillRunning",
        "TaskStatus",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF.get(name, "fanbench.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
