"""Model Proxy tokens, which live for about two hours: one is shared by all callers, and renewed in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio

from fanbench._util.text import as_utc, iso_time
from fanbench.errors import FanbenchError, Forbidden, NotFound
from fanbench.operations.api import Api
from fanbench.wire.messages import ModelProxyToken

__all__ = ["MARGIN", "PROXY_HINTS", "ProxyTokens", "new_token", "token_variables"]

#: A token with fewer than this many seconds left is not handed out.
MARGIN = 300.0
_USUAL_LIFE = timedelta(hours=2)

#: What to do once a call about the Model Proxy is refused, by the HTTP status of the refusal.
PROXY_HINTS = {
    403: "Verify your phone number and identity on https://www.kaggle.com/settings. If they are verified, "
    "create new credentials on https://www.kaggle.com/settings/api.",
    404: "Ask for access to Kaggle Benchmarks on https://www.kaggle.com/benchmarks. If you have access, "
    "run `pip install --upgrade fanbench`.",
}


@dataclass(frozen=True, slots=True)
class _Held:
    """A token that was requested at `begun` and expires at `ends`."""

    token: ModelProxyToken
    begun: datetime
    ends: datetime


class ProxyTokens:
    """Hands out the Model Proxy token of one server, and a new one when it is about to expire.

    A server may keep one token per user, so that a new one revokes the old one: callers that ask at the same
    time share a token. `now` returns the time with its time zone. That is the wall-clock time, because tokens
    expire while a laptop sleeps, too.
    """

    def __init__(self, client: Api, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = client
        self._now = now
        self._held: _Held | None = None
        self._failure: FanbenchError | None = None
        self._answers = 0
        self._lock = anyio.Lock()

    async def get(self, *, lasting: float = 0.0) -> ModelProxyToken:
        """Return a token that is good for `lasting` seconds and the margin, if the server gives out such tokens.

        Raises:
            NotFound: The server has no Model Proxy for this user.
            Forbidden: The Model Proxy refuses this user.
            FanbenchError: The server did not return a token.
        """
        needed = timedelta(seconds=lasting + MARGIN)
        # Half of its life is enough for a token that does not live longer.
        return await self._held_or_new(
            lambda held: self._now() + min(needed, (held.ends - held.begun) / 2) < held.ends
        )

    async def replace(self, refused: ModelProxyToken) -> ModelProxyToken:
        """Return a token to try after the proxy answered 401 to `refused`: the current one, if it is another.

        Raises:
            FanbenchError: As for `get`.
        """
        return await self._held_or_new(lambda held: held.token.token != refused.token)

    async def _held_or_new(self, good: Callable[[_Held], bool]) -> ModelProxyToken:
        """Return the held token if it is `good`, or a new one: a single call serves all who wait for it."""
        answers = self._answers
        if self._held is not None and good(self._held):
            return self._held.token
        async with self._lock:
            if self._answers == answers:
                begun = self._now()
                try:
                    token = await new_token(self._client)
                except FanbenchError as error:
                    self._failure = error
                else:
                    # A token that has expired before it began shows that a clock is wrong, ours or the server's.
                    ends = as_utc(token.expiry_time) if token.expiry_time else begun
                    ends = ends if ends > begun else begun + _USUAL_LIFE
                    self._failure, self._held = None, _Held(token, begun, ends)
                self._answers += 1
            if self._failure is not None:
                raise self._failure
            assert self._held is not None
            return self._held.token


async def new_token(client: Api) -> ModelProxyToken:
    """Request a new token.

    Raises:
        NotFound: The server has no Model Proxy for this user.
        Forbidden: The Model Proxy refuses this user.
        FanbenchError: The call failed for another reason.
    """
    try:
        return await client.create_proxy_token()
    except NotFound as error:
        raise NotFound(
            "This server has no Model Proxy for you.",
            call=error.call,
            status=error.status,
            hint=PROXY_HINTS[404],
        ) from None
    except Forbidden as error:
        raise Forbidden(
            f"The Model Proxy refused you: {error.message}",
            call=error.call,
            status=error.status,
            hint=PROXY_HINTS[403],
        ) from None


def token_variables(token: ModelProxyToken) -> dict[str, str]:
    """The three variables in which the SDK expects a token."""
    return {
        "MODEL_PROXY_URL": token.base_uri,
        "MODEL_PROXY_API_KEY": token.token,
        "MODEL_PROXY_EXPIRY_TIME": iso_time(token.expiry_time) if token.expiry_time else "",
    }
