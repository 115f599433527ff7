"""Jobs for carriers, and what is left of them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
import pytest

from fanbench.local.carriers import Carrier
from fanbench.local.carriers.job import NotebookJob, Outcome, RunLost
from fanbench.local.executor.environment import model_variables
from fanbench.tasks import to_notebook

from ..server_process import processes_with
from .rigs import Rig

_numbers = count(1)

SLEEPERS = """
import subprocess, sys
for _ in range(3):
    subprocess.Popen(["sleep", "{marker}"])
subprocess.Popen(["setsid", "sleep", "{marker}"])
print("begun", flush=True)
"""
"""Starts children that outlive their notebook if they can. The marker is a number of seconds that no other has."""


def job_of(code: str, **fields: Any) -> NotebookJob:
    variables = model_variables(
        proxy_url="http://127.0.0.1:9/models",
        proxy_key="key",
        model="test/four",
        judge="test/four",
        available=["test/four"],
    )
    settings = {"time_limit": 60.0, "variables": variables, **fields}
    return NotebookJob(name=f"runs/{next(_numbers)}", notebook=to_notebook(code), **settings)


class Record:
    """What a carrier said of one job."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, bytes]] = []
        self.starts = 0
        self.begun = anyio.Event()

    async def started(self) -> None:
        assert not self.pieces, "output before the start"
        self.starts += 1

    def append(self, stream: str, data: bytes) -> None:
        self.pieces.append((stream, data))
        if b"begun" in self.text():
            self.begun.set()

    def text(self, stream: str = "stdout") -> bytes:
        return b"".join(data for name, data in self.pieces if name == stream)


async def carry_out(rig: Rig, job: NotebookJob) -> tuple[Outcome, Record]:
    record = Record()
    with anyio.fail_after(90):
        return await rig.carrier.run(job, record.started, record.append), record


def new_marker() -> str:
    return f"9{secrets.randbelow(10**8):08}"


async def none_left(marker: str) -> None:
    with anyio.fail_after(30):
        while processes_with(marker):
            await anyio.sleep(0.02)


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
