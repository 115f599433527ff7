"""What a cluster can suffer besides, with longer waits; and why a server cannot use it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

import anyio
import pytest

from fanbench.errors import LocalServerError
from fanbench.local.carriers.ray.carrier import RayCarrier, examine_cluster

from .jobs import Record, job_of, new_marker, none_left, sleeping
from .ray_cluster import RayNodes
from .rigs import driver_of

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


def no_output(_name: str) -> Path | None:
    return None


@asynccontextmanager
async def opened(
    nodes: RayNodes, folder: Path, datasets: Path, **options: float
) -> AsyncIterator[RayCarrier]:
    with anyio.fail_after(110):
        async with RayCarrier.open(nodes.cluster(folder, datasets, **options), no_output, print) as carrier:
            yield carrier


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
async def test_what_is_found_at_a_cluster(ray_nodes: RayNodes, tmp_path: Path, datasets: Path) -> None:
    """The versions fit, and the machines count on which runs can be carried out, so not the head without processors."""
    await ray_nodes.ensure(2)
    found = await examine_cluster(ray_nodes.cluster(tmp_path, datasets))
    assert (found.machines, found.cpus, found.has_token) == (2, 2, True)
    assert found.ray == metadata.version("ray")


@pytest.mark.long
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


@pytest.mark.long
async def test_other_versions(ray_nodes: RayNodes, tmp_path: Path, datasets: Path) -> None:
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
