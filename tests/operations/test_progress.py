"""The progress of downloads and logs, as it is reported meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from fanbench import ConnectionFailed
from fanbench.operations.download import DownloadsBegan, download_tasks
from fanbench.operations.events import Downloading, Event, LogRead
from fanbench.operations.task_logs import show_logs
from fanbench.testing import RunScript, SimulatedKaggle
from fanbench.wire.downloads import Downloaded
from tests.operations.conftest import INSTANT, Reported, only, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def test_a_download_is_reported_from_its_queue_to_its_end(tmp_path: Path, reported: Reported) -> None:
    """A download is reported as waiting, as begun, with its bytes so far, and with its outcome."""
    client = simulated("t")
    client.add_run("t", "m")
    await download_tasks(client, ["t"], output=tmp_path, emit=reported)
    assert [
        (event.received, event.total, event.outcome) for event in reported if isinstance(event, Downloading)
    ] == [(None, None, None), (0, None, None), (1, 2, None), (2, 2, None), (2, 2, "Done")]


class Slow(SimulatedKaggle):
    """The first task's download lasts until the second's has been reported as ended."""

    def __init__(self) -> None:
        super().__init__(INSTANT)
        self.second_ended = anyio.Event()

    async def download_output(self, run_id: int, target: Path, **options: Any) -> Downloaded:
        if run_id == min(self.runs):
            await self.second_ended.wait()
        return await super().download_output(run_id, target, **options)


async def test_progress_does_not_wait_for_its_turn(tmp_path: Path, reported: Reported) -> None:
    """The second task's downloads are reported during the first one's, and its table afterwards."""
    client = Slow()
    client.add_run("a", "m")
    client.add_run("b", "m")

    def report(event: Event) -> None:
        reported(event)
        if isinstance(event, Downloading) and event.slug == "b" and event.outcome:
            client.second_ended.set()

    await download_tasks(client, ["a", "b"], output=tmp_path, emit=report)
    assert [event.slug for event in reported if isinstance(event, DownloadsBegan)] == ["a", "b"]
    ended = next(event for event in reported if isinstance(event, Downloading) and event.outcome)
    assert reported.index(ended) < reported.index(reported.of(DownloadsBegan)[1])


async def test_reading_a_log_is_reported(reported: Reported) -> None:
    """Reading is reported also for a log that is not shown yet, at most ten times per second, and at its end."""
    client = simulated("t")
    burst = [(2.0 + number / 100, "x\n") for number in range(100)]
    behind = client.add_run("t", "behind", RunScript(running=5, log=[(1, "a\nb\n"), *burst])).id
    client.add_run("t", "first", RunScript(running=9, log=()))
    only(await show_logs(client, ["t"], emit=reported))
    events = [event for event in reported if isinstance(event, LogRead) and event.run.id == behind]
    assert events[0].lines == 2
    assert len(events) <= 13
    assert (events[-1].lines, events[-1].ended) == (102, True)


async def test_a_log_that_breaks_off_has_ended(reported: Reported) -> None:
    """The last progress event of a log that breaks off has `ended`."""
    client = simulated("t")
    error = ConnectionFailed("Away.", endpoint="x")
    client.add_run("t", "m", RunScript(running=1, log=[(0, "a\n")], log_error=error))
    only(await show_logs(client, ["t"], emit=reported))
    assert [event.ended for event in reported if isinstance(event, LogRead)][-1]
