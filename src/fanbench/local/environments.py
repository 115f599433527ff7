"""Installs packages that runs need beyond those of the server's environment, once, into a folder of their own.

    DATA/environments/KEY/requirements.txt      what was asked for
    DATA/environments/KEY/packages/             modules and, in bin/, commands

Runs find the folder through `PYTHONPATH` and `PATH`. It has only what the server lacks: the SDK with its dependencies
is not installed again, and keeps its versions, which are constraints. That is why a fork of a process that has already
imported the SDK can use the folder, too.

KEY is a hash of all that decides the content: the requirements, Python, and the server's packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fanbench._util.files import async_temporary_folder, output_errors, write
from fanbench._util.text import many
from fanbench.errors import LocalServerError
from fanbench.local.executor.environment import installer_environment
from fanbench.local.server_packages import PARSING, ServerPackages, read_server_packages

__all__ = ["Environments", "Installer", "find_installer", "own_pip"]

TIME_LIMIT = 900.0
"""Seconds that an installation may take."""

_BUILDING = ".building-"
_SHOWN_LINES = 8
# A line of uv's dry run: " + red-fox==1.0", for a file or an address with " (from URL)".
_PLANNED = re.compile(r"^ \+ (?P<name>[^\s=]+)==(?P<version>\S+)(?: \(from (?P<url>.*)\))?$", re.MULTILINE)
_NOISE = re.compile(r"Using (?:C?Python|PyPy) |Looking in |\[notice\]|\s*$")


class Environments:
    """The folders of packages below `root`, by what was asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()  # runs are in another folder
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def prepare(self, requirements: Sequence[str], note: Callable[[str], None]) -> Path | None:
        """Return the folder with the packages that `requirements` ask for, None if they ask for nothing.

        The requirements are lines of a requirements file. The first caller installs the packages, and those who ask
        for the same wait for it. `note` receives lines about the progress.

        Raises:
            LocalServerError: The packages cannot be installed, or not in time.
        """
        if all(line.startswith("-") for line in requirements):
            return None  # options alone, such as the address of an index, install nothing
        lines = sorted({*requirements})
        packages = await anyio.to_thread.run_sync(_compatible_packages, lines)
        target = self.root / await anyio.to_thread.run_sync(_key, lines, packages)
        lock = self._locks[target.name]
        if lock.locked():
            note("Another run installs the packages of this one.")
        async with lock:
            if not await anyio.Path(target).is_dir():
                with output_errors(f"install packages in {self.root}", kind=LocalServerError):
                    await self._build(target, lines, packages, note)
        return target / "packages"

    async def constraints(self) -> Path:
        """A constraints file with which runs may install packages themselves and not break the SDK."""
        return await anyio.to_thread.run_sync(self._write_constraints)

    def _write_constraints(self) -> Path:
        text = "".join(f"{line}\n" for line in _pins(read_server_packages()))
        path = self.root / f"constraints-{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
        if not path.exists():
            with output_errors(f"write to {self.root}", kind=LocalServerError):
                self.root.mkdir(parents=True, exist_ok=True)
                write(path, text, durable=False)
        return path

    async def _build(
        self, target: Path, lines: Sequence[str], packages: ServerPackages, note: Callable[[str], None]
    ) -> None:
        installer = await anyio.to_thread.run_sync(find_installer)
        if installer is None:
            hint = "Install uv: https://docs.astral.sh/uv."
            raise LocalServerError("Packages cannot be installed: there is neither uv nor pip.", hint=hint)
        begun = anyio.current_time()
        names = ", ".join(_without_credentials(line) for line in lines if not line.startswith("-"))
        note(f"Installing packages with {installer.name}: {names}")
        await anyio.Path(self.root).mkdir(parents=True, exist_ok=True)
        async with async_temporary_folder(_BUILDING, self.root) as folder:
            try:
                with anyio.fail_after(TIME_LIMIT):
                    added = await _install(installer, lines, packages, folder)
            except TimeoutError:
                text = f"The packages were not installed within {TIME_LIMIT:g} s by {installer.name}."
                raise LocalServerError(text, hint="Check the connection to the package index.") from None
            # The last step: what has its final name is complete.
            await anyio.to_thread.run_sync(_rename, folder / "built", target)
        took = f"{anyio.current_time() - begun:.1f} s"
        installed = f"Installed {many(len(added), 'package')} in {took}: {', '.join(added)}"
        note(installed if added else f"All of them are here ({took}).")


def _compatible_packages(requirements: Sequence[str]) -> ServerPackages:
    """The packages that runs have anyway.

    Raises:
        LocalServerError: They contradict a requirement. The message is clearer than that of an installer would be.
    """
    packages = read_server_packages()
    for line in requirements:
        try:
            with PARSING:
                wanted = Requirement(line)
        except InvalidRequirement:
            continue  # an option or a path; or the installer reports it
        version = packages.fixed.get(canonicalize_name(wanted.name))
        applies = wanted.marker is None or wanted.marker.evaluate()
        if version and applies and not wanted.specifier.contains(version, prereleases=True):
            raise LocalServerError(
                f"The run needs {line}, but the SDK uses {wanted.name} {version} here.",
                hint=f"Change the requirement, or install fanbench together with '{line}' in a new environment.",
            )
    return packages


def _pins(packages: ServerPackages) -> list[str]:
    return sorted(f"{name}=={version}" for name, version in packages.fixed.items())


def _key(lines: Sequence[str], packages: ServerPackages) -> str:
    python = [sys.implementation.cache_tag, sysconfig.get_platform()]
    # A wheel that is named by its path may be built again.
    changed = [os.stat(line).st_mtime_ns for line in lines if os.path.exists(line)]
    content = json.dumps([lines, changed, python, sorted(packages.installed.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _rename(built: Path, target: Path) -> None:
    try:
        built.rename(target)
    except OSError:
        if not target.is_dir():  # another process was faster
            raise


# --- uv and pip ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installer:
    """`command` is the beginning of `uv pip install …` or `python -m pip install …`."""

    name: Literal["uv", "pip"]
    command: tuple[str, ...]


def find_installer() -> Installer | None:
    """uv if it is beside this Python or in PATH, otherwise the pip of this environment or the one in Python itself."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if uv := shutil.which("uv", path=places):
        options = ("--python", sys.executable, "--color", "never", "--no-progress")
        return Installer("uv", (uv, "pip", "install", *options))
    return own_pip() or _bundled_pip()


def own_pip() -> Installer | None:
    """The pip of this environment, if it has one."""
    return _pip("-P", "-m", "pip") if importlib.util.find_spec("pip") is not None else None


def _bundled_pip() -> Installer | None:
    """The pip that Python brings along for new environments, which can be used without being installed."""
    if importlib.util.find_spec("ensurepip") is None:
        return None
    import ensurepip

    wheels = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    return _pip(str(wheels[-1] / "pip")) if wheels else None


def _pip(*start: str) -> Installer:
    options = ("--no-input", "--progress-bar", "off", "--disable-pip-version-check")
    return Installer("pip", (sys.executable, *start, "install", *options))


async def _install(
    installer: Installer, lines: Sequence[str], packages: ServerPackages, folder: Path
) -> list[str]:
    """Install what is missing into `folder/built/packages`. Return the names and versions.

    First the installer says what it would add to the server's environment. Exactly that goes into the folder.
    """
    built = folder / "built"
    await anyio.Path(built / "packages").mkdir(parents=True)
    await _write(built / "requirements.txt", lines)
    await _write(folder / "constraints.txt", _pins(packages))
    asked = ["-r", str(built / "requirements.txt"), "-c", str(folder / "constraints.txt")]
    plan = await (_plan_with_uv if installer.name == "uv" else _plan_with_pip)(installer, asked, folder)
    if plan:
        options = [line for line in lines if line.startswith("-")]
        await _write(folder / "plan.txt", [*options, *plan.values()])
        target = ["--no-deps", "--target", str(built / "packages"), "-r", str(folder / "plan.txt")]
        await _run(installer, target, folder)
    return sorted(plan)


async def _plan_with_uv(installer: Installer, asked: Sequence[str], folder: Path) -> dict[str, str]:
    """What to install: a requirement for each name and version."""
    # A dry run changes nothing, but uv refuses it for the Python of a Linux distribution without the second option.
    output = await _run(installer, ["--dry-run", "--break-system-packages", *asked], folder)
    return {
        f"{found['name']} {found['version']}": f"{found['name']} @ {found['url']}"
        if found["url"]
        else f"{found['name']}=={found['version']}"
        for found in _PLANNED.finditer(output)
    }


async def _plan_with_pip(installer: Installer, asked: Sequence[str], folder: Path) -> dict[str, str]:
    """What to install: a requirement for each name and version."""
    report = folder / "report.json"
    await _run(installer, ["--dry-run", "--report", str(report), *asked], folder)
    plan = {}
    for item in json.loads(await anyio.Path(report).read_bytes())["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        direct = f"{name} @ {item['download_info']['url']}" if item["is_direct"] else ""
        plan[f"{name} {version}"] = direct or f"{name}=={version}"
    return plan


async def _run(installer: Installer, options: Sequence[str], folder: Path) -> str:
    """Run the installer and return its output. If this is cancelled, it is killed, with all that it has started.

    It also dies with this process, so that it does not write to a folder that others delete.

    Raises:
        LocalServerError: It failed; the message has its last lines.
    """
    # Shielded: if this were cancelled after the process has begun, its children would be left.
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            [sys.executable, "-P", "-m", "fanbench.local.executor.lifetime", *installer.command, *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=installer_environment(),
            start_new_session=True,
        )
    async with process:
        try:
            assert process.stdout is not None
            output = b"".join([chunk async for chunk in process.stdout]).decode("utf-8", "replace")
            code = await process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if code != 0:
        said = [line for line in _without_credentials(output).splitlines() if not _NOISE.match(line)]
        raise LocalServerError(
            "\n".join([f"{installer.name} cannot install the packages of the run:", *said[-_SHOWN_LINES:]]),
            hint="Correct the requirements. The packages that the SDK uses keep their versions.",
        )
    return output


def _without_credentials(text: str) -> str:
    """The text with each `https://USER:PASSWORD@HOST` as `https://HOST`."""
    return re.sub(r"(?<=://)[^/\s@]+@", "", text)


async def _write(path: Path, lines: Sequence[str]) -> None:
    await anyio.Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
