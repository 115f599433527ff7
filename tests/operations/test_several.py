"""Several tasks at once, and watching them: which event comes when, and how often the server is called."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from fanbench import ConnectionFailed, NotFound, ServerFault, UsageError
from fanbench.operations import download_tasks, publish_tasks, show_logs, task_statuses, watch_tasks
from fanbench.operations.batch import each_task
from fanbench.operations.download import DownloadsBegan, RowDone
from fanbench.operations.events import (
    CreationPolled,
    Event,
    LogLine,
    PollFailed,
    Report,
    RunChanged,
    TaskFailed,
)
from fanbench.operations.leaderboard import benchmark_name
from fanbench.operations.quota import fetch_quotas
from fanbench.operations.status import StatusSeen, TaskStatus
from fanbench.operations.task_logs import LogReport
from fanbench.wire.messages import CreationState, ModelProxyQuotas, QuotaBalance, RefillPeriod, Run, TaskQuota
from tests.operations.conftest import Reported
from tests.operations.fake import Course, FakeClient, not_found, task

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(tasks={slug: task(slug, version=3) for slug in "abc"})


class Word(Event, frozen=True):
    word: str


# --- Each task ---


async def test_they_work_at_once_and_speak_in_turn(reported: Reported) -> None:
    """The second job ends long before the first, and its events are held back until then."""
    seconds = {"a": 9.0, "b": 1.0, "c": 5.0}

    async def job(slug: str, report: Report) -> str:
        report(Word(f"{slug} begins"))
        await anyio.sleep(seconds[slug])
        report(Word(f"{slug} ends"))
        return slug

    began = anyio.current_time()
    assert await each_task(["a", "B", "c", "b"], job, limit=9, report=reported) == ["a", "b", "c"]
    assert anyio.current_time() - began == pytest.approx(9)
    assert [event.word for event in reported if isinstance(event, Word)] == [
        f"{slug} {what}" for slug in "abc" for what in ("begins", "ends")
    ]


async def test_one_that_fails_says_so_in_its_turn(reported: Reported) -> None:
    """A failure is reported when it is its turn, and is an outcome like the others."""

    async def job(slug: str, report: Report) -> str:
        if slug == "b":
            raise not_found("x")
        await anyio.sleep(1)
        report(Word(slug))
        return slug

    outcomes = await each_task(["a", "b", "c"], job, limit=2, report=reported)
    assert [isinstance(outcome, NotFound) for outcome in outcomes] == [False, True, False]
    assert [type(event) for event in reported] == [Word, TaskFailed, Word]


async def test_a_name_that_is_none_is_found_before_anything_is_done(client: FakeClient) -> None:
    """An invalid name is an error before any call is made."""
    with pytest.raises(UsageError):
        await publish_tasks(client, ["a", "///"])
    assert client.calls == []


async def test_rows_of_a_task_stand_together(client: FakeClient, tmp_path: Path, reported: Reported) -> None:
    """The rows of a task come together, whichever download ends first."""
    runs = [client.begin(slug, "m", Course(queued=-9)) for slug in "abc"]
    client.delays = dict(zip(runs, (9.0, 1.0, 5.0), strict=True))
    await download_tasks(client, ["a", "b", "c"], output=tmp_path, force=True, report=reported)
    shown = [
        event.slug if isinstance(event, DownloadsBegan) else event.row.run.id
        for event in reported
        if isinstance(event, DownloadsBegan | RowDone)
    ]
    assert shown == ["a", runs[0], "b", runs[1], "c", runs[2]]


async def test_statuses(client: FakeClient) -> None:
    """Statuses come in the order of the names."""
    outcomes = await task_statuses(client, ["c", "nope", "a"])
    assert [one.slug if isinstance(one, TaskStatus) else type(one) for one in outcomes] == [
        "c",
        NotFound,
        "a",
    ]


# --- Watching ---


async def test_a_watch_ends_with_the_last_run(client: FakeClient, reported: Reported) -> None:
    """A watch includes runs that start meanwhile, and reports each change and each poll once."""
    client.begin("a", "m", Course(queued=3, running=4))
    client.begin("a", "late", Course(unlisted=5, queued=0, running=20))
    client.begin("a", "old", Course(), ago=100)
    (status,) = await watch_tasks(client, ["a"], report=reported)
    assert isinstance(status, TaskStatus)
    assert status.over
    assert 20 <= client.now() <= 32
    changes = [
        (event.run.model_version_slug, event.run.state.label)
        for event in reported
        if isinstance(event, RunChanged)
    ]
    assert changes == [
        ("m", "QUEUED"),
        ("m", "RUNNING"),
        ("late", "RUNNING"),
        ("m", "COMPLETED"),
        ("late", "COMPLETED"),
    ]
    assert len(reported.of(StatusSeen)) == len(client.times("list_runs"))


async def test_a_watch_asks_for_the_task_only_while_it_is_created(
    client: FakeClient, reported: Reported
) -> None:
    """The task is polled only during its creation; the runs take one list call per poll, at growing pauses."""
    client.creation = 6.0
    await client.create_task("new", "{}")
    client.begin("new", "m", Course(running=100))
    (status,) = await watch_tasks(client, ["new"], report=reported)
    assert isinstance(status, TaskStatus)
    assert status.task.creation_state == CreationState.COMPLETED
    assert [event.task.creation_state.label for event in reported if isinstance(event, CreationPolled)] == [
        "RUNNING",
        "COMPLETED",
    ]
    assert max(client.times("get_task")) < 12
    assert len(client.times("list_runs")) < 20


async def test_a_watch_outlives_a_server_that_is_away(reported: Reported) -> None:
    """A watch survives a server that is away for a while, and reports it."""
    client = _Away(tasks={"a": task("a")})
    client.begin("a", "m", Course(running=9))
    (status,) = await watch_tasks(client, ["a"], report=reported)
    assert isinstance(status, TaskStatus)
    assert status.over
    assert len(reported.of(PollFailed)) == 1


class _Away(FakeClient):
    """Does not answer the second list of runs."""

    async def list_runs(self, task: str, *, models: Sequence[str] = ()) -> AsyncGenerator[Run, None]:
        if len(self.times("list_runs")) == 1:
            self.list_errors = [ConnectionFailed("Away.", endpoint="x")]
        async for run in super().list_runs(task, models=models):
            yield run


async def test_a_watch_of_several_tasks(client: FakeClient) -> None:
    """Tasks are watched at the same time, and a missing one does not affect the others."""
    for slug, seconds in (("a", 5), ("b", 10)):
        client.begin(slug, "m", Course(running=seconds))
    outcomes = await watch_tasks(client, ["b", "nope", "a"])
    assert [isinstance(outcome, TaskStatus) for outcome in outcomes] == [True, False, True]
    assert client.now() < 18


# --- Logs in files ---


async def test_logs_of_several_tasks_are_read_at_once(client: FakeClient, reported: Reported) -> None:
    """Interleaved lines of several tasks come in the order of time."""
    client.begin("a", "m", Course(running=9, log=[(1, "a1\n"), (5, "a2\n")]))
    client.begin("b", "m", Course(running=9, log=[(3, "b1\n")]))
    reports = await show_logs(client, ["b", "nope", "a"], interleave=True, report=reported)
    assert [event.line for event in reported if isinstance(event, LogLine)] == ["a1", "b1", "a2"]
    assert client.now() == pytest.approx(9, abs=0.5)
    slugs = [report.slug if isinstance(report, LogReport) else None for report in reports]
    assert slugs == ["b", None, "a"]


@pytest.mark.parametrize("together", [True, False])
async def test_complete_logs_become_files(client: FakeClient, tmp_path: Path, together: bool) -> None:
    """Each complete log becomes a file in the layout of downloads, whatever its size."""
    text = "é\n" * 100_000
    run = client.begin("a", "google/m@x", Course(log=[(0, text), (0, "end")]))
    empty = client.begin("a", "n", Course())
    (report,) = await show_logs(client, ["a"], interleave=together, output=tmp_path)
    assert isinstance(report, LogReport)
    path = tmp_path / "a/3/m-x" / str(run) / "run.log"
    assert path.read_text() == f"{text}end"
    assert (tmp_path / "a/3/n" / str(empty) / "run.log").read_text() == ""
    assert sorted(str(log.path) for log in report.logs) == sorted(str(p) for p in tmp_path.rglob("run.log"))


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_not_complete_is_no_file(client: FakeClient, tmp_path: Path, together: bool) -> None:
    """A log that broke off, or does not exist yet, makes no file and leaves an earlier one as it was."""
    fault = ServerFault("No.", call="GetBenchmarkTaskRunLogs", status=500)
    broken = client.begin("a", "m", Course(log=[(0, "x" * 100_000)], log_error=fault))
    client.begin("a", "queued", Course(queued=50))
    earlier = tmp_path / "a/3/m" / str(broken) / "run.log"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    (report,) = await show_logs(client, ["a"], interleave=together, output=tmp_path)
    assert isinstance(report, LogReport)
    assert [log.path for log in report.logs] == [None, None]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [earlier]
    assert earlier.read_text() == "earlier"


@pytest.mark.parametrize("together", [True, False])
async def test_a_folder_that_cannot_be_written(client: FakeClient, tmp_path: Path, together: bool) -> None:
    """A log file that cannot be written is an error of the run, with a hint."""
    (tmp_path / "a").write_text("in the way")
    client.begin("a", "m", Course(log=[(0, "x\n")]))
    (report,) = await show_logs(client, ["a"], interleave=together, output=tmp_path)
    assert isinstance(report, LogReport)
    (failed,) = report.failed
    assert "Cannot write the log" in str(failed.error)
    assert failed.error is not None
    assert failed.error.hint is not None
    assert "-o" in failed.error.hint


async def test_a_log_that_is_left_early_leaves_no_file(client: FakeClient, tmp_path: Path) -> None:
    """A cancelled command leaves no file behind."""
    client.begin("a", "m", Course(running=99, log=[(0, "x" * 100_000), (50, "y")]))
    with anyio.move_on_after(20):
        await show_logs(client, ["a"], output=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# --- Benchmarks and quotas ---


@pytest.mark.parametrize(("text", "name"), [("me/b", ("me", "b")), ("b", ("", "b")), (" me/b ", ("me", "b"))])
def test_names_of_benchmarks(text: str, name: tuple[str, str]) -> None:
    """A benchmark may have an owner or none."""
    assert benchmark_name(text) == name


@pytest.mark.parametrize("text", ["", "/", "me/", "/b", "a/b/c", "..", "me/..", "me/a\\b", "me/a\nb"])
def test_what_is_no_name_of_a_benchmark(text: str) -> None:
    """A benchmark's name must be valid as the name of a file, too."""
    with pytest.raises(UsageError):
        benchmark_name(text)


async def test_quotas() -> None:
    """The quotas are those of runs and of the Model Proxy; what is used up has nothing remaining."""
    balance = QuotaBalance(quota_used=7, total_quota_allowed=5, refill_period=RefillPeriod.MONTHLY)
    runs = TaskQuota(daily_quota_used=1, total_daily_quota_allowed=4)
    quotas = await fetch_quotas(FakeClient(quotas=(runs, ModelProxyQuotas(quota_balances=[balance]))))
    assert [(one.kind, one.period, one.remaining) for one in quotas.known] == [
        ("task_runs", "daily", 3),
        ("model_proxy", "monthly", 0),
    ]


async def test_a_quota_that_cannot_be_had_for_another_reason_is_an_error() -> None:
    """An error of a server that is down is raised and does not count as a missing quota."""
    with pytest.raises(ConnectionFailed):
        await fetch_quotas(FakeClient(quotas=(TaskQuota(), ConnectionFailed("Down.", endpoint="x"))))
