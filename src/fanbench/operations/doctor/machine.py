"""Probes this machine: Python, the env file and, for the local server, packages, models, folder, mounts and port.

What may take long or crash is tried in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._util.files import async_temporary_folder
from fanbench._util.install import install_command
from fanbench._util.text import last_line, many
from fanbench.errors import FanbenchError
from fanbench.local import settings
from fanbench.local.address import find_server
from fanbench.local.environments import find_installer
from fanbench.local.folder import DataFolder
from fanbench.operations.doctor.check import Check, DoctorTarget, failed_check, in_thread
from fanbench.version import __version__

__all__ = [
    "probe_data_folder",
    "probe_env_file",
    "probe_isolation",
    "probe_llama",
    "probe_models",
    "probe_mounts",
    "probe_packages",
    "probe_port",
    "probe_python",
    "probe_run_packages",
    "probe_sdk",
    "probe_sdk_env_file",
]

_PYTHONS = ((3, 11), (3, 13))
PACKAGES = (
    "aiosqlite",
    "alembic",
    "google-re2",
    "ipython",
    "kaggle-benchmarks",
    "sqlalchemy",
    "starlette",
    "tomlkit",
    "traitlets",
    "uvicorn",
)
"""Those of the extra `local` that the server needs, whichever its models."""

_TRY_SECONDS = 60.0
# With less than this, in bytes, a local server soon has no room for its runs and models.
_LITTLE_ROOM = 2 << 30


@in_thread
def probe_python(_target: DoctorTarget) -> list[Check]:
    text = f"Python {'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})"
    python = Check("python", "ok", text)
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        python = Check("python", "warn", f"{text} is not tested", "use Python 3.11, 3.12 or 3.13")
    return [python, Check("fanbench", "ok", f"fanbench {__version__}")]


@in_thread
def probe_env_file(target: DoctorTarget) -> list[Check]:
    from fanbench.operations.env_file import exposure, read_env_file
    from fanbench.operations.environment import expiry_phrase

    path = target.env_file
    if not path.exists():
        return [Check("env-file", "warn", f"no {path}: task files cannot run here yet", "fanbench init")]
    try:
        values = read_env_file(path)
    except FanbenchError as error:
        return [failed_check("env-file", error)]
    required = ("MODEL_PROXY_URL", "MODEL_PROXY_API_KEY", "LLM_DEFAULT")
    missing = [name for name in required if not values.get(name)]
    if missing:
        return [Check("env-file", "warn", f"{path} lacks {', '.join(missing)}", "fanbench init")]
    timestamp = values.get("MODEL_PROXY_EXPIRY_TIME", "")
    when = expiry_phrase(timestamp) if timestamp else ""
    if when == "expired":
        text = f"the Model Proxy credentials in {path} have expired"
        return [Check("env-file", "warn", text, "fanbench auth")]
    if exposed := exposure(path):
        return [Check("env-file", "warn", exposed.rstrip("."), f"chmod 600 {shlex.quote(str(path))}")]
    expiry = f", which expire {when}" if when else ""
    return [Check("env-file", "ok", f"{path} has Model Proxy credentials{expiry}")]


@in_thread
def probe_sdk_env_file(target: DoctorTarget) -> list[Check]:
    """Whether `python FILE` would get the values of the env file. The SDK looks for a `.env` above its own folder."""
    path = target.env_file.absolute()
    sdk = importlib.util.find_spec("kaggle_benchmarks")
    if sdk is None or sdk.origin is None or not path.is_file():
        return []
    found = env_file_of_sdk(Path(sdk.origin))
    if found is not None and found.samefile(path):
        return [Check("sdk-env-file", "ok", f"`python FILE` reads {target.env_file}")]
    if found is not None:
        text = f"`python FILE` reads {found} instead of {target.env_file}"
    else:
        text = f"`python FILE` does not read {target.env_file}: the SDK looks for .env above {sdk.origin}"
    option = "" if target.env_file == Path(".env") else f" -f {shlex.quote(str(target.env_file))}"
    fix = f"fanbench check --run FILE, or dotenv{option} run -- python FILE"
    return [Check("sdk-env-file", "warn", text, fix)]


def env_file_of_sdk(origin: Path) -> Path | None:
    """The env file that the SDK whose module is `origin` loads, as `dotenv.find_dotenv()` finds it."""
    candidates = (folder / ".env" for folder in origin.absolute().parents)
    return next((path for path in candidates if path.is_file()), None)


# --- Packages -----------------------------------------------------------------------------------------------


@in_thread
def probe_packages(target: DoctorTarget) -> list[Check]:
    """The packages of the extra. Missing ones are a failure only if the local server is the target."""
    missing = [name for name in PACKAGES if installed_version(name) is None]
    if not missing:
        return [Check("local-extra", "ok", "the packages of the local server are installed")]
    text = f"the local server lacks {', '.join(missing)}"
    return [Check("local-extra", "fail" if target.local else "warn", text, install_command())]


async def probe_sdk(_target: DoctorTarget) -> list[Check]:
    """The import of the SDK, which fails with some versions of hishel."""
    version = installed_version("kaggle-benchmarks")
    if version is None:
        return [
            Check(
                "sdk",
                "warn",
                "kaggle-benchmarks is not installed: task files cannot run here",
                install_command(),
            )
        ]
    hishel = installed_version("hishel")
    if hishel is not None and hishel.split(".")[0] not in ("0", "1"):
        text = f"kaggle-benchmarks {version} cannot be imported with hishel {hishel}"
        return [Check("sdk", "fail", text, "pip install 'hishel[httpx]>1.1.8,<2'")]
    package = f"kaggle-benchmarks {version} (hishel {hishel or 'none'})"
    return [await _import_check("sdk", "kaggle_benchmarks", package, install_command())]


async def probe_llama(_target: DoctorTarget) -> list[Check]:
    version = installed_version("xllamacpp")
    if version is None:
        return [
            Check("xllamacpp", "warn", "xllamacpp is not installed: no embedded models", install_command())
        ]
    fix = "pip install --force-reinstall --no-deps xllamacpp"
    return [await _import_check("xllamacpp", "xllamacpp", f"xllamacpp {version}", fix)]


async def _import_check(name: str, module: str, package: str, fix: str) -> Check:
    """The check `name`: whether `module` of `package` can be imported."""
    try:
        failure = await failure_of(f"import {module}")
    except TimeoutError:
        return _too_slow(name, f"the import of {package}")
    if failure is not None:
        return Check(name, "fail", f"{package} cannot be imported: {failure}", fix)
    return Check(name, "ok", f"{package} can be imported")


def installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


async def failure_of(code: str) -> str | None:
    """Run `code` in a Python of its own, in an empty folder. Return why it failed, None if it did not.

    Raises:
        TimeoutError: It has not ended in time, which proves nothing: the first import after an installation compiles
            all modules.
    """
    async with async_temporary_folder(".fanbench-doctor-") as empty:
        with anyio.fail_after(_TRY_SECONDS):
            done = await anyio.run_process(
                [sys.executable, "-c", code], check=False, cwd=empty, stdout=subprocess.DEVNULL
            )
    if done.returncode == 0:
        return None
    return last_line(done.stderr.decode("utf-8", "replace"), f"it ended with {done.returncode}")


def _too_slow(name: str, step: str) -> Check:
    text = f"{step} takes more than {_TRY_SECONDS:g} s: this machine is slow or busy"
    return Check(name, "warn", text, "fanbench doctor, when it has less to do")


# --- The server's folder ------------------------------------------------------------------------------------


@in_thread
def probe_models(target: DoctorTarget) -> list[Check]:
    from fanbench.local.models.catalog import read_catalog

    folder = target.data or settings.default_data_folder()
    try:
        catalog = read_catalog(DataFolder(folder.absolute()).models_file)
    except FanbenchError as error:
        return [failed_check("local-models", error)]
    if not catalog.model:
        text = "the local server has no models yet"
        return [Check("local-models", "warn", text, "fanbench models add smollm2 gemma3")]
    paths = {spec.slug: getattr(spec, "path", "") for spec in catalog.model}
    gone = [slug for slug, path in paths.items() if path and not Path(path).is_file()]
    if gone:
        text = f"the files of these models are gone: {', '.join(gone)}"
        return [Check("local-models", "fail", text, f"fanbench models remove {gone[0]}, or add it again")]
    names = ", ".join(list(paths)[:3]) + (", …" if len(paths) > 3 else "")
    return [Check("local-models", "ok", f"{many(len(paths), 'model')}: {names}")]


@in_thread
def probe_data_folder(target: DoctorTarget) -> list[Check]:
    """Whether the data folder, or the place where it would be created, can be written and has room."""
    root = DataFolder((target.data or settings.default_data_folder()).absolute()).root
    there = next(place for place in (root, *root.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        text = f"the local server's data folder {root} cannot be written"
        return [Check("data-folder", "fail", text, "name another with --data DIR or FANBENCH_DATA")]
    free = shutil.disk_usage(there).free
    room = f"{root}, {free / (1 << 30):.1f} GB free"
    if free < _LITTLE_ROOM:
        return [Check("data-folder", "warn", f"little room in {room}", "name another with --data DIR")]
    return [Check("data-folder", "ok", room)]


@in_thread
def probe_run_packages(target: DoctorTarget) -> list[Check]:
    """What installs the packages that task files ask for, and the room that installed ones take."""
    root = DataFolder((target.data or settings.default_data_folder()).absolute()).environments
    installer = find_installer()
    if installer is None:
        text = "neither uv nor pip is here to install the packages that task files ask for"
        return [Check("run-packages", "warn", text, "install uv: https://docs.astral.sh/uv")]
    text = f"{installer.name} installs the packages that task files ask for"
    if found := [*root.glob("*/packages")]:
        size = 0
        for folder, _, names in os.walk(root):
            for name in names:
                with suppress(OSError):  # an installation may be in progress
                    size += os.lstat(Path(folder, name)).st_size
        text += f"; {many(len(found), 'set')} of {size / 1e6:.1f} MB may be deleted: {root}"
    return [Check("run-packages", "ok", text)]


# --- The system ---------------------------------------------------------------------------------------------


async def probe_mounts(_target: DoctorTarget) -> list[Check]:
    """Whether the system allows runs a /kaggle of their own."""
    probe = "import sys; from fanbench.local.executor.mounts import find_obstacle; sys.exit(find_obstacle())"
    try:
        failure = await failure_of(probe)
    except TimeoutError:
        return [_too_slow("mounts", "the test of mounts")]
    if failure is not None:
        text = f"local runs have no /kaggle/input, /kaggle/working and /kaggle/tmp: {failure}"
        fix = "allow unprivileged user namespaces, or use ../input/DATASET and the current folder in tasks"
        return [Check("mounts", "warn", text, fix)]
    return [Check("mounts", "ok", "local runs have /kaggle/input, /kaggle/working and /kaggle/tmp")]


async def probe_isolation(_target: DoctorTarget) -> list[Check]:
    """Whether runs of the local server are kept from other processes, and whether they can have containers."""
    probe = "import sys; from fanbench.local.executor.mounts import find_obstacle\n"
    probe += "sys.exit(find_obstacle(processes=True))"
    try:
        failure = await failure_of(probe)
    except TimeoutError:
        return [_too_slow("isolation", "the test of namespaces")]
    container = "--isolation container"
    if failure is not None:
        text = f"local runs can see and end other processes: {failure}"
        fix = f"allow unprivileged user namespaces, or install bubblewrap for `fanbench serve {container}`"
        return [Check("isolation", "warn", text, fix)]
    bubblewrap = await anyio.to_thread.run_sync(shutil.which, "bwrap")
    found = "is possible" if bubblewrap else "needs bubblewrap (apt install bubblewrap)"
    text = f"local runs see neither other processes nor the home folder; {container} {found}"
    return [Check("isolation", "ok", text)]


@in_thread
def probe_port(target: DoctorTarget) -> list[Check]:
    server = find_server(target.data)
    if server is not None:
        return [Check("port", "ok", f"the local server listens on {server.url} (process {server.pid})")]
    port = settings.DEFAULT_PORT
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            text = f"port {port} is not free ({error.strerror}); --local uses another one"
            return [Check("port", "warn", text, "fanbench serve --any-port")]
    return [Check("port", "ok", f"port {port} is free")]
