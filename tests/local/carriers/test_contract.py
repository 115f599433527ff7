"""What every carrier must do, on real processes."""

from __future__ import annotations

import json
import secrets
import zipfile
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from fanbench.errors import LocalServerError
from fanbench.local.carriers.job import NotebookJob, Outcome, RunFile, RunLost
from fanbench.local.executor.environment import model_variables

from .rigs import Rig

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

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
    cell: dict[str, Any] = {
        "cell_type": "code",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": code,
    }
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    variables = model_variables(
        proxy_url="http://127.0.0.1:9/models",
        proxy_key="key",
        model="test/four",
        judge="test/four",
        available=["test/four"],
    )
    settings = {"time_limit": 60.0, "variables": variables, **fields}
    return NotebookJob(name=f"runs/{next(_numbers)}", notebook=json.dumps(notebook), **settings)


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


def processes_with(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if marker.encode() in words:
            found.append(path.parent.name)
    return found


def new_marker() -> str:
    return f"9{secrets.randbelow(10**8):08}"


async def test_a_run_is_brought_back_whole(rig: Rig) -> None:
    """The lines of each stream come in their order, the run files are summarized, and the start is said once."""
    job = job_of(
        "import json, sys\n"
        "for n in range(2000):\n"
        "    print('out', n, flush=n % 50 == 0)\n"
        "    if n % 10 == 0: print('err', n, file=sys.stderr)\n"
        "content = {'taskVersion': {'name': 'My Task'}, 'modelVersion': {'slug': 'test/four'}, 'state': 'X'}\n"
        "json.dump(content, open('a.run.json', 'w'))\n"
    )
    outcome, record = await carry_out(rig, job)
    assert outcome == Outcome(run_files=[RunFile(task="my-task", state="X", error="", model="test/four")])
    assert record.text().decode().splitlines() == [f"out {n}" for n in range(2000)]
    assert record.text("stderr").decode().splitlines() == [f"err {n}" for n in range(0, 2000, 10)]
    assert record.starts == 1
    with zipfile.ZipFile(await rig.output(job)) as archive:
        assert {"a.run.json", "__notebook__.ipynb", "__notebook_source__.ipynb"} == {*archive.namelist()}


async def test_an_output_is_uploaded(rig: Rig, tmp_path: Path) -> None:
    """A job with a place for its output has uploaded it when it ends, also if its notebook has failed."""
    job = job_of(
        "open('a.txt', 'w').write('a'); raise ValueError('no')", outputs=f"{tmp_path.as_uri()}/runs/7/1"
    )
    outcome, _ = await carry_out(rig, job)
    assert outcome.failure is not None
    assert outcome.failure.endswith("ValueError: no\n")
    with (
        zipfile.ZipFile(tmp_path / "runs/7/1.zip") as plain,
        zipfile.ZipFile(tmp_path / "runs/7/1-source.zip") as full,
    ):
        assert plain.namelist() == ["a.txt"]
        assert full.namelist() == ["a.txt", "__notebook__.ipynb", "__notebook_source__.ipynb"]


async def test_an_output_that_cannot_be_uploaded(rig: Rig, tmp_path: Path) -> None:
    """A notebook that has reached its end has failed if its output is not stored, and its log says why."""
    missing = tmp_path / "missing"
    outcome, record = await carry_out(rig, job_of("print(1)", outputs=f"{missing.as_uri()}/runs/7/1"))
    reason = f"The output was not stored: Cannot use {missing.as_uri()}: No such file or directory."
    assert outcome.failure == reason
    assert f"[fanbench] {reason}\n".encode() in record.text("stderr")
    assert record.text() == b"1\n"


async def test_a_notebook_that_fails(rig: Rig) -> None:
    """The outcome has the traceback of the cell that raised."""
    outcome, record = await carry_out(rig, job_of("print('before')\nraise ValueError('no')"))
    assert outcome.failure is not None
    assert outcome.failure.endswith("ValueError: no\n")
    assert record.text() == b"before\n"


async def test_a_process_that_dies(rig: Rig) -> None:
    """A run that kills itself has failed: it is not lost, and the next one is carried out."""
    outcome, _ = await carry_out(rig, job_of("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert outcome.failure == "The run's process was killed by SIGKILL before the notebook came to its end."
    outcome, _ = await carry_out(rig, job_of("print(1)"))
    assert outcome.failure is None


async def test_the_time_limit_ends_all_processes(rig: Rig) -> None:
    """A run that takes too long is stopped with its children, and its outcome says so."""
    marker = new_marker()
    job = job_of(f"{SLEEPERS.format(marker=marker)}\nimport time; time.sleep(600)", time_limit=2.0)
    outcome, record = await carry_out(rig, job)
    assert outcome.failure == "Timed out: the run was stopped after 2 s (the server's --run-timeout)."
    assert record.begun.is_set()
    assert processes_with(marker) == []


async def test_a_cancelled_run_leaves_no_process(rig: Rig) -> None:
    """When the scope of a cancelled run ends, so have the run and its children. The next run is carried out."""
    marker, record = new_marker(), Record()
    job = job_of(f"{SLEEPERS.format(marker=marker)}\nimport time; time.sleep(600)")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.carrier.run, job, record.started, record.append)
            await record.begun.wait()
            assert processes_with(marker)
            tasks.cancel_scope.cancel()
    assert processes_with(marker) == []
    outcome, _ = await carry_out(rig, job_of("print(1)"))
    assert outcome.failure is None


async def test_a_worker_that_is_killed(rig: Rig) -> None:
    """Its run is lost, not failed, none of its processes is left, and the next run has a new worker."""
    marker, record = new_marker(), Record()
    job = job_of(f"{SLEEPERS.format(marker=marker)}\nimport time; time.sleep(600)")
    reasons = []

    async def lose() -> None:
        with pytest.raises(RunLost) as caught:
            await rig.carrier.run(job, record.started, record.append)
        reasons.append(str(caught.value))

    with anyio.fail_after(90):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lose)
            await record.begun.wait()
            await rig.kill_worker()
        while processes_with(marker):
            await anyio.sleep(0.02)
    assert reasons[0]
    assert not reasons[0].endswith(".")
    outcome, _ = await carry_out(rig, job_of("print(1)"))
    assert outcome.failure is None


@pytest.mark.parametrize("size", [200_000, 50_000_000])
async def test_outputs_of_any_size(rig: Rig, size: int) -> None:
    """Files and lines of a run come back byte for byte."""
    job = job_of(
        "import random\n"
        f"open('big.bin', 'wb').write(random.Random(1).randbytes({size}))\n"
        "print('x' * 200_000)\n"
    )
    outcome, record = await carry_out(rig, job)
    assert outcome.failure is None
    assert record.text() == b"x" * 200_000 + b"\n"
    with zipfile.ZipFile(await rig.output(job)) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("big.bin").file_size == size


async def test_what_a_run_sees(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has the job's variables, its datasets, and a working folder; it has no other variables of the machine."""
    monkeypatch.setenv("OPENAI_API_KEY", "a secret of the server")
    code = (
        "import os\n"
        "print(os.environ['LLM_DEFAULT'], 'OPENAI_API_KEY' in os.environ, 'MODEL_PROXY_EXPIRY_TIME' in os.environ)\n"
        "for root in ('/kaggle/input', '../input'):\n"
        "    if os.path.isdir(root): break\n"
        "print(open(f'{root}/words/words.csv').read().split())\n"
        "print(os.listdir())\n"
    )
    outcome, record = await carry_out(rig, job_of(code, datasets=["me/words"]))
    assert outcome.failure is None, outcome.failure
    assert record.text() == b"test/four False True\n['word', 'alpha', 'beta']\n[]\n"


async def test_a_dataset_that_is_not_there(rig: Rig) -> None:
    """The job is refused by the name of the dataset, before anything of it is executed."""
    record = Record()
    with anyio.fail_after(60), pytest.raises(LocalServerError, match="There is no dataset me/nothing below"):
        await rig.carrier.run(job_of("print(1)", datasets=["me/nothing"]), record.started, record.append)
    assert record.pieces == []


async def test_many_runs_at_once(rig: Rig) -> None:
    """Each of twelve runs has its own output."""
    records = [Record() for _ in range(12)]
    with anyio.fail_after(90):
        async with anyio.create_task_group() as tasks:
            for number, record in enumerate(records):
                job = job_of(f"import time; time.sleep(0.1); print({number})")
                tasks.start_soon(rig.carrier.run, job, record.started, record.append)
    assert [record.text() for record in records] == [f"{n}\n".encode() for n in range(12)]
