"""Failures by class: what is tried again, when, and until when."""

from __future__ import annotations

import errno
from collections.abc import Callable

import anyio
import pytest

from fanbench import (
    BadAnswer,
    BadRequest,
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
from fanbench.sweeps._engine.trouble import (
    Delivery,
    Patience,
    Trouble,
    delivery,
    pause_after,
    persist,
    trouble,
)
from fanbench.wire.downloads import BadZip
from fanbench.wire.retry import NeverSent
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


@pytest.mark.parametrize(
    ("error", "kind", "done"),
    [
        (UNSENT, Trouble.PASSING, Delivery.NOT_DONE),
        (CUT, Trouble.PASSING, Delivery.UNSURE),
        (api(RateLimited, 429), Trouble.PASSING, Delivery.NOT_DONE),
        (api(ServerFault, 500), Trouble.PASSING, Delivery.UNSURE),
        (api(ServerFault, 502), Trouble.PASSING, Delivery.UNSURE),
        (api(ServerFault, 503), Trouble.PASSING, Delivery.NOT_DONE),
        (api(ServerFault, 501), Trouble.REFUSED, Delivery.REFUSED),
        (api(ServerFault, 505), Trouble.REFUSED, Delivery.REFUSED),
        (api(BadAnswer, 200), Trouble.PASSING, Delivery.UNSURE),
        (api(BadRequest, 400), Trouble.REFUSED, Delivery.REFUSED),
        (api(Forbidden, 403), Trouble.REFUSED, Delivery.REFUSED),
        (api(NotFound, 404), Trouble.REFUSED, Delivery.REFUSED),
        (api(Unauthorized, 401), Trouble.FATAL, Delivery.REFUSED),
        (JournalError("No."), Trouble.FATAL, Delivery.REFUSED),
        (BadZip("No."), Trouble.BROKEN, Delivery.REFUSED),
        (disk(None), Trouble.BROKEN, Delivery.REFUSED),
        (disk(errno.EACCES), Trouble.BROKEN, Delivery.REFUSED),
        (disk(errno.ENOSPC), Trouble.FATAL, Delivery.REFUSED),
        (disk(errno.EDQUOT), Trouble.FATAL, Delivery.REFUSED),
        (disk(errno.EROFS), Trouble.FATAL, Delivery.REFUSED),
        (disk(errno.EIO), Trouble.FATAL, Delivery.REFUSED),
    ],
)
def test_each_failure_has_its_class(error: FanbenchError, kind: Trouble, done: Delivery) -> None:
    """What a failure means for the thing that failed, and for a call that must not be made twice."""
    assert trouble(error) is kind
    assert delivery(error) is done


@pytest.mark.parametrize(
    ("error", "failures", "elapsed", "pause"),
    [
        (CUT, 1, 0.0, 1.0),
        (CUT, 4, 7.0, 8.0),
        (CUT, 100, 200.0, 30.0),
        (CUT, 100, 290.0, 10.0),
        (CUT, 100, 300.0, None),
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
    """They grow, obey the server, and the last try comes at the end of the patience, not after it."""
    assert pause_after(error, failures, elapsed) == pause


def test_a_refusal_that_is_not_borne() -> None:
    """Without patience for refusals the first one counts."""
    assert pause_after(api(NotFound, 404), 1, 0.0, refused=0.0) is None


def test_classes_are_counted_apart() -> None:
    """A download that broke off often is not given up at the first damaged one."""

    async def main() -> list[float | None]:
        patience = Patience()
        for _ in range(5):
            patience.pause(CUT)
        return [patience.pause(BadZip("No.")) for _ in range(3)]

    assert in_virtual_time(main) == [1.0, 2.0, None]


def test_classes_have_times_of_their_own() -> None:
    """An output that is not there yet has its minute, however long the server was away before."""

    async def main() -> float | None:
        patience = Patience()
        patience.pause(CUT)
        await anyio.sleep(200.0)
        return patience.pause(api(NotFound, 404))

    assert in_virtual_time(main) == 1.0


def test_a_success_ends_the_story() -> None:
    """The next failure is a first one."""

    async def main() -> list[float | None]:
        patience = Patience()
        pauses = [patience.pause(CUT) for _ in range(3)]
        patience.reset()
        return [*pauses, patience.pause(CUT)]

    assert in_virtual_time(main) == [1.0, 2.0, 4.0, 1.0]


def test_persisting() -> None:
    """A job that passing failures meet is made again until patience is over: then its error is the last one."""

    async def main() -> tuple[int, float]:
        tries = 0

        async def job() -> None:
            nonlocal tries
            tries += 1
            raise CUT

        began = anyio.current_time()
        with pytest.raises(ConnectionFailed):
            await persist(job)
        return tries, anyio.current_time() - began

    tries, seconds = in_virtual_time(main)
    assert seconds == 300.0
    assert tries == 15


def test_what_ends_everything_is_raised_at_once() -> None:
    """Nobody is patient with a server that does not know us."""

    async def main() -> None:
        with pytest.raises(Unauthorized):
            Patience().pause(api(Unauthorized, 401))

    in_virtual_time(main)
