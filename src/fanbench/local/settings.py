"""The options of `fanbench serve`, resolved once and passed on."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fanbench.errors import FanbenchError, LocalServerError
from fanbench.faults.files import FaultPlan
from fanbench.local.executor import Isolation

DEFAULT_PORT = 7777
"""The port of the TEST endpoint in the vendor's SDK."""

RUNS_ON_CLUSTER = 10_000
"""The most runs on a cluster unless `workers` is given: enough that its machines need not wait for runs."""

_DATASET = re.compile(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)")


def default_data_folder() -> Path:
    """Below the platform's data directory; `FANBENCH_DATA` overrides it."""
    if override := os.environ.get("FANBENCH_DATA"):
        return Path(override).expanduser()
    return _platform_folder()


def data_flag(folder: Path) -> str:
    """` --data DIR` for commands that are to use this folder; empty if they do so anyway, in whichever terminal."""
    folder = normalized(folder)
    return "" if folder == _platform_folder() else f" --data {shlex.quote(str(folder))}"


def normalized(folder: Path) -> Path:
    """The absolute path without `..`, which leads elsewhere than its text says if a symbolic link is before it."""
    folder = folder.absolute()
    return folder.resolve() if ".." in folder.parts else folder


def _platform_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/fanbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "fanbench"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "fanbench"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    data: Path = field(default_factory=default_data_folder)
    database: str = field(default="", repr=False)
    """The URL of the PostgreSQL database with the state; if empty, it is in SQLite in the data folder."""
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which clients may call the server, besides those of `host` and `advertise`, addresses and
    `localhost`."""
    advertise: str = ""
    """`URL` or `HOST[:PORT]`, at which runs and clients elsewhere reach this server; empty for where it listens."""
    port: int = DEFAULT_PORT
    any_port: bool = False
    """Use another port if that one is in use."""
    proxy_workers: int = 0
    """The number of processes that answer as the Model Proxy; 0 if the server does so itself."""
    proxy_port: int | None = None
    """Their port; None for the one after `port`, and 0 for any free one."""
    engine: str = "local"
    """What carries out runs: `local`, `ray` for a Ray of the server's own, or `ray://HOST:PORT` for a cluster."""
    workers: int | None = None
    """The most notebooks that run at the same time; None for the engine's default. On a cluster, those that wait in its
    queue count as well."""
    isolation: Isolation = "fork"
    run_timeout: float = 3600.0
    """Seconds after which a run is stopped."""
    run_memory_mb: int = 4096
    """The most memory that a process of a run may allocate, and that all its processes may take."""
    run_disk_mb: int = 20_480
    """The most room for the files of a run; as much as on Kaggle."""
    log_limit_mb: int = 256
    """The most text to keep of one run's log, in MB."""
    model_idle: float = 600.0
    """Seconds without a request after which an embedded model is unloaded."""
    model_aliases: tuple[tuple[str, str], ...] = ()
    """Further aliases of models, each with the model's name. They take precedence over those in `models.toml`."""
    judge: str = ""
    """The model behind `judge_llm` in runs that do not name one; if empty, the one of `models.toml`."""
    record: Path | None = None
    """A folder into which the answers of models are written."""
    replay: Path | None = None
    """A folder with such answers, which are given instead of asking the models. Not together with `record`."""
    stop_timeout: float = 5.0
    """Seconds for which runs in progress may continue when the server is stopped."""
    idle_timeout: float | None = None
    """Seconds without a request or a run after which the server ends; None for never."""
    datasets: Path | None = None
    """A folder with `owner/slug/` folders that tasks may attach as datasets; None for `datasets` in the data folder."""
    files: str = ""
    """The URL of the place for outputs, such as `s3://bucket/prefix`; if empty, they stay in the data folder."""
    run_environment: tuple[str, ...] = ()
    """Names of further environment variables that runs may see."""
    requirements: tuple[str, ...] = ()
    """Lines of a requirements file: packages that all runs find in addition to the server's own."""
    requirements_file: Path | None = None
    """Where `requirements` were read, for messages."""
    faults: FaultPlan | None = None
    """Answers that fail on purpose. The next server has none, unless it is given some."""
    proxy_quota_usd: float = 50.0
    """The daily allowance that the Model Proxy's quota call reports; the monthly one is thirty times that."""
    daily_runs: int = 10_000
    """The daily allowance of runs that the task quota call reports."""

    @property
    def cluster(self) -> str:
        """HOST:PORT of the Ray cluster; empty if runs are carried out on this machine."""
        return self.engine.removeprefix("ray://") if self.engine.startswith("ray://") else ""

    @property
    def runs_at_once(self) -> int:
        """The most runs that the engine has at the same time."""
        return self.workers or (RUNS_ON_CLUSTER if self.cluster else os.cpu_count() or 1)

    @property
    def dataset_folder(self) -> Path:
        return self.datasets or self.data / "datasets"

    def find_dataset(self, reference: str) -> Path | None:
        """The folder of the dataset `owner/slug`, or None if it does not exist or the name is invalid."""
        return find_dataset(self.dataset_folder, reference)


def find_datasets(
    root: Path, references: Iterable[str], *, hint: str, kind: type[FanbenchError] = LocalServerError
) -> dict[str, Path]:
    """The folders of the datasets of a run, by their `owner/slug`, below `root`.

    Raises an error of this kind if some do not exist: a task might run without them, and record a wrong result.
    """
    found = {reference: find_dataset(root, reference) for reference in references}
    if missing := [reference for reference, folder in found.items() if folder is None]:
        raise kind(f"There is no dataset {', '.join(missing)} below {root.absolute()}.", hint=hint)
    return {reference: folder.resolve() for reference, folder in found.items() if folder is not None}


def find_dataset(root: Path, reference: str) -> Path | None:
    """The folder of the dataset `owner/slug` below `root`, or None if it does not exist or the name is invalid."""
    match = _DATASET.fullmatch(reference)
    if match is None:
        return None
    folder = root / match[1] / match[2]
    return folder if folder.is_dir() else None
