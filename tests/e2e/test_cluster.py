"""A sweep on two machines of a Ray cluster, one of which dies in the middle."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import anyio
import msgspec
import pytest

from fanbench._util import files
from fanbench.local.folder import DataFolder
from tests.local.carriers.ray_cluster import RayNodes
from tests.local.server_process import run_server

from .test_real_models import EXAMPLES, GEMMA, MODELS, SMOLLM2

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.timeout(400),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif("FANBENCH_TEST_MODELS" not in os.environ, reason="no models"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_sweep_whose_machine_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three tasks is run once on each of two models, and the run that was lost is completed elsewhere."""
    with files.temporary_folder("fanbench-test-", Path("/tmp")) as folder:
        async with RayNodes.open(folder) as nodes:
            for name, value in nodes.environment.items():
                monkeypatch.setenv(name, value)
            options = ["--engine", f"ray://{nodes.head}", "--host", "0.0.0.0"]
            with run_server(tmp_path / "data", *options, models=MODELS.read_text()) as server:
                runs = DataFolder(server.data).logs
                command = [
                    "sweep",
                    str(EXAMPLES),
                    "-m",
                    SMOLLM2,
                    "-m",
                    GEMMA,
                    "-y",
                    "-o",
                    str(tmp_path / "out"),
                ]
                command += ["--local", "--data", str(server.data)]
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(sweep, command)
                    await replace_the_busy_node(nodes, runs)
                async with server.client() as client:
                    found = [
                        (task, run.model_version_slug, run.state.label)
                        for task in ("arithmetic", "capital-cities", "word-table")
                        async for run in client.list_runs(task)
                    ]
                lost = [
                    path for path in runs.glob("[0-9]*.jsonl") if b"The run was lost: " in path.read_bytes()
                ]
    models = ("gemma-3-270m", "smollm2-135m-instruct")
    assert sorted(found) == [
        (task, model, "COMPLETED")
        for task in ("arithmetic", "capital-cities", "word-table")
        for model in models
    ]
    assert len(lost) == 1
    assert b"It starts again: attempt 2." in lost[0].read_bytes()
    summary = msgspec.json.decode((tmp_path / "out/summary.json").read_bytes())
    assert len(summary["runs"]) == 6


async def sweep(command: list[str]) -> None:
    done = await anyio.run_process([sys.executable, "-m", "fanbench", *command], check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    print(done.stdout.decode())


async def replace_the_busy_node(nodes: RayNodes, logs: Path) -> None:
    """Kill the only node that carries out runs, once all pushes are done and a run has begun, and add another."""
    while not [*logs.glob("[0-9]*.jsonl")]:
        await anyio.sleep(0.02)
    while not (workers := nodes.workers()):
        await anyio.sleep(0.005)
    await nodes.kill(nodes.node_of(workers[0]))
    await nodes.add()
