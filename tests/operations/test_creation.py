"""Waiting for creations in virtual time, exact to the second and to the call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fanbench import NotFound, RunFailed
from fanbench._util import polling
from fanbench._util.polling import Deadline
from fanbench.operations.creation import ensure_created, wait_for_creation
from fanbench.operations.events import CreationPolled, PollFailed
from fanbench.operations.watch import StillRunning
from fanbench.testing import Fault
from fanbench.wire.messages import CreationState
from tests.operations.conftest import Reported, simulated, task
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_JITTER", 0.0)


async def test_a_creation_is_waited_for(reported: Reported) -> None:
    """Each poll reports the state, and whether it is a new one."""
    client = simulated(creation=4)
    await client.create_task("t", "{}")
    made = await wait_for_creation(client, "t", Deadline(None), emit=reported)
    assert made.creation_state == CreationState.COMPLETED
    assert [event.changed for event in reported if isinstance(event, CreationPolled)] == [
        True,
        False,
        False,
        False,
    ]


async def test_an_answer_about_an_earlier_version_is_ignored() -> None:
    """An answer about the previous version does not end the wait."""
    client = simulated("t")
    with pytest.raises(StillRunning):
        await wait_for_creation(client, "t", Deadline(30), version=2)


async def test_a_creation_that_takes_too_long_times_out() -> None:
    """The wait ends at the second of the timeout, and the error has the state."""
    client = simulated(creation=100)
    await client.create_task("t", "{}")
    with pytest.raises(StillRunning, match="RUNNING"):
        await wait_for_creation(client, "t", Deadline(10))
    assert client.now() == 10


@pytest.mark.parametrize(
    ("creation", "calls", "end"),
    [(0, 1, 0), (2, 3, 2), (5, 6, 5.467), (12, 9, 13.452), (60, 14, 60.32), (600, 25, 620.352)],
)
async def test_the_end_of_a_creation_is_seen_soon(creation: float, calls: int, end: float) -> None:
    """The end is seen within a second or 0.35 of the creation's age, and never later than the interval."""
    client = simulated(creation=creation)
    await client.create_task("t", "{}")
    await wait_for_creation(client, "t", Deadline(None))
    assert client.calls["get_task"] == calls
    assert client.times("get_task")[-1] == end


@pytest.mark.parametrize("jitter", [0.0, 1.0])
@pytest.mark.parametrize("creation", [5, 60, 600])
async def test_a_creation_costs_few_calls_more_than_the_vendors_pace(
    creation: float, jitter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation of any length costs at most nine calls more; jitter compounds to a few more."""
    monkeypatch.setattr(polling, "_JITTER", 0.1)
    pace, looks = polling.CreationPace(spread=lambda: jitter), [0.0]
    while looks[-1] < creation:
        looks.append(looks[-1] + pace.next())
    assert len(looks) <= (len(list(_vendors_looks(until=creation))) + 9) * (1 + 0.15 * jitter)


def _vendors_looks(until: float) -> Iterator[float]:
    """Yield the seconds at which kaggle 2.2.4 and 2.2.5 poll."""
    now, pause = 0, 5
    while now < until:
        yield now
        now, pause = now + pause, min(60, int(pause * 1.5))
    yield now


async def test_a_task_that_was_just_seen_is_polled_a_second_later() -> None:
    """The answer to a push has the state, so the first poll comes a second later."""
    client = simulated(creation=5)
    pushed = await client.create_task("t", "{}")
    await wait_for_creation(client, "t", Deadline(None), seen=pushed)
    assert client.times("get_task") == [1, 2, 3, 4.05, 5.467]


async def test_the_wait_survives_failed_polls(reported: Reported) -> None:
    """Up to five failed polls in a row are repeated, but a refusal ends the wait."""
    client = simulated(creation=3)
    await client.create_task("t", "{}")
    client.change(faults=(Fault("get_task", times=5),))
    assert (
        await wait_for_creation(client, "t", Deadline(None), emit=reported)
    ).creation_state == CreationState.COMPLETED
    assert len(reported.of(PollFailed)) == 5
    with pytest.raises(NotFound):
        await wait_for_creation(client, "other", Deadline(None))


async def test_a_wait_may_be_shorter_than_the_first_pause() -> None:
    """A short timeout ends the wait at that very moment, and the error names it."""
    client = simulated(creation=9)
    await client.create_task("t", "{}")
    with pytest.raises(StillRunning, match=r"after 0\.5s: the creation of task 't' is RUNNING"):
        await wait_for_creation(client, "t", Deadline(0.5))
    assert client.now() == 0.5


@pytest.mark.parametrize(
    "state",
    [
        CreationState.ERRORED,
        CreationState.KERNEL_WITHOUT_RUN,
        CreationState.NO_MODEL_SPECIFIED,
        CreationState("NEW"),
    ],
)
def test_every_end_except_completed_is_a_failure(state: CreationState) -> None:
    """Every final state but COMPLETED is a failure, even one that this version does not know."""
    with pytest.raises(RunFailed, match=state.label):
        ensure_created("t", task("t", state))


NEW = CreationState("BENCHMARK_TASK_VERSION_CREATION_STATE_CHECKING")


@pytest.mark.parametrize("creating", [CreationState.VALIDATING, CreationState.UNSPECIFIED, NEW])
async def test_every_state_that_is_no_end_is_waited_for(creating: CreationState, reported: Reported) -> None:
    """Only an end ends the wait, and a state that is not known is reported once, with what it means."""
    client = simulated(creation=4, creating=creating)
    pushed = await client.create_task("t", "{}")
    assert (
        await wait_for_creation(client, "t", Deadline(None), seen=pushed, emit=reported)
    ).creation_state.ended
    (new,) = [event.text for event in reported if isinstance(event, CreationPolled) and event.changed]
    assert new.startswith(f"t: {creating.label}")
    assert ("does not know" in new) is (creating == NEW)
