"""Folders with the packages of runs: what is installed, once, and what is left after failures."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from fanbench.errors import LocalServerError
from fanbench.local import environments
from fanbench.local.environments import Environments, find_installer
from fanbench.local.executor.environment import add_packages, installer_environment, run_environment
from fanbench.local.requirements import read_requirements

from .wheels import fake_uv, offline, write_wheel

pytestmark = pytest.mark.anyio


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages: red_fox needs blue_hen, and httpx, which this environment has."""
    (folder := tmp_path / "wheels").mkdir()
    write_wheel(folder, "red_fox", "1.0")
    write_wheel(folder, "red_fox", "2.0", requires=["blue-hen>=1", "httpx>=0.20"])
    write_wheel(folder, "blue_hen", "1.1")
    for name, value in offline(folder).items():
        monkeypatch.setenv(name, value)
    return folder


def only(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `tool` the installer that is found."""
    uv = shutil.which("uv")
    (path := tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    if tool == "uv":
        if uv is None:
            pytest.skip("uv is not installed")
        (path / "uv").symlink_to(uv)
    found = find_installer()
    if found is None or found.name != tool:
        pytest.skip(f"{tool} is not what this environment installs with")


@pytest.mark.parametrize("tool", ["uv", "pip"])
async def test_what_is_missing_is_installed_once(
    tool: str, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two callers, one installs what this environment lacks; a new Python imports it and finds its commands."""
    only(tool, tmp_path, monkeypatch)
    prepared, notes = Environments(tmp_path / "environments"), list[str]()
    found: list[Path | None] = []

    async def prepare(*requirements: str) -> None:
        found.append(await prepared.prepare(requirements, notes.append))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(prepare, "red-fox", "httpx")
        tasks.start_soon(prepare, "httpx", "red-fox", "red-fox")
    assert found[0] is not None
    assert found[0] == found[1]
    assert sorted(path.stem for path in found[0].glob("*.py")) == ["blue_hen", "red_fox"]
    assert not (found[0] / httpx.__name__).exists()
    assert sorted(note.split(":")[0].split(" in ")[0] for note in notes) == [
        "Another run installs the packages of this one.",
        "Installed 2 packages",
        f"Installing packages with {tool}",
    ]
    environment = add_packages({"PATH": os.environ["PATH"]}, found[0])
    code = "import red_fox, blue_hen, httpx; print(red_fox.VERSION, blue_hen.VERSION)"
    imported = await anyio.run_process([sys.executable, "-c", code], env=environment)
    assert imported.stdout == b"2.0 1.1\n"
    assert (await anyio.run_process(["red_fox-command"], env=environment)).stdout == b"red_fox 2.0\n"
    # A later server finds it, too.
    notes.clear()
    assert (
        await Environments(tmp_path / "environments").prepare(["httpx", "red-fox"], notes.append) == found[0]
    )
    assert notes == []
    assert [path.name for path in (tmp_path / "environments").glob(".*")] == []


async def test_nothing_is_installed_for_no_requirements(tmp_path: Path) -> None:
    """A run without requirements, or only with options for the installer, has no folder."""
    prepared = Environments(tmp_path / "environments")
    assert await prepared.prepare([], print) is None
    assert await prepared.prepare(["--find-links /wheels"], print) is None
    assert list(tmp_path.iterdir()) == []


async def test_what_the_installer_says_last_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the installer fails, the error has its last lines without its usual notices, and nothing is left."""
    fake_uv(
        tmp_path,
        monkeypatch,
        "echo Using Python 3; echo; seq 20; echo no such package in https://me:secret@host/simple >&2; exit 1",
    )
    with pytest.raises(LocalServerError) as caught:
        await Environments(tmp_path / "environments").prepare(["nosuch"], print)
    first, *said = str(caught.value).splitlines()
    assert first == "uv cannot install the packages of the run:"
    assert said == [*map(str, range(14, 21)), "no such package in https://host/simple"]
    assert list((tmp_path / "environments").iterdir()) == []


async def test_packages_of_the_sdk_are_not_replaced(tmp_path: Path) -> None:
    """A requirement that the SDK's own packages contradict is refused, with both versions and a command."""
    prepared = Environments(tmp_path / "environments")
    with pytest.raises(LocalServerError) as caught:
        await prepared.prepare(["httpx<0.1", "nosuch"], print)
    assert str(caught.value) == (f"The run needs httpx<0.1, but the SDK uses httpx {httpx.__version__} here.")
    assert "together with 'httpx<0.1'" in str(caught.value.hint)
    assert not (tmp_path / "environments").exists()


async def test_runs_cannot_replace_packages_of_the_sdk(wheels: Path, tmp_path: Path) -> None:
    """`pip` in a run refuses another version of what the SDK uses, wherever the data folder is."""
    write_wheel(wheels, "httpx", "0.1")
    environment = run_environment(
        {},
        expires="",
        constraints=await Environments(tmp_path / "with a space/environments").constraints(),
        outside=os.environ,
    )
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "httpx==0.1"]
    done = await anyio.run_process(command, env=environment, check=False)
    assert (done.returncode, b"httpx==0.1" in done.stderr) == (1, True), done


SLOW = "sleep 60 & echo $! > {pid}; wait"


async def test_an_installer_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the run that waits is cancelled, no process of the installer and no incomplete folder is left."""
    pid = tmp_path / "pid"
    fake_uv(tmp_path, monkeypatch, SLOW.format(pid=pid))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Environments(tmp_path / "environments").prepare, ["red-fox"], print)
        with anyio.fail_after(60):
            while not (pid.exists() and pid.read_text().strip()):
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    await assert_dead(int(pid.read_text()))
    assert list((tmp_path / "environments").iterdir()) == []


async def test_a_killed_installation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After kill -9 the installer ends, too, and the next installation deletes the incomplete folder."""
    root, pid = tmp_path / "environments", tmp_path / "pid"
    code = (
        "import anyio, sys; from pathlib import Path; from fanbench.local.environments import Environments; "
        "anyio.run(Environments(Path(sys.argv[1])).prepare, ['red-fox'], print)"
    )
    fake_uv(tmp_path, monkeypatch, f"echo $$ > {pid}; exec sleep 60")
    killed = await anyio.open_process([sys.executable, "-c", code, str(root)])
    with anyio.fail_after(30):
        while not (pid.exists() and pid.read_text().strip()):
            await anyio.sleep(0.01)
    killed.kill()
    await killed.aclose()
    await assert_dead(int(pid.read_text()))
    (left,) = root.iterdir()
    assert left.name.startswith(".building-")
    fake_uv(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(LocalServerError):
        await Environments(root).prepare(["blue-hen"], print)
    assert list(root.iterdir()) == []


async def test_an_installation_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installer that does not end is killed after the time limit, which the error names."""
    pid = tmp_path / "pid"
    fake_uv(tmp_path, monkeypatch, SLOW.format(pid=pid))
    monkeypatch.setattr(environments, "TIME_LIMIT", 0.5)
    with pytest.raises(LocalServerError, match=r"not installed within 0\.5 s by uv"):
        await Environments(tmp_path / "environments").prepare(["red-fox"], print)
    await assert_dead(int(pid.read_text()))


async def assert_dead(pid: int) -> None:
    with anyio.fail_after(60):
        while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
            await anyio.sleep(0.01)


async def test_the_plan_of_uv_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What uv's dry run would add, from an index or an address, is installed without dependencies, and with options."""
    log, constraints = tmp_path / "log", tmp_path / "constraints"
    script = f"""
for last; do :; done
case "$*" in
*--dry-run*)
    cat "$last" > {constraints}
    echo "Resolved 3 packages in 2ms"
    echo " + red-fox==2.0"
    echo " + blue-hen==1.1 (from file:///wheels/blue_hen-1.1-py3-none-any.whl)"
    echo " ~ other==1" ;;
*) echo "$*" > {log}; cat "$last" >> {log} ;;
esac"""
    fake_uv(tmp_path, monkeypatch, script)
    notes: list[str] = []
    monkeypatch.chdir(tmp_path)
    prepared = Environments(Path("environments"))
    lines = ["--find-links /wheels", "red-fox", "blue-hen @ file:///wheels/blue_hen-1.1-py3-none-any.whl"]
    found = await prepared.prepare(lines, notes.append)
    assert found is not None
    assert found.parent.parent == tmp_path / "environments", "runs are in another folder"
    assert f"httpx=={httpx.__version__}\n" in constraints.read_text(), "what the SDK uses keeps its version"
    command, *plan = log.read_text().splitlines()
    assert "--no-deps --target" in command
    assert plan == [
        "--find-links /wheels",
        "red-fox==2.0",
        "blue-hen @ file:///wheels/blue_hen-1.1-py3-none-any.whl",
    ]
    assert notes[-1].startswith("Installed 2 packages in ")
    # The order does not matter, the requirements do, and so does a file that is named by its path.
    assert await prepared.prepare(lines[::-1], notes.append) == found
    assert await prepared.prepare(lines[:2], notes.append) != found
    wheel = write_wheel(tmp_path, "red_fox", "2.0")
    by_path = await prepared.prepare([str(wheel)], notes.append)
    assert await prepared.prepare([str(wheel)], notes.append) == by_path
    os.utime(wheel, (0, 0))
    assert await prepared.prepare([str(wheel)], notes.append) != by_path


async def test_packages_that_are_here_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server has all packages, the folder is empty, and the installer is not asked a second time."""
    fake_uv(
        tmp_path, monkeypatch, 'case "$*" in *--dry-run*) echo Would make no changes ;; *) exit 1 ;; esac'
    )
    notes: list[str] = []
    found = await Environments(tmp_path / "environments").prepare(["httpx"], notes.append)
    assert found is not None
    assert list(found.iterdir()) == []
    assert notes[-1].startswith("All of them are here (")


async def test_without_an_installer_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is neither uv nor pip, the error names both."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(LocalServerError, match="neither uv nor pip"):
        await Environments(tmp_path / "environments").prepare(["red-fox"], print)


def test_installers_see_no_secrets() -> None:
    """An installer, which may execute code of packages, sees its own variables and not the server's keys."""
    outside = {
        "PATH": "/bin",
        "UV_INDEX_URL": "u",
        "PIP_INDEX_URL": "u",
        "PIP_NO_INDEX": "1",
        "SOME_API_KEY": "s",
        "KAGGLE_API_TOKEN": "t",
    }
    assert set(installer_environment(outside)) == {"PATH", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_NO_INDEX"}


@pytest.mark.parametrize("line", ["this is not one", "{", "%PDF-1.7", "\x00\xff"])
def test_another_file_is_refused(tmp_path: Path, line: str) -> None:
    """A line that cannot be a requirement is named when the server starts, before any run."""
    (file := tmp_path / "needed.txt").write_bytes(f"red-fox\n{line}\n".encode("latin-1"))
    with pytest.raises(LocalServerError, match="a line that is no requirement"):
        read_requirements(file)


def test_a_requirements_file_is_read(tmp_path: Path) -> None:
    """Comments and line breaks go, and relative paths become absolute, because the lines are used elsewhere."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "a.whl").touch()
    (tmp_path / "b.whl").touch()
    lines = """
# all
red-fox >= 1  # why
blue-hen\\
==1
-f wheels
--find-links=wheels
./a.whl
b.whl
-f https://x/#y
red-fox==1 --hash=sha256:00
"""
    (file := tmp_path / "needed.txt").write_text(lines)
    assert read_requirements(file) == (
        "red-fox >= 1",
        "blue-hen ==1",
        f"-f {tmp_path}/wheels",
        f"--find-links={tmp_path}/wheels",
        f"{tmp_path}/a.whl",
        f"{tmp_path}/b.whl",
        "-f https://x/#y",
        "red-fox==1 --hash=sha256:00",
    )


@pytest.mark.parametrize("line", ["-r other.txt", "-c other.txt", "-e .", "--requirement=other.txt"])
def test_further_files_are_refused(tmp_path: Path, line: str) -> None:
    """A line that refers to another file is an error, because changes of that file would go unnoticed."""
    (file := tmp_path / "needed.txt").write_text(f"red-fox\n{line}\n")
    with pytest.raises(LocalServerError, match="refers to another file"):
        read_requirements(file)
