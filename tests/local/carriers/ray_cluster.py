"""A Ray cluster on this machine: a head without processors, and nodes of one processor that can be harmed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import Process

from fanbench.local.carriers.ray.carrier import Cluster
from fanbench.local.executor.lifetime import descendants

from ..server_process import command_line

SECRETS = {
    "FANBENCH_DATABASE": "postgresql://me:a-password@db/bench",
    "FANBENCH_TOKEN": "a-token-of-the-server",
}
"""In the environment of each server, and not for its workers."""

START_SECONDS = 60
STARTS = 3
"""A node gives up if its parts need over 15 s."""


@dataclass
class RayNodes:
    """The nodes of one cluster. Each is a process, whose death is that of the node."""

    folder: Path
    environment: dict[str, str]
    head: str = ""
    nodes: dict[str, Process] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    @staticmethod
    @asynccontextmanager
    async def open(folder: Path) -> AsyncIterator[RayNodes]:
        token = folder / "token"
        token.write_text("0123456789abcdef" * 4)
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        environment |= {
            "FANBENCH_WORKER_DATA": str(folder / "workers"),
            "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), *sys.path]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        cluster = RayNodes(folder, environment)
        try:
            await cluster.add(cpus=0)
            await cluster.add()
            yield cluster
        finally:
            with anyio.CancelScope(shield=True):
                for ip in [*cluster.nodes]:
                    await cluster.kill(ip)

    async def add(self, *, cpus: int = 1) -> str:
        """Start a node, and return its address once it is one."""
        ip = f"127.0.0.{next(self._numbers)}"
        words = ["tests.local.carriers.ray_node", str(self.folder / "ray"), ip, str(cpus), self.head]
        for _ in range(STARTS):
            with (self.folder / f"{ip}.log").open("ab") as log:
                process = await anyio.open_process(
                    [sys.executable, "-m", "fanbench.local.executor.lifetime", sys.executable, "-m", *words],
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                    env=self.environment,
                    start_new_session=True,
                )
            assert process.stdout is not None
            with anyio.move_on_after(START_SECONDS), suppress(anyio.EndOfStream):
                address = (await process.stdout.receive()).decode().strip()
                self.head = self.head or address
                self.nodes[ip] = process
                return ip
            with suppress(ProcessLookupError):
                process.kill()
            await process.aclose()
        raise AssertionError((self.folder / f"{ip}.log").read_text())

    async def ensure(self, number: int) -> None:
        """Start as many nodes as are missing beside the head."""
        async with anyio.create_task_group() as starting:
            for _ in range(number + 1 - len(self.nodes)):
                starting.start_soon(self.add)

    async def kill(self, ip: str) -> None:
        """Let a node die at once, as if somebody had pulled the plug."""
        process = self.nodes.pop(ip)
        for pid in (process.pid, *descendants(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.aclose()

    def signal(self, ip: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a node."""
        for pid in (self.nodes[ip].pid, *descendants(self.nodes[ip].pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def node_of(self, pid: int) -> str:
        """The node to which a process belongs."""
        return next(ip for ip, process in self.nodes.items() if pid in descendants(process.pid))

    def workers(self) -> list[int]:
        """The processes that carry out a run at this moment."""
        return [
            pid
            for process in self.nodes.values()
            for pid in descendants(process.pid)
            if command_line(pid).startswith("ray::carry_out")
        ]

    def cluster(self, folder: Path, datasets: Path, **options: float) -> Cluster:
        """What a server with this data folder is told of the cluster."""
        folder.mkdir(exist_ok=True)
        return Cluster(
            address=self.head,
            folder=folder,
            datasets=datasets,
            environment=self.environment | SECRETS,
            **options,  # type: ignore[arg-type]
        )
