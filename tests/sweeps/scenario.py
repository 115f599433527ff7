"""How a simulated Kaggle behaves: what its runs do, how late and how badly it answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from fanbench import (
    BadAnswer,
    BadRequest,
    ConnectionFailed,
    FanbenchError,
    NotFound,
    RateLimited,
    ServerFault,
    Unauthorized,
)
from fanbench.wire.messages import CreationState, RunState

__all__ = [
    "Call",
    "Course",
    "Fault",
    "Scenario",
    "always",
    "bad_answer",
    "bad_request",
    "cut",
    "errored",
    "fault",
    "not_found",
    "throttled",
    "unauthorized",
]

Call = Literal["create", "task", "schedule", "runs", "logs", "download", "quota"]
MakeError = Callable[[], FanbenchError]


# --- Errors -------------------------------------------------------------------------------------------------


def cut() -> FanbenchError:
    """The connection broke off: the call may have been done."""
    return ConnectionFailed("The connection broke off", endpoint="http://simulated")


def fault(status: int = 500) -> MakeError:
    """A 5xx; all but 503 may have been done."""
    return lambda: ServerFault("It broke.", call="AnyCall", status=status)


def throttled(retry_after: float | None = None) -> MakeError:
    return lambda: RateLimited("Too many.", call="AnyCall", retry_after=retry_after)


def bad_answer() -> FanbenchError:
    return BadAnswer("That is no JSON.", call="AnyCall", status=200)


def bad_request() -> FanbenchError:
    return BadRequest("No.", call="AnyCall", status=400)


def not_found() -> FanbenchError:
    return NotFound("No such thing.", call="AnyCall", status=404)


def unauthorized() -> FanbenchError:
    return Unauthorized("Who are you?", call="AnyCall", status=401)


@dataclass(frozen=True, slots=True)
class Fault:
    """The calls of a kind that fail: the `first` (from 1) and those after it, `times` altogether.

    `after`: the call is done, and only its answer is lost. `since` and `until` (seconds) bound it in time: then it
    is counted among the calls that come in between, of this fault alone.
    """

    call: Call
    error: MakeError = cut
    first: int = 1
    times: float = 1
    after: bool = False
    since: float = 0.0
    until: float = math.inf


# --- Runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Course:
    """What a run does. Times are in seconds: of the log, `cuts` and `stops` since the run began to run.

    Between `running` and its `end` it is `scoring`; `unseen` is how much later lists say so. `log` is what it
    says and when; the live log is not there for `log_late` (nor the finished one for `log_gap` after the end),
    breaks at each of `cuts`, and ends in good order, though the run goes on, at each of `stops`. The finished
    log comes in pieces of `recut` characters (0: as it was live). The output is there `output_gap` after the
    end (`inf`: never); before it `download_faults` downloads break off, and `bad_zips` are damaged. `cost` is
    in US dollars, `None` for a run whose files do not tell.
    """

    queued: float = 0.0
    running: float = 2.0
    end: RunState = RunState.COMPLETED
    error: str = ""
    log: tuple[tuple[float, str], ...] = ((0.0, "begin\n"), (1.0, "half\nway\n"))
    scoring: float = 0.0
    unseen: float = 0.0
    log_late: float = 0.0
    log_gap: float = 0.0
    cuts: tuple[float, ...] = ()
    stops: tuple[float, ...] = ()
    recut: int = 0
    output_gap: float = 0.0
    download_faults: int = 0
    bad_zips: int = 0
    cost: float | None = 0.001


def errored(message: str = "ValueError: no") -> Course:
    return Course(end=RunState.ERRORED, error=message)


#: By task, model, and how many runs of these two there have been (from 1).
CourseOf = Callable[[str, str, int], Course]


def always(**facts: Any) -> CourseOf:
    """Every run the same."""
    course = Course(**facts)
    return lambda task, model, nth: course


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A server. Times are in seconds.

    `latency` is that of each call, half of it before the deed. `creation` is how long that of a version takes,
    or says so for a task. `course(task, model, nth)` is what the `nth` run
    (from 1) of the task on the model does. `one_in_flight`: a second run of a version on a model, while one is
    in flight, is skipped for a reason. Lists have a run only `unlisted` after it was scheduled; their `order`
    is the newest first, the oldest first, or neither; `lies`: they ignore the filter for models; `page` is how
    many runs one call brings (`None`: all). `spell` is how lists write the slug of a model. `refused` models
    make the whole schedule call fail. `quota`: what runs cost is seen in the quota call.
    """

    latency: float = 0.1
    creation: float | Callable[[str], float] = 2.0
    creation_end: CreationState = CreationState.COMPLETED
    #: So long after a push the server still shows the task as it was before.
    stale: float = 0.0
    #: A push or schedule call that a process had sent when it was killed is done so much later; `None`: never.
    arrives_after: float | None = None
    #: So many creations of each task end badly, before the others end well.
    bad_creations: int = 0
    course: CourseOf = field(default_factory=always)
    one_in_flight: bool = True
    #: Whatever the versions.
    of_any_version: bool = False
    unlisted: float = 0.0
    order: Literal["newest", "oldest", "mixed"] = "newest"
    lies: bool = False
    page: int | None = None
    spell: Callable[[str], str] = str
    refused: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()
    quota: bool = True
