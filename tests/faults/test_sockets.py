"""The simulated Kaggle on a socket damages its answers as it does without one."""

from __future__ import annotations

import pytest

from fanbench import Anonymous, BadAnswer, Client, Config, ConnectionFailed
from fanbench.testing import Damage, Fault, RunScript, Scenario, SimulatedKaggle, serve
from fanbench.wire.retry import RetryPolicy

pytestmark = pytest.mark.anyio

ONCE = RetryPolicy(attempts=1, connect_attempts=1)
BAD: dict[Damage, type[Exception]] = {
    "reset": ConnectionFailed,
    "cut": ConnectionFailed,
    "short": ConnectionFailed,
    "half": BadAnswer,
    "html": BadAnswer,
    "flood": BadAnswer,
    "bomb": BadAnswer,
}
# Reading so much takes a second, and is the same on both event loops.
LARGE: tuple[Damage, ...] = ("flood", "bomb")
GOOD: tuple[Damage, ...] = ("long", "drip", "clock", "duplicated", "stale", "unknown_enum")


async def ask(damage: Damage, retry: RetryPolicy = ONCE) -> None:
    """Ask for a task twice on one connection, of which the first answer is damaged."""
    fault = Fault("get_task", damage=damage, rate=2000.0)
    kaggle = SimulatedKaggle(Scenario(latency=0.0, faults=(fault,)))
    kaggle.add_task("t")
    with serve(kaggle) as server:
        async with Client(Config(server.url, Anonymous()), retry=retry) as client:
            try:
                assert (await client.get_task("t")).slug.version_number == 1
            finally:
                assert (await client.get_task("t")).creation_state.label == "COMPLETED"


@pytest.mark.parametrize(
    ("damage", "anyio_backend"),
    [
        (damage, backend)
        for damage in BAD
        for backend in ("asyncio", "trio")
        if damage not in LARGE or backend == "asyncio"
    ],
)
async def test_damage_that_is_an_error(damage: Damage) -> None:
    """Each damage is the error that it should be, and the next call succeeds."""
    with pytest.raises(BAD[damage]):
        await ask(damage)


@pytest.mark.parametrize("damage", GOOD)
async def test_damage_that_can_be_read(damage: Damage) -> None:
    """The answer is read in spite of the damage, and the next call succeeds."""
    # What is too much of a long answer is in the way of the next one.
    await ask(damage, RetryPolicy(attempts=2) if damage == "long" else ONCE)


@pytest.mark.parametrize("damage", ["sse_cut", "sse_end", "sse_duplicated"])
async def test_a_stream(damage: Damage) -> None:
    """A stream of events on a socket has its first events, and then the defect."""
    log = ((0.0, "a\n"), (0.05, "b\n"))
    fault = Fault("logs", damage=damage)
    kaggle = SimulatedKaggle(Scenario(latency=0.0, faults=(fault,), runs=RunScript(running=0.2, log=log)))
    seen: list[str] = []
    broke = False
    with serve(kaggle) as server:
        run = kaggle.add_run("t", "m")
        async with Client(Config(server.url, Anonymous()), retry=ONCE) as client:
            try:
                async for entry in client.logs(run.id):
                    seen.append(entry.data)
            except ConnectionFailed:
                broke = True
    expected = {"sse_cut": (["a\n"], True), "sse_end": (["a\n"], False)}
    assert (seen, broke) == expected.get(damage, (["a\n", "a\n", "b\n", "b\n"], False))
