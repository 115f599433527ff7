"""The options of `fanbench serve`, resolved once and passed on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fanbench.local.executor.job import Isolation

DEFAULT_PORT = 7777
"""The port of the TEST endpoint in the vendor's SDK."""


def default_data_folder() -> Path:
    """Below the platform's data directory; `FANBENCH_DATA` overrides it."""
    if override := os.environ.get("FANBENCH_DATA"):
        return Path(override).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/fanbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "fanbench"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "fanbench"


@dataclass(frozen=True, kw_only=True)
class Settings:
    data: Path = field(default_factory=default_data_folder)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    any_port: bool = False
    """Take another port where that one is in use."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """How many notebooks run at the same time."""
    isolation: Isolation = "fork"
    run_timeout: float = 3600.0
    """Seconds after which a run is stopped."""
    run_memory_mb: int = 4096
    """Memory that a run may take for itself."""
    log_limit_mb: int = 256
    """Text of one run's log that is kept."""
    model_idle: float = 600.0
    """Seconds without a request after which an embedded model is unloaded."""
    idle_timeout: float | None = None
    """Seconds without a request or a run after which the server ends itself; `None`: never."""
    datasets: Path | None = None
    """Holds `owner/slug/` folders that tasks may attach."""
    run_environment: tuple[str, ...] = ()
    """Names of variables that runs may see beside the usual ones."""
    proxy_quota_usd: float = 50.0
    """What the Model Proxy's quota call says is allowed a day; a month has thirty of it."""
    daily_runs: int = 10_000
    """What the task quota call says is allowed a day."""
