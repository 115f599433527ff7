"""What only a cluster can suffer: nodes that die, freeze or join late, and a driver or a head that is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from fanbench.errors import LocalServerError
from fanbench.local.carriers import Carrier
from fanbench.local.carriers.job import RunLost
from fanbench.local.carriers.ray.carrier import RayCarrier
from fanbench.local.executor.lifetime import children

from .ray_cluster import RayNodes
from .rigs import Rig
from .test_contract import SLEEPERS, Record, carry_out, job_of, new_marker, processes_with

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.slow]

SECRETS = {
    "FANBENCH_DATABASE": "postgresql://me:a-password@db/bench",
    "FANBENCH_TOKEN": "a-token-of-the-server",
}


def no_output(_name: str) -> Path | None:
    return None


@asynccontextmanager
async def opened(
    nodes: RayNodes, folder: Path, datasets: Path, **options: float
) -> AsyncIterator[RayCarrier]:
    with anyio.fail_after(110):
        async with RayCarrier.open(nodes.cluster(folder, datasets, **options), no_output, print) as carrier:
            yield carrier


@asynccontextmanager
async def sleeping(carrier: Carrier, marker: str, reasons: list[str]) -> AsyncIterator[Record]:
    """A run with children, in progress. Why it was lost is appended to `reasons` at the end of the block."""
    record = Record()
    job = job_of(f"{SLEEPERS.format(marker=marker)}\nimport time; time.sleep(600)")

    async def lose() -> None:
        with pytest.raises(RunLost) as caught:
            await carrier.run(job, record.started, record.append)
        reasons.append(str(caught.value))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        await record.begun.wait()
        yield record


async def none_left(marker: str) -> None:
    with anyio.fail_after(30):
        while processes_with(marker):
            await anyio.sleep(0.02)


async def test_a_node_that_dies(ray_rig: Rig, ray_nodes: RayNodes) -> None:
    """Its run is lost and leaves no process, and another node carries out the next one."""
    marker, reasons = new_marker(), list[str]()
    await ray_nodes.ensure(2)
    with anyio.fail_after(60):
        async with sleeping(ray_rig.carrier, marker, reasons):
            (worker,) = ray_nodes.workers()
            await ray_nodes.kill(ray_nodes.node_of(worker))
    assert "died" in reasons[0]
    await none_left(marker)
    outcome, _ = await carry_out(ray_rig, job_of("print(1)"))
    assert outcome.failure is None


async def test_a_node_that_freezes(ray_nodes: RayNodes, tmp_path: Path, datasets: Path) -> None:
    """A run whose node says nothing for some time is lost, and a cancelled one does not wait for the node."""
    marker, reasons = new_marker(), list[str]()
    await ray_nodes.ensure(2)
    async with opened(ray_nodes, tmp_path, datasets, alive_every=0.3, silence=4.0) as carrier:
        async with sleeping(carrier, marker, reasons):
            (worker,) = ray_nodes.workers()
            node = ray_nodes.node_of(worker)
            ray_nodes.signal(node, signal.SIGSTOP)
        assert reasons == [f"its node {node} has said nothing for 4 s"]
        ray_nodes.signal(node, signal.SIGCONT)
        await none_left(marker)
    await ray_nodes.kill(node)


async def test_a_node_that_joins_late(ray_nodes: RayNodes, tmp_path: Path, datasets: Path) -> None:
    """Runs wait as long as there is no processor, without having started; a new node takes them."""
    for node in [*ray_nodes.nodes][1:]:
        await ray_nodes.kill(node)
    records = [Record(), Record()]
    async with (
        opened(ray_nodes, tmp_path, datasets, alive_every=0.3, silence=3.0) as carrier,
        anyio.create_task_group() as tasks,
    ):
        for record in records:
            tasks.start_soon(carrier.run, job_of("print('done')"), record.started, record.append)
        # Longer than the silence after which a run that has started would be lost.
        await anyio.sleep(3.5)
        assert [record.starts for record in records] == [0, 0]
        await ray_nodes.add()
    assert [record.text() for record in records] == [b"done\n", b"done\n"]


async def test_a_server_that_ends(ray_nodes: RayNodes, tmp_path: Path, datasets: Path) -> None:
    """The runs of a server that is killed end with it, and the next one carries out new ones."""
    marker, reasons = new_marker(), list[str]()
    async with opened(ray_nodes, tmp_path, datasets) as carrier:
        async with sleeping(carrier, marker, reasons):
            os.kill(driver_of(tmp_path), signal.SIGKILL)
        assert reasons == ["the connection to Ray was lost"]
        await none_left(marker)
        record = Record()
        assert (await carrier.run(job_of("print(1)"), record.started, record.append)).failure is None


@pytest.mark.long
async def test_runs_that_wait_survive_the_driver(ray_nodes: RayNodes, tmp_path: Path, datasets: Path) -> None:
    """A run that no worker had when the driver died is not lost: it waits in the queue again."""
    marker, reasons = new_marker(), list[str]()
    records = [Record() for _ in range(4)]
    await ray_nodes.ensure(2)
    async with (
        opened(ray_nodes, tmp_path, datasets) as carrier,
        anyio.create_task_group() as tasks,
        sleeping(carrier, marker, reasons),
        sleeping(carrier, marker, reasons),
    ):
        for record in records:
            tasks.start_soon(carrier.run, job_of("print('done')"), record.started, record.append)
        os.kill(driver_of(tmp_path), signal.SIGKILL)
    assert [(record.starts, record.text()) for record in records] == [(1, b"done\n")] * 4


def driver_of(folder: Path) -> int:
    """The driver of the carrier with this data folder: the only one that was started with its log as stderr."""
    (driver,) = [
        pid
        for pid in children(os.getpid())
        if os.path.realpath(f"/proc/{pid}/fd/2") == os.path.realpath(folder / "ray.log")
    ]
    return driver


async def test_nothing_of_the_server_reaches_a_worker(
    ray_nodes: RayNodes, tmp_path: Path, datasets: Path
) -> None:
    """No process of Ray's has the server's database, its token, or other variables of its environment."""
    server = RayNodes(ray_nodes.folder, ray_nodes.environment | SECRETS, head=ray_nodes.head)
    (tmp_path / "token").write_text("a-token-in-a-file")
    record = Record()
    async with opened(server, tmp_path, datasets) as carrier, anyio.create_task_group() as tasks:
        tasks.start_soon(carrier.run, job_of(RUN_THAT_LOOKS), record.started, record.append)
        await record.begun.wait()
        pids = [*ray_nodes.workers(), driver_of(tmp_path)]
        assert len(pids) == 2
        told = b"".join(
            Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in ("environ", "cmdline")
        )
        tasks.cancel_scope.cancel()
    assert b"RAY_AUTH_MODE" in told
    for secret in (b"a-password", b"a-token-of-the-server", b"a-token-in-a-file"):
        assert secret not in told
        assert secret not in record.text()
    assert str(ray_nodes.folder / "token").encode() not in record.text()


RUN_THAT_LOOKS = """
import os, pathlib, time
print(dict(os.environ))
for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
    try:
        print(path.read_bytes())
    except OSError:
        pass
print('begun', flush=True)
time.sleep(600)
"""


async def test_ray_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint has the command that adds the extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(LocalServerError, match=r"Ray is not installed\.") as caught:
        async with opened(RayNodes(tmp_path, {}, head="127.0.0.1:9"), tmp_path, tmp_path):
            pass
    assert "ray" in str(caught.value.hint)


async def test_a_cluster_that_does_not_exist(tmp_path: Path) -> None:
    """The address is named, and how to find it."""
    nodes = RayNodes(tmp_path, dict(os.environ), head="127.0.0.1:9")
    with pytest.raises(
        LocalServerError, match=r"There is no Ray cluster at 127\.0\.0\.1:9: Connection refused\."
    ) as caught:
        async with opened(nodes, tmp_path, tmp_path):
            pass
    assert caught.value.hint is not None


async def test_a_wrong_token(ray_nodes: RayNodes, tmp_path: Path, datasets: Path) -> None:
    """A token that the cluster does not know is refused, and the message names the variables."""
    token = tmp_path / "other-token"
    token.write_text("f" * 64)
    environment = {**ray_nodes.environment, "RAY_AUTH_TOKEN_PATH": str(token)}
    nodes = RayNodes(tmp_path, environment, head=ray_nodes.head)
    with pytest.raises(LocalServerError, match="does not accept our token") as caught:
        async with opened(nodes, tmp_path, datasets):
            pass
    assert "RAY_AUTH_TOKEN_PATH" in str(caught.value.hint)


async def test_other_versions(
    ray_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ray_nodes: RayNodes, datasets: Path
) -> None:
    """A worker with another fanbench carries out nothing, and names both versions and its node."""
    (tmp_path / "sitecustomize.py").write_text("import fanbench.version as v; v.__version__ = '0.0.9'\n")
    environment = {**ray_nodes.environment}
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    other = RayNodes(ray_nodes.folder, environment, head=ray_nodes.head)
    record = Record()
    async with opened(other, tmp_path / "data", datasets) as carrier:
        with pytest.raises(
            LocalServerError,
            match=r"The node 127\.0\.0\.\d+ has fanbench .*, and the server has fanbench 0\.0\.9",
        ):
            await carrier.run(job_of("print(1)"), record.started, record.append)


async def test_worker_folders_are_emptied(ray_rig: Rig, ray_nodes: RayNodes) -> None:
    """Nothing of an ended run is left on its machine."""
    outcome, _ = await carry_out(ray_rig, job_of("open('secret.txt', 'w').write('x')"))
    assert outcome.failure is None
    assert [*ray_nodes.folder.glob("workers/worker-*/runs/*")] == []
