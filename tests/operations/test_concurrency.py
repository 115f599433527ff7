"""Many jobs at once: limited, with outcomes in order, and errors that are not wrapped."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import FanbenchError, UsageError
from fanbench._util.concurrency import InOrder, both, gather, settle, unwrap_single_error
from fanbench._util.polling import Pace
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def sleeper(seconds: float, fails: bool = False) -> float:
    await anyio.sleep(seconds)
    if fails:
        raise FanbenchError(f"after {seconds}")
    return seconds


async def test_outcomes_are_in_order_and_time_is_bounded_by_the_limit() -> None:
    """Four jobs of a second, two at a time, take two seconds."""
    began = anyio.current_time()
    assert await settle([partial(sleeper, 1.0) for _ in range(4)], limit=2) == [1, 1, 1, 1]
    assert anyio.current_time() - began == 2


async def test_an_error_is_an_outcome() -> None:
    """A job that fails does not affect the others."""
    slow, broken = await settle([partial(sleeper, 2), partial(sleeper, 1, True)], limit=9)
    assert slow == 2
    assert isinstance(broken, FanbenchError)


async def test_gather_raises_the_first_by_order() -> None:
    """`gather` raises the first error in the order of the jobs, with the others as notes."""
    with pytest.raises(FanbenchError, match="after 2") as caught:
        await gather([partial(sleeper, 2, True), partial(sleeper, 1, True)], limit=9)
    assert caught.value.__notes__ == ["also: after 1"]


async def test_both_returns_two_results() -> None:
    """`both` returns two results of different types, or raises the first one's error."""
    began = anyio.current_time()
    assert await both(partial(sleeper, 1), partial(sleeper, 2)) == (1, 2)
    assert anyio.current_time() - began == 2
    with pytest.raises(FanbenchError, match="after 2"):
        await both(partial(sleeper, 2, True), partial(sleeper, 1, True))


async def test_a_bug_is_raised_by_itself() -> None:
    """An error that is not a FanbenchError is neither swallowed nor wrapped."""

    async def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await both(broken, partial(sleeper, 1))


def test_a_group_of_several_stays_a_group() -> None:
    """A group of several errors is raised as a group."""
    with pytest.raises(ExceptionGroup), unwrap_single_error():
        raise ExceptionGroup("x", [ValueError(), TypeError()])


@given(st.permutations(range(8)))
def test_items_are_emitted_in_order(order: list[int]) -> None:
    """Each item is emitted as soon as all before it have arrived."""
    seen: list[int] = []
    in_order = InOrder(seen.append)
    for number, index in enumerate(order):
        in_order(index, index)
        arrived = set(order[: number + 1])
        assert len(seen) == next(count for count in range(9) if count not in arrived)
    assert seen == list(range(8))


@given(st.floats(0, 1, exclude_max=True), st.floats(0.001, 1000))
def test_a_pause_is_never_longer_than_the_interval(spread: float, limit: float) -> None:
    """Jitter only shortens a pause, by a tenth at most."""
    pace = Pace(limit, spread=lambda: spread)
    plain = [min(limit, 1.5**number) for number in range(30)]
    pauses = [pace.next() for _ in plain]
    assert all(0.9 * long <= pause <= long * 1.0000001 for pause, long in zip(pauses, plain, strict=True))


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_an_interval_must_be_positive(limit: float) -> None:
    """An interval that is not positive is refused: the server would be polled without a pause."""
    with pytest.raises(UsageError):
        Pace(limit)
