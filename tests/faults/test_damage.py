"""A real client meets each damage in virtual time: it gets the answer, or the right error, and never waits for ever."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from fanbench import BadAnswer, Client, ConnectionFailed, RateLimited, ServerFault
from fanbench.testing import (
    ApiCall,
    Damage,
    Fault,
    RunScript,
    Scenario,
    SimulatedKaggle,
    SimulatedTransport,
    run_in_virtual_time,
)
from fanbench.wire.downloads import BadZip

DAMAGES: tuple[Damage, ...] = get_args(Damage)
OF_EVENTS = tuple(each for each in DAMAGES if each.startswith("sse_"))
OF_BODIES = tuple(each for each in DAMAGES if each not in OF_EVENTS)
RUN = RunScript(running=100.0, log=tuple((10.0 * second, f"line {second}\n") for second in range(10)))
LOG = [f"line {second}" for second in range(10)]
ERRORS = (BadAnswer, ConnectionFailed, RateLimited, ServerFault, BadZip)
# The most seconds for which a call may go on: with retries, and the last minute of a silent connection.
PATIENCE = 600.0

Use = Callable[[Client, SimulatedKaggle], Awaitable[Any]]


def outcome(fault: Fault, use: Use, **config: Any) -> Any:
    """What a client gets for `use`, or the type of the error; within PATIENCE in any case."""
    kaggle = SimulatedKaggle(Scenario(faults=(fault,), runs=RUN), models=["m"])
    kaggle.add_task("t")

    async def main() -> Any:
        async with Client(replace(kaggle.config, **config), http=SimulatedTransport(kaggle)) as client:
            with anyio.fail_after(PATIENCE):
                try:
                    return await use(client, kaggle)
                except ERRORS as error:
                    return next(kind for kind in ERRORS if isinstance(error, kind))

    return run_in_virtual_time(main)


async def list_runs(client: Client, kaggle: SimulatedKaggle) -> list[str]:
    kaggle.add_run("t", "m", age=5)
    kaggle.add_run("t", "m", age=5)
    return [run.state.label async for run in client.list_runs("t")]


async def get_task(client: Client, _kaggle: SimulatedKaggle) -> str:
    return (await client.get_task("t")).creation_state.label


async def read_log(client: Client, kaggle: SimulatedKaggle) -> list[str]:
    run = kaggle.add_run("t", "m", age=5)
    lines: list[str] = []
    async with aclosing(client.lines(run.message(kaggle.now(), "m"))) as log:
        async for line in log:
            lines.append(line)
    return lines


# --- Answers ------------------------------------------------------------------------------------------------

BROKEN: dict[Any, Any] = dict.fromkeys(("reset", "cut", "short", "stall"), ConnectionFailed)
UNREADABLE: dict[Any, Any] = dict.fromkeys(("flood", "half", "html", "bomb", "wrong_type", "null"), BadAnswer)
# What a list that is asked for again survives, and what it ends in if it happens each time.
PASSING: dict[Any, Any] = {
    **BROKEN,
    "drip": ConnectionFailed,
    **dict.fromkeys(("half", "html", "null", "wrong_type", "page_loop", "page_flood"), BadAnswer),
}


@pytest.mark.parametrize("damage", OF_BODIES)
def test_a_list(damage: Damage) -> None:
    """A list is read in spite of damage that passes; one that is not whole is an error, and never taken as whole."""
    expected: dict[Any, Any] = {damage: BadAnswer for damage in UNREADABLE if damage not in PASSING}
    expected |= {"stale": [], "unknown_enum": ["RUNNING_NEWER"] * 2}
    assert outcome(Fault("list_runs", damage=damage), list_runs) == expected.get(damage, ["RUNNING"] * 2)


@pytest.mark.parametrize("damage", PASSING)
def test_a_list_that_is_always_damaged(damage: Damage) -> None:
    """Damage that does not pass is an error, after some tries."""
    fault = Fault("list_runs", damage=damage, times=math.inf)
    assert outcome(fault, list_runs) == PASSING[damage]


@pytest.mark.parametrize("damage", [*OF_BODIES, None])
def test_a_call_that_must_not_be_made_twice(damage: Damage | None) -> None:
    """A schedule call is made once, whatever happens to its answer, and its work is done once."""
    servers: list[SimulatedKaggle] = []

    async def schedule(client: Client, kaggle: SimulatedKaggle) -> list[bool]:
        servers.append(kaggle)
        return [result.run_scheduled for result in await client.schedule_runs("t", ["m"])]

    found = outcome(Fault("schedule_runs", damage=damage, took_effect=True), schedule)
    unreadable = {**UNREADABLE, "stale": BadAnswer, "duplicated": BadAnswer}
    expected: dict[Any, Any] = {None: ConnectionFailed, **BROKEN, **unreadable}
    assert found == expected.get(damage, [True])
    (kaggle,) = servers
    assert len(kaggle.runs) == kaggle.calls["schedule_runs"] == 1


@pytest.mark.parametrize("damage", [each for each in OF_BODIES if each not in ("reset", "drip")])
def test_a_download(damage: Damage, tmp_path: Path) -> None:
    """A download whose connection breaks is tried again; one that is no output, or too large, is an error."""

    async def download(client: Client, kaggle: SimulatedKaggle) -> list[str]:
        run = kaggle.add_run("t", "m", age=200)
        done = await client.download_output(run.id, tmp_path / "output")
        return sorted(done.files)

    found = outcome(Fault("download_output", damage=damage), download, max_output=1 << 20)
    refused = {"half": BadZip, "html": BadAnswer, "flood": BadAnswer, "bomb": BadAnswer}
    assert found == refused.get(damage, ["kernel/out.txt", "t.run.json"])
    assert (tmp_path / "output").exists() == (found not in (BadZip, BadAnswer))
    assert not list(tmp_path.glob(".*"))


def test_a_download_that_answers_503(tmp_path: Path) -> None:
    """A download that is answered with 503 once is tried again, and whole; one that always is ends as an error."""

    async def download(client: Client, kaggle: SimulatedKaggle) -> tuple[list[str], int]:
        run = kaggle.add_run("t", "m", age=200)
        done = await client.download_output(run.id, tmp_path / "output")
        return sorted(done.files), kaggle.calls["download_output"]

    always = outcome(Fault("download_output", 503, times=math.inf), download)
    assert always is ServerFault
    assert not list(tmp_path.iterdir())
    assert outcome(Fault("download_output", 503), download) == (["kernel/out.txt", "t.run.json"], 2)


def test_a_drip_of_a_download(tmp_path: Path) -> None:
    """A download of a byte a second is given up within a minute, and tried again."""

    async def download(client: Client, kaggle: SimulatedKaggle) -> float:
        run = kaggle.add_run("t", "m", age=200)
        await client.download_output(run.id, tmp_path / "output")
        return kaggle.now()

    assert 30 <= outcome(Fault("download_output", damage="drip"), download) <= 60


# --- Streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [*OF_EVENTS, "cut", "short", "stall", "drip", "clock", "null"])
def test_a_live_log(damage: Damage) -> None:
    """Lines come once, in order, and whole, in spite of one defect of the stream."""
    found = outcome(Fault("logs", damage=damage), read_log)
    assert found == (BadAnswer if damage == "sse_endless" else LOG)


@pytest.mark.parametrize("events", [0, 1, 9, 10, 11])
@pytest.mark.parametrize("damage", ["sse_cut", "sse_silence", "sse_heartbeats"])
def test_defects_after_some_events(damage: Damage, events: int) -> None:
    """A defect comes after so many events of the stream, and loses and doubles no line."""
    assert outcome(Fault("logs", damage=damage, events=events), read_log) == LOG


@pytest.mark.parametrize("damage", ["half", "null"])
def test_a_stored_log(damage: Damage) -> None:
    """The log of a run that has ended is read again if it is no whole list of entries."""

    async def read(client: Client, kaggle: SimulatedKaggle) -> list[str]:
        run = kaggle.add_run("t", "m", age=200)
        async with aclosing(client.lines(run.message(kaggle.now(), "m"))) as log:
            return [line async for line in log]

    assert outcome(Fault("logs", damage=damage), read) == LOG


@pytest.mark.parametrize("lag", [0.0, 3.0, 20.0])
@pytest.mark.parametrize("damage", ["sse_end", "sse_duplicated"])
def test_a_defect_of_each_stream(damage: Damage, lag: float) -> None:
    """What ends early or comes twice each time is whole in the end, even if lists show the end of the run late."""
    fault, script = Fault("logs", damage=damage, events=3, times=3), replace(RUN, end_lag=lag)

    async def read(client: Client, kaggle: SimulatedKaggle) -> list[str]:
        kaggle.change(runs=script)
        return await read_log(client, kaggle)

    assert outcome(fault, read) == LOG


def test_a_log_that_is_garbled_each_time() -> None:
    """If a live log is garbled at the same place again, it is shown as it is, and found to be damaged at the end."""
    shown: list[str] = []

    async def read(client: Client, kaggle: SimulatedKaggle) -> None:
        run = kaggle.add_run("t", "m", age=5)
        async with aclosing(client.lines(run.message(kaggle.now(), "m"))) as log:
            async for line in log:
                shown.append(line)

    assert outcome(Fault("logs", damage="sse_garbled", times=math.inf), read) == ConnectionFailed
    assert shown == ["line 0", '{"data": \ufffd\ufffd\x1b]0;title\x07', *LOG[2:]]


@pytest.mark.parametrize("damage", ["sse_silence", "sse_heartbeats", "sse_no_end"])
def test_streams_that_never_end(damage: Damage) -> None:
    """A client that meets a stream without an end each time reads the stored log soon after the run's end."""

    async def read(client: Client, kaggle: SimulatedKaggle) -> tuple[list[str], bool]:
        return await read_log(client, kaggle), kaggle.now() < 95 + 30

    assert outcome(Fault("logs", damage=damage, times=math.inf), read) == (LOG, True)


# --- Delays, clocks, and old answers ------------------------------------------------------------------------


@pytest.mark.parametrize("took_effect", [False, True])
def test_delays(took_effect: bool) -> None:
    """A delay is before the work or after it, and the answer is whole."""

    async def story(client: Client, kaggle: SimulatedKaggle) -> tuple[float, float]:
        await client.schedule_runs("t", ["m"])
        return round(kaggle.runs[1001].scheduled, 2), round(kaggle.now(), 2)

    work = 0.05 if took_effect else 5.05
    fault = Fault("schedule_runs", delay=5.0, took_effect=took_effect)
    assert outcome(fault, story) == (work, 5.1)


def test_delays_with_a_tail() -> None:
    """Of drawn delays, half are shorter than the median, and one of a hundred is longer than the 99th percentile."""

    async def story(client: Client, kaggle: SimulatedKaggle) -> list[float]:
        times = []
        for _ in range(400):
            before = kaggle.now()
            await client.get_task("t")
            times.append(kaggle.now() - before - kaggle.scenario.latency)
        return times

    times = outcome(Fault("get_task", delay=(0.1, 2.0), times=math.inf), story)
    assert 150 <= sum(each <= 0.1 for each in times) <= 250
    assert 0 <= sum(each > 2.0 for each in times) <= 15
    assert max(times) > 1.0


@pytest.mark.parametrize("call", ["get_task", "list_runs"])
def test_a_clock_that_is_off(call: ApiCall) -> None:
    """Both the header and the times in the answer are those of a clock that is fast."""

    async def story(client: Client, kaggle: SimulatedKaggle) -> float:
        kaggle.add_run("t", "m", age=50)
        if call == "get_task":
            shown = (await client.get_task("t")).create_time
            right = kaggle.tasks["t"].message(kaggle.now()).create_time
        else:
            shown = (await anext(client.list_runs("t"))).start_time
            right = kaggle.runs[1001].message(kaggle.now(), "m").start_time
        assert shown is not None
        assert right is not None
        return round((shown - right).total_seconds())

    assert outcome(Fault(call, damage="clock", skew=600.0), story) == 600


def test_an_old_list() -> None:
    """A stale answer is the one that the same request had so many seconds ago; before that, lists were empty."""

    async def story(client: Client, kaggle: SimulatedKaggle) -> list[int]:
        seen = []
        for second in range(4):
            kaggle.add_run("t", f"m{second}")
            seen.append(len([run async for run in client.list_runs("t")]))
            await anyio.sleep(10)
        return seen

    fault = Fault("list_runs", damage="stale", age=15, first=2, times=math.inf)
    assert outcome(fault, story) == [1, 0, 1, 2]


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [
        ({"retry_after": 30}, 30, 40),
        ({"retry_after_date": 30.0}, 29, 40),
        ({"retry_after": "soon"}, 0, 10),
        ({"retry_after": -5}, 0, 10),
        ({"retry_after": ""}, 0, 10),
    ],
)
def test_every_retry_after(wait: dict[str, Any], least: float, most: float) -> None:
    """A client waits as long as the server asks in a way that can be read, and else as it would without."""

    async def story(client: Client, kaggle: SimulatedKaggle) -> float:
        await client.get_task("t")
        first, second = kaggle.times("get_task")
        return second - first

    assert least <= outcome(Fault("get_task", 429, **wait), story) <= most


def test_a_retry_after_of_years() -> None:
    """A wait that nobody can mean is an error within a minute or two, and not waited for."""
    assert outcome(Fault("get_task", 429, retry_after=999999999, times=math.inf), get_task) is RateLimited
