"""Model Proxy tokens, which live about two hours: asked for once, shared, renewed before they end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import anyio

from fanbench._util.text import as_utc
from fanbench.errors import FanbenchError, Forbidden, NotFound, Unauthorized
from fanbench.operations.api import Api
from fanbench.wire.messages import ModelProxyToken

__all__ = ["MARGIN", "ProxyTokens", "new_token", "token_variables", "utc_now"]

T = TypeVar("T")
Clock = Callable[[], datetime]

#: Seconds before its end from which a token is not handed out any more.
MARGIN = 300.0
_USUAL_LIFE = timedelta(hours=2)


def utc_now() -> datetime:
    """The time of tokens is the wall's: a laptop that sleeps does not stop them."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Held:
    token: ModelProxyToken
    begun: datetime
    ends: datetime

    def lasts(self, seconds: float, now: datetime) -> bool:
        """Whether it is good for `seconds`; half of its life is the most that can be asked of any token."""
        needed = min(timedelta(seconds=seconds), (self.ends - self.begun) / 2)
        return now + needed < self.ends


class ProxyTokens:
    """Hands out the Model Proxy's token of one server, and a new one when it is about to end.

    A server may keep one token a user, so that a new one ends the old one: callers that ask at the same time
    share one. `margin` is in seconds, `now` gives the time with its zone.
    """

    def __init__(self, client: Api, *, margin: float = MARGIN, now: Clock = utc_now) -> None:
        self._client = client
        self._margin = margin
        self._now = now
        self._held: _Held | None = None
        self._failure: FanbenchError | None = None
        self._answers = 0
        self._lock = anyio.Lock()

    async def get(self, *, lasting: float = 0.0) -> ModelProxyToken:
        """A token that is good for `lasting` seconds more and the margin, as far as any is.

        Raises:
            NotFound, Forbidden: this user gets none, with what to do about it.
            FanbenchError: the server did not give one.
        """
        needed = lasting + self._margin
        return await self._unless(lambda held: held.lasts(needed, self._now()))

    async def replace(self, refused: ModelProxyToken) -> ModelProxyToken:
        """A token to try after the proxy answered 401 to `refused`; the one in use, if that is another by now.

        Raises: as `get`.
        """
        return await self._unless(lambda held: held.token.token != refused.token)

    async def use(self, call: Callable[[ModelProxyToken], Awaitable[T]], *, lasting: float = 0.0) -> T:
        """What `call` returns for a token; a token that is refused is replaced once.

        Raises:
            Unauthorized: the new token is refused, too.
            Exception: whatever `call` raises, and as `get`.
        """
        token = await self.get(lasting=lasting)
        try:
            return await call(token)
        except Unauthorized:
            return await call(await self.replace(token))

    async def _unless(self, good: Callable[[_Held], bool]) -> ModelProxyToken:
        """The token that is held if it is `good`, else a new one: one call for all who wait for it."""
        asked_after = self._answers
        if self._held is not None and good(self._held):
            return self._held.token
        async with self._lock:
            if self._answers == asked_after:
                await self._renew()
            if self._failure is not None:
                raise self._failure
            assert self._held is not None
            return self._held.token

    async def _renew(self) -> None:
        begun = self._now()
        try:
            token = await new_token(self._client)
        except FanbenchError as error:
            self._failure = error
        else:
            self._failure, self._held = None, _Held(token, begun, _end(token, begun))
        self._answers += 1


def _end(token: ModelProxyToken, now: datetime) -> datetime:
    """A token that has ended before it began is the mark of a clock that is wrong, ours or the server's."""
    ends = as_utc(token.expiry_time) if token.expiry_time else now
    return ends if ends > now else now + _USUAL_LIFE


async def new_token(client: Api) -> ModelProxyToken:
    """A new token.

    Raises:
        NotFound, Forbidden: with what to do about it.
        FanbenchError: whatever else the server answers.
    """
    try:
        return await client.create_proxy_token()
    except NotFound as error:
        raise NotFound(
            "This server has no Model Proxy for you.",
            call=error.call,
            status=error.status,
            hint="Kaggle Benchmarks may not be enabled for your account: ask for access on "
            "https://www.kaggle.com/benchmarks. Or fanbench is out of date: pip install --upgrade fanbench",
        ) from None
    except Forbidden as error:
        raise Forbidden(
            f"The Model Proxy refused you: {error.message}",
            call=error.call,
            status=error.status,
            hint="Your account may lack phone or identity verification (https://www.kaggle.com/settings), or "
            "your credentials are stale: make new ones on https://www.kaggle.com/settings/api",
        ) from None


def token_variables(token: ModelProxyToken) -> dict[str, str]:
    """The three variables under which the SDK looks for a token."""
    return {
        "MODEL_PROXY_URL": token.base_uri,
        "MODEL_PROXY_API_KEY": token.token,
        "MODEL_PROXY_EXPIRY_TIME": _timestamp(token.expiry_time),
    }


def _timestamp(time: datetime | None) -> str:
    if time is None:
        return ""
    return as_utc(time).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
