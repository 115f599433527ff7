"""What every carrier must do, on real processes."""

from __future__ import annotations

import os
import re
import signal
import zipfile
from pathlib import Path

import anyio
import pytest

from fanbench.errors import LocalServerError
from fanbench.local.carriers.job import Outcome, RunFile

from ..server_process import processes_with
from .jobs import SLEEPERS, Record, carry_out, job_of, new_marker, none_left, sleeping
from .ray_cluster import SECRETS
from .rigs import RayRig, Rig, driver_of

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


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
    """A notebook that has reached its end has failed if its output is not stored, and its log says where and why."""
    missing = tmp_path / "missing"
    outcome, record = await carry_out(rig, job_of("print(1)", outputs=f"{missing.as_uri()}/runs/7/1"))
    reason = str(outcome.failure)
    error = re.escape(f"Cannot use {missing.as_uri()}: No such file or directory.")
    assert re.fullmatch(f"The output{rig.where} was not stored: {error}", reason)
    assert f"[fanbench] {reason}\n".encode() in record.text("stderr")
    assert record.text() == b"1\n"


async def test_an_outcome_that_cannot_be_written(rig: Rig) -> None:
    """A run that leaves no room for the report on itself has failed for that reason."""
    code = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    outcome, _ = await carry_out(rig, job_of(code))
    assert outcome.failure is not None
    assert outcome.failure.startswith("The outcome of the run could not be written")


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
    """When the scope of a cancelled run ends, so have the run and its children, and the next run is carried out."""
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
    marker, reasons = new_marker(), list[str]()
    with anyio.fail_after(90):
        async with sleeping(rig.carrier, marker, reasons):
            await rig.kill_worker()
    await none_left(marker)
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


# --- What only a cluster can suffer. Here, so that one process of xdist has the cluster of all tests ---


@pytest.mark.slow
async def test_nothing_of_the_server_reaches_a_worker(ray_rig: RayRig) -> None:
    """No process of Ray's has the server's database, its token, or other variables of its environment."""
    record = Record()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ray_rig.carrier.run, job_of(RUN_THAT_LOOKS), record.started, record.append)
            await record.begun.wait()
            pids = [*ray_rig.nodes.workers(), driver_of(ray_rig.root)]
            assert len(pids) == 2
            told = b"".join(
                Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in ("environ", "cmdline")
            )
            tasks.cancel_scope.cancel()
    assert b"RAY_AUTH_MODE" in told
    for secret in SECRETS.values():
        assert secret.encode() not in told
        assert secret.encode() not in record.text()
    assert str(ray_rig.nodes.folder / "token").encode() not in record.text()


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


@pytest.mark.slow
async def test_worker_folders_are_emptied(ray_rig: RayRig) -> None:
    """Nothing of an ended run is left on its machine."""
    job = job_of("open('secret.txt', 'w').write('x')")
    outcome, _ = await carry_out(ray_rig, job)
    assert outcome.failure is None
    assert [*ray_rig.nodes.folder.glob("workers/worker-*")] != []
    assert [*ray_rig.nodes.folder.glob(f"workers/worker-*/{job.name}")] == []


@pytest.mark.slow
async def test_a_server_that_ends(ray_rig: RayRig) -> None:
    """The runs of a driver that is killed, as with its server, end with it, and another carries out new ones."""
    marker, reasons = new_marker(), list[str]()
    with anyio.fail_after(60):
        async with sleeping(ray_rig.carrier, marker, reasons):
            os.kill(driver_of(ray_rig.root), signal.SIGKILL)
    assert reasons == ["the connection to Ray was lost"]
    await none_left(marker)
    outcome, _ = await carry_out(ray_rig, job_of("print(1)"))
    assert outcome.failure is None


@pytest.mark.slow
async def test_a_node_that_dies(ray_rig: RayRig) -> None:
    """Its run is lost and leaves no process, and the next one is carried out by a node that joins."""
    marker, reasons, nodes = new_marker(), list[str](), ray_rig.nodes
    with anyio.fail_after(60):
        async with sleeping(ray_rig.carrier, marker, reasons):
            (worker,) = nodes.workers()
            await nodes.kill(nodes.node_of(worker))
    assert "died" in reasons[0]
    await none_left(marker)
    await nodes.add()
    outcome, _ = await carry_out(ray_rig, job_of("print(1)"))
    assert outcome.failure is None
