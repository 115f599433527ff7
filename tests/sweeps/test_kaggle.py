"""The simulated Kaggle itself: what the scenarios rely on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from fanbench import BadRequest, ConnectionFailed, NotFound, RateLimited
from fanbench.operations.logs import follow_log
from fanbench.operations.lookup import runs_of
from fanbench.wire.messages import RunState
from tests.sweeps.kaggle import SimulatedKaggle
from tests.sweeps.life import Killed, MortalRecords
from tests.sweeps.records import MemoryRecords
from tests.sweeps.scenario import Call, Fault, Scenario, always, throttled
from tests.wire.scripted import in_virtual_time

Story = Callable[[SimulatedKaggle], Awaitable[None]]


def told(scenario: Scenario, story: Story) -> SimulatedKaggle:
    """`story` on a server that has the task `t`."""
    kaggle = SimulatedKaggle(scenario)
    kaggle.have_task("t")

    async def main() -> None:
        kaggle.begin()
        await story(kaggle)

    in_virtual_time(main)
    return kaggle


def test_a_run_from_its_schedule_to_its_output(tmp_path: Path) -> None:
    """Times add up to the tenth of a second, and files are whole."""

    async def story(kaggle: SimulatedKaggle) -> None:
        (result,) = await kaggle.schedule_runs("t", ["m"])
        assert result.run_scheduled
        (run,) = await runs_of(kaggle, "t")
        assert (run.id, run.state) == (1001, RunState.RUNNING)
        entries = [(round(kaggle.now(), 3), entry.data) async for entry in kaggle.logs(1001)]
        assert entries == [(0.3, "begin\n"), (1.05, "half\nway\n")]
        assert kaggle.now() == pytest.approx(2.05)
        assert (await runs_of(kaggle, "t"))[0].state == RunState.COMPLETED
        put = await kaggle.download_output(1001, tmp_path / "1001")
        assert {name: (put.path / name).read_bytes() for name in put.files} == kaggle.runs[1001].output()

    kaggle = told(Scenario(), story)
    assert kaggle.calls == {"schedule": 1, "runs": 2, "logs": 1, "download": 1}
    assert list(tmp_path.iterdir()) == [tmp_path / "1001"]


def test_a_second_run_in_flight() -> None:
    """It is refused, or taken, as the scenario says."""
    for one_in_flight in (True, False):

        async def story(kaggle: SimulatedKaggle) -> None:
            await kaggle.schedule_runs("t", ["m"])
            (second,) = await kaggle.schedule_runs("t", ["m"])
            assert second.run_scheduled == (not kaggle.scenario.one_in_flight)
            assert bool(second.run_skipped_reason) == kaggle.scenario.one_in_flight

        assert len(told(Scenario(one_in_flight=one_in_flight), story).runs) == 2 - one_in_flight


@pytest.mark.parametrize("after", [False, True])
def test_an_answer_that_is_lost(after: bool) -> None:
    """The deed is done or not; in both cases the call fails, once."""

    async def story(kaggle: SimulatedKaggle) -> None:
        with pytest.raises(ConnectionFailed):
            await kaggle.schedule_runs("t", ["m"])
        assert len(kaggle.runs) == after
        await kaggle.schedule_runs("t", ["m2"])

    told(Scenario(faults=(Fault("schedule", after=after),)), story)


def test_faults_have_their_time() -> None:
    """Calls fail from the first that is meant on, and within the seconds that are meant."""

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
        Fault("task", throttled(), first=2, times=2),
        Fault("task", throttled(), times=9, since=4.5, until=6.5),
    )
    told(Scenario(faults=faults), story)


def test_lists_as_they_are() -> None:
    """Late, in pages that shift, in another order, of all models: each run once all the same."""

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", [f"m{number}" for number in range(10)])
        assert await runs_of(kaggle, "t") == []
        kaggle.will_run(kaggle.now() + 1.1, "t", "other")
        await anyio.sleep(1.0)
        listed = await runs_of(kaggle, "t", ["m3"])
        assert {f"m{number}" for number in range(10)} <= {run.model_version_slug for run in listed}
        assert len({run.id for run in listed}) == len(listed)

    kaggle = told(Scenario(unlisted=0.5, page=3, lies=True), story)
    assert kaggle.calls["runs"] == 1 + 4


def test_logs_that_break() -> None:
    """A cut raises, a stop ends; taken up, the whole is there; kept logs are cut into other pieces."""
    log = tuple((float(second), f"{second}\n") for second in range(8))
    course = always(running=10.0, log=log, cuts=(2.5,), stops=(5.5,), recut=3)

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", ["m"])
        text = "".join([entry.data async for entry in follow_log(kaggle, 1001)])
        assert text == "0\n1\n2\n3\n4\n5\n"
        await anyio.sleep(10.0)
        kept = [entry.data async for entry in kaggle.logs(1001)]
        assert "".join(kept) == kaggle.runs[1001].log
        assert kept[0] == "0\n1"

    assert told(Scenario(course=course), story).calls["logs"] == 3


def test_what_is_not_there() -> None:
    """Unknown tasks, unready ones, queued logs and outputs that are to come are refused."""

    async def story(kaggle: SimulatedKaggle) -> None:
        with pytest.raises(NotFound):
            await kaggle.get_task("nothing")
        await kaggle.create_task("t", "new")
        with pytest.raises(BadRequest):
            await kaggle.schedule_runs("t", ["m"])
        await anyio.sleep(3.0)
        with pytest.raises(NotFound):
            await kaggle.schedule_runs("t", ["m", "bad"])
        await kaggle.schedule_runs("t", ["m"])
        with pytest.raises(NotFound):
            await anext(kaggle.logs(1001))
        with pytest.raises(NotFound):
            await kaggle.download_output(1001, Path("nowhere"))

    told(Scenario(refused=frozenset({"bad"}), course=always(queued=1.0)), story)


@pytest.mark.parametrize(("kill_in", "runs"), [(("schedule", False), 0), (("schedule", True), 1)])
def test_a_dead_process_has_no_effect(tmp_path: Path, kill_in: tuple[Call, bool], runs: int) -> None:
    """After the kill no call reaches the server, and nothing gets into the journal or onto the disk."""
    kaggle, records = SimulatedKaggle(), MemoryRecords()
    kaggle.have_task("t")
    ended = kaggle.have_run("t", "old", age=100.0)

    async def main() -> None:
        kaggle.begin(kill_in=kill_in)
        with pytest.raises(Killed):
            await kaggle.schedule_runs("t", ["m"])
        with pytest.raises(Killed):
            await kaggle.schedule_runs("t", ["m2"])
        with pytest.raises(Killed):
            await kaggle.download_output(ended.id, tmp_path / "out")
        with pytest.raises(Killed):
            await kaggle.life.offload(lambda: (tmp_path / "file").touch())
        MortalRecords(records, kaggle.life).save_value("name", "value")

    in_virtual_time(main)
    assert len(kaggle.ours()) == runs
    assert records.value("name") is None
    assert list(tmp_path.iterdir()) == []
