"""Retries: what is retried, when, and how often, to the second."""

from __future__ import annotations

import math
from functools import partial

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import (
    BadAnswer,
    BadRequest,
    Bearer,
    Client,
    Config,
    ConnectionFailed,
    FanbenchError,
    NotFound,
    RateLimited,
    ServerFault,
)
from fanbench.wire import protocol
from fanbench.wire.responses import retry_after
from fanbench.wire.retry import NeverSent, Retry, RetryPolicy, may_retry, named_wait, retrying
from fanbench.wire.transport import CallLimits
from tests.wire.scripted import Scripted, in_virtual_time, sequence

FULL = RetryPolicy(random=lambda: 1.0)
NONE = RetryPolicy(random=lambda: 0.0)
CONFIG = Config("http://server", Bearer("t"))
QUOTA = httpx.Response(200, json={"dailyQuotaUsed": 1})
SCHEDULED = httpx.Response(200, json={"results": [{"runScheduled": True}]})


def fault(status: int, retry_after: float | None = None) -> ServerFault:
    return ServerFault("m", call="c", status=status, retry_after=retry_after)


def response(status: int, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"code": status, "message": "m"}, headers=named)


REFUSED = httpx.ConnectError("refused")
RESET = httpx.ReadError("reset")


# --- The pure part ---


@pytest.mark.parametrize(
    ("error", "idempotent", "other"),
    [
        (NeverSent("m", endpoint="e"), True, True),
        (RateLimited("m", call="c"), True, True),
        (fault(503), True, False),
        (ConnectionFailed("m", endpoint="e"), True, False),
        (fault(500), True, False),
        (fault(502), True, False),
        (fault(504), True, False),
        (fault(501), False, False),
        (fault(505), False, False),
        (NotFound("m", call="c", status=404), False, False),
        (BadRequest("m", call="c", status=400), False, False),
        (BadAnswer("m", call="c", status=200), False, False),
        (FanbenchError("m"), False, False),
    ],
)
def test_what_may_be_sent_again(error: FanbenchError, idempotent: bool, other: bool) -> None:
    """A call that the server may have carried out is repeated only if it is idempotent."""
    assert may_retry(error, protocol.GET_TASK) is idempotent
    assert may_retry(error, protocol.SCHEDULE_RUNS) is other


def test_calls_that_change_things_once() -> None:
    """Only creating, scheduling and deleting must not be repeated."""
    calls = [call for call in vars(protocol).values() if isinstance(call, protocol.Call)]
    once = {call.method for call in calls if not call.idempotent}
    assert once == {"CreateBenchmarkTask", "BatchScheduleBenchmarkTaskRuns", "DeleteBenchmarkTask"}


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_backoff_is_bounded(failures: int, chance: float) -> None:
    """However many failures there were, the wait is between 0 and the cap."""
    policy = RetryPolicy(random=lambda: chance)
    assert 0 <= policy.backoff(failures) <= policy.cap


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": "Fri, 99 Foo 99999 99:99:99 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": "Fri, 31 Dec 9999 23:59:58 GMT"}, 1.0),
        ({"retry-after": "Fri, 01 Jan 2027 00:00:30 GMT", "date": "Fri, 01 Jan 2027 00:00:00 GMT"}, 30.0),
        ({"retry-after": "Fri, 01 Jan 2027 00:00:00 GMT", "date": "Fri, 01 Jan 2027 00:00:30 GMT"}, 0.0),
        ({"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Retry-After may be seconds or an HTTP date, by the server's own clock; anything else is ignored."""
    assert retry_after(headers) == seconds


@given(
    st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,5} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [A-Z+0-9-]{1,9}")
)
def test_any_retry_after_is_a_bounded_wait(value: str) -> None:
    """Whatever the header contains, it is ignored or is a wait that ends, and nobody keeps it longer than 5 minutes."""
    seconds = retry_after({"retry-after": value})
    assert seconds is None or 0.0 <= seconds < math.inf
    wait = named_wait(RateLimited("m", call="c", retry_after=seconds))
    assert wait is None or 0.0 <= wait <= 300.0


# --- To the second ---


async def quota(http: Scripted, policy: RetryPolicy) -> object:
    async with Client(CONFIG, http=http, retry=policy) as client:
        try:
            return await client.task_quota()
        except FanbenchError as error:
            return error


async def schedule(http: Scripted, policy: RetryPolicy) -> object:
    async with Client(CONFIG, http=http, retry=policy) as client:
        try:
            return await client.schedule_runs("a", ["m"])
        except FanbenchError as error:
            return error


def test_waits_double_up_to_the_cap() -> None:
    """With the longest jitter, the waits of the 8 attempts are 0.5, 1, 2, … seconds, at most 20."""
    http = Scripted(response(500))
    error = in_virtual_time(partial(quota, http, FULL))
    assert isinstance(error, ServerFault)
    assert sequence(http.times) == [0.5, 1, 2, 4, 8, 16, 20]


def test_jitter_takes_the_whole_wait() -> None:
    """With the shortest jitter, there is no wait at all."""
    http = Scripted(response(500))
    in_virtual_time(partial(quota, http, NONE))
    assert http.times == [0.0] * 8


def test_refused_connections_give_up_sooner() -> None:
    """A server that refuses connections is tried 4 times, for 3.5 seconds at most."""
    http = Scripted(REFUSED)
    error = in_virtual_time(partial(quota, http, FULL))
    assert isinstance(error, ConnectionFailed)
    assert http.times == [0, 0.5, 1.5, 3.5]


def test_retry_after_in_seconds_is_kept() -> None:
    """A Retry-After is respected, and jitter only lengthens it."""
    http = Scripted(response(429, Retry_After="30"), response(503, Retry_After="7"), QUOTA)
    in_virtual_time(partial(quota, http, NONE))
    assert http.times == [0, 30, 37]
    http = Scripted(response(429, Retry_After="30"), QUOTA)
    in_virtual_time(partial(quota, http, FULL))
    assert http.times == [0, 30.5]


def test_retry_after_as_a_date_is_kept() -> None:
    """A Retry-After given as a date is respected, too."""
    dates = {"Retry_After": "Fri, 01 Jan 2027 00:01:00 GMT", "Date": "Fri, 01 Jan 2027 00:00:15 GMT"}
    http = Scripted(response(429, **dates), QUOTA)
    in_virtual_time(partial(quota, http, NONE))
    assert http.times == [0, 45]


def test_total_time_is_bounded() -> None:
    """A wait that would exceed the total is not begun: the error is raised at once, with the wait in it."""
    http = Scripted(response(429, Retry_After="50"))
    error = in_virtual_time(partial(quota, http, NONE))
    assert isinstance(error, RateLimited)
    assert error.retry_after == 50
    assert http.times == [0, 50, 100]


def test_time_outs_count_into_the_total() -> None:
    """A server that never answers costs four time-outs of 15 to 60 seconds, not eight of 60."""
    http = Scripted((60.0, httpx.ReadTimeout("")))
    error = in_virtual_time(partial(quota, http, NONE))
    assert isinstance(error, ConnectionFailed)
    assert http.times == [0, 15, 45, 105]


def test_broken_connections_are_tried_again() -> None:
    """An idempotent call is repeated after its connection broke."""
    http = Scripted(RESET, RESET, QUOTA)
    assert in_virtual_time(partial(quota, http, FULL)) is not None
    assert http.times == [0, 0.5, 1.5]


def test_an_error_inside_a_200_is_tried_again() -> None:
    """A 200 with the code 503 in its body is retried like a 503."""
    http = Scripted(httpx.Response(200, json={"code": 503, "message": "m"}), QUOTA)
    in_virtual_time(partial(quota, http, FULL))
    assert http.times == [0, 0.5]


@pytest.mark.parametrize("failure", [RESET, response(500), response(502), response(504)])
def test_schedule_is_not_sent_twice(failure: httpx.Response | Exception) -> None:
    """A schedule that may have reached the server is not repeated."""
    http = Scripted(failure, SCHEDULED)
    error = in_virtual_time(partial(schedule, http, FULL))
    assert isinstance(error, ConnectionFailed | ServerFault)
    assert len(http.times) == 1


@pytest.mark.parametrize("failure", [REFUSED, httpx.ConnectTimeout(""), response(429)])
def test_schedule_is_sent_again_where_it_was_not_done(failure: httpx.Response | Exception) -> None:
    """A schedule that certainly was not carried out is repeated."""
    http = Scripted(failure, SCHEDULED)
    assert isinstance(in_virtual_time(partial(schedule, http, FULL)), list)
    assert http.times == [0, 0.5]


def test_waiting_holds_no_slot() -> None:
    """A call waiting for its retry does not hold a slot."""

    async def main() -> list[str]:
        order: list[str] = []
        http = Scripted(response(500), QUOTA)
        policy = RetryPolicy(base=10.0, random=lambda: 1.0)
        limiter = anyio.CapacityLimiter(1)
        limits = CallLimits(calls=limiter, streams=limiter, downloads=limiter)
        async with Client(CONFIG, http=http, retry=policy, limits=limits) as client:

            async def call(name: str) -> None:
                await client.task_quota()
                order.append(f"{name} at {anyio.current_time() - started:.0f}")

            started = anyio.current_time()
            async with anyio.create_task_group() as group:
                group.start_soon(call, "first")
                await anyio.wait_all_tasks_blocked()
                group.start_soon(call, "second")
        assert limiter.borrowed_tokens == 0
        return order

    assert in_virtual_time(main) == ["second at 0", "first at 10"]


def test_retries_are_announced() -> None:
    """The hook receives the call, the attempt, the wait and the error of each retry."""
    seen: list[Retry] = []
    http = Scripted(response(500), response(429, Retry_After="2"), QUOTA)
    policy = RetryPolicy(random=lambda: 0.0, on_retry=seen.append)
    in_virtual_time(partial(quota, http, policy))
    assert [(retry.call, retry.attempt, retry.wait) for retry in seen] == [
        ("GetBenchmarkTaskQuota", 1, 0.0),
        ("GetBenchmarkTaskQuota", 2, 2.0),
    ]
    assert isinstance(seen[0].error, ServerFault)
    assert isinstance(seen[1].error, RateLimited)


@pytest.mark.anyio
async def test_last_error_is_raised_as_it_was() -> None:
    """After the last attempt, the last error is raised itself, without a wrapper."""
    errors = [fault(500), fault(502)]

    async def attempt(number: int) -> None:
        raise errors[number - 1]

    policy = RetryPolicy(attempts=2, random=lambda: 0.0)
    with pytest.raises(ServerFault) as caught:
        await retrying(policy, protocol.GET_TASK, attempt)
    assert caught.value is errors[1]


@pytest.mark.anyio
async def test_foreign_errors_are_not_touched() -> None:
    """An exception that is not a FanbenchError is a bug, and is not retried."""

    async def attempt(number: int) -> None:
        raise ZeroDivisionError(number)

    with pytest.raises(ZeroDivisionError, match="1"):
        await retrying(FULL, protocol.GET_TASK, attempt)
