"""Packages that runs have in addition to those of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fanbench.cli.app import root
from fanbench.wire.messages import CreationState, RunState

from .server_process import ServerProcess, log_text, push, run, run_server, task_source
from .wheels import offline, write_wheel

pytestmark = pytest.mark.anyio

BODY = """\
import red_fox, subprocess, sys
print("here", red_fox.VERSION)
code = "import red_fox, blue_hen; print('elsewhere', red_fox.VERSION, blue_hen.VERSION)"
subprocess.run([sys.executable, "-c", code], check=True)
subprocess.run(["blue_hen-command"], check=True)
"""
METADATA = '# /// script\n# dependencies = ["red-fox"]\n# ///\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose runs all have blue_hen, and whose installers know no other package than red_fox."""
    folder = tmp_path_factory.mktemp("packages")
    write_wheel(folder, "red_fox", "2.0")
    write_wheel(folder, "blue_hen", "1.1")
    (folder / "needed.txt").write_text("blue-hen\n-f .\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in offline(folder).items():
            patch.setenv(name, value)
        with run_server(folder / "data", "--requirements", str(folder / "needed.txt")) as server:
            yield server


async def test_a_task_has_the_packages_that_it_asks_for(server: ServerProcess) -> None:
    """A task imports the dependencies in its metadata and those of the server; so do processes that it starts."""
    async with server.client() as client:
        source = task_source("with-packages", BODY, before=METADATA)
        task = await push(client, "with-packages", source)
        assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
        (ended,) = await run(client, "with-packages", "test/four")
        assert ended.state is RunState.COMPLETED, ended.error_message
        log = await log_text(client, ended.id)
    assert "here 2.0" in log
    assert "elsewhere 2.0 1.1" in log
    assert "blue_hen 1.1" in log
    assert "Installing" not in log, "the creation has installed them already"
    assert "Installing packages with" in (server.data / "logs/creation-1.jsonl").read_text()
    # One for all runs, one for this task.
    assert len([*server.data.glob("environments/*/packages")]) == 2


async def test_without_metadata_the_module_is_named(server: ServerProcess, tmp_path: Path) -> None:
    """Without its metadata, the same task fails with the name of the module, and `check` warns about it before."""
    source = task_source("without-packages", BODY)
    (path := tmp_path / "task.py").write_text(source)
    checked = CliRunner().invoke(root, ["check", str(path)])
    assert "warning: The module red_fox is not installed here." in checked.stdout
    async with server.client() as client:
        task = await push(client, "without-packages", source)
        assert "The module red_fox is not installed here" in task.creation_error_message


async def test_a_failed_installation_fails_the_creation(server: ServerProcess) -> None:
    """Packages that cannot be installed fail the creation with the reason and what to do; the log has both."""
    async with server.client() as client:
        source = task_source("conflict", "pass", before=METADATA.replace("red-fox", "httpx<0.1"))
        task = await push(client, "conflict", source)
    assert task.creation_state is CreationState.ERRORED
    assert "The run needs httpx<0.1, but the SDK uses httpx" in task.creation_error_message
    assert "Change the requirement" in task.creation_error_message


async def test_another_python_fails_the_creation(server: ServerProcess) -> None:
    """A task that requires another Python fails with both versions, and runs nothing."""
    async with server.client() as client:
        source = task_source("newer", "pass", before='# /// script\n# requires-python = ">=3.99"\n# ///\n')
        task = await push(client, "newer", source)
    assert task.creation_state is CreationState.ERRORED
    assert task.creation_error_message.startswith("The file requires Python >=3.99, and this is Python 3.1")
