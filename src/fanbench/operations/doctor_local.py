"""What `doctor` looks at for the local server: packages, models, folder, mounts, port.

What may take long or crash is tried in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from fanbench.errors import FanbenchError
from fanbench.operations.doctor import Check

if TYPE_CHECKING:
    from fanbench.local.launcher import LocalServer

__all__ = ["extra", "folder", "llama", "models", "mounts", "port", "running_server", "sdk"]

_INSTALL = "pip install 'fanbench[local]'"
_PACKAGES = ("starlette", "uvicorn", "sqlalchemy", "aiosqlite", "IPython", "tomlkit", "kaggle_benchmarks")
_TRY_SECONDS = 60.0
# Below this a local server soon cannot keep its runs and models, in bytes.
_LITTLE_ROOM = 2 << 30


# --- Packages -----------------------------------------------------------------------------------------------


def extra(wanted: bool) -> list[Check]:
    """The packages of the extra; a failure only where the local server is what the user wants."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return [Check("local-extra", "ok", "the packages of the local server are installed")]
    text = f"the local server lacks {', '.join(missing)}"
    return [Check("local-extra", "fail" if wanted else "warn", text, _INSTALL)]


async def sdk() -> list[Check]:
    """The SDK's import, and the version of hishel with which it does not work."""
    version = _version("kaggle-benchmarks")
    if version is None:
        return [
            Check("sdk", "warn", "kaggle-benchmarks is not installed: task files cannot run here", _INSTALL)
        ]
    hishel = _version("hishel")
    if hishel is not None and hishel.split(".")[0] not in ("0", "1"):
        text = f"kaggle-benchmarks {version} cannot be imported with hishel {hishel}"
        return [Check("sdk", "fail", text, "pip install 'hishel[httpx]>1.1.8,<2'")]
    trouble = await _trouble_of("import kaggle_benchmarks")
    if trouble is not None:
        return [Check("sdk", "fail", f"kaggle-benchmarks {version} cannot be imported: {trouble}", _INSTALL)]
    return [Check("sdk", "ok", f"kaggle-benchmarks {version} can be imported (hishel {hishel or 'none'})")]


async def llama() -> list[Check]:
    version = _version("xllamacpp")
    if version is None:
        return [Check("xllamacpp", "warn", "xllamacpp is not installed: no embedded models", _INSTALL)]
    trouble = await _trouble_of("import xllamacpp")
    if trouble is not None:
        fix = "pip install --force-reinstall --no-deps xllamacpp"
        return [Check("xllamacpp", "fail", f"xllamacpp {version} cannot be imported: {trouble}", fix)]
    return [Check("xllamacpp", "ok", f"xllamacpp {version} can be imported")]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


async def _trouble_of(code: str) -> str | None:
    """Why `code` does not run in a Python of its own, in an empty folder; `None` if it does."""
    with tempfile.TemporaryDirectory() as empty, anyio.move_on_after(_TRY_SECONDS):
        done = await anyio.run_process(
            [sys.executable, "-c", code], check=False, cwd=empty, stdout=subprocess.DEVNULL
        )
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if done.returncode == 0:
            return None
        return words[-1] if words else f"it ended with {done.returncode}"
    return f"it takes more than {_TRY_SECONDS:g} s"


# --- The server's folder ------------------------------------------------------------------------------------


def running_server(data: Path | None) -> LocalServer | None:
    from fanbench.local.launcher import find_server

    return find_server(data)


def models(data: Path | None) -> list[Check]:
    from fanbench.local.folder import DataFolder
    from fanbench.local.models.catalog import read_catalog

    try:
        catalog = read_catalog(DataFolder(_root(data)).models_file)
    except FanbenchError as error:
        return [Check("local-models", "fail", str(error), error.hint)]
    if not catalog.model:
        text = "the local server has no models yet"
        return [Check("local-models", "warn", text, "fanbench models add smollm2 gemma3")]
    gone = [spec.slug for spec in catalog.model if _is_gone(getattr(spec, "path", ""))]
    if gone:
        text = f"the files of these models are gone: {', '.join(gone)}"
        return [Check("local-models", "fail", text, f"fanbench models remove {gone[0]}, or add it again")]
    return [
        Check(
            "local-models", "ok", f"{len(catalog.model)} model(s): {_some([m.slug for m in catalog.model])}"
        )
    ]


def _is_gone(path: str) -> bool:
    return bool(path) and not Path(path).is_file()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _root(data: Path | None) -> Path:
    from fanbench.local.settings import default_data_folder

    return (data or default_data_folder()).absolute()


def folder(data: Path | None) -> list[Check]:
    """Whether the data folder, or the place where it would be made, can be written, and has room."""
    root = _root(data)
    there = next(place for place in (root, *root.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        text = f"the local server's data folder {root} cannot be written"
        return [Check("data-folder", "fail", text, "name another with --data DIR or FANBENCH_DATA")]
    free = shutil.disk_usage(there).free
    room = f"{root}, {free / (1 << 30):.1f} GB free"
    if free < _LITTLE_ROOM:
        return [Check("data-folder", "warn", f"little room in {room}", "name another with --data DIR")]
    return [Check("data-folder", "ok", room)]


# --- The system ---------------------------------------------------------------------------------------------

# In the folder that it is started in: what is mounted ends with the process, and can be deleted then.
_MOUNT = """
import sys
from pathlib import Path
from fanbench.local.executor.mounts import attach
data, working = Path("data").absolute(), Path("working").absolute()
data.mkdir()
working.mkdir()
sys.exit(attach({"probe": str(data)}, working) != Path("/kaggle/working"))
"""


async def mounts() -> list[Check]:
    """A run with datasets gets a /kaggle/input of its own, where the system allows it."""
    if sys.platform != "linux":
        return [Check("mounts", "warn", "/kaggle/input is for Linux only", "read ../input/DATASET in tasks")]
    trouble = await _trouble_of(_MOUNT)
    if trouble is not None:
        reason = trouble.removeprefix("[fanbench] ").partition(";")[0]
        return [Check("mounts", "warn", f"local runs: {reason}", "read ../input/DATASET in tasks")]
    return [Check("mounts", "ok", "local runs find their datasets in /kaggle/input")]


def port(data: Path | None) -> list[Check]:
    """The server's usual port."""
    from fanbench.local.settings import DEFAULT_PORT

    server = running_server(data)
    if server is not None:
        return [Check("port", "ok", f"the local server listens on {server.url} (process {server.pid})")]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError as error:
            text = f"port {DEFAULT_PORT} is not free ({error.strerror}); --local takes another one"
            return [Check("port", "warn", text, "fanbench serve --any-port")]
    return [Check("port", "ok", f"port {DEFAULT_PORT} is free")]
