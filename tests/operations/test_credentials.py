"""Model Proxy tokens in virtual time: requested once, renewed before they expire and once after a 401."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from fanbench import Forbidden, ServerFault
from fanbench.errors import FanbenchError
from fanbench.operations.credentials import MARGIN, ProxyTokens, token_variables
from fanbench.testing import SimulatedKaggle
from fanbench.wire.messages import ModelProxyToken
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio

ZERO = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = 3600.0


class Mint(SimulatedKaggle):
    """Returns numbered tokens that live for `life` seconds, each after a second; `faults` come first."""

    def __init__(self, life: float | None = 2 * HOUR, faults: Sequence[FanbenchError] = ()) -> None:
        super().__init__()
        self.life = life
        self.faults = list(faults)
        self.made = 0

    async def create_proxy_token(self) -> ModelProxyToken:
        await anyio.sleep(1)
        self.made += 1
        if self.faults:
            raise self.faults.pop(0)
        ends = None if self.life is None else wall() + timedelta(seconds=self.life)
        return ModelProxyToken(token=f"token-{self.made}", base_uri="http://proxy", expiry_time=ends)


def wall() -> datetime:
    return ZERO + timedelta(seconds=anyio.current_time())


def tokens_of(mint: Mint) -> ProxyTokens:
    return ProxyTokens(mint, now=wall)


async def test_a_token_is_used_until_shortly_before_its_end() -> None:
    """A token is used until five minutes before it expires, and renewed then."""
    mint = Mint()
    tokens = tokens_of(mint)
    assert (await tokens.get()).token == "token-1"
    await anyio.sleep(2 * HOUR - MARGIN - 1)
    assert (await tokens.get()).token == "token-1"
    await anyio.sleep(1)
    assert (await tokens.get()).token == "token-2"


async def test_work_that_takes_long_gets_a_token_that_lasts() -> None:
    """A token that would expire before the work ends is renewed before it begins."""
    mint = Mint()
    tokens = tokens_of(mint)
    await tokens.get()
    await anyio.sleep(1.5 * HOUR)
    assert (await tokens.get(lasting=600)).token == "token-1"
    assert (await tokens.get(lasting=0.6 * HOUR)).token == "token-2"


async def test_work_that_outlives_every_token_shares_one() -> None:
    """Work that outlives every token gets a young one, so that the token in use elsewhere is not revoked."""
    mint = Mint()
    tokens = tokens_of(mint)
    for _ in range(5):
        await tokens.get(lasting=24 * HOUR)
    assert mint.made == 1


async def test_tokens_that_live_shorter_than_the_margin_are_used_for_half_of_their_lives() -> None:
    """Tokens that live for a minute are not renewed with each call."""
    mint = Mint(life=60)
    tokens = tokens_of(mint)
    for _ in range(10):
        await tokens.get()
        await anyio.sleep(10)
    assert mint.made == 4


@pytest.mark.parametrize("life", [None, -HOUR])
async def test_a_token_without_an_end_or_from_another_clock_lives_two_hours(life: float | None) -> None:
    """A new token that seems to have expired shows a wrong clock, and is used for two hours."""
    mint = Mint(life=life)
    tokens = tokens_of(mint)
    await tokens.get()
    await anyio.sleep(1.5 * HOUR)
    assert (await tokens.get()).token == "token-1"
    await anyio.sleep(0.5 * HOUR)
    assert (await tokens.get()).token == "token-2"


async def together(tokens: ProxyTokens, number: int) -> list[str]:
    got: list[str] = []

    async def ask() -> None:
        try:
            got.append((await tokens.get()).token)
        except FanbenchError as error:
            got.append(error.message)

    async with anyio.create_task_group() as group:
        for _ in range(number):
            group.start_soon(ask)
    return got


async def test_many_callers_at_once_share_one_call() -> None:
    """Callers share one request, at first and at each renewal: a second would revoke the first one's token."""
    mint = Mint()
    tokens = tokens_of(mint)
    assert await together(tokens, 50) == ["token-1"] * 50
    await anyio.sleep(2 * HOUR)
    assert await together(tokens, 50) == ["token-2"] * 50


async def test_callers_share_a_failure_and_the_next_one_asks_again() -> None:
    """All waiting callers get the same refusal, and the next caller tries again."""
    mint = Mint(faults=[ServerFault("busy", call="x", status=503)])
    tokens = tokens_of(mint)
    assert await together(tokens, 9) == ["busy"] * 9
    assert await together(tokens, 9) == ["token-2"] * 9


async def test_the_old_token_is_used_after_a_failed_renewal() -> None:
    """After a failed renewal, short work still gets the old token."""
    mint = Mint()
    tokens = tokens_of(mint)
    await tokens.get()
    await anyio.sleep(1.5 * HOUR)
    mint.faults = [ServerFault("busy", call="x", status=503)]
    with pytest.raises(ServerFault):
        await tokens.get(lasting=0.9 * HOUR)
    assert (await tokens.get()).token == "token-1"


async def test_a_cancelled_caller_does_not_cancel_the_others() -> None:
    """If the caller that makes the request is cancelled, it is repeated for those who still wait."""
    mint = Mint()
    tokens = tokens_of(mint)
    got: list[str] = []

    async def impatient() -> None:
        with anyio.move_on_after(0.5):
            await tokens.get()

    async def patient() -> None:
        await anyio.sleep(0.1)
        got.append((await tokens.get()).token)

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        group.start_soon(patient)
    assert got == ["token-1"]


async def test_a_refused_token_is_replaced_once() -> None:
    """If the token of several callers is refused, one of them requests the new one, which all get."""
    mint = Mint()
    tokens = tokens_of(mint)
    old = await tokens.get()
    assert [(await tokens.replace(old)).token for _ in range(3)] == ["token-2"] * 3


async def test_a_refusal_has_a_hint() -> None:
    """The error for a user without access to the Model Proxy has a hint."""
    mint = Mint(faults=[Forbidden("No.", call="CreateDefaultModelProxyToken", status=403)])
    with pytest.raises(Forbidden) as caught:
        await tokens_of(mint).get()
    assert caught.value.hint
    assert "Verify your phone" in caught.value.hint


def test_a_token_without_an_end_has_an_empty_variable() -> None:
    """The variable of the expiry time is empty, because the SDK expects it to be set."""
    assert token_variables(ModelProxyToken(token="t", base_uri="u"))["MODEL_PROXY_EXPIRY_TIME"] == ""
