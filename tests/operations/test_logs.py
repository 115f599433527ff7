"""Logs: all are read at once, shown in turn or interleaved, and nothing is lost."""

from __future__ import annotations

import pytest

from fanbench import NotFound, ServerFault
from fanbench.operations.events import LogBegan, LogEnded, LogLine, LogText
from fanbench.operations.task_logs import show_logs
from fanbench.testing import RunScript, SimulatedKaggle
from tests.operations.conftest import Reported, only, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> SimulatedKaggle:
    return simulated("t")


def text_of(reported: Reported, run_id: int) -> str:
    return "".join(event.data for event in reported if isinstance(event, LogText) and event.run.id == run_id)


async def test_logs_in_turn_are_not_mixed(client: SimulatedKaggle, reported: Reported) -> None:
    """Header, text and end of one run come before those of the next, in the server's order."""
    slow = client.add_run("t", "slow", RunScript(running=9, log=[(1, "s1\n"), (8, "s2\n")])).id
    fast = client.add_run("t", "fast", RunScript(running=2, log=[(1, "f1\n")])).id
    report = only(await show_logs(client, ["t"], emit=reported))
    assert [log.run.id for log in report.logs] == [fast, slow]
    marks = [(type(event), event.run.id) for event in reported if isinstance(event, LogBegan | LogEnded)]
    assert marks == [(LogBegan, fast), (LogEnded, fast), (LogBegan, slow), (LogEnded, slow)]
    assert text_of(reported, slow) == "s1\ns2\n"


async def test_all_streams_are_read_while_one_is_shown(client: SimulatedKaggle, reported: Reported) -> None:
    """All streams are opened at the start, so that reading takes as long as the longest run."""
    for _ in range(5):
        client.add_run("t", "m", RunScript(running=10, log=[(9, "x\n")]))
    only(await show_logs(client, ["t"], emit=reported))
    assert client.now() == pytest.approx(10, abs=0.5)
    assert client.times("logs")[:5] == [0] * 5


async def test_a_big_log_that_waits_its_turn_is_whole(client: SimulatedKaggle, reported: Reported) -> None:
    """A log that does not fit into memory goes through the disk in order."""
    pieces = [f"{number} {'é' * 1000}\n" for number in range(300)]
    big = client.add_run("t", "big", RunScript(running=0, log=[(0, piece) for piece in pieces])).id
    client.add_run("t", "first", RunScript(running=5, log=[(4, "x")]))
    only(await show_logs(client, ["t"], emit=reported))
    assert text_of(reported, big) == "".join(pieces)


async def test_interleaved_lines_are_whole_and_in_order(client: SimulatedKaggle, reported: Reported) -> None:
    """Interleaved lines come in the order of time, and no line contains a piece of another."""
    client.add_run("t", "a", RunScript(running=9, log=[(1, "a1\na"), (5, "2\n")]))
    client.add_run("t", "b", RunScript(running=9, log=[(3, "b1\n"), (7, "b2")]))
    report = only(await show_logs(client, ["t"], interleave=True, emit=reported))
    assert [event.line for event in reported if isinstance(event, LogLine)] == ["a1", "b1", "a2", "b2"]
    assert [log.lines for log in report.logs] == [2, 2]


async def test_several_live_runs_are_interleaved_by_default(
    client: SimulatedKaggle, reported: Reported
) -> None:
    """`interleave=None` interleaves if several runs are live."""
    client.add_run("t", "a", RunScript(running=2, log=[(1, "x\n")]))
    only(await show_logs(client, ["t"], interleave=None, emit=reported))
    assert reported.of(LogBegan)
    reported.clear()
    for name in "bc":
        client.add_run("t", name, RunScript(running=2, log=[(1, "x\n")]))
    only(await show_logs(client, ["t"], interleave=None, emit=reported))
    assert not reported.of(LogBegan)


async def test_a_queued_run_has_no_log_and_is_no_failure(client: SimulatedKaggle, reported: Reported) -> None:
    """A queued run has no log, which is not a failure, and the others are shown."""
    client.add_run("t", "m", RunScript(running=0, log=[(0, "x\n")]))
    client.add_run("t", "queued", RunScript(queued=50, running=0, log=()))
    report = only(await show_logs(client, ["t"], emit=reported))
    assert [log.missing for log in report.logs] == [True, False]
    assert report.failed == ()
    assert client.now() < 1


@pytest.mark.parametrize("together", [True, False])
async def test_follow_waits_for_queued_runs(
    client: SimulatedKaggle, reported: Reported, together: bool
) -> None:
    """With `follow`, one list call per poll serves all queued runs."""
    for _ in range(3):
        client.add_run("t", "m", RunScript(queued=20, running=5, log=[(1, "x\n")]))
    report = only(await show_logs(client, ["t"], follow=True, interleave=together, emit=reported))
    assert [log.lines for log in report.logs] == [1, 1, 1]
    assert client.calls["list_runs"] <= 9
    assert client.now() < 40


async def test_a_broken_log_is_a_failure_and_keeps_its_text(
    client: SimulatedKaggle, reported: Reported
) -> None:
    """The text of a log that breaks off is shown, and the others continue."""
    fault = ServerFault("No.", call="GetBenchmarkTaskRunLogs", status=500)
    broken = client.add_run("t", "a", RunScript(running=0, log=[(0, "x\n")], log_error=fault)).id
    whole = client.add_run("t", "b", RunScript(running=0, log=[(0, "y\n")])).id
    report = only(await show_logs(client, ["t"], emit=reported))
    assert [log.run.id for log in report.failed] == [broken]
    assert text_of(reported, broken) == "x\n"
    assert text_of(reported, whole) == "y\n"


async def test_models_filter_the_runs(client: SimulatedKaggle) -> None:
    """Models in any spelling select the runs."""
    client.add_run("t", "google/gemma@default")
    client.add_run("t", "other")
    report = only(await show_logs(client, ["t"], ["gemma@default"]))
    assert [log.run.model_version_slug for log in report.logs] == ["google/gemma@default"]


async def test_a_missing_task_raises_not_found() -> None:
    """A missing task raises NotFound."""
    with pytest.raises(NotFound):
        only(await show_logs(simulated(), ["t"]))
