"""The server's life: started, found, shared, killed, taken up again, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from fanbench import Client, resolve_config
from fanbench._errors import LocalServerError
from fanbench.api.messages import CreationState, RunState
from fanbench.local.folder import open_data_folder
from fanbench.local.launcher import LocalServer, ensure_server, find_server, stop_server
from fanbench.tasks import to_notebook

from .server_process import MODELS, TASK, log_text, push, run, run_server, task_source

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


def client_of(server: LocalServer) -> Client:
    return Client(resolve_config(endpoint=server.url, token=server.token, env={}))


async def test_a_server_is_started_once_and_stopped(tmp_path: Path) -> None:
    """Two commands at the same time get the same server; stop ends it and leaves nothing that claims it runs."""
    data = tmp_path / "data"
    found: list[LocalServer] = []

    async def ensure() -> None:
        found.append(await ensure_server(data))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ensure)
        tasks.start_soon(ensure)
    assert found[0].pid == found[1].pid
    assert sorted(server.started for server in found) == [False, True]
    assert "token" not in repr(found[0])
    async with client_of(found[0]) as client:
        assert await client.list_models() == []
    assert await stop_server(data) == found[0].pid
    assert find_server(data) is None
    assert await stop_server(data) is None
    assert not (data / "server.json").exists()


async def test_an_idle_server_ends_itself(tmp_path: Path) -> None:
    """After --idle-timeout without a request the process is gone, with exit code 0."""
    with run_server(tmp_path / "data", "--idle-timeout", "1") as server:
        with anyio.fail_after(20):
            while server.process.poll() is None:
                await anyio.sleep(0.05)
        assert server.process.returncode == 0


async def test_ctrl_c_ends_it_at_once_and_cleanly(tmp_path: Path) -> None:
    """SIGINT while a run is under way: exit code 0, no traceback, no process of the run left."""
    with run_server(tmp_path / "data") as server:
        async with server.client() as client:
            body = "import time, os\nprint('pid', os.getpid(), flush=True)\ntime.sleep(60)"
            await client.create_task("sleeps", to_notebook(task_source("sleeps", body)))
            pid = await _printed_pid(server.data / "logs/creation-1.jsonl")
        os.kill(server.address.pid, signal.SIGINT)
        server.process.wait(15)
    assert server.process.returncode == 0
    assert "Traceback" not in (tmp_path / "data.out").read_text()
    assert not Path(f"/proc/{pid}").exists()


async def _printed_pid(log: Path) -> int:
    """What the run printed after "pid", as soon as it has."""
    with anyio.fail_after(30):
        while True:
            lines = log.read_text().splitlines() if log.exists() else []
            if match := re.search(r"pid (\d+)\n", "".join(json.loads(line)["data"] for line in lines)):
                return int(match[1])
            await anyio.sleep(0.02)


async def test_a_killed_server_takes_up_what_it_had_begun(tmp_path: Path) -> None:
    """kill -9 with runs queued and running: the next server finishes each of them, once, and forgets nothing."""
    data = tmp_path / "data"
    with run_server(data, "--workers", "1") as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK)
            (before,) = await run(client, "two-plus-two", "wrong")
            text_before = await log_text(client, before.id)
            await client.schedule_runs("two-plus-two", ["slow", "four"])
            while not any([r.state is RunState.RUNNING async for r in client.list_runs("two-plus-two")]):
                await anyio.sleep(0.02)
        server.kill()
    with run_server(data, "--workers", "1", models=None) as server:
        async with server.client() as client:
            while True:
                runs = [r async for r in client.list_runs("two-plus-two")]
                if all(r.state.terminal for r in runs):
                    break
                await anyio.sleep(0.05)
            assert [(r.id, r.model_version_slug, r.state) for r in runs] == [
                (before.id, "wrong", RunState.COMPLETED),
                (before.id + 1, "slow", RunState.COMPLETED),
                (before.id + 2, "four", RunState.COMPLETED),
            ]
            assert await log_text(client, before.id) == text_before


async def test_the_warm_parent_is_replaced_when_it_dies(tmp_path: Path) -> None:
    """Its death errors the run that it held, saying so; the next run has a new parent."""
    with run_server(tmp_path / "data") as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK)
            await client.schedule_runs("two-plus-two", ["slow"])
            while "PROMPT" not in (server.data / "logs/1.jsonl").read_text():
                await anyio.sleep(0.02)
            _kill_child(server.address.pid, "executor.zygote")
            lost = (await run(client, "two-plus-two", "slow"))[0]
            (good,) = await run(client, "two-plus-two", "four")
    assert lost.state is RunState.ERRORED
    assert "SIGKILL" in lost.error_message
    assert good.state is RunState.COMPLETED


def _kill_child(parent: int, word: str) -> None:
    """Kill the one child of `parent` whose command line has `word`."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (pid,) = [pid for pid in children if word in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(pid), signal.SIGKILL)


async def test_a_process_a_run_gives_the_same(tmp_path: Path) -> None:
    """--isolation process: the same states, magics and output files as with forks."""
    with run_server(tmp_path / "data", "--isolation", "process") as server:
        async with server.client() as client:
            task = await push(client, "two-plus-two", f"# %%\n!echo shell-works\n{TASK}")
            assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
            (done,) = await run(client, "two-plus-two", "wrong")
            assert done.state is RunState.COMPLETED
            assert "shell-works" in await log_text(client, done.id)
            await client.download_output(done.id, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").glob("*.run.json")]


@pytest.mark.parametrize(
    ("package", "code", "words"),
    [
        ("hishel", "raise ImportError('cannot import name BaseFilter')", "hishel[httpx]<2"),
        (
            "kaggle_benchmarks",
            "raise ModuleNotFoundError(\"No module named 'kaggle_benchmarks'\")",
            "fanbench[local]",
        ),
    ],
)
async def test_an_sdk_that_cannot_be_imported_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, code: str, words: str
) -> None:
    """The server stays up; its terminal and every creation say what to install."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{package}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with run_server(tmp_path / "data") as server:
        async with server.client() as client:
            task = await push(client, "two-plus-two", TASK)
    assert task.creation_state is CreationState.ERRORED
    assert words in task.creation_error_message
    assert words in (tmp_path / "data.out").read_text()


def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path) -> None:
    """Exit code 1 and one line, no traceback; --any-port takes another."""
    with run_server(tmp_path / "data") as server:
        port = server.address.url.rpartition(":")[2]
        command = [
            sys.executable,
            "-m",
            "fanbench",
            "serve",
            "--data",
            str(tmp_path / "other"),
            "--port",
            port,
        ]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        with run_server(tmp_path / "third", "--port", port, "--any-port") as third:
            assert third.address.url != server.address.url
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "--port 0" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_data_folder_in_use_is_refused_with_its_holder(tmp_path: Path) -> None:
    """A second server on the same folder is told which process has it."""
    with open_data_folder(tmp_path / "data"):
        command = [sys.executable, "-m", "fanbench", "serve", "--data", str(tmp_path / "data"), "--port", "0"]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert f"in use by process {os.getpid()}" in refused.stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("format.json", '{"fanbench-data": 99}', "format 99"),
        ("format.json", "rubbish", "cannot be read"),
        ("state.sqlite", "", "no format.json"),
    ],
)
def test_a_folder_of_another_version_is_left_alone(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    """What is there is not touched, and the message says why it cannot be used."""
    (tmp_path / name).write_text(content)
    with pytest.raises(LocalServerError, match=words), open_data_folder(tmp_path):
        pass
    assert (tmp_path / name).read_text() == content


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file in the folder's place, or no permission, ends in one sentence with the flag to use."""
    (tmp_path / "file").write_text("")
    cannot = pytest.raises(LocalServerError, match="cannot write the data folder")
    with cannot as caught, open_data_folder(tmp_path / "file" / "data"):
        pass
    assert "--data" in str(caught.value.hint)


def test_the_token_is_for_its_owner_only(tmp_path: Path) -> None:
    """The token file is 0600 and the same at the next start."""
    with open_data_folder(tmp_path / "data") as folder:
        token = folder.read_token()
        assert folder.token_file.stat().st_mode & 0o777 == 0o600
    with open_data_folder(tmp_path / "data") as folder:
        assert folder.read_token() == token


async def test_models_appear_while_the_server_runs(tmp_path: Path) -> None:
    """models.toml is read anew when it changes; a mistake in it is said by the calls that need it."""
    with run_server(tmp_path / "data") as server:
        async with server.client() as client:
            assert len(await client.list_models()) == 4
            (server.data / "models.toml").write_text(MODELS.replace("test/wrong", "test/other"))
            slugs = {m.version.slug for m in await client.list_models() if m.version}
            assert slugs == {"four", "other", "slow", "broken"}
            (server.data / "models.toml").write_text("[[model]]\nslug = 'a/b'\nkind = 'nonsense'\n")
            with pytest.raises(Exception, match="nonsense"):
                await client.list_models()
