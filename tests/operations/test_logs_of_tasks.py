"""The logs of several tasks, and the files in which complete logs are kept."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from fanbench import Client, ServerFault
from fanbench.operations.events import LogLine
from fanbench.operations.task_logs import LogReport, show_logs
from fanbench.testing import Damage, Fault, RunScript, SimulatedKaggle, SimulatedTransport
from fanbench.wire.retry import RetryPolicy
from tests.operations.conftest import Reported, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> SimulatedKaggle:
    return simulated(*"abc", versions=3)


async def test_logs_of_several_tasks_are_read_at_once(client: SimulatedKaggle, reported: Reported) -> None:
    """Interleaved lines of several tasks come in the order of time."""
    client.add_run("a", "m", RunScript(running=9, log=[(1, "a1\n"), (5, "a2\n")]))
    client.add_run("b", "m", RunScript(running=9, log=[(3, "b1\n")]))
    reports = await show_logs(client, ["b", "nope", "a"], interleave=True, emit=reported)
    assert [event.line for event in reported if isinstance(event, LogLine)] == ["a1", "b1", "a2"]
    assert client.now() == pytest.approx(9, abs=0.5)
    slugs = [report.slug if isinstance(report, LogReport) else None for report in reports]
    assert slugs == ["b", None, "a"]


@pytest.mark.parametrize("together", [True, False])
async def test_complete_logs_become_files(client: SimulatedKaggle, tmp_path: Path, together: bool) -> None:
    """Each complete log becomes a file in the layout of downloads, whatever its size."""
    text = "é\n" * 100_000
    run = client.add_run("a", "google/m@1", RunScript(running=0, log=[(0, text), (0, "end")])).id
    empty = client.add_run("a", "n").id
    (report,) = await show_logs(client, ["a"], interleave=together, output=tmp_path)
    assert isinstance(report, LogReport)
    path = tmp_path / f"a/3/m-1/{run}.log"
    assert path.read_text() == f"{text}end"
    assert (tmp_path / f"a/3/n/{empty}.log").read_text() == ""
    assert sorted(str(log.path) for log in report.logs) == sorted(str(p) for p in tmp_path.rglob("*.log"))


@pytest.mark.parametrize("together", [True, False])
async def test_an_incomplete_log_makes_no_file(
    client: SimulatedKaggle, tmp_path: Path, together: bool
) -> None:
    """A log that broke off, or does not exist yet, makes no file and leaves an earlier one as it was."""
    fault = ServerFault("No.", call="GetBenchmarkTaskRunLogs", status=500)
    broken = client.add_run("a", "m", RunScript(running=0, log=[(0, "x" * 100_000)], log_error=fault)).id
    client.add_run("a", "queued", RunScript(queued=50, running=0, log=()))
    earlier = tmp_path / f"a/3/m/{broken}.log"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    (report,) = await show_logs(client, ["a"], interleave=together, output=tmp_path)
    assert isinstance(report, LogReport)
    assert [log.path for log in report.logs] == [None, None]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [earlier]
    assert earlier.read_text() == "earlier"


@pytest.mark.parametrize("together", [True, False])
async def test_a_folder_that_cannot_be_written(
    client: SimulatedKaggle, tmp_path: Path, together: bool
) -> None:
    """A log file that cannot be written is an error of the run, with a hint."""
    (tmp_path / "a").write_text("in the way")
    client.add_run("a", "m", RunScript(running=0, log=[(0, "x\n")]))
    (report,) = await show_logs(client, ["a"], interleave=together, output=tmp_path)
    assert isinstance(report, LogReport)
    (failed,) = report.failed
    path = tmp_path / f"a/3/m/{failed.run.id}.log"
    assert str(failed.error).startswith(f"Cannot write the log {path}: ")
    assert failed.error is not None
    assert failed.error.hint is not None
    assert "-o" in failed.error.hint


async def test_a_log_that_is_left_early_leaves_no_file(client: SimulatedKaggle, tmp_path: Path) -> None:
    """A cancelled command leaves no file behind."""
    client.add_run("a", "m", RunScript(running=99, log=[(0, "x" * 100_000), (50, "y")]))
    with anyio.move_on_after(20):
        await show_logs(client, ["a"], output=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", ["sse_end", "sse_garbled", "sse_duplicated"])
@pytest.mark.parametrize("together", [True, False])
async def test_a_live_log_with_a_defect_is_whole(together: bool, damage: Damage, tmp_path: Path) -> None:
    """A live log that ends early, is garbled, or comes twice is shown whole, and kept as the server has it."""
    kaggle = simulated("t", faults=(Fault("logs", damage=damage),))
    log = [(second + 0.5, f"line {second}\n") for second in range(10)]
    run = kaggle.add_run("t", "m", RunScript(running=20, log=log))
    async with Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
        (report,) = await show_logs(client, ["t"], interleave=together, output=tmp_path)
    assert isinstance(report, LogReport)
    assert [(log.lines, log.error) for log in report.logs] == [(10, None)]
    assert (tmp_path / f"t/1/m/{run.id}.log").read_text() == run.log


async def test_a_server_that_keeps_failing_is_not_asked_for_minutes() -> None:
    """A log that cannot be opened is given up once the client has repeated the call for its patience."""
    kaggle = simulated("t", faults=(Fault("logs", 500, times=1000),))
    kaggle.add_run("t", "m", RunScript(running=1000))
    policy = RetryPolicy(total=20.0, random=lambda: 1.0)
    async with Client(kaggle.config, http=SimulatedTransport(kaggle), retry=policy) as client:
        (report,) = await show_logs(client, ["t"])
    assert isinstance(report, LogReport)
    assert isinstance(report.logs[0].error, ServerFault)
    assert 10 < kaggle.now() < 21
