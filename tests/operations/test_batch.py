"""One operation on several tasks: which event comes when, and which outcome belongs to which task."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from fanbench import NotFound, UsageError
from fanbench.operations.batch import each_task
from fanbench.operations.download import DownloadsBegan, RowDone, download_tasks
from fanbench.operations.events import Emit, Event, TaskFailed
from fanbench.operations.publish import publish_tasks
from fanbench.operations.status import TaskStatus, task_statuses
from fanbench.testing import RunScript, SimulatedKaggle
from tests.operations.conftest import Reported, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> SimulatedKaggle:
    return simulated(*"abc", versions=3)


class Word(Event, frozen=True):
    word: str


async def test_jobs_run_at_once_and_report_in_order(reported: Reported) -> None:
    """The second job ends long before the first, and its events are held back until then."""
    seconds = {"a": 9.0, "b": 1.0, "c": 5.0}

    async def job(slug: str, emit: Emit) -> str:
        emit(Word(f"{slug} begins"))
        await anyio.sleep(seconds[slug])
        emit(Word(f"{slug} ends"))
        return slug

    began = anyio.current_time()
    assert await each_task(["a", "B", "c", "b"], job, limit=9, emit=reported) == ["a", "b", "c"]
    assert anyio.current_time() - began == pytest.approx(9)
    assert [event.word for event in reported if isinstance(event, Word)] == [
        f"{slug} {what}" for slug in "abc" for what in ("begins", "ends")
    ]


async def test_a_failure_is_reported_in_order(reported: Reported) -> None:
    """A failure is reported in the order of the tasks, and is an outcome like the others."""

    async def job(slug: str, emit: Emit) -> str:
        if slug == "b":
            raise NotFound("No such task.", call="GetBenchmarkTask", status=404)
        await anyio.sleep(1)
        emit(Word(slug))
        return slug

    outcomes = await each_task(["a", "b", "c"], job, limit=2, emit=reported)
    assert [isinstance(outcome, NotFound) for outcome in outcomes] == [False, True, False]
    assert [type(event) for event in reported] == [Word, TaskFailed, Word]


async def test_an_invalid_name_is_refused_before_any_call(client: SimulatedKaggle) -> None:
    """An invalid name is an error before any call is made."""
    with pytest.raises(UsageError):
        await publish_tasks(client, ["a", "///"])
    assert client.history == []


async def test_the_rows_of_a_task_come_together(
    client: SimulatedKaggle, tmp_path: Path, reported: Reported
) -> None:
    """The rows of a task come together, whichever download ends first."""
    times = {"a": 9.0, "b": 1.0, "c": 5.0}
    runs = [
        client.add_run(slug, "m", RunScript(queued=-9, running=0, download_time=times[slug])).id
        for slug in "abc"
    ]
    await download_tasks(client, ["a", "b", "c"], output=tmp_path, force=True, emit=reported)
    shown = [
        event.slug if isinstance(event, DownloadsBegan) else event.row.run.id
        for event in reported
        if isinstance(event, DownloadsBegan | RowDone)
    ]
    assert shown == ["a", runs[0], "b", runs[1], "c", runs[2]]


async def test_statuses_are_in_the_order_of_the_names(client: SimulatedKaggle) -> None:
    """Statuses come in the order of the names."""
    outcomes = await task_statuses(client, ["c", "nope", "a"])
    assert [one.slug if isinstance(one, TaskStatus) else type(one) for one in outcomes] == [
        "c",
        NotFound,
        "a",
    ]
