"""What each error means, and how long work that failed is retried."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable

import anyio
import httpx
import pytest

from fanbench import (
    BadAnswer,
    BadRequest,
    Bearer,
    Client,
    Config,
    ConnectionFailed,
    FanbenchError,
    Forbidden,
    JournalError,
    NotFound,
    OutputError,
    RateLimited,
    ServerFault,
    Unauthorized,
)
from fanbench._util.text import duration
from fanbench.errors import error_for_status, reason_of
from fanbench.wire.downloads import BadZip
from fanbench.wire.retry import (
    CallOutcome,
    FailureKind,
    NeverSent,
    NobodyListens,
    RetryBudget,
    RetryPolicy,
    ServerLoad,
    call_outcome,
    failure_kind,
    pause_after,
    retry_patiently,
    server_load,
)
from tests.wire.fake_server import Answer, FakeServer
from tests.wire.scripted import in_virtual_time


def api(kind: Callable[..., FanbenchError], status: int, retry_after: float | None = None) -> FanbenchError:
    more = {} if retry_after is None else {"retry_after": retry_after}
    return kind("No.", call="AnyCall", status=status, **more)


def disk(number: int | None) -> OutputError:
    error = OutputError("No.")
    error.__cause__ = None if number is None else OSError(number, "no")
    return error


CUT = ConnectionFailed("Cut.", endpoint="http://fake")
UNSENT = NeverSent("Nobody there.", endpoint="http://fake")
DOWN = NobodyListens("Refused.", endpoint="http://localhost")


@pytest.mark.parametrize(
    ("error", "kind", "outcome"),
    [
        (UNSENT, FailureKind.TRANSIENT, CallOutcome.NOT_DONE),
        (CUT, FailureKind.TRANSIENT, CallOutcome.UNKNOWN),
        (api(RateLimited, 429), FailureKind.TRANSIENT, CallOutcome.NOT_DONE),
        (api(ServerFault, 500), FailureKind.TRANSIENT, CallOutcome.UNKNOWN),
        (api(ServerFault, 502), FailureKind.TRANSIENT, CallOutcome.UNKNOWN),
        (api(ServerFault, 503), FailureKind.TRANSIENT, CallOutcome.UNKNOWN),
        (api(ServerFault, 501), FailureKind.REFUSED, CallOutcome.REFUSED),
        (api(ServerFault, 505), FailureKind.REFUSED, CallOutcome.REFUSED),
        (api(BadAnswer, 200), FailureKind.TRANSIENT, CallOutcome.UNKNOWN),
        (api(BadRequest, 400), FailureKind.REFUSED, CallOutcome.REFUSED),
        (api(Forbidden, 403), FailureKind.REFUSED, CallOutcome.REFUSED),
        (api(NotFound, 404), FailureKind.REFUSED, CallOutcome.REFUSED),
        (api(Unauthorized, 401), FailureKind.FATAL, CallOutcome.REFUSED),
        (JournalError("No."), FailureKind.FATAL, CallOutcome.REFUSED),
        (BadZip("No."), FailureKind.DAMAGED, CallOutcome.REFUSED),
        (disk(None), FailureKind.DAMAGED, CallOutcome.REFUSED),
        (disk(errno.EACCES), FailureKind.DAMAGED, CallOutcome.REFUSED),
        (disk(errno.ENOSPC), FailureKind.FATAL, CallOutcome.REFUSED),
        (disk(errno.EDQUOT), FailureKind.FATAL, CallOutcome.REFUSED),
        (disk(errno.EROFS), FailureKind.FATAL, CallOutcome.REFUSED),
        (disk(errno.EIO), FailureKind.FATAL, CallOutcome.REFUSED),
    ],
)
def test_meaning_of_each_error(error: FanbenchError, kind: FailureKind, outcome: CallOutcome) -> None:
    """The table in `fanbench.wire.retry` holds for the work that failed and for a call made at most once."""
    assert failure_kind(error) is kind
    assert call_outcome(error) is outcome


def timed_out(kind: type[ConnectionFailed]) -> FanbenchError:
    error = kind("m", endpoint="e")
    error.__cause__ = httpx.ReadTimeout("")
    return error


@pytest.mark.parametrize(
    ("error", "load"),
    [
        (RateLimited("m", call="c"), ServerLoad.OVERLOADED),
        (ServerFault("m", call="c", status=503), ServerLoad.OVERLOADED),
        (ServerFault("m", call="c", status=504), ServerLoad.OVERLOADED),
        (error_for_status("c", 408, "m"), ServerLoad.OVERLOADED),
        (timed_out(ConnectionFailed), ServerLoad.OVERLOADED),
        (timed_out(NeverSent), ServerLoad.OVERLOADED),
        (NeverSent("m", endpoint="e"), ServerLoad.UNKNOWN),
        (ConnectionFailed("m", endpoint="e"), ServerLoad.UNKNOWN),
        (ServerFault("m", call="c", status=500), ServerLoad.UNKNOWN),
        (BadAnswer("m", call="c", status=200), ServerLoad.UNKNOWN),
        (BadZip("m"), ServerLoad.UNKNOWN),
        (NotFound("m", call="c", status=404), ServerLoad.NORMAL),
        (error_for_status("c", 400, "m"), ServerLoad.NORMAL),
    ],
)
def test_load_shown_by_each_error(error: FanbenchError, load: ServerLoad) -> None:
    """The column `server_load` of the table in `fanbench.wire.retry` holds."""
    assert server_load(error) is load


@pytest.mark.parametrize(
    ("error", "failures", "elapsed", "pause"),
    [
        (CUT, 1, 0.0, 1.0),
        (CUT, 4, 7.0, 8.0),
        (CUT, 100, 200.0, 30.0),
        (CUT, 100, 290.0, 10.0),
        (CUT, 100, 300.0, None),
        (DOWN, 5, 15.0, 5.0),
        (DOWN, 6, 20.0, None),
        (api(RateLimited, 429, 45.0), 1, 0.0, 45.0),
        (api(RateLimited, 429, 1000.0), 1, 100.0, 200.0),
        (api(ServerFault, 503, 45.0), 1, 0.0, 45.0),
        (api(NotFound, 404), 1, 0.0, 1.0),
        (api(NotFound, 404), 6, 31.0, 29.0),
        (api(NotFound, 404), 7, 60.0, None),
        (BadZip("No."), 2, 500.0, 2.0),
        (BadZip("No."), 3, 0.0, None),
        (api(Unauthorized, 401), 1, 0.0, None),
    ],
)
def test_pauses(error: FanbenchError, failures: int, elapsed: float, pause: float | None) -> None:
    """Pauses grow and respect Retry-After, and the last try comes exactly at the end of the limit."""
    assert pause_after(error, failures, elapsed) == pause


@pytest.mark.anyio
async def test_nobody_listens_here() -> None:
    """A connection that this machine refuses is told from other faults, and the hint says how to start the server."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        async with Client(
            Config(f"http://{host}:{port}", Bearer("t")), retry=RetryPolicy(attempts=1)
        ) as client:
            with pytest.raises(NobodyListens, match="Connection refused") as caught:
                await client.task_quota()
        assert "fanbench serve" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (OSError(errno.ECONNREFUSED, "no"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (
            ssl.SSLCertVerificationError(
                1, "[SSL: FAILED] certificate verify failed: self-signed (_ssl.c:1000)"
            ),
            "certificate verify failed: self-signed",
        ),
        (ValueError("Bad."), "Bad"),
    ],
)
def test_reasons(cause: Exception, reason: str) -> None:
    """The reason of an error is the innermost one, in the system's words, without numbers of lines and errors."""
    outer = ConnectionFailed("m", endpoint="e")
    outer.__cause__ = ExceptionGroup("all failed", [cause])
    assert reason_of(outer) == reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (119, "119 s"), (121, "3 min"), (7200, "2 h"), (1e9, "277,778 h")],
)
def test_long_waits_are_in_words(seconds: float, text: str) -> None:
    """A wait is rounded up, so that it suffices."""
    assert duration(seconds) == text


@pytest.mark.anyio
async def test_a_server_that_asks_to_wait_for_hours() -> None:
    """A Retry-After that is longer than a call is retried is an error at once, which says how long it is."""
    busy = Answer({"code": 429, "message": "Too many."}, status=429, headers={"Retry-After": "10800"})
    with FakeServer({"GetBenchmarkTaskQuota": [busy]}) as server:
        async with Client(Config(server.url, Bearer("t"))) as client:
            for _ in range(2):  # the second call is not even sent
                with pytest.raises(RateLimited, match="he server asks to wait 3 h"):
                    await client.task_quota()
    assert len(server.requests) == 1


def test_refusals_can_end_the_work_at_once() -> None:
    """With a limit of zero for refusals, the first refusal is final."""
    assert pause_after(api(NotFound, 404), 1, 0.0, refused=0.0) is None


def test_kinds_are_counted_separately() -> None:
    """After many broken connections, a damaged download still has all of its own tries."""

    async def main() -> list[float | None]:
        budget = RetryBudget()
        for _ in range(5):
            budget.record(CUT)
        return [budget.record(BadZip("No.")) for _ in range(3)]

    assert in_virtual_time(main) == [1.0, 2.0, None]


def test_kinds_are_timed_separately() -> None:
    """A missing output is retried for its full minute, however long the server was down before."""

    async def main() -> float | None:
        budget = RetryBudget()
        budget.record(CUT)
        await anyio.sleep(200.0)
        return budget.record(api(NotFound, 404))

    assert in_virtual_time(main) == 1.0


def test_a_success_resets_the_budget() -> None:
    """After a success, the next failure counts as the first."""

    async def main() -> list[float | None]:
        budget = RetryBudget()
        pauses = [budget.record(CUT) for _ in range(3)]
        budget.reset()
        return [*pauses, budget.record(CUT)]

    assert in_virtual_time(main) == [1.0, 2.0, 4.0, 1.0]


def test_retrying_patiently() -> None:
    """Transient failures are retried until the budget is used up; then the last error is raised."""

    async def main() -> tuple[int, float]:
        tries = 0

        async def job() -> None:
            nonlocal tries
            tries += 1
            raise CUT

        began = anyio.current_time()
        with pytest.raises(ConnectionFailed):
            await retry_patiently(job)
        return tries, anyio.current_time() - began

    tries, seconds = in_virtual_time(main)
    assert seconds == 300.0
    assert tries == 15


def test_fatal_errors_are_raised_at_once() -> None:
    """Rejected credentials are never retried."""

    async def main() -> None:
        with pytest.raises(Unauthorized):
            RetryBudget().record(api(Unauthorized, 401))

    in_virtual_time(main)
