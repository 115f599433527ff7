"""The life of the server: it is started, found, shared, killed, resumed and stopped."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from fanbench import Bearer, Client, Config, resolve_config
from fanbench.errors import BadRequest, LocalServerError, NotFound, ServerFault
from fanbench.local.address import LocalServer, find_server
from fanbench.local.executor.lifetime import children
from fanbench.local.folder import open_data_folder
from fanbench.local.launcher import ensure_server, stop_server
from fanbench.local.state.store import Store
from fanbench.tasks import to_notebook
from fanbench.wire.messages import CreationState, RunState
from tests.warm import warm_python

from .server_process import (
    GUARDED,
    MODELS,
    TASK,
    children_with,
    ended,
    log_text,
    print_pid,
    printed_pid,
    processes_with,
    push,
    run,
    run_server,
    task_source,
)

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


def client_of(server: LocalServer) -> Client:
    return Client(resolve_config(endpoint=server.url, token=server.token, env={}))


def fanbench(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the server in a process of its own, and return how it has ended."""
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = warm_python(GUARDED).start(
            words,
            folder=folder,
            environment={**os.environ, **environment},
            out=out.fileno(),
            err=err.fileno(),
        )
        try:
            code = process.wait(60)
        finally:
            process.kill()
    said, errors = ((folder / name).read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(words, code, said, errors)


async def test_a_server_is_started_once_and_stopped(tmp_path: Path) -> None:
    """Concurrent commands share one server, and stop ends it without a trace of a running server."""
    data = tmp_path / "data"
    found: list[LocalServer] = []

    async def ensure() -> None:
        found.append(await ensure_server(data))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ensure)
        tasks.start_soon(ensure)
    assert found[0].pid == found[1].pid
    assert {server.data for server in found} == {data.resolve()}
    assert sorted(server.started for server in found) == [False, True]
    # A second process would take over the folder when the server stops.
    assert len(processes_with(f"serve --data {data}")) == 1
    assert "token" not in repr(found[0])
    async with client_of(found[0]) as client:
        assert await client.list_models() == []
    assert await stop_server(data) == found[0].pid
    assert find_server(data) is None
    assert await stop_server(data) is None
    assert not (data / "server.json").exists()


async def test_a_client_follows_its_server(tmp_path: Path) -> None:
    """A client goes on when its server was killed and another one runs, and starts one if none does."""
    data = tmp_path / "data"
    started: list[LocalServer] = []
    with run_server(data, runs=False) as first:
        config = Config(first.address.url, Bearer(first.address.token), local_data=data)
        async with Client(config, started=started.append) as client:
            await client.list_models()
            first.kill()
            with run_server(data, runs=False) as second:
                assert second.address.url != first.address.url
                await client.list_models()
                assert started == []
                second.kill()
            try:
                await client.list_models()
            finally:
                pid = await stop_server(data)
    assert [server.pid for server in started] == [pid]


async def test_an_idle_server_ends_itself_but_not_during_a_run(tmp_path: Path, fake_sdk: None) -> None:
    """With --idle-timeout the server ends, with exit code 0, once there are no requests and no runs."""
    body = f"import os, time\n{print_pid()}\ntime.sleep(2)\nreturn True"
    notebook = to_notebook(task_source("sleeps", body))
    with run_server(tmp_path / "data", "--idle-timeout", "1") as server:
        async with server.client() as client:
            await client.create_task("sleeps", notebook)
        await printed_pid(server.data / "logs/creation-1.jsonl")
        await anyio.sleep(1.5)  # longer than the limit, with nobody asking
        async with server.client() as client:
            while (task := await client.get_task("sleeps")).creation_state.pending:
                await anyio.sleep(0.05)
        assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
        with anyio.fail_after(60):
            while server.process.poll() is None:
                await anyio.sleep(0.05)
        assert server.process.returncode == 0


async def test_ctrl_c_twice_ends_it_at_once_and_cleanly(tmp_path: Path, fake_sdk: None) -> None:
    """A second SIGINT during a run gives exit code 0 without a traceback, and kills the process of the run."""
    with run_server(tmp_path / "data", "--stop-timeout", "60") as server:
        async with server.client() as client:
            body = f"import os, time\n{print_pid()}\ntime.sleep(60)"
            await client.create_task("sleeps", to_notebook(task_source("sleeps", body)))
            pid = await printed_pid(server.data / "logs/creation-1.jsonl")
        os.kill(server.address.pid, signal.SIGINT)
        while "Stopping" not in (tmp_path / "data.out").read_text():
            await anyio.sleep(0.02)
        os.kill(server.address.pid, signal.SIGINT)
        server.process.wait(60)
    assert server.process.returncode == 0
    assert "Traceback" not in (tmp_path / "data.out").read_text()
    assert not Path(f"/proc/{pid}").exists()


PROMPTS = """
import time
for _ in range(3):
    time.sleep(0.2)
    kbench.assertions.assert_in("4", llm.prompt("What is 2 + 2?"), expectation="says four")
"""


async def test_stopped_servers_lose_and_double_nothing(tmp_path: Path, fake_sdk: None) -> None:
    """Whenever SIGTERM comes, to the server or to all its processes, each run completes once with a later server."""
    data, models = tmp_path / "data", [f"m{number}" for number in range(6)]
    # The first run is in progress at each SIGTERM, whichever of the others is.
    latencies = dict.fromkeys(models, 0.2) | {"m0": 1.0}
    catalog = "".join(
        f'[[model]]\nslug = "test/{name}"\nkind = "scripted"\nlatency = {seconds}\nreply = "4"\n'
        for name, seconds in latencies.items()
    )
    options = ["--workers", "2", "--stop-timeout", "0.5"]
    with run_server(data, *options, models=catalog) as server:
        async with server.client() as client:
            await push(client, "prompts", task_source("prompts", PROMPTS))
            await client.schedule_runs("prompts", models)
            while not any([r.state is RunState.RUNNING async for r in client.list_runs("prompts")]):
                await anyio.sleep(0.02)
        await anyio.sleep(random.uniform(0, 1.5))
        os.kill(server.address.pid, signal.SIGTERM)
        assert await anyio.to_thread.run_sync(server.process.wait, 60) == 0
    said = (tmp_path / "data.out").read_text()
    assert "in progress may continue for 0.5 s" in said
    assert re.search(r"The next server on this data folder starts \d runs? from the beginning", said)
    with run_server(data, *options, models=None) as server:
        async with server.client() as client:
            while not any([r.state is RunState.RUNNING async for r in client.list_runs("prompts")]):
                await anyio.sleep(0.02)
        await anyio.sleep(random.uniform(0, 1.5))
        for pid in _descendants(server.address.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        assert await anyio.to_thread.run_sync(server.process.wait, 60) == 0
    with run_server(data, models=None) as server:
        async with server.client() as client:
            runs = await ended(client, "prompts")
    assert [(r.model_version_slug, r.state, r.error_message) for r in runs] == [
        (name, RunState.COMPLETED, "") for name in models
    ]


async def test_runs_in_progress_may_end_before_the_server(tmp_path: Path, fake_sdk: None) -> None:
    """While runs end, the Model Proxy and the API answer, and what is scheduled then is left to the next server."""
    data = tmp_path / "data"
    with run_server(data, "--workers", "1", "--stop-timeout", "30") as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK)
            await client.schedule_runs("two-plus-two", ["slow"])
            while not any([r.state is RunState.RUNNING async for r in client.list_runs("two-plus-two")]):
                await anyio.sleep(0.02)
            told: list[float] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop_server, data, lambda _pid, seconds: told.append(seconds))
                while "Stopping: 1 run in progress" not in (tmp_path / "data.out").read_text():
                    await anyio.sleep(0.02)
                await client.schedule_runs("two-plus-two", ["four"])
            assert told == [30]
    async with Store.open(data / "state.sqlite") as store:
        rows, _ = await store.runs(1, [], after=0, limit=9)
    assert [(row.model, row.state) for row in rows] == [
        ("slow", RunState.COMPLETED),
        ("four", RunState.QUEUED),
    ]


def _descendants(pid: int) -> list[int]:
    """The process and all below it, as a service manager signals them."""
    below = [_descendants(child) for child in children(pid)]
    return [pid, *(each for family in below for each in family)]


async def test_a_killed_server_resumes_what_it_had_begun(tmp_path: Path, fake_sdk: None) -> None:
    """After kill -9 no process of a run is left, and the next server finishes what was queued or begun, each once."""
    data = tmp_path / "data"
    with run_server(data, "--workers", "2") as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK + "print('JUDGE', kbench.judge_llm.name)\n")
            (before,) = await run(client, "two-plus-two", "wrong")
            text_before = await log_text(client, before.id)
            body = (
                "import os, subprocess, time\n"
                "detached = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
                f"{print_pid('detached.pid')}\n"
                "time.sleep(1)\n"
                "return True"
            )
            await client.create_task("validated", to_notebook(task_source("validated", body)))
            await client.schedule_runs("two-plus-two", ["slow", "four"], judge="test/wrong")
            while not any([r.state is RunState.RUNNING async for r in client.list_runs("two-plus-two")]):
                await anyio.sleep(0.02)
            detached = await printed_pid(data / "logs/creation-2.jsonl")
        server.kill()
        with anyio.fail_after(60):
            while _is_alive(detached):
                await anyio.sleep(0.02)
    with run_server(data, models=None) as server:
        async with server.client() as client:
            runs = await ended(client, "two-plus-two")
            assert [(r.id, r.model_version_slug, r.state) for r in runs] == [
                (before.id, "wrong", RunState.COMPLETED),
                (before.id + 1, "slow", RunState.COMPLETED),
                (before.id + 2, "four", RunState.COMPLETED),
            ]
            assert await log_text(client, before.id) == text_before
            assert "JUDGE test/four\n" in text_before
            for later in runs[1:]:
                assert "JUDGE test/wrong\n" in await log_text(client, later.id)
            while (task := await client.get_task("validated")).creation_state.pending:
                await anyio.sleep(0.05)
    assert task.creation_state is CreationState.COMPLETED, task.creation_error_message


async def test_an_output_belongs_to_its_run(tmp_path: Path, fake_sdk: None) -> None:
    """If the state is moved away and numbers begin again, no download is that of an earlier run."""
    for text in ("first", "second"):
        with run_server(tmp_path / "data") as server:
            async with server.client() as client:
                await push(client, "writes", task_source("writes", f"open('a.txt', 'w').write('{text}')"))
                (done,) = await run(client, "writes", "four")
                await client.download_output(done.id, tmp_path / text)
        assert (done.id, (tmp_path / text / "a.txt").read_text()) == (1, text)
        for file in server.data.glob("state.sqlite*"):
            file.unlink()


@pytest.mark.parametrize("deaths", [1, 2])
async def test_a_forkserver_that_dies_is_replaced(tmp_path: Path, fake_sdk: None, deaths: int) -> None:
    """A run whose parent dies starts again once, which its log says; the second death makes it ERRORED."""
    with run_server(tmp_path / "data") as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK)
            await client.schedule_runs("two-plus-two", ["slow"])
            log = server.data / "logs/1.jsonl"
            for death in range(1, deaths + 1):
                while not log.exists() or log.read_text().count("PROMPT") < death:
                    await anyio.sleep(0.02)
                (forkserver,) = children_with(server.address.pid, "executor.forkserver")
                os.kill(forkserver, signal.SIGKILL)
            (lost,) = await ended(client, "two-plus-two")
            text = await log_text(client, lost.id)
            (good,) = [each for each in await run(client, "two-plus-two", "four") if each.id != lost.id]
    assert lost.state is (RunState.COMPLETED if deaths == 1 else RunState.ERRORED)
    reason = "The run was lost: the parent process of all runs died, was killed or ran out of memory."
    assert text.count(f"[fanbench] {reason} It starts again: attempt 2.\n") == 1
    assert lost.error_message == ("" if deaths == 1 else reason)
    assert good.state is RunState.COMPLETED


async def test_one_process_per_run_gives_the_same(tmp_path: Path) -> None:
    """With --isolation process, states, magics and output files are the same as with forks."""
    with run_server(tmp_path / "data", "--isolation", "process") as server:
        async with server.client() as client:
            task = await push(client, "two-plus-two", f"# %%\n!echo shell-works\n{TASK}")
            assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
            (done,) = await run(client, "two-plus-two", "wrong")
            assert done.state is RunState.COMPLETED
            assert "shell-works" in await log_text(client, done.id)
            await client.download_output(done.id, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").glob("*.run.json")]


@pytest.mark.parametrize("isolation", ["fork", "process"])
@pytest.mark.parametrize(
    ("package", "code", "words"),
    [
        ("hishel", "raise ImportError('cannot import name BaseFilter')", "hishel[httpx]<2"),
        (
            "kaggle_benchmarks",
            "raise ModuleNotFoundError(\"No module named 'kaggle_benchmarks'\")",
            "local]",
        ),
    ],
)
async def test_an_sdk_that_cannot_be_imported_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, code: str, words: str, isolation: str
) -> None:
    """Every creation names what to install, and so does the terminal if the server has imported the SDK."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{package}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    options = ["--isolation", isolation, "--run-env", "PYTHONPATH"]
    with run_server(tmp_path / "data", *options) as server:
        async with server.client() as client:
            task = await push(client, "two-plus-two", TASK)
    assert task.creation_state is CreationState.ERRORED
    assert words in task.creation_error_message
    assert (words in (tmp_path / "data.out").read_text()) == (isolation == "fork")


def test_a_start_imports_nothing_of_the_extras(tmp_path: Path) -> None:
    """A server without options imports no package that only its options need, nor Alembic after the first start."""
    words = f"serve --data {tmp_path} --port 0 --isolation process --idle-timeout 1".split()
    command = [sys.executable, "-X", "importtime", "-m", "fanbench", *words]

    def imported() -> set[str]:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
        return {line.rpartition("|")[2].strip().partition(".")[0] for line in said.splitlines()}

    of_options = {"ray", "obstore", "psycopg"}
    assert imported() & {"uvicorn", "alembic", *of_options} == {"uvicorn", "alembic"}
    assert imported() & {"uvicorn", "alembic", *of_options} == {"uvicorn"}


def test_a_port_in_use_is_reported_with_a_hint(tmp_path: Path) -> None:
    """A port in use gives exit code 1 and one line, and --any-port uses another port."""
    with run_server(tmp_path / "data", runs=False) as server:
        port = server.address.url.rpartition(":")[2]
        words = ["serve", "--data", str(tmp_path / "other"), "--port", port]
        refused = fanbench(tmp_path, *words)
        known = fanbench(tmp_path, *words, FANBENCH_DATA=str(tmp_path / "data"))
        with run_server(tmp_path / "third", "--port", port, "--any-port", runs=False) as third:
            assert third.address.url != server.address.url
    assert refused.returncode == 1
    assert f"port {port}" in refused.stderr
    assert "--port 0" in refused.stderr
    assert "fanbench stop" not in refused.stderr
    assert f"`fanbench stop --data {tmp_path / 'data'}`" in known.stderr
    assert "Traceback" not in refused.stderr


async def test_the_server_prints_commands_that_reach_it(tmp_path: Path) -> None:
    """Every command that a server on a folder of its own prints works in a terminal, and the last one ends it."""
    with run_server(tmp_path / "my data", runs=False) as server:
        text = ""
        with anyio.fail_after(60):
            while "Stop it" not in text:
                await anyio.sleep(0.02)
                text = (tmp_path / "my data.out").read_text()
        listing, stop = re.findall(r"fanbench (tasks .*|stop .*)`?\n", text.replace("`", ""))
        options = re.findall(r"\(or with (.*)\)\n", text)
        for words in (listing, f"tasks list {options[0]}", stop):
            command = f"{sys.executable} -m fanbench {words}"
            done = await anyio.run_process(["sh", "-c", command], check=False)
            assert done.returncode == 0, (words, done.stderr)
        assert await anyio.to_thread.run_sync(server.process.wait, 30) == 0


def test_the_rest_of_an_output_is_deleted(tmp_path: Path) -> None:
    """What had arrived of an output when a server was killed goes with the next start; whole outputs stay."""
    with open_data_folder(tmp_path / "data") as folder:
        part, whole = folder.outputs / ".1-source.zip-12-abcdef.part", folder.output(2, include_source=True)
        folder.outputs.mkdir()
        part.touch()
        whole.touch()
    with open_data_folder(tmp_path / "data"):
        assert not part.exists()
        assert whole.exists()


def test_a_data_folder_in_use_is_refused_with_its_holder(tmp_path: Path) -> None:
    """The error of a second server on the same folder has the process id of the first."""
    with open_data_folder(tmp_path / "data"):
        refused = fanbench(tmp_path, "serve", "--data", str(tmp_path / "data"), "--port", "0")
    assert refused.returncode == 1
    assert f"in use by process {os.getpid()}" in refused.stderr
    assert f"`fanbench stop --data {tmp_path / 'data'}`" in refused.stderr


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
    """A folder of another version is not changed, and the error explains why it cannot be used."""
    (tmp_path / name).write_text(content)
    with pytest.raises(LocalServerError, match=words), open_data_folder(tmp_path):
        pass
    assert (tmp_path / name).read_text() == content


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """The error of an unwritable folder is one sentence, with the flag to use."""
    (tmp_path / "file").write_text("")
    cannot = pytest.raises(LocalServerError, match="Cannot write the data folder")
    with cannot as caught, open_data_folder(tmp_path / "file" / "data"):
        pass
    assert "--data" in str(caught.value.hint)


def test_a_data_folder_is_closed_to_others(tmp_path: Path) -> None:
    """Folder, token, database and models lose the rights of other users at each start, and the notes say so once."""
    data = tmp_path / "data"
    closed = {"": 0o700, "token": 0o600, "state.sqlite": 0o600, "models.toml": 0o600}
    with open_data_folder(data) as folder:
        assert folder.notes == []
        folder.models_file.touch(0o600)
    for name in closed:
        (data / name).chmod(0o777)
    with open_data_folder(data) as folder:
        assert {name: (data / name).stat().st_mode & 0o7777 for name in closed} == closed
        assert all(f"{data / name}: its mode was 0777" in " ".join(folder.notes) for name in closed)
    with open_data_folder(data) as folder:
        assert folder.notes == []


def test_a_shared_folder_keeps_its_mode(tmp_path: Path) -> None:
    """The mode of a folder that has other files, such as /tmp, stays, and a note says who may enter it."""
    (tmp_path / "notes.txt").touch()
    tmp_path.chmod(0o1777)
    with open_data_folder(tmp_path) as folder:
        assert tmp_path.stat().st_mode & 0o7777 == 0o1777
        assert folder.token_file.stat().st_mode & 0o777 == 0o600
        (note,) = folder.notes
    assert "may enter" in note
    assert "notes.txt" in note


async def test_the_files_of_the_database_are_private(tmp_path: Path) -> None:
    """SQLite's own files have the mode of the database, and the terminal shows what was mended."""
    data = tmp_path / "data"
    data.mkdir(0o755)
    with run_server(data, runs=False) as server:
        async with server.client() as client:
            await client.list_models()
            found = {path.name: path.stat().st_mode & 0o777 for path in data.glob("state.sqlite*")}
    assert set(found) == {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm"}
    assert set(found.values()) == {0o600}
    assert (
        f"Other users of this machine had rights on {data}: its mode was 0755"
        in (tmp_path / "data.out").read_text()
    )


@pytest.mark.parametrize(
    ("refused", "begin", "why"),
    [
        ("_enter_namespace", "Runs can read and change everything", "mounts are"),
        ("PidNamespaces", "Runs can see and end the processes of other runs", "PID namespaces are"),
    ],
)
async def test_a_server_says_what_is_not_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kaggle_folders: None, refused: str, begin: str, why: str
) -> None:
    """Where the system allows no mounts or PID namespaces, the terminal says once at the start what runs can do."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfrom fanbench.local.executor import mounts\n"
        f"def refuse(): raise PermissionError(1, os.strerror(1))\nmounts.{refused} = refuse\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with run_server(tmp_path / "data", runs=False):
        said = ""
        with anyio.fail_after(60):
            while begin not in said:
                await anyio.sleep(0.02)
                said = (tmp_path / "data.out").read_text()
    assert said.count(f"{why} not possible here (Operation not permitted)") == 1
    assert said.count("not possible here") == 1


def test_the_token_is_for_its_owner_only(tmp_path: Path) -> None:
    """The token file has mode 0600, and its token stays the same at the next start."""
    with open_data_folder(tmp_path / "data") as folder:
        token = folder.read_token()
        assert folder.token_file.stat().st_mode & 0o777 == 0o600
    with open_data_folder(tmp_path / "data") as folder:
        assert folder.read_token() == token


async def test_models_appear_while_the_server_runs(tmp_path: Path) -> None:
    """models.toml is read again when it changes."""
    with run_server(tmp_path / "data", runs=False) as server:
        async with server.client() as client:
            assert len(await client.list_models()) == MODELS.count("[[model]]")
            (server.data / "models.toml").write_text(MODELS.replace("test/wrong", "test/other"))
            slugs = {m.version.slug for m in await client.list_models() if m.version}
            assert slugs == {"four", "other", "thinker", "slow", "broken"}


async def test_a_mistake_in_models_toml_harms_no_other_model(tmp_path: Path, fake_sdk: None) -> None:
    """Pushes and runs of good models go on, the log has the mistake once, and who asks for the bad model is told."""
    data, bad = tmp_path / "data", f"{MODELS}\n[[model]]\nslug = 'test/bad'\nkind = 'nonsense'\n"
    for before in (MODELS, bad):  # made while the server runs, and there when it starts
        with run_server(data, models=before) as server:
            async with server.client() as client:
                assert len(await client.list_models()) == MODELS.count("[[model]]")
                if before != bad:
                    (data / "models.toml").write_text(bad)
                task = await push(client, "two-plus-two", TASK)
                assert task.creation_state is CreationState.COMPLETED, task.creation_error_message
                (done,) = await run(client, "two-plus-two", "four")
                assert done.state is RunState.COMPLETED, done.error_message
                with pytest.raises(NotFound, match=r"bad.*mistake in models.toml.*nonsense"):
                    await client.schedule_runs("two-plus-two", ["bad"])
                (data / "models.toml").write_text("[[model]")
                assert len(await client.list_models()) == MODELS.count("[[model]]")
        log = (data / "server.log").read_text()
        assert log.count("models.toml has a mistake") == 2
        (data / "server.log").unlink()
    with run_server(data, models="[[model]", runs=False) as server:
        async with server.client() as client:
            with pytest.raises(BadRequest, match=r"models\.toml is not TOML: .*\. Correct models\.toml\."):
                await client.list_models()
            (data / "models.toml").write_text(MODELS)
            assert len(await client.list_models()) == MODELS.count("[[model]]")


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("text", ["", "0", "-1", "rubbish"])
async def test_stop_signals_nobody_but_the_holder(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the lock file names no valid process, no signal is sent, least of all to a process group."""
    monkeypatch.setattr("fanbench.local.launcher._LOOK_EVERY", 0.001)
    with open_data_folder(tmp_path) as folder:
        folder.lock_file.write_text(text)
        with pytest.raises(LocalServerError, match="does not name the process"):
            await stop_server(tmp_path)


async def test_stop_waits_for_the_holder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the next server has taken the folder by the time of the next look, the one that was stopped has ended."""
    with open_data_folder(tmp_path) as folder:
        ended = int(folder.lock_file.read_text())

        def end(pid: int, _signal: int) -> None:
            assert pid == ended
            folder.lock_file.write_text(f" {ended + 1}\n")

        monkeypatch.setattr("fanbench.local.launcher.os.kill", end)
        with anyio.fail_after(5):
            assert await stop_server(tmp_path) == ended


def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    """A damaged database is reported in one line that names the file."""
    with open_data_folder(tmp_path / "data") as folder:
        folder.database.write_text("this is no database, and long enough to be looked at as one " * 20)
    refused = fanbench(tmp_path, "serve", "--data", str(tmp_path / "data"), "--port", "0")
    assert refused.returncode == 1
    assert "state.sqlite" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_folder_with_a_strange_name_holds_its_own_database(tmp_path: Path) -> None:
    """A folder whose name has special characters of URLs holds its own database."""
    with run_server(tmp_path / "b?x=1#y", runs=False) as server:
        async with server.client() as client:
            await client.list_models()
    assert (tmp_path / "b?x=1#y" / "state.sqlite").exists()
    assert not (tmp_path / "b").exists()


async def test_a_push_that_cannot_be_stored_leaves_the_name_free(tmp_path: Path, fake_sdk: None) -> None:
    """If the notebook cannot be stored, the push fails, and the next push of the task succeeds."""
    with run_server(tmp_path / "data") as server:
        async with server.client() as client:
            (server.data / "tasks").write_text("in the way")
            with pytest.raises(ServerFault, match="cannot store"):
                await client.create_task("two-plus-two", to_notebook(TASK))
            assert not (await client.get_task("two-plus-two")).creation_state.pending
            (server.data / "tasks").unlink()
            task = await push(client, "two-plus-two", TASK)
    assert task.creation_state is CreationState.COMPLETED
    assert list((server.data / "tmp").iterdir()) == []
