"""What the contract of carriers needs of each of them, beside the carrier: its output, and ways to harm it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from fanbench.local.carriers import Carrier
from fanbench.local.carriers.job import NotebookJob
from fanbench.local.carriers.local import LocalCarrier
from fanbench.local.carriers.ray.carrier import RayCarrier
from fanbench.local.environments import Environments
from fanbench.local.executor.lifetime import children
from fanbench.local.zips import write_output_zip

from ..server_process import children_with
from .ray_cluster import RayNodes


class Rig(Protocol):
    """A carrier in its surroundings."""

    @property
    def carrier(self) -> Carrier: ...

    @property
    def where(self) -> str:
        """A regular expression for how messages name the machine of a run."""
        ...

    async def output(self, job: NotebookJob) -> Path:
        """The zip with the output of a job that has ended."""
        ...

    async def kill_worker(self) -> None:
        """Kill what carries out the only run in progress."""
        ...


@dataclass
class LocalRig:
    carrier: LocalCarrier
    root: Path
    where: str = ""

    @staticmethod
    @asynccontextmanager
    async def open(folder: Path, datasets: Path) -> AsyncIterator[LocalRig]:
        environments = Environments(folder / "environments")
        async with LocalCarrier.open(
            folder, environments, datasets, "fork", folder / "worker.log"
        ) as carrier:
            yield LocalRig(carrier, folder)

    async def output(self, job: NotebookJob) -> Path:
        target = output_of(self.root, job.name)
        await anyio.to_thread.run_sync(
            lambda: write_output_zip(self.root / job.name, target, include_source=True)
        )
        return target

    async def kill_worker(self) -> None:
        (forkserver,) = children_with(os.getpid(), "executor.forkserver")
        os.kill(forkserver, signal.SIGKILL)


@dataclass
class RayRig:
    carrier: RayCarrier
    nodes: RayNodes
    root: Path
    where: str = r" on the node 127\.0\.0\.\d+"

    @staticmethod
    @asynccontextmanager
    async def open(folder: Path, nodes: RayNodes, datasets: Path) -> AsyncIterator[RayRig]:
        cluster = nodes.cluster(folder, datasets)
        async with RayCarrier.open(cluster, lambda name: output_of(folder, name), print) as carrier:
            yield RayRig(carrier, nodes, folder)

    async def output(self, job: NotebookJob) -> Path:
        return output_of(self.root, job.name)

    async def kill_worker(self) -> None:
        (worker,) = self.nodes.workers()
        os.kill(worker, signal.SIGKILL)


def output_of(root: Path, name: str) -> Path:
    return root / "outputs" / f"{name.replace('/', '-')}.zip"


def driver_of(folder: Path) -> int:
    """The driver of the carrier with this data folder: the only one that was started with its log as stderr."""
    (driver,) = [
        pid
        for pid in children(os.getpid())
        if os.path.realpath(f"/proc/{pid}/fd/2") == os.path.realpath(folder / "ray.log")
    ]
    return driver
