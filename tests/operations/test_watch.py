"""Waiting in virtual time, exact to the second and to the call."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import pytest

from fanbench import ConnectionFailed, FanbenchError, ServerFault
from fanbench._util import polling
from fanbench.operations.events import LogLine, PollFailed, RunChanged, RunEnding
from fanbench.operations.run import run_tasks
from fanbench.operations.watch import FailedPolls, RunSelection, StillRunning, wait_for_runs
from fanbench.testing import Fault, RunScript, SimulatedKaggle
from fanbench.wire.messages import LogEntry, RunState
from fanbench.wire.retry import NobodyListens
from tests.operations.conftest import Reported, model, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_JITTER", 0.0)


def talking(running: float) -> RunScript:
    """A run that writes a line every ten seconds."""
    log = tuple((float(second), "line\n") for second in range(0, int(running), 10))
    return RunScript(running=running, log=log)


def all_of(client: SimulatedKaggle) -> RunSelection:
    return RunSelection("t", ids=frozenset(client.runs))


async def test_polls_grow_by_half_up_to_the_interval(reported: Reported) -> None:
    """Without a stream to follow, polls come after 1, 1.5, 2.25… seconds, and then at each interval."""
    client = simulated()
    client.add_run("t", "m", RunScript(queued=20, running=0))
    await wait_for_runs(client, all_of(client), poll_interval=4, emit=reported)
    assert client.times("list_runs") == [0, 1, 2.5, 4.75, 8.125, 12.125, 16.125, 20.125]


async def test_the_end_of_a_stream_is_the_end_of_the_wait() -> None:
    """The end of a run is seen when its log ends, however far apart the polls have become."""
    client = simulated()
    client.add_run("t", "m", talking(500))
    began = anyio.current_time()
    await wait_for_runs(client, all_of(client))
    assert anyio.current_time() - began == 500
    assert client.calls["list_runs"] < 20


async def test_open_streams_replace_most_polls() -> None:
    """While all runs have a stream, polls come at the interval and when a stream ends, however many runs
    there are.
    """
    client = simulated()
    for number in range(4):
        client.add_run("t", f"m{number}", talking(50))
    await wait_for_runs(client, all_of(client))
    assert client.times("list_runs") == [0, 50]
    client.add_run("t", "m", talking(150))
    await wait_for_runs(client, all_of(client), poll_interval=60)
    assert client.times("list_runs")[2:] == [50, 110, 170, 200]


async def test_the_end_of_a_run_whose_stream_stays_open_is_seen() -> None:
    """While a stream is silent, lists show within 15 seconds that its run has ended."""
    client = StuckLogs()
    client.add_task("t")
    client.add_run("t", "m", talking(40))
    with anyio.fail_after(40 + 15 + 10):  # The last lines of a log are waited for.
        await wait_for_runs(client, all_of(client))
    assert 40 < client.times("list_runs")[-1] <= 40 + 15


class StuckLogs(SimulatedKaggle):
    """Its logs never end, live or stored, though their runs do."""

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        async with aclosing(super().logs(run_id, silence=silence, merge=merge)) as entries:
            async for entry in entries:
                yield entry
        await anyio.sleep_forever()


async def test_the_end_of_each_stream_is_reported_at_once(reported: Reported) -> None:
    """The end of a stream is reported at once, though a poll may be seconds away while others still run."""
    client = simulated()
    client.add_run("t", "long", RunScript(running=100))
    client.add_run("t", "short", RunScript(running=40))
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


async def test_a_state_that_lags_behind_the_stream_is_polled_soon() -> None:
    """If a stream has ended and the state has not changed yet, polls start at one second again."""
    client = simulated()
    client.add_run("t", "m", RunScript(running=300, end_lag=1.5))
    began = anyio.current_time()
    await wait_for_runs(client, all_of(client))
    assert anyio.current_time() - began == 302.5


async def test_polls_do_not_grow_with_the_number_of_runs() -> None:
    """A hundred runs that end one after another cost at most one poll every five seconds."""
    client = simulated()
    for number in range(100):
        client.add_run("t", "m", RunScript(running=100 + number))
    await wait_for_runs(client, all_of(client))
    assert len([second for second in client.times("list_runs") if 100 < second < 198]) <= 20
    assert client.now() == 199


async def test_runs_come_back_in_the_order_of_the_list() -> None:
    """Runs are returned in the server's order even if they end in another."""
    client = simulated()
    first = client.add_run("t", "slow", RunScript(running=9)).id
    second = client.add_run("t", "fast", RunScript(running=1, end=RunState.ERRORED, error="boom")).id
    runs = await wait_for_runs(client, all_of(client))
    assert [(run.id, run.state) for run in runs] == [(second, RunState.ERRORED), (first, RunState.COMPLETED)]


async def test_the_timeout_is_kept_to_the_second() -> None:
    """`timeout` ends the wait at that very second, and the error has the runs that have not ended."""
    client = simulated()
    client.add_run("t", "done", RunScript(running=1))
    going = client.add_run("t", "going", RunScript(running=999)).id
    with pytest.raises(StillRunning, match=r"going \(Run 1002\) Running") as caught:
        await wait_for_runs(client, all_of(client), timeout=60)
    assert client.now() == 60
    assert [run.id for run in caught.value.runs] == [going]


async def test_an_old_errored_run_does_not_count() -> None:
    """If a model was scheduled again, only the run that did not exist before is waited for."""
    client = simulated()
    old = client.add_run("t", "m", RunScript(running=0, end=RunState.ERRORED)).id
    new = client.add_run("t", "m", RunScript(running=5)).id
    runs = await wait_for_runs(client, RunSelection("t", fresh=frozenset({"m"}), before=frozenset({old})))
    assert [(run.id, run.state) for run in runs] == [(new, RunState.COMPLETED)]


async def test_a_run_that_is_not_listed_yet_is_waited_for() -> None:
    """A list that lags behind does not end the wait too early."""
    client = simulated()
    client.add_run("t", "m", RunScript(running=5, list_lag=3))
    runs = await wait_for_runs(client, RunSelection("t", fresh=frozenset({"m"})))
    assert [run.state for run in runs] == [RunState.COMPLETED]


async def test_log_lines_come_whole_and_live(reported: Reported) -> None:
    """Pieces of lines are joined, the last line needs no end, and each is reported while the run is live."""
    client = simulated()
    client.add_run("t", "m", RunScript(running=9, log=[(2, "one\ntw"), (4, "o\nthr"), (6, "ee")]))
    await wait_for_runs(client, all_of(client), logs=True, emit=reported)
    assert [event.line for event in reported.of(LogLine) if isinstance(event, LogLine)] == [
        "one",
        "two",
        "three",
    ]
    last_line, end = reported.index(reported.of(LogLine)[1]), reported.index(reported.of(RunChanged)[-1])
    assert last_line < end


async def test_the_log_of_a_run_that_ended_between_polls_is_shown(reported: Reported) -> None:
    """The log of a run is shown even if the run was never seen running."""
    client = simulated()
    client.add_run("t", "m", RunScript(running=0, log=[(0, "quick\n")]))
    await wait_for_runs(client, all_of(client), logs=True, emit=reported)
    assert [event.line for event in reported if isinstance(event, LogLine)] == ["quick"]


@pytest.mark.parametrize("end_lag", [0.0, 3.0])
@pytest.mark.parametrize("stop", [5.5, 88.5])
async def test_a_log_that_ends_before_its_run_is_shown_whole(
    reported: Reported, stop: float, end_lag: float
) -> None:
    """If a stream ends in good order during its run, or just before its end, the lines that follow are shown, too."""
    client = simulated()
    log = [(float(second), f"line {second}\n") for second in range(0, 90, 10)] + [(89.0, "last\n")]
    script = RunScript(running=90, log=log, log_stops=(stop,), end_lag=end_lag)
    client.add_run("t", "m", script)
    await wait_for_runs(client, all_of(client), logs=True, emit=reported)
    lines = [event.line for event in reported if isinstance(event, LogLine)]
    assert lines == [text.strip() for _, text in log]


async def test_without_logs_the_log_of_an_ended_run_is_not_read() -> None:
    """Without `logs`, streams are only opened to see the ends of runs."""
    client = simulated()
    client.add_run("t", "m")
    await wait_for_runs(client, all_of(client))
    assert client.calls["logs"] == 0


async def test_a_broken_stream_falls_back_to_polls() -> None:
    """A stream that cannot be followed delays the end of the wait, but does not cause it."""
    client = simulated()
    fault = ServerFault("No.", call="GetBenchmarkTaskRunLogs", status=500)
    client.add_run("t", "m", RunScript(running=40, log=(), log_error=fault))
    runs = await wait_for_runs(client, all_of(client), poll_interval=10)
    assert [run.state for run in runs] == [RunState.COMPLETED]
    assert client.now() < 51


async def test_five_failed_polls_are_repeated(reported: Reported) -> None:
    """Up to five failed polls in a row are reported and repeated."""
    client = simulated()
    client.add_run("t", "m", RunScript(queued=1, running=0))
    client.change(faults=(Fault("list_runs", times=5),))
    await wait_for_runs(client, all_of(client), emit=reported)
    assert len(reported.of(PollFailed)) == 5


async def test_a_sixth_failed_poll_ends_the_wait() -> None:
    """The error of the sixth failed poll is raised by itself, not as a group."""
    client = simulated()
    client.add_run("t", "m", RunScript(queued=1, running=0))
    client.change(faults=(Fault("list_runs", times=6),))
    with pytest.raises(ConnectionFailed):
        await wait_for_runs(client, all_of(client))


async def test_nobody_listening_here_ends_the_wait_sooner(reported: Reported) -> None:
    """A server on this machine that is not running is waited for no longer than 20 seconds."""
    polls, down = FailedPolls("t", reported), NobodyListens("Refused.", endpoint="http://localhost")
    for _ in range(2):
        polls.add(down)
        await anyio.sleep(10)
    with pytest.raises(NobodyListens):
        polls.add(down)


async def test_an_empty_watch_makes_no_call() -> None:
    """An empty watch returns at once without a call."""
    client = simulated()
    assert await wait_for_runs(client, RunSelection("t")) == []
    assert client.history == []


async def test_several_tasks_are_waited_for_at_the_same_time() -> None:
    """Waiting for several tasks takes as long as waiting for the slowest."""
    client = simulated()
    one = client.add_run("a", "m", RunScript(running=30)).id
    two = client.add_run("b", "m", RunScript(running=50)).id
    runs = await wait_for_runs(
        client, RunSelection("a", ids=frozenset({one})), RunSelection("b", ids=frozenset({two}))
    )
    assert [run.id for run in runs] == [one, two]
    assert client.now() == 50


async def test_a_late_log_is_shown_live() -> None:
    """A log that is missing at first is requested again after 1, 2, 4… seconds, and read on after the run's end."""
    client = simulated()
    client.add_run("t", "m", RunScript(running=90, log_delay=5, log=[(0, "one\n"), (80, "two\n")]))
    seen: list[float] = []
    await wait_for_runs(
        client,
        all_of(client),
        logs=True,
        emit=lambda event: seen.append(client.now()) if isinstance(event, LogLine) else None,
    )
    assert client.times("logs") == [0, 1, 3, 7, 90]
    assert seen == [7, 80]


async def test_a_run_in_an_unknown_state_is_waited_for(reported: Reported) -> None:
    """A state that a newer server may send is no end: it is reported with what it means, and the wait goes on."""
    resting = RunState("BENCHMARK_TASK_RUN_STATE_RESTING")
    client = simulated("t", runs=RunScript(queued=1, running=5, at_work=resting))
    (run,) = (
        await run_tasks(client, ["t"], ["m"], available=[model("m")], until="ended", emit=reported)
    ).runs
    assert run.state == RunState.COMPLETED
    texts = [event.text for event in reported if isinstance(event, RunChanged) and event.run.state == resting]
    (text,) = texts
    assert "RESTING (a state that this version of fanbench does not know" in text


async def test_runs_that_are_never_listed_are_an_error() -> None:
    """If no list shows a run that the server has accepted, the wait ends after two minutes, and says so."""
    client = simulated("t", models=["m"], list_lag=1e6)
    with pytest.raises(FanbenchError, match=r"accepted 1 run of 't', and has not listed them for 2 min"):
        await run_tasks(client, ["t"], ["m"], until="ended")
    assert 120 <= client.now() <= 185
    assert client.calls["schedule_runs"] == 1
