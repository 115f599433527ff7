"""The adaptive limit: the policy on its own, then calls, logs and downloads in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import (
    Bearer,
    Client,
    Config,
    FanbenchError,
    NotFound,
    RateLimited,
)
from fanbench.wire.adaptive_limit import Aimd
from fanbench.wire.retry import RetryPolicy, retry_patiently
from fanbench.wire.transport import CallLimits
from tests.wire.scripted import Scripted, in_virtual_time

CONFIG = Config("http://server", Bearer("t"))
AT_ONCE = RetryPolicy(random=lambda: 0.0)
History = list[tuple[int, int, str, float]]


def response(status: int, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return httpx.Response(status, json={"code": status, "message": "m"}, headers=headers)


# --- The policy by itself ---


def limits_after(ceiling: int, story: str) -> list[int]:
    """Return the limit after each step of `story`, for calls sent one after another: + is a good answer, - overload."""
    aimd, limits = Aimd(ceiling), []
    for step in story.replace(" ", ""):
        number = aimd.record_call()
        _ = aimd.record_success(number) if step == "+" else aimd.record_overload(number)
        limits.append(aimd.limit)
    return limits


@pytest.mark.parametrize(
    ("ceiling", "story", "limits"),
    [
        (16, "+", [16]),
        (16, "-", [8]),
        (16, "-----", [8, 4, 2, 1, 1]),
        (5, "--", [2, 1]),
        (1, "-+", [1, 1]),
        (4, "- ++ +++ ++++", [2, 2, 3, 3, 3, 4, 4, 4, 4, 4]),
        (4, "-- + ++ +++", [2, 1, 2, 2, 3, 3, 3, 4]),
        (8, "- +++ - ++ +", [4, 4, 4, 4, 2, 2, 3, 3]),
    ],
)
def test_course_of_the_limit(ceiling: int, story: str, limits: list[int]) -> None:
    """Each sign of overload halves the limit, down to 1; as many good answers as the limit raise it by one."""
    assert limits_after(ceiling, story) == limits


def test_one_burst_halves_once() -> None:
    """Sixteen refused calls that were in flight together halve the limit once; a refusal after that halves it again."""
    aimd = Aimd(16)
    burst = [aimd.record_call() for _ in range(16)]
    assert [aimd.record_overload(number) for number in burst] == [True] + [False] * 15
    assert aimd.limit == 8
    assert aimd.record_overload(aimd.record_call())
    assert aimd.limit == 4


def test_good_answers_of_before_raise_nothing() -> None:
    """Answers to calls sent before the limit fell do not raise it."""
    aimd = Aimd(4)
    early = [aimd.record_call() for _ in range(10)]
    aimd.record_overload(early[5])
    assert not any(aimd.record_success(number) for number in early)
    assert aimd.limit == 2


class Naive:
    """The same policy, written naively with the whole history, as a reference for `Aimd`."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling, self.limit = ceiling, ceiling
        self.sent_at: list[int] = []
        self.falls = [0]
        self.good_since = 0

    def send(self) -> int:
        self.sent_at.append(len(self.sent_at) + 1)
        return self.sent_at[-1]

    def answer(self, number: int, good: bool) -> None:
        if number <= max(self.falls):
            return
        if not good:
            self.falls.append(len(self.sent_at))
            self.limit, self.good_since = max(1, self.limit // 2), 0
        elif self.limit < self.ceiling:
            self.good_since += 1
            if self.good_since == self.limit:
                self.limit, self.good_since = self.limit + 1, 0


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["send", "+", "-"]))))
def test_any_history_follows_the_policy(ceiling: int, steps: Sequence[tuple[int, str]]) -> None:
    """In whatever order calls return, the limit stays in its range, reports each change, and follows the policy."""
    aimd, naive = Aimd(ceiling), Naive(ceiling)
    flying: list[int] = []
    for choice, step in steps:
        before = aimd.limit
        if step == "send" or not flying:
            flying.append(aimd.record_call())
            naive.send()
            changed = False
        else:
            number = flying.pop(choice % len(flying))
            changed = aimd.record_success(number) if step == "+" else aimd.record_overload(number)
            naive.answer(number, step == "+")
        assert 1 <= aimd.limit <= ceiling
        assert changed == (aimd.limit != before)
        assert aimd.limit == naive.limit


# --- Calls, logs and downloads ---


def quota() -> httpx.Response:
    """Return a new response, because a response can be read only once."""
    return httpx.Response(200, json={"dailyQuotaUsed": 1})


async def at_once(calls: int, call: Callable[[], Awaitable[object]]) -> list[object]:
    """Start this many calls together, and return their outcomes in the order in which they end."""
    outcomes: list[object] = []

    async def one() -> None:
        try:
            outcomes.append(await call())
        except FanbenchError as error:
            outcomes.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(calls):
            group.start_soon(one)
    return outcomes


@contextmanager
def observed(limits: CallLimits) -> Iterator[History]:
    history: History = []
    with limits.adaptive.listen(lambda *change: history.append(change)):
        yield history


def quotas(http: Scripted, calls: int, limits: CallLimits, retry: RetryPolicy = AT_ONCE) -> list[object]:
    """Start this many quota calls together in virtual time, and return their outcomes."""

    async def main() -> list[object]:
        async with Client(CONFIG, http=http, limits=limits, retry=retry) as client:
            return await at_once(calls, client.task_quota)

    outcomes: list[object] = in_virtual_time(main)
    return outcomes


async def _made(limits: Callable[[], CallLimits]) -> CallLimits:
    return limits()


def virtual_limits(concurrency: int) -> CallLimits:
    """Create limits inside an event loop, because limiters belong to one."""
    limits: CallLimits = in_virtual_time(partial(_made, partial(CallLimits.of, concurrency)))
    return limits


@pytest.mark.parametrize("status", [429, 503])
def test_all_callers_obey_retry_after(status: int) -> None:
    """When one of eleven calls receives a Retry-After of 5 s, the ten others send nothing until then."""
    http = Scripted((0.1, response(status, "5")), (0.1, quota()))
    limits = virtual_limits(1)
    assert not any(isinstance(one, Exception) for one in quotas(http, 11, limits))
    assert http.times[:2] == [0, 5.1]
    assert len(http.times) == 12
    assert limits.calls.borrowed_tokens == 0


def test_a_pause_applies_to_queued_calls() -> None:
    """A call that gets its slot during a pause waits for the end of the pause."""
    http = Scripted((0.1, response(429, "5")), (0.2, quota()), (0.3, quota()), (0.1, quota()))
    quotas(http, 10, virtual_limits(3))
    assert http.times[:3] == [0, 0, 0]
    assert all(time >= 5.1 for time in http.times[3:])
    assert len(http.times) == 11


def test_the_longest_pause_wins() -> None:
    """Of two pauses, the one that ends later applies, whichever came first."""
    http = Scripted((0.1, response(429, "7")), (0.2, response(429, "2")), (0.1, quota()))
    quotas(http, 6, virtual_limits(2))
    assert http.times[2] == 7.1


def test_a_pause_applies_to_logs_and_downloads(tmp_path: Path) -> None:
    """A pause applies to every kind of call."""
    http = Scripted((0.1, response(429, "5")), (0.1, response(404)))
    times: dict[str, float] = {}

    async def main() -> None:
        async with Client(CONFIG, http=http, retry=AT_ONCE) as client, anyio.create_task_group() as group:
            start = anyio.current_time()

            async def read() -> None:
                async with aclosing(client.logs(1)) as entries:
                    async for _ in entries:
                        pass

            async def note(name: str, call: Callable[[], Awaitable[object]]) -> None:
                with pytest.raises(NotFound):
                    await call()
                times[name] = round(anyio.current_time() - start, 3)

            group.start_soon(note, "refused", client.task_quota)
            await anyio.sleep(1)
            group.start_soon(note, "log", read)
            group.start_soon(note, "call", client.task_quota)
            await _no_thread(client, partial(note, "download"), tmp_path)

    in_virtual_time(main)
    assert set(http.times[1:]) == {5.1}
    assert times == dict.fromkeys(("refused", "log", "call", "download"), 5.2)


async def _no_thread(
    client: Client, note: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]], folder: Path
) -> None:
    """Start a download without using threads, for which a virtual clock does not wait."""
    from fanbench.wire import protocol
    from fanbench.wire.messages import RunRequest

    async def download() -> None:
        transport = client.transport
        request = RunRequest(run_id=1)
        async with transport.stream(protocol.DOWNLOAD_OUTPUT, request, transport.limits.downloads):
            raise AssertionError("it is refused")

    await note(download)


@pytest.mark.parametrize("seconds", [130, 3600])
def test_a_pause_that_is_too_long_fails_at_once(seconds: int) -> None:
    """If the pause is too long to wait for, all calls fail at once, and only one was sent."""
    asked = "60 min" if seconds == 3600 else "3 min"
    http = Scripted((0.1, response(429, f"{seconds}")), (0.1, quota()))
    outcomes = quotas(http, 5, virtual_limits(1))
    assert [type(outcome) for outcome in outcomes] == [RateLimited] * 5
    waits = [one.retry_after for one in outcomes if isinstance(one, RateLimited)]
    assert waits == [seconds, *[pytest.approx(min(seconds, 300), abs=1)] * 4]
    assert all(f"The server asks to wait {asked}" in str(one) for one in outcomes[1:])
    assert http.times == [0]


def test_a_pause_without_end_is_bounded_and_probed() -> None:
    """After a Retry-After of decades, one call shows after 5 minutes that the server answers, and more follow."""
    http = Scripted((0.1, response(429, "999999999")), (0.1, quota()))
    limits = virtual_limits(8)

    async def main() -> list[object]:
        async with Client(CONFIG, http=http, limits=limits, retry=AT_ONCE) as client:
            first = partial(retry_patiently, client.task_quota)
            return await at_once(1, first) + await at_once(9, client.task_quota)

    with observed(limits) as history:
        outcomes = in_virtual_time(main)
    assert not any(isinstance(one, Exception) for one in outcomes)
    assert http.times[:3] == [0, 300.1, 300.2]
    assert history[0] == (1, 8, "HTTP 429, the server asks to wait 277,778 h", 300.0)
    assert limits.adaptive.limit > 1


def test_history_of_a_burst() -> None:
    """A burst of 429s halves the limit once and is announced once, with its pause; good answers then raise it again."""
    http = Scripted(*[(0.1, response(429, "5"))] * 8, (0.1, quota()))
    limits = virtual_limits(8)
    with observed(limits) as history:
        quotas(http, 40, limits)
    assert history == [
        (4, 8, "HTTP 429", 5.0),
        (5, 4, "4 good answers", 0.0),
        (6, 5, "5 good answers", 0.0),
        (7, 6, "6 good answers", 0.0),
        (8, 7, "7 good answers", 0.0),
    ]
    assert limits.calls.total_tokens == limits.adaptive.limit == 8
    assert limits.adaptive.calls_sent == len(http.times) == 48


def test_a_pause_is_announced_once() -> None:
    """The same Retry-After within milliseconds is announced as one pause; a longer one is announced again."""
    http = Scripted(
        *[(0.1 + n / 100, response(429, "5")) for n in range(4)], (0.2, response(429, "9")), (0.1, quota())
    )
    limits = virtual_limits(8)
    with observed(limits) as history:
        quotas(http, 5, limits)
    assert history[:2] == [(4, 8, "HTTP 429", 5.0), (4, 4, "HTTP 429", 9.0)]
    assert http.times[5] == 9.2


@pytest.mark.parametrize(
    ("bad", "reason", "last"),
    [
        (response(429), "HTTP 429", 1.0),
        (httpx.Response(200, json={"code": 429, "message": "m"}), "HTTP 429", 1.0),
        (response(503), "HTTP 503", 1.0),
        (response(504), "HTTP 504", 1.0),
        (response(408), "HTTP 408", 0.0),
        (httpx.ReadTimeout(""), "timed out", 1.0),
        (httpx.ConnectTimeout(""), "timed out", 1.0),
    ],
)
def test_what_lowers_the_limit(bad: httpx.Response | Exception, reason: str, last: float) -> None:
    """Overload without a Retry-After lowers the limit, and delays no call; only a 408 is not retried."""
    http = Scripted((1.0, bad), (0.1, quota()))
    limits = virtual_limits(8)
    with observed(limits) as history:
        quotas(http, 4, limits)
    assert history == [(4, 8, reason, 0.0)]
    assert max(http.times) == last


@pytest.mark.parametrize("bad", [response(500), httpx.ConnectError(""), httpx.ReadError("")])
def test_what_does_not_lower_the_limit(bad: httpx.Response | Exception) -> None:
    """Server errors and failed connections are not signs of overload."""
    limits = virtual_limits(8)
    with observed(limits) as history:
        quotas(Scripted(bad, quota()), 4, limits)
    assert history == []


class Crowd(httpx.AsyncBaseTransport):
    """A server that refuses requests beyond `most` at a time; `seen` has the number in flight at each request."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.here = 0
        self.seen: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.here += 1
        self.seen.append(self.here)
        status = 429 if self.here > self.most else 200
        try:
            await anyio.sleep(0.01)
        finally:
            self.here -= 1
        return quota() if status == 200 else response(429)


def test_shrinking_below_what_is_borrowed() -> None:
    """If the limit falls to 1 with 16 calls in flight, all of them end, and the limit is respected from then on."""
    crowd = Crowd(most=1)
    limits = virtual_limits(16)

    async def main() -> list[object]:
        retry = RetryPolicy(attempts=50, base=0.001, random=Random(7).random)
        async with Client(CONFIG, http=crowd, limits=limits, retry=retry) as client:
            with anyio.fail_after(30):
                return await at_once(48, client.task_quota)

    outcomes: list[object] = in_virtual_time(main)
    assert not any(isinstance(one, Exception) for one in outcomes)
    assert limits.calls.borrowed_tokens == 0
    assert max(crowd.seen) == 16
    assert max(crowd.seen[-10:]) <= 3


def test_cancelled_calls_do_not_change_the_limit() -> None:
    """A cancelled call neither raises nor lowers the limit."""

    async def main() -> list[int]:
        adaptive, limits = CallLimits.of(8).adaptive, []
        with suppress(RateLimited), adaptive.observe():
            raise RateLimited("m", call="c")
        for cancelled in (True, True, True, True, False, True, False, False, False):
            with anyio.CancelScope() as scope, adaptive.observe():
                if cancelled:
                    scope.cancel()
                await anyio.sleep(1)
            limits.append(adaptive.limit)
        return limits

    assert in_virtual_time(main) == [4, 4, 4, 4, 4, 4, 4, 4, 5]


def test_the_limit_stays_above_a_few() -> None:
    """However many calls fail, four may be in flight, or all of a smaller limit."""

    async def main() -> list[int]:
        limits = []
        for adaptive in (CallLimits.of(16).adaptive, CallLimits.of(3).adaptive):
            for _ in range(5):
                with suppress(RateLimited), adaptive.observe():
                    raise RateLimited("m", call="c")
            limits.append(adaptive.limit)
        return limits

    assert in_virtual_time(main) == [4, 3]


def test_refused_calls_are_good_answers() -> None:
    """A 404 is a good answer: the server is not overloaded, and the limit rises."""

    async def main() -> list[int]:
        adaptive, limits = CallLimits.of(5).adaptive, []
        for error in (RateLimited("m", call="c"), *[NotFound("m", call="c", status=404)] * 4):
            with suppress(FanbenchError), adaptive.observe():
                raise error
            limits.append(adaptive.limit)
        return limits

    assert in_virtual_time(main) == [4, 4, 4, 4, 5]


def test_slots_follow_the_limit() -> None:
    """The slots for calls equal the limit, and those for downloads change in proportion."""
    slots = anyio.CapacityLimiter
    limits: CallLimits = in_virtual_time(lambda: _made(lambda: CallLimits(slots(8), slots(64), slots(3))))
    seen: list[tuple[int, float, float]] = []

    def note(limit: int, *_: object) -> None:
        seen.append((limit, limits.calls.total_tokens, limits.downloads.total_tokens))

    with limits.adaptive.listen(note):
        quotas(Scripted((0.1, response(429)), (0.1, quota())), 40, limits)
    assert seen == [(4, 4, 2), (5, 5, 2), (6, 6, 3), (7, 7, 3), (8, 8, 3)]


class Endless(httpx.AsyncBaseTransport):
    """A server with logs that last for hours and calls that are answered at once."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("RunLogs"):
            return quota()
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=_hours())


async def _hours() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b'data: {"stream_name": "stdout", "time": 0, "data": "x"}\n\n'
        await anyio.sleep(3600)


def test_streams_hold_no_slot_of_calls() -> None:
    """With one slot for calls, a call is not delayed by twenty logs that last for hours."""

    async def main() -> tuple[float, float]:
        async with Client(CONFIG, http=Endless(), limits=CallLimits.of(1), retry=AT_ONCE) as client:
            start = anyio.current_time()
            async with anyio.create_task_group() as group:
                for run_id in range(20):
                    group.start_soon(read, client, run_id)
                await anyio.sleep(1)
                assert client.transport.limits.streams.borrowed_tokens == 20
                await client.task_quota()
                called = anyio.current_time() - start
            return called, anyio.current_time() - start

    async def read(client: Client, run_id: int) -> None:
        async with aclosing(client.logs(run_id)) as entries:
            assert len([entry async for entry in entries]) == 3

    assert in_virtual_time(main) == (1, 3 * 3600)


def test_limits_may_be_shared() -> None:
    """A pause that one client receives applies to all clients with the same limits."""
    first, second = Scripted((0.1, response(429, "5")), quota()), Scripted(quota())

    async def main() -> float:
        limits = CallLimits.of(4)
        start = anyio.current_time()
        one = Client(CONFIG, http=first, limits=limits, retry=AT_ONCE)
        other = Client(CONFIG, http=second, limits=limits, retry=AT_ONCE)
        async with one, other, anyio.create_task_group() as group:
            group.start_soon(one.task_quota)
            await anyio.sleep(1)
            await other.task_quota()
            ended = anyio.current_time()
        return ended - start

    assert in_virtual_time(main) == pytest.approx(5.1)


def test_a_listener_leaves_with_its_block() -> None:
    """After the block of `listen`, the listener is not called any more."""
    limits = virtual_limits(16)
    with observed(limits) as history:
        quotas(Scripted((0.1, response(429)), (0.1, quota())), 1, limits)
    quotas(Scripted((0.1, response(429)), (0.1, quota())), 1, limits)
    assert [limit for limit, *_ in history] == [8]
    assert limits.adaptive.limit == 4
