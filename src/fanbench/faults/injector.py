"""Which call is hit by which fault, and its answer."""

from __future__ import annotations

import json
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import anyio

from fanbench.faults.answers import HttpAnswer, drop, whole
from fanbench.faults.damage import damaged, delay_of, emptied, error_answer
from fanbench.faults.fault import ApiCall, Fault, connection_lost

__all__ = ["FaultInjector", "Hit", "Work"]

#: Makes the server's own answer. Raises ConnectionFailed if the connection breaks before.
Work = Callable[[], Awaitable[HttpAnswer]]

# So many answers are kept for each request that may be answered with an old one, and so many requests.
_KEPT_ANSWERS, _KEPT_REQUESTS = 200, 1000


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that hits one call, and what is random in it."""

    fault: Fault
    random: Random


class FaultInjector:
    """The faults of one server: counts the calls, and damages the answers.

    Whether a fault hits the n-th call of its kind depends on `seed` and n alone, not on what other calls there are.
    `wall` is the server's clock, in seconds since 1970.
    """

    def __init__(
        self, faults: Iterable[Fault] = (), seed: int = 0, wall: Callable[[], float] = time.time
    ) -> None:
        self._faults = tuple(faults)
        self._seed = seed
        self._wall = wall
        self._calls = [0] * len(self._faults)
        self._hits = [0] * len(self._faults)
        self._earlier: OrderedDict[tuple[str, bytes], deque[tuple[float, HttpAnswer]]] = OrderedDict()

    def choose(self, call: ApiCall | Literal["model"], now: float) -> Hit | None:
        """Count a call at second `now`, and return the fault that hits it.

        Each fault counts the calls in its period; the first one that applies is used.
        """
        chosen = None
        for index, fault in enumerate(self._faults):
            if not _applies(fault, call) or not fault.since <= now < fault.until:
                continue
            self._calls[index] += 1
            number = self._calls[index] - fault.first
            if number < 0 or number % (fault.every or 1) or self._hits[index] >= fault.most:
                continue
            random = Random(f"{self._seed} {index} {number}")  # noqa: S311 - it is to be repeatable
            if fault.share is None or random.random() < fault.share:
                self._hits[index] += 1
                chosen = chosen or Hit(fault, random)
        return chosen

    def remembers(self, call: ApiCall | Literal["model"]) -> bool:
        """Whether the answers to such a call are needed later, to be given once more."""
        return any(fault.damage == "stale" and _applies(fault, call) for fault in self._faults)

    async def respond(
        self, hit: Hit | None, call: ApiCall | Literal["model"], request: Callable[[], bytes], work: Work
    ) -> HttpAnswer:
        """The answer to a call that was hit or not. `request` returns the body of the request, after `work`.

        `work` itself has answered a fault that replaces the answer: see `stand_in`.

        Raises:
            ConnectionFailed: The connection breaks before an answer is sent.
        """
        if hit is None and not self.remembers(call):
            return await work()
        late = hit.fault.took_effect if hit is not None else False
        delay = delay_of(hit.fault, hit.random) if hit is not None else 0.0
        await anyio.sleep(0.0 if late else delay)
        answer = await work()
        if self.remembers(call) and not answer.is_events:
            answer = await whole(answer)
            old = self._answer_before((call, request()), answer, hit.fault.age if hit else 0.0)
            answer = old if hit is not None and hit.fault.damage == "stale" else answer
        await anyio.sleep(delay if late else 0.0)
        if hit is None or hit.fault.replaces_answer:
            return answer
        return await damaged(hit.fault, hit.random, answer, self._wall())

    async def stand_in(self, hit: Hit, call: ApiCall | Literal["model"], work: Work) -> HttpAnswer:
        """The answer of a fault that replaces the server's own, which does its work if the call took effect.

        Raises:
            ConnectionFailed: The connection breaks instead.
        """
        fault = hit.fault
        if fault.took_effect:
            answer = await work()
            await drop(answer if answer.is_events else await whole(answer))
        if fault.status is None:
            raise connection_lost()
        return error_answer(fault, self._wall(), of_model=call == "model")

    def _answer_before(self, key: tuple[str, bytes], answer: HttpAnswer, age: float) -> HttpAnswer:
        """Keep the answer to a request; return the one that the same request had `age` seconds ago.

        A request that was not made by then is answered with empty lists.
        """
        now = anyio.current_time()
        kept = self._earlier.setdefault(key, deque(maxlen=_KEPT_ANSWERS))
        self._earlier.move_to_end(key)
        if len(self._earlier) > _KEPT_REQUESTS:
            self._earlier.popitem(last=False)
        old = next((each for at, each in reversed(kept) if at <= now - age), None)
        kept.append((now, answer))
        if old is not None:
            return old
        with suppress(ValueError):
            assert isinstance(answer.body, bytes)
            return replace(answer, body=json.dumps(emptied(json.loads(answer.body))).encode())
        return answer


def _applies(fault: Fault, call: ApiCall | Literal["model"]) -> bool:
    """Whether the fault is one of such calls. Prompts to models are no calls of the API."""
    return fault.call == call or (fault.call == "all" and call != "model")
