"""What goes wrong, and in which calls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from fanbench.errors import BadAnswer, ConnectionFailed, FanbenchError, error_for_status
from fanbench.wire import protocol

__all__ = ["API_CALLS", "ApiCall", "Damage", "Fault", "FaultyCall", "connection_lost"]

#: The calls by the names of the client's methods.
ApiCall = Literal[
    "create_task",
    "get_task",
    "list_tasks",
    "publish_task",
    "update_task",
    "delete_task",
    "schedule_runs",
    "queue_status",
    "cancel_runs",
    "list_runs",
    "logs",
    "download_output",
    "list_models",
    "list_configs",
    "add_tasks",
    "remove_tasks",
    "leaderboard",
    "task_quota",
    "proxy_quotas",
    "create_proxy_token",
    "introspect_token",
]

#: The calls that a fault may name: one of the API, all of the API, or (on the local server) a prompt to a model.
FaultyCall = Literal[ApiCall, "all", "model"]

#: The calls by their paths.
API_CALLS: dict[str, ApiCall] = {
    protocol.CREATE_TASK.path: "create_task",
    protocol.GET_TASK.path: "get_task",
    protocol.LIST_TASKS.path: "list_tasks",
    protocol.PUBLISH_TASK.path: "publish_task",
    protocol.UPDATE_TASK.path: "update_task",
    protocol.UPDATE_TASK_VERSION.path: "update_task",
    protocol.DELETE_TASK.path: "delete_task",
    protocol.SCHEDULE_RUNS.path: "schedule_runs",
    protocol.GET_QUEUE_STATUS.path: "queue_status",
    protocol.CANCEL_RUNS.path: "cancel_runs",
    protocol.LIST_RUNS.path: "list_runs",
    protocol.GET_LOGS.path: "logs",
    protocol.DOWNLOAD_OUTPUT.path: "download_output",
    protocol.LIST_MODELS.path: "list_models",
    protocol.LIST_CONFIGS.path: "list_configs",
    protocol.ADD_TASKS.path: "add_tasks",
    protocol.REMOVE_TASKS.path: "remove_tasks",
    protocol.GET_LEADERBOARD.path: "leaderboard",
    protocol.GET_TASK_QUOTA.path: "task_quota",
    protocol.GET_PROXY_QUOTAS.path: "proxy_quotas",
    protocol.CREATE_PROXY_TOKEN.path: "create_proxy_token",
    protocol.INTROSPECT_TOKEN.path: "introspect_token",
}

#: What may happen to an answer. docs/faults.md describes each.
Damage = Literal[
    # the connection
    "reset",
    "cut",
    "short",
    "long",
    "stall",
    "drip",
    "flood",
    # the body
    "half",
    "html",
    "bomb",
    # values in JSON
    "null",
    "wrong_type",
    "unknown_enum",
    "stale",
    "duplicated",
    "page_loop",
    "page_flood",
    "clock",
    # streams of events
    "sse_cut",
    "sse_end",
    "sse_silence",
    "sse_heartbeats",
    "sse_endless",
    "sse_duplicated",
    "sse_garbled",
    "sse_no_end",
]

# In seconds. Dates far beyond cannot be written.
_CENTURY = 100 * 366 * 86400.0

_BROKEN: frozenset[Damage] = frozenset({"reset", "cut", "short", "stall", "drip"})
_UNREADABLE: frozenset[Damage] = frozenset({"half", "html", "bomb", "flood", "null", "wrong_type"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Some calls of one kind fail.

    Without a `status`, a `damage` or a `delay`, the connection breaks before the answer arrives. With a status, the
    server answers with that HTTP status, and with `Retry-After: {retry_after}` if that is given (a text is sent as it
    is, `retry_after_date` as the date in so many seconds); 200 is an answer that cannot be read. With a `damage`, the
    server does its work, and its answer is damaged in that way. With `raises`, the caller receives that error instead.
    (Over HTTP, an `ApiError` becomes an answer with its status and message, and any other error breaks the
    connection.)

    The calls that fail are the `first` (counted from 1) and those after it: all of them, only `every` n-th, or only a
    `share` of them, which the seed of the faults chooses. They are `times` in total; by default 1, or without an end
    (`math.inf`) if there is a `share` or `every`. `since` and `until`, in seconds of the simulation (of the local
    server: since its first call), limit the fault in time: only calls in that period are counted.

    If the call `took_effect`, the server did its work and only the answer is lost.

    `delay` is the number of seconds by which the call is late, before the work, or after it if the call
    `took_effect`. Two numbers are the median and the 99th percentile of delays that are drawn.

    Raises:
        ValueError: The fields contradict each other, or are out of their range.
    """

    call: FaultyCall
    status: int | None = None
    retry_after: float | str | None = None
    first: int = 1
    times: float | None = None
    took_effect: bool = False
    message: str = "A simulated fault."
    since: float = 0.0
    until: float = math.inf
    raises: FanbenchError | None = None
    damage: Damage | None = None
    share: float | None = None
    every: int | None = None
    delay: float | tuple[float, float] = 0.0
    retry_after_date: float | None = None
    #: The bytes per second of a "drip".
    rate: float = 1.0
    #: The age of a "stale" answer, in seconds.
    age: float = 30.0
    #: The seconds by which a "clock" is fast; slow if negative.
    skew: float = 3600.0
    #: The events that come before the damage of a stream.
    events: int = 1

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ValueError(problem)

    def _problem(self) -> str | None:
        """What is wrong with the fields; None if nothing is."""
        delays = self.delay if isinstance(self.delay, tuple) else (self.delay,)
        waits = self.retry_after is not None or self.retry_after_date is not None
        rules = {
            f"call must be {_one_of(FaultyCall)}": self.call in get_args(FaultyCall),
            f"damage must be {_one_of(Damage)}": self.damage in (None, *get_args(Damage)),
            "status must be from 200 to 599": self.status is None or 200 <= self.status <= 599,
            "status and damage exclude each other, except for the damage html": self.status is None
            or self.damage in (None, "html"),
            "retry_after and retry_after_date need a status": not waits or self.status is not None,
            "share must be more than 0 and at most 1": self.share is None or 0 < self.share <= 1,
            "first, times and every must be at least 1": min(self.first, self.most, self.every or 1) >= 1
            and self.every != 0,
            "since must be before until": self.since < self.until,
            "delay must be seconds: a number, or the median and the 99th percentile": all(
                0 <= each < math.inf for each in delays
            )
            and (len(delays) == 1 or 0 < delays[0] <= delays[-1]),
            "rate must be more than 0": 0 < self.rate < math.inf,
            "retry_after must be a number, or a text of printable ASCII": _can_be_sent(self.retry_after),
            "retry_after_date and skew must be at most 100 years": abs(self.retry_after_date or 0.0)
            <= _CENTURY
            and abs(self.skew) <= _CENTURY,
            "age and events must not be negative": min(self.age, self.events) >= 0,
        }
        return next((rule for rule, holds in rules.items() if not holds), None)

    @property
    def most(self) -> float:
        """The most calls that fail."""
        if self.times is not None:
            return self.times
        return 1 if self.share is None and self.every is None else math.inf

    @property
    def replaces_answer(self) -> bool:
        """Whether the caller gets no answer of the server at all, but an error or a broken connection."""
        if self.damage is not None:
            return self.damage == "reset"
        return self.raises is not None or self.status is not None or not self.delay

    @property
    def does_work(self) -> bool:
        """Whether the server does the work of a call that fails so."""
        return self.took_effect or not self.replaces_answer

    def error(self) -> FanbenchError | None:
        """The error that the client raises for this fault; None if it may read the answer nevertheless."""
        if self.raises is not None:
            return self.raises
        if self.damage in _UNREADABLE:
            return BadAnswer(
                "The simulated answer cannot be read.", call=self.call, status=self.status or 200
            )
        if self.damage in _BROKEN or (self.status is None and self.replaces_answer):
            return connection_lost()
        if self.status is None:
            return None
        if self.status < 400:
            return BadAnswer("The simulated answer is not JSON.", call=self.call, status=self.status)
        wait = self.retry_after_date if isinstance(self.retry_after, str | None) else self.retry_after
        return error_for_status(self.call, self.status, self.message, wait)


def _can_be_sent(value: float | str | None) -> bool:
    """Whether a header may have this value."""
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    return value is None or math.isfinite(value)


def _one_of(kind: object) -> str:
    *others, last = get_args(kind)
    return f"{', '.join(others)} or {last}"


def connection_lost() -> ConnectionFailed:
    return ConnectionFailed("The simulated connection was lost.", endpoint="http://simulated")
