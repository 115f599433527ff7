"""Waiting in virtual time, exact to the second and to the call."""

from __future__ import annotations

import anyio
import pytest

from fanbench import ConnectionFailed, ServerFault
from fanbench._util import polling
from fanbench.operations.events import LogLine, PollFailed, RunChanged, RunEnding
from fanbench.operations.watch import RunSelection, StillRunning, wait_for_runs
from fanbench.wire.messages import RunState
from tests.operations.conftest import Reported
from tests.operations.fake import Course, FakeClient
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_JITTER", 0.0)


def all_of(client: FakeClient) -> RunSelection:
    return RunSelection("t", ids=frozenset(client.runs))


async def test_polls_grow_by_half_up_to_the_interval(reported: Reported) -> None:
    """Without a stream to follow, the server is asked after 1, 1.5, 2.25… seconds, and then each interval."""
    client = FakeClient()
    client.begin("t", "m", Course(queued=20))
    await wait_for_runs(client, all_of(client), poll_interval=4, emit=reported)
    assert client.times("list_runs") == [0, 1, 2.5, 4.75, 8.125, 12.125, 16.125, 20.125]


async def test_the_end_of_a_stream_is_the_end_of_the_wait() -> None:
    """The end of a run is seen when its log ends, however far apart the polls have become."""
    client = FakeClient()
    client.begin("t", "m", Course(running=500))
    began = anyio.current_time()
    await wait_for_runs(client, all_of(client))
    assert anyio.current_time() - began == 500
    assert len(client.times("list_runs")) < 20


async def test_open_streams_spare_the_polls() -> None:
    """While all runs have a stream, polls come at the interval and when a stream ends, however many runs
    there are.
    """
    client = FakeClient()
    for number in range(4):
        client.begin("t", f"m{number}", Course(running=50))
    await wait_for_runs(client, all_of(client))
    assert client.times("list_runs") == [0, 50]
    client.begin("t", "m", Course(running=150))
    await wait_for_runs(client, all_of(client), poll_interval=60)
    assert client.times("list_runs")[2:] == [50, 110, 170, 200]


async def test_the_end_of_each_stream_is_reported_at_once(reported: Reported) -> None:
    """The end of a stream is reported at once, though a poll may be seconds away while others still run."""
    client = FakeClient()
    client.begin("t", "long", Course(running=100))
    client.begin("t", "short", Course(running=40))
    seen: list[tuple[float, str]] = []
    await wait_for_runs(
        client,
        all_of(client),
        emit=lambda event: (
            seen.append((client.now(), event.run.model_version_slug))
            if isinstance(event, RunEnding)
            else None
        ),
    )
    assert seen == [(40, "short"), (100, "long")]


async def test_a_state_that_lags_behind_the_stream_is_asked_for_soon() -> None:
    """If a stream has ended and the state has not changed yet, polls start at one second again."""
    client = FakeClient()
    client.begin("t", "m", Course(running=300, end_lag=1.5))
    began = anyio.current_time()
    await wait_for_runs(client, all_of(client))
    assert anyio.current_time() - began == 302.5


async def test_one_list_call_a_poll_whatever_the_number_of_runs() -> None:
    """A hundred runs that end one after another cost at most one poll every five seconds."""
    client = FakeClient()
    for number in range(100):
        client.begin("t", "m", Course(running=100 + number))
    await wait_for_runs(client, all_of(client))
    assert len([second for second in client.times("list_runs") if 100 < second < 198]) <= 20
    assert client.now() == 199


async def test_runs_come_back_in_the_order_of_the_list() -> None:
    """Runs are returned in the server's order even if they end in another."""
    client = FakeClient()
    first = client.begin("t", "slow", Course(running=9))
    second = client.begin("t", "fast", Course(running=1, end=RunState.ERRORED, error="boom"))
    runs = await wait_for_runs(client, all_of(client))
    assert [(run.id, run.state) for run in runs] == [(second, RunState.ERRORED), (first, RunState.COMPLETED)]


async def test_the_timeout_is_kept_to_the_second() -> None:
    """`timeout` ends the wait at that very second, and the error has the runs that have not ended."""
    client = FakeClient()
    client.begin("t", "done", Course(running=1))
    going = client.begin("t", "going", Course(running=999))
    with pytest.raises(StillRunning, match=r"going \(Run 101\) Running") as caught:
        await wait_for_runs(client, all_of(client), timeout=60)
    assert client.now() == 60
    assert [run.id for run in caught.value.runs] == [going]


async def test_an_old_errored_run_does_not_count() -> None:
    """If a model was scheduled again, only the run that did not exist before is waited for."""
    client = FakeClient()
    old = client.begin("t", "m", Course(end=RunState.ERRORED))
    new = client.begin("t", "m", Course(running=5))
    runs = await wait_for_runs(client, RunSelection("t", fresh=frozenset({"m"}), before=frozenset({old})))
    assert [(run.id, run.state) for run in runs] == [(new, RunState.COMPLETED)]


async def test_a_run_that_is_not_listed_yet_is_waited_for() -> None:
    """A list that lags behind does not end the wait too early."""
    client = FakeClient()
    client.begin("t", "m", Course(running=5, list_lag=3))
    runs = await wait_for_runs(client, RunSelection("t", fresh=frozenset({"m"})))
    assert [run.state for run in runs] == [RunState.COMPLETED]


async def test_log_lines_come_whole_and_live(reported: Reported) -> None:
    """Pieces of lines are joined, the last line needs no end, and each is reported while the run is live."""
    client = FakeClient()
    client.begin("t", "m", Course(running=9, log=[(2, "one\ntw"), (4, "o\nthr"), (6, "ee")]))
    await wait_for_runs(client, all_of(client), logs=True, emit=reported)
    assert [event.line for event in reported.of(LogLine) if isinstance(event, LogLine)] == [
        "one",
        "two",
        "three",
    ]
    last_line, end = reported.index(reported.of(LogLine)[1]), reported.index(reported.of(RunChanged)[-1])
    assert last_line < end


async def test_the_log_of_a_run_that_ended_between_polls_is_shown(reported: Reported) -> None:
    """The log of a run that was never seen running is shown all the same."""
    client = FakeClient()
    client.begin("t", "m", Course(running=0, log=[(0, "quick\n")]))
    await wait_for_runs(client, all_of(client), logs=True, emit=reported)
    assert [event.line for event in reported if isinstance(event, LogLine)] == ["quick"]


async def test_without_logs_an_ended_run_is_not_asked_for_its_log() -> None:
    """Without `logs`, streams are only opened to see the ends of runs."""
    client = FakeClient()
    client.begin("t", "m", Course())
    await wait_for_runs(client, all_of(client))
    assert client.times("logs") == []


async def test_a_broken_stream_leaves_the_polls() -> None:
    """A stream that cannot be followed delays the end of the wait, but does not cause it."""
    client = FakeClient()
    fault = ServerFault("No.", call="GetBenchmarkTaskRunLogs", status=500)
    client.begin("t", "m", Course(running=40), log_error=fault)
    runs = await wait_for_runs(client, all_of(client), poll_interval=10)
    assert [run.state for run in runs] == [RunState.COMPLETED]
    assert client.now() < 51


async def test_a_server_that_is_away_for_a_while_is_asked_again(reported: Reported) -> None:
    """Up to five polls in a row may fail."""
    client = FakeClient()
    client.begin("t", "m", Course(queued=1))
    client.errors["list_runs"] = [ConnectionFailed("Away.", endpoint="x") for _ in range(5)]
    await wait_for_runs(client, all_of(client), emit=reported)
    assert len(reported.of(PollFailed)) == 5


async def test_a_server_that_stays_away_ends_the_wait() -> None:
    """The error of the sixth failed poll is raised by itself, not as a group."""
    client = FakeClient()
    client.begin("t", "m", Course(queued=1))
    client.errors["list_runs"] = [ConnectionFailed("Away.", endpoint="x") for _ in range(6)]
    with pytest.raises(ConnectionFailed):
        await wait_for_runs(client, all_of(client))


async def test_nothing_to_wait_for_asks_nothing() -> None:
    """An empty watch returns at once without a call."""
    client = FakeClient()
    assert await wait_for_runs(client, RunSelection("t")) == []
    assert client.history == []


async def test_several_tasks_are_waited_for_at_the_same_time() -> None:
    """Waiting for several tasks takes as long as the longest."""
    client = FakeClient()
    one = client.begin("a", "m", Course(running=30))
    two = client.begin("b", "m", Course(running=50))
    runs = await wait_for_runs(
        client, RunSelection("a", ids=frozenset({one})), RunSelection("b", ids=frozenset({two}))
    )
    assert [run.id for run in runs] == [one, two]
    assert client.now() == 50


async def test_a_log_that_is_late_is_shown_live() -> None:
    """A running run whose log is missing at first is asked for it again after 1, 2, 4… seconds."""
    client = FakeClient()
    client.begin("t", "m", Course(running=90, log_delay=5, log=[(0, "one\n"), (80, "two\n")]))
    times: list[float] = []
    await wait_for_runs(
        client,
        all_of(client),
        logs=True,
        emit=lambda event: times.append(client.now()) if isinstance(event, LogLine) else None,
    )
    assert client.times("logs") == [0, 1, 3, 7]
    assert times == [7, 80]
