"""`serve --isolation container`: what a run sees and can do in a container of bubblewrap, and the errors without."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fanbench.errors import LocalServerError
from fanbench.local.executor.container import check_containers, command_in_container
from fanbench.local.executor.job import Job
from fanbench.wire.messages import RunState

from .server_process import SECRET, log_text, push, run, run_server, task_source

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

LOOKING = """
import json, os, pathlib
def reason(do, *arguments):
    try: return "no error: " + str(do(*arguments))[:500]
    except OSError as error: return error.strerror
print("SEEN", json.dumps({
    "root": sorted(os.listdir("/")),
    "data": sorted(os.listdir(DATA)),
    "home": reason(lambda: [one.name for one in pathlib.Path(HOME).iterdir() if one.is_file()]),
    "etc": reason(os.listdir, "/etc/shadow"),
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
    "signal": reason(os.kill, SERVER, 0),
    "python": reason(pathlib.Path(json.__file__).with_name("fanbench_was_here").write_text, "x"),
    "system": reason(pathlib.Path("/usr/fanbench_was_here").write_text, "x"),
    "temporary": reason(pathlib.Path("/tmp/fanbench_was_here").write_text, "x"),
    "environment": dict(os.environ),
    "words": pathlib.Path("/kaggle/input/words/words.csv").read_text(),
    "dataset": reason(pathlib.Path("/kaggle/input/words/new").write_text, "x"),
}))
pathlib.Path("mine.txt").write_text("mine")
if llm.name == "test/slow": os.kill(os.getpid(), 9)
"""


async def test_a_run_in_a_container_has_what_it_needs_and_no_more(tmp_path: Path, datasets: Path) -> None:
    """It sees the system's programs, its packages and datasets, which it cannot change, and its own output is kept."""
    try:
        check_containers()
    except LocalServerError as error:
        pytest.skip(str(error))
    options = ["--isolation", "container", "--datasets", str(datasets), "--workers", "2"]
    with run_server(tmp_path / "data", *options) as server:
        home = os.path.expanduser("~")
        before = f"DATA, HOME, SERVER = {str(server.data)!r}, {home!r}, {server.address.pid}\n"
        async with server.client() as client:
            body = f"{before}{LOOKING}\nassert '4' in llm.prompt('What is 2 + 2?')\nreturn True"
            task = await push(client, "looks", task_source("looks", body), ["me/words"])
            assert not task.creation_error_message
            *_, done, killed = sorted(
                await run(client, "looks", "four", "slow"), key=lambda one: one.model_version_slug
            )
            log = await log_text(client, done.id)
            assert done.state is RunState.COMPLETED, done.error_message + log
            await client.download_output(done.id, tmp_path / "out")
    seen = json.loads(log.split("SEEN ")[1].splitlines()[0])
    assert seen["data"] == ["environments", "runs"]
    # Folders of Python may be below it, but no files in it are theirs.
    assert seen["home"] == "no error: []"
    assert seen["etc"] == "No such file or directory"
    assert seen["processes"] <= 3
    assert seen["signal"] == "No such process"
    for place in ("python", "system", "dataset"):
        assert seen[place] == "Read-only file system"
    assert seen["temporary"] == "no error: 1"
    assert seen["words"] == "word\nalpha\nbeta\n"
    assert not {"boot", "media", "mnt", "srv"} & set(seen["root"])
    assert SECRET not in str(seen)
    assert (tmp_path / "out/mine.txt").read_text() == "mine"
    assert "SIGKILL" in killed.error_message
    assert not Path("/tmp/fanbench_was_here").exists()


def test_without_bubblewrap_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a missing program nor one that is refused by the system starts a server without containers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalServerError, match="no program bwrap") as missing:
        check_containers()
    assert missing.value.hint is not None
    assert "apt install bubblewrap" in missing.value.hint
    (tmp_path / "bwrap").write_text(
        "#!/bin/sh\necho bwrap: No permissions to create new namespace >&2\nexit 1\n"
    )
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(LocalServerError, match="No permissions to create new namespace"):
        check_containers()


def test_only_the_folder_of_the_run_can_be_changed(tmp_path: Path) -> None:
    """Of the real folders, that of the run is the only one that its container may write to."""
    hidden = tmp_path / "data"
    job = Job(folder=str(hidden / "runs/1"), environment={"PATH": "/usr/bin:/"}, hidden=[str(hidden)])
    job.working.mkdir(parents=True)
    command = command_in_container(job, ["python", "-V"])
    assert command[-3:] == ["--", "python", "-V"]
    writable = {command[at + 1] for at, word in enumerate(command) if word == "--bind"}
    assert writable == {job.folder, str(job.working), str(job.scratch), str(job.covers / "0")}
    assert ("--ro-bind", "/", "/") not in zip(command, command[1:], command[2:], strict=False)
