"""The simulated Kaggle does what its scenario says, to the second."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from fanbench import (
    Anonymous,
    BadRequest,
    Client,
    Config,
    ConnectionFailed,
    Forbidden,
    NotFound,
    RateLimited,
    ServerFault,
)
from fanbench.testing import Fault, RunScript, Scenario, SimulatedKaggle, run_in_virtual_time, serve
from fanbench.wire.downloads import BadZip
from fanbench.wire.messages import CancelRunsResponse, CreationState, LogEntry, Run, RunState

Story = Callable[[SimulatedKaggle], Awaitable[None]]


def play(scenario: Scenario, story: Story) -> SimulatedKaggle:
    """Play `story` on a server that has the task `t`."""
    kaggle = SimulatedKaggle(scenario)
    kaggle.add_task("t")
    run_in_virtual_time(lambda: story(kaggle), backend="trio")
    return kaggle


async def runs_of(kaggle: SimulatedKaggle, task: str, models: list[str] | None = None) -> list[Run]:
    return [run async for run in kaggle.list_runs(task, models=models or [])]


async def read_into(seen: list[str], entries: AsyncIterable[LogEntry]) -> None:
    async for entry in entries:
        seen.append(entry.data)


def test_a_run_from_its_schedule_to_its_output(tmp_path: Path) -> None:
    """A run takes exactly the time of its script, and its log and output are complete."""

    async def story(kaggle: SimulatedKaggle) -> None:
        (result,) = await kaggle.schedule_runs("t", ["m"])
        assert result.run_scheduled
        (run,) = await runs_of(kaggle, "t")
        assert (run.id, run.state) == (1001, RunState.RUNNING)
        entries = [(round(kaggle.now(), 3), entry.data) async for entry in kaggle.logs(1001)]
        assert entries == [(0.3, "begin\n"), (1.05, "half\nway\n")]
        assert kaggle.now() == pytest.approx(2.05)
        assert (await runs_of(kaggle, "t"))[0].state == RunState.COMPLETED
        done = await kaggle.download_output(1001, tmp_path / "1001")
        assert {name: (done.path / name).read_bytes() for name in done.files} == kaggle.runs[1001].output()

    kaggle = play(Scenario(), story)
    assert kaggle.calls == {"schedule_runs": 1, "list_runs": 2, "logs": 1, "download_output": 1}
    assert list(tmp_path.iterdir()) == [tmp_path / "1001"]


def test_a_creation_from_its_push_to_its_end() -> None:
    """A version is shown after the lag, is pending for as long as the scenario says, and then can be run."""

    async def story(kaggle: SimulatedKaggle) -> None:
        assert (await kaggle.create_task("t", "new")).slug.version_number == 2
        assert (await kaggle.get_task("t")).slug.version_number == 1
        await anyio.sleep(1.0)
        shown = await kaggle.get_task("me/t")
        assert (shown.slug.version_number, shown.creation_state) == (2, CreationState.RUNNING)
        with pytest.raises(BadRequest):
            await kaggle.schedule_runs("t", ["m"])
        await anyio.sleep(11.0)
        assert (await kaggle.get_task("t")).creation_state == CreationState.COMPLETED

    play(Scenario(creation=12.0, push_lag=1.0), story)


@pytest.mark.parametrize("one_run_per_model", [True, False])
def test_a_second_run_in_flight(one_run_per_model: bool) -> None:
    """A second run is skipped or scheduled, as the scenario says."""

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", ["m"])
        (second,) = await kaggle.schedule_runs("t", ["m"])
        assert second.run_scheduled == (not one_run_per_model)
        assert bool(second.run_skipped_reason) == one_run_per_model

    assert len(play(Scenario(one_run_per_model=one_run_per_model), story).runs) == 2 - one_run_per_model


def test_runs_by_model() -> None:
    """A script is found by the model's normalized name; None skips the model, and other models follow the default."""

    async def story(kaggle: SimulatedKaggle) -> None:
        results = await kaggle.schedule_runs("t", ["google/slow@default", "no", "other"])
        assert [result.run_scheduled for result in results] == [True, False, True]
        assert [run.script.running for run in kaggle.runs.values()] == [60.0, 2.0]

    play(Scenario(runs={"slow-default": RunScript(running=60.0), "no": None}), story)


@pytest.mark.parametrize("took_effect", [False, True])
def test_an_answer_that_is_lost(took_effect: bool) -> None:
    """The call fails once, whether the server did its work or not."""

    async def story(kaggle: SimulatedKaggle) -> None:
        with pytest.raises(ConnectionFailed):
            await kaggle.schedule_runs("t", ["m"])
        assert len(kaggle.runs) == took_effect
        await kaggle.schedule_runs("t", ["m2"])

    play(Scenario(faults=(Fault("schedule_runs", took_effect=took_effect),)), story)


def test_faults_are_limited_in_number_and_in_time() -> None:
    """`first` and `times` limit which calls fail, `since` and `until` when they do."""

    async def story(kaggle: SimulatedKaggle) -> None:
        fails = []
        for _ in range(8):
            try:
                await kaggle.get_task("t")
                fails.append(False)
            except RateLimited:
                fails.append(True)
            await anyio.sleep(0.9)
        assert fails == [False, True, True, False, False, True, True, False]

    faults = (
        Fault("get_task", 429, first=2, times=2),
        Fault("get_task", 429, times=9, since=4.5, until=6.5),
    )
    play(Scenario(faults=faults), story)


def test_a_fault_raises_the_given_error() -> None:
    """A fault with `raises` fails the calls with that very error, as often as it says."""
    refusal = Forbidden("Not yours.", call="GetBenchmarkTask", status=403)

    async def story(kaggle: SimulatedKaggle) -> None:
        for _ in range(2):
            with pytest.raises(Forbidden) as caught:
                await kaggle.get_task("t")
            assert caught.value is refusal
        await kaggle.get_task("t")

    play(Scenario(faults=(Fault("get_task", raises=refusal, times=2),)), story)


def test_a_push_is_refused_in_its_answer() -> None:
    """With `push_error`, the answer to a push has the error, and the task keeps its version."""

    async def story(kaggle: SimulatedKaggle) -> None:
        answer = await kaggle.create_task("t", "new")
        assert (answer.slug.task_slug, answer.error) == ("t", "Too large.")
        assert (await kaggle.get_task("t")).slug.version_number == 1
        await kaggle.create_task("other", "new")
        with pytest.raises(NotFound):
            await kaggle.get_task("other")

    play(Scenario(push_error="Too large."), story)


def test_each_run_is_listed_once() -> None:
    """A list has each run once, even if it is late, not filtered by model, or has pages that shift."""

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", [f"m{number}" for number in range(10)])
        assert await runs_of(kaggle, "t") == []
        kaggle.add_future_run(kaggle.now() + 1.1, "t", "other")
        await anyio.sleep(1.0)
        listed = await runs_of(kaggle, "t", ["m3"])
        assert {f"m{number}" for number in range(10)} <= {run.model_version_slug for run in listed}
        assert len({run.id for run in listed}) == len(listed)

    kaggle = play(Scenario(list_lag=0.5, page_size=3, ignores_model_filter=True), story)
    assert kaggle.calls["list_runs"] == 1 + 4


def test_logs_that_break() -> None:
    """A cut raises, a stop ends the log early, and the complete log comes in other pieces."""
    log = tuple((float(second), f"{second}\n") for second in range(8))
    script = RunScript(running=10.0, log=log, log_cuts=(2.5,), log_stops=(5.5,), log_piece=3)

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", ["m"])
        seen: list[str] = []
        with pytest.raises(ConnectionFailed):
            await read_into(seen, kaggle.logs(1001))
        assert seen == ["0\n", "1\n", "2\n"]
        assert [entry.data async for entry in kaggle.logs(1001)] == [f"{second}\n" for second in range(6)]
        await anyio.sleep(10.0)
        kept = [entry.data async for entry in kaggle.logs(1001)]
        assert "".join(kept) == kaggle.runs[1001].log
        assert kept[0] == "0\n1"

    assert play(Scenario(runs=script), story).calls["logs"] == 3


def test_a_log_ends_in_an_error() -> None:
    """With `log_error`, the live and the complete log end in that error after the last piece."""
    error = ServerFault("No.", call="GetBenchmarkTaskRunLogs", status=500)

    async def story(kaggle: SimulatedKaggle) -> None:
        run = kaggle.add_run(
            "t", "m", RunScript(running=60.0, log=((0.0, "a\n"), (5.0, "b\n")), log_error=error)
        )
        for second in (5.0, 100.0):
            seen: list[str] = []
            with pytest.raises(ServerFault):
                await read_into(seen, kaggle.logs(run.id))
            assert seen == ["a\n", "b\n"]
            assert kaggle.now() == second
            await anyio.sleep(95.0)

    play(Scenario(latency=0.0), story)


def test_downloads_that_fail(tmp_path: Path) -> None:
    """The first download breaks off, the second is damaged, and the third is good."""

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", ["m"])
        await anyio.sleep(3.0)
        with pytest.raises(ConnectionFailed):
            await kaggle.download_output(1001, tmp_path / "1001")
        with pytest.raises(BadZip):
            await kaggle.download_output(1001, tmp_path / "1001")
        assert (await kaggle.download_output(1001, tmp_path / "1001")).files == ("a.txt",)

    play(Scenario(runs=RunScript(output={"a.txt": b"a"}, broken_downloads=1, bad_zips=1)), story)


def test_what_lists_show_can_change() -> None:
    """A change of how lists show runs applies to runs that were listed before, too."""

    async def story(kaggle: SimulatedKaggle) -> None:
        kaggle.add_run("t", "m", RunScript(result=0.5), age=100.0)
        values = []
        for shows_results in (True, False, True):
            kaggle.change(shows_results=shows_results)
            values += [run.value async for run in kaggle.list_runs("t")]
        assert values == [0.5, None, 0.5]

    play(Scenario(), story)


def test_cancelled_runs() -> None:
    """Queued runs cost nothing, running ones their share; lists leave both out, and others' runs are left alone."""

    async def story(kaggle: SimulatedKaggle) -> None:
        kaggle.add_run("t", "theirs", RunScript(running=100.0))
        await kaggle.schedule_runs("t", ["running", "queued", "lost"])
        await anyio.sleep(25.0 - kaggle.now())
        before = (await kaggle.proxy_quotas()).quota_balances[0].quota_used
        assert await kaggle.cancel_runs("t") == CancelRunsResponse(queued_cancelled_count=1)
        for reached in (1, 0, 1):
            answer = await kaggle.cancel_runs("t", include_active=True)
            assert answer == CancelRunsResponse(active_terminated_count=reached)
        listed = {run.model_version_slug: run.state async for run in kaggle.list_runs("t")}
        assert listed == {"theirs": RunState.RUNNING}
        spent = (await kaggle.proxy_quotas()).quota_balances[0].quota_used - before
        assert 0.5 < spent < 0.6  # a quarter of 1 each
        (again,) = await kaggle.schedule_runs("t", ["queued"])
        assert again.run_scheduled

    scripts = {
        "running": RunScript(running=100.0, cost=1.0),
        "queued": RunScript(queued=100.0, cost=1.0),
        "lost": RunScript(running=100.0, cost=1.0, unreachable=2),
    }
    play(Scenario(runs=scripts), story)


def test_missing_things_are_refused() -> None:
    """Unknown tasks, runs and models, queued logs and outputs that do not exist yet are refused."""

    async def story(kaggle: SimulatedKaggle) -> None:
        for unknown in (
            kaggle.get_task("nothing"),
            kaggle.schedule_runs("t", ["m", "bad"]),
            kaggle.leaderboard("me", "nothing"),
            kaggle.delete_task("t"),
        ):
            with pytest.raises(NotFound):
                await unknown
        await kaggle.schedule_runs("t", ["m"])
        for run_id in (1001, 7):
            with pytest.raises(NotFound):
                await anext(kaggle.logs(run_id))
            with pytest.raises(NotFound):
                await kaggle.download_output(run_id, Path("nowhere"))

    play(Scenario(unknown_models=frozenset({"bad"}), runs=RunScript(queued=1.0)), story)


def test_the_costs_of_runs() -> None:
    """The balances grow when a run has ended, and the task quota when it is scheduled."""

    async def story(kaggle: SimulatedKaggle) -> None:
        before = (await kaggle.proxy_quotas()).quota_balances[0].quota_used
        await kaggle.schedule_runs("t", ["m"])
        assert (await kaggle.task_quota()).daily_quota_used == 1
        assert (await kaggle.proxy_quotas()).quota_balances[0].quota_used == before
        await anyio.sleep(3.0)
        assert (await kaggle.proxy_quotas()).quota_balances[0].quota_used == before + 0.25

    play(Scenario(runs=RunScript(cost=0.25)), story)


def test_a_change_of_the_scenario() -> None:
    """A change of the scenario holds from then on, and runs that exist keep their scripts."""

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", ["m"])
        kaggle.change(runs=RunScript.errored("no"), faults=(Fault("get_task", 503),))
        await kaggle.schedule_runs("t", ["m2"])
        with pytest.raises(ServerFault):
            await kaggle.get_task("t")
        await anyio.sleep(5.0)
        second, first = await runs_of(kaggle, "t")
        assert (first.state, second.state, second.error_message) == (
            RunState.COMPLETED,
            RunState.ERRORED,
            "no",
        )

    play(Scenario(), story)


def test_the_state_outlives_the_event_loop() -> None:
    """A second event loop continues at the second at which the first one stopped, or a pause later."""
    kaggle = SimulatedKaggle()

    async def first() -> None:
        assert kaggle.now() == 0.0
        await anyio.sleep(100.0)
        await kaggle.create_task("t", "text")

    async def second() -> None:
        assert kaggle.now() == pytest.approx(100.05)  # when the server did the last call
        kaggle.resume(pause=50.0)
        assert (await kaggle.get_task("t")).creation_state == CreationState.COMPLETED
        assert kaggle.now() == pytest.approx(150.15)

    for main in (first, second):
        run_in_virtual_time(main, backend="trio")
    assert kaggle.times("get_task") == [150.05]
    assert kaggle.arguments("get_task") == ["t"]


def test_a_call_that_arrives_late() -> None:
    """With `late_arrival`, a call whose caller was cancelled takes effect later."""

    async def story(kaggle: SimulatedKaggle) -> None:
        with anyio.move_on_after(0.01):
            await kaggle.schedule_runs("t", ["m"])
        await kaggle.get_task("t")
        assert len(kaggle.runs) == 0
        await anyio.sleep(5.0)
        await kaggle.get_task("t")
        assert [round(run.scheduled, 2) for run in kaggle.our_runs("t", "m")] == [4.01]

    play(Scenario(late_arrival=4.0), story)


def test_a_caller_that_dies(tmp_path: Path) -> None:
    """A subclass can end the caller at any moment of a call."""

    class Deadly(SimulatedKaggle):
        def at(self, moment: str, call: str) -> None:
            if (moment, call) == ("done", "schedule_runs"):
                raise KeyboardInterrupt

    kaggle = Deadly()
    kaggle.add_task("t")
    with pytest.raises(KeyboardInterrupt):
        run_in_virtual_time(lambda: kaggle.schedule_runs("t", ["m"]))
    assert len(kaggle.runs) == 1


def test_finish_ends_creations_and_runs() -> None:
    """`finish` ends what is in progress: creations, queued runs, and running ones with the rest of their logs."""
    scripts = {
        "a": RunScript(running=900, log=((0, "first\n"), (600, "last\n")), cost=1.0),
        "b": RunScript(queued=900, end=RunState.ERRORED, error="no"),
        "c": RunScript(running=900),
    }

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", ["a", "b", "c"])
        await kaggle.create_task("new", "text")
        seen: list[str] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_into, seen, kaggle.logs(1001))
            await anyio.sleep(10)
            assert seen == ["first\n"]
            kaggle.finish(model="a")
            kaggle.finish(model="b")
            kaggle.finish("new")
        assert seen == ["first\n", "last\n"]
        assert kaggle.now() < 12
        assert (await kaggle.get_task("new")).creation_state == CreationState.COMPLETED
        states = [run.state for run in await runs_of(kaggle, "t")]
        assert states == [RunState.RUNNING, RunState.ERRORED, RunState.COMPLETED]
        assert (await kaggle.proxy_quotas()).quota_balances[0].quota_used == pytest.approx(3.001)

    play(Scenario(creation=900, runs=scripts), story)


def test_finish_ends_the_runs_of_a_server() -> None:
    """With `serve`, another thread may end runs: a live log delivers the rest and ends."""
    kaggle = SimulatedKaggle(Scenario(latency=0.0))
    log = ((0.0, "first\n"), (600.0, "last\n"))
    run_id = kaggle.add_run("t", "m", RunScript(running=900, log=log)).id
    seen: list[str] = []

    async def main(url: str) -> None:
        async with Client(Config(url, Anonymous())) as client:
            async for entry in client.logs(run_id):
                seen.append(entry.data)
                await anyio.to_thread.run_sync(kaggle.finish)

    with serve(kaggle) as server:
        anyio.run(main, server.url)
    assert seen == ["first\n", "last\n"]
