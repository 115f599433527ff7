"""A local server in a process of its own, and the steps that tests take with it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anyio
import pytest

from fanbench import Client, NotFound, resolve_config
from fanbench.local.address import LocalServer, find_server
from fanbench.local.executor.environment import forkserver_environment
from fanbench.local.executor.lifetime import children
from fanbench.tasks import to_notebook
from fanbench.wire.messages import CreationState, Run, Task
from tests.local.guarded_server import OPEN_FILES
from tests.operations.fake_sdk import install_fake_sdk
from tests.warm import Forked, WarmPython, warm_python

START_SECONDS = 60.0
GUARDED = Path(__file__).with_name("guarded_server.py")
FORKSERVER = Path(__file__).with_name("warm_forkserver.py")

SECRET = "a-secret-of-the-server"
"""In the environment of every test server."""

MODELS = """
default = "test/four"

[[model]]
slug = "test/four"
kind = "scripted"
input_price = 1.0
output_price = 2.0
rules = [{ match = "2 \\\\+ 2", reply = "4" }, { match = "(?i)json", reply = '{"name": "Ada", "age": 36}' }]

[[model]]
slug = "test/wrong"
kind = "scripted"
reply = "no idea"

[[model]]
slug = "test/thinker"
kind = "scripted"
efforts = ["low", "high"]
rules = [{ effort = "high", reply = "4, surely" }, { effort = "low", reply = "maybe 4" }]
reply = "not a thought"

[[model]]
slug = "test/slow"
kind = "scripted"
latency = 1.0
reply = "4"

[[model]]
slug = "test/broken"
kind = "scripted"
rules = [{ match = "", failure = { status = 400, message = "this model is broken" } }]
"""

TASK = """
# %%
import kaggle_benchmarks as kbench

# %%
@kbench.task(name="two-plus-two")
def two_plus_two(llm) -> None:
    kbench.assertions.assert_in("4", llm.prompt("What is 2 + 2?"), expectation="says four")

# %%
two_plus_two.run(kbench.llm)
"""


def task_source(name: str, body: str, *, before: str = "", after: str = "") -> str:
    """A task file whose task executes `body`, one statement per line."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return (
        f"# %%\nimport kaggle_benchmarks as kbench\n# %%\n{before}\n"
        f"@kbench.task(name={name!r})\ndef the_task(llm):\n{lines}\n"
        f"# %%\nthe_task.run(kbench.llm)\n{after}\n"
    )


@dataclass
class ServerProcess:
    """`fanbench serve` on a free port, with its state in `data`."""

    data: Path
    process: Forked
    address: LocalServer

    def kill(self) -> None:
        os.kill(self.address.pid, signal.SIGKILL)
        self.process.wait()

    def client(self) -> Client:
        return Client(resolve_config(endpoint=self.address.url, token=self.address.token, env={}))


@contextlib.contextmanager
def run_server(
    data: Path,
    *options: str,
    models: str | None = MODELS,
    runs: bool = True,
    open_files: int | None = None,
) -> Iterator[ServerProcess]:
    """A server on `data`, started beside a `.env` file that must redirect no run.

    Without `runs` it does not import the SDK ahead of the first run: the tests that have none start faster.
    `open_files` is the number of files that it may have open.
    """
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / ".env").write_text("LLM_DEFAULT=somebody/else\nMODEL_PROXY_URL=http://127.0.0.1:9\n")
    if models is not None:
        (data / "models.toml").write_text(models)
    words = ["serve", "--data", str(data), "--port", "0", *options]
    words += [] if runs else ["--isolation", "process"]
    environment = {**os.environ, "SOME_API_KEY": SECRET, "FANBENCH_DEBUG": "1"}
    if open_files is not None:
        environment[OPEN_FILES] = str(open_files)
    with (data.parent / f"{data.name}.out").open("ab") as output:
        process = warm_python(GUARDED).start(
            words,
            folder=data.parent,
            environment=environment,
            out=output.fileno(),
            err=output.fileno(),
            stdin=_requests_to_sdk() if runs else None,
        )
    try:
        yield ServerProcess(data, process, _wait_until_up(data, process))
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)


@contextlib.contextmanager
def run_server_with_fake_sdk(folder: Path, *options: str) -> Iterator[ServerProcess]:
    """A server for a module of tests, with the stand-in for the SDK."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        install_fake_sdk(folder, monkeypatch)
        with run_server(folder / "data", *options) as server:
            yield server


def _requests_to_sdk() -> int | None:
    """What a server that imports the real SDK has as stdin, so that it need not: see `warm_forkserver`."""
    return None if "PYTHONPATH" in os.environ else _sdk().requests.fileno()


@cache
def _sdk() -> WarmPython:
    return WarmPython(FORKSERVER, environment=forkserver_environment())


def _wait_until_up(data: Path, process: Forked) -> LocalServer:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if (server := find_server(data)) is not None:
            return server
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError((data.parent / f"{data.name}.out").read_text())


async def ensure_pushed(client: Client) -> None:
    """Push TASK, unless another test has done so."""
    try:
        if (await client.get_task("two-plus-two")).creation_state is CreationState.COMPLETED:
            return
    except NotFound:
        pass
    task = await push(client, "two-plus-two", TASK)
    assert task.creation_state is CreationState.COMPLETED, task.creation_error_message


async def push(client: Client, slug: str, source: str, datasets: Sequence[str] = ()) -> Task:
    """Push and wait for the end of the creation."""
    await client.create_task(slug, to_notebook(source), datasets=datasets)
    while (task := await client.get_task(slug)).creation_state.pending:
        await anyio.sleep(0.05)
    return task


async def run(client: Client, slug: str, *models: str) -> list[Run]:
    """Schedule runs on `models` and wait for them. Return all runs of the task on these models, newest last."""
    await client.schedule_runs(slug, models)
    return await ended(client, slug, *models)


async def ended(client: Client, slug: str, *models: str) -> list[Run]:
    """The runs of the task on `models`, once all of them have ended."""
    while True:
        runs = [run async for run in client.list_runs(slug, models=models)]
        if all(run.state.terminal for run in runs):
            return runs
        await anyio.sleep(0.05)


def command_line(pid: int) -> str:
    """The words of a process, separated by spaces; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def processes_with(words: str) -> list[int]:
    """All processes whose command lines have these words."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if words in command_line(pid)]


def children_with(parent: int, words: str) -> list[int]:
    """The children of a process whose command lines have these words."""
    return [pid for pid in children(parent) if words in command_line(pid)]


_PRINTED = re.compile(r"pid (\d+) (\d+)\n")


def print_pid(expression: str = "os.getpid()") -> str:
    """Code after `import os` that prints which process of a run the expression means, for `printed_pid`."""
    return f"print('pid', os.stat('/proc/self/ns/pid').st_ino, {expression}, flush=True)"


async def printed_pid(log: Path) -> int:
    """The process whose number in its own PID namespace a run prints with `print_pid`, as soon as it has."""
    with anyio.fail_after(60):
        while True:
            lines = log.read_text().splitlines(keepends=True) if log.exists() else []
            whole = [json.loads(line)["data"] for line in lines if line.endswith("\n")]
            # A line may come in parts.
            if _PRINTED.search("".join(whole)):
                pid = found_pid("".join(whole))
                assert pid is not None, "it has ended already"
                return pid
            await anyio.sleep(0.02)


def found_pid(log: str) -> int | None:
    """The process that `print_pid` has printed; None if there is no longer one."""
    printed = _PRINTED.search(log)
    assert printed is not None, log
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if (process / "ns/pid").stat().st_ino == int(printed[1]):
                inner = re.findall(r"^NSpid:.*\t(\d+)$", (process / "status").read_text(), re.MULTILINE)
                if inner == [printed[2]]:
                    return int(process.name)
    return None


async def log_text(client: Client, run_id: int) -> str:
    return "".join([entry.data async for entry in client.logs(run_id)])
