"""A sweep on the local server, killed with SIGKILL twice: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanbench import read_results
from fanbench.local.state.store import Store
from fanbench.local.state.tables import RunRow
from tests.local.server_process import ServerProcess, run_server

MODELS = """
[[model]]
slug = "test/tokyo"
kind = "scripted"
latency = 0.1
reply = "Tokyo"

[[model]]
slug = "test/four"
kind = "scripted"
latency = 0.1
reply = "4"
"""
TASKS = sorted((Path(__file__).parents[2] / "examples/tasks").glob("*.py"))
SLUGS = ("arithmetic", "capital-cities", "word-table")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.anyio,
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def sweep_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with run_server(tmp_path_factory.mktemp("sweep") / "data", models=MODELS) as server:
        yield server


def begin(server: ServerProcess, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fanbench", "sweep", *map(str, TASKS), "--all-models", "-y", "-o", "out"]
    command += ["--judge", "test/four"]
    command += ["--format", "jsonl", "--endpoint", server.address.url, "--token", server.address.token]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)


def kill_at(process: subprocess.Popen[str], number: int) -> list[str]:
    """Kill the process at its `number`-th event. Return the names of the events until then."""
    assert process.stdout is not None
    names = []
    for line in process.stdout:
        names.append(json.loads(line)["event"])
        if len(names) == number:
            process.send_signal(signal.SIGKILL)
            break
    process.wait(30)
    process.stdout.close()
    return names


async def test_killed_twice(sweep_server: ServerProcess, tmp_path: Path) -> None:
    """The third attempt completes: each task was pushed once, each run made once, and each output downloaded."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # shown when it fails
    chance = random.Random(seed)
    for most in (16, 12):
        process = begin(sweep_server, tmp_path)
        names = kill_at(process, chance.randint(1, most))
        assert process.returncode == -signal.SIGKILL, names

    process = begin(sweep_server, tmp_path)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    ended = json.loads(said.splitlines()[-1])
    assert (ended["event"], ended["planned"], ended["completed"]) == ("sweep_ended", 6, 6)

    async with sweep_server.client() as client:
        tasks = {slug: await client.get_task(slug) for slug in SLUGS}
        runs = [run for slug in SLUGS async for run in client.list_runs(slug)]
    assert {task.slug.version_number for task in tasks.values()} == {1}
    assert len(runs) == 6
    async with Store.open(sweep_server.data / "state.sqlite") as store:
        rows_of_runs = [await store.get(RunRow, run.id) for run in runs]
    assert {row.judge for row in rows_of_runs if row} == {"test/four"}
    rows = read_results([tmp_path / "out"]).runs
    assert {row.run_id for row in rows} == {run.id for run in runs}
    logs = {path.stem: path.read_bytes() for path in (tmp_path / "out").glob("*/1/*/*.log")}
    assert logs.keys() == {str(run.id) for run in runs}
    async with sweep_server.client() as client:
        for number, log in logs.items():
            kept = [entry.data async for entry in client.logs(int(number))]
            assert log.decode() == "".join(kept)
    assert not list((tmp_path / "out").rglob("*.part"))
